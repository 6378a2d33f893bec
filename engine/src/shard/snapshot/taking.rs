//! Taking snapshots: when the policy says so or somebody asks, one at a time, a chunk per turn.

use std::time::Duration;

use ringleader_wal::disk::DiskError;
use ringleader_wal::{GroupId, LogIndex, LogPosition};

use super::format::Head;
use super::writer::Writer;
use super::{Purpose, Queue, SnapshotStage, SnapshotUnderWay, Snapshots, Wanted};
use crate::error::SnapshotError;
use crate::shard::{Hook, Notice, Shard, SnapshotAnswer, State, Timed};
use crate::state_machine::SnapshotSource;
use crate::time::Time;

/// Groups that a tick looks at: a thousand groups are through in a fraction of a second, and ten
/// thousand idle ones cost next to nothing.
const GROUPS_PER_TICK: usize = 16;

/// A group's entries are worth a snapshot for being old when they take this part of the last one.
const WORTH: u64 = 4;

/// Groups become due at so many different times.
const SPREAD: u64 = 64;

/// How long a group is left alone after a snapshot of it failed.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// How far the writing may be ahead of its rate: the time is only looked at in ticks.
const AHEAD: Duration = Duration::from_millis(20);

/// A snapshot being taken.
pub(super) struct Taking {
    slot: u32,
    at: LogPosition,
    source: Box<dyn SnapshotSource>,
    began: Time,
    /// When all that was pushed is written, at the rate that is set.
    paid_at: Time,
    pub(super) writer: (u64, Writer),
}

impl Taking {
    pub(super) fn slot(&self) -> u32 {
        self.slot
    }

    pub(super) fn under_way(&self, group: GroupId) -> SnapshotUnderWay {
        SnapshotUnderWay {
            group,
            stage: SnapshotStage::Taking,
            peer: None,
            at: self.at,
            pieces: 0,
            bytes: self.writer.1.len(),
            broken: false,
            idle_ms: 0,
        }
    }
}

/// Somebody waits for a snapshot that covers `index`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    slot: u32,
    index: LogIndex,
    ticket: u64,
}

impl Shard {
    /// Asks for a snapshot of what the group has applied. Where there is one already, the answer
    /// comes at once; `ticket` names it.
    pub fn request_snapshot(&mut self, group: GroupId, ticket: u64) {
        let refused = match (&self.state, self.slots.get(&group)) {
            (State::Running, Some(&slot)) => {
                let index = self.groups[slot as usize].raft.applied_index();
                self.snapshots.waiters.push(Waiter { slot, index, ticket });
                self.hasten_snapshot(slot);
                return;
            }
            (State::Running, None) => SnapshotError::UnknownGroup(group),
            _ => SnapshotError::Stopped,
        };
        self.effects.snapshots.push(SnapshotAnswer { ticket, result: Err(refused) });
    }

    /// A policy wants a snapshot.
    pub(super) fn want_snapshot(&mut self, slot: u32) {
        let Snapshots { kept, wanted, .. } = &mut self.snapshots;
        let before = &mut kept[slot as usize].wanted;
        if *before == Wanted::Not {
            *before = Wanted::Due;
            wanted.due.push_back(slot);
        }
    }

    /// Somebody waits for a snapshot.
    pub(super) fn hasten_snapshot(&mut self, slot: u32) {
        let Snapshots { kept, wanted, .. } = &mut self.snapshots;
        match std::mem::replace(&mut kept[slot as usize].wanted, Wanted::Urgent) {
            Wanted::Urgent => return,
            Wanted::Due => wanted.due.retain(|of| *of != slot),
            Wanted::Not => {}
        }
        wanted.urgent.push_back(slot);
    }

    /// Looks at some groups: whether a snapshot of them is due.
    pub(in crate::shard) fn look_for_snapshots(&mut self, now: Time) {
        self.snapshots.now = now;
        self.snapshots.clock = self.snapshots.clock.max(now);
        let groups = self.groups.len();
        for _ in 0..groups.min(GROUPS_PER_TICK) {
            let slot = self.snapshots.cursor % groups;
            self.snapshots.cursor = slot + 1;
            self.follow_durable_machine(slot);
            if self.snapshot_is_due(slot) {
                self.want_snapshot(slot as u32);
            }
            if self.keeps_too_much(slot) {
                self.release_log(slot as u32);
            }
        }
    }

    fn snapshot_is_due(&self, slot: usize) -> bool {
        let (group, kept) = (&self.groups[slot], &self.snapshots.kept[slot]);
        let (now, settings) = (self.snapshots.now, &self.snapshots.settings);
        let applied = group.raft.applied_index();
        let behind = applied.0.saturating_sub(kept.newest.index.0);
        if behind == 0
            || kept.wanted != Wanted::Not
            || kept.gives == Some(false)
            || now < kept.retry_at
        {
            return false;
        }
        let held = |bytes| self.wal.bytes_after(group.id, kept.newest.index) >= bytes;
        let worth = kept.file.map_or(0, |(_, len)| len) / WORTH;
        settings.entries.is_some_and(|entries| behind >= entries)
            || settings.interval.is_some_and(|interval| now >= kept.since + interval)
            || settings.bytes.is_some_and(held)
            || self.last_old(slot, 1) > kept.newest.index && held(worth)
    }

    /// The last entry of the group that lies further back than an `n`th of what `log_bytes` allows.
    /// Groups that began together are not all told at once: some may have a quarter less.
    fn last_old(&self, slot: usize, n: u64) -> LogIndex {
        let group = &self.groups[slot];
        let old = |bytes: u64| {
            let early = bytes / 4 / SPREAD * (slot as u64 % SPREAD);
            self.wal.appended_before(group.id, (bytes - early) / n)
        };
        self.snapshots.settings.log_bytes.map_or(LogIndex(0), old)
    }

    /// Entries before the newest snapshot became old.
    fn keeps_too_much(&self, slot: usize) -> bool {
        let base = self.groups[slot].raft.base().index;
        self.last_old(slot, 1).min(self.snapshots.kept[slot].newest.index) > base
    }

    /// Goes on with the snapshot being taken, or begins the next one. A chunk at most, so that a
    /// turn stays short; the disk's answers bring the next turns.
    pub(in crate::shard) fn go_on_taking(&mut self) {
        if !matches!(self.state, State::Running) {
            return;
        }
        while self.snapshots.taking.is_none() {
            let Self { snapshots, groups, existence, .. } = self;
            let stays = |slot: u32| !existence.may_vanish(groups[slot as usize].id);
            let Some(slot) = snapshots.wanted.take(stays) else { return };
            self.begin_taking(slot);
        }
        let (max, rate) = {
            let settings = &self.snapshots.settings;
            (settings.chunk_bytes, settings.bytes_per_second)
        };
        let now = self.snapshots.now;
        let Some(taking) = &mut self.snapshots.taking else { return };
        let Taking { source, writer: (_, writer), paid_at, .. } = taking;
        if writer.has_room() && *paid_at <= now + AHEAD {
            match source.next_chunk(max) {
                Ok(Some(chunk)) if chunk.len() <= max => {
                    *paid_at = (*paid_at).max(now) + time_for(chunk.len(), rate);
                    writer.push(chunk);
                }
                Ok(Some(chunk)) => {
                    let what = format!("a chunk of {} B, {max} B were asked for", chunk.len());
                    writer.give_up(DiskError::Io(what));
                }
                Ok(None) => writer.end(),
                Err(error) => writer.give_up(DiskError::Io(error.to_string())),
            }
        }
        self.submit_writes();
    }

    fn submit_writes(&mut self) {
        while let Some(Taking { writer: (number, writer), .. }) = &mut self.snapshots.taking {
            let number = *number;
            let Some(op) = writer.next_op() else { return };
            self.snapshots.submit(Purpose::Writing(number), op);
        }
    }

    fn begin_taking(&mut self, slot: u32) {
        let group = &mut self.groups[slot as usize];
        let at = group.raft.applied();
        let busy = self.snapshots.is_busy(group.id, at);
        let kept = &mut self.snapshots.kept[slot as usize];
        kept.wanted = Wanted::Not;
        let covered = kept.file.map(|(newest, _)| newest).unwrap_or_default();
        let replaces = kept.unreadable && at == covered;
        if at.index <= covered.index && !replaces {
            return self.answer_waiters(slot, |_| Some(Ok(covered)));
        }
        if busy {
            return self.snapshot_failed(slot, at, "an earlier attempt is still being removed");
        }
        let machine = &mut group.machine;
        let source = self.hooks.call(Hook::Snapshot, || machine.snapshot());
        kept.gives = Some(source.is_some());
        let Some(source) = source else {
            self.strand_peers(slot);
            return self.answer_waiters(slot, |_| Some(Err(SnapshotError::Unsupported)));
        };
        let configuration = group.raft.configuration_bytes();
        // Unlike that of any other file that was taken here, by this process or an earlier one.
        let stamp = self.config.seed.wrapping_add(self.snapshots.next_writer);
        let head = Head { group: group.id, at, stamp, configuration };
        let writer = self.snapshots.writer(&head, replaces);
        let began = self.snapshots.now;
        self.snapshots.taking = Some(Taking { slot, at, source, began, paid_at: began, writer });
    }

    pub(super) fn taking_step(&mut self, result: Result<(), DiskError>) {
        let Some(taking) = &mut self.snapshots.taking else { return };
        let (slot, at, began) = (taking.slot, taking.at, taking.began);
        let len = taking.writer.1.len();
        match taking.writer.1.complete(result) {
            None => {}
            Some(Ok(())) => {
                self.snapshots.taking = None;
                let counters = &mut self.counters.snapshots;
                counters.taken += 1;
                counters.taken_bytes += len;
                let took = self.snapshots.clock.since(began);
                counters.taken_nanos += took.as_nanos() as u64;
                self.effects.took.push((Timed::SnapshotTaken, took));
                self.snapshot_taken(slot, at, len);
            }
            Some(Err(error)) => {
                self.snapshots.taking = None;
                self.snapshot_failed(slot, at, &error.to_string());
            }
        }
    }

    /// The group is gone.
    pub(super) fn give_up_taking(&mut self, slot: u32) {
        if let Some(taking) = self.snapshots.taking.take_if(|taking| taking.slot == slot) {
            let (number, mut writer) = taking.writer;
            writer.give_up(DiskError::Io("the group was destroyed".into()));
            self.snapshots.abandon(number, writer);
        }
        let group = self.groups[slot as usize].id;
        self.answer_waiters(slot, |_| Some(Err(SnapshotError::UnknownGroup(group))));
    }

    fn snapshot_taken(&mut self, slot: u32, at: LogPosition, len: u64) {
        let group = self.groups[slot as usize].id;
        let newest = self.snapshots.kept[slot as usize].file;
        if newest.is_some_and(|(newest, _)| newest.index > at.index) {
            // The leader's has been installed meanwhile.
            self.snapshots.remove(group, at);
        } else {
            self.keep(slot, at, len);
            self.effects.notices.push(Notice::SnapshotTaken(group, at));
            self.send_to_waiting(slot);
            self.release_log(slot);
        }
        self.answer_waiters(slot, |waiter| (waiter.index <= at.index).then_some(Ok(at)));
        if self.snapshots.waiters.iter().any(|waiter| waiter.slot == slot) {
            self.hasten_snapshot(slot);
        }
    }

    fn snapshot_failed(&mut self, slot: u32, at: LogPosition, cause: &str) {
        self.note_failure(slot, at, cause);
        self.answer_waiters(slot, |_| Some(Err(SnapshotError::Failed(cause.into()))));
    }

    fn answer_waiters(
        &mut self,
        slot: u32,
        answer: impl Fn(&Waiter) -> Option<Result<LogPosition, SnapshotError>>,
    ) {
        let answers = &mut self.effects.snapshots;
        self.snapshots.waiters.retain(|waiter| {
            let result = if waiter.slot == slot { answer(waiter) } else { None };
            let keep = result.is_none();
            answers.extend(result.map(|result| SnapshotAnswer { ticket: waiter.ticket, result }));
            keep
        });
    }

    /// The log before the newest snapshot goes, but for what peers that lag may still ask for.
    pub(in crate::shard) fn release_log(&mut self, slot: u32) {
        let (group, kept) = (self.groups[slot as usize].id, &self.snapshots.kept[slot as usize]);
        let settings = &self.snapshots.settings;
        let newest = kept.newest.index;
        if newest <= self.groups[slot as usize].raft.base().index {
            return;
        }
        let sent = self.snapshots.sending.iter().filter(|((of, _), _)| *of == slot);
        let sent = sent.map(|(_, sending)| sending.at.index).min();
        let by_entries = newest.0.saturating_sub(settings.keep_entries);
        let by_bytes = self.wal.tail(group, newest, settings.keep_bytes).0;
        let by_age = self.last_old(slot as usize, 2).0;
        let through = LogIndex(by_entries.max(by_bytes).max(by_age)).min(newest);
        // Whoever is sent a snapshot goes on with the log behind it.
        let through = sent.map_or(through, |sent| through.min(sent));
        let taken = self.snapshots.taking.as_ref().filter(|taking| taking.slot == slot);
        let through = taken.map_or(through, |taking| through.min(taking.at.index));
        let through = through.min(self.members_stay_from(slot, through));
        self.call(slot, |raft, out| raft.compact(through, out));
    }

    /// The shard takes part in nothing any more.
    pub(in crate::shard) fn retire_snapshots(&mut self) {
        self.snapshots.taking = None;
        self.snapshots.sending.clear();
        self.snapshots.receiving.clear();
        self.snapshots.wanted = Queue::default();
        for waiter in self.snapshots.waiters.drain(..) {
            let result = Err(SnapshotError::Stopped);
            self.effects.snapshots.push(SnapshotAnswer { ticket: waiter.ticket, result });
        }
    }
}

fn time_for(bytes: usize, rate: Option<u64>) -> Duration {
    rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate as f64))
}
