//! Handing the leadership over (thesis, section 3.10).
//!
//! ```text
//! leader                                          target              the others
//!   transfer: proposals are refused
//!   until everything is committed, and durable on the target
//!   TimeoutNow ------------------------------------>
//!                                      campaigns at once: no pre-vote
//!   <------------------------------ VoteRequest, handover ------------->
//!   votes, and follows                                                vote, although
//!                                                                  they hear a leader
//! ```
//!
//! Everything is committed first, so that no proposal's outcome becomes unknown. A leader that still
//! leads an election timeout later, or whose connection to the target breaks, goes on as before. What
//! it sent may be under way still; it is of no use once the leader has gone on: a target obeys only
//! the leader of its own term, and only while its log ends where the leader's did. Within these
//! bounds the leadership may change later than the leader was willing to wait, as it may at any time.

use ringleader_wal::{LogPosition, NodeId};

use super::leader::Leader;
use super::message::Message;
use super::output::Outlet;
use super::progress::{Mode, Progress};
use super::state::State;
use super::{Raft, Role};
use crate::time::Time;

/// Why a transfer was not begun; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferRefused {
    /// Another node leads the group, or nobody that this node knows of.
    #[error("this node does not lead the group{}", leader.map(|l| format!(" (node {l} does)")).unwrap_or_default())]
    NotLeader {
        /// The leader, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The target has no vote in the group.
    #[error("node {0} is not a voter of the group")]
    NotVoter(NodeId),
    /// The target is this node, which leads already.
    #[error("this node leads the group already")]
    Leads,
    /// An earlier transfer has not ended.
    #[error("the leadership is being transferred to node {to}")]
    UnderWay {
        /// Its target.
        to: NodeId,
    },
    /// The target's priority is 0.
    #[error("node {0} has priority 0, and leads only where nobody else can")]
    NeverLeads(NodeId),
    /// The group's members are being changed.
    #[error("a change of the members is under way")]
    MembersChange,
    /// The target has not been heard from for an election timeout.
    #[error("node {0} does not answer")]
    Unreachable(NodeId),
    /// No other voter is connected and has a log that is known to agree.
    #[error("no other voter is fit to lead")]
    NobodyFit,
}

/// A transfer that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    to: NodeId,
    /// The leader goes on by itself then.
    until: Time,
    /// The target was told.
    told: bool,
}

impl Raft {
    /// Begins to hand the leadership to `to`, or to the voter whose log is the most complete, and
    /// says who that is. It has succeeded when [`Raft::leader`] says so. It has failed when somebody
    /// else leads a later term, or when this node still leads and [`Raft::transfers_to`] nobody any
    /// more: an election timeout later at the latest.
    ///
    /// # Errors
    /// Nothing was begun.
    pub fn transfer(
        &mut self,
        now: Time,
        to: Option<NodeId>,
        out: &mut dyn Outlet,
    ) -> Result<NodeId, TransferRefused> {
        self.advance_clock(now);
        self.wake(None, out);
        let leader = self.leader();
        let Role::Leader(at) = &mut self.role else {
            return Err(TransferRefused::NotLeader { leader });
        };
        at.begin_transfer(to, &self.state, out)
    }

    /// To whom this leader is handing its office. It appends nothing meanwhile.
    #[must_use]
    pub fn transfers_to(&self) -> Option<NodeId> {
        self.transfer_attempt().map(|(to, _)| to)
    }

    /// The same, with the moment at which the attempt ends.
    pub(super) fn transfer_attempt(&self) -> Option<(NodeId, Time)> {
        match &self.role {
            Role::Leader(leader) => {
                leader.transfer.as_ref().map(|transfer| (transfer.to, transfer.until))
            }
            _ => None,
        }
    }

    /// Whether this node leads and is not about to hand that over.
    #[must_use]
    pub fn takes_proposals(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.transfer.is_none())
    }

    /// The leader of this term wants to be followed by this node at once, provided that nothing
    /// was appended since.
    pub(super) fn timeout_now(&mut self, from: NodeId, last: LogPosition, out: &mut dyn Outlet) {
        let state = &self.state;
        if state.may_campaign() && self.leader() == Some(from) && state.log.last() == last {
            self.start_election(true, out);
        }
    }
}

impl Leader {
    pub(super) fn begin_transfer(
        &mut self,
        to: Option<NodeId>,
        state: &State,
        out: &mut dyn Outlet,
    ) -> Result<NodeId, TransferRefused> {
        let to = self.choose(state, to)?;
        let until = state.now + state.config.election_timeout;
        self.transfer = Some(Box::new(Transfer { to, until, told: false }));
        self.pursue_transfer(state, out);
        out.reschedule();
        Ok(to)
    }

    fn choose(&self, state: &State, to: Option<NodeId>) -> Result<NodeId, TransferRefused> {
        if let Some(transfer) = &self.transfer {
            return Err(TransferRefused::UnderWay { to: transfer.to });
        }
        if self.changes_members(state) {
            return Err(TransferRefused::MembersChange);
        }
        let Some(to) = to else { return self.best(state).ok_or(TransferRefused::NobodyFit) };
        if to == state.node {
            return Err(TransferRefused::Leads);
        }
        let peer = self.peers.iter().find(|peer| peer.id == to);
        match peer.filter(|_| state.configurations.latest().has_vote(to)) {
            None => Err(TransferRefused::NotVoter(to)),
            Some(_) if state.priority_of(to) == 0 => Err(TransferRefused::NeverLeads(to)),
            Some(peer) if !answers(peer, state) => Err(TransferRefused::Unreachable(to)),
            Some(_) => Ok(to),
        }
    }

    /// The voter that can take over the soonest.
    fn best(&self, state: &State) -> Option<NodeId> {
        let fit = |peer: &&Progress| {
            peer.mode == Mode::Replicate
                && answers(peer, state)
                && state.configurations.latest().has_vote(peer.id)
                && state.priority_of(peer.id) > 0
        };
        let best = self
            .peers
            .iter()
            .filter(fit)
            .max_by_key(|peer| (peer.match_index, state.priority_of(peer.id)));
        best.map(|peer| peer.id)
    }

    /// A leader that was removed hands over to the best voter, if one is fit.
    pub(super) fn begin_farewell(&mut self, state: &State, out: &mut dyn Outlet) {
        let until = state.now + state.config.election_timeout;
        let begin = |to| Box::new(Transfer { to, until, told: false });
        self.transfer = self.best(state).map(begin);
        self.pursue_transfer(state, out);
    }

    /// Whether the target has not been told yet.
    pub(super) fn is_handing_over(&self) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| !transfer.told)
    }

    /// Tells the target, as soon as it has everything and everything is committed.
    pub(super) fn pursue_transfer(&mut self, state: &State, out: &mut dyn Outlet) {
        let Some(transfer) = self.transfer.as_mut().filter(|transfer| !transfer.told) else {
            return;
        };
        let last = state.log.last();
        let target = self.peers.iter().find(|peer| peer.id == transfer.to);
        let has_all = target.is_some_and(|target| target.match_index == last.index);
        if has_all && state.commit_index == last.index {
            transfer.told = true;
            let to = transfer.to;
            self.give_up_lease();
            out.send(to, Message::TimeoutNow { term: state.term(), last });
        }
    }

    /// The target answers, in the term that it should have left if it had been told: it was lost.
    pub(super) fn remind_target(&mut self, state: &State, from: NodeId, out: &mut dyn Outlet) {
        if let Some(transfer) = self.transfer.as_mut().filter(|transfer| transfer.to == from) {
            transfer.told = false;
            self.pursue_transfer(state, out);
        }
    }

    /// When this leader goes on by itself.
    pub(super) fn transfer_deadline(&self) -> Time {
        self.transfer.as_ref().map_or(Time::NEVER, |transfer| transfer.until)
    }

    /// The target can't be reached: the attempt is over.
    pub(super) fn end_transfer_to(&mut self, id: NodeId) {
        self.transfer.take_if(|transfer| transfer.to == id);
    }

    /// An attempt that took too long is over.
    pub(super) fn end_late_transfer(&mut self, state: &State) {
        self.transfer.take_if(|transfer| transfer.until <= state.now);
    }
}

fn answers(peer: &Progress, state: &State) -> bool {
    state.now.since(peer.heard_at) < state.config.election_timeout
}
