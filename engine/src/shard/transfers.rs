//! Leaderships on their way to other nodes: because a caller asked for it, or because the shard is
//! about to stop.

use std::time::Duration;

use ringleader_wal::{GroupId, NodeId, Term};

use super::counters::notice;
use super::effects::GroupEvent;
use super::{Shard, State};
use crate::error::TransferError;
use crate::raft::transfer::TransferRefused;
use crate::time::Time;

/// Names a transfer among those of its shard; the driver gives the numbers out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u64);

/// A leadership that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// The group's leader.
    pub leader: NodeId,
    /// The term in which it leads.
    pub term: Term,
}

/// What became of a transfer.
pub type TransferResult = Result<Transferred, TransferError>;

/// A caller's transfer that was begun.
#[derive(Debug)]
struct Pending {
    id: TransferId,
    slot: u32,
    to: NodeId,
    /// The term in which this node leads.
    term: Term,
    /// Its caller is told then that nobody knows.
    until: Time,
}

#[derive(Debug, Default)]
pub(super) struct Transfers {
    pending: Vec<Pending>,
    leaving: Option<Leaving>,
    /// Those that the driver was told of, whoever began them.
    told: Vec<Told>,
}

/// A transfer that is under way.
#[derive(Debug)]
struct Told {
    slot: u32,
    to: NodeId,
    /// The term in which this node leads.
    term: Term,
}

/// The shard hands over whatever it leads before it stops.
#[derive(Debug)]
struct Leaving {
    /// It stops then in any case.
    until: Time,
    /// The groups that were handed over: one that has no leader yet may need this node's vote.
    handed: Vec<u32>,
}

/// Election timeouts after which a caller is told that nobody is known to lead: one in which this
/// node may go on by itself, and as many as an election takes.
const PATIENCE: u32 = 4;

impl Shard {
    /// Hands the leadership of a group to `to`, or to the voter that can take over the soonest. What
    /// was submitted before is appended before; until this is over, proposals are refused. The
    /// answer comes with the [`Effects`](super::Effects) of a turn.
    pub fn transfer(&mut self, now: Time, id: TransferId, group: GroupId, to: Option<NodeId>) {
        match self.begin_transfer(now, id, group, to) {
            Ok(pending) => self.transfers.pending.push(pending),
            Err(error) => self.effects.transfers.push((id, Err(error))),
        }
    }

    fn begin_transfer(
        &mut self,
        now: Time,
        id: TransferId,
        group: GroupId,
        to: Option<NodeId>,
    ) -> Result<Pending, TransferError> {
        let not_yet = TransferRefused::NotLeader { leader: None }.into();
        self.check_runs(not_yet, TransferError::Stopped, TransferError::StorageFailed)?;
        let slot = *self.slots.get(&group).ok_or(TransferError::UnknownGroup(group))?;
        let to = self.hand_over(now, slot, to)?;
        let until = now + self.config.raft.election_timeout * PATIENCE;
        let term = self.groups[slot as usize].raft.term();
        Ok(Pending { id, slot, to, term, until })
    }

    fn hand_over(
        &mut self,
        now: Time,
        slot: u32,
        to: Option<NodeId>,
    ) -> Result<NodeId, TransferRefused> {
        // What was admitted is appended, and so committed before the leadership goes.
        self.propose_incoming();
        let mut begun = Err(TransferRefused::NotLeader { leader: None });
        self.call(slot, |raft, out| begun = raft.transfer(now, to, out));
        self.note_transfer(slot);
        begun
    }

    /// Tells the driver if a group's leadership is being handed over: on request, or by a leader that
    /// was removed.
    pub(super) fn note_transfer(&mut self, slot: u32) {
        let raft = &self.groups[slot as usize].raft;
        let (to, term) = (raft.transfers_to(), raft.term());
        self.review_told();
        if let Some(to) = to
            && self.transfers.told.iter().all(|told| told.slot != slot)
        {
            self.transfers.told.push(Told { slot, to, term });
            self.tell_of(slot, GroupEvent::TransferBegun { to });
        }
    }

    /// Tells the driver what became of transfers.
    fn review_told(&mut self) {
        let Self { transfers, groups, effects, .. } = self;
        transfers.told.retain(|&Told { slot, to, term }| {
            let group = &groups[slot as usize];
            let what = match group.raft.leader() {
                Some(leader) if group.raft.term() > term && leader == to => {
                    GroupEvent::TransferDone { to }
                }
                Some(_) if group.raft.transfers_to() == Some(to) => return true,
                Some(_) => GroupEvent::TransferGivenUp { to },
                None => return true,
            };
            effects.notices.push(notice(group, what));
            false
        });
    }

    /// Tells callers what became of their transfers; `now` is given where time passed.
    pub(super) fn review_transfers(&mut self, now: Option<Time>) {
        if !self.transfers.told.is_empty() {
            self.review_told();
        }
        if self.transfers.pending.is_empty() {
            return;
        }
        let Self { transfers, groups, effects, .. } = self;
        transfers.pending.retain(|pending| {
            let raft = &groups[pending.slot as usize].raft;
            let result = match raft.leader() {
                Some(leader) if raft.term() > pending.term && leader == pending.to => {
                    Ok(Transferred { leader, term: raft.term() })
                }
                Some(leader) if raft.term() > pending.term => {
                    Err(TransferError::Elected { leader })
                }
                Some(_) if raft.takes_proposals() => {
                    Err(TransferError::NotTaken { to: pending.to })
                }
                _ if now.is_some_and(|now| now >= pending.until) => {
                    Err(TransferError::Unsettled { to: pending.to })
                }
                _ => return true,
            };
            effects.transfers.push((pending.id, result));
            false
        });
    }

    /// A group is gone.
    pub(super) fn forget_transfers(&mut self, slot: u32) {
        let gone = self.transfers.pending.extract_if(.., |pending| pending.slot == slot);
        let error = TransferError::UnknownGroup(self.groups[slot as usize].id);
        self.effects.transfers.extend(gone.map(|pending| (pending.id, Err(error.clone()))));
        self.transfers.told.retain(|told| told.slot != slot);
        if let Some(leaving) = &mut self.transfers.leaving {
            leaving.handed.retain(|handed| *handed != slot);
        }
    }

    /// Nobody learns any more what becomes of transfers.
    pub(super) fn give_up_transfers(&mut self, error: &TransferError) {
        self.transfers.leaving = None;
        self.transfers.told.clear();
        let pending = self.transfers.pending.drain(..);
        self.effects.transfers.extend(pending.map(|pending| (pending.id, Err(error.clone()))));
    }

    /// Stops the shard as [`stop`](Self::stop) does, but hands over before whatever it leads: it
    /// stops when every such group has another leader or nobody else is fit, and when `within` has
    /// passed.
    pub fn leave(&mut self, now: Time, within: Duration) {
        if !matches!(self.state, State::Running) || within.is_zero() {
            self.stop();
        } else if self.transfers.leaving.is_none() {
            self.transfers.leaving = Some(Leaving { until: now + within, handed: Vec::new() });
            self.go_on_leaving(now);
        }
    }

    /// Hands over what this shard leads, again if need be, and stops when nothing is left to wait
    /// for.
    pub(super) fn go_on_leaving(&mut self, now: Time) {
        let Some(Leaving { until, mut handed }) = self.transfers.leaving.take() else { return };
        for slot in 0..self.groups.len() as u32 {
            let leads = self.groups[slot as usize].raft.takes_proposals();
            if leads && self.hand_over(now, slot, None).is_ok() {
                handed.push(slot);
            }
        }
        handed.sort_unstable();
        handed.dedup();
        handed.retain(|slot| {
            let raft = &self.groups[*slot as usize].raft;
            raft.leader().is_none() || raft.transfers_to().is_some()
        });
        if handed.is_empty() || now >= until {
            self.stop();
        } else {
            self.transfers.leaving = Some(Leaving { until, handed });
        }
    }
}
