//! What a seed decides before anything happens: the cluster, its settings, and how mean the world
//! is. Limits are drawn tiny, so that rare paths become common.

use std::collections::HashMap;
use std::time::Duration;

use ringleader::raft::{Configuration, RaftConfig};
use ringleader::{GroupId, Limits, NodeId, Priorities, SnapshotConfig, SyncMode, WalConfig};

use crate::atlas::{Promise, audit_rate};
use crate::clients::Load;
use crate::clock::ClockPlan;
use crate::existence;
use crate::faults::FaultPlan;
use crate::founding::{self, Founded};
use crate::machine::OPERATION_BYTES;
use crate::members;
use crate::mishaps::MishapPlan;
use crate::operator::OperatorPlan;
use crate::rng::{Rng, SURE};
use crate::seats::Seats;
use crate::stores::{self, Kind};

/// One millisecond of simulated time.
pub(crate) const MS: u64 = 1_000_000;

/// Delays in the network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NetPlan {
    pub(crate) latency: (u64, u64),
    /// Parts of a million of the deliveries that take `slow` instead.
    pub(crate) slow_ppm: u32,
    pub(crate) slow: (u64, u64),
    /// Most bytes in one write.
    pub(crate) write_bytes: u64,
    /// Bytes that a shard believes to have room for.
    pub(crate) room: usize,
    /// How long a connection may be silent before somebody gives it up.
    pub(crate) dead_after: u64,
    /// Parts of a million of the frames lost with a connection that come after all, too late.
    pub(crate) ghost_ppm: u32,
    /// Parts of a million of the frames that came which come again, with a later connection.
    pub(crate) duplicate_ppm: u32,
    /// Parts of a million of the nodes that a process is told of only after its start, and when at
    /// the latest.
    pub(crate) late_peers_ppm: u32,
    pub(crate) late_peers: u64,
    /// Two nodes that don't meet while there is trouble, where there are such.
    pub(crate) apart: Option<(usize, usize)>,
    /// How fast bulk data leaves, where that is limited.
    pub(crate) bulk_bytes_per_second: Option<u64>,
    /// How long bytes are under way on a clogged connection.
    pub(crate) clogged: (u64, u64),
}

impl NetPlan {
    pub(crate) fn are_apart(&self, a: usize, b: usize) -> bool {
        self.apart == Some((a.min(b), a.max(b)))
    }
}

/// Delays of the disks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskPlan {
    pub(crate) latency: (u64, u64),
    pub(crate) slow_ppm: u32,
    pub(crate) slow: (u64, u64),
    /// Everything that is done with a snapshot's file takes `slow`: leaders come and go meanwhile,
    /// and bring what it holds.
    pub(crate) slow_snapshots: bool,
    /// Parts of a million of the operations that take seconds.
    pub(crate) stuck_ppm: u32,
    /// Bytes that it writes whole or not at all.
    pub(crate) sector: u64,
}

/// See the [module documentation](self).
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) groups: Vec<GroupId>,
    pub(crate) seats: Seats,
    /// The operator changes the members of groups, which are not on all nodes.
    pub(crate) changing: bool,
    /// Majorities are lost for good, and the operator resets what is left.
    pub(crate) resetting: bool,
    /// Who decides in each group at first.
    pub(crate) founders: Vec<Configuration>,
    /// Groups that the nodes are not started with.
    pub(crate) late: Vec<bool>,
    /// Groups that begin with a state, and who has it.
    pub(crate) founded: Vec<Option<Founded>>,
    pub(crate) wal: WalConfig,
    pub(crate) raft: RaftConfig,
    /// Clocks keep to the bound that leases rest on.
    pub(crate) lease_is_safe: bool,
    pub(crate) limits: Limits,
    /// Of each node: they need not be alike.
    pub(crate) snapshots: Vec<SnapshotConfig>,
    /// What the state machines are like, of each node and group.
    pub(crate) machines: Vec<Vec<Kind>>,
    /// Of the groups where not all voters are alike.
    pub(crate) priorities: HashMap<GroupId, Priorities>,
    pub(crate) net: NetPlan,
    pub(crate) disk: DiskPlan,
    pub(crate) load: Load,
    pub(crate) tick: u64,
    /// How long a node collects events before its turn.
    pub(crate) turn: (u64, u64),
    pub(crate) clock: ClockPlan,
    pub(crate) faults: FaultPlan,
    pub(crate) mishaps: MishapPlan,
    pub(crate) operator: OperatorPlan,
    pub(crate) promise: Promise,
    /// How often disks are compared with what their nodes said.
    pub(crate) audit_ppm: u32,
    /// When the faults end.
    pub(crate) trouble: u64,
    /// How long after that everything must be as if nothing had happened.
    pub(crate) patience: u64,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut members_rng = rng.fork();
        let changing = members_rng.chance(SURE / 3);
        let (nodes, shards, groups) = cluster(rng, changing);
        let founders = members::founders(&mut members_rng, changing, nodes, groups.len());
        let wal = wal(rng);
        let mut raft = raft(rng);
        if changing {
            members::settings(&mut members_rng, &mut raft);
        }
        let resetting = members_rng.chance(SURE / 6) && nodes > 1;
        let keeps = changing || resetting;
        let election = raft.election_timeout.as_nanos() as u64;
        let trouble = rng.between(10, 50) * election;
        let promise =
            if rng.chance(750_000) || keeps { Promise::Keep } else { Promise::HaltNotLie };
        let limits = Limits {
            // A block must fit into a segment.
            group_bytes: wal.max_block_bytes() / 2,
            apply_bytes: rng.magnitude(64, 64 << 10) as usize,
            group_reads: rng.magnitude(4, 64) as usize,
            read_timeout: Duration::from_nanos(rng.magnitude(election / 2, 8 * election)),
            ..Limits::default()
        };
        let payload = if rng.coin() { 32 } else { limits.group_bytes as u64 / 8 };
        let load = load(rng, payload, election, trouble);
        let clock = ClockPlan::draw(rng, election);
        let lease_is_safe = lease(rng, &mut raft, clock);
        let priorities = priorities(&mut rng.fork(), nodes, &groups);
        let mut late = existence::late(&mut members_rng, &groups, &founders, &priorities);
        // Of those who are left somebody has to know the members.
        if resetting && changing {
            late.fill(false);
        }
        let founded = founding::founded(&mut members_rng, keeps, &founders, &late);
        let mut net = net(rng, election, raft.max_append_bytes + wal.max_block_bytes());
        net.apart = apart(&mut members_rng, nodes);
        Self {
            nodes,
            priorities,
            machines: stores::kinds(&mut members_rng, nodes, groups.len(), resetting),
            seats: Seats::new(&shards, &groups),
            changing,
            resetting,
            founders,
            late,
            founded,
            groups,
            net,
            disk: disk(rng),
            load,
            tick: rng.magnitude(2 * MS, 10 * MS),
            turn: (0, rng.magnitude(1_000, 500_000)),
            clock,
            faults: FaultPlan::draw(rng, election, trouble, promise, [!keeps, resetting, changing]),
            mishaps: MishapPlan::draw(&mut rng.fork()),
            operator: OperatorPlan::draw(&mut rng.fork(), election, trouble, [changing, resetting]),
            promise,
            audit_ppm: audit_rate(rng),
            trouble,
            patience: 60 * election,
            wal,
            raft,
            lease_is_safe,
            limits,
            snapshots: of_nodes(nodes, rng),
        }
    }
}

/// Alike, or such that one node has long dropped what another still sends.
fn of_nodes(nodes: usize, rng: &mut Rng) -> Vec<SnapshotConfig> {
    let alike = rng.coin();
    let first = snapshots(rng);
    (0..nodes).map(|_| if alike { first } else { snapshots(rng) }).collect()
}

fn snapshots(rng: &mut Rng) -> SnapshotConfig {
    let taken = rng.chance(700_000);
    let mut some = |low, high| (taken && rng.coin()).then(|| rng.magnitude(low, high));
    let entries = some(1, 300);
    let bytes = some(100, 64 << 10);
    let log_bytes = some(32 << 10, 1 << 20);
    let interval = some(10 * MS, 2000 * MS).map(Duration::from_nanos);
    let config = SnapshotConfig {
        entries,
        bytes,
        log_bytes,
        interval,
        keep_entries: if rng.coin() { u64::MAX } else { rng.magnitude(1, 200) - 1 },
        keep_bytes: if rng.coin() { u64::MAX } else { rng.magnitude(1, 64 << 10) - 1 },
        chunk_bytes: rng.magnitude(64, 8 << 10) as usize,
        // As the engine's own check wants it: several pieces arrive within it, on any disk.
        transfer_timeout: Duration::from_nanos(rng.magnitude(250 * MS, 4000 * MS)),
        bytes_per_second: rng.coin().then(|| rng.magnitude(1 << 10, 1 << 20)),
    };
    config.validate().expect("drawn settings are valid");
    config
}

/// Nodes, the shards of each, and the groups.
fn cluster(rng: &mut Rng, changing: bool) -> (usize, Vec<u32>, Vec<GroupId>) {
    let nodes = match rng.below(20) {
        _ if changing => rng.between(3, 6) as usize,
        0..=11 => 3,
        12..=16 => 5,
        17 => 4,
        18 => 2,
        _ => 1,
    };
    let most = rng.pick(&[1, 1, 2, 3]);
    let alike = rng.coin();
    let shards = |rng: &mut Rng| if alike { most } else { rng.between(1, u64::from(most)) as u32 };
    let shards: Vec<u32> = (0..nodes).map(|_| shards(rng)).collect();
    // Steps are few in all: many groups on many shards leave little for each.
    let groups = if rng.chance(850_000) { rng.between(1, 4) } else { rng.between(5, 16) };
    (nodes, shards, (0..groups).map(|at| GroupId(at * 7 + 1)).collect())
}

/// Voters of priority 0 are fewer than a majority, so that there is one that may lead in any.
fn priorities(rng: &mut Rng, nodes: usize, groups: &[GroupId]) -> HashMap<GroupId, Priorities> {
    let mut drawn = HashMap::new();
    if rng.chance(SURE / 2) {
        return drawn;
    }
    for group in groups {
        let mut zeros = rng.below(nodes.div_ceil(2) as u64);
        let mut priority = |node| {
            let none = zeros > 0 && rng.coin();
            zeros -= u64::from(none);
            (NodeId(node), if none { 0 } else { rng.pick(&[1, 1, 2, 10, 1000]) })
        };
        let all: Vec<_> = (1..=nodes as u64).map(&mut priority).collect();
        drawn.insert(*group, Priorities::new(&all));
    }
    drawn
}

fn load(rng: &mut Rng, payload: u64, election: u64, trouble: u64) -> Load {
    // Few operations for each register, so that their history can be searched.
    let calls = rng.magnitude(50, 1500);
    Load {
        callers: rng.between(1, 6) as u32,
        keys: rng.between(1, 5),
        ballast: payload.saturating_sub(OPERATION_BYTES as u64),
        max_batch: rng.between(1, 6),
        outstanding: if rng.coin() { 1 } else { rng.magnitude(2, 64) as usize },
        pause: (3 * trouble / calls).max(MS),
        timeout: rng.magnitude(election / 4, 8 * election),
        retries: rng.below(6) as u32,
        backoff: rng.magnitude(MS, election / 2),
        gets_ppm: rng.between(100_000, 700_000) as u32,
        reads_ppm: if rng.chance(150_000) { 0 } else { rng.between(50_000, 700_000) as u32 },
    }
}

fn wal(rng: &mut Rng) -> WalConfig {
    let segment = rng.pick(&[16u64, 32, 64]) << 10;
    let spare = rng.between(2, 3) as usize;
    let config = WalConfig {
        segment_bytes: segment,
        max_batch_bytes: rng.between(1, segment / 4096 - 1) as usize * 4096,
        depth: rng.between(1, 8) as usize,
        eager_writes: rng.between(1, 4) as usize,
        deep_batch_bytes: rng.between(0, 16 << 10) as usize,
        sync: if rng.coin() { SyncMode::DurableWrites } else { SyncMode::CoalescedSync },
        spare_segments: spare,
        kept_segments: spare + rng.below(3) as usize,
        relocate_beyond: rng.between(2, 6) as usize,
        relocate_percent: rng.between(0, 75) as u32,
        read_bytes: rng.between(1, 4) as usize * 4096,
    };
    config.validate().expect("a drawn log is valid");
    config
}

fn raft(rng: &mut Rng) -> RaftConfig {
    let election = rng.between(100, 400);
    let config = RaftConfig {
        election_timeout: Duration::from_millis(election),
        heartbeat_interval: Duration::from_millis(rng.between(election / 12, election / 3)),
        max_inflight_messages: rng.magnitude(1, 64) as usize,
        max_inflight_bytes: rng.magnitude(64, 64 << 10) as usize,
        max_append_bytes: rng.magnitude(64, 16 << 10) as usize,
        cache_bytes: if rng.coin() { 0 } else { rng.magnitude(256, 64 << 10) as usize },
        pre_vote: rng.chance(800_000),
        check_quorum: rng.chance(800_000),
        rest_after: if rng.chance(SURE / 10) { 0 } else { rng.magnitude(1, 30) as u32 },
        ..RaftConfig::default()
    };
    config.validate().expect("drawn protocol settings are valid");
    config
}

/// Leases, as a rule within what clocks allow; whether they are.
fn lease(rng: &mut Rng, raft: &mut RaftConfig, clock: ClockPlan) -> bool {
    let election = raft.election_timeout.as_nanos() as u64;
    let longest = election - raft.heartbeat_interval.as_nanos() as u64 - 1;
    let needed = clock.lag(election);
    let safe = needed <= longest && rng.chance(850_000);
    let bounds = if safe { (needed, longest.min(2 * needed)) } else { (0, needed.min(longest)) };
    let drift = Duration::from_nanos(rng.between(bounds.0, bounds.1));
    if raft.check_quorum && rng.chance(600_000) {
        raft.lease_reads = Some(drift);
        raft.validate().expect("a drawn lease is valid");
    }
    safe
}

/// `largest` is what one append request may carry (what was read from the log ends with the block
/// that crosses the limit): with less room it could never be sent.
fn net(rng: &mut Rng, election: u64, largest: usize) -> NetPlan {
    let shortest = rng.magnitude(MS / 100, MS);
    NetPlan {
        latency: (shortest, shortest * rng.between(1, 10)),
        slow_ppm: if rng.coin() { 0 } else { rng.magnitude(100, 50_000) as u32 },
        slow: (MS, election / 2),
        write_bytes: rng.magnitude(64, 64 << 10),
        room: largest + rng.magnitude(16, 256 << 10) as usize,
        dead_after: rng.between(election / 4, election * 4),
        ghost_ppm: if rng.coin() { 0 } else { rng.between(10_000, 900_000) as u32 },
        duplicate_ppm: if rng.coin() { 0 } else { rng.magnitude(100, 50_000) as u32 },
        late_peers_ppm: rng.pick(&[0, 0, SURE / 20, SURE / 3]),
        late_peers: rng.magnitude(MS, 4 * election),
        apart: None,
        bulk_bytes_per_second: rng.coin().then(|| rng.magnitude(256 << 10, 8 << 20)),
        clogged: (election / 8, election * rng.between(1, 3)),
    }
}

/// Two nodes of a cluster that is never whole. Of three, each still hears a majority.
fn apart(rng: &mut Rng, nodes: usize) -> Option<(usize, usize)> {
    let drawn = nodes > 2 && rng.chance(SURE / 4);
    drawn.then(|| {
        let mut all: Vec<usize> = (0..nodes).collect();
        rng.shuffle(&mut all);
        (all[0].min(all[1]), all[0].max(all[1]))
    })
}

fn disk(rng: &mut Rng) -> DiskPlan {
    let shortest = rng.magnitude(MS / 100, MS);
    DiskPlan {
        latency: (shortest, shortest * rng.between(1, 10)),
        slow_ppm: if rng.coin() { 0 } else { rng.magnitude(100, 20_000) as u32 },
        // Longer than an election takes, at times: what is being written is truncated then.
        slow: (MS, rng.magnitude(8, 800) * MS),
        slow_snapshots: rng.chance(SURE / 6),
        stuck_ppm: if rng.chance(700_000) { 0 } else { rng.magnitude(10, 1_000) as u32 },
        sector: rng.pick(&[512, 4096]),
    }
}
