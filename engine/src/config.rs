//! What an engine is started with.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ringleader_net::NetConfig;
use ringleader_wal::{GroupId, NodeId, WalConfig};

use crate::error::StartError;
use crate::raft::quorum::MAX_VOTERS;
use crate::raft::{Priorities, RaftConfig};
use crate::shard::BLOCK_BYTES;

/// A node of the cluster, as every node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number, unique in the cluster, never zero and never used again for another node.
    pub node: NodeId,
    /// Where it listens for its peers. It may change while the number stays: the node is started
    /// with the new one, and the others are told ([`Handle::set_member`](crate::Handle::set_member),
    /// and their configurations). A name has to be looked up by the caller.
    pub address: SocketAddr,
    /// Number of its shards. A group's shard on a node follows from the group's number and this
    /// count alone, so changing it on a node with data is refused.
    pub shards: u32,
}

impl Member {
    /// What can be said of it without knowing the others.
    pub(crate) fn check(&self) -> Result<(), String> {
        let node = self.node;
        if node.0 == 0 {
            return Err("node 0 is reserved; number the members from 1".into());
        }
        if !(1..=1024).contains(&self.shards) {
            return Err(format!("node {node}: shards must be 1 to 1024"));
        }
        Ok(())
    }

    /// Likewise, of a node that others have to reach.
    pub(crate) fn check_peer(&self) -> Result<(), String> {
        self.check()?;
        if self.address.port() == 0 || self.address.ip().is_unspecified() {
            return Err(format!("node {}: nobody can connect to {}", self.node, self.address));
        }
        Ok(())
    }
}

/// A Raft group that this node has a replica of, or waits to be added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// The group.
    pub group: GroupId,
    /// The voters that it began with, this node among them; all are [`Member`]s. They must be the
    /// same on every node that has them, and stay so: who has been added or removed since is in
    /// the group's log.
    ///
    /// None, on a node that is added to the group later: it takes part in nothing until a leader
    /// sends it the log. Naming voters here that the group did not begin with would let two groups
    /// of one number come to be.
    pub voters: Vec<NodeId>,
}

impl GroupConfig {
    /// What can be said of it without knowing which nodes there are.
    pub(crate) fn check(
        &self,
        node: NodeId,
        priorities: Option<&Priorities>,
    ) -> Result<(), String> {
        let voters = &self.voters;
        if voters.is_empty() {
            return Ok(());
        }
        if voters.iter().collect::<HashSet<_>>().len() != voters.len() {
            return Err("a voter is listed twice".into());
        }
        if !voters.contains(&node) {
            return Err(format!(
                "node {node} is not a voter of it; name no voters on a node that is to be added"
            ));
        }
        if !voters.iter().any(|voter| priorities.is_none_or(|all| all.of(*voter) > 0)) {
            return Err("all voters have priority 0".into());
        }
        if voters.len() > MAX_VOTERS {
            return Err(format!("at most {MAX_VOTERS} voters"));
        }
        Ok(())
    }
}

/// Everything an [`Engine`](crate::Engine) needs to know.
///
/// [`EngineConfig::new`] fills in the defaults; all fields are public.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Names the cluster. Nodes refuse peers and data of another cluster.
    pub cluster: u64,
    /// This node.
    pub node: NodeId,
    /// All nodes of the cluster, this one included. More can be added, and their addresses changed,
    /// while the node runs ([`Handle::set_member`](crate::Handle::set_member)).
    pub members: Vec<Member>,
    /// The groups on this node, beside those that were created while it ran
    /// ([`Handle::create_group`](crate::Handle::create_group)): these are in its log.
    pub groups: Vec<GroupConfig>,
    /// Where the logs live; created if missing. One process at a time may use it.
    pub data_dir: PathBuf,
    /// The core of each shard: shard `i` is pinned to `pin[i]`. `None` leaves placement to the
    /// scheduler, which is right whenever there are more busy threads than cores.
    pub pin: Option<Vec<usize>>,
    /// How long a shard polls before it sleeps. Zero (the default) leaves the core to others at
    /// once; with a core of its own per shard, 20-50 us saves the wake-up. It needs `pin`.
    pub spin: Duration,
    /// Whether the node answers the operator's tool (`ringleader status`, ...) on a Unix socket in
    /// `data_dir`, which only the process's user may open; see [`admin`](crate::admin). Default
    /// false.
    pub admin: bool,
    /// The protocol's timings and windows.
    pub raft: RaftConfig,
    /// The log.
    pub wal: WalConfig,
    /// Connections between nodes.
    pub net: NetConfig,
    /// Limits on callers.
    pub limits: Limits,
    /// Who is to lead which group, if it can: voters of a lower priority let those of a higher one
    /// campaign first, by one election timeout for each priority between them, and voters of
    /// priority 0 lead only while nobody else can. Default: none, all are alike.
    /// It should be the same on all nodes; where it is not, elections take longer, and nothing else
    /// comes of it.
    pub priorities: HashMap<GroupId, Priorities>,
    /// How long [`Engine::shutdown`](crate::Engine::shutdown) may take to hand the groups that this
    /// node leads over to others first, so that they are without a leader for a round trip and not
    /// for an election timeout. Default 2 s; it takes a few milliseconds where the others are well.
    /// Zero: the node stops at once.
    pub handover: Duration,
    /// When snapshots are taken, and what stays of the log behind them.
    pub snapshots: SnapshotConfig,
    /// Whether shards account for their processor time by the [stages](crate::report::Stages) of a
    /// turn. It costs nine system calls per turn, some microseconds. Default false.
    pub stage_times: bool,
}

/// When a group's snapshot is taken, whatever comes first, and what stays of its log. It is only
/// taken when something was applied since the last one. A shard writes one at a time. How fast
/// snapshots are sent to peers is [`BulkConfig::bytes_per_second`](crate::BulkConfig::bytes_per_second).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// Entries applied since the last one. `None` never; default 1,000,000. Fewer make a restart
    /// quicker and write more.
    pub entries: Option<u64>,
    /// Bytes of log since the last one. `None` never; default 256 MiB. It bounds the disk that a
    /// group's log takes, beside what is kept.
    pub bytes: Option<u64>,
    /// Bytes of the shard's log, of all its groups, that a group may be behind before a snapshot of
    /// it is taken, whole segments at a time. `None` never; default 8 GiB. It bounds the disk that a
    /// shard's log takes, however many groups it has: half of it at most is kept behind snapshots.
    /// A group whose entries take less than a quarter of its snapshot waits until they take as
    /// much: its few entries are moved forward in the log meanwhile, for less.
    pub log_bytes: Option<u64>,
    /// Time since the last one. `None` (the default) never.
    pub interval: Option<Duration>,
    /// Entries kept in the log behind a snapshot for peers that lag, which are then spared the
    /// snapshot. Default 100,000.
    pub keep_entries: u64,
    /// Bytes of log kept behind a snapshot, at most; what is kept is within both limits, and within
    /// half of [`log_bytes`](Self::log_bytes). Default 64 MiB.
    pub keep_bytes: u64,
    /// Bytes of a chunk, at most: what a state machine is asked for at once. Default 256 KiB; 1 B to
    /// 1 MiB.
    pub chunk_bytes: usize,
    /// Bytes per second that a shard writes of the snapshots that it takes, so that they leave the
    /// disk to the log; no chunk is asked for before its time. `None`: as fast as the disk takes
    /// them. Default 128 MiB. What is received from a leader is bounded by its sender.
    pub bytes_per_second: Option<u64>,
    /// How long a transfer may go without getting on before it is given up, and begun again when the
    /// peer is heard. Default 30 s.
    pub transfer_timeout: Duration,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self {
            entries: Some(1_000_000),
            bytes: Some(256 << 20),
            log_bytes: Some(8 << 30),
            interval: None,
            keep_entries: 100_000,
            keep_bytes: 64 << 20,
            chunk_bytes: 256 << 10,
            bytes_per_second: Some(128 << 20),
            transfer_timeout: Duration::from_secs(30),
        }
    }
}

/// More than a piece of a snapshot takes beside its chunk, and more than the first piece, which
/// has the members instead.
const PIECE_OVERHEAD: usize = 64 << 10;

impl SnapshotConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting and says what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        if !(1..=1 << 20).contains(&self.chunk_bytes) {
            return Err("snapshots.chunk_bytes must be 1 to 1 MiB".into());
        }
        let zero = [self.entries, self.bytes, self.log_bytes].contains(&Some(0));
        if zero || self.interval == Some(Duration::ZERO) {
            return Err("snapshots: entries, bytes, log_bytes and interval must not be zero".into());
        }
        if self.bytes_per_second == Some(0) {
            return Err("snapshots.bytes_per_second must not be zero".into());
        }
        if self.transfer_timeout.is_zero() {
            return Err("snapshots.transfer_timeout must not be zero".into());
        }
        Ok(())
    }
}

/// What callers may have in flight. At each limit they wait or are told
/// [`Busy`](crate::ProposeError::Busy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one operation's payload, at most. Default 1 MiB; must agree on all nodes.
    pub max_entry_bytes: usize,
    /// Bytes in flight per shard, from submission to answer: payloads plus 32 B per operation.
    /// Default 64 MiB.
    pub shard_bytes: usize,
    /// Bytes in flight per group, counted alike. Default 64 MiB; lower it so that one group whose
    /// followers are slow leaves room for the others.
    pub group_bytes: usize,
    /// Requests that wait in a shard's inbox. Default 4096.
    pub inbox_requests: usize,
    /// Reads of one group that wait for their turn, on one node. Default 65,536. In flight they
    /// weigh 32 B each on `shard_bytes` too.
    pub group_reads: usize,
    /// How long a read may wait, for the leader's word and then for what it needs to be applied.
    /// Default 5 s. A node notices sooner that its leader is gone, as a rule: this is for one that
    /// is there and does not answer.
    pub read_timeout: Duration,
    /// Bytes of one group's log that are applied in one turn, so that applying a long backlog
    /// delays no heartbeat. Default 4 MiB.
    pub apply_bytes: usize,
    /// Bytes of blocks that the leaders on one shard keep for peers that lag. Each group may keep an
    /// equal part of it (of a half to all of it), and [`RaftConfig::cache_bytes`] at most. Default
    /// 256 MiB.
    pub cache_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_entry_bytes: 1 << 20,
            shard_bytes: 64 << 20,
            group_bytes: 64 << 20,
            inbox_requests: 4096,
            group_reads: 1 << 16,
            read_timeout: Duration::from_secs(5),
            apply_bytes: 4 << 20,
            cache_bytes: 256 << 20,
        }
    }
}

impl EngineConfig {
    /// A node's configuration with default settings and no group yet.
    #[must_use]
    pub fn new(cluster: u64, node: NodeId, members: Vec<Member>, data_dir: PathBuf) -> Self {
        Self {
            cluster,
            node,
            members,
            groups: Vec::new(),
            data_dir,
            pin: None,
            spin: Duration::ZERO,
            admin: false,
            raft: RaftConfig::default(),
            wal: WalConfig::default(),
            net: NetConfig::default(),
            limits: Limits::default(),
            priorities: HashMap::new(),
            handover: Duration::from_secs(2),
            snapshots: SnapshotConfig::default(),
            stage_times: false,
        }
    }

    /// The entry of this node among the members.
    #[must_use]
    pub fn this_member(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.node == self.node)
    }

    /// Checks that the settings are within their bounds and do not contradict each other.
    ///
    /// # Errors
    /// Names the setting and says what is allowed.
    pub fn validate(&self) -> Result<(), StartError> {
        self.check().map_err(StartError::Config)
    }

    fn check(&self) -> Result<(), String> {
        let mut nodes = HashSet::new();
        for member in &self.members {
            let this = member.node == self.node;
            if this { member.check() } else { member.check_peer() }?;
            if !nodes.insert(member.node) {
                return Err(format!("node {} is listed twice among the members", member.node));
            }
        }
        let Some(this) = self.this_member() else {
            return Err(format!("node {} is not among the members", self.node));
        };
        if self.pin.as_ref().is_some_and(|pin| pin.len() != this.shards as usize) {
            return Err(format!("pin must name one core for each of the {} shards", this.shards));
        }
        if !self.spin.is_zero() && self.pin.is_none() {
            return Err("spin needs pin: a shard that may move has no core of its own".into());
        }
        self.check_groups(&nodes)?;
        self.check_limits()?;
        self.snapshots.validate()?;
        self.check_pieces()?;
        self.raft.validate().map_err(|error| error.to_string())?;
        self.wal.validate().map_err(|error| error.to_string())?;
        self.net.validate().map_err(|error| error.to_string())
    }

    /// A piece of a snapshot must fit into what carries it, and arrive in time.
    fn check_pieces(&self) -> Result<(), String> {
        let (piece, bulk) = (self.snapshots.chunk_bytes + PIECE_OVERHEAD, &self.net.bulk);
        if piece > bulk.max_frame_bytes {
            let least = format!("{PIECE_OVERHEAD} B above snapshots.chunk_bytes");
            return Err(format!("net.bulk.max_frame_bytes must be at least {least}"));
        }
        let patience = self.snapshots.transfer_timeout.as_millis();
        let rate = bulk.bytes_per_second.map(u128::from);
        if rate.is_some_and(|rate| rate * patience < 8000 * piece as u128) {
            let what = "net.bulk.bytes_per_second must carry eight pieces of snapshots.chunk_bytes";
            return Err(format!("{what} within snapshots.transfer_timeout"));
        }
        Ok(())
    }

    fn check_groups(&self, nodes: &HashSet<NodeId>) -> Result<(), String> {
        let mut groups = HashSet::new();
        for config in &self.groups {
            let GroupConfig { group, voters } = config;
            if !groups.insert(group) {
                return Err(format!("group {group} is listed twice"));
            }
            if let Some(stranger) = voters.iter().find(|voter| !nodes.contains(voter)) {
                return Err(format!("group {group}: voter {stranger} is not a member"));
            }
            let wrong = config.check(self.node, self.priorities.get(group));
            wrong.map_err(|wrong| format!("group {group}: {wrong}"))?;
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), String> {
        let limits = &self.limits;
        if limits.max_entry_bytes == 0 || limits.max_entry_bytes > self.net.max_frame_bytes / 2 {
            return Err(format!(
                "limits.max_entry_bytes must be 1 to half of net.max_frame_bytes ({})",
                self.net.max_frame_bytes
            ));
        }
        // The largest block is one operation alone, with its header and its place in the table.
        let block = limits.max_entry_bytes + ringleader_wal::BLOCK_HEADER_LEN + 4;
        let block = block.max(BLOCK_BYTES + BLOCK_BYTES / 4);
        if block > self.wal.max_block_bytes() {
            return Err(format!(
                "wal.segment_bytes is {}: a segment must hold a block of {block} bytes \
                 (limits.max_entry_bytes is {})",
                self.wal.segment_bytes, limits.max_entry_bytes
            ));
        }
        // A request that was read from the log may hold one block more than the limit asks for.
        let request = self.raft.max_append_bytes + block;
        if request > self.net.max_frame_bytes.min(self.net.outbox_bytes) {
            return Err(format!(
                "raft.max_append_bytes is {}: a request of that size and one block more must fit \
                 net.max_frame_bytes ({}) and net.outbox_bytes ({})",
                self.raft.max_append_bytes, self.net.max_frame_bytes, self.net.outbox_bytes
            ));
        }
        let positive =
            [limits.shard_bytes, limits.group_bytes, limits.inbox_requests, limits.apply_bytes];
        if positive.contains(&0) || limits.group_reads == 0 || limits.read_timeout.is_zero() {
            return Err("limits must not be zero".into());
        }
        Ok(())
    }

    /// A number that nodes compare when they connect: it covers the settings that must agree.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut agreed =
            [self.limits.max_entry_bytes, self.net.max_frame_bytes, self.net.bulk.max_frame_bytes]
                .map(|bytes| bytes as u64)
                .to_vec();
        // A lease rests on what the others do for how long.
        if let Some(drift) = self.raft.lease_reads {
            let nanos = |duration: Duration| duration.as_nanos() as u64;
            agreed.extend([nanos(drift), nanos(self.raft.election_timeout)]);
        }
        let mut bytes = Vec::new();
        agreed.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        u64::from(crc32fast::hash(&bytes))
    }
}

/// The shard of a group on a node with `shards` shards. The multiplication (Fibonacci hashing)
/// spreads consecutive numbers evenly.
#[must_use]
pub fn place(group: GroupId, shards: u32) -> u32 {
    let spread = group.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    ((spread * u64::from(shards)) >> 32) as u32
}
