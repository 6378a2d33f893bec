//! What goes wrong, and when. Each seed switches a random subset of the faults on, each at a rate
//! of its own (swarm testing): a fault that is always there hides what happens without it.

use crate::atlas::Promise;
use crate::damage::Damage;
use crate::disk_faults::CrashPoint;
use crate::plan::MS;
use crate::rng::{Rng, SURE};
use crate::world::{Event, World};

/// The kinds of faults that come by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One node, after some more steps.
    Crash,
    /// Several at once.
    CrashMany,
    /// One node is told to stop, and comes back.
    Stop,
    BreakConnection,
    /// Two parts that can't hear each other.
    Split,
    /// One direction between two parts.
    OneWay,
    /// One node, both ways or one.
    Isolate,
    /// Two parts that only one node can talk to.
    Bridge,
    /// A process that stands still.
    Stall,
    /// A disk that takes its time.
    SlowDisk,
    /// Writes and syncs that fail for a while.
    DiskErrors,
    /// A full disk, for a while.
    DiskFull,
    /// Reads and writes that end too soon, for a while.
    ShortIo,
    /// Reads of another place, for a while.
    Misreads,
    /// One node, at a disk operation of one kind.
    CrashAtDisk,
    /// A disk loses what it held.
    Damage(Damage),
}

const FAULTS: [Fault; 15] = [
    Fault::Crash,
    Fault::CrashMany,
    Fault::Stop,
    Fault::BreakConnection,
    Fault::Split,
    Fault::OneWay,
    Fault::Isolate,
    Fault::Bridge,
    Fault::Stall,
    Fault::SlowDisk,
    Fault::DiskErrors,
    Fault::DiskFull,
    Fault::ShortIo,
    Fault::Misreads,
    Fault::CrashAtDisk,
];

const DAMAGES: [Damage; 4] = [Damage::Rot, Damage::Latent, Damage::Lost, Damage::Misdirected];

/// See the [module documentation](self).
#[derive(Clone, Debug)]
pub(crate) struct FaultPlan {
    /// The faults of this seed, and the longest pause between two of a kind.
    pub(crate) enabled: Vec<(Fault, u64)>,
    /// Parts of a million of the restarts that are followed by a crash within a few steps.
    pub(crate) crash_again_ppm: u32,
    /// Parts of a million of the crashes that leave the disks as they are.
    pub(crate) kill_ppm: u32,
    /// How long a crashed node is away, at most.
    pub(crate) away: u64,
    /// How long everything else lasts, at most.
    pub(crate) lasting: u64,
}

/// How often each thing happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(pub(crate) Vec<(&'static str, u64)>);

impl Counts {
    pub(crate) fn add(&mut self, what: &'static str, count: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, sum)) => *sum += count,
            None => self.0.push((what, count)),
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, count)| self.add(what, *count));
    }
}

/// What has to happen somewhere in the fixed set of seeds, or the simulator no longer shows what it
/// is meant to show.
const SOMETIMES: &[&str] = &[
    "bits rotten",
    "crashes before a disk operation",
    "crashes before a result was heard",
    "crashes during a disk operation",
    "crashes during recovery",
    "crashes of several",
    "crashes with a segment in its second life",
    "damage spared: like a torn tail",
    "damaged nodes that refused to start",
    "directory errors",
    "directory syncs failed",
    "disk full",
    "disk operations stuck for seconds",
    "full logs",
    "logs truncated",
    "nodes stopped",
    "power failures",
    "processes ended",
    "read errors",
    "reads misdirected",
    "reads of unreadable sectors",
    "reserves used by a full log",
    "runs that halted without lying",
    "sectors unreadable",
    "shards that gave up running",
    "short reads",
    "short writes",
    "slow disks",
    "starts refused",
    "syncs failed, and the data gone",
    "write errors",
    "writes lost",
    "writes misdirected",
];

impl Counts {
    /// What of all that has to happen did not.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let happened =
            |what: &str| self.0.iter().any(|(known, count)| *known == what && *count > 0);
        SOMETIMES.iter().copied().filter(|what| !happened(what)).collect()
    }
}

impl FaultPlan {
    pub(crate) fn draw(rng: &mut Rng, election: u64, trouble: u64, promise: Promise) -> Self {
        let likely = rng.pick(&[SURE / 5, SURE / 2, SURE * 4 / 5]);
        let mut enabled = Vec::new();
        for fault in FAULTS {
            if rng.chance(likely) {
                let longest = rng.magnitude(election / 4, trouble / 2);
                enabled.push((fault, longest));
            }
        }
        // What is damaged stays so: most runs are to have all their nodes to the end.
        let halts = promise == Promise::HaltNotLie;
        let damaging = halts || rng.chance(SURE / 3);
        for damage in DAMAGES.into_iter().filter(|_| damaging) {
            if rng.coin() {
                let longest = if halts { trouble / 8 } else { trouble };
                enabled.push((Fault::Damage(damage), rng.magnitude(election / 2, longest)));
            }
        }
        Self {
            enabled,
            crash_again_ppm: rng.pick(&[0, SURE / 8, SURE / 2]),
            kill_ppm: rng.pick(&[0, SURE / 4, SURE * 3 / 4]),
            away: rng.magnitude(MS, 8 * election),
            lasting: rng.magnitude(election / 2, 10 * election),
        }
    }
}

impl World {
    /// Every fault of the plan comes for the first time.
    pub(crate) fn start_faults(&mut self) {
        for at in 0..self.plan.faults.enabled.len() {
            self.schedule_fault(at);
        }
    }

    fn schedule_fault(&mut self, at: usize) {
        let longest = self.plan.faults.enabled[at].1;
        let pause = self.rng.between(longest / 8, longest);
        self.after(pause, Event::Fault(at));
    }

    /// A fault of the plan comes, and is scheduled again.
    pub(crate) fn fault(&mut self, at: usize) {
        if self.healed {
            return;
        }
        let fault = self.plan.faults.enabled[at].0;
        if self.plan.nodes > 1 || !fault.is_between_nodes() {
            self.strike(at, fault);
        }
        self.schedule_fault(at);
    }

    fn strike(&mut self, at: usize, fault: Fault) {
        let node = self.rng.below(self.plan.nodes as u64) as usize;
        self.trace.line(|| format!("*** {fault:?}, node {}", node + 1));
        self.trace.step("fault", node as u64, at as u64, 0);
        let lasting = self.rng.between(MS, self.plan.faults.lasting.max(2 * MS));
        let until = self.now() + lasting;
        match fault {
            Fault::Crash => {
                let steps = self.rng.below(40);
                self.nodes[node].crash_in.get_or_insert(steps);
            }
            Fault::CrashMany => {
                for node in 0..self.plan.nodes {
                    if self.rng.chance(SURE * 2 / 3) {
                        self.crash(node);
                    }
                }
            }
            Fault::Stop => self.stop(node),
            Fault::BreakConnection => {
                let pair = self.rng.below(self.network.pairs.len() as u64) as usize;
                self.break_connection(pair);
            }
            Fault::Split | Fault::OneWay | Fault::Isolate | Fault::Bridge => {
                self.partition(fault, node);
                self.after(lasting, Event::Reunite);
            }
            Fault::Stall => self.nodes[node].stalled_until = until,
            Fault::SlowDisk => self.nodes[node].slow_until = until,
            Fault::DiskErrors => self.nodes[node].errors_until = until,
            Fault::DiskFull => self.nodes[node].full_until = until,
            Fault::ShortIo => self.nodes[node].short_until = until,
            Fault::Misreads => self.nodes[node].misread_until = until,
            Fault::CrashAtDisk => {
                let point = CrashPoint::draw(&mut self.rng);
                self.nodes[node].crash_at.get_or_insert(point);
            }
            Fault::Damage(damage) => {
                if self.rng.coin() {
                    self.crash(node);
                }
                self.damage(node, damage);
            }
        }
        self.counts.add(fault.name(), 1);
    }

    /// Blocks what the fault blocks; connections across it are given up after a while.
    fn partition(&mut self, fault: Fault, node: usize) {
        let mut order: Vec<usize> = (0..self.plan.nodes).collect();
        self.rng.shuffle(&mut order);
        let cut = self.rng.between(1, self.plan.nodes as u64 - 1) as usize;
        let (inwards, outwards) = self.rng.pick(&[(true, true), (true, false), (false, true)]);
        let side = |at: usize| order.iter().position(|node| *node == at) < Some(cut);
        for from in 0..self.plan.nodes {
            for to in (0..self.plan.nodes).filter(|to| *to != from) {
                let blocked = match fault {
                    Fault::Split => side(from) != side(to),
                    Fault::OneWay => side(from) && !side(to),
                    Fault::Bridge => from != node && to != node && side(from) != side(to),
                    _ => (inwards && to == node) || (outwards && from == node),
                };
                if blocked {
                    self.network.block(from, to);
                }
            }
        }
        for pair in 0..self.network.pairs.len() {
            if let Some(connection) = self.network.working(pair)
                && self.network.is_cut(pair)
            {
                let patience = self.rng.between(MS, self.plan.net.dead_after);
                self.after(patience, Event::GiveUp { pair, connection });
            }
        }
    }

    /// Nothing is blocked any more.
    pub(crate) fn reunite(&mut self) {
        self.trace.line(|| "*** the network is whole");
        self.trace.step("reunite", 0, 0, 0);
        self.network.unblock_all();
    }

    /// All faults end, and every node that is down comes back.
    pub(crate) fn heal(&mut self) {
        self.trace.line(|| "*** the faults are over");
        self.healed = true;
        self.reunite();
        for node in 0..self.plan.nodes {
            let at = &mut self.nodes[node];
            (at.crash_in, at.crash_at) = (None, None);
            (at.stalled_until, at.slow_until, at.errors_until, at.full_until) = (0, 0, 0, 0);
            (at.short_until, at.misread_until) = (0, 0);
        }
    }
}

impl Fault {
    fn is_between_nodes(self) -> bool {
        use Fault::{BreakConnection, Bridge, Isolate, OneWay, Split};
        matches!(self, BreakConnection | Split | OneWay | Isolate | Bridge)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Crash => "crashes armed",
            Self::CrashMany => "crashes of several",
            Self::Stop => "nodes stopped",
            Self::BreakConnection => "connections broken",
            Self::Split => "partitions in two",
            Self::OneWay => "one-way partitions",
            Self::Isolate => "nodes isolated",
            Self::Bridge => "bridges",
            Self::Stall => "stalls",
            Self::SlowDisk => "slow disks",
            Self::DiskErrors => "disk error spells",
            Self::DiskFull => "full disks",
            Self::ShortIo => "spells of short reads and writes",
            Self::Misreads => "spells of misdirected reads",
            Self::CrashAtDisk => "crashes armed at disk operations",
            Self::Damage(_) => "damages tried",
        }
    }
}
