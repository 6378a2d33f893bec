//! The leader: replicates its log and commits what a quorum holds durably.

use std::mem::offset_of;
use std::slice;

use ringleader_wal::{Block, LogIndex, LogPosition, NodeId, prefetch};

use super::change::Change;
use super::message::{AppendRequest, Message, SnapshotId};
use super::output::{Event, Load, Outlet, SnapshotEvent};
use super::progress::{Mode, Progress};
use super::quorum;
use super::reads::Reads;
use super::rest::Quiet;
use super::state::State;
use super::transfer::Transfer;
use crate::time::Time;

/// So many peers are fetched ahead.
const NEAR_PEERS: usize = 2;

/// In this order, because what every event looks at then shares a cache line.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Leader {
    /// All other members, first those who have a vote; then those who are catching up to become
    /// members, and those who are to learn yet that they no longer are.
    pub(super) peers: Box<[Progress]>,
    /// Where this leader's own entries start. Only they are committed by counting, and the earlier
    /// ones with them (thesis, section 3.6.2).
    pub(super) term_start: LogIndex,
    /// If this node and so many of the first peers are all the voters, and a majority of them
    /// decides: how many peers.
    decide_alike: Option<u32>,
    /// When so much is committed, a change of the members goes on; see `change`.
    pub(super) change_at: LogIndex,
    /// This leader is handing its office over.
    pub(super) transfer: Option<Box<Transfer>>,
    /// No heartbeat is due before.
    pub(super) heartbeat_at: Time,
    /// A quorum was heard recently enough until then.
    quorum_until: Time,
    /// The change that waits for new voters to catch up.
    pub(super) change: Option<Box<Change>>,
    /// None until somebody reads.
    pub(super) reads: Option<Box<Reads>>,
    pub(super) quiet: Quiet,
    pub(super) rests: bool,
}

impl Leader {
    /// Takes office: appends the empty entry that lets earlier terms' entries be committed, and
    /// asks every peer where its log agrees.
    pub(super) fn take_office(state: &mut State, out: &mut dyn Outlet) -> Self {
        let at = LogPosition { index: state.log.last_index().next(), term: state.term() };
        state.append(Block::noop(state.group, at), out);
        let mut leader = Self {
            peers: Box::default(),
            term_start: at.index,
            heartbeat_at: state.now + state.config.heartbeat_interval,
            quorum_until: state.now + state.config.election_timeout,
            decide_alike: None,
            // An earlier leader may have left a change half done.
            change_at: at.index,
            change: None,
            transfer: None,
            reads: Reads::at_start(&state.config),
            quiet: Quiet::since(state.now),
            rests: false,
        };
        leader.reconfigure(state);
        leader.replicate_to_all(state, out);
        leader
    }

    /// Follows the configuration in force: new members are looked for where this log ends, and
    /// nobody is forgotten yet.
    pub(super) fn reconfigure(&mut self, state: &State) {
        let configuration = state.configurations.latest();
        let mut old = std::mem::take(&mut self.peers).into_vec();
        let mut peers = Vec::with_capacity(old.len());
        for id in configuration.members().filter(|member| *member != state.node) {
            let known = old.iter().position(|peer| peer.id == id).map(|at| old.remove(at));
            peers.push(known.unwrap_or_else(|| self.new_peer(id, state)));
        }
        peers.append(&mut old);
        self.peers = peers.into();
        let alike = configuration.plain().filter(|_| configuration.has_vote(state.node));
        self.decide_alike = alike.map(|voters| voters as u32 - 1);
    }

    /// Begins to send the log to a node that is not a member.
    pub(super) fn enlist(&mut self, id: NodeId, state: &State) {
        if self.peer(id).is_none() {
            let mut peers = std::mem::take(&mut self.peers).into_vec();
            peers.push(self.new_peer(id, state));
            self.peers = peers.into();
        }
    }

    fn new_peer(&mut self, id: NodeId, state: &State) -> Progress {
        self.heartbeat_at = self.heartbeat_at.min(state.now + state.config.heartbeat_interval);
        Progress::new(id, state.log.last_index(), state.now)
    }

    /// Ends what is sent to those who are not members. What they have already may be committed,
    /// and they may be needed no more: they hear of that, so that they don't campaign.
    pub(super) fn dismiss_strangers(&mut self, state: &State, out: &mut dyn Outlet) {
        let configuration = state.configurations.latest();
        let round = self.round();
        let mut peers = std::mem::take(&mut self.peers).into_vec();
        let before = peers.len();
        peers.retain_mut(|peer| {
            let stays = configuration.contains(peer.id);
            if !stays {
                heartbeat(peer, round, state, out);
            }
            stays
        });
        if peers.len() < before {
            out.event(Event::Reconfigured);
        }
        self.peers = peers.into();
    }

    /// Tells everyone what is committed.
    pub(super) fn tell_commit(&mut self, state: &State, out: &mut dyn Outlet) {
        let round = self.round();
        self.peers.iter_mut().for_each(|peer| heartbeat(peer, round, state, out));
    }

    #[inline]
    pub(super) fn has_change_to_pursue(&self, state: &State) -> bool {
        state.commit_index >= self.change_at
    }

    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch(self, offset_of!(Self, heartbeat_at));
    }

    #[inline]
    pub(super) fn prefetch_peers(&self) {
        prefetch(&*self.peers, NEAR_PEERS * size_of::<Progress>());
    }

    pub(super) fn peer(&mut self, id: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|peer| peer.id == id)
    }

    pub(super) fn replicate_to_all(&mut self, state: &State, out: &mut dyn Outlet) {
        for peer in &mut self.peers {
            replicate(peer, self.term_start, state, out);
        }
    }

    /// The peer lives: whatever it was sent before and did not answer may be lost.
    pub(super) fn heartbeat_response(
        &mut self,
        state: &mut State,
        from: NodeId,
        round: u64,
        out: &mut dyn Outlet,
    ) {
        let term_start = self.term_start;
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == from) else { return };
        peer.heard_at = state.now;
        if let Some(reads) = &mut self.reads
            && !reads.acknowledged(state, from, round, out)
        {
            return;
        }
        match peer.mode {
            Mode::Probe => peer.paused = false,
            Mode::Replicate if peer.next_index > peer.match_index.next() => {
                // The refusal or the repeated answer tells what arrived.
                let prev_index = peer.next_index.prev();
                send_append(peer, prev_index, &[], state, out);
            }
            Mode::Replicate => {}
            Mode::Snapshot => out.snapshot(SnapshotEvent::Send { peer: from }),
        }
        replicate(peer, term_start, state, out);
        self.remind_target(state, from, out);
    }

    /// A peer answered a piece of a snapshot.
    pub(super) fn snapshot_answer(
        &mut self,
        state: &State,
        from: NodeId,
        id: SnapshotId,
        next: u32,
        out: &mut dyn Outlet,
    ) {
        let Some(peer) = self.peer(from) else { return };
        peer.heard_at = state.now;
        if peer.mode == Mode::Snapshot {
            out.snapshot(SnapshotEvent::Answered { peer: from, id, next });
        }
    }

    pub(super) fn peer_up(&mut self, state: &State, id: NodeId, out: &mut dyn Outlet) {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) else { return };
        restart(peer, false);
        replicate(peer, self.term_start, state, out);
        if let Some(reads) = &mut self.reads {
            reads.forget(id);
            if reads.expects(state, id) {
                heartbeat(peer, reads.round(), state, out);
            }
        }
    }

    pub(super) fn peer_down(&mut self, id: NodeId) {
        if let Some(peer) = self.peer(id) {
            restart(peer, true);
        }
        self.end_transfer_to(id);
    }

    /// An append request is missing in the stream: look for the place where it belongs, once the
    /// peer is heard again. `next_index` stays, because all before it may well have arrived.
    pub(super) fn send_dropped(&mut self, id: NodeId) {
        if let Some(peer) = self.peer(id) {
            peer.probe(peer.next_index, true);
        }
    }

    pub(super) fn loaded(
        &mut self,
        state: &mut State,
        id: NodeId,
        from: LogIndex,
        blocks: Vec<Block>,
        out: &mut dyn Outlet,
    ) {
        let term_start = self.term_start;
        let Some(peer) = self.peer(id) else { return };
        if peer.loading.take_if(|loading| *loading == from).is_none() || peer.next_index != from {
            return;
        }
        let Some(blocks) = clip_loaded(state, from, blocks) else {
            state.ignored += 1;
            return;
        };
        if !peer.window_is_full(&state.config) {
            send_append(peer, from.prev(), &blocks, state, out);
        }
        replicate(peer, term_start, state, out);
    }

    /// It is tried again when something else is sent to the peer, or when it answers a heartbeat.
    pub(super) fn load_failed(&mut self, id: NodeId) {
        if let Some(peer) = self.peer(id) {
            peer.loading = None;
        }
    }

    /// The log begins later now: what a peer lacks before that can't be sent to it any more.
    pub(super) fn compacted(&mut self, state: &State) {
        let first = state.log.base().index.next();
        for peer in self.peers.iter_mut().filter(|peer| peer.next_index < first) {
            match peer.mode {
                Mode::Snapshot => peer.next_index = first,
                Mode::Probe | Mode::Replicate => peer.probe(first, true),
            }
        }
    }

    pub(super) fn on_durable(&mut self, state: &mut State, out: &mut dyn Outlet) {
        self.advance_commit(state, state.log.durable());
        self.release(state);
        self.pursue_transfer(state, out);
    }

    /// Commits what a quorum holds durably, now that one of its members got to `news`; this node's
    /// own disk is one vote, and not even a necessary one (thesis, section 10.2.1).
    #[inline(always)]
    pub(super) fn advance_commit(&self, state: &mut State, news: LogIndex) {
        if news <= state.commit_index {
            return;
        }
        let own = state.log.durable();
        let reached = if let Some(count) = self.decide_alike {
            let peers = self.peers[..count as usize].iter();
            quorum::reached_by_most(own, peers.map(|peer| peer.match_index))
        } else {
            state.configurations.latest().reached(|node| {
                let peer = self.peers.iter().find(|peer| peer.id == node);
                peer.map_or(own, |peer| peer.match_index)
            })
        };
        if let Some(index) = reached.filter(|index| *index >= self.term_start) {
            state.commit_to(index);
        }
    }

    /// Frees what no peer waits for.
    #[inline]
    pub(super) fn release(&self, state: &mut State) {
        if state.holds_applied_blocks() {
            let acked = self.peers.iter().map(|peer| peer.match_index).min();
            state.release(acked.unwrap_or(LogIndex(u64::MAX)));
        }
    }

    pub(super) fn deadline(&self) -> Time {
        self.heartbeat_at.min(self.quorum_until).min(self.transfer_deadline())
    }

    /// False if this leader must step down because it has not heard from a quorum for an election
    /// timeout (thesis, section 6.2).
    pub(super) fn has_quorum(&mut self, state: &State) -> bool {
        if state.now < self.quorum_until {
            return true;
        }
        if !state.config.check_quorum {
            self.quorum_until = Time::NEVER;
            return true;
        }
        let heard = self.quorum_heard(state);
        self.quorum_until = heard.unwrap_or_default() + state.config.election_timeout;
        state.now < self.quorum_until
    }

    /// Since when a quorum has been heard.
    pub(super) fn quorum_heard(&self, state: &State) -> Option<Time> {
        state.configurations.latest().reached(|node| {
            let peer = self.peers.iter().find(|peer| peer.id == node);
            peer.map_or(state.now, |peer| peer.heard_at)
        })
    }

    pub(super) fn send_heartbeats(&mut self, state: &State, out: &mut dyn Outlet) {
        if state.now < self.heartbeat_at || self.rests {
            return;
        }
        let interval = state.config.heartbeat_interval;
        // Without peers it is time to look whether to rest.
        self.heartbeat_at = state.now + interval;
        let reads = &mut self.reads;
        let (round, again) = reads.as_mut().map_or((0, false), |r| r.beat(state.now, interval));
        for peer in &mut self.peers {
            let asked = again && reads.as_ref().is_some_and(|reads| reads.expects(state, peer.id));
            if peer.sent_at + interval <= state.now || asked {
                heartbeat(peer, round, state, out);
            }
            self.heartbeat_at = self.heartbeat_at.min(peer.sent_at + interval);
        }
        self.confirm_reads(state, out);
    }

    /// The newest round that asks whether this node still leads.
    fn round(&self) -> u64 {
        self.reads.as_ref().map_or(0, |reads| reads.round())
    }

    /// Asks all voters whether this node still leads.
    pub(super) fn send_round(&mut self, round: u64, state: &State, out: &mut dyn Outlet) {
        let configuration = state.configurations.latest();
        let voters = self.peers.iter_mut().filter(|peer| configuration.has_vote(peer.id));
        voters.for_each(|peer| heartbeat(peer, round, state, out));
    }
}

fn heartbeat(peer: &mut Progress, round: u64, state: &State, out: &mut dyn Outlet) {
    peer.sent_at = state.now;
    let commit = state.commit_index.min(peer.match_index);
    out.send(peer.id, Message::Heartbeat { term: state.term(), commit, round });
}

/// What was on its way is lost; what was durable is not. A peer that never agreed with this leader
/// is asked for the same place again.
fn restart(peer: &mut Progress, paused: bool) {
    let next_index = match peer.mode {
        Mode::Replicate => peer.match_index.next(),
        Mode::Probe | Mode::Snapshot => peer.next_index,
    };
    peer.probe(next_index, paused);
}

/// Sends what the peer may be sent now.
#[inline]
pub(super) fn replicate(
    peer: &mut Progress,
    term_start: LogIndex,
    state: &State,
    out: &mut dyn Outlet,
) {
    // Most answers are to the newest entries.
    if peer.mode != Mode::Replicate || peer.next_index <= state.log.last_index() {
        replicate_some(peer, term_start, state, out);
    }
}

fn replicate_some(peer: &mut Progress, term_start: LogIndex, state: &State, out: &mut dyn Outlet) {
    match peer.mode {
        Mode::Snapshot => {}
        Mode::Probe if peer.paused => {}
        Mode::Probe => probe(peer, term_start, state, out),
        Mode::Replicate => {
            while peer.next_index <= state.log.last_index()
                && peer.loading.is_none()
                && !peer.window_is_full(&state.config)
            {
                let (from, max_bytes) = (peer.next_index, state.config.max_append_bytes);
                if let Some(newest) = state.log.newest_from(from) {
                    send_append(peer, from.prev(), slice::from_ref(newest), state, out);
                } else if let Some(blocks) = state.log.gather(from, max_bytes) {
                    send_append(peer, from.prev(), &blocks, state, out);
                } else {
                    peer.loading = Some(from);
                    out.load(Load { peer: peer.id, from, max_bytes });
                }
            }
        }
    }
}

/// A probe is empty, but for the first one of a term: the leader's empty entry costs 44 bytes, and
/// a follower whose log is complete saves a round trip.
fn probe(peer: &mut Progress, term_start: LogIndex, state: &State, out: &mut dyn Outlet) {
    // What the log no longer holds can't be probed.
    peer.next_index = peer.next_index.max(state.log.base().index.next());
    let blocks = match state.log.blocks_from(term_start) {
        Some(mut blocks) if peer.next_index == term_start => blocks.next(),
        _ => None,
    };
    let next_index = peer.next_index;
    send_append(peer, next_index.prev(), blocks.map_or(&[], slice::from_ref), state, out);
    peer.paused = true;
}

#[inline(always)]
fn send_append(
    peer: &mut Progress,
    prev_index: LogIndex,
    blocks: &[Block],
    state: &State,
    out: &mut dyn Outlet,
) {
    let Some(prev) = state.log.position(prev_index) else {
        debug_assert!(false, "entry {prev_index} precedes the log");
        return;
    };
    peer.sent_at = state.now;
    if peer.mode == Mode::Replicate
        && let Some(last) = blocks.last()
    {
        let bytes = blocks.iter().map(Block::len).sum();
        peer.sent(last.last_index(), bytes);
    }
    let (term, commit) = (state.term(), state.commit_index);
    out.append_request(peer.id, AppendRequest { term, prev, commit, blocks });
}

/// The loaded blocks from `from` on, unless they are not what the log holds there: it may have been
/// truncated while they were read.
fn clip_loaded(state: &State, from: LogIndex, mut blocks: Vec<Block>) -> Option<Vec<Block>> {
    let mut next = from;
    blocks.retain(|block| block.last_index() >= from);
    for block in &mut blocks {
        if block.first_index() > next || block.last_index() < next {
            return None;
        }
        *block = block.slice(next, block.last_index());
        if block.group() != state.group || !state.log.holds(block) {
            return None;
        }
        next = block.last_index().next();
    }
    (!blocks.is_empty()).then_some(blocks)
}
