//! What disks hold, compared with what their nodes said: the part of the checker that believes no
//! node, only what recovery finds after a power failure.

use ringleader::raft::Status;
use ringleader::{LogIndex, LogPosition};

use super::{Checker, Member, Promise};
use crate::atlas::Found;
use crate::history::History;

impl Promise {
    /// Of a node that founded a group from a state which stands there.
    pub(super) fn founded(at: LogPosition) -> Self {
        let (durable, last, latest) = (at.index, at, (at.term, None));
        Self { durable, last, latest, snapshot: at.index, ..Self::default() }
    }

    /// Whether what was called durable ends with entries that can't be committed any more, because
    /// others are that stand in their place: a snapshot that is shorter than the log takes its place.
    pub(super) fn is_contradicted(
        &self,
        history: &History,
        last: LogPosition,
        applied: LogIndex,
    ) -> bool {
        let term = history.term_at(last, applied);
        self.last.index >= applied && history.term_at(self.last, applied) != term
    }
}

impl Checker {
    /// Whether nobody else has what a group began with.
    pub(crate) fn is_only_copy(&self, at: usize, node: usize) -> bool {
        self.histories[at].only_copy().is_some_and(|founder| founder.0 as usize == node + 1)
    }

    /// A member's replica is to be destroyed, whatever comes of that.
    pub(crate) fn doom(&mut self, node: usize, at: usize) {
        self.members[at][node].doomed = true;
    }

    /// What a node starts a group with after a power failure: everything that it promised. A
    /// majority of disks is compared by [`Self::check_copies`].
    pub(crate) fn audit(&mut self, at: usize, node: usize, found: &Found) {
        let group = self.groups[at];
        let (member, history) = (&mut self.members[at][node], &self.histories[at]);
        let promise = &member.promise;
        let who = || format!("group {group} node {}: {found:?}, {promise:?}", node + 1);
        let Status { term, voted_for, last, applied, .. } = found.status;
        assert!(term >= promise.term, "a term that was shown is not durable: {}", who());
        if let Some((_, candidate)) = promise.vote.filter(|vote| vote.0 == term) {
            assert_eq!(voted_for, Some(candidate), "a vote is not durable: {}", who());
        }
        assert!(applied >= promise.snapshot, "a snapshot is not durable: {}", who());
        if let Some(image) = &found.image {
            history.check_image(image, group);
        }
        history.check_position(last);
        let durable = LogPosition {
            index: promise.durable,
            term: history.term_at(promise.last, promise.durable),
        };
        let kept = applied >= durable.index
            || history.holds(last, durable)
            || promise.is_contradicted(history, last, applied);
        assert!(kept, "what is called durable is not: {}", who());
        member.on_disk = last;
        self.check_found_configuration(at, found);
    }

    /// Every committed entry is on a majority of the disks as they were last audited, or on one
    /// that was damaged or given up since.
    pub(crate) fn check_copies(&self, damaged: &[bool]) {
        for (at, history) in self.histories.iter().enumerate() {
            let Some(committed) = history.last_committed() else { continue };
            let members = self.members[at].iter().zip(damaged);
            let holds = |(member, damaged): (&Member, &bool)| {
                let gone = *damaged || member.doomed && member.made_durable(history, committed);
                gone || history.holds(member.on_disk, committed)
            };
            let copies: Vec<bool> = members.map(holds).collect();
            if let Some(founder) = history.only_copy() {
                assert!(copies[founder.0 as usize - 1], "founding: {committed:?} is not durable");
                continue;
            }
            assert!(
                Self::has_quorum(history, committed, |node| copies[node]),
                "commit on a durable quorum: {committed:?} of group {} is on disks {copies:?} of {:?}",
                self.groups[at],
                history.in_force(committed)
            );
        }
    }
}
