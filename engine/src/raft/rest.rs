//! Groups at rest: a group in which nothing happens costs neither messages nor timers.
//!
//! Whether two nodes can hear each other is a property of their shards, not of the groups that
//! they share. Two connected shards send each other a small frame per `heartbeat_interval`, a
//! *beat*, whatever the number of their groups ([`Outlet::heard`]). So a group whose members have
//! everything stops its own heartbeats:
//!
//! ```text
//! leader                                             followers
//!   nothing new for `rest_after` heartbeats, all
//!   is committed, applied, and on everybody's disk
//!   rests           Rest: term, last entry --------> has just that, committed: rests
//!                                                    else: <---------------- Wake
//! ```
//!
//! Who rests has no deadline. **A follower rests on a connection, and the leader owes it a message
//! on that connection as soon as it rests no more itself.** A connection keeps the order and loses
//! nothing until it breaks, so a follower that rests has a leader that rests in the same term, or a
//! message is under way to it, or the connection is over. Nothing needs to be asked or answered:
//! what a heartbeat would say, beat and connection say.
//!
//! - *Waking*: whatever happens in a group wakes it, but for late answers to what the leader sent
//!   before it rested. A leader that wakes sends heartbeats at once, before it does anything else: it
//!   may be about to step down, and then nobody else would tell the others.
//! - *A follower whose peace is disturbed by others* wakes, refuses them for the sake of a leader
//!   whose beats it hears, and tells the leader, so that the leader's heartbeats come before its own
//!   election timer ends (cockroach #104057: followers that woke alone unseated a leader).
//! - *Connections*: one that breaks, is made anew, or brings nothing for an election timeout wakes
//!   those who rest on it. A leader that was restarted has another connection, however quickly it
//!   came back. The election timer counts from the last beat, with its random part as ever, so that
//!   ten thousand groups that lose their leader together don't campaign together.
//! - *A leader that is destroyed* alone, while its node lives on, wakes first: beats and connection
//!   would go on in the name of one that is not there.
//! - *Not everybody need be there*: a leader rests without peers that can't be reached, if a quorum
//!   can (else one node that is down would keep every group of the others awake). It wakes when
//!   they are back.
//! - *Nothing is promised at rest*: leases come from rounds of heartbeats, of which there are none.
//!   They end, and the first read after a rest takes a round trip. The promise that a follower gave
//!   to a leader grows with the beats that it hears, as it would with heartbeats.
//! - *Late and stale*: a `Rest` of an earlier term is refused like any message of a deposed leader;
//!   one of an earlier connection is dropped with it.

use ringleader_wal::{LogIndex, LogPosition, NodeId};

use super::follower::Follower;
use super::leader::Leader;
use super::message::Message;
use super::output::Outlet;
use super::progress::{Mode, Progress};
use super::state::State;
use super::{Raft, Role};
use crate::time::Time;

/// Since when a leader has had nothing to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quiet {
    /// The log's end at that time.
    last: LogIndex,
    since: Time,
}

impl Quiet {
    pub(super) fn since(now: Time) -> Self {
        Self { last: LogIndex(0), since: now }
    }
}

impl Raft {
    /// Whether this member rests; see the [module documentation](self).
    #[must_use]
    pub fn rests(&self) -> bool {
        match &self.role {
            Role::Follower(follower) => follower.rests,
            Role::Leader(leader) => leader.rests,
            Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Nothing was heard from `peer`'s shard for an election timeout, or something is again.
    pub fn on_peer_silence(&mut self, now: Time, peer: NodeId, out: &mut dyn Outlet) {
        self.advance_clock(now);
        self.wake_for(peer, out);
    }

    /// This replica is about to be destroyed. Its node lives on, and its connections with it: whoever
    /// rests on this leader has to be told, or would rest for ever on one that is not there.
    pub fn before_destruction(&mut self, out: &mut dyn Outlet) {
        if self.is_leader() {
            self.wake(None, out);
        }
    }

    /// Whether `peer` can be reached has changed, or it may not be what it was.
    pub(super) fn wake_for(&mut self, peer: NodeId, out: &mut dyn Outlet) {
        if self.is_leader() || self.leader() == Some(peer) {
            self.wake(None, out);
        }
    }

    /// Ends the rest, because of what `from` said or for another reason.
    pub(super) fn wake(&mut self, from: Option<NodeId>, out: &mut dyn Outlet) {
        match &mut self.role {
            Role::Follower(follower) if follower.rests => {
                follower.wake(&mut self.state, from, out);
            }
            Role::Leader(leader) if leader.rests => leader.wake(&self.state, out),
            _ => {}
        }
    }

    /// Whether a message says what was said before this leader rested.
    pub(super) fn is_late_answer(&self, message: &Message) -> bool {
        let answers =
            matches!(message, Message::HeartbeatResponse { .. } | Message::AppendResponse { .. });
        answers && self.is_leader() && message.term() == self.state.term()
    }

    /// Whether a message is a piece of a snapshot that this member lacked before it rested: pieces
    /// have a connection of their own, and who rests has everything.
    pub(super) fn is_late_piece(&self, message: &Message) -> bool {
        let piece = matches!(message, Message::SnapshotPiece { .. });
        piece && self.rests() && message.term() <= self.state.term()
    }
}

impl Leader {
    /// Something was asked of this leader.
    pub(super) fn is_busy(&mut self, now: Time) {
        self.quiet.since = now;
    }

    /// Rests, if it is time.
    pub(super) fn rest_if_quiet(&mut self, state: &mut State, out: &mut dyn Outlet) {
        let (last, after) = (state.log.last_index(), state.config.rest_after);
        if last != self.quiet.last {
            self.quiet = Quiet { last, since: state.now };
        }
        let waits = state.config.heartbeat_interval * after;
        if after == 0 || state.now.since(self.quiet.since) < waits || !self.may_rest(state, out) {
            return;
        }
        self.rests = true;
        state.log.give_back_room();
        let (term, last) = (state.term(), state.log.last());
        for peer in &self.peers {
            if is_reachable(peer.id, state, out) {
                out.send(peer.id, Message::Rest { term, last });
            }
        }
    }

    /// Whether everybody who can be reached has everything, and nothing is under way.
    fn may_rest(&self, state: &State, out: &dyn Outlet) -> bool {
        let last = state.log.last_index();
        let idle = state.commit_index == last
            && state.last_applied == last
            && state.log.durable() == last
            && state.hard_state_is_durable()
            && self.transfer.is_none()
            && self.change_at == LogIndex(u64::MAX)
            && !self.changes_members(state)
            && self.reads.as_ref().is_none_or(|reads| !reads.wait())
            && !state.leaves_office_to_others();
        let is_there = |peer: &Progress| is_reachable(peer.id, state, out);
        idle && self.peers.iter().all(|peer| !is_there(peer) || has_all(peer, state))
            && state.configurations.latest().reached(|node| {
                let peer = self.peers.iter().find(|peer| peer.id == node);
                peer.is_none_or(is_there)
            }) == Some(true)
    }

    /// What was heard from the peers' shards was heard from them; they are told at once that this
    /// leader rests no more.
    pub(super) fn wake(&mut self, state: &State, out: &mut dyn Outlet) {
        self.rests = false;
        for peer in &mut self.peers {
            peer.heard_at = peer.heard_at.max(out.heard(peer.id).unwrap_or_default());
        }
        self.is_busy(state.now);
        self.heartbeat_at = state.now + state.config.heartbeat_interval;
        self.tell_commit(state, out);
        out.reschedule();
    }
}

/// Whether something was heard from the node lately, if only a beat.
fn is_reachable(node: NodeId, state: &State, out: &dyn Outlet) -> bool {
    out.heard(node).is_some_and(|heard| state.now.since(heard) < state.config.election_timeout)
}

/// Whether a peer has the whole log on its disk, and answered lately.
fn has_all(peer: &Progress, state: &State) -> bool {
    peer.mode == Mode::Replicate
        && peer.match_index == state.log.last_index()
        && peer.inflight().0 == 0
        && state.now.since(peer.heard_at) < state.config.election_timeout
}

impl Follower {
    /// The leader rests, and everything ends at `last`.
    pub(super) fn rest(
        &mut self,
        state: &mut State,
        from: NodeId,
        last: LogPosition,
        out: &mut dyn Outlet,
    ) {
        state.heard_leader();
        let alike = state.log.last() == last && state.verified == last.index;
        if alike {
            state.commit_to(last.index);
        }
        self.rests = alike
            && state.log.durable() == last.index
            && state.hard_state_is_durable()
            && state.configurations.latest().contains(from)
            && out.heard(from).is_some();
        if self.rests {
            state.log.give_back_room();
        } else {
            state.send(from, Message::Wake { term: state.term() }, out);
        }
    }

    fn wake(&mut self, state: &mut State, from: Option<NodeId>, out: &mut dyn Outlet) {
        self.rests = false;
        let Some(leader) = self.leader else { return };
        if let Some(heard) = out.heard(leader) {
            state.heard_leader_before(heard);
        }
        if from != Some(leader) {
            state.send(leader, Message::Wake { term: state.term() }, out);
        }
        out.reschedule();
    }
}
