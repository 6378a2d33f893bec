//! Staging records, submitting batches, and what follows when they are durable.

use bytes::Bytes;

use crate::block::Block;
use crate::config::SyncMode;
use crate::disk::{DiskError, DiskOp, FileName, PAGE};
use crate::event::WalEvent;
use crate::flight::Settled;
use crate::format::{BatchHeader, Record, SegmentHeader};
use crate::index::{Entry, Group, GroupSlot, Place};
use crate::segments::Segment;
use crate::staging::{Room, Staged};
use crate::types::{GroupId, HardState, LogIndex, LogPosition, Seq};
use crate::wal::{Phase, Purpose, Wal};

impl Wal {
    /// Whether staging does anything; a poisoned log takes records and forgets them.
    fn stages(&self) -> bool {
        match self.phase {
            Phase::Running => true,
            Phase::Failed => false,
            Phase::Recovering(_) => panic!("staged before the log was recovered"),
        }
    }

    /// Stages a block of entries and returns the number of its batch. A small block is copied,
    /// the bytes of a larger one are shared.
    ///
    /// # Panics
    /// When the block does not begin right after its group's last entry, its term is below that
    /// entry's, or it is longer than [`crate::WalConfig::max_block_bytes`].
    pub fn append(&mut self, block: &Block) -> Seq {
        if !self.stages() {
            return self.staging.seq();
        }
        let slot = self.groups.slot(block.group());
        self.append_to(slot, block)
    }

    /// [`Wal::append`] for an owner that keeps the group's slot, which saves looking it up.
    ///
    /// # Panics
    /// As [`Wal::append`].
    pub fn append_known(&mut self, slot: &mut GroupSlot, block: &Block) -> Seq {
        if !self.stages() {
            return self.staging.seq();
        }
        let slot = self.groups.known(block.group(), slot);
        self.append_to(slot, block)
    }

    /// Has the CPU fetch what an append to the group will look at.
    #[inline]
    pub fn prefetch(&self, slot: GroupSlot) {
        self.groups.prefetch(slot);
    }

    #[inline]
    fn append_to(&mut self, slot: u32, block: &Block) -> Seq {
        assert!(block.len() <= self.config.max_block_bytes(), "block longer than a segment");
        let (first, term) = (block.first_index(), block.term());
        let before = self.groups.at(slot).last;
        assert!(first.prev() == before.index, "{block:?} does not follow entry {before:?}");
        assert!(term >= before.term, "{block:?} has a lower term than entry {before:?}");
        let (seq, entry) = self.push_block(block, false);
        self.groups.at(slot).append(&mut self.segments, &entry);
        seq
    }

    /// Stages a block rewritten forward.
    pub(crate) fn append_moved(&mut self, block: &Block) {
        let (_, entry) = self.push_block(block, true);
        self.staging.note_rewritten();
        self.groups.entry(block.group()).relocate(&mut self.segments, &entry);
        self.stats.relocated_blocks += 1;
        self.stats.relocated_bytes += block.len() as u64;
    }

    // Always inlined, like what it calls: numbers that pass through memory on their way from one
    // function to another are waited for until all that was written before them, such as the copy of
    // the block, has reached the cache.
    #[inline(always)]
    fn push_block(&mut self, block: &Block, moved: bool) -> (Seq, Entry) {
        let (first, count, len) = (block.first_index(), block.count(), block.len() as u32);
        let (group, crc) = (block.group(), block.crc());
        let record = Record::Block { group, first, count, len, crc, moved };
        let (seq, place) = match self.staging.try_push(&record, Some(block)) {
            Some(pushed) => pushed,
            None => self.push_into_next(&record, block),
        };
        let last = LogIndex(first.0 + u64::from(count) - 1);
        (seq, Entry { first, last, term: block.term(), bytes: len, place })
    }

    #[cold]
    fn push_into_next(&mut self, record: &Record, block: &Block) -> (Seq, Place) {
        self.make_room(block.len());
        self.staging.push(record, Some(block))
    }

    /// Stages a group's term and vote, and returns the number of the batch.
    ///
    /// # Panics
    /// When the group was destroyed.
    pub fn set_hard_state(&mut self, group: GroupId, hard_state: HardState) -> Seq {
        if !self.stages() {
            return self.staging.seq();
        }
        assert!(!self.is_destroyed(group), "group {group} was destroyed");
        self.make_room(0);
        let record = Record::HardState { group, state: hard_state };
        let (seq, place) = self.staging.push(&record, None);
        let group = self.groups.entry(group);
        group.hard_state = hard_state;
        self.segments.move_state(&mut group.hard_state_at, place.segment);
        seq
    }

    /// Drops the group's entries from `from` on, and returns the number of the batch that makes it
    /// so. The next block appended to the group begins at `from`, or after its last entry if that
    /// is earlier.
    ///
    /// # Panics
    /// When the entry at `from` was released.
    pub fn truncate(&mut self, group: GroupId, from: LogIndex) -> Seq {
        if !self.stages() {
            return self.staging.seq();
        }
        let slot = self.groups.slot(group);
        let base = self.groups.at(slot).base.index;
        assert!(from > base, "truncated from {from}, released through {base}");
        self.make_room(0);
        let (seq, _) = self.staging.push(&Record::Truncate { group, from }, None);
        self.groups.at(slot).truncate(&mut self.segments, from);
        seq
    }

    /// The group's entries up to `through` are no longer needed: a snapshot holds them. `through`
    /// becomes the group's base, the position before the first entry held. When it lies beyond the
    /// last entry (a snapshot was installed), nothing is left and the next block begins after it.
    /// A position before the base changes nothing. When the log holds an entry of another term at
    /// `through`, truncate first.
    ///
    /// The space comes back in whole segments, some time after this is durable.
    pub fn release(&mut self, group: GroupId, through: LogPosition) -> Seq {
        if !self.stages() {
            return self.staging.seq();
        }
        let slot = self.groups.slot(group);
        if through.index <= self.groups.at(slot).base.index {
            return self.staging.last_seq();
        }
        self.make_room(0);
        let (seq, place) = self.staging.push(&Record::Release { group, through }, None);
        let group = self.groups.at(slot);
        group.release(&mut self.segments, through);
        self.segments.move_state(&mut group.base_at, place.segment);
        seq
    }

    /// Notes that a group was created while the log was in use. Recovery tells it
    /// ([`RecoveredGroup::created`](crate::RecoveredGroup::created)), and the log does nothing else
    /// with it: it is for an owner that has no other list of such groups.
    ///
    /// # Panics
    /// When the group was destroyed.
    pub fn create(&mut self, group: GroupId) -> Seq {
        if !self.stages() {
            return self.staging.seq();
        }
        assert!(!self.is_destroyed(group), "group {group} was destroyed");
        self.make_room(0);
        let (seq, place) = self.staging.push(&Record::Create { group }, None);
        self.segments.move_state(&mut self.groups.entry(group).created_at, place.segment);
        seq
    }

    /// Ends a group: nothing of it is held any more, and its number is used up. Nothing must be
    /// staged for it again, in this life of the log or a later one
    /// ([`is_destroyed`](Self::is_destroyed)).
    ///
    /// Its space comes back in whole segments, some time after this is durable; what stays for ever
    /// is a record of 32 bytes.
    pub fn destroy(&mut self, group: GroupId) -> Seq {
        if !self.stages() {
            return self.staging.seq();
        }
        self.make_room(0);
        let (seq, place) = self.staging.push(&Record::Destroy { group }, None);
        let group = self.groups.entry(group);
        group.destroy(&mut self.segments);
        self.segments.move_state(&mut group.base_at, place.segment);
        seq
    }

    /// Whether the group was [destroyed](Self::destroy), durably or not yet.
    #[must_use]
    pub fn is_destroyed(&self, group: GroupId) -> bool {
        self.groups.get(group).is_some_and(Group::is_destroyed)
    }

    /// Writes a group's latest state again if it is recorded in segment `at`.
    pub(crate) fn restate(&mut self, slot: u32, at: u64) {
        let group = self.groups.at(slot);
        let (id, state, through) = (group.id, group.hard_state, group.base);
        let end = if group.is_destroyed() {
            Record::Destroy { group: id }
        } else {
            Record::Release { group: id, through }
        };
        if group.hard_state_at == at {
            let place = self.push_again(&Record::HardState { group: id, state });
            self.segments.move_state(&mut self.groups.at(slot).hard_state_at, place.segment);
        }
        if self.groups.at(slot).base_at == at {
            let place = self.push_again(&end);
            self.segments.move_state(&mut self.groups.at(slot).base_at, place.segment);
        }
        if self.groups.at(slot).created_at == at {
            let place = self.push_again(&Record::Create { group: id });
            self.segments.move_state(&mut self.groups.at(slot).created_at, place.segment);
        }
    }

    fn push_again(&mut self, record: &Record) -> Place {
        self.make_room(0);
        let (_, place) = self.staging.push(record, None);
        self.staging.note_rewritten();
        self.stats.restated += 1;
        place
    }

    /// Makes sure that a record with a body of `body` bytes can be pushed.
    fn make_room(&mut self, body: usize) {
        loop {
            match self.staging.room(body) {
                Room::Ready => return,
                Room::Close => self.close_batch(),
                Room::Segment => self.enter_segment(),
            }
        }
    }

    fn close_batch(&mut self) {
        let live = self.segments.oldest_live().map(|segment| segment.id);
        self.staging.close(live.unwrap_or(self.staging.segment()));
    }

    fn enter_segment(&mut self) {
        let id = self.next_segment;
        self.next_segment += 1;
        self.segments.push(Segment::new(id, self.newest_segment, self.config.segment_bytes));
        self.newest_segment = id;
        self.staging.enter(id);
    }

    /// Whether an idle mark would tell something that no batch has told yet, and can be written.
    pub(crate) fn mark_due(&self) -> bool {
        let told = self.marked && self.published == self.oldest_needed;
        let room = matches!(self.staging.room(0), Room::Ready) || !self.spares.is_empty();
        !told && room && self.staging.last_seq() > Seq(0)
    }

    /// Stages the idle mark if all is durable.
    pub(crate) fn stage_mark(&mut self) {
        if self.staging.is_empty() && self.flight.is_empty() && self.mark_due() {
            if matches!(self.staging.room(0), Room::Segment) {
                self.enter_segment();
            }
            self.staging.push_mark();
        }
    }

    /// Submits batches while a write is free and there is a segment for them. A small batch waits for
    /// one of several writes under way, whose end comes back here.
    pub(crate) fn submit_writes(&mut self) {
        while self.flight.running < self.config.depth {
            let grows = self.flight.running >= self.config.eager_writes;
            if grows && self.staging.is_smaller_than(self.config.deep_batch_bytes) {
                return;
            }
            let Some(id) = self.staging.next_segment() else {
                return;
            };
            let Some(file) = self.segments.at(id).file else {
                let Some(spare) = self.spares.pop_front() else {
                    return;
                };
                self.stats.segments_recycled += u64::from(spare.recycled);
                self.write_header(id, spare.file);
                continue;
            };
            if !self.staging.has_closed() {
                self.close_batch();
            }
            let batch = self.staging.take().expect("a batch was just closed");
            self.write_batch(batch, file);
        }
    }

    fn write_header(&mut self, id: u64, file: u32) {
        let segment = self.segments.at(id);
        segment.file = Some(file);
        segment.durable_end = PAGE as u64;
        let header = SegmentHeader {
            identity: self.identity,
            chain: self.chain,
            id,
            prev: segment.prev,
            first_seq: self.staging.first_seq().expect("a batch waits for the segment"),
            durable: self.durable,
            oldest_needed: self.oldest_needed,
        };
        let number = self.flight.submitted(file, None);
        self.write(number, file, 0, vec![Bytes::from(header.encode())], PAGE as u64);
    }

    fn write_batch(&mut self, mut batch: Staged, file: u32) {
        let length = batch.length();
        let header = BatchHeader {
            segment: batch.segment,
            seq: batch.seq,
            durable: self.durable,
            oldest_needed: self.oldest_needed,
            prev_crc: self.chain,
            records: batch.records,
            length: length as u32,
            bodies: batch.bodies.len() as u32,
            offset: batch.offset,
        };
        let used = batch.used();
        self.chain = header.seal(self.key, &mut batch.meta);
        self.published = self.oldest_needed;
        self.marked = batch.mark;
        self.busy = true;
        if batch.records > batch.rewritten {
            self.credit += length as u64;
        }
        self.stats.batches += 1;
        self.stats.marks += u64::from(batch.mark);
        self.stats.records += u64::from(batch.records);
        self.stats.bytes += length as u64;
        self.stats.block_bytes += batch.bodies.len() as u64;
        let settled = Settled {
            seq: batch.seq,
            segment: batch.segment,
            end: batch.offset + length as u64,
            bytes: used,
            needed: batch.needed,
            published: self.published,
        };
        let number = self.flight.submitted(file, Some(settled));
        let offset = batch.offset;
        self.write(number, file, offset, batch.into_parts(), length as u64);
    }

    fn write(&mut self, number: u64, file: u32, offset: u64, parts: Vec<Bytes>, len: u64) {
        let durable = self.config.sync == SyncMode::DurableWrites;
        let file = FileName::Segment(file);
        let op = DiskOp::Write { file, offset, parts, len, durable };
        self.submit(Purpose::Write(number), op);
    }

    pub(crate) fn submit_sync(&mut self) {
        if let Some(file) = self.flight.start_sync() {
            self.stats.syncs += 1;
            self.submit(Purpose::Sync, DiskOp::Sync { file: FileName::Segment(file) });
        }
    }

    pub(crate) fn write_done(&mut self, number: u64, result: Result<(), DiskError>) {
        if matches!(self.phase, Phase::Failed) {
            return;
        }
        if let Err(cause) = result {
            return self.fail("writing", self.flight.file(number), cause);
        }
        let mut durable = Vec::new();
        self.flight.written(number, &mut durable);
        self.settle(&durable);
    }

    pub(crate) fn sync_done(&mut self, result: Result<(), DiskError>) {
        if matches!(self.phase, Phase::Failed) {
            return;
        }
        if let Err(cause) = result {
            let file = self.flight.syncing().unwrap_or(0);
            return self.fail("syncing", file, cause);
        }
        let mut durable = Vec::new();
        self.flight.synced(&mut durable);
        self.settle(&durable);
    }

    fn settle(&mut self, batches: &[Settled]) {
        let Some(last) = batches.last() else {
            return;
        };
        for batch in batches {
            self.segments.at(batch.segment).durable_end = batch.end;
        }
        self.durable = last.seq;
        self.durable_segment = last.segment;
        self.oldest_needed = self.oldest_needed.max(last.needed);
        self.free_below = self.free_below.max(last.published);
        self.events.push_back(WalEvent::Durable(last.seq));
        self.free_segments();
        self.wake_reads();
    }

    /// Takes segments out of the log that no recovery will ask for any more.
    pub(crate) fn free_segments(&mut self) {
        while let Some(segment) = self.segments.take_free(self.free_below) {
            if let Some(file) = segment.file {
                self.recycle(file, segment.len);
            }
        }
    }
}
