//! Elections: asking for votes and giving them.

use ringleader_wal::{LogPosition, NodeId, Term};

use super::configuration::Configuration;
use super::era::{is_out_of_reach, may_lead};
use super::message::Message;
use super::output::Outlet;
use super::quorum::VoteResult;
use super::{Raft, Role};

/// The answers so far; the first of each voter counts, unless a grant follows a refusal.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidate {
    votes: Vec<(NodeId, bool)>,
    /// The leader asked for this candidature.
    handover: bool,
}

impl Candidate {
    fn record(&mut self, voter: NodeId, granted: bool) {
        match self.votes.iter_mut().find(|vote| vote.0 == voter) {
            Some(vote) => vote.1 |= granted,
            None => self.votes.push((voter, granted)),
        }
    }

    fn result(&self, configuration: &Configuration) -> VoteResult {
        configuration.vote_result(|node| {
            self.votes.iter().find(|(voter, _)| *voter == node).map(|(_, granted)| *granted)
        })
    }

    fn answered(&self, voter: NodeId) -> bool {
        self.votes.iter().any(|vote| vote.0 == voter)
    }
}

impl Raft {
    /// The election timer ran out.
    pub(super) fn campaign(&mut self, out: &mut dyn Outlet) {
        self.state.stand_in();
        self.state.retry_election_timer();
        if is_out_of_reach(self.state.term().next()) {
            return;
        }
        if self.state.config.pre_vote {
            self.role = Role::PreCandidate(Box::default());
            self.ask_for_votes(out);
            self.count_pre_vote(self.state.node, true, out);
        } else {
            self.start_election(false, out);
        }
    }

    /// Its own vote counts once it is durable, in [`Raft::on_durable`]: a single voter that elected
    /// itself sooner could do so twice.
    pub(super) fn start_election(&mut self, handover: bool, out: &mut dyn Outlet) {
        self.state.retry_election_timer();
        let term = self.state.term().next();
        self.state.set_hard_state(term, Some(self.state.node));
        self.role = Role::Candidate(Box::new(Candidate { votes: Vec::new(), handover }));
        self.ask_for_votes(out);
    }

    fn ask_for_votes(&self, out: &mut dyn Outlet) {
        let node = self.state.node;
        for peer in self.state.configurations.latest().deciders().filter(|peer| *peer != node) {
            self.ask_for_vote(peer, out);
        }
    }

    /// Asks, or asks again a peer that may not have got the first request.
    pub(super) fn ask_for_vote(&self, peer: NodeId, out: &mut dyn Outlet) {
        let (term, last) = (self.state.term(), self.state.log.last());
        match &self.role {
            Role::PreCandidate(candidate) if !candidate.answered(peer) => {
                let term = term.next();
                out.send(peer, Message::PreVoteRequest { term, last });
            }
            Role::Candidate(candidate) if !candidate.answered(peer) => {
                let handover = candidate.handover;
                self.state.send(peer, Message::VoteRequest { term, last, handover }, out);
            }
            _ => {}
        }
    }

    pub(super) fn count_pre_vote(&mut self, voter: NodeId, granted: bool, out: &mut dyn Outlet) {
        let Role::PreCandidate(candidate) = &mut self.role else { return };
        candidate.record(voter, granted);
        match candidate.result(self.state.configurations.latest()) {
            VoteResult::Won => self.start_election(false, out),
            VoteResult::Lost => self.become_follower(self.state.term(), None),
            VoteResult::Pending => {}
        }
    }

    pub(super) fn count_vote(&mut self, voter: NodeId, granted: bool, out: &mut dyn Outlet) {
        let Role::Candidate(candidate) = &mut self.role else { return };
        candidate.record(voter, granted);
        match candidate.result(self.state.configurations.latest()) {
            VoteResult::Won => self.become_leader(out),
            VoteResult::Lost => self.become_follower(self.state.term(), None),
            VoteResult::Pending => {}
        }
    }

    /// Says whether a vote would be given (thesis, section 9.6). Nothing changes and nothing is
    /// promised, so the answer waits for no disk. Whoever follows a live leader would not vote.
    pub(super) fn pre_vote_request(
        &mut self,
        from: NodeId,
        term: Term,
        last: LogPosition,
        out: &mut dyn Outlet,
    ) {
        let protects = self.protects_leader();
        let up_to_date = self.state.is_up_to_date(last);
        if !up_to_date && !protects {
            self.state.refused_for_its_log(out);
        }
        let granted = term > self.state.term() && up_to_date && may_lead(last, term) && !protects;
        // A refusal shows the asker a term that it may have missed. Without that, one that is
        // behind could ask in vain for ever.
        let term = if granted { term } else { self.state.term() };
        out.send(from, Message::PreVoteResponse { term, granted });
    }

    /// Votes at most once in a term, for a log that is at least as complete as its own (thesis,
    /// sections 3.4 and 3.6.1). The term of the request was adopted before, if it is newer.
    pub(super) fn vote_request(
        &mut self,
        from: NodeId,
        term: Term,
        last: LogPosition,
        out: &mut dyn Outlet,
    ) {
        let voted_for = self.state.hard_state().voted_for;
        let granted = term == self.state.term()
            && (voted_for == Some(from) || (voted_for.is_none() && self.leader().is_none()))
            && self.state.is_up_to_date(last)
            && may_lead(last, term);
        if granted && voted_for.is_none() {
            self.state.set_hard_state(term, Some(from));
            self.state.restart_election_timer();
        } else if self.leader().is_none() && !self.state.is_up_to_date(last) {
            self.state.refused_for_its_log(out);
        }
        let term = self.state.term();
        self.state.send(from, Message::VoteResponse { term, granted }, out);
    }

    /// Whether other candidates are refused for the sake of a leader that works (thesis, section
    /// 4.2.3). A leader that lost its quorum is not one for longer than check-quorum takes.
    pub(super) fn protects_leader(&self) -> bool {
        match self.role {
            Role::Leader(_) => self.state.config.check_quorum,
            _ => self.state.follows_live_leader(),
        }
    }
}
