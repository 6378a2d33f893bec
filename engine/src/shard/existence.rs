//! Groups that come and go while the shard runs.
//!
//! The log is the register of these groups: it says that one was created, and that one was destroyed.
//! The voters of a group that begins are named by its own first entry
//! ([`found`](crate::raft::found)), so that a node needs to be told of it once.
//!
//! A group that is destroyed is as good as a replica whose disk was lost, and that never comes back:
//! it gives no vote and takes no entry any more, so whatever it acknowledged before is counted in
//! vain, and nothing else. For that its number is used up on this node. A replica that came back
//! empty under it could vote twice in a term, or for a leader that lacks what it had acknowledged.

use ringleader_wal::{GroupId, LogPosition, NodeId, Seq, Term};

use super::apply::ReadFor;
use super::group::Group;
use super::links::GroupLinks;
use super::{Notice, Shard};
use crate::config::GroupConfig;
use crate::error::{CreateGroupError, DestroyGroupError, ReadError, ReadLogError, UnknownCause};
use crate::raft::{Configuration, Raft, Restored};
use crate::state_machine::{Entries, Replies, StateMachine};
use crate::time::Time;

/// The answer to [`Shard::create_group`]: the caller's number, and what came of it.
pub type CreateAnswer = (u64, Result<(), CreateGroupError>);

/// The answer to [`Shard::destroy_group`], likewise.
pub type DestroyAnswer = (u64, Result<(), DestroyGroupError>);

/// What is staged and not durable yet, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Existence {
    creating: Vec<Creating>,
    destroying: Vec<Destroying>,
    /// Slots of groups that are gone, for others.
    vacant: Vec<u32>,
}

impl Existence {
    /// Whether a crash may still undo that the group is here. Nothing of it must be on the disk
    /// then that its log does not explain: a snapshot.
    pub(super) fn may_vanish(&self, group: GroupId) -> bool {
        self.creating.iter().any(|creating| creating.group == group)
    }
}

#[derive(Debug)]
struct Creating {
    seq: Seq,
    name: u64,
    group: GroupId,
    /// It was asked for again meanwhile.
    again: bool,
}

#[derive(Debug)]
struct Destroying {
    seq: Seq,
    name: u64,
    group: GroupId,
}

impl Shard {
    /// Creates a group: with its voters, this node among them, or to wait until a leader adds this
    /// node. It takes part at once. The answer comes with the effects of a turn, under `name`: a
    /// success once it is durable.
    pub fn create_group(&mut self, now: Time, name: u64, config: GroupConfig) {
        let group = config.group;
        let creating = self.existence.creating.iter().find(|creating| creating.group == group);
        let begun = match creating {
            // Whoever is told that it is there may rely on that.
            Some(Creating { seq, .. }) => Ok((*seq, true)),
            None => self.check_new(&config).map(|()| (self.begin_group(now, config), false)),
        };
        match begun {
            Ok((seq, again)) => self.existence.creating.push(Creating { seq, name, group, again }),
            Err(error) => self.effects.created.push((name, Err(error))),
        }
    }

    fn check_new(&self, config: &GroupConfig) -> Result<(), CreateGroupError> {
        let stopped = CreateGroupError::Stopped;
        self.check_runs(stopped.clone(), stopped, CreateGroupError::StorageFailed)?;
        let (node, group) = (self.config.node, config.group);
        if self.slots.get(&group).is_some_and(|slot| !self.may_be_founded(*slot, config)) {
            return Err(CreateGroupError::Exists(group));
        }
        if self.wal.is_destroyed(group) {
            return Err(CreateGroupError::Destroyed(group));
        }
        let priorities = self.config.priorities.get(&group);
        config.check(node, priorities).map_err(CreateGroupError::Invalid)?;
        let stranger = |voter: &&NodeId| **voter != node && !self.knows(**voter);
        if let Some(stranger) = config.voters.iter().find(stranger) {
            return Err(CreateGroupError::UnknownNode(*stranger));
        }
        if !self.wal.has_space() {
            return Err(CreateGroupError::NoSpace);
        }
        Ok(())
    }

    /// Whether the group is here and nothing is known of it: so a crash may leave one that was about
    /// to be founded.
    fn may_be_founded(&self, slot: u32, config: &GroupConfig) -> bool {
        let raft = &self.groups[slot as usize].raft;
        let status = raft.status();
        let is_blank = (status.term, status.last) == (Term(0), LogPosition::default());
        is_blank && raft.configuration().is_empty() && !config.voters.is_empty()
    }

    /// The batch that makes it durable.
    fn begin_group(&mut self, now: Time, config: GroupConfig) -> Seq {
        let group = config.group;
        let slot = match self.slots.get(&group) {
            Some(slot) => *slot,
            None => self.place_group(now, group),
        };
        let created = self.wal.create(group);
        let founders = Configuration::new(&config.voters, &[]);
        if founders.is_empty() {
            return created;
        }
        self.call(slot, |raft, out| raft.found(now, &founders, out));
        self.relink(now, slot);
        self.groups[slot as usize].staged
    }

    /// Gives a new group its place, without members.
    fn place_group(&mut self, now: Time, group: GroupId) -> u32 {
        self.number_links(group);
        let raft = self.new_raft(now, group, Configuration::default(), Restored::default());
        let deadline = raft.deadline();
        let machine = (self.config.factory)(group);
        let new = Group::new(group, raft, machine, GroupLinks::new(&[]));
        let slot = self.existence.vacant.pop().unwrap_or_else(|| {
            self.timers.add();
            self.groups.len() as u32
        });
        match self.groups.get_mut(slot as usize) {
            Some(place) => *place = new,
            None => self.groups.push(new),
        }
        self.keep_nothing(slot, now);
        self.slots.insert(group, slot);
        // Its voters are in its log; the node's configuration does not name them.
        self.config.groups.push(GroupConfig { group, voters: Vec::new() });
        self.divide_cache();
        self.timers.schedule(slot, deadline);
        self.effects.notices.push(Notice::GroupCreated(group));
        slot
    }

    /// Destroys this node's replica of a group, with all that it has of it. While the node is a
    /// member, as far as it knows, it is refused unless `member_too`. The group is gone at once, and
    /// the answer comes as with [`create_group`](Self::create_group).
    pub fn destroy_group(&mut self, name: u64, group: GroupId, member_too: bool) {
        match self.check_dispensable(group, member_too) {
            Ok(slot) => {
                self.call(slot, Raft::before_destruction);
                let seq = self.end_group(slot);
                self.existence.destroying.push(Destroying { seq, name, group });
            }
            Err(error) => self.effects.destroyed.push((name, Err(error))),
        }
    }

    fn check_dispensable(
        &self,
        group: GroupId,
        member_too: bool,
    ) -> Result<u32, DestroyGroupError> {
        let stopped = DestroyGroupError::Stopped;
        self.check_runs(stopped.clone(), stopped, DestroyGroupError::StorageFailed)?;
        let slot = *self.slots.get(&group).ok_or(DestroyGroupError::UnknownGroup(group))?;
        let members = self.groups[slot as usize].raft.configuration();
        match members.contains(self.config.node) && !member_too {
            true => Err(DestroyGroupError::StillMember(group)),
            false => Ok(slot),
        }
    }

    /// Takes a group out of everything that knows of it; its place is vacant then.
    fn end_group(&mut self, slot: u32) -> Seq {
        let now = self.groups[slot as usize].raft.now();
        let group = self.groups[slot as usize].id;
        self.slots.remove(group);
        let Self { existence, effects, .. } = self;
        let creating = existence.creating.extract_if(.., |creating| creating.group == group);
        let destroyed =
            |creating: Creating| (creating.name, Err(CreateGroupError::Destroyed(creating.group)));
        effects.created.extend(creating.map(destroyed));
        self.config.groups.retain(|config| config.group != group);
        self.divide_cache();
        self.proposing.retain(|proposing| *proposing != slot);
        self.applying.retain(|applying| *applying != slot);
        self.durability.forget(slot);
        self.forget_transfers(slot);
        self.forget_disk_reads(slot, group);
        self.forget_snapshots(slot);
        let unknown = ReadError::UnknownGroup(group);
        self.readers.forget(slot, &unknown, &mut self.effects.reads);
        let raft = self.new_raft(now, group, Configuration::default(), Restored::default());
        let vacant = Group::new(group, raft, Box::new(Nobody), GroupLinks::new(&[]));
        let mut gone = std::mem::replace(&mut self.groups[slot as usize], vacant);
        gone.retire(UnknownCause::LeadershipLost, &mut self.effects, &self.hooks);
        self.existence.vacant.push(slot);
        self.effects.notices.push(Notice::GroupDestroyed(group));
        self.wal.destroy(group)
    }

    fn forget_disk_reads(&mut self, slot: u32, group: GroupId) {
        let Self { reads, effects, log_reads, .. } = self;
        reads.retain(|_, read| match *read {
            ReadFor::Peer { slot: of, .. } | ReadFor::Apply { slot: of } => of != slot,
            ReadFor::Caller(read) if read.group == group => {
                let unknown = Err(ReadLogError::UnknownGroup(group));
                effects.log_reads.push((read.name, unknown));
                *log_reads -= 1;
                false
            }
            ReadFor::Caller(_) => true,
        });
    }

    /// Answers those whose record is durable.
    pub(super) fn settle_existence(&mut self, durable: Seq) {
        let Existence { creating, destroying, .. } = &mut self.existence;
        let created = creating.extract_if(.., |creating| creating.seq <= durable);
        self.effects.created.extend(created.map(|Creating { name, group, again, .. }| {
            (name, if again { Err(CreateGroupError::Exists(group)) } else { Ok(()) })
        }));
        let destroyed = destroying.extract_if(.., |destroying| destroying.seq <= durable);
        for Destroying { name, group, .. } in destroyed.collect::<Vec<_>>() {
            // Before, a crash would have brought back a group without its snapshots.
            self.remove_snapshots(group);
            self.effects.destroyed.push((name, Ok(())));
        }
    }

    /// Nobody learns any more whether it became durable.
    pub(super) fn give_up_existence(&mut self, cause: UnknownCause) {
        let Self { existence, effects, .. } = self;
        let created = existence.creating.drain(..).map(|creating| creating.name);
        let unknown = |name| (name, Err(CreateGroupError::Unknown(cause)));
        effects.created.extend(created.map(unknown));
        let destroyed = existence.destroying.drain(..).map(|destroying| destroying.name);
        let unknown = |name| (name, Err(DestroyGroupError::Unknown(cause)));
        effects.destroyed.extend(destroyed.map(unknown));
    }

    /// Successes that have not left yet are none.
    pub(super) fn revoke_existence(&mut self, cause: UnknownCause) {
        for (_, answer) in self.effects.created.iter_mut().filter(|(_, answer)| answer.is_ok()) {
            *answer = Err(CreateGroupError::Unknown(cause));
        }
        for (_, answer) in self.effects.destroyed.iter_mut().filter(|(_, answer)| answer.is_ok()) {
            *answer = Err(DestroyGroupError::Unknown(cause));
        }
    }
}

/// In a vacant place: nothing is ever committed there.
struct Nobody;

impl StateMachine for Nobody {
    fn apply(&mut self, _: &Entries<'_>, _: &mut Replies) {}
}
