//! Rounds of reads and leases: what leaders believe of them, and the promises that they rest on
//! (thesis, section 6.4). All of it is said in the clock of whom it is about, so that it holds
//! however clocks differ.

use std::collections::BTreeMap;
use std::time::Duration;

use ringleader::raft::{Raft, RaftConfig, RoleName, Status};
use ringleader::time::Time;
use ringleader::{LogPosition, NodeId, Term};

use super::Checker;

/// What a node's clock shows, in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnTime {
    pub(crate) life: u32,
    pub(crate) time: Time,
}

/// The settings that leases follow from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    election_timeout: Duration,
    lasts: Duration,
}

impl Lease {
    pub(super) fn of(config: &RaftConfig) -> Option<Self> {
        let election_timeout = config.election_timeout;
        let of = |drift| Self { election_timeout, lasts: election_timeout.saturating_sub(drift) };
        config.lease_reads.map(of)
    }
}

/// What a member has to do with rounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    /// When a round was first sent to this member: by the leader's clock, and by its own.
    asked: BTreeMap<(Term, u64), (Time, OwnTime)>,
    /// The newest round of each term that it answered, and when that was sent, by the leader's
    /// clock.
    answered: BTreeMap<Term, (u64, Time)>,
    /// When the newest round that it ever answered was sent, by its own clock: it promised to help
    /// nobody else into office for an election timeout after that.
    owes: Option<OwnTime>,
    /// The newest round that it took for answered as a leader, and its term.
    confirmed: (Term, u64),
    /// The lease that it had as a leader when that was last looked at.
    lease: Option<Time>,
}

impl Rounds {
    /// The node lost everything. What it answered before may still arrive.
    pub(super) fn wiped(self) -> Self {
        Self { owes: None, ..self }
    }
}

impl Checker {
    /// A leader asks a member to answer a round.
    pub(super) fn round_asked(
        &mut self,
        at: usize,
        to: usize,
        round: (Term, u64),
        leader: Time,
        own: OwnTime,
    ) {
        let rounds = &mut self.members[at][to].rounds;
        rounds.asked.entry(round).or_insert((leader, own));
    }

    /// A member answers a round. It may do so again.
    pub(super) fn round_answered(&mut self, at: usize, node: usize, term: Term, round: u64) {
        let rounds = &mut self.members[at][node].rounds;
        let newest = rounds.answered.get(&term).map_or(0, |answered| answered.0);
        if round <= newest {
            return;
        }
        let asked = rounds.asked.remove(&(term, round));
        let (sent, own) = asked.expect("nobody answers unasked");
        // Answers to two leaders may wait for the disk together, and leave in any order.
        rounds.asked.retain(|asked, _| asked.0 != term || asked.1 > round);
        rounds.answered.insert(term, (round, sent));
        let later = |owes: &OwnTime| (own.life, own.time) > (owes.life, owes.time);
        if rounds.owes.as_ref().is_none_or(later) {
            rounds.owes = Some(own);
        }
    }

    /// What a leader believes: that a quorum answered, and that it has a lease.
    pub(super) fn check_rounds(&mut self, at: usize, node: usize, status: &Status, raft: &Raft) {
        if status.role != RoleName::Leader {
            return;
        }
        let (term, reads) = (status.term, raft.reads());
        let rounds = &self.members[at][node].rounds;
        let news = reads.confirmed > 0 && rounds.confirmed != (term, reads.confirmed);
        let who = || format!("node {} of group {}", node + 1, self.groups[at]);
        let history = &self.histories[at];
        let quorum = |answered: &dyn Fn(u64, Time) -> bool| {
            let committed = history.term_at(status.last, status.commit);
            let committed = LogPosition { index: status.commit, term: committed };
            let agrees = |other: usize| {
                let known = self.members[at][other].rounds.answered.get(&term);
                other == node || known.is_some_and(|(round, sent)| answered(*round, *sent))
            };
            Self::has_quorum(history, committed, agrees)
        };
        assert!(
            !news || quorum(&|round, _| round >= reads.confirmed),
            "read round: {} took round {} of term {term} for answered",
            who(),
            reads.confirmed
        );
        if let (Some(until), Some(lease)) = (reads.lease_until, self.lease) {
            assert!(
                !self.handovers.was_offered(at, term),
                "lease: {} has one, and asked another in term {term} to take over",
                who()
            );
            assert!(
                rounds.lease == Some(until) || quorum(&|_, sent| sent + lease.lasts >= until),
                "lease: {} has one until {until:?}, too long after what was answered in term {term}",
                who()
            );
        }
        let rounds = &mut self.members[at][node].rounds;
        (rounds.confirmed, rounds.lease) = ((term, reads.confirmed), reads.lease_until);
    }

    /// A member decided for a candidate: it owes no leader not to, unless the leader wants it so.
    /// What an earlier life owes counts from the start of this one.
    pub(super) fn check_vote(
        &self,
        at: usize,
        node: usize,
        before: &Status,
        now: &Status,
        own: OwnTime,
    ) {
        let decided = (before.term, before.voted_for) != (now.term, now.voted_for);
        let Some(candidate) = now.voted_for.filter(|_| decided) else { return };
        let (Some(lease), Some(owes)) = (self.lease, self.members[at][node].rounds.owes) else {
            return;
        };
        if self.handovers.may_campaign(at, candidate.0 as usize - 1, now.term) {
            return;
        }
        let since = if owes.life == own.life { owes.time } else { Time(0) };
        assert!(
            own.time.since(since) >= lease.election_timeout,
            "lease: node {} of group {} is for {candidate} in term {}, {:?} after a round that it \
             answered or its start",
            NodeId(node as u64 + 1),
            self.groups[at],
            now.term,
            own.time.since(since)
        );
    }
}
