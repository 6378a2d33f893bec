//! Groups that are created while the nodes run, and replicas that are destroyed.
//!
//! In some runs a few groups are not in the nodes' configurations: the operator creates them, on
//! each node at another moment, and again until the node says that it has them. In the runs whose
//! members change, the operator also destroys replicas of nodes that are members no more, and of
//! members as long as a majority is left: these are removed before anything else is changed. What a
//! node said to be durable must be so after every later start.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ringleader::raft::Configuration;
use ringleader::{
    CreateGroupError, DestroyGroupError, GroupConfig, GroupId, MembershipChange, NodeId, Priorities,
};

use crate::inputs::Input;
use crate::plan::{MS, Plan};
use crate::process::Process;
use crate::rng::{Rng, SURE};
use crate::world::{Event, LOOK_EVERY, World};

/// Which groups the operator creates: of those that can be, one of the founders may lead.
pub(crate) fn late(
    rng: &mut Rng,
    groups: &[GroupId],
    founders: &[Configuration],
    priorities: &HashMap<GroupId, Priorities>,
) -> Vec<bool> {
    let likely = if rng.chance(SURE / 3) { SURE / 2 } else { 0 };
    let may_lead = |(group, founders): (&GroupId, &Configuration)| {
        let priorities = priorities.get(group);
        let may = |voter: &NodeId| priorities.is_none_or(|all| all.of(*voter) > 0);
        founders.voters().iter().any(may)
    };
    let founded = groups.iter().zip(founders).map(may_lead);
    founded.map(|may_lead| rng.chance(likely) && may_lead).collect()
}

/// What nodes said of groups, by node and group.
#[derive(Debug, Default)]
pub(crate) struct Existence {
    created: BTreeSet<(usize, GroupId)>,
    destroyed: BTreeSet<(usize, GroupId)>,
    /// Replicas that were to be destroyed: whatever came of it, nobody adds them again.
    retired: BTreeSet<(usize, usize)>,
    /// What was asked for and not answered, by its name.
    asked: BTreeMap<u64, (usize, GroupId)>,
    next: u64,
}

impl Existence {
    /// The node has empty disks.
    pub(crate) fn wiped(&mut self, node: usize) {
        self.created.retain(|(of, _)| *of != node);
        self.destroyed.retain(|(of, _)| *of != node);
    }

    /// Nobody hears of what was asked of a process that has ended.
    pub(crate) fn crashed(&mut self, node: usize) {
        self.asked.retain(|_, (of, _)| *of != node);
    }

    pub(crate) fn is_retired(&self, node: NodeId, at: usize) -> bool {
        self.retired.contains(&(node.0 as usize - 1, at))
    }

    /// A name for a change of members.
    fn ask_for_change(&mut self) -> u64 {
        self.next += 1;
        (1 << 33) + self.next
    }

    fn ask(&mut self, node: usize, group: GroupId) -> u64 {
        self.next += 1;
        self.asked.insert(self.next, (node, group));
        self.next
    }
}

impl Process {
    /// Whether it was asked for a change of members and has not looked at that yet.
    fn asks_for_change(&self) -> bool {
        self.inbox.iter().any(|input| matches!(input, Input::ChangeMembers { .. }))
    }
}

impl Plan {
    /// How a node is told of a group: with its voters, if it is one of them.
    pub(crate) fn group_config(&self, at: usize, node: usize) -> GroupConfig {
        let founders = &self.founders[at];
        let founds = founders.has_vote(NodeId(node as u64 + 1));
        let founds = founds && self.founded[at].is_none();
        let voters = if founds { founders.voters().to_vec() } else { Vec::new() };
        GroupConfig { group: self.groups[at], voters }
    }
}

impl World {
    /// Each node is told of each late group some time.
    pub(crate) fn schedule_creations(&mut self) {
        for at in (0..self.plan.groups.len()).filter(|at| self.plan.late[*at]).collect::<Vec<_>>() {
            for node in 0..self.plan.nodes {
                let delay = self.rng.between(MS, self.plan.trouble / 2);
                self.after(delay, Event::Create { node, at });
            }
        }
    }

    /// A node is told of a group, again and again until it says that it has it.
    pub(crate) fn create(&mut self, node: usize, at: usize) {
        let group = self.plan.groups[at];
        // Where it was destroyed, that must be refused for ever.
        if !self.existence.created.contains(&(node, group)) {
            let seat = self.plan.seats.of_group(group, node);
            if self.seats[seat].process.is_some() {
                let name = self.existence.ask(node, group);
                let config = self.plan.group_config(at, node);
                self.feed(seat, Input::CreateGroup { name, config });
            }
        }
        // A disk that is wiped brings everything back to the beginning.
        let pause = self.rng.between(20 * MS, 200 * MS);
        self.after(pause, Event::Create { node, at });
    }

    /// Destroys a replica on a node that no log names as a member any more.
    pub(crate) fn destroy_replica(&mut self, anybody: usize, rng: &mut Rng) {
        let at = rng.below(self.plan.groups.len() as u64) as usize;
        let (group, id) = (self.plan.groups[at], NodeId(anybody as u64 + 1));
        let is_member = |node: usize| {
            let seat = &self.seats[self.plan.seats.of_group(group, node)];
            let process = seat.process.as_ref().filter(|process| !process.shard.is_wreck());
            let raft = process.and_then(|process| process.shard.raft(group));
            raft.is_none_or(|raft| raft.configuration().contains(id))
        };
        let is_outsider = !self.is_changing(at) && !(0..self.plan.nodes).any(is_member);
        if is_outsider {
            self.existence.retired.insert((anybody, at));
        }
        let seat = self.plan.seats.of_group(group, anybody);
        if self.seats[seat].process.is_some() {
            let name = self.existence.ask(anybody, group);
            self.feed(seat, Input::DestroyGroup { name, group, is_outsider, member_too: false });
        }
    }

    /// Destroys a replica on a member, which is a voter lost for ever where it has a vote, if the
    /// group bears that.
    pub(crate) fn destroy_member(&mut self, anybody: usize, rng: &mut Rng) {
        let at = rng.below(self.plan.groups.len() as u64) as usize;
        if self.bears_loss(at, anybody) {
            self.destroy(at, anybody);
        }
    }

    /// Destroys a replica, with the loss accepted.
    pub(crate) fn destroy(&mut self, at: usize, node: usize) {
        let group = self.plan.groups[at];
        self.existence.retired.insert((node, at));
        self.checker.doom(node, at);
        self.counts.add("members destroyed", 1);
        let seat = self.plan.seats.of_group(group, node);
        let name = self.existence.ask(node, group);
        let input = Input::DestroyGroup { name, group, is_outsider: false, member_too: true };
        self.feed(seat, input);
    }

    /// Whether a member may be lost for ever: nobody's log has other members than everybody's, no
    /// change is on its way to one, and of the voters a majority is left.
    pub(crate) fn bears_loss(&self, at: usize, node: usize) -> bool {
        let group = self.plan.groups[at];
        if self.checker.is_only_copy(at, node) {
            return false;
        }
        let mut known: Option<&Configuration> = None;
        for other in 0..self.plan.nodes {
            let seat = &self.seats[self.plan.seats.of_group(group, other)];
            let knows = |process: &&Process| process.recovered && !process.shard.is_wreck();
            let Some(process) = seat.process.as_ref().filter(knows) else { return false };
            let Some(raft) = process.shard.raft(group) else { continue };
            let own = raft.configuration();
            let alike = known.is_none_or(|known| known == own) || own.is_empty();
            if !alike || own.is_joint() || process.asks_for_change() {
                return false;
            }
            known = if own.is_empty() { known } else { Some(own) };
        }
        let voters = known.map_or(&[][..], Configuration::voters);
        let gone = |voter: &&NodeId| {
            voter.0 as usize == node + 1 || self.existence.is_retired(**voter, at)
        };
        !self.is_changing(at) && 2 * voters.iter().filter(gone).count() < voters.len()
    }

    /// Nobody adds the node to any group again.
    pub(crate) fn retire(&mut self, node: usize) {
        self.existence.retired.extend((0..self.plan.groups.len()).map(|at| (node, at)));
    }

    /// The members of a group that are lost for ever.
    pub(crate) fn lost_members(&self, at: usize) -> Vec<NodeId> {
        let members = self.checker.members_of(at).into_iter().map(|node| NodeId(node as u64 + 1));
        members.filter(|member| self.existence.is_retired(*member, at)).collect()
    }

    /// The operator takes everybody who is lost for ever out of the groups.
    pub(crate) fn remove_lost(&mut self) {
        let end = self.now() + 2 * self.plan.patience;
        for at in 0..self.plan.groups.len() {
            loop {
                let removed = self.lost_members(at);
                if removed.is_empty() && !self.is_changing(at) {
                    break;
                }
                assert!(self.now() < end, "liveness: group {at} keeps {removed:?}");
                if let Some(leader) = self.checker.leader(at).filter(|_| !self.is_changing(at)) {
                    let name = self.existence.ask_for_change();
                    let change = MembershipChange { removed, ..MembershipChange::default() };
                    self.change(at, leader, name, change);
                }
                self.run_until(self.now() + LOOK_EVERY);
            }
        }
    }

    pub(crate) fn created(
        &mut self,
        seat: usize,
        name: u64,
        answer: &Result<(), CreateGroupError>,
    ) {
        let (node, group) = self.existence_answer(seat, name, answer.is_ok());
        self.counts.add(
            match answer {
                Ok(()) => "groups created",
                Err(CreateGroupError::Exists(_)) => "groups that were there",
                Err(_) => "groups not created",
            },
            1,
        );
        let retired = self.existence.destroyed.contains(&(node, group));
        assert!(!retired || answer.is_err(), "existence: {group} was destroyed on node {node}");
        if matches!(answer, Ok(()) | Err(CreateGroupError::Exists(_))) {
            self.existence.created.insert((node, group));
        }
    }

    pub(crate) fn destroyed(
        &mut self,
        seat: usize,
        name: u64,
        answer: &Result<(), DestroyGroupError>,
    ) {
        let (node, group) = self.existence_answer(seat, name, answer.is_ok());
        let what = if answer.is_ok() { "replicas destroyed" } else { "replicas not destroyed" };
        self.counts.add(what, 1);
        if answer.is_ok() {
            self.checker.destroyed_for_good(node, group);
            self.seats[seat].stores.remove(group);
            self.existence.created.remove(&(node, group));
            self.existence.destroyed.insert((node, group));
            let at = self.plan.groups.iter().position(|known| *known == group);
            self.after(MS, Event::Create { node, at: at.expect("a group of the run") });
        }
    }

    fn existence_answer(&mut self, seat: usize, name: u64, is_ok: bool) -> (usize, GroupId) {
        let asked = self.existence.asked.remove(&name).expect("it is answered once");
        let process = self.seats[seat].process.as_ref().expect("it is alive");
        assert!(!(is_ok && process.silent), "an answer of success from a shard that has ended");
        self.trace.step("existence", seat as u64, name, u64::from(is_ok));
        self.trace.line(|| {
            let place = self.plan.seats.name(seat);
            format!("node {place} answers {name}, of group {}: done {is_ok}", asked.1)
        });
        asked
    }

    /// A shard has started: what was there is there, and what was destroyed is not.
    pub(crate) fn check_existence(&self, seat: usize) {
        let node = self.plan.seats.node(seat);
        let shard = &self.seats[seat].process.as_ref().expect("it has started").shard;
        for (at, group) in self.plan.groups.iter().enumerate() {
            if self.plan.seats.of_group(*group, node) != seat {
                continue;
            }
            let (there, key) = (shard.raft(*group).is_some(), (node, *group));
            let who = || format!("group {group} on node {}", node + 1);
            // It may have been destroyed in the same turn.
            let retired = self.existence.is_retired(self.plan.seats.node_id(seat), at);
            let lost = !there && !retired && self.existence.created.contains(&key);
            assert!(!lost, "existence: {} was created, and is not there", who());
            let back = there && self.existence.destroyed.contains(&key);
            assert!(!back, "existence: {} was destroyed, and is there", who());
        }
    }
}
