//! Which configuration is in force where, by the logs alone: the part of the checker that knows the
//! members of a group, and asks no node who decides.

use ringleader::raft::era::Era;
use ringleader::raft::{Configuration, MembershipChange, Raft, Status};
use ringleader::{GroupId, LogIndex, LogPosition};

use super::Checker;
use crate::atlas::Found;
use crate::history::History;
use crate::members::is_quorum;

impl Checker {
    /// A node's configuration in force is the last one in its log (thesis, section 4.1), or the
    /// founders'; nobody but the leader of a term adds one to it.
    pub(super) fn check_configuration(
        &mut self,
        at: usize,
        node: usize,
        raft: &Raft,
        status: &Status,
    ) {
        let (index, configuration) = raft.configuration_at(LogIndex(u64::MAX));
        let history = &mut self.histories[at];
        if !is_in_force(history, status.last, configuration) {
            let position = LogPosition { index, term: history.term_at(status.last, index) };
            let (before, earlier) = history.in_force(status.last);
            let earlier = earlier.clone();
            let appended = history.leader_of(position.term) == Some(status.node);
            assert!(
                appended && index > before.index,
                "configuration in force: group {} node {} has {configuration:?}, {status:?}",
                self.groups[at],
                node + 1
            );
            // With one server at a time, two leaders of which neither had would part the group
            // (Ongaro, raft-dev, "bug in single-server membership changes", 2015). Who resets a
            // group leads nobody.
            assert!(
                history.term_at(status.last, status.commit) == position.term
                    || position.term == Era::of(position.term).first_term(),
                "configuration in force: group {} node {} changes the members before it has \
                 committed anything, {status:?}",
                self.groups[at],
                node + 1
            );
            let mut known = earlier.identities();
            assert!(
                known.all(|(id, data)| {
                    !configuration.contains(id) || configuration.data(id) == Some(data)
                }),
                "identity: {configuration:?} forgets what {earlier:?} says of a member's data"
            );
            history.learn_configuration(position, configuration);
        }
    }

    /// What a node starts with, of its log and its snapshot, says who the members are.
    pub(super) fn check_found_configuration(&self, at: usize, found: &Found) {
        let history = &self.histories[at];
        assert!(
            is_in_force(history, found.status.last, &found.configuration),
            "configuration on disk: {found:?}, and it is {:?}",
            history.in_force(found.status.last)
        );
    }

    /// Whether the entry is committed by what `agrees` says of each node: in the configuration in
    /// force at the entry, or in one that follows it. (With the final entry of a change in the
    /// leader's log, the new voters alone decide, also of what stands before it.)
    pub(super) fn has_quorum(
        history: &History,
        entry: LogPosition,
        agrees: impl Fn(usize) -> bool,
    ) -> bool {
        let (_, in_force) = history.in_force(entry);
        let mut later = history.configurations_after(entry.index);
        is_quorum(in_force, &agrees) || later.any(|by| is_quorum(by, &agrees))
    }

    /// Whether those who agree decide together in a log that ends with `last`.
    pub(crate) fn is_quorum_at(
        &self,
        at: usize,
        last: LogPosition,
        agrees: impl Fn(usize) -> bool,
    ) -> bool {
        is_quorum(self.histories[at].in_force(last).1, agrees)
    }

    /// Whether a node said that it has an entry on its disk; one that was wiped since had it.
    pub(crate) fn has_on_disk(&self, at: usize, node: usize, entry: LogPosition) -> bool {
        self.members[at][node].made_durable(&self.histories[at], entry)
    }

    /// The nodes that have a vote by what is committed.
    pub(crate) fn voters(&self, at: usize) -> Vec<usize> {
        let history = &self.histories[at];
        let (_, by) = history.in_force(history.last_committed().unwrap_or_default());
        by.voters().iter().map(|node| node.0 as usize - 1).collect()
    }

    /// The members by what is committed, learners included.
    pub(crate) fn members_of(&self, at: usize) -> Vec<usize> {
        let history = &self.histories[at];
        let (_, by) = history.in_force(history.last_committed().unwrap_or_default());
        by.members().map(|node| node.0 as usize - 1).collect()
    }

    /// A change was answered with success.
    pub(crate) fn change_answered(&self, at: usize, index: LogIndex, change: &MembershipChange) {
        let history = &self.histories[at];
        let last = history.last_committed().unwrap_or_default();
        assert!(index <= last.index, "members changed: entry {index} is not committed");
        let position = LogPosition { index, term: history.term_at(last, index) };
        let (_, configuration) = history.in_force(position);
        let done = !configuration.is_joint()
            && change.voters.iter().all(|node| configuration.voters().contains(node))
            && change.learners.iter().all(|node| configuration.learners().contains(node))
            && !change.removed.iter().any(|node| configuration.contains(*node))
            && (!change.exactly
                || configuration.members().count() == change.voters.len() + change.learners.len());
        assert!(done, "members changed: {change:?} led to {configuration:?} at {index}");
    }

    /// A state machine was told of a committed configuration: of each, and in order.
    pub(crate) fn told_members(
        &mut self,
        group: GroupId,
        node: usize,
        index: LogIndex,
        configuration: &Configuration,
    ) {
        let at = self.at(group);
        let history = &self.histories[at];
        let member = &mut self.members[at][node];
        // What it knows committed may be of an era that has ended.
        let Status { last, commit, .. } = member.view.expect("only a running member tells").status;
        let last = LogPosition { index: commit, term: history.term_at(last, commit) };
        let mut expected = history.configurations_in(last);
        let expected = match member.told {
            Some(told) => expected.find(|(at, _)| at.index > told),
            None => expected.find(|(at, _)| at.index == index),
        };
        let expected = expected.expect("a committed configuration");
        assert_eq!(
            (expected.0.index, expected.1),
            (index, configuration),
            "state machine told of the members: group {group} node {}",
            node + 1
        );
        member.told = Some(index);
    }
}

/// Whether the log that ends at `last` says so. Where it says nothing, a node has the founders'
/// configuration if it is one of them and none if it was added: that is the one a snapshot tells,
/// too, that it made before it had any.
fn is_in_force(history: &History, last: LogPosition, configuration: &Configuration) -> bool {
    let (place, expected) = history.in_force(last);
    configuration == expected || (place.index == LogIndex(0) && configuration.is_empty())
}
