//! What makes up the steady state: entries for a follower, and what it says of them to its leader.
//! They change neither term nor office, so they go without the checks for that and leave nothing to
//! be done after them; and those who read them off the wire pass them in without a [`Message`]
//! around them, which has room for far more and would be moved about for nothing.

use ringleader_wal::{LogIndex, LogPosition, NodeId, Term};

use super::leader::{Leader, replicate};
use super::message::{AppendBlock, AppendOutcome, Message};
use super::output::{Outlet, SnapshotEvent};
use super::state::State;
use super::{Raft, Role};
use crate::time::Time;

impl Raft {
    /// [`Raft::step`] for a [`Message::AppendRequest`] of one block.
    pub fn step_append(
        &mut self,
        now: Time,
        from: NodeId,
        request: AppendBlock,
        out: &mut dyn Outlet,
    ) {
        self.advance_clock(now);
        let term = self.state.term();
        match &mut self.role {
            Role::Follower(follower) if request.term == term && follower.takes_from(from) => {
                let AppendBlock { prev, commit, block, .. } = request;
                follower.append_request(&mut self.state, prev, commit, [block], out);
            }
            _ => self.step_any(from, request.into(), out),
        }
    }

    /// [`Raft::step`] for a [`Message::AppendResponse`] that says [`AppendOutcome::Matched`].
    pub fn step_matched(
        &mut self,
        now: Time,
        from: NodeId,
        term: Term,
        match_index: LogIndex,
        out: &mut dyn Outlet,
    ) {
        self.advance_clock(now);
        match &mut self.role {
            Role::Leader(leader) if term == self.state.term() => {
                leader.matched(&mut self.state, from, match_index, out);
                if leader.has_change_to_pursue(&self.state) {
                    self.pursue_change_and_finish(out);
                }
            }
            _ => {
                let outcome = AppendOutcome::Matched { match_index };
                self.step_any(from, Message::AppendResponse { term, outcome }, out);
            }
        }
    }

    /// Handles a message of the leader that this node follows, or an answer to this leader; gives
    /// any other back.
    pub(super) fn replication(
        &mut self,
        from: NodeId,
        message: Message,
        out: &mut dyn Outlet,
    ) -> Result<(), Message> {
        let term = self.state.term();
        let state = &mut self.state;
        match (&mut self.role, message) {
            (
                Role::Follower(follower),
                Message::AppendRequest { term: of, prev, commit, blocks },
            ) if of == term && follower.takes_from(from) => {
                follower.append_request(state, prev, commit, blocks, out);
            }
            (Role::Leader(leader), Message::AppendResponse { term: of, outcome }) if of == term => {
                leader.append_response(state, from, outcome, out);
                if leader.has_change_to_pursue(state) {
                    self.pursue_change_and_finish(out);
                }
            }
            (_, message) => return Err(message),
        }
        Ok(())
    }
}

impl Leader {
    pub(super) fn append_response(
        &mut self,
        state: &mut State,
        from: NodeId,
        outcome: AppendOutcome,
        out: &mut dyn Outlet,
    ) {
        match outcome {
            AppendOutcome::Matched { match_index } => self.matched(state, from, match_index, out),
            AppendOutcome::Conflict { prev_index, hint } => {
                self.conflicting(state, from, prev_index, hint, out);
            }
        }
    }

    /// A peer's log is like this one up to `match_index`, durably.
    #[inline]
    pub(super) fn matched(
        &mut self,
        state: &mut State,
        from: NodeId,
        match_index: LogIndex,
        out: &mut dyn Outlet,
    ) {
        // Who has just been removed may still answer.
        let Some(at) = self.peers.iter().position(|peer| peer.id == from) else { return };
        let peer = &mut self.peers[at];
        peer.heard_at = state.now;
        if match_index > state.log.last_index() {
            state.ignored += 1;
        } else if peer.matched(match_index) {
            // What it is sent now is to carry what this answer commits.
            self.advance_commit(state, match_index);
            self.release(state);
            replicate(&mut self.peers[at], self.term_start, state, out);
            self.pursue_transfer(state, out);
        }
    }

    /// A peer's log has no entry like this log's at `prev_index`.
    fn conflicting(
        &mut self,
        state: &State,
        from: NodeId,
        prev_index: LogIndex,
        hint: LogPosition,
        out: &mut dyn Outlet,
    ) {
        let term_start = self.term_start;
        let Some(peer) = self.peer(from) else { return };
        peer.heard_at = state.now;
        if hint.index > prev_index {
            // Its log begins there. What this one does not hold of that is not to be had from it.
            let agrees = state.log.term_at(hint.index) == Some(hint.term);
            if agrees && peer.is_probed_at(prev_index) {
                peer.probe(hint.index.next(), false);
                replicate(peer, term_start, state, out);
            }
        } else if peer.is_current_conflict(prev_index) {
            // Both logs skip whole terms: the follower to an entry that isn't newer than
            // what it was asked for, the leader to one that isn't newer than that.
            let before = hint.index.min(prev_index.prev());
            let agreed = state.log.last_at_most(before, hint.term);
            if agreed.index < prev_index {
                peer.probe(agreed.index.next(), false);
                replicate(peer, term_start, state, out);
            } else {
                // There is no place left to ask for.
                peer.wait_for_snapshot(prev_index.next());
                out.snapshot(SnapshotEvent::Send { peer: from });
            }
        }
    }
}
