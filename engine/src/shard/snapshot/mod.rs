//! Snapshots on one shard: taken, kept, and loaded at a start (Raft thesis, chapter 5).
//!
//! | file | what it holds |
//! |---|---|
//! | `format` | **the on-disk format** |
//! | `survey` | what a start would make of them, for tools |
//! | `writer`, `reader` | one file, written and read |
//! | `taking` | when one is taken, and how |
//! | `sending`, `receiving` | from a leader to a peer that lacks what the log no longer holds |
//! | `founding` | the one that a group begins with which is founded from a state |
//! | `opening` | the newest of each group, loaded when the shard starts |
//! | `own` | state machines that keep their state on stable storage themselves |
//! | `progress` | what is under way, to be looked at |
//!
//! The rules that make a log safe to shorten, each kept in one place:
//!
//! - A snapshot counts from the moment when the file, its name and the directory are on stable
//!   storage (`writer`). Only then does the log before it go (`Shard::release_log`), and the older
//!   snapshot.
//! - A log that was shortened is only opened with a snapshot that reaches it (`opening`). A damaged
//!   one is refused, unless the log and what else there is hold everything that it covered.
//! - A snapshot that can't be written harms nobody: it is reported and tried again. One that can't be
//!   read for a peer is taken anew, at the same position if nothing was applied since (`taking`).
//!
//! A shard writes one snapshot at a time, a chunk per turn at most: neither applying nor replication
//! waits for it, and what is in memory of it is a few chunks.

mod format;
mod founding;
mod opening;
mod own;
mod progress;
mod reader;
mod receiving;
mod sending;
mod survey;
mod taking;
mod writer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringleader_wal::disk::{DiskError, DiskOp, DiskOutput, FileName, OpId};
use ringleader_wal::{GroupId, Identity, LogPosition, NodeId, NumberMap};

use super::{Shard, State};
use crate::config::SnapshotConfig;
use crate::time::Time;

use format::Head;
pub use founding::Founding;
pub(super) use opening::Opened;
use opening::Opening;
pub use progress::{SnapshotStage, SnapshotUnderWay};
use receiving::Receiving;
use sending::Sending;
pub use survey::{
    SnapshotFault, SnapshotRefusal, SnapshotSurvey, SurveyedSnapshot, survey_snapshots,
};
use taking::{Taking, Waiter};
use writer::Writer;

/// Marks the operations of snapshots among the shard's; the log counts from zero.
const OWN: u64 = 1 << 63;

/// What an operation is for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Opening,
    /// A writer's, by its number.
    Writing(u64),
    /// Reading what is sent.
    Sending(u32, NodeId),
    /// Reading what a writer wrote, by its number.
    Loading(u64),
    /// Removing what is not needed any more. A file that stays costs space until the next start.
    Removing(GroupId, LogPosition),
}

/// What is known of one group's snapshots.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    /// The last entry that stable storage holds the effects of, without the log.
    newest: LogPosition,
    /// The newest file, and its length; not there where the state machine does without.
    file: Option<(LogPosition, u64)>,
    /// When that was.
    since: Time,
    /// The file could not be read: one of the same position is to take its place.
    unreadable: bool,
    /// No attempt before, after one that failed.
    retry_at: Time,
    /// Where it is among the groups whose snapshot is to be taken.
    wanted: Wanted,
    /// Whether the state machine gives snapshots; not known before it was asked for one.
    gives: Option<bool>,
}

/// Why a group's snapshot is to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    Not,
    /// By a policy.
    Due,
    /// By somebody who waits for it: a peer, say, that can't go on without.
    Urgent,
}

/// Groups whose snapshot is to be taken, each once. Urgent ones come first: there may be
/// thousands that are due.
#[derive(Debug, Default)]
struct Queue {
    urgent: VecDeque<u32>,
    due: VecDeque<u32>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.due.is_empty()
    }

    /// Takes out the first for which `may` holds.
    fn take(&mut self, may: impl Fn(u32) -> bool) -> Option<u32> {
        let from = |queue: &mut VecDeque<u32>| {
            let at = queue.iter().position(|slot| may(*slot))?;
            queue.remove(at)
        };
        from(&mut self.urgent).or_else(|| from(&mut self.due))
    }

    fn forget(&mut self, slot: u32) {
        self.urgent.retain(|of| *of != slot);
        self.due.retain(|of| *of != slot);
    }
}

/// The shard's snapshots.
pub(super) struct Snapshots {
    settings: SnapshotConfig,
    identity: Identity,
    /// Per group, by its slot.
    kept: Vec<Kept>,
    opening: Option<Box<Opening>>,
    taking: Option<Taking>,
    sending: BTreeMap<(u32, NodeId), Sending>,
    receiving: BTreeMap<u32, Receiving>,
    /// Writers that only remove what they wrote.
    abandoned: BTreeMap<u64, Writer>,
    next_writer: u64,
    /// Files that are not the newest, to be removed once nobody is sent them.
    unused: Vec<(u32, LogPosition)>,
    /// Files of groups that were destroyed, to be removed once that is durable.
    doomed: Vec<(GroupId, LogPosition)>,
    wanted: Queue,
    waiters: Vec<Waiter>,
    /// Peers that lack what the log no longer holds, and whose group's state machine gives nothing
    /// to send them.
    stranded: BTreeSet<(u32, NodeId)>,
    /// The group whose turn it is to be looked at.
    cursor: usize,
    now: Time,
    /// The latest time that came with anything; only for what is measured.
    clock: Time,
    next_op: u64,
    pending: NumberMap<u64, Purpose>,
    ops: Vec<(OpId, DiskOp)>,
}

impl Snapshots {
    pub(super) fn new(settings: SnapshotConfig, identity: Identity) -> Self {
        Self {
            settings,
            identity,
            kept: Vec::new(),
            opening: None,
            taking: None,
            sending: BTreeMap::new(),
            receiving: BTreeMap::new(),
            abandoned: BTreeMap::new(),
            next_writer: 0,
            unused: Vec::new(),
            doomed: Vec::new(),
            wanted: Queue::default(),
            waiters: Vec::new(),
            stranded: BTreeSet::new(),
            cursor: 0,
            now: Time(0),
            clock: Time(0),
            next_op: OWN,
            pending: NumberMap::default(),
            ops: Vec::new(),
        }
    }

    /// Whether there is a snapshot to be taken.
    #[inline]
    pub(super) fn has_work(&self) -> bool {
        self.taking.is_some() || !self.wanted.is_empty()
    }

    /// Whether an operation is one of these.
    pub(super) fn owns(id: OpId) -> bool {
        id.0 & OWN != 0
    }

    pub(super) fn take_ops(&mut self, ops: &mut Vec<(OpId, DiskOp)>) {
        ops.append(&mut self.ops);
    }

    fn submit(&mut self, purpose: Purpose, op: DiskOp) {
        let id = self.next_op;
        self.next_op += 1;
        self.pending.insert(id, purpose);
        self.ops.push((OpId(id), op));
    }

    fn remove(&mut self, group: GroupId, at: LogPosition) {
        let file = FileName::Snapshot(group, at);
        self.submit(Purpose::Removing(group, at), DiskOp::Remove { file });
    }

    fn writer(&mut self, head: &Head, replaces: bool) -> (u64, Writer) {
        self.next_writer += 1;
        (self.next_writer, Writer::new(&self.identity, head, replaces))
    }

    /// Lets a writer that has given up remove what it wrote.
    fn abandon(&mut self, number: u64, mut writer: Writer) {
        while let Some(op) = writer.next_op() {
            self.submit(Purpose::Writing(number), op);
        }
        if !writer.is_over() {
            self.abandoned.insert(number, writer);
        }
    }

    /// Whether a file of this name is being written or removed.
    fn is_busy(&self, group: GroupId, at: LogPosition) -> bool {
        let removed = |purpose: &Purpose| matches!(purpose, Purpose::Removing(of, there) if (*of, *there) == (group, at));
        let taken = self.taking.iter().map(|taking| &taking.writer.1);
        let received = self.receiving.values().map(|receiving| &receiving.writer.1);
        self.pending.values().any(removed)
            || taken.chain(received).chain(self.abandoned.values()).any(|w| w.is_of(group, at))
    }
}

impl Shard {
    /// A group begins in `slot`, without a snapshot.
    pub(super) fn keep_nothing(&mut self, slot: u32, now: Time) {
        let kept = &mut self.snapshots.kept;
        if slot as usize == kept.len() {
            kept.push(Kept::default());
        }
        kept[slot as usize] = Kept { since: now, ..Kept::default() };
    }

    /// A group is gone from `slot`, and what is under way for its snapshots ends. Those that are
    /// durable stay until it is certain that the group does not come back.
    pub(super) fn forget_snapshots(&mut self, slot: u32) {
        self.give_up_taking(slot);
        self.give_up_receiving(slot, "the group was destroyed");
        let group = self.groups[slot as usize].id;
        self.end_sending(|of, _| of == slot);
        let snapshots = &mut self.snapshots;
        snapshots.wanted.forget(slot);
        snapshots.stranded.retain(|(of, _)| *of != slot);
        let older = snapshots.unused.extract_if(.., |(of, _)| *of == slot).map(|(_, at)| at);
        let newest = snapshots.kept[slot as usize].file.map(|(at, _)| at);
        let files: Vec<_> = older.chain(newest).collect();
        snapshots.doomed.extend(files.into_iter().map(|at| (group, at)));
        snapshots.kept[slot as usize] = Kept::default();
    }

    /// The group's end is durable.
    pub(super) fn remove_snapshots(&mut self, group: GroupId) {
        let doomed = self.snapshots.doomed.extract_if(.., |(of, _)| *of == group);
        for (group, at) in doomed.collect::<Vec<_>>() {
            self.snapshots.remove(group, at);
        }
    }

    pub(super) fn snapshot_op_completed(
        &mut self,
        now: Time,
        id: OpId,
        result: Result<DiskOutput, DiskError>,
    ) {
        self.snapshots.clock = self.snapshots.clock.max(now);
        let Some(purpose) = self.snapshots.pending.remove(&id.0) else { return };
        match (purpose, &self.state) {
            (Purpose::Opening, State::Recovering) => self.opening_step(now, result),
            (Purpose::Writing(number), State::Running) => self.written(number, result.map(drop)),
            (Purpose::Sending(slot, peer), State::Running) => {
                self.sending_step(slot, peer, result);
            }
            (Purpose::Loading(number), State::Running) => {
                if let Some(slot) = self.receiving_slot(number) {
                    self.loading_step(slot, result);
                }
            }
            _ => {}
        }
    }

    fn written(&mut self, number: u64, result: Result<(), DiskError>) {
        let snapshots = &mut self.snapshots;
        if let Some(mut writer) = snapshots.abandoned.remove(&number) {
            if writer.complete(result).is_none() {
                snapshots.abandon(number, writer);
            }
        } else if snapshots.taking.as_ref().is_some_and(|taking| taking.writer.0 == number) {
            self.taking_step(result);
        } else if let Some(slot) = self.receiving_slot(number) {
            self.receiving_step(slot, result);
        }
    }

    /// The group that a writer receives a snapshot for.
    fn receiving_slot(&self, number: u64) -> Option<u32> {
        let mut receiving = self.snapshots.receiving.iter();
        let found = receiving.find(|(_, receiving)| receiving.writer.0 == number);
        found.map(|(slot, _)| *slot)
    }
}
