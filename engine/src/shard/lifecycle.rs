//! How a shard begins, once its log is read, and how it ends.

use std::sync::Arc;

use ringleader_wal::GroupId;

use super::durability::Durability;
use super::group::Group;
use super::snapshot::Opened;
use super::{Death, Notice, RecoverySummary, Shard, ShardConfig, State};
use crate::config::GroupConfig;
use crate::error::{MembershipError, ReadError, ResetError, TransferError, UnknownCause};
use crate::raft::{Configuration, Raft, Restored};
use crate::time::Time;

impl Shard {
    /// Every group's log and state machine are there: the shard takes part from now on.
    pub(super) fn start(&mut self, now: Time, summary: RecoverySummary, opened: Vec<Opened>) {
        if let Err(cause) = self.take_found_identities(&opened) {
            return self.refuse_log(cause);
        }
        let mut founders = Configuration::default();
        for (at, opened) in opened.into_iter().enumerate() {
            let GroupConfig { group, voters } = &self.config.groups[at];
            let (group, mut configuration) = (*group, Configuration::new(voters, &[]));
            configuration.share(&mut founders);
            let mut raft = self.new_raft(now, group, configuration, opened.restored);
            raft.share_configuration(&mut self.last_members);
            let links = self.links.of_group(group, raft.members(), self.config.node);
            self.timers.add();
            self.timers.schedule(at as u32, raft.deadline());
            self.groups.push(Group::new(group, raft, opened.machine, links));
        }
        self.divide_cache();
        self.state = State::Running;
        self.refuse_strangers(now);
        for link in self.links.connected() {
            self.each_on_link(link, |raft, node, out| raft.on_peer_up(now, node, out));
        }
        self.effects.notices.push(Notice::Recovered(summary));
    }

    /// The number of groups changed: when it has doubled, or halved, so has what each may keep for
    /// peers that lag.
    pub(super) fn divide_cache(&mut self) {
        let groups = self.config.groups.len().next_power_of_two();
        let share = self.config.limits.cache_bytes / groups;
        if std::mem::replace(&mut self.cache_share, share) != share {
            self.groups.iter_mut().for_each(|group| group.raft.limit_cache(share));
        }
    }

    pub(super) fn new_raft(
        &self,
        now: Time,
        group: GroupId,
        configuration: Configuration,
        restored: Restored,
    ) -> Raft {
        let ShardConfig { seed, node, raft, priorities, .. } = &self.config;
        let seed = seed ^ group.0.rotate_left(32);
        let mut raft =
            Raft::new(Arc::clone(raft), group, *node, configuration, restored, seed, now);
        raft.limit_cache(self.cache_share);
        if let Some(priorities) = priorities.get(&group) {
            raft.set_priorities(priorities.clone());
        }
        raft
    }

    pub(super) fn refuse_log(&mut self, cause: String) {
        self.state = State::Dead(Death::Storage(cause.clone()));
        self.effects.notices.push(Notice::RecoveryFailed(cause));
    }

    /// The log failed: nothing is acknowledged and nothing is said to anyone from now on.
    pub(super) fn fail(&mut self, cause: String) {
        if matches!(self.state, State::Dead(_)) {
            return;
        }
        let starting = matches!(self.state, State::Recovering);
        self.state = State::Dead(Death::Storage(cause.clone()));
        self.give_up_transfers(&TransferError::StorageFailed(cause.clone()));
        let notice = if starting { Notice::RecoveryFailed } else { Notice::StorageFailed };
        self.effects.notices.push(notice(cause.clone()));
        self.revoke(UnknownCause::StorageFailed, &ReadError::StorageFailed(cause));
        self.retire(UnknownCause::StorageFailed);
    }

    /// Something in this shard panicked, and the driver caught it: whatever the shard was doing may
    /// be half done. It takes part in nothing more: its disk, its peers and its state machines are
    /// left alone. Callers get their answers in the next turn's effects, those that can still be
    /// found; all requests that follow are refused as by a shard that was stopped.
    pub fn abandon(&mut self, cause: String) {
        self.state = State::Dead(Death::Panicked(cause));
        self.effects.disk.clear();
        self.give_up_transfers(&TransferError::Stopped);
        self.revoke(UnknownCause::Stopped, &ReadError::Stopped);
        self.retire(UnknownCause::Stopped);
    }

    /// What this turn decided before is right, but it has not left yet: there is no exception to
    /// who is told what after a failure.
    fn revoke(&mut self, cause: UnknownCause, read: &ReadError) {
        for answer in &mut self.effects.answers {
            answer.revoke(cause);
        }
        for (_, answer) in self.effects.changes.iter_mut().filter(|(_, answer)| answer.is_ok()) {
            *answer = Err(MembershipError::Unknown(cause));
        }
        for (_, answer) in self.effects.resets.iter_mut().filter(|(_, answer)| answer.is_ok()) {
            *answer = Err(ResetError::Unknown(cause));
        }
        self.revoke_existence(cause);
        self.effects.reads.iter_mut().for_each(|run| run.revoke(read));
        self.readers.refuse_all(read, &mut self.effects.reads);
    }

    fn retire(&mut self, cause: UnknownCause) {
        self.durability = Durability::default();
        self.links.fall_silent();
        self.effects.frames.clear();
        self.retire_snapshots();
        self.give_up_resets(cause);
        self.give_up_existence(cause);
        self.give_up_log_reads();
        let is_wreck = self.is_wreck();
        for group in &mut self.groups {
            match is_wreck {
                // Its state machine may be what panicked.
                true => group.give_up(cause, &mut self.effects),
                false => group.retire(cause, &mut self.effects, &self.hooks),
            }
        }
    }

    /// Stops taking part: callers get their answers in the next turn's effects, and the log
    /// finishes what it has. The driver goes on until [`is_stopped`](Self::is_stopped).
    pub fn stop(&mut self) {
        if !matches!(self.state, State::Dead(_)) {
            self.state = State::Dead(Death::Stopped);
            self.give_up_transfers(&TransferError::Stopped);
            self.readers.refuse_all(&ReadError::Stopped, &mut self.effects.reads);
            self.retire(UnknownCause::Stopped);
            self.wal.close();
        }
    }

    /// What a request is refused with by a shard that does not run: that has not recovered yet, was
    /// stopped or abandoned, or whose log failed.
    pub(super) fn check_runs<E>(
        &self,
        recovering: E,
        stopped: E,
        failed: fn(String) -> E,
    ) -> Result<(), E> {
        match &self.state {
            State::Running => Ok(()),
            State::Recovering => Err(recovering),
            State::Dead(Death::Stopped | Death::Panicked(_)) => Err(stopped),
            State::Dead(Death::Storage(cause)) => Err(failed(cause.clone())),
        }
    }

    /// Whether a shard that was told to stop has nothing left to do.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        match self.state {
            // What waits for space on a full disk was never acknowledged, and need not be waited for.
            State::Dead(Death::Stopped) => self.wal.is_idle() || !self.wal.has_space(),
            State::Dead(Death::Storage(_) | Death::Panicked(_)) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use ringleader_wal::{Identity, LogIndex, NodeId, Term, Wal, WalConfig};

    use super::*;
    use crate::config::{Limits, SnapshotConfig};
    use crate::error::ProposeError;
    use crate::raft::RaftConfig;
    use crate::shard::proposal::{Outcome, SubmissionRun};
    use crate::shard::{ClientId, Effects, ShardHealth, Submission};

    fn shard() -> Shard {
        let config = ShardConfig {
            node: NodeId(1),
            data: ringleader_net::DataId(1),
            groups: Vec::new(),
            nodes: Vec::new(),
            raft: Arc::new(RaftConfig::default()),
            limits: Limits::default(),
            snapshots: SnapshotConfig::default(),
            priorities: std::collections::HashMap::new(),
            factory: Box::new(|_| unreachable!("there is no group")),
            seed: 0,
        };
        let identity = Identity { cluster: 1, node: NodeId(1), shard: 0 };
        Shard::new(config, Wal::open(WalConfig::default(), identity))
    }

    fn run() -> SubmissionRun {
        let mut submission = Submission::default();
        submission.push(GroupId(1), 7, b"x");
        SubmissionRun { client: ClientId(0), submission: submission.into(), range: 0..1 }
    }

    /// What becomes of an answer of success that has not left when the shard ends so.
    fn revoked(shard: &mut Shard, ends: impl FnOnce(&mut Shard)) -> (ProposeError, Effects) {
        let (first, term) = (LogIndex(1), Term(1));
        shard.effects.answers.push(run().answer(Outcome::Applied { first, term, replies: None }));
        ends(shard);
        let mut effects = Effects::default();
        shard.turn(&mut effects);
        let Outcome::Failed(error) = &effects.answers[0].outcome else { panic!("a success") };
        (error.clone(), effects)
    }

    #[test]
    fn a_success_that_has_not_left_when_the_log_fails_is_unknown() {
        let (error, _) = revoked(&mut shard(), |shard| shard.fail("EIO".into()));
        assert_eq!(error, ProposeError::Unknown(UnknownCause::StorageFailed));
    }

    #[test]
    fn an_abandoned_shard_touches_nothing_and_refuses_what_comes() {
        let mut shard = shard();
        let abandon = |shard: &mut Shard| shard.abandon("a bug".into());
        let (error, effects) = revoked(&mut shard, abandon);
        assert_eq!(error, ProposeError::Unknown(UnknownCause::Stopped));
        assert!(effects.disk.is_empty() && effects.frames.is_empty(), "not even its first read");
        assert_eq!(shard.health(), ShardHealth::Panicked("a bug".into()));
        let mut submission = Submission::default();
        submission.push(GroupId(1), 7, b"x");
        shard.submit(ClientId(0), submission);
        shard.tick(Time(1));
        let mut effects = Effects::default();
        assert!(!shard.turn(&mut effects));
        let Outcome::Failed(error) = &effects.answers[0].outcome else { panic!("a success") };
        assert_eq!(*error, ProposeError::Stopped);
        assert!(effects.disk.is_empty() && shard.is_stopped());
    }
}
