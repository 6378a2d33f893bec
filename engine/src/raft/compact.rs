//! What a snapshot means for the log (thesis, chapter 5): the entries that it covers can go, and at a
//! start it may be ahead of what the log holds.

use bytes::Bytes;
use ringleader_wal::{LogIndex, LogPosition, NodeId, Term};

use super::configuration::Configuration;
use super::message::{Message, SnapshotId};
use super::output::{LogOp, Outlet};
use super::progress::Mode;
use super::{Raft, Restored, Role};

impl Raft {
    /// The last entry that the state machine took; what a snapshot of it covers.
    #[must_use]
    pub fn applied(&self) -> LogPosition {
        let index = self.state.last_applied;
        self.state.log.position(index).expect("what is applied is in the log, or its base")
    }

    /// The position before the log's first entry.
    #[must_use]
    pub fn base(&self) -> LogPosition {
        self.state.log.base()
    }

    /// Who the members are as of the last applied entry, as a snapshot keeps it.
    #[must_use]
    pub(crate) fn configuration_bytes(&self) -> Bytes {
        self.configuration_at(self.state.last_applied).1.encode().into()
    }

    /// Forgets the entries up to `through`. A durable snapshot covers them, though it may cover more:
    /// what peers that lag will ask for is better kept.
    ///
    /// # Panics
    /// When `through` is not applied.
    pub fn compact(&mut self, through: LogIndex, out: &mut dyn Outlet) {
        let state = &mut self.state;
        assert!(through <= state.last_applied, "what is released is applied");
        if through <= state.log.base().index {
            return;
        }
        let at = state.log.position(through).expect("an applied entry is in the log");
        state.compact(at, out);
        if let Role::Leader(leader) = &mut self.role {
            leader.compacted(&self.state);
        }
    }

    /// Tells the leader how far a snapshot has come.
    pub fn answer_piece(&mut self, to: NodeId, id: SnapshotId, next: u32, out: &mut dyn Outlet) {
        let term = self.state.term();
        if self.leader() == Some(to) {
            self.state.send(to, Message::SnapshotAnswer { term, id, next }, out);
        }
    }

    /// Whether a snapshot that ends at `at` holds what this member lacks. That may end at any time:
    /// a leader may have sent the entries meanwhile.
    #[must_use]
    pub fn lacks(&self, at: LogPosition) -> bool {
        let state = &self.state;
        !self.is_leader() && at.index > state.commit_index && !state.agrees(at)
    }

    /// The state machine was replaced by one that holds everything up to `at`, as a snapshot that is
    /// durable has it, and so is what is known of the members. The log is replaced too: what it
    /// holds is older, or contradicts what is committed.
    ///
    /// # Panics
    /// Unless it [lacks](Self::lacks) that.
    pub fn install(&mut self, at: LogPosition, configuration: Configuration, out: &mut dyn Outlet) {
        assert!(self.lacks(at), "only what is lacking is installed");
        self.state.install(at, configuration, out);
        if let Role::Follower(follower) = &mut self.role {
            follower.vouch(&self.state, out);
        }
    }

    /// How a leader sends to a peer.
    #[must_use]
    pub(crate) fn mode_of(&self, peer: NodeId) -> Option<Mode> {
        self.peers().find(|status| status.id == peer).map(|status| status.mode)
    }
}

impl Restored {
    /// The term of an entry that the log holds, or of its base.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index < self.base.index || index > self.last_index {
            return None;
        }
        let run = self.terms.iter().rev().find(|run| run.index <= index);
        Some(run.map_or(self.base.term, |run| run.term))
    }

    /// Whether the members as of entry `at` are known without any snapshot: the log is whole, or
    /// holds an entry that says so.
    #[must_use]
    pub(crate) fn knows_members(&self, at: Option<LogPosition>) -> bool {
        let told = |told: &LogIndex| at.is_some_and(|at| *told <= at.index);
        self.base.index == LogIndex(0) || self.configurations.iter().any(|(at, _)| told(at))
    }

    /// The state machine was restored from a snapshot that ends at `at`. Where the log does not hold
    /// that entry, it is replaced: the records that make it so are staged, and must be durable
    /// before the member takes part in anything, for the log vouches for the snapshot from then on.
    ///
    /// Of a term that only the snapshot shows this member can't have voted: votes are durable
    /// before they are given.
    #[must_use]
    pub fn adopt(&mut self, at: LogPosition) -> Vec<LogOp> {
        if at.term > self.hard_state.term {
            self.hard_state.term = at.term;
            self.hard_state.voted_for = None;
        }
        self.applied = at.index;
        if let Some((known_at, _)) = self.configuration {
            self.configurations.retain(|(index, _)| *index > known_at);
        }
        if self.term_at(at.index) == Some(at.term) {
            return Vec::new();
        }
        let mut ops = vec![LogOp::HardState(self.hard_state)];
        if self.last_index >= at.index {
            ops.push(LogOp::Truncate(at.index));
        }
        ops.push(LogOp::Release(at));
        (self.base, self.last_index) = (at, at.index);
        self.terms.clear();
        self.configurations.clear();
        ops
    }
}

#[cfg(test)]
mod tests {
    use ringleader_wal::HardState;

    use super::*;

    fn at(index: u64, term: u64) -> LogPosition {
        LogPosition { index: LogIndex(index), term: Term(term) }
    }

    fn restored() -> Restored {
        Restored {
            hard_state: HardState { term: Term(4), voted_for: Some(NodeId(2)) },
            base: at(10, 2),
            applied: LogIndex(10),
            last_index: LogIndex(20),
            terms: vec![at(11, 2), at(15, 4)],
            ..Restored::default()
        }
    }

    #[test]
    fn a_snapshot_that_the_log_holds_leaves_the_log_alone() {
        for (index, term) in [(10, 2), (14, 2), (15, 4), (20, 4)] {
            let mut restored = restored();
            assert_eq!(restored.adopt(at(index, term)), []);
            assert_eq!(restored, Restored { applied: LogIndex(index), ..self::restored() });
        }
    }

    #[test]
    fn a_snapshot_that_the_log_does_not_hold_replaces_it() {
        let mut short = restored();
        let kept = LogOp::HardState(short.hard_state);
        assert_eq!(short.adopt(at(25, 4)), [kept, LogOp::Release(at(25, 4))]);
        assert_eq!((short.base, short.last_index), (at(25, 4), LogIndex(25)));
        let mut other = restored();
        let raised = HardState { term: Term(5), voted_for: None };
        let truncated = LogOp::Truncate(LogIndex(15));
        let ops = [LogOp::HardState(raised), truncated, LogOp::Release(at(15, 5))];
        assert_eq!(other.adopt(at(15, 5)), ops);
        assert_eq!((other.terms.len(), other.applied), (0, LogIndex(15)));
    }
}
