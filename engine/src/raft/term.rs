//! What a message's term says about the sender and about this node (thesis, sections 3.3 and 3.4).

use ringleader_wal::{LogPosition, NodeId, Term};

use super::message::{AppendOutcome, Message};
use super::output::Outlet;
use super::{Raft, Role};

impl Raft {
    /// Compares the message's term with the current one (thesis, figure 3.1, "rules for servers")
    /// and takes the role that it calls for. False if the message has no further effect.
    pub(super) fn settle_term(
        &mut self,
        from: NodeId,
        message: &Message,
        out: &mut dyn Outlet,
    ) -> bool {
        let (term, current) = (message.term(), self.state.term());
        match message {
            Message::PreVoteRequest { .. } => true,
            // The term of a granted pre-vote is the one that was asked for: it names the round.
            Message::PreVoteResponse { granted: true, .. } => term == current.next(),
            Message::VoteRequest { handover, .. } if term > current => {
                if !handover && self.protects_leader() {
                    return false;
                }
                self.become_follower(term, None);
                true
            }
            // A term that was learned of from somebody else ends no promise to an earlier leader.
            Message::VoteRequest { handover: false, .. } if term == current && self.is_bound() => {
                false
            }
            Message::VoteRequest { .. } => true,
            Message::AppendRequest { .. }
            | Message::Heartbeat { .. }
            | Message::Rest { .. }
            | Message::SnapshotPiece { .. }
                if term < current =>
            {
                self.refuse_deposed(from, message, out);
                false
            }
            Message::AppendRequest { .. }
            | Message::Heartbeat { .. }
            | Message::Rest { .. }
            | Message::SnapshotPiece { .. } => self.recognise_leader(from, term),
            Message::PreVoteResponse { granted: false, .. } if term <= current => true,
            _ if term > current => {
                self.become_follower(term, None);
                false
            }
            _ => term == current,
        }
    }

    /// Whether this node could vote in its term, but for what it owes the leader of an earlier one.
    fn is_bound(&self) -> bool {
        self.state.hard_state().voted_for.is_none()
            && self.leader().is_none()
            && self.state.follows_live_leader()
    }

    /// Shows a leader of an earlier term the current one. It steps down, and there can be a leader
    /// that this node may follow; otherwise a node whose term is ahead of a working group's could
    /// never come back, for its votes are not asked and its requests are refused.
    fn refuse_deposed(&self, from: NodeId, message: &Message, out: &mut dyn Outlet) {
        let term = self.state.term();
        let answer = match message {
            Message::AppendRequest { prev, .. } => Message::AppendResponse {
                term,
                outcome: AppendOutcome::Conflict {
                    prev_index: prev.index,
                    hint: LogPosition::default(),
                },
            },
            _ => Message::HeartbeatResponse { term, round: 0 },
        };
        self.state.send(from, answer, out);
    }

    /// Whether `from` is, by now, the leader of `term` for this node.
    fn recognise_leader(&mut self, from: NodeId, term: Term) -> bool {
        if term == self.state.term() {
            match &mut self.role {
                Role::Follower(follower) if follower.leader.is_none() => {
                    follower.leader = Some(from);
                    self.state.found_leader();
                    return true;
                }
                Role::Follower(follower) if follower.leader == Some(from) => return true,
                // Two leaders in one term: there is nothing right to do.
                Role::Follower(_) | Role::Leader(_) => {
                    self.state.ignored += 1;
                    return false;
                }
                Role::PreCandidate(_) | Role::Candidate(_) => {}
            }
        }
        self.become_follower(term, Some(from));
        true
    }
}
