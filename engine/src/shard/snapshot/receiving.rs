//! Installing a snapshot that the leader sends: its pieces become a file like any other, and only
//! when that is durable, whole, and read back into a new state machine, the old one and the log are
//! replaced.
//!
//! The new state machine is made while the old one still takes entries. The two may share a store on
//! stable storage: nothing comes between the last look at whether the snapshot is lacked, `restored`,
//! which puts the new state into the place of the old, and the end of the old machine.
//!
//! What a crash leaves is one of these: nothing but a part of a file, which is removed; the whole
//! snapshot and the old log, which is made to follow at the start, as it would have been here
//! ([`Restored::adopt`](crate::raft::Restored::adopt)); or both as they are to be.

use bytes::Bytes;
use ringleader_wal::disk::{DiskError, DiskOutput};
use ringleader_wal::{Block, GroupId, LogPosition, NodeId};

use super::format::Head;
use super::reader::{Next, Reader};
use super::sending::Sending;
use super::taking::RETRY;
use super::writer::Writer;
use super::{Purpose, SnapshotStage, SnapshotUnderWay};
use crate::raft::Configuration;
use crate::raft::message::SnapshotId;
use crate::shard::{GiveUp, GroupEvent, Notice, Shard, Timed};
use crate::state_machine::StateMachine;
use crate::time::Time;

/// Installations at once: what each holds in memory is bounded, and so is all of it.
const RECEIVING_MAX: usize = 4;

/// A snapshot that is being received.
pub(super) struct Receiving {
    pub(super) id: SnapshotId,
    from: NodeId,
    configuration: Configuration,
    /// The piece that is waited for.
    next: u32,
    /// The leader was not told yet that there is room for it.
    owes_answer: bool,
    pub(super) writer: (u64, Writer),
    /// Once it is durable: the state machine that is restored from it.
    loading: Option<(Box<dyn StateMachine>, Reader)>,
    progress_at: Time,
    began: Time,
    /// When it was durable.
    durable_at: Time,
}

impl Receiving {
    pub(super) fn under_way(&self, group: GroupId, now: Time) -> SnapshotUnderWay {
        let loads = self.loading.is_some();
        SnapshotUnderWay {
            group,
            stage: if loads { SnapshotStage::Loading } else { SnapshotStage::Receiving },
            peer: Some(self.from),
            at: self.id.at,
            pieces: self.next - 1,
            bytes: self.writer.1.len(),
            broken: false,
            idle_ms: now.since(self.progress_at).as_millis() as u64,
        }
    }
}

impl Shard {
    pub(super) fn piece_arrived(
        &mut self,
        slot: u32,
        from: NodeId,
        id: SnapshotId,
        last: bool,
        piece: &Block,
    ) {
        let number = piece.first_index();
        let payload = Bytes::copy_from_slice(piece.payload(number));
        let known = self.snapshots.receiving.get(&slot);
        if known.is_none_or(|known| (known.id, known.from) != (id, from)) {
            // Pieces of another snapshot: they fit only from the first one on.
            return match number.0 {
                1 => self.begin_receiving(slot, from, id, payload),
                _ => self.call(slot, |raft, out| raft.answer_piece(from, id, 1, out)),
            };
        }
        let now = self.snapshots.now;
        let Some(receiving) = self.snapshots.receiving.get_mut(&slot) else { return };
        let writer = &mut receiving.writer.1;
        if number.0 != u64::from(receiving.next) {
            receiving.owes_answer = true;
        } else if writer.has_room() {
            if last {
                writer.end();
            } else {
                writer.push(payload);
            }
            receiving.next += 1;
            receiving.owes_answer = true;
            receiving.progress_at = now;
        }
        self.go_on_receiving(slot);
    }

    fn begin_receiving(&mut self, slot: u32, from: NodeId, id: SnapshotId, head: Bytes) {
        let configuration = match Configuration::decode(&head) {
            Ok(configuration) => configuration,
            Err(error) => return self.note_failure(slot, id.at, &error.to_string()),
        };
        self.note_given_up(slot, GiveUp::Newer);
        self.give_up_receiving(slot, "a newer one came");
        let group = self.groups[slot as usize].id;
        let kept = &self.snapshots.kept[slot as usize];
        let full =
            self.snapshots.receiving.len() >= RECEIVING_MAX || self.snapshots.now < kept.retry_at;
        // The leader sends it again when a heartbeat is answered.
        if full || self.snapshots.is_busy(group, id.at) || self.existence.may_vanish(group) {
            return;
        }
        let head = Head { group, at: id.at, stamp: id.stamp, configuration: head };
        let receiving = Receiving {
            id,
            from,
            configuration,
            next: 2,
            owes_answer: true,
            writer: self.snapshots.writer(&head, false),
            loading: None,
            progress_at: self.snapshots.now,
            began: self.groups[slot as usize].raft.now(),
            durable_at: Time(0),
        };
        self.snapshots.receiving.insert(slot, receiving);
        self.go_on_receiving(slot);
    }

    /// Writes what there is, and asks for more where there is room.
    fn go_on_receiving(&mut self, slot: u32) {
        let Some(receiving) = self.snapshots.receiving.get_mut(&slot) else { return };
        let (number, writer) = &mut receiving.writer;
        let ops: Vec<_> = std::iter::from_fn(|| writer.next_op()).collect();
        let (from, id, next) = (receiving.from, receiving.id, receiving.next);
        let answers = receiving.owes_answer && (writer.has_room() || writer.is_whole());
        receiving.owes_answer &= !answers;
        let number = *number;
        for op in ops {
            self.snapshots.submit(Purpose::Writing(number), op);
        }
        if answers {
            self.call(slot, |raft, out| raft.answer_piece(from, id, next, out));
        }
    }

    pub(super) fn receiving_step(&mut self, slot: u32, result: Result<(), DiskError>) {
        let Some(receiving) = self.snapshots.receiving.get_mut(&slot) else { return };
        match receiving.writer.1.complete(result) {
            None => self.go_on_receiving(slot),
            Some(Ok(())) => {
                let (at, len) = (receiving.id.at, receiving.writer.1.len());
                let group = self.groups[slot as usize].id;
                let reader = Reader::new(&self.snapshots.identity, group, at, len);
                receiving.loading = Some(((self.config.factory)(group), reader));
                receiving.durable_at = self.snapshots.clock;
                self.go_on_loading(slot);
            }
            Some(Err(error)) => {
                let at = receiving.id.at;
                self.snapshots.receiving.remove(&slot);
                self.note_failure(slot, at, &error.to_string());
            }
        }
    }

    pub(super) fn loading_step(&mut self, slot: u32, result: Result<DiskOutput, DiskError>) {
        let Some(receiving) = self.snapshots.receiving.get_mut(&slot) else { return };
        let Some((_, reader)) = &mut receiving.loading else { return };
        receiving.progress_at = self.snapshots.now;
        match reader.fill(result) {
            Ok(()) => self.go_on_loading(slot),
            Err(error) => self.discard_received(slot, &error.to_string()),
        }
    }

    /// Restores the new state machine, as far as the file was read.
    fn go_on_loading(&mut self, slot: u32) {
        loop {
            let Some(receiving) = self.snapshots.receiving.get_mut(&slot) else { return };
            let Some((machine, reader)) = &mut receiving.loading else { return };
            let failed = match reader.next() {
                Next::Read(op) => {
                    let number = receiving.writer.0;
                    return self.snapshots.submit(Purpose::Loading(number), op);
                }
                Next::Head(_) => continue,
                Next::Chunk(chunk) => machine.restore(&chunk).err().map(|e| e.to_string()),
                // One that keeps its own state takes the place of the other's with this.
                Next::End if !self.groups[slot as usize].raft.lacks(receiving.id.at) => {
                    return self.give_up_receiving(slot, "it is not lacked any more");
                }
                Next::End => match machine.restored() {
                    Ok(()) => return self.install(slot),
                    Err(error) => Some(error.to_string()),
                },
                Next::Damaged(damage) => Some(damage.to_string()),
            };
            if let Some(cause) = failed {
                return self.discard_received(slot, &cause);
            }
        }
    }

    /// The state machine and the log are replaced.
    fn install(&mut self, slot: u32) {
        let Some(receiving) = self.snapshots.receiving.remove(&slot) else { return };
        let (at, len) = (receiving.id.at, receiving.writer.1.len());
        let group = &mut self.groups[slot as usize];
        let id = group.id;
        let Receiving { loading, configuration, began, durable_at, .. } = receiving;
        let Some((machine, _)) = loading else { return };
        group.replace_machine(machine, &self.hooks);
        self.call(slot, |raft, out| raft.install(at, configuration, out));
        self.counters.snapshots.installed += 1;
        self.counters.snapshots.installed_bytes += len;
        let ended = self.snapshots.clock;
        self.effects.took.push((Timed::SnapshotLoaded, ended.since(durable_at)));
        self.effects.took.push((Timed::SnapshotInstalled, ended.since(began)));
        self.effects.notices.push(Notice::SnapshotInstalled(id, at));
        self.keep(slot, at, len);
    }

    /// A snapshot that is durable and of no use must go: the next start would count on it.
    fn discard_received(&mut self, slot: u32, cause: &str) {
        let group = self.groups[slot as usize].id;
        if let Some(receiving) = self.snapshots.receiving.remove(&slot) {
            self.snapshots.remove(group, receiving.id.at);
            self.note_failure(slot, receiving.id.at, cause);
        }
    }

    /// Gives up what is received for a group, unless it is as good as there.
    pub(super) fn give_up_receiving(&mut self, slot: u32, cause: &str) {
        let Some(receiving) = self.snapshots.receiving.remove(&slot) else { return };
        let group = self.groups[slot as usize].id;
        if receiving.loading.is_some() {
            return self.snapshots.remove(group, receiving.id.at);
        }
        let (number, mut writer) = receiving.writer;
        writer.give_up(DiskError::Io(cause.into()));
        self.snapshots.abandon(number, writer);
    }

    /// Gives up what doesn't get on, or is not lacked any more.
    pub(in crate::shard) fn tend_receiving(&mut self, now: Time) {
        let patience = self.snapshots.settings.transfer_timeout;
        let over = |(slot, receiving): (&u32, &Receiving)| {
            let lacks = self.groups[*slot as usize].raft.lacks(receiving.id.at);
            (!lacks || now >= receiving.progress_at + patience).then_some((*slot, lacks))
        };
        let over: Vec<(u32, bool)> = self.snapshots.receiving.iter().filter_map(over).collect();
        for (slot, lacks) in over {
            if lacks {
                self.note_given_up(slot, GiveUp::LeaderStuck);
            }
            self.give_up_receiving(slot, "it did not get on");
        }
    }

    fn note_given_up(&mut self, slot: u32, cause: GiveUp) {
        let Some(receiving) = self.snapshots.receiving.get(&slot) else { return };
        let (peer, at) = (receiving.from, receiving.id.at);
        self.counters.snapshots.receives_given_up += 1;
        self.tell_of(slot, GroupEvent::SnapshotGivenUp { peer, at, cause });
    }

    pub(super) fn note_failure(&mut self, slot: u32, at: LogPosition, cause: &str) {
        let group = self.groups[slot as usize].id;
        self.snapshots.kept[slot as usize].retry_at = self.snapshots.now + RETRY;
        self.counters.snapshots.failed += 1;
        self.effects.notices.push(Notice::SnapshotFailed(group, at, cause.into()));
    }

    /// A group's newest snapshot is this file from now on.
    pub(super) fn keep(&mut self, slot: u32, at: LogPosition, len: u64) {
        let now = self.snapshots.now;
        let kept = &mut self.snapshots.kept[slot as usize];
        let before = kept.file.replace((at, len)).map(|(before, _)| before);
        (kept.newest, kept.since, kept.unreadable) = (kept.newest.max(at), now, false);
        if before == Some(at) {
            self.end_sending(|of, sending| of == slot && sending.at == at);
        } else {
            self.snapshots.unused.extend(before.map(|before| (slot, before)));
        }
        self.remove_unused();
    }

    /// Removes older snapshots that nobody is sent any more.
    pub(super) fn remove_unused(&mut self) {
        let unused = std::mem::take(&mut self.snapshots.unused);
        for (slot, at) in unused {
            let used =
                |((of, _), sending): (&(u32, NodeId), &Sending)| *of == slot && sending.at == at;
            if self.snapshots.sending.iter().any(used) {
                self.snapshots.unused.push((slot, at));
            } else {
                let group = self.groups[slot as usize].id;
                self.snapshots.remove(group, at);
            }
        }
    }
}
