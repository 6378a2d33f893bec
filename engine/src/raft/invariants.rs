//! What holds after every call, for tests and the simulator.

use ringleader_wal::{LogIndex, NodeId, Term};

use super::status::RoleName;
use super::{Raft, Role};
use crate::time::Time;

/// What [`check_step`] compares with an earlier state of the same member. A crash starts a new
/// comparison.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    term: Term,
    voted_for: Option<NodeId>,
    leads: bool,
    leader: Option<NodeId>,
    commit: LogIndex,
    applied: LogIndex,
    last: LogIndex,
    /// To whom the office is handed over, and until when that is tried: what tells two attempts apart.
    transfer: Option<(NodeId, Time)>,
}

impl Summary {
    /// What is remembered of `raft`.
    #[must_use]
    pub fn of(raft: &Raft) -> Self {
        let status = raft.status();
        Self {
            term: status.term,
            voted_for: status.voted_for,
            leads: status.role == RoleName::Leader,
            leader: status.leader,
            commit: status.commit,
            applied: status.applied,
            last: status.last.index,
            transfer: raft.transfer_attempt(),
        }
    }
}

/// Checks one member's state in itself.
///
/// # Panics
/// When an invariant does not hold; the message says which.
pub fn check(raft: &Raft) {
    let state = &raft.state;
    state.log.check();
    assert!(state.log.base().index <= state.last_applied, "what is not in the log is applied");
    assert!(state.last_applied <= state.commit_index, "only committed entries are applied");
    assert!(state.commit_index <= state.log.last_index(), "only entries can be committed");
    assert!(state.log.last().term <= state.term(), "no entry is ahead of the current term");
    assert!(state.verified <= state.log.last_index(), "verified entries stay");
    if raft.rests() {
        let last = state.log.last_index();
        let settled = state.commit_index == last
            && state.log.durable() == last
            && state.hard_state_is_durable()
            && raft.transfers_to().is_none();
        assert!(settled && raft.leader().is_some(), "who rests has everything, and a leader");
    }
    let configurations = &state.configurations;
    assert!(configurations.latest_at() <= state.log.last_index(), "what is in force is in the log");
    match &raft.role {
        Role::Follower(_) | Role::PreCandidate(_) => {}
        Role::Candidate(_) => {
            assert_eq!(state.hard_state().voted_for, Some(state.node), "candidates vote for them");
        }
        Role::Leader(leader) => {
            assert_eq!(state.hard_state().voted_for, Some(state.node), "a leader has its own vote");
            assert!(state.hard_state_is_durable(), "a leader's vote was durable before it asked");
            let begins_later = leader.term_start < state.log.base().index;
            let term = state.log.term_at(leader.term_start);
            assert!(
                begins_later || term == Some(state.term()),
                "a leader's own entries are its own"
            );
            assert!(leader.term_start.prev() <= state.log.last_index());
            let members = configurations.latest().members().filter(|node| *node != state.node);
            let members: Vec<_> = members.collect();
            let peers = leader.peers.iter().map(|peer| peer.id);
            assert!(
                peers.take(members.len()).eq(members),
                "a leader knows its members, voters first"
            );
            leader.peers.iter().for_each(|peer| peer.check(state.log.last_index()));
            leader.reads.iter().for_each(|reads| reads.check());
        }
    }
}

/// Checks that nothing went back that only moves forward.
///
/// # Panics
/// When something did; the message says what.
pub fn check_step(before: &Summary, raft: &Raft) {
    let now = Summary::of(raft);
    assert!(before.term <= now.term, "the term went back");
    assert!(before.commit <= now.commit, "the commit index went back");
    assert!(before.applied <= now.applied, "last applied went back");
    assert!(before.commit <= now.last, "a committed entry was removed");
    if before.term == now.term {
        assert!(
            before.voted_for.is_none() || before.voted_for == now.voted_for,
            "a vote was changed"
        );
        if let (Some(before), Some(now)) = (before.leader, now.leader) {
            assert_eq!(before, now, "two leaders in one term");
        }
        if before.leads && now.leads {
            assert!(before.last <= now.last, "a leader only appends");
            if before.transfer.is_some() && before.transfer == now.transfer {
                assert_eq!(before.last, now.last, "a leader that hands over appends nothing");
            }
        }
    }
}
