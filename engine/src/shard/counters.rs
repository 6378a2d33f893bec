//! What a shard counts as it goes, in plain fields, and what it tells of its groups.

use ringleader_wal::{GroupId, LogIndex, Term, WalStats, WalStatus};
use serde::{Deserialize, Serialize};

use super::effects::{GroupEvent, GroupNotice, Notice, StepDown};
use super::group::Group;
use super::{Death, GroupStatus, Shard, State};
use crate::raft::Event;

/// Counters since the shard was made. Those of the steady state are counted once per block, run or
/// turn, never per entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Turns.
    pub turns: u64,
    /// Blocks proposed here.
    pub blocks_proposed: u64,
    /// Operations proposed here.
    pub operations_proposed: u64,
    /// Times that a group had something to apply, of which a turn does a part or all.
    pub apply_calls: u64,
    /// Entries applied, those without an operation included.
    pub entries_applied: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Messages that waited for the log before they left.
    pub messages_held: u64,
    /// Append requests that found no room in the outbox.
    pub requests_dropped: u64,
    /// Reads of the log for a peer that lags.
    pub peer_reads: u64,
    /// Reads of the log for a state machine that lags.
    pub apply_reads: u64,
    /// Timers of groups that ran out.
    pub timeouts: u64,
    /// Times that nothing came for an election timeout from a peer that is connected; all groups
    /// that rest on it wake then.
    pub silences: u64,
    /// Requests for reads of a group: each asks for all reads that had come by then, with a round
    /// of heartbeats, a question to the leader, or nothing but the lease.
    pub read_requests: u64,
    /// Snapshots.
    pub snapshots: SnapshotCounters,
    /// What happened in all groups together.
    pub groups: GroupHistory,
}

/// What became of snapshots since the shard was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SnapshotCounters {
    /// Taken here, and durable.
    pub taken: u64,
    /// Bytes of their files.
    pub taken_bytes: u64,
    /// Nanoseconds from the beginning of each until it was durable, all together. The beginning is the
    /// tick before it, so that one may seem longer by a few milliseconds.
    pub taken_nanos: u64,
    /// Sent to peers as a whole; one that had to be sent again counts again.
    pub sent: u64,
    /// Bytes sent of snapshots, unfinished ones too.
    pub sent_bytes: u64,
    /// Received from leaders, and put in place of log and state machine.
    pub installed: u64,
    /// Bytes of their files.
    pub installed_bytes: u64,
    /// Transfers to peers whose connection was lost on the way.
    pub broken: u64,
    /// Those of them that went on from where they were.
    pub resumed: u64,
    /// Transfers to peers that were given up, because the peer did not get on or this node stopped
    /// leading.
    pub sends_given_up: u64,
    /// Transfers from leaders that were given up, because they did not get on or a newer one came.
    pub receives_given_up: u64,
    /// Attempts to take, send or install one that failed.
    pub failed: u64,
    /// Times that a peer lacked what the log no longer held and the state machine gave no snapshot
    /// for it.
    pub stranded: u64,
}

/// What happened in a group, as this node saw it, since the shard was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupHistory {
    /// Elections that this node stood in, with a vote of its own; pre-votes don't count.
    pub elections: u32,
    /// Elections that it won.
    pub elected: u32,
    /// Times that it stopped leading.
    pub stepped_down: u32,
    /// Leaders that it learned of, itself included.
    pub leader_changes: u32,
    /// Times that entries of an earlier leader were dropped from its log.
    pub truncations: u32,
}

/// What waits in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupQueues {
    /// Bytes of proposals in flight; see [`Limits::group_bytes`](crate::Limits).
    pub in_flight_bytes: usize,
    /// Submissions that are in the log and wait to be applied.
    pub waiting: usize,
    /// Whether entries to be applied are being read from the log.
    pub loading: bool,
    /// Reads that wait: to be asked for, to be confirmed, or for what they need to be applied.
    #[serde(default)]
    pub reads: usize,
    /// Bytes of blocks of the log that are in memory; see
    /// [`RaftConfig::cache_bytes`](crate::RaftConfig::cache_bytes).
    #[serde(default)]
    pub memory_bytes: usize,
}

/// Whether a shard takes part in its groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "cause")]
pub enum ShardHealth {
    /// It reads its log.
    #[default]
    Recovering,
    /// It does.
    Running,
    /// Its log can't be read or written, for the cause given: it acknowledges nothing more.
    StorageFailed(String),
    /// Something on its thread panicked, a state machine as a rule, with the message given: it takes
    /// part in nothing more, and only a restart of the node brings it back. Seen only where panics
    /// unwind: where they abort, the node's process is gone.
    Panicked(String),
    /// It was stopped.
    Stopped,
}

/// A proposal that is followed on its way; see [`Shard::newest_proposal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    slot: u32,
    term: Term,
    last: LogIndex,
}

impl Shard {
    /// What the shard counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether it takes part.
    #[must_use]
    pub fn health(&self) -> ShardHealth {
        match &self.state {
            State::Recovering => ShardHealth::Recovering,
            State::Running => ShardHealth::Running,
            State::Dead(Death::Storage(cause)) => ShardHealth::StorageFailed(cause.clone()),
            State::Dead(Death::Panicked(cause)) => ShardHealth::Panicked(cause.clone()),
            State::Dead(Death::Stopped) => ShardHealth::Stopped,
        }
    }

    /// Its log's state and counters.
    #[must_use]
    pub fn log_status(&self) -> (WalStatus, WalStats) {
        (self.wal.status(), *self.wal.stats())
    }

    /// The groups after the first `from`, at most `count`, each with what waits in it and what
    /// happened to it.
    pub fn group_page(
        &self,
        from: usize,
        count: usize,
    ) -> impl Iterator<Item = (GroupStatus, GroupQueues, GroupHistory)> + '_ {
        let here = self.groups.iter().filter(|group| self.slots.contains_key(&group.id));
        let groups = here.skip(from).take(count);
        groups.map(|group| (self.status_of(group), self.queues_of(group), group.history))
    }

    fn queues_of(&self, group: &Group) -> GroupQueues {
        let slot = self.slots.get(&group.id).copied();
        let reads = slot.map_or(0, |slot| self.readers.waiting(slot));
        GroupQueues { reads, ..group.queues() }
    }

    /// Bytes of blocks of all groups' logs that are in memory. It looks at each group.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.groups.iter().map(|group| group.raft.held_bytes()).sum()
    }

    /// The groups that are here, in any order; none before the log is recovered.
    pub fn group_ids(&self) -> impl Iterator<Item = GroupId> + '_ {
        let recovered = !self.groups.is_empty();
        self.slots.keys().copied().filter(move |_| recovered)
    }

    /// Number of groups; none before the log is recovered.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.group_ids().count()
    }

    /// How many of them rest. It looks at each.
    #[must_use]
    pub fn resting_count(&self) -> usize {
        self.groups.iter().filter(|group| group.raft.rests()).count()
    }

    /// The last block that this turn proposed, to be asked about later.
    #[must_use]
    pub fn newest_proposal(&self) -> Option<Followed> {
        self.newest_proposal
    }

    /// Whether a proposal is applied; `None` if this node no longer leads in the term in which it
    /// was proposed.
    #[must_use]
    pub fn is_applied(&self, followed: Followed) -> Option<bool> {
        let raft = &self.groups.get(followed.slot as usize)?.raft;
        let leads = raft.is_leader() && raft.term() == followed.term;
        leads.then(|| raft.applied_index() >= followed.last)
    }

    /// Notes the block that `slot` proposed last in this turn.
    pub(super) fn note_proposal(&mut self, slot: u32) {
        let raft = &self.groups[slot as usize].raft;
        let last = raft.append_position().map(|next| next.index.prev());
        self.newest_proposal = last.map(|last| Followed { slot, term: raft.term(), last });
    }

    /// Counts the rare events that a call put aside, and tells the driver of them.
    pub(super) fn tell(&mut self, slot: u32) {
        let Self { groups, effects, aside, counters, config, .. } = self;
        if !aside.has_rare() {
            return;
        }
        let group = &mut groups[slot as usize];
        let has_vote = group.raft.configuration().has_vote(config.node);
        for what in aside.take_rare(config.node, group.leading(), has_vote) {
            counters.groups.count(what);
            group.history.count(what);
            effects.notices.push(notice(group, what));
        }
        self.note_transfer(slot);
    }

    /// Tells the driver of something that happened in a group.
    pub(super) fn tell_of(&mut self, slot: u32, what: GroupEvent) {
        self.effects.notices.push(notice(&self.groups[slot as usize], what));
    }
}

pub(super) fn notice(group: &Group, what: GroupEvent) -> Notice {
    let status = group.raft.status();
    let (term, last, commit) = (status.term, status.last, status.commit);
    Notice::Group(GroupNotice { group: group.id, term, last, commit, what })
}

impl GroupEvent {
    /// What the protocol said, for a node that led in term `led` until then and has a vote or not;
    /// `None` for what nobody need be told.
    pub(super) fn of(event: &Event, led: Option<Term>, has_vote: bool) -> Option<Self> {
        Some(match *event {
            Event::BecameLeader { .. } => Self::Leads,
            Event::SteppedDown { term, leader } => {
                let cause = match led {
                    Some(led) if led == term && has_vote => StepDown::NoQuorum,
                    Some(led) if led == term => StepDown::Removed,
                    _ => StepDown::HigherTerm,
                };
                Self::SteppedDown { cause, leader }
            }
            Event::LeaderChanged { leader, .. } => Self::Follows { leader },
            Event::MembersChanged { at } => Self::MembersChanged { at },
            Event::ChangeGivenUp { node } => Self::ChangeGivenUp { node },
            Event::MembersReset { at } => Self::MembersReset { at },
            Event::EraBegan { .. } => Self::EraBegan,
            Event::Reconfigured => return None,
        })
    }
}

impl GroupHistory {
    fn count(&mut self, what: GroupEvent) {
        self.elections += u32::from(matches!(what, GroupEvent::Stands));
        self.elected += u32::from(matches!(what, GroupEvent::Leads));
        self.stepped_down += u32::from(matches!(what, GroupEvent::SteppedDown { .. }));
        self.truncations += u32::from(matches!(what, GroupEvent::Truncated { .. }));
        self.leader_changes += u32::from(match what {
            GroupEvent::Leads => true,
            GroupEvent::SteppedDown { leader, .. } | GroupEvent::Follows { leader } => {
                leader.is_some()
            }
            _ => false,
        });
    }
}
