//! The follower: takes entries from its leader and vouches for what is durable.

use ringleader_wal::{Block, BlockKind, LogIndex, LogPosition, NodeId};

use super::configurations::configuration_of;
use super::message::{AppendOutcome, Message, SnapshotId};
use super::output::{Outlet, SnapshotEvent};
use super::state::State;

/// Nobody gets there by counting, and a forged one must not leave the log without a next one.
const INDEX_LIMIT: LogIndex = LogIndex(u64::MAX / 2);

#[derive(Clone, Debug, Default)]
pub(super) struct Follower {
    /// The leader of the current term, once it was heard.
    pub(super) leader: Option<NodeId>,
    /// The leader waits for an answer that is not durable yet.
    owes_answer: bool,
    pub(super) rests: bool,
}

impl Follower {
    pub(super) fn of(leader: Option<NodeId>) -> Self {
        Self { leader, ..Self::default() }
    }

    /// Whether the leader is known and this member does not rest.
    #[inline]
    pub(super) fn takes_from(&self, leader: NodeId) -> bool {
        self.leader == Some(leader) && !self.rests
    }

    pub(super) fn heartbeat(
        &mut self,
        state: &mut State,
        from: NodeId,
        commit: LogIndex,
        round: u64,
        out: &mut dyn Outlet,
    ) {
        state.heard_leader();
        commit_to(state, commit);
        // One who led may still hold what its peers lacked then.
        state.release(LogIndex(u64::MAX));
        state.send(from, Message::HeartbeatResponse { term: state.term(), round }, out);
    }

    pub(super) fn append_request(
        &mut self,
        state: &mut State,
        prev: LogPosition,
        commit: LogIndex,
        blocks: impl IntoIterator<Item = Block> + AsRef<[Block]>,
        out: &mut dyn Outlet,
    ) {
        let Some(last) = well_formed(state, prev, blocks.as_ref()) else {
            state.ignored += 1;
            return;
        };
        state.heard_leader();
        if !state.agrees(prev) {
            self.refuse(state, prev, out);
            return;
        }
        if !blocks.into_iter().all(|block| store(state, block, out)) {
            state.contradicted();
            return;
        }
        state.verified = state.verified.max(last);
        commit_to(state, commit);
        self.vouch(state, out);
    }

    /// A piece of a snapshot came. Where the log holds the last entry that it covers, it holds all of
    /// them (thesis, figure 3.2): then there is nothing to install, and that is the answer.
    pub(super) fn snapshot_piece(
        &mut self,
        state: &mut State,
        from: NodeId,
        (id, last): (SnapshotId, bool),
        piece: Block,
        out: &mut dyn Outlet,
    ) {
        state.heard_leader();
        let at = id.at;
        if state.agrees(at) {
            state.verified = state.verified.max(at.index);
            state.commit_to(at.index);
            self.vouch(state, out);
        } else if at.term > state.term() || at.index > INDEX_LIMIT {
            state.ignored += 1;
        } else if at.index <= state.commit_index {
            // What is committed is what every leader has.
            state.contradicted();
        } else {
            out.snapshot(SnapshotEvent::Arrived { from, id, last, piece });
        }
    }

    /// Answers as soon as what is verified is durable.
    pub(super) fn vouch(&mut self, state: &State, out: &mut dyn Outlet) {
        self.owes_answer = true;
        if state.hard_state_is_durable() && state.verified <= state.log.durable() {
            self.answer(state, out);
        }
    }

    /// One answer for all requests that became durable together.
    pub(super) fn on_durable(&mut self, state: &State, out: &mut dyn Outlet) {
        if self.owes_answer && state.hard_state_is_durable() {
            self.answer(state, out);
        }
    }

    fn answer(&mut self, state: &State, out: &mut dyn Outlet) {
        let Some(leader) = self.leader else { return };
        let match_index = state.verified.min(state.log.durable());
        self.owes_answer = match_index < state.verified;
        let outcome = AppendOutcome::Matched { match_index };
        out.send(leader, Message::AppendResponse { term: state.term(), outcome });
    }

    fn refuse(&self, state: &mut State, prev: LogPosition, out: &mut dyn Outlet) {
        let base = state.log.base();
        let hint = if prev.index < base.index {
            // Of another era, where nothing can be compared: the log's beginning can.
            base
        } else if prev.index <= state.commit_index.max(state.verified) {
            // Every leader has the committed entries, and this one has what it sent before.
            state.contradicted();
            return;
        } else {
            state.log.last_at_most(prev.index, prev.term)
        };
        let Some(leader) = self.leader else { return };
        let outcome = AppendOutcome::Conflict { prev_index: prev.index, hint };
        state.send(leader, Message::AppendResponse { term: state.term(), outcome }, out);
    }
}

/// Appends what the log does not hold yet of a block. Only an entry that contradicts the leader's makes
/// the log shorter, never a request that happens to end earlier: it may be an old one, overtaken
/// by those that brought the rest. False if the block contradicts what can't be wrong.
#[inline(always)]
fn store(state: &mut State, block: Block, out: &mut dyn Outlet) -> bool {
    // The steady path: what follows the last entry is new as a whole.
    if block.first_index() == state.log.last_index().next() {
        state.append_any(block, out);
        return true;
    }
    let known = state.log.agreed_through(&block);
    if known == block.last_index() {
        return true;
    }
    let from = known.next();
    if from <= state.log.last_index() {
        if from <= state.commit_index.max(state.verified) {
            return false;
        }
        state.truncate(from, out);
    }
    state.append_any(block.slice(from, block.last_index()), out);
    true
}

/// What the leader committed is committed here as far as the log is known to be the leader's:
/// further entries may be left from an earlier term.
fn commit_to(state: &mut State, commit: LogIndex) {
    state.commit_to(commit.min(state.verified));
}

/// The last index of the request, if its blocks are entries of this group that follow `prev` and
/// each other, in terms that a leader of the current term can have.
#[inline(always)]
fn well_formed(state: &State, prev: LogPosition, blocks: &[Block]) -> Option<LogIndex> {
    let mut last = prev;
    for block in blocks {
        let readable = block.kind() != BlockKind::Configuration
            || configuration_of(block).is_some_and(|read| read.is_ok());
        let follows = block.group() == state.group
            && block.first_index().prev() == last.index
            && block.term() >= last.term
            && block.term() <= state.term()
            && readable;
        if !follows {
            return None;
        }
        last = block.last_position();
    }
    Some(last.index)
}
