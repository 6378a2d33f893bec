//! One group's protocol: a synchronous state machine without IO (Raft: Ongaro, "Consensus: Bridging
//! Theory and Practice", 2014; "the thesis" below).
//!
//! A [`Raft`] is one member of one group. Every call is an event and may put effects into an
//! [`Outlet`], whose methods say what each effect waits for:
//!
//! ```text
//! step, tick, propose, on_loaded, ...          on_staged(seq)       on_durable(seq)
//!   |                                             ^                    ^      |
//!   +--> append, log ---> WAL batch `seq` --------+---- disk ----------+      |
//!   +--> send, append_request ---------------------------> peers <------------+ acks, commits
//!   +--> send_when_durable --(once all of the group is durable)---------> peers
//!   +--> load ---> WAL reads ---> on_loaded
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | [`message`] | what members say to each other |
//! | `state` | what every role has: hard state, log, timers, what is durable |
//! | `follower`, `candidate`, `leader` | the roles; what only one role has lives in its struct |
//! | [`priority`] | who is to lead, if it can |
//! | [`transfer`] | handing the leadership over |
//! | `progress` | what a leader knows about one peer, and what is on its way there |
//! | [`reads`] | reads without a trip through the log |
//! | [`rest`] | groups that rest while nothing happens |
//! | `log` | terms, durability and the recent blocks |
//! | `compact` | what a snapshot means for the log |
//! | `steady` | the messages that make up the steady state |
//! | `term` | what a message's term means |
//! | `committed` | what the state machine takes |
//! | `fifo` | a queue that is short as a rule |
//! | [`configuration`], `configurations` | who the members are; which of those in the log is in force |
//! | `change` | changing the members |
//! | [`reset`], [`era`] | setting them anew without a majority, and what keeps the old ones apart then |
//! | [`quorum`] | majorities |
//! | [`invariants`] | what holds after every call |
//!
//! Safety rests on a few rules, each kept in one place:
//!
//! - A vote leaves after it is durable, and the candidate's own counts then (`State::send`).
//! - A follower acknowledges what is durable and verified against this term's leader, no more
//!   (`Follower::answer`).
//! - A durable WAL batch vouches for the entries that were staged in it, not for later ones at the
//!   same indices (`State::truncate`).
//! - Only entries of the leader's own term are committed by counting (`Leader::advance_commit`).
//! - No committed entry is removed (`State::truncate`).
//! - The latest configuration in the log decides, committed or not (`Configurations`); the next one
//!   is appended when it is committed, and an entry of the leader's own term (`Raft::pursue_change`).
//! - In an era that began with a reset, votes go to who has its first entry (`era::may_lead`).
//! - What is read was confirmed by a quorum after it was asked for (`Reads::confirm`), or before a
//!   quorum could elect another leader (`Reads::holds_lease`).

mod candidate;
mod change;
mod committed;
mod compact;
pub mod config;
pub mod configuration;
mod configurations;
pub mod era;
pub(crate) mod fifo;
mod follower;
pub mod found;
pub mod invariants;
mod leader;
mod log;
pub mod message;
pub mod output;
mod prefetch;
pub mod priority;
mod progress;
pub mod quorum;
pub mod reads;
pub mod reset;
pub mod rest;
mod rng;
mod state;
pub mod status;
mod steady;
mod term;
pub mod transfer;

use std::sync::Arc;

use ringleader_wal::{Block, GroupId, HardState, LogIndex, LogPosition, NodeId, Seq, Term};

use self::candidate::Candidate;
pub use self::change::{ChangeError, Changing, MembershipChange};
pub use self::committed::{Committed, CommittedBlocks};
pub use self::config::{RaftConfig, RaftConfigError};
pub use self::configuration::Configuration;
use self::configurations::Configurations;
use self::era::Era;
use self::follower::Follower;
use self::leader::Leader;
pub use self::message::Message;
pub use self::output::{Event, Load, LogOp, Outlet, Output, SnapshotEvent};
pub use self::priority::Priorities;
pub use self::progress::Mode;
use self::reads::ReadAnswer;
pub(crate) use self::reset::founding_position;
pub use self::reset::{Reset, ResetRefused};
use self::state::State;
pub use self::status::{Membership, PeerStatus, RoleName, Status};
use crate::time::Time;

/// What the WAL remembers of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The last hard state.
    pub hard_state: HardState,
    /// The entry before the log's first; a snapshot covers it and what precedes it.
    pub base: LogPosition,
    /// The last entry that the state machine has applied, as the snapshot says that it was restored
    /// from: `base` or an entry of the log.
    pub applied: LogIndex,
    /// The last entry; `base.index` if there is none.
    pub last_index: LogIndex,
    /// The first position of each term after `base`, in order.
    pub terms: Vec<LogPosition>,
    /// The configuration that the snapshot tells, in force at an entry that is applied; without it,
    /// the one in force at `base` is known otherwise.
    pub configuration: Option<(LogIndex, Configuration)>,
    /// The configurations in the log after that, in order.
    pub configurations: Vec<(LogIndex, Configuration)>,
}

/// One member of one group.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Raft {
    // Before the state, whose own beginning is what is used most.
    role: Role,
    state: State,
}

#[derive(Clone, Debug)]
enum Role {
    Follower(Follower),
    PreCandidate(Box<Candidate>),
    Candidate(Box<Candidate>),
    Leader(Box<Leader>),
}

/// What callers are told about when it changes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Office {
    leads: bool,
    leader: Option<NodeId>,
    /// The term in which `leader` leads; zero if nobody is known to.
    of: Term,
    era: Era,
}

impl Raft {
    /// A member as the WAL remembers it, as a follower. `configuration` is in force at the log's
    /// base, unless a snapshot says otherwise. `seed` chooses its election timeouts; members of one
    /// group need different ones.
    ///
    /// # Panics
    /// When `restored` contradicts itself.
    #[must_use]
    pub fn new(
        config: Arc<RaftConfig>,
        group: GroupId,
        node: NodeId,
        configuration: Configuration,
        mut restored: Restored,
        seed: u64,
        now: Time,
    ) -> Self {
        let appended = std::mem::take(&mut restored.configurations);
        let known = restored.configuration.take();
        let (at, configuration) = known.unwrap_or((restored.base.index, configuration));
        let configurations = Configurations::restored(at, configuration, appended);
        let state = State::new(config, group, node, configurations, restored, seed, now);
        Self { state, role: Role::Follower(Follower::default()) }
    }

    /// Sets who is to lead, if it can. Without that all are alike.
    pub fn set_priorities(&mut self, priorities: Priorities) {
        self.state.priorities = Some(Box::new(priorities));
        self.state.restart_election_timer();
    }

    /// Sets how much it may keep for peers that lag, beside [`RaftConfig::cache_bytes`].
    pub fn limit_cache(&mut self, bytes: usize) {
        self.state.cache_share = bytes;
    }

    /// A message arrived. Whatever it says, it can't make this panic; what no correct member sends
    /// is ignored and counted.
    pub fn step(&mut self, now: Time, from: NodeId, message: Message, out: &mut dyn Outlet) {
        self.advance_clock(now);
        if let Err(message) = self.replication(from, message, out) {
            self.step_any(from, message, out);
        }
    }

    fn step_any(&mut self, from: NodeId, message: Message, out: &mut dyn Outlet) {
        // Whom this node does not know may still be a member by a configuration that it has not
        // got yet: a leader of which it is to learn who the members are, or a candidate that needs
        // its vote (thesis, section 4.2.3). Answers are counted only if they are of members.
        if from == self.state.node || era::is_out_of_reach(message.term()) {
            self.state.ignored += 1;
            return;
        }
        let before = self.office();
        if self.is_late_piece(&message) {
            return;
        }
        if !self.is_late_answer(&message) {
            self.wake(Some(from), out);
        }
        if self.settle_term(from, &message, out) {
            self.dispatch(from, message, out);
        }
        self.finish(before, out);
    }

    fn dispatch(&mut self, from: NodeId, message: Message, out: &mut dyn Outlet) {
        let state = &mut self.state;
        match (&mut self.role, message) {
            (_, Message::PreVoteRequest { term, last }) => {
                self.pre_vote_request(from, term, last, out);
            }
            (_, Message::VoteRequest { term, last, .. }) => {
                self.vote_request(from, term, last, out);
            }
            (_, Message::TimeoutNow { last, .. }) => self.timeout_now(from, last, out),
            (Role::PreCandidate(_), Message::PreVoteResponse { granted, .. }) => {
                self.count_pre_vote(from, granted, out);
            }
            (Role::Candidate(_), Message::VoteResponse { granted, .. }) => {
                self.count_vote(from, granted, out);
            }
            (_, message @ (Message::AppendRequest { .. } | Message::AppendResponse { .. })) => {
                // Given back: an answer to a question of a role that this node has left.
                let _ = self.replication(from, message, out);
            }
            (Role::Follower(follower), Message::Heartbeat { commit, round, .. }) => {
                follower.heartbeat(state, from, commit, round, out);
            }
            (Role::Follower(follower), Message::Rest { last, .. }) => {
                follower.rest(state, from, last, out);
            }
            (Role::Leader(leader), Message::HeartbeatResponse { round, .. }) => {
                leader.heartbeat_response(state, from, round, out);
                self.pursue_change(out);
            }
            (Role::Follower(follower), Message::SnapshotPiece { id, last, piece, .. }) => {
                follower.snapshot_piece(state, from, (id, last), piece, out);
            }
            (Role::Leader(leader), Message::SnapshotAnswer { id, next, .. }) => {
                leader.snapshot_answer(state, from, id, next, out);
            }
            (_, Message::ReadRequest { ticket, consistency, .. }) => {
                self.read_request(from, ticket, consistency, out);
            }
            (_, Message::ReadResponse { ticket, index, .. }) => {
                out.read(ReadAnswer { ticket, index });
            }
            // Answers to questions of a role that this node has left.
            _ => {}
        }
    }

    /// Time passed: call it when [`Raft::deadline`] is reached. Calling it sooner does no harm.
    pub fn tick(&mut self, now: Time, out: &mut dyn Outlet) {
        self.advance_clock(now);
        if self.rests() {
            return;
        }
        let before = self.office();
        match &mut self.role {
            Role::Leader(leader) => {
                leader.end_late_transfer(&self.state);
                leader.end_standing_in(&self.state, out);
                if leader.has_quorum(&self.state) {
                    leader.identify(&mut self.state, out);
                    leader.rest_if_quiet(&mut self.state, out);
                    leader.send_heartbeats(&self.state, out);
                    self.pursue_change(out);
                } else {
                    self.become_follower(self.state.term(), None);
                }
            }
            _ if self.state.now >= self.state.election_deadline() => self.campaign(out),
            _ => {}
        }
        self.finish(before, out);
    }

    /// The next moment at which [`Raft::tick`] may have something to do. Messages move it, usually
    /// to later.
    #[must_use]
    pub fn deadline(&self) -> Time {
        match &self.role {
            _ if self.rests() => Time::NEVER,
            Role::Leader(leader) => leader.deadline(),
            _ => self.state.election_deadline(),
        }
    }

    /// Where the next proposed block starts; none unless this node leads and
    /// [takes proposals](Self::takes_proposals).
    #[must_use]
    pub fn append_position(&self) -> Option<LogPosition> {
        self.takes_proposals().then(|| LogPosition {
            index: self.state.log.last_index().next(),
            term: self.state.term(),
        })
    }

    /// Appends a block to the leader's log and replicates it.
    ///
    /// # Panics
    /// When the block is not of this group or does not start at [`Raft::append_position`].
    pub fn propose(&mut self, block: Block, out: &mut dyn Outlet) {
        let at = LogPosition { index: block.first_index(), term: block.term() };
        assert_eq!(Some(at), self.append_position(), "the block starts at the append position");
        assert_eq!(block.group(), self.state.group, "the block is of this group");
        if let Role::Leader(leader) = &mut self.role {
            if leader.rests {
                leader.wake(&self.state, out);
            }
            self.state.append(block, out);
            leader.replicate_to_all(&self.state, out);
        }
    }

    /// Everything that was given to [`Outlet::append`] and [`Outlet::log`] so far is in WAL batch
    /// `seq` or an earlier one.
    pub fn on_staged(&mut self, seq: Seq) {
        self.state.on_staged(seq);
    }

    /// All WAL batches up to `seq` are durable. `seq` may be of any group, and may be late.
    pub fn on_durable(&mut self, now: Time, seq: Seq, out: &mut dyn Outlet) {
        self.advance_clock(now);
        if !self.state.on_durable(seq) {
            return;
        }
        match &mut self.role {
            Role::Follower(follower) => {
                follower.on_durable(&self.state, out);
                self.state.release(LogIndex(u64::MAX));
            }
            Role::Candidate(_) if self.state.hard_state_is_durable() => {
                let before = self.office();
                self.count_vote(self.state.node, true, out);
                self.finish(before, out);
            }
            Role::PreCandidate(_) | Role::Candidate(_) => {}
            Role::Leader(leader) => {
                leader.on_durable(&mut self.state, out);
                if leader.has_change_to_pursue(&self.state) {
                    self.pursue_change_and_finish(out);
                }
            }
        }
    }

    /// The answer to a [`Load`]: contiguous blocks, the first of which holds `from`. One that is no
    /// longer of use is dropped.
    pub fn on_loaded(
        &mut self,
        now: Time,
        peer: NodeId,
        from: LogIndex,
        blocks: Vec<Block>,
        out: &mut dyn Outlet,
    ) {
        self.advance_clock(now);
        if let Role::Leader(leader) = &mut self.role {
            leader.loaded(&mut self.state, peer, from, blocks, out);
        }
    }

    /// A [`Load`] failed. It is asked for again later.
    pub fn on_load_failed(&mut self, peer: NodeId) {
        if let Role::Leader(leader) = &mut self.role {
            leader.load_failed(peer);
        }
    }

    /// A connection to `peer` was made, or made again: what was on its way is lost.
    pub fn on_peer_up(&mut self, now: Time, peer: NodeId, out: &mut dyn Outlet) {
        self.advance_clock(now);
        self.wake_for(peer, out);
        match &mut self.role {
            Role::Leader(leader) => leader.peer_up(&self.state, peer, out),
            _ if self.state.configurations.latest().has_vote(peer) => {
                self.ask_for_vote(peer, out);
            }
            _ => {}
        }
    }

    /// The connection to `peer` is lost. Until [`Raft::on_peer_up`], or until the peer is heard in
    /// spite of it, it is sent heartbeats only. A follower whose leader it was campaigns soon, unless
    /// it rests: ten thousand groups that lose their leader together are not to campaign together.
    pub fn on_peer_down(&mut self, now: Time, peer: NodeId, out: &mut dyn Outlet) {
        self.advance_clock(now);
        let rested = self.rests();
        self.wake_for(peer, out);
        match &mut self.role {
            Role::Leader(leader) => leader.peer_down(peer),
            Role::Follower(follower) if follower.leader == Some(peer) && !rested => {
                self.state.lost_leader(out);
            }
            _ => {}
        }
    }

    /// An [`Message::AppendRequest`] for `peer` was not sent, for want of room in its outbox.
    pub fn on_send_dropped(&mut self, peer: NodeId) {
        if let Role::Leader(leader) = &mut self.role {
            leader.send_dropped(peer);
        }
    }

    /// Has the latest configuration share its memory with others that are the same: most groups of a
    /// shard have the same members.
    pub(crate) fn share_configuration(&mut self, with: &mut Configuration) {
        self.state.configurations.latest_mut().share(with);
    }

    fn advance_clock(&mut self, now: Time) {
        self.state.now = self.state.now.max(now);
    }

    /// The election timer goes on, unless this node led and has none: a candidate that can't win
    /// must not keep others from their turn (thesis, section 3.4).
    fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        if self.is_leader() {
            self.state.restart_election_timer();
        }
        if term > self.state.term() {
            self.state.set_hard_state(term, None);
        }
        self.role = Role::Follower(Follower::of(leader));
        if leader.is_some() {
            self.state.found_leader();
        }
    }

    fn become_leader(&mut self, out: &mut dyn Outlet) {
        let leader = Leader::take_office(&mut self.state, out);
        self.role = Role::Leader(Box::new(leader));
    }

    fn office(&self) -> Office {
        let leader = self.leader();
        let of = leader.map_or(Term(0), |_| self.state.term());
        Office { leads: self.is_leader(), leader, of, era: Era::of(self.state.term()) }
    }

    /// What ends every call that may change the term or the role.
    fn finish(&mut self, before: Office, out: &mut dyn Outlet) {
        self.state.emit_hard_state(out);
        out.reschedule();
        let after = self.office();
        if after == before {
            return;
        }
        let (term, leader) = (self.state.term(), after.leader);
        if after.era != before.era {
            out.event(Event::EraBegan { term });
        }
        out.event(match (before.leads, after.leads) {
            (_, true) => Event::BecameLeader { term },
            (true, false) => Event::SteppedDown { term, leader },
            (false, false) => Event::LeaderChanged { term, leader },
        });
    }
}
