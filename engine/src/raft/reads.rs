//! Linearizable reads without a trip through the log (thesis, section 6.4).
//!
//! A read may be served from a state machine that has applied everything that was committed before
//! the read was asked for. The leader knows that index, provided that it still leads; it finds out
//! by a **round**: heartbeats that carry a number, answered with that number by a quorum. All reads
//! that wait when a round begins share it, so the messages are bounded by rounds, not by reads.
//!
//! A round begins in the turn in which somebody asks, whether or not others are on their way: a
//! read never waits for a round that began too early for it, so one at a time takes one round trip,
//! and under load a turn, which is what batches proposals too, costs one small message per voter
//! and group. Once `MAX_ROUNDS` are unanswered, the next one begins when one of them is.
//!
//! - The index of a read is that of the leader's first own entry at least, and the read waits until
//!   that is applied: before it is committed, a leader does not know what is.
//! - An answer raises what its member is known to have answered, and nothing else: twice the same
//!   one, one that comes late, one of another term (which the term check drops) count for nothing.
//! - A quorum is one of the configuration, of both halves of a joint one; a leader without a vote
//!   does not count for itself.
//! - A lost round is asked again with the next heartbeat, and when its connection is made anew.
//! - A leader that steps down forgets all of it. Whoever asked hears of the change of office.

use std::collections::VecDeque;
use std::time::Duration;

use ringleader_wal::{LogIndex, NodeId};

use super::config::RaftConfig;
use super::follower::Follower;
use super::leader::Leader;
use super::message::Message;
use super::output::Outlet;
use super::state::State;
use super::{Raft, Role};
use crate::time::Time;

/// Rounds that no quorum has answered, at most.
const MAX_ROUNDS: usize = 64;

/// Unanswered requests of one member that a leader keeps; the member itself asks for fewer.
const MAX_REQUESTS: usize = 64;

/// What a read rests on. Both are linearizable: the read sees every write that was answered before
/// the read was asked for, whoever asked and wherever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// A quorum confirms that the leader still leads: one round trip, whatever clocks do.
    #[default]
    Linearizable,
    /// A quorum confirmed it less than an election timeout ago, and promised to elect nobody else
    /// for as long: no round trip. It needs
    /// [`lease_reads`](super::RaftConfig::lease_reads), and clocks that keep to the bound given
    /// there. Where there is no lease just now, or none at all, this is
    /// [`Linearizable`](Self::Linearizable).
    Lease,
}

/// Names a request for a read index among those of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadTicket(pub u64);

/// What became of reads; see [`Raft::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAnswer {
    /// What they were asked for with.
    pub ticket: ReadTicket,
    /// Reads may be served once the state machine has applied this; that stays true whatever
    /// happens. None if nobody who leads could be asked: they may be asked for again.
    pub index: Option<LogIndex>,
}

/// A leader's rounds and its lease, for people and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadsStatus {
    /// The newest round; zero if there was none in this term.
    pub round: u64,
    /// The newest round that a quorum answered.
    pub confirmed: u64,
    /// Requests that wait for a round.
    pub waiting: usize,
    /// When the lease ends, by this node's clock.
    pub lease_until: Option<Time>,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Here,
    Member(NodeId),
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    asker: Asker,
    ticket: ReadTicket,
    consistency: Consistency,
    index: LogIndex,
    /// The first round that began after the request came; it may still have to begin.
    round: u64,
}

/// What a member answered.
#[derive(Clone, Copy, Debug)]
struct Answered {
    id: NodeId,
    round: u64,
    /// When that round began: the member's promise lasts at least from then on.
    began: Option<Time>,
    /// When its answer last made the leader look for lost entries.
    nudged: Option<Time>,
}

/// A leader's reads; see the [module documentation](self).
#[derive(Clone, Debug)]
pub(super) struct Reads {
    /// The newest round. Numbers start anew in each term.
    round: u64,
    /// The newest round that a quorum answered.
    confirmed: u64,
    /// Rounds after `confirmed`, and when each began.
    begun: VecDeque<(u64, Time)>,
    /// When the newest round was last sent to everybody.
    sent_at: Time,
    answered: Vec<Answered>,
    /// In the order of their rounds.
    waiting: VecDeque<Waiting>,
    /// How long a lease lasts; none where there are no leases.
    lease: Option<Duration>,
}

impl Reads {
    /// What a leader starts with: leases are kept up from the first heartbeat on.
    pub(super) fn at_start(config: &RaftConfig) -> Option<Box<Self>> {
        config.lease_reads.is_some().then(|| Box::new(Self::new(config)))
    }

    fn new(config: &RaftConfig) -> Self {
        let lease = config.lease_reads.map(|drift| config.election_timeout.saturating_sub(drift));
        Self {
            round: 0,
            confirmed: 0,
            begun: VecDeque::new(),
            sent_at: Time(0),
            answered: Vec::new(),
            waiting: VecDeque::new(),
            lease,
        }
    }

    pub(super) fn round(&self) -> u64 {
        self.round
    }

    fn add(&mut self, asker: Asker, ticket: ReadTicket, consistency: Consistency, index: LogIndex) {
        let round = self.round + 1;
        self.waiting.push_back(Waiting { asker, ticket, consistency, index, round });
    }

    /// Begins a round, unless too many are unanswered.
    fn begin(&mut self, now: Time) -> bool {
        let begins = self.begun.len() < MAX_ROUNDS;
        if begins {
            self.round += 1;
            self.begun.push_back((self.round, now));
            self.sent_at = now;
        }
        begins
    }

    /// Whether a request waits.
    pub(super) fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a request waits for a round that has not begun.
    fn has_new(&self) -> bool {
        self.waiting.back().is_some_and(|waiting| waiting.round > self.round)
    }

    /// Whether anything depends on the newest round's answers.
    fn is_needed(&self) -> bool {
        self.lease.is_some() || !self.waiting.is_empty()
    }

    /// Whether a voter's answer to the newest round is still to come and of use.
    pub(super) fn expects(&self, state: &State, id: NodeId) -> bool {
        self.is_needed()
            && state.configurations.latest().has_vote(id)
            && self.answered(id).0 < self.round
    }

    /// A heartbeat may be due: its round, and whether all who have not answered that are to get
    /// one, whatever else they were sent.
    pub(super) fn beat(&mut self, now: Time, interval: Duration) -> (u64, bool) {
        let again = self.is_needed() && now >= self.sent_at + interval;
        if again {
            if self.lease.is_some() {
                self.begin(now);
            }
            self.sent_at = now;
        }
        (self.round, again)
    }

    /// The newest round that a member answered, and when that round began.
    fn answered(&self, id: NodeId) -> (u64, Option<Time>) {
        let answered = self.answered.iter().find(|answered| answered.id == id);
        answered.map_or((0, None), |answered| (answered.round, answered.began))
    }

    /// A peer answered a heartbeat. True when it is time to look for what it may have missed: more
    /// often than heartbeats are due, that would be in vain.
    pub(super) fn acknowledged(
        &mut self,
        state: &mut State,
        from: NodeId,
        round: u64,
        out: &mut dyn Outlet,
    ) -> bool {
        if round > self.round {
            state.ignored += 1;
            return false;
        }
        let begun = self.begun.iter().find(|begun| begun.0 == round);
        let began = begun.map(|(_, began)| *began);
        let at = self.answered.iter().position(|answered| answered.id == from);
        let at = at.unwrap_or_else(|| {
            self.answered.push(Answered { id: from, round: 0, began: None, nudged: None });
            self.answered.len() - 1
        });
        let answered = &mut self.answered[at];
        let interval = state.config.heartbeat_interval;
        let nudges = answered.nudged.is_none_or(|nudged| state.now >= nudged + interval);
        if nudges {
            answered.nudged = Some(state.now);
        }
        if round > answered.round {
            answered.round = round;
            answered.began = began.or(answered.began);
            self.confirm(state, out);
        }
        nudges
    }

    /// Answers what waits for rounds that a quorum has answered.
    pub(super) fn confirm(&mut self, state: &State, out: &mut dyn Outlet) {
        let own = (state.node, self.round);
        let reached = state
            .configurations
            .latest()
            .reached(|node| if node == own.0 { own.1 } else { self.answered(node).0 });
        let Some(confirmed) = reached.filter(|round| *round > self.confirmed) else { return };
        self.confirmed = confirmed;
        let unconfirmed = self.begun.partition_point(|begun| begun.0 <= confirmed);
        self.begun.drain(..unconfirmed);
        let unserved = self.waiting.partition_point(|waiting| waiting.round <= confirmed);
        self.waiting.drain(..unserved).for_each(|waiting| waiting.answer(state, out));
        if self.has_new() {
            out.reads_wait();
        }
    }

    /// When the lease ends: an election timeout, less what clocks may differ by, after the start of
    /// the last round that a quorum answered. Those who answered heard of it later than that, and
    /// give no other candidate a vote for an election timeout from then on.
    fn lease_until(&self, state: &State) -> Option<Time> {
        let lease = self.lease?;
        let began = state.configurations.latest().reached(|node| {
            if node == state.node { Some(state.now) } else { self.answered(node).1 }
        });
        Some(began?? + lease)
    }

    fn holds_lease(&self, state: &State) -> bool {
        self.lease_until(state).is_some_and(|until| state.now < until)
    }

    /// Answers new requests that the lease is enough for.
    fn serve_by_lease(&mut self, state: &State, out: &mut dyn Outlet) {
        let new = |waiting: &Waiting, round| waiting.round > round;
        let first = self.waiting.partition_point(|waiting| !new(waiting, self.round));
        let by_lease = |waiting: &Waiting| waiting.consistency == Consistency::Lease;
        if !self.waiting.iter().skip(first).any(by_lease) || !self.holds_lease(state) {
            return;
        }
        let round = self.round;
        self.waiting.retain(|waiting| {
            let served = new(waiting, round) && by_lease(waiting);
            if served {
                waiting.answer(state, out);
            }
            !served
        });
    }

    /// A member's connection was made anew: it asks again for what it still wants to know.
    pub(super) fn forget(&mut self, id: NodeId) {
        self.waiting.retain(|waiting| waiting.asker != Asker::Member(id));
    }

    /// Checks that what waits is in order.
    ///
    /// # Panics
    /// When it is not.
    pub(super) fn check(&self) {
        assert!(self.confirmed <= self.round, "{self:?}");
        assert!(self.begun.len() <= MAX_ROUNDS, "{self:?}");
        assert!(self.begun.iter().all(|begun| begun.0 > self.confirmed), "{self:?}");
        assert!(self.answered.iter().all(|answered| answered.round <= self.round), "{self:?}");
        let rounds = self.waiting.iter().map(|waiting| waiting.round);
        assert!(rounds.clone().is_sorted(), "{self:?}");
        assert!(rounds.into_iter().all(|round| round > self.confirmed && round <= self.round + 1));
    }
}

impl Waiting {
    fn answer(&self, state: &State, out: &mut dyn Outlet) {
        let Self { ticket, index, .. } = *self;
        let index = Some(index);
        match self.asker {
            Asker::Here => out.read(ReadAnswer { ticket, index }),
            Asker::Member(id) => {
                state.send(id, Message::ReadResponse { term: state.term(), ticket, index }, out);
            }
        }
    }
}

impl Leader {
    /// Ends the lease for the rest of the term. A leader that asks another to take over at once
    /// calls this before: who votes for that one breaks the promise that the lease rests on, and
    /// the request may arrive at any time later (`TimeoutNow`: thesis, section 6.4.1).
    pub(super) fn give_up_lease(&mut self) {
        if let Some(reads) = &mut self.reads {
            reads.lease = None;
        }
    }

    fn read(
        &mut self,
        state: &State,
        asker: Asker,
        ticket: ReadTicket,
        consistency: Consistency,
        out: &mut dyn Outlet,
    ) {
        let index = state.commit_index.max(self.term_start);
        self.is_busy(state.now);
        let reads = self.reads.get_or_insert_with(|| Box::new(Reads::new(&state.config)));
        reads.add(asker, ticket, consistency, index);
        out.reads_wait();
    }

    /// Whether a member has as many requests waiting as it may.
    fn is_crowded_by(&self, id: NodeId) -> bool {
        let of_member = |waiting: &&Waiting| waiting.asker == Asker::Member(id);
        self.reads.as_ref().is_some_and(|reads| {
            reads.waiting.len() >= MAX_REQUESTS
                && reads.waiting.iter().filter(of_member).count() >= MAX_REQUESTS
        })
    }

    fn serve_reads(&mut self, state: &State, out: &mut dyn Outlet) {
        let Some(reads) = &mut self.reads else { return };
        reads.serve_by_lease(state, out);
        if reads.has_new() && reads.begin(state.now) {
            let round = reads.round;
            self.send_round(round, state, out);
        }
        self.confirm_reads(state, out);
    }

    /// A single voter is a quorum, and nobody answers it.
    pub(super) fn confirm_reads(&mut self, state: &State, out: &mut dyn Outlet) {
        if let Some(reads) = &mut self.reads {
            reads.confirm(state, out);
        }
    }
}

impl Raft {
    /// Asks from where on this node's state machine may be read, for reads that arrived before. The
    /// answer comes through [`Outlet::read`], in this call, in [`Raft::serve_reads`] or later: on a
    /// leader when the lease or a round allows it, on a follower when its leader has answered.
    ///
    /// There is none when the office changes before ([`Outlet::event`]), or when the connection to
    /// the leader breaks: whoever still wants one then asks again. `ticket` must not have been used
    /// before in this node's life, but for asking again.
    pub fn read(
        &mut self,
        now: Time,
        ticket: ReadTicket,
        consistency: Consistency,
        out: &mut dyn Outlet,
    ) {
        self.advance_clock(now);
        self.wake(None, out);
        match &mut self.role {
            Role::Leader(leader) => {
                leader.read(&self.state, Asker::Here, ticket, consistency, out);
            }
            Role::Follower(Follower { leader: Some(leader), .. }) => {
                let term = self.state.term();
                let message = Message::ReadRequest { term, ticket, consistency };
                self.state.send(*leader, message, out);
            }
            _ => out.read(ReadAnswer { ticket, index: None }),
        }
    }

    /// Serves what [`Outlet::reads_wait`] announced: by the lease, or by a round that begins now.
    ///
    /// Every `now` passed in since then, this one included, must have been read from the clock
    /// *after* what it came with had arrived. Otherwise a process that stood still in between takes
    /// a lease for valid that has ended.
    pub fn serve_reads(&mut self, now: Time, out: &mut dyn Outlet) {
        self.advance_clock(now);
        if let Role::Leader(leader) = &mut self.role {
            leader.serve_reads(&self.state, out);
        }
    }

    pub(super) fn read_request(
        &mut self,
        from: NodeId,
        ticket: ReadTicket,
        consistency: Consistency,
        out: &mut dyn Outlet,
    ) {
        match &mut self.role {
            Role::Leader(leader) if !leader.is_crowded_by(from) => {
                leader.read(&self.state, Asker::Member(from), ticket, consistency, out);
            }
            _ => {
                let term = self.state.term();
                self.state.send(from, Message::ReadResponse { term, ticket, index: None }, out);
            }
        }
    }

    /// Ends a leader's lease for the rest of its term: reads are confirmed by rounds from now on.
    pub fn give_up_lease(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            leader.give_up_lease();
        }
    }

    /// A leader's rounds and lease; nothing where there are none.
    #[must_use]
    pub fn reads(&self) -> ReadsStatus {
        let Role::Leader(leader) = &self.role else { return ReadsStatus::default() };
        let Some(reads) = &leader.reads else { return ReadsStatus::default() };
        ReadsStatus {
            round: reads.round,
            confirmed: reads.confirmed,
            waiting: reads.waiting.len(),
            lease_until: reads.lease_until(&self.state),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ringleader_wal::GroupId;

    use super::super::Restored;
    use super::super::configuration::Configuration;
    use super::super::configurations::Configurations;
    use super::super::output::Output;
    use super::*;

    /// Who has to answer, in order, until a leader that is member 1 serves a read; its lease is
    /// there at the same moment.
    fn asked_until_served(voters: &[u64], outgoing: &[u64], answers: &[u64]) -> usize {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let lease_reads = Some(Duration::from_millis(1));
        let config = Arc::new(RaftConfig { lease_reads, ..RaftConfig::default() });
        let configuration = Configuration::new(&nodes(voters), &nodes(outgoing));
        let configuration = Configurations::restored(LogIndex(0), configuration, Vec::new());
        let (group, restored) = (GroupId(1), Restored::default());
        let mut state = State::new(config, group, NodeId(1), configuration, restored, 1, Time(0));
        let mut reads = Reads::new(&state.config);
        reads.add(Asker::Here, ReadTicket(1), Consistency::Linearizable, LogIndex(1));
        assert!(reads.begin(state.now));
        let mut out = Output::default();
        for (at, from) in answers.iter().enumerate() {
            reads.confirm(&state, &mut out);
            reads.check();
            assert_eq!(reads.holds_lease(&state), !out.reads.is_empty());
            if !out.reads.is_empty() {
                return at;
            }
            reads.acknowledged(&mut state, NodeId(*from), 1, &mut out);
        }
        answers.len()
    }

    #[test]
    fn both_halves_of_a_joint_configuration_must_answer() {
        assert_eq!(asked_until_served(&[2, 3, 4], &[1, 2, 5], &[3, 4, 5, 2]), 3);
        assert_eq!(asked_until_served(&[2, 3, 4], &[1, 2, 5], &[5, 3, 2, 4]), 3);
        assert_eq!(asked_until_served(&[2, 3, 4], &[1, 2, 5], &[2, 3, 4, 5]), 2);
    }

    #[test]
    fn a_leader_without_a_vote_does_not_count_itself() {
        assert_eq!(asked_until_served(&[2, 3, 4], &[], &[2, 3, 4]), 2);
        assert_eq!(asked_until_served(&[1, 3, 4], &[], &[2, 3, 4]), 2, "nor whom else has none");
        assert_eq!(asked_until_served(&[1], &[], &[2]), 0, "a single voter needs nobody");
    }
}
