//! Groups that lose their majority for good, in the runs that have this, and the operator who goes
//! on with what is left: looks at every node that is, resets the group on the one whose log is the
//! most complete, has those that were lost back one by one, and adds members again.
//!
//! The operator does as the documentation says, and no more is promised. It resets no group that
//! could still elect somebody, and starts none of the lost nodes as long as these, with whoever has
//! not heard of the new era, could elect somebody in the old one.

use std::collections::BTreeMap;

use ringleader::raft::era::Era;
use ringleader::raft::{Configuration, MembershipChange, Reset, RoleName};
use ringleader::shard::ResetAnswer;
use ringleader::time::Time;
use ringleader::{GroupId, NodeId, ResetError};

use crate::checker::Elector;
use crate::disk_faults::CrashPoint;
use crate::inputs::Input;
use crate::rng::{Rng, SURE};
use crate::world::{LOOK_EVERY, World};

/// Election timeouts after a loss in which the operator does nothing: leases end meanwhile, and
/// nobody is heard any more.
const MOURNING: u64 = 4;

/// What the operator knows.
#[derive(Debug)]
pub(crate) struct Resets {
    /// Nodes that are away until the operator starts them.
    lost: Vec<bool>,
    /// When the last of them was lost.
    lost_at: u64,
    /// A reset that somebody waits for: its name, its group, its node.
    asked: Option<(u64, usize, usize)>,
    names: u64,
}

impl Resets {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { lost: vec![false; nodes], lost_at: 0, asked: None, names: 0 }
    }

    /// The node's process is gone, and nobody hears of what was asked of it.
    pub(crate) fn crashed(&mut self, node: usize) {
        self.asked.take_if(|asked| asked.2 == node);
    }
}

impl World {
    /// Nodes that are not lost.
    fn left(&self) -> Vec<usize> {
        (0..self.plan.nodes).filter(|node| !self.resets.lost[*node]).collect()
    }

    /// A majority of a group's voters fails for good. Somebody of its era is left, or the next one
    /// might not be above it.
    pub(crate) fn lose_majority(&mut self, rng: &mut Rng) {
        let at = rng.below(self.plan.groups.len() as u64) as usize;
        let mut voters = self.checker.voters(at);
        rng.shuffle(&mut voters);
        let majority = voters.len() / 2 + 1;
        let more = if rng.chance(SURE / 4) { rng.below(2) as usize } else { 0 };
        voters.truncate(majority + more);
        let left: Vec<usize> =
            self.left().into_iter().filter(|node| !voters.contains(node)).collect();
        let go_on = |at| left.iter().any(|node| self.checker.is_of_era(at, *node));
        let bears = !left.is_empty() && (0..self.plan.groups.len()).all(go_on);
        if self.resets.asked.is_some() || !bears {
            return;
        }
        self.trace
            .line(|| format!("*** node indices {voters:?} are lost: a majority of group {at}"));
        for node in voters {
            self.resets.lost[node] = true;
            self.nodes[node].gone = true;
            self.atlas.set_lost(node, true);
            self.crash(node);
        }
        self.resets.lost_at = self.now();
        self.counts.add("majorities lost", 1);
    }

    /// Whether a node says what it has, and nothing of those that are lost is on its way to it.
    fn answers_survey(&self, node: usize) -> bool {
        let at = &self.nodes[node];
        self.now() >= at.stalled_until
            && self.plan.seats.of(node).all(|seat| {
                let process = self.seats[seat].process.as_ref();
                process.is_some_and(|process| {
                    let talks = process.recovered && !process.held && process.inbox.is_empty();
                    talks && !process.silent && !process.stopping
                }) && self.network.pairs_of(seat).iter().all(|pair| {
                    let peers = self.network.pairs[*pair].seats;
                    let lost =
                        peers.iter().any(|seat| self.resets.lost[self.plan.seats.node(*seat)]);
                    !lost || self.network.current(*pair, seat).is_none()
                })
            })
    }

    /// What an election of the group depends on, on a node that runs.
    fn elector(&self, at: usize, node: usize) -> Option<Elector> {
        let group = self.plan.groups[at];
        let seat = self.plan.seats.of_group(group, node);
        let process = self.seats[seat].process.as_ref().filter(|one| !one.shard.is_wreck())?;
        let raft = process.shard.raft(group)?;
        let status = raft.status();
        let campaigns = raft.deadline() != Time::NEVER || status.role == RoleName::Leader;
        Some(Elector { node, status, configuration: raft.configuration().clone(), campaigns })
    }

    /// The nodes that are left, if all of them say what they have of a group and if that is not
    /// enough to elect anybody.
    fn without_majority(&self, at: usize) -> Option<Vec<Elector>> {
        let left = self.left();
        let electors: Option<Vec<Elector>> =
            left.iter().map(|node| self.elector(at, *node)).collect();
        electors.filter(|electors| !Elector::any_wins(electors))
    }

    /// The operator looks at all groups, and resets the first that is without a majority. True if
    /// there is, or may be, more to do.
    pub(crate) fn survey(&mut self, rng: &mut Rng) -> bool {
        if !self.resets.lost.contains(&true) && self.resets.asked.is_none() {
            return false;
        }
        let election = self.plan.raft.election_timeout.as_nanos() as u64;
        let early = self.now() < self.resets.lost_at + MOURNING * election;
        let answer = self.left().iter().all(|node| self.answers_survey(*node));
        if early || !answer || self.resets.asked.is_some() {
            return true;
        }
        for at in 0..self.plan.groups.len() {
            if let Some(electors) = self.without_majority(at) {
                self.reset(at, &electors, rng);
                return true;
            }
        }
        // A group that is still to be created may be without its majority, too.
        let groups = 0..self.plan.groups.len();
        let mut left = groups.flat_map(|at| self.left().into_iter().map(move |node| (at, node)));
        left.any(|(at, node)| self.elector(at, node).is_none())
    }

    /// The most complete log goes on, with some of those that are left.
    fn reset(&mut self, at: usize, electors: &[Elector], rng: &mut Rng) {
        let last = |elector: &Elector| (elector.status.last.term, elector.status.last.index);
        let most = electors.iter().map(last).max();
        let best: Vec<usize> =
            electors.iter().filter(|one| Some(last(one)) == most).map(|one| one.node).collect();
        let node = rng.pick(&best);
        let id = |node: usize| NodeId(node as u64 + 1);
        let (mut voters, mut learners) = (vec![id(node)], Vec::new());
        for elector in electors.iter().filter(|elector| elector.node != node) {
            // What it applied can't be taken back: it would vote for nothing.
            let may_vote = !self.checker.contradicts(at, elector.node);
            match rng.below(8) {
                0..=4 if may_vote => voters.push(id(elector.node)),
                5 => learners.push(id(elector.node)),
                _ => {}
            }
        }
        let members = Configuration::new(&voters, &[]).with_learners(&learners);
        let (group, name) = (self.plan.groups[at], self.resets.names);
        self.trace.line(|| format!("*** node {} group {group} is reset: {members:?}", node + 1));
        self.resets.names += 1;
        self.resets.asked = Some((name, at, node));
        self.counts.add("resets asked for", 1);
        if !self.healed && rng.chance(SURE / 3) {
            match rng.coin() {
                true => self.nodes[node].crash_in = Some(rng.below(12)),
                false => self.nodes[node].crash_at = Some(CrashPoint::draw(rng)),
            }
        }
        let seat = self.plan.seats.of_group(group, node);
        self.feed(seat, Input::ResetPeers { name, group, members });
    }

    /// A node set the members anew: callers may lose what only others had.
    pub(crate) fn era_begins(&mut self, seat: usize, group: GroupId, reset: &Reset) {
        let (node, left) = (self.plan.seats.node(seat), self.left());
        let at = self.plan.groups.iter().position(|known| *known == group).expect("a known group");
        let since = self.clients.moment();
        let kept = self.checker.era_begins(at, node, reset, &left, since);
        self.trace
            .line(|| format!("*** group {group} keeps {kept} of what is committed: {reset:?}"));
        self.clients.forget_after(group, at, kept);
    }

    pub(crate) fn reset_answered(&mut self, seat: usize, (name, answer): ResetAnswer) {
        self.trace.step("reset", seat as u64, name, u64::from(answer.is_ok()));
        let place = self.plan.seats.name(seat);
        self.trace.line(|| format!("node {place} answers reset {name}: {answer:?}"));
        let asked = self.resets.asked.take_if(|asked| asked.0 == name);
        let (_, at, _) = asked.expect("a reset is answered once");
        let silent = self.seats[seat].process.as_ref().is_some_and(|process| process.silent);
        assert!(!silent || answer.is_err(), "an answer of success from a shard that has ended");
        let what = match &answer {
            Ok(reset) => {
                self.checker.era_answered(at, reset.at);
                "groups reset"
            }
            Err(ResetError::Unknown(_)) => "resets of unknown outcome",
            Err(_) => "resets refused",
        };
        self.counts.add(what, 1);
    }

    /// Likewise, once there was time to reset what has lost its majority.
    pub(crate) fn bring_back_late(&mut self, rng: &mut Rng) {
        let election = self.plan.raft.election_timeout.as_nanos() as u64;
        if self.now() >= self.resets.lost_at + 2 * MOURNING * election {
            self.bring_back(rng);
        }
    }

    /// Starts one that was lost, if that can't bring an ended era to life.
    pub(crate) fn bring_back(&mut self, rng: &mut Rng) {
        let lost: Vec<usize> =
            (0..self.plan.nodes).filter(|node| self.resets.lost[*node]).collect();
        if lost.is_empty() || self.resets.asked.is_some() {
            return;
        }
        let node = rng.pick(&lost);
        if !(0..self.plan.groups.len()).all(|at| self.may_come_back(at, node)) {
            return;
        }
        self.resets.lost[node] = false;
        self.nodes[node].gone = false;
        self.atlas.set_lost(node, false);
        self.trace.line(|| format!("*** node {} comes back", node + 1));
        self.counts.add("lost nodes that came back", 1);
        self.start_later(node);
    }

    /// Whether those who may not know of the group's era, `node` and any others, are too few to elect
    /// anybody.
    fn may_come_back(&self, at: usize, node: usize) -> bool {
        let mut ignorant = BTreeMap::new();
        for other in self.left().into_iter().chain([node]) {
            let seat = self.plan.seats.of_group(self.plan.groups[at], other);
            let Some(on_disk) = self.elector_on_disk(at, other, seat) else { return false };
            if Era::of(on_disk.status.term) < self.checker.era(at) {
                ignorant.insert(other, self.elector(at, other).unwrap_or(on_disk));
            }
        }
        let ignorant: Vec<Elector> = ignorant.into_values().collect();
        !Elector::any_might_win(&ignorant)
    }

    /// The operator ends what it began: every group has a majority again, and of those that were lost
    /// some are there.
    pub(crate) fn rescue(&mut self) {
        if !self.plan.resetting {
            return;
        }
        let mut rng = self.rng.fork();
        let end = self.now() + self.plan.patience;
        while self.survey(&mut rng) {
            assert!(self.now() < end, "liveness: a group without its majority is not reset");
            self.run_until(self.now() + LOOK_EVERY);
        }
        for _ in 0..rng.below(4 * self.plan.nodes as u64) {
            self.bring_back(&mut rng);
            self.run_until(self.now() + 4 * LOOK_EVERY);
            while self.survey(&mut rng) {
                self.run_until(self.now() + LOOK_EVERY);
            }
        }
        for at in 0..self.plan.groups.len() {
            if self.checker.was_reset(at) && rng.chance(SURE * 3 / 4) {
                self.add_all(at, &mut rng);
            }
        }
    }

    /// Everybody who is there and can be is asked for as a member.
    fn add_all(&mut self, at: usize, rng: &mut Rng) {
        let Some(leader) = self.checker.leader(at) else { return };
        let mut change = MembershipChange::default();
        for node in self.left() {
            // What it applied can't be taken back: it learns nothing, and has to say so.
            let learns = rng.chance(SURE / 8) || self.checker.contradicts(at, node);
            let list = if learns { &mut change.learners } else { &mut change.voters };
            list.push(NodeId(node as u64 + 1));
        }
        // Those who are lost may be voters still: the others have to outnumber them.
        let left = self.left();
        let lost = self.checker.voters(at).iter().filter(|node| !left.contains(node)).count();
        if change.voters.len() > lost {
            self.resets.names += 1;
            self.change(at, leader, (1 << 32) + self.resets.names, change);
        }
    }
}
