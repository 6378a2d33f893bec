//! What goes wrong, and when. Each seed switches a random subset of the faults on, each at a rate
//! of its own (swarm testing): a fault that is always there hides what happens without it.

use crate::atlas::Promise;
use crate::damage::Damage;
use crate::disk_faults::CrashPoint;
use crate::fixed;
use crate::plan::MS;
use crate::rng::{Rng, SURE};
use crate::schedule::Strike;
use crate::world::{Event, World};

/// The kinds of faults that come by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One node, after some more steps.
    Crash,
    /// Several at once.
    CrashMany,
    BreakConnection,
    /// Two parts that can't hear each other.
    Split,
    /// One direction between two parts.
    OneWay,
    /// One node, both ways or one.
    Isolate,
    /// Two parts that only one node can talk to.
    Bridge,
    /// Everybody hears a majority, and no two the same.
    Ring,
    /// Everybody hears its neighbours only.
    Chain,
    /// A connection that passes nothing, one way or both, and looks well to its ends.
    HalfOpen,
    /// A connection that breaks again and again.
    Flap,
    /// A connection that passes everything late.
    Clog,
    /// Bytes that arrive as others, or not at all.
    Garble,
    /// A clock that goes faster or slower from now on.
    ClockRate,
    /// A process that stands still between its decisions and their effects.
    Hold,
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
    /// A state machine of some shard of a node panics, at one of its next calls.
    Panic,
    /// A node loses all that it held, and comes back under its old number.
    Wipe,
    /// A majority of a group's voters fails for good.
    LoseMajority,
}

const FAULTS: [Fault; 23] = [
    Fault::Crash,
    Fault::CrashMany,
    Fault::BreakConnection,
    Fault::Split,
    Fault::OneWay,
    Fault::Isolate,
    Fault::Bridge,
    Fault::Ring,
    Fault::Chain,
    Fault::HalfOpen,
    Fault::Flap,
    Fault::Clog,
    Fault::Garble,
    Fault::ClockRate,
    Fault::Hold,
    Fault::Stall,
    Fault::SlowDisk,
    Fault::DiskErrors,
    Fault::DiskFull,
    Fault::ShortIo,
    Fault::Misreads,
    Fault::CrashAtDisk,
    Fault::Panic,
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
    /// When the faults end, a leader loses all that it held, at the worst moment: followers that
    /// could not hear it are not at the end of its log yet.
    pub(crate) loses_last: bool,
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

    pub(crate) fn has(&self, what: &str) -> bool {
        self.0.iter().any(|(known, count)| *known == what && *count > 0)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, count)| self.add(what, *count));
    }
}

impl Counts {
    /// What of all that has to happen did not.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        fixed::SOMETIMES.iter().copied().filter(|what| !self.has(what)).collect()
    }
}

impl FaultPlan {
    pub(crate) fn draw(
        rng: &mut Rng,
        election: u64,
        trouble: u64,
        promise: Promise,
        [damaging, losing, changing]: [bool; 3],
    ) -> Self {
        let likely = rng.pick(&[SURE / 12, SURE / 5, SURE / 2]);
        let mut enabled = Vec::new();
        for fault in FAULTS {
            if rng.chance(fault.likely(likely)) {
                let longest = rng.magnitude(election / 2, 2 * trouble);
                enabled.push((fault, longest));
            }
        }
        // What is damaged stays so: many runs are to have all their nodes to the end.
        let halts = promise == Promise::HaltNotLie;
        let damaging = damaging && (halts || rng.coin());
        for damage in DAMAGES.into_iter().filter(|_| damaging) {
            if rng.chance(SURE * 2 / 3) {
                let longest = if halts { trouble / 8 } else { trouble };
                enabled.push((Fault::Damage(damage), rng.magnitude(election / 2, longest)));
            }
        }
        let wiping = damaging && rng.coin() || changing && !losing && rng.chance(SURE * 3 / 4);
        if wiping {
            // Groups whose members change bear it at few moments.
            let longest = if changing { trouble / 8 } else { trouble };
            enabled.push((Fault::Wipe, rng.magnitude(election / 2, longest)));
        }
        if losing {
            enabled.push((Fault::LoseMajority, rng.magnitude(trouble / 4, trouble)));
        }
        Self {
            enabled,
            crash_again_ppm: rng.pick(&[0, SURE / 8, SURE / 2]),
            kill_ppm: rng.pick(&[0, SURE / 4, SURE * 3 / 4]),
            loses_last: damaging && rng.coin(),
            away: rng.magnitude(MS, 8 * election),
            lasting: rng.magnitude(election / 2, 10 * election),
        }
    }
}

impl World {
    pub(crate) fn schedule_fault(&mut self, at: usize) {
        if let Some(strike) = self.schedule.strikes.get(at) {
            let pause = strike.at - self.now();
            self.after(pause, Event::Fault(at));
        }
    }

    /// A fault of the schedule comes, and the next one is awaited.
    pub(crate) fn fault(&mut self, at: usize) {
        if self.healed {
            return;
        }
        self.schedule_fault(at + 1);
        let Strike { what: fault, seed, number, .. } = self.schedule.strikes[at];
        if self.plan.nodes > 1 || !fault.is_between_nodes() {
            self.strike(fault, number, &mut Rng::new(seed));
        }
    }

    /// Whom a fault or an action is for: anybody, or the leader of some group.
    pub(crate) fn victim(&self, rng: &mut Rng) -> usize {
        let anybody = rng.below(self.plan.nodes as u64) as usize;
        let group = rng.below(self.plan.groups.len() as u64) as usize;
        let leader = if rng.coin() { self.checker.leader(group) } else { None };
        leader.unwrap_or(anybody)
    }

    fn strike(&mut self, fault: Fault, number: usize, rng: &mut Rng) {
        let node = self.victim(rng);
        self.trace.line(|| format!("*** fault {number}: {fault:?}, node {}", node + 1));
        self.trace.step("fault", node as u64, number as u64, 0);
        let lasting = rng.between(MS, self.plan.faults.lasting.max(2 * MS));
        let until = self.now() + lasting;
        match fault {
            Fault::Crash => {
                let steps = rng.below(40);
                self.nodes[node].crash_in.get_or_insert(steps);
            }
            Fault::CrashMany => {
                for node in 0..self.plan.nodes {
                    if rng.chance(SURE * 2 / 3) {
                        self.crash(node);
                    }
                }
            }
            Fault::BreakConnection
            | Fault::HalfOpen
            | Fault::Flap
            | Fault::Clog
            | Fault::Garble => self.harm_connection(fault, lasting, rng),
            Fault::Split
            | Fault::OneWay
            | Fault::Isolate
            | Fault::Bridge
            | Fault::Ring
            | Fault::Chain => {
                self.partition(fault, node, rng);
                self.after(lasting, Event::Reunite);
            }
            Fault::ClockRate => self.change_clock(node, rng),
            Fault::Hold => self.nodes[node].holds_for = lasting,
            Fault::Stall => self.nodes[node].stalled_until = until,
            Fault::SlowDisk => self.nodes[node].slow_until = until,
            Fault::DiskErrors => self.nodes[node].errors_until = until,
            Fault::DiskFull => self.nodes[node].full_until = until,
            Fault::ShortIo => self.nodes[node].short_until = until,
            Fault::Misreads => self.nodes[node].misread_until = until,
            Fault::CrashAtDisk => {
                let point = CrashPoint::draw(rng);
                self.nodes[node].crash_at.get_or_insert(point);
            }
            Fault::Panic => {
                let seat = rng.pick(&self.plan.seats.of(node).collect::<Vec<_>>());
                self.seats[seat].stores.fuse.light(rng.magnitude(1, 64) - 1);
            }
            Fault::Damage(damage) => {
                if rng.coin() {
                    self.crash(node);
                }
                self.damage(node, damage);
            }
            Fault::Wipe => {
                // Rather one that not all others have met.
                let apart = self.plan.net.apart.filter(|_| rng.coin());
                self.wipe(apart.map_or(node, |(a, b)| if rng.coin() { a } else { b }));
            }
            Fault::LoseMajority => self.lose_majority(rng),
        }
        self.counts.add(fault.name(), 1);
    }

    /// All faults end, and every node that is down comes back.
    pub(crate) fn heal(&mut self) {
        if self.plan.faults.loses_last {
            let at = self.rng.below(self.plan.groups.len() as u64) as usize;
            self.checker.leader(at).into_iter().for_each(|leader| self.wipe(leader));
        }
        self.trace.line(|| "*** the faults are over");
        self.healed = true;
        self.reunite();
        self.mend_connections();
        self.acquaint_all();
        self.settle_addresses();
        self.seats.iter().for_each(|seat| seat.stores.fuse.put_out());
        self.mend_clocks();
        for node in 0..self.plan.nodes {
            let at = &mut self.nodes[node];
            (at.crash_in, at.crash_at) = (None, None);
            (at.stalled_until, at.slow_until, at.errors_until, at.full_until) = (0, 0, 0, 0);
            (at.short_until, at.misread_until, at.holds_for) = (0, 0, 0);
        }
        // A turn that waits for a stall to end need not wait any more.
        for seat in 0..self.plan.seats.count() {
            let life = self.life(seat);
            if self.is_alive(seat, life) {
                self.after(0, Event::Turn { seat, life });
            }
        }
    }
}

impl Fault {
    fn is_between_nodes(self) -> bool {
        use Fault::{BreakConnection, Bridge, Chain, Clog, Flap, Garble, HalfOpen};
        use Fault::{Isolate, OneWay, Ring, Split};
        matches!(self, BreakConnection | HalfOpen | Flap | Clog | Garble)
            || matches!(self, Split | OneWay | Isolate | Bridge | Ring | Chain)
    }

    /// Of the spells in which operations of disks may fail, few come to that.
    fn likely(self, likely: u32) -> u32 {
        let seldom_tells =
            matches!(self, Self::DiskErrors | Self::DiskFull | Self::ShortIo | Self::Misreads);
        if seldom_tells { likely * 3 / 2 } else { likely }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Crash => "crashes armed",
            Self::CrashMany => "crashes of several",
            Self::BreakConnection => "connections broken",
            Self::Split => "partitions in two",
            Self::OneWay => "one-way partitions",
            Self::Isolate => "nodes isolated",
            Self::Bridge => "bridges",
            Self::Ring => "rings of majorities",
            Self::Chain => "chains",
            Self::HalfOpen => "connections half open",
            Self::Flap => "connections that flap",
            Self::Clog => "connections clogged",
            Self::Garble => "streams damaged",
            Self::ClockRate => "clocks changed",
            Self::Hold => "stalls before effects",
            Self::Stall => "stalls",
            Self::SlowDisk => "slow disks",
            Self::DiskErrors => "disk error spells",
            Self::DiskFull => "full disks",
            Self::ShortIo => "spells of short reads and writes",
            Self::Misreads => "spells of misdirected reads",
            Self::CrashAtDisk => "crashes armed at disk operations",
            Self::Panic => "panics armed",
            Self::Damage(_) => "damages tried",
            Self::Wipe => "wipings tried",
            Self::LoseMajority => "losses of majorities tried",
        }
    }
}
