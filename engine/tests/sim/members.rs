//! Groups whose members change: who founds them, what the operator asks for, and what comes of it.
//! In the runs that have this, groups live on some of the nodes, and no disk is damaged: what a
//! minority of the nodes loses may be the majority of a group. Nodes are wiped where every group bears
//! that.

use ringleader::raft::{Configuration, MembershipChange, RaftConfig};
use ringleader::{GroupId, LogIndex, MembershipError, NodeId};

use crate::inputs::Input;
use crate::rng::{Rng, SURE};
use crate::world::World;

/// A change that somebody waits for, by its name.
#[derive(Debug)]
pub(crate) struct Pending {
    name: u64,
    at: usize,
    change: MembershipChange,
    node: usize,
}

/// Who founds each group: all nodes, or a few of them.
pub(crate) fn founders(
    rng: &mut Rng,
    changing: bool,
    nodes: usize,
    groups: usize,
) -> Vec<Configuration> {
    let group = |_| {
        let mut all: Vec<NodeId> = (1..=nodes as u64).map(NodeId).collect();
        if changing {
            rng.shuffle(&mut all);
            all.truncate(rng.between(1, nodes as u64) as usize);
        }
        Configuration::new(&all, &[])
    };
    (0..groups).map(group).collect()
}

/// A removed node that was not told campaigns for ever: with both of these it disturbs nobody
/// (thesis, sections 4.2.3 and 9.6), and the run's peace can be watched.
pub(crate) fn settings(rng: &mut Rng, config: &mut RaftConfig) {
    config.pre_vote = true;
    config.check_quorum = true;
    config.catch_up_rounds = rng.pick(&[1, 1, 2, 10]);
    config.catch_up_patience = rng.pick(&[1, 1, 1, 10]);
}

/// Whether enough voters agree: by counting, as the engine does not.
pub(crate) fn is_quorum(by: &Configuration, agrees: impl Fn(usize) -> bool) -> bool {
    let majority = |voters: &[NodeId]| {
        let count = voters.iter().filter(|voter| agrees(voter.0 as usize - 1)).count();
        2 * count > voters.len()
    };
    majority(by.voters()) && (by.outgoing().is_empty() || majority(by.outgoing()))
}

impl World {
    /// Asks some node, the leader as a rule, for another role for one to three nodes.
    pub(crate) fn change_members(&mut self, anybody: usize, number: usize, rng: &mut Rng) {
        let at = rng.below(self.plan.groups.len() as u64) as usize;
        let leader = if rng.chance(SURE * 9 / 10) { self.checker.leader(at) } else { None };
        let node = leader.unwrap_or(anybody);
        let mut nodes: Vec<NodeId> = (1..=self.plan.nodes as u64).map(NodeId).collect();
        nodes.retain(|node| !self.existence.is_retired(*node, at));
        rng.shuffle(&mut nodes);
        let mut change = MembershipChange::default();
        // Fewer voters could be too few without those who are lost.
        let lost = self.lost_members(at);
        if !lost.is_empty() {
            change.removed = lost;
            return self.change(at, node, number as u64, change);
        }
        for _ in 0..rng.between(1, 3).min(nodes.len() as u64) {
            let list = match rng.below(6) {
                0..=2 => &mut change.voters,
                3 => &mut change.learners,
                _ => &mut change.removed,
            };
            list.extend(nodes.pop());
        }
        change.exactly = !change.voters.is_empty() && rng.chance(SURE / 6);
        self.change(at, node, number as u64, change);
    }

    /// Asks a node for a change.
    pub(crate) fn change(&mut self, at: usize, node: usize, name: u64, change: MembershipChange) {
        let group = self.plan.groups[at];
        self.trace.line(|| format!("node {} group {group} is asked for {change:?}", node + 1));
        let seat = self.plan.seats.of_group(group, node);
        change.voters.iter().for_each(|voter| self.mishap_of(*voter));
        if self.seats[seat].process.is_some() {
            self.changes.push(Pending { name, at, change: change.clone(), node });
            self.feed(seat, Input::ChangeMembers { name, group, change });
        }
    }

    /// Whether a change that a shard was asked for is done as soon as the last entry about it is
    /// committed.
    pub(crate) fn ends_a_change(&self, seat: usize) -> bool {
        let Some(process) = &self.seats[seat].process else { return false };
        self.changes.iter().any(|pending| {
            let group = self.plan.groups[pending.at];
            let raft = process.shard.raft(group).filter(|raft| raft.is_leader());
            pending.node == self.plan.seats.node(seat)
                && raft.is_some_and(|raft| {
                    let (at, latest) = raft.configuration_at(LogIndex(u64::MAX));
                    !latest.is_joint() && at > raft.commit_index()
                })
        })
    }

    /// Whether somebody waits for a change of the group.
    pub(crate) fn is_changing(&self, at: usize) -> bool {
        self.changes.iter().any(|pending| pending.at == at)
    }

    /// Nobody hears of what was asked of a process that has ended.
    pub(crate) fn forget_changes(&mut self, node: usize) {
        self.changes.retain(|pending| pending.node != node);
    }

    pub(crate) fn change_answered(
        &mut self,
        seat: usize,
        name: u64,
        answer: &Result<LogIndex, MembershipError>,
    ) {
        let place = self.plan.seats.name(seat);
        self.trace.line(|| format!("node {place} answers change {name}: {answer:?}"));
        self.trace.step("changed", seat as u64, name, u64::from(answer.is_ok()));
        let pending = self.changes.iter().position(|pending| pending.name == name);
        let Pending { at, change, .. } =
            self.changes.remove(pending.expect("a change is answered once"));
        let silent = self.seats[seat].process.as_ref().is_some_and(|process| process.silent);
        assert!(!silent || answer.is_err(), "an answer of success from a shard that has ended");
        self.counts.add(
            match answer {
                Ok(_) => "members changed",
                Err(MembershipError::Unknown(_)) => "changes of unknown outcome",
                Err(MembershipError::TooSlow(_)) => "changes given up",
                Err(_) => "changes refused",
            },
            1,
        );
        if let Ok(index) = answer {
            self.checker.change_answered(at, *index, &change);
        }
    }

    /// What a group's machine on a node was told of its members.
    pub(crate) fn told_members(
        &mut self,
        seat: usize,
        group: GroupId,
        told: &[(LogIndex, Configuration)],
    ) {
        let node = self.plan.seats.node(seat);
        for (index, configuration) in told {
            self.trace.step("members", seat as u64, index.0, group.0);
            self.checker.told_members(group, node, *index, configuration);
        }
    }
}
