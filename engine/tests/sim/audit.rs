//! What disks hold, compared with what their nodes said: the part of the checker that believes no
//! node, only what recovery finds after a power failure.

use ringleader::{LogIndex, LogPosition};
use ringleader_wal::{HardState, RecoveredGroup};

use super::{Checker, Member};

impl Checker {
    /// What a node's disk holds of a group after a power failure: everything that it promised. A
    /// majority of disks is compared by [`Self::check_copies`].
    pub(crate) fn audit(&mut self, at: usize, node: usize, found: Option<&RecoveredGroup>) {
        let none = RecoveredGroup {
            group: self.groups[at],
            hard_state: HardState::default(),
            base: LogPosition::default(),
            last_index: LogIndex(0),
            terms: Vec::new(),
            configurations: Vec::new(),
        };
        let found = found.unwrap_or(&none);
        let (member, history) = (&mut self.members[at][node], &self.histories[at]);
        let promise = &member.promise;
        let who = || format!("group {} node {}: {found:?}, {promise:?}", found.group, node + 1);
        let HardState { term, voted_for } = found.hard_state;
        assert!(term >= promise.term, "a term that was shown is not durable: {}", who());
        if let Some((_, candidate)) = promise.vote.filter(|vote| vote.0 == term) {
            assert_eq!(voted_for, Some(candidate), "a vote is not durable: {}", who());
        }
        let last = LogPosition {
            index: found.last_index,
            term: found.terms.last().map_or(found.base.term, |run| run.term),
        };
        history.check_position(last);
        let durable = LogPosition {
            index: promise.durable,
            term: history.term_at(promise.last, promise.durable),
        };
        assert!(history.holds(last, durable), "what is called durable is not: {}", who());
        member.on_disk = last;
    }

    /// Every committed entry is on a majority of the disks as they were last audited, or on one
    /// that was damaged since.
    pub(crate) fn check_copies(&self, damaged: &[bool]) {
        for (at, history) in self.histories.iter().enumerate() {
            let Some(committed) = history.last_committed() else { continue };
            let members = self.members[at].iter().zip(damaged);
            let holds = |(member, damaged): &(&Member, &bool)| {
                **damaged || history.holds(member.on_disk, committed)
            };
            let copies = members.filter(holds).count();
            assert!(
                copies > self.nodes / 2,
                "commit on a durable quorum: {committed:?} of group {} is on {copies} disks of {}",
                self.groups[at],
                self.nodes
            );
        }
    }
}
