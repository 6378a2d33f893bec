//! The fault atlas: which nodes hold what they should on intact disks, and what damage a run bears.
//!
//! It asks the disks themselves. A shard is started on a copy of what a node would find after a power
//! failure that spares nothing, and what comes of it is compared with what the node had promised.
//! Damage is tried on such a copy first:
//!
//! - The log opens and holds the same: nothing needed what was damaged.
//! - The log is refused, with the place in its message: the node will find out, at its next start at
//!   the latest, and is lost to the run from then on. With a majority of nodes intact the cluster
//!   keeps its promise, so no more than a minority may be damaged, unless the run is one that only
//!   has to halt without lying ([`Promise::HaltNotLie`]).
//! - The log opens and holds less, or may do so later: what a log that runs writes next is its end.
//!   Damage to the very end of a log can't be told from a write that the last crash tore: the log's
//!   format says so. The disk is spared that.

use std::any::Any;

use ringleader::raft::{Configuration, Status};
use ringleader::shard::{Effects, Notice, Shard};
use ringleader::time::Time;
use ringleader::{GroupId, NodeId};
use ringleader_net::DataId;
use ringleader_wal::Seq;
use ringleader_wal::disk::OpId;

use crate::checker::Elector;
use crate::damage::Damage;
use crate::disk::SimDisk;
use crate::image::Image;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::process::shard;
use crate::rng::{Rng, SURE};
use crate::stores::Stores;
use crate::world::World;

/// What a run has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing is lost and service goes on: damage stays within a minority of the nodes.
    Keep,
    /// Any node may be damaged. Nothing wrong is served, and a majority that is intact serves.
    HaltNotLie,
}

#[derive(Debug)]
pub(crate) struct Atlas {
    promise: Promise,
    /// Nodes whose disks were damaged in a place that they need.
    damaged: Vec<bool>,
    /// Nodes that lost all that they had.
    wiped: Vec<bool>,
    /// Starts of each node that were refused since.
    refusals: Vec<u32>,
    rng: Rng,
}

impl Atlas {
    pub(crate) fn new(promise: Promise, nodes: usize, rng: Rng) -> Self {
        let (damaged, wiped) = (vec![false; nodes], vec![false; nodes]);
        Self { promise, damaged, wiped, refusals: vec![0; nodes], rng }
    }

    pub(crate) fn is_damaged(&self, node: usize) -> bool {
        self.damaged[node]
    }

    pub(crate) fn damaged(&self) -> &[bool] {
        &self.damaged
    }

    /// Whether enough nodes are intact to elect a leader and to commit.
    pub(crate) fn serves(&self) -> bool {
        let damaged = self.damaged.iter().filter(|damaged| **damaged).count();
        damaged < self.damaged.len().div_ceil(2)
    }

    pub(crate) fn is_wiped(&self, node: usize) -> bool {
        self.wiped[node]
    }

    /// The node is to lose everything, if the run bears it. Such nodes must remain a minority
    /// whatever the run has to show: a majority of them would start over and not know.
    pub(crate) fn lose(&mut self, node: usize) -> bool {
        let wiped = self.wiped.iter().filter(|wiped| **wiped).count();
        let few = self.wiped[node] || wiped < (self.wiped.len() - 1) / 2;
        let bears = few && self.bears(node);
        self.damaged[node] |= bears;
        self.wiped[node] |= bears;
        bears
    }

    /// The node is away until somebody starts it, whatever the run bears; or it is there again.
    pub(crate) fn set_lost(&mut self, node: usize, lost: bool) {
        self.damaged[node] = lost;
    }

    fn bears(&self, node: usize) -> bool {
        let damaged = self.damaged.iter().filter(|damaged| **damaged).count();
        let spare = (self.damaged.len() - 1) / 2;
        self.damaged[node] || damaged < spare || self.promise == Promise::HaltNotLie
    }
}

/// What a shard starts a group with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) group: GroupId,
    pub(crate) status: Status,
    pub(crate) configuration: Configuration,
    /// What its state machine was restored to.
    pub(crate) image: Option<Image>,
}

/// What a shard starts with.
#[derive(Debug)]
pub(crate) struct Started {
    groups: Vec<Found>,
    /// The last batch of its log.
    durable: Seq,
}

/// What a seat's shard finds on `disk` after the power failed; the disk itself is left alone.
fn start(
    disk: &SimDisk,
    stores: &Stores,
    data: DataId,
    plan: &Plan,
    seat: usize,
) -> Result<Started, String> {
    let mut disk = disk.settled();
    let mut shard = shard(plan, seat, &stores.settled(), data, Vec::new(), 0);
    let mut effects = Effects::default();
    // No fault is asked for, so nothing is drawn.
    let mut rng = Rng::new(0);
    loop {
        shard.turn(&mut effects);
        for notice in effects.notices.drain(..) {
            match notice {
                Notice::Recovered(summary) => {
                    let groups = plan.groups.iter();
                    let groups = groups.filter_map(|group| found(&mut shard, *group)).collect();
                    return Ok(Started { groups, durable: summary.durable });
                }
                Notice::RecoveryFailed(cause) => return Err(cause),
                _ => {}
            }
        }
        assert!(!effects.disk.is_empty(), "a start that waits for nothing");
        let ids: Vec<OpId> = effects.disk.iter().map(|(id, _)| *id).collect();
        effects.disk.drain(..).for_each(|(id, op)| disk.submit(id, op));
        for id in ids {
            let result = disk.complete(id, None, &mut rng);
            shard.disk_completed(Time(0), id, result);
        }
    }
}

fn found(shard: &mut Shard, group: GroupId) -> Option<Found> {
    let raft = shard.raft(group)?;
    let (status, configuration) = (raft.status(), raft.configuration().clone());
    let machine: &mut dyn Any = shard.state_machine(group)?;
    let machine: &mut Machine = machine.downcast_mut().expect("the simulator's own");
    Some(Found { group, status, configuration, image: machine.restored.take() })
}

impl Started {
    /// Whether both hold the same, whatever of it a snapshot holds and whatever the log.
    fn holds_as(&self, other: &Self) -> bool {
        let promised = |found: &Found| {
            let Status { term, voted_for, last, .. } = found.status;
            (found.group, term, voted_for, last)
        };
        self.durable == other.durable
            && self.groups.iter().map(promised).eq(other.groups.iter().map(promised))
    }
}

/// What came of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Harmless,
    Noticed,
    Unnoticed,
}

impl World {
    fn started(&self, seat: usize, disk: &SimDisk) -> Result<Started, String> {
        let data = self.nodes[self.plan.seats.node(seat)].data;
        start(disk, &self.seats[seat].stores, data, &self.plan, seat)
    }

    /// Whether each of a node's logs says, whatever power failure comes, what data another node has, or
    /// knows nothing of anybody and never will but from a leader: then it counts nobody.
    pub(crate) fn logs_name(&self, node: usize, other: usize) -> bool {
        let (id, data) = (NodeId(other as u64 + 1), self.nodes[other].data);
        self.plan.seats.of(node).all(|seat| {
            let Ok(started) = self.started(seat, &self.seats[seat].disk) else { return false };
            let named = |found: &Found| found.configuration.data(id) == Some(data);
            let blank = |found: &Found| found.configuration.is_empty();
            started.groups.iter().any(named)
                || started.groups.iter().all(blank) && !self.founds_on(node, seat)
        })
    }

    /// Whether a node is among those who found a group that it keeps there: then it begins with numbers
    /// alone.
    fn founds_on(&self, node: usize, seat: usize) -> bool {
        let groups = self.plan.groups.iter().zip(&self.plan.founders);
        let mut here = groups.filter(|(group, _)| self.plan.seats.of_group(**group, node) == seat);
        here.any(|(_, founders)| founders.contains(NodeId(node as u64 + 1)))
    }

    /// What an election of the group depends on, on a node that starts after a power failure.
    pub(crate) fn elector_on_disk(&self, at: usize, node: usize, seat: usize) -> Option<Elector> {
        let started = self.started(seat, &self.seats[seat].disk).ok()?;
        let group = self.plan.groups[at];
        let found = started.groups.into_iter().find(|found| found.group == group)?;
        let Found { status, configuration, .. } = found;
        Some(Elector { node, status, configuration, campaigns: true })
    }

    /// Damages a disk of the node if the run bears it.
    pub(crate) fn damage(&mut self, node: usize, damage: Damage) {
        let seats = self.plan.seats.of(node);
        let rng = &mut self.atlas.rng;
        let mut pick = || seats.start + rng.below(seats.len() as u64) as usize;
        let (seat, other) = (pick(), pick());
        let other = Some(other).filter(|other| *other != seat);
        // A log that is being read is half of before and half of after.
        let reads = |seat: usize| {
            let process = self.seats[seat].process.as_ref();
            process.is_some_and(|process| !process.recovered)
        };
        if !self.atlas.bears(node) || reads(seat) || other.is_some_and(reads) {
            return;
        }
        let mut disk = self.seats[seat].disk.clone();
        let mut other = other.map(|other| (other, self.seats[other].disk.clone()));
        let into = other.as_mut().map(|(_, disk)| disk);
        let Some(what) = disk.damage(damage, into, &mut self.atlas.rng) else { return };
        let mut verdict = self.judge(seat, &disk);
        if let Some((seat, disk)) = &other {
            verdict = worse(verdict, self.judge(*seat, disk));
        }
        self.trace.step("damage", seat as u64, damage as u64, verdict as u64);
        let name = self.plan.seats.name(seat);
        self.trace.line(|| format!("*** node {name}: {damage:?}, {what}: {verdict:?}"));
        self.counts.add(verdict.name(), 1);
        if verdict == Verdict::Unnoticed {
            return;
        }
        self.counts.add(damage.name(), 1);
        // What a snapshot holds may be in the log as well, and need not be tomorrow.
        let differ = |(seat, disk): (usize, &SimDisk)| self.seats[seat].disk.snapshots_differ(disk);
        let others = other.as_ref().map(|(seat, disk)| (*seat, disk));
        let needed_later = [(seat, &disk)].into_iter().chain(others).any(differ);
        if needed_later {
            self.counts.add("damaged snapshots", 1);
            self.checker.snapshot_damaged(node);
        }
        self.atlas.damaged[node] |= needed_later || verdict == Verdict::Noticed;
        self.seats[seat].disk = disk;
        if let Some((other, disk)) = other {
            self.seats[other].disk = disk;
        }
    }

    /// Judges damage by what is settled, by what will be when all that is under way is done, and by
    /// what comes to rest on it next: a log that runs counts on the header that it has written.
    fn judge(&self, seat: usize, damaged: &SimDisk) -> Verdict {
        let disk = &self.seats[seat].disk;
        let (later, damaged_later) = (disk.flushed(), damaged.flushed());
        // The first batch there will look torn, until the second says that it had been durable.
        if later.begun_differs(&damaged_later) {
            return Verdict::Unnoticed;
        }
        worse(self.compare(seat, disk, damaged), self.compare(seat, &later, &damaged_later))
    }

    fn compare(&self, seat: usize, before: &SimDisk, damaged: &SimDisk) -> Verdict {
        match (self.started(seat, before), self.started(seat, damaged)) {
            (Ok(before), Ok(after)) if before.holds_as(&after) => Verdict::Harmless,
            (_, Ok(_)) => Verdict::Unnoticed,
            // That it was destroyed was said in the last batch, which looks torn now.
            (_, Err(cause)) if cause.contains("which the configuration does not name") => {
                Verdict::Unnoticed
            }
            (_, Err(cause)) => {
                // Or the log ends before what its state machine has.
                let places = [".wal", "segment ", ".snap", "its state machine holds"];
                let place = places.iter().any(|place| cause.contains(place));
                assert!(place, "a damaged log is refused and the place not named: {cause}");
                Verdict::Noticed
            }
        }
    }

    /// A shard of a damaged node gave up, at its start or later. True when its node is not to be
    /// started again.
    pub(crate) fn is_lost(&mut self, node: usize, at_start: bool) -> bool {
        if !at_start || !self.atlas.damaged[node] {
            return false;
        }
        self.counts.add("damaged nodes that refused to start", 1);
        self.atlas.refusals[node] += 1;
        // An owner tries it more than once.
        self.atlas.refusals[node] > 2
    }

    /// Compares what a node promised with what its disks hold.
    pub(crate) fn audit(&mut self, node: usize) {
        if self.atlas.damaged[node] {
            return;
        }
        self.counts.add("audits of disks", 1);
        for seat in self.plan.seats.of(node) {
            let started = self.started(seat, &self.seats[seat].disk);
            let started = started.unwrap_or_else(|cause| {
                panic!("node {}: an intact log is refused: {cause}", self.plan.seats.name(seat))
            });
            for found in &started.groups {
                let at = self.plan.groups.iter().position(|group| *group == found.group);
                self.checker.audit(at.expect("a known group"), node, found);
            }
        }
    }

    /// Audits now and then: every node after a commit, the sender after its messages.
    pub(crate) fn audit_some(&mut self, node: usize) {
        // An audit reads the whole log, which only grows.
        let files = self.seats[self.plan.seats.of(node).start].disk.files.len() as u32;
        if self.atlas.rng.chance(self.plan.audit_ppm * 16 / files.max(16)) {
            let all = self.atlas.rng.coin();
            let nodes = if all { 0..self.plan.nodes } else { node..node + 1 };
            nodes.for_each(|node| self.audit(node));
            if all {
                self.checker.check_copies(&self.atlas.damaged);
            }
        }
    }
}

fn worse(a: Verdict, b: Verdict) -> Verdict {
    if a as u8 > b as u8 { a } else { b }
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Harmless => "damage that nothing needed",
            Self::Noticed => "damage that the log noticed",
            Self::Unnoticed => "damage spared: like a torn tail",
        }
    }
}

impl Damage {
    fn name(self) -> &'static str {
        match self {
            Self::Rot => "bits rotten",
            Self::Latent => "sectors unreadable",
            Self::Lost => "writes lost",
            Self::Misdirected => "writes misdirected",
        }
    }
}

/// How often disks are audited, in parts of a million of the turns that said something.
pub(crate) fn audit_rate(rng: &mut Rng) -> u32 {
    rng.pick(&[SURE / 2000, SURE / 500, SURE / 200])
}
