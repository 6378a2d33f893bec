//! Members set anew without a majority, between the operator who asks and the protocol.

use ringleader_wal::{GroupId, LogPosition};

use super::Shard;
use crate::error::{ResetError, UnknownCause};
use crate::raft::era::Era;
use crate::raft::{Configuration, Reset};
use crate::time::Time;

/// The answer to [`Shard::reset_peers`]: the caller's number, and what came of it.
pub type ResetAnswer = (u64, Result<Reset, ResetError>);

/// A reset that is in the log and not durable yet.
#[derive(Debug)]
pub(super) struct Resetting {
    name: u64,
    group: GroupId,
    reset: Reset,
}

impl Shard {
    /// What [`reset_peers`](Self::reset_peers) would do at `now`.
    ///
    /// # Errors
    /// Why it would not.
    pub fn plan_reset(
        &self,
        now: Time,
        group: GroupId,
        members: &Configuration,
    ) -> Result<Reset, ResetError> {
        self.check_runs(ResetError::Stopped, ResetError::Stopped, ResetError::StorageFailed)?;
        let slot = *self.slots.get(&group).ok_or(ResetError::UnknownGroup(group))?;
        if !self.wal.has_space() {
            return Err(ResetError::NoSpace);
        }
        if let Some(unknown) = members.members().find(|node| !self.knows(*node)) {
            return Err(ResetError::UnknownNode(unknown));
        }
        Ok(self.groups[slot as usize].raft.plan_reset(now, members)?)
    }

    /// Sets a group's members anew, without asking anybody. The answer comes with the effects of a
    /// turn, under `name`: a success once it is durable.
    pub fn reset_peers(&mut self, now: Time, name: u64, group: GroupId, members: &Configuration) {
        let begun = self.plan_reset(now, group, members).and_then(|reset| {
            let slot = self.slots[&group];
            let mut result = Ok(reset);
            self.call(slot, |raft, out| result = raft.reset(now, members, out));
            Ok(Resetting { name, group, reset: result? })
        });
        match begun {
            Ok(resetting) => self.resetting.push(resetting),
            Err(error) => self.effects.resets.push((name, Err(error))),
        }
    }

    /// Answers those whose entry is durable.
    pub(super) fn review_resets(&mut self) {
        let mut resetting = std::mem::take(&mut self.resetting);
        resetting.retain(|Resetting { name, group, reset }| {
            let LogPosition { index, term } = reset.at;
            // Otherwise another reset came before this one was durable.
            let raft = self.raft(*group).filter(|raft| Era::of(raft.term()) == Era::of(term));
            let answer = match raft.map(|raft| raft.status().durable >= index) {
                None => Err(ResetError::Unknown(UnknownCause::LeadershipLost)),
                Some(true) => Ok(reset.clone()),
                Some(false) => return true,
            };
            self.effects.resets.push((*name, answer));
            false
        });
        self.resetting = resetting;
    }

    /// Nobody learns any more whether they became durable.
    pub(super) fn give_up_resets(&mut self, cause: UnknownCause) {
        let unknown = |resetting: Resetting| (resetting.name, Err(ResetError::Unknown(cause)));
        self.effects.resets.extend(self.resetting.drain(..).map(unknown));
    }
}
