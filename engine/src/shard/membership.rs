//! Changes of a group's members, between those who ask for them and the protocol.

use ringleader_wal::{Block, BlockKind, GroupId, LogIndex, NodeId};

use super::Shard;
use super::group::Group;
use crate::error::{MembershipError, UnknownCause};
use crate::raft::{ChangeError, Changing, Configuration, Event, MembershipChange};
use crate::time::Time;

/// The answer to [`Shard::change_members`]: the caller's number, and the log index of the
/// configuration that the change led to.
pub type ChangeAnswer = (u64, Result<LogIndex, MembershipError>);

/// A change that this node was asked for and that is under way.
#[derive(Debug)]
pub(super) struct Asked {
    name: u64,
    /// The configuration in force when it began.
    before: LogIndex,
    /// It is in the log, so that other leaders may bring it to its end.
    in_log: bool,
}

impl Shard {
    /// Begins to change a group's members. The answer comes with the effects of a turn, under
    /// `name`.
    pub fn change_members(
        &mut self,
        now: Time,
        name: u64,
        group: GroupId,
        change: &MembershipChange,
    ) {
        if let Err(error) = self.begin_change(now, name, group, change) {
            self.effects.changes.push((name, Err(error)));
        }
    }

    fn begin_change(
        &mut self,
        now: Time,
        name: u64,
        group: GroupId,
        change: &MembershipChange,
    ) -> Result<(), MembershipError> {
        let not_yet = MembershipError::NotLeader { leader: None };
        self.check_runs(not_yet, MembershipError::Stopped, MembershipError::StorageFailed)?;
        let slot = *self.slots.get(&group).ok_or(MembershipError::UnknownGroup(group))?;
        if !self.wal.has_space() {
            return Err(MembershipError::NoSpace);
        }
        let new = change.voters.iter().chain(&change.learners);
        if let Some(unknown) = new.copied().find(|node| !self.knows(*node)) {
            return Err(MembershipError::UnknownNode(unknown));
        }
        let at = &mut self.groups[slot as usize];
        let leader = at.raft.leader();
        let (before, _) = at.raft.configuration_at(LogIndex(u64::MAX));
        let earlier = at.asked.take();
        let refused = |error| match error {
            ChangeError::NotLeader => MembershipError::NotLeader { leader },
            ChangeError::NotReady => MembershipError::NotReady,
            ChangeError::InProgress => MembershipError::InProgress,
            ChangeError::Transferring => MembershipError::Transferring,
            ChangeError::Impossible(what) => MembershipError::Impossible(what),
        };
        at.asked = Some(Box::new(Asked { name, before, in_log: false }));
        let mut result = Ok(Changing::Begun);
        self.call(slot, |raft, out| result = raft.change_members(now, change, out));
        let at = &mut self.groups[slot as usize];
        match result {
            Ok(Changing::Begun) => Ok(()),
            Ok(Changing::Unchanged(index)) => {
                at.asked = earlier;
                self.effects.changes.push((name, Ok(index)));
                Ok(())
            }
            Err(error) => {
                at.asked = earlier;
                Err(refused(error))
            }
        }
    }

    pub(super) fn knows(&self, node: NodeId) -> bool {
        node == self.config.node || self.links.knows(node)
    }
}

impl Group {
    /// The protocol said something about the members.
    pub(super) fn follow_members(&mut self, event: &Event, answers: &mut Vec<ChangeAnswer>) {
        match event {
            Event::Reconfigured => {
                let (latest, _) = self.raft.configuration_at(LogIndex(u64::MAX));
                self.tells_members |= latest > self.raft.applied_index();
                if let Some(asked) = self.asked.as_mut().filter(|asked| latest > asked.before) {
                    asked.in_log = true;
                }
            }
            Event::MembersChanged { at } => {
                if let Some(asked) = self.asked.take() {
                    answers.push((asked.name, Ok(*at)));
                }
            }
            Event::ChangeGivenUp { node } => {
                if let Some(asked) = self.asked.take() {
                    answers.push((asked.name, Err(MembershipError::TooSlow(*node))));
                }
            }
            _ => {}
        }
    }

    /// This node can't say what becomes of the change that it was asked for, unless that had not
    /// got into the log.
    pub(super) fn give_up_change(&mut self, cause: UnknownCause, answers: &mut Vec<ChangeAnswer>) {
        let Some(asked) = self.asked.take() else { return };
        let error = match cause {
            _ if asked.in_log => MembershipError::Unknown(cause),
            UnknownCause::LeadershipLost => {
                MembershipError::NotLeader { leader: self.raft.leader() }
            }
            UnknownCause::Stopped => MembershipError::Stopped,
            UnknownCause::StorageFailed => MembershipError::StorageFailed("see the log".into()),
        };
        answers.push((asked.name, Err(error)));
    }

    /// Tells the state machine of the configurations among the entries in `(before, last]`.
    #[cold]
    pub(super) fn tell_members(&mut self, before: LogIndex, last: LogIndex) {
        let mut at = before;
        while let Some((index, configuration)) = self.raft.configuration_after(at, last) {
            self.machine.configuration_committed(index, configuration);
            at = index;
        }
        let (latest, _) = self.raft.configuration_at(LogIndex(u64::MAX));
        self.tells_members = latest > last;
    }
}

/// The configuration entry that recovery found, read.
///
/// # Errors
/// When a later version wrote it, or nobody did.
pub(super) fn read_configuration(block: &Block) -> Result<(LogIndex, Configuration), String> {
    debug_assert_eq!(block.kind(), BlockKind::Configuration);
    let index = block.first_index();
    let read = Configuration::of_entry(block.payload(index));
    read.map(|configuration| (index, configuration))
        .map_err(|error| format!("group {}, entry {index}: {error}", block.group()))
}
