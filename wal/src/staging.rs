//! Batches that fill up and wait for their turn to be written.
//!
//! A batch's place in the log is fixed when it is opened: batches lie back to back, so the place
//! after the last closed one is known, and records can enter the index while they are staged. A
//! batch never grows beyond its segment's room, and a record that no longer fits opens the next.
//!
//! Table and small bodies are copied as they are staged: while they are in the cache, and into two
//! pieces of memory for the whole batch, made as large as those of the batch before.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::block::Block;
use crate::disk::PAGE;
use crate::format::{BATCH_HEADER_LEN, RECORD_LEN, Record, pages};
use crate::gather::Gather;
use crate::index::Place;
use crate::types::Seq;

/// A batch in memory.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) seq: Seq,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// Room for the header, and the table.
    pub(crate) meta: Vec<u8>,
    pub(crate) bodies: Gather,
    pub(crate) records: u32,
    /// Bytes without padding, and how many they may become.
    used: usize,
    limit: usize,
    /// The oldest live segment once this batch's records count.
    pub(crate) needed: u64,
    pub(crate) mark: bool,
    /// Records rewritten forward among `records`.
    pub(crate) rewritten: u32,
}

impl Staged {
    fn new(seq: Seq, segment: u64, offset: u64, limit: usize, expected: Expected) -> Self {
        let mut meta = Vec::with_capacity(expected.meta);
        meta.resize(BATCH_HEADER_LEN, 0);
        let bodies = Gather::with_capacity(expected.bodies);
        Self {
            seq,
            segment,
            offset,
            meta,
            bodies,
            records: 0,
            used: BATCH_HEADER_LEN,
            limit,
            needed: 0,
            mark: false,
            rewritten: 0,
        }
    }

    /// Adds a record, which takes `len` bytes with its body.
    #[inline(always)]
    fn push(&mut self, record: &Record, body: Option<&Block>, len: usize) -> (Seq, Place) {
        self.meta.extend_from_slice(&record.encode());
        if let Some(block) = body {
            self.bodies.push(block);
        }
        let Self { segment, offset, records, .. } = *self;
        self.records += 1;
        self.used += len;
        (self.seq, Place { segment, offset: offset as u32, record: records })
    }

    /// Bytes without padding.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// The batch's bytes without padding, once its header was filled in.
    pub(crate) fn into_parts(mut self) -> Vec<Bytes> {
        let mut parts = vec![Bytes::from(self.meta)];
        self.bodies.take(&mut parts);
        parts
    }

    /// Bytes on the disk.
    pub(crate) fn length(&self) -> usize {
        pages(self.used())
    }
}

/// What the next batch gets room for: what the last one took, up to a bound.
#[derive(Clone, Copy, Debug)]
struct Expected {
    meta: usize,
    bodies: usize,
}

/// Most memory that a batch gets before it has any record.
const EXPECTED_MAX: usize = 64 << 10;

impl Expected {
    fn after(batch: &Staged) -> Self {
        let bodies = batch.bodies.len().min(EXPECTED_MAX);
        Self { meta: batch.meta.len().min(EXPECTED_MAX), bodies }
    }
}

/// The open batch and those closed that wait for a free write.
#[derive(Debug)]
pub(crate) struct Staging {
    open: Option<Staged>,
    closed: VecDeque<Staged>,
    /// Place and number of the next batch to be opened; segment 0 before the first.
    segment: u64,
    offset: u64,
    next_seq: Seq,
    segment_bytes: u64,
    max_batch: usize,
    expected: Expected,
    /// Bytes staged, in closed batches and the open one.
    pub(crate) bytes: usize,
}

/// What staging needs before a record can be placed.
pub(crate) enum Room {
    /// The record may be pushed.
    Ready,
    /// A batch has to be closed first, with [`Staging::close`].
    Close,
    /// A new segment has to be entered first, with [`Staging::enter`].
    Segment,
}

impl Staging {
    pub(crate) fn new(segment_bytes: u64, max_batch: usize, next_seq: Seq) -> Self {
        Self {
            open: None,
            closed: VecDeque::new(),
            segment: 0,
            offset: segment_bytes,
            next_seq,
            segment_bytes,
            max_batch,
            expected: Expected { meta: BATCH_HEADER_LEN + RECORD_LEN, bodies: 0 },
            bytes: 0,
        }
    }

    /// Number of the batch that the next record goes into, or of the one after the last.
    pub(crate) fn seq(&self) -> Seq {
        self.open.as_ref().map_or(self.next_seq, |open| open.seq)
    }

    /// The last batch that holds anything staged so far.
    pub(crate) fn last_seq(&self) -> Seq {
        self.open.as_ref().map_or(Seq(self.next_seq.0 - 1), |open| open.seq)
    }

    /// The segment that is being filled.
    pub(crate) fn segment(&self) -> u64 {
        self.segment
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_none() && self.closed.is_empty()
    }

    /// What a record with a body of `body` bytes needs first.
    #[inline]
    pub(crate) fn room(&self, body: usize) -> Room {
        if let Some(open) = &self.open {
            let fits = open.used + RECORD_LEN + body <= open.limit;
            return if fits { Room::Ready } else { Room::Close };
        }
        let first = BATCH_HEADER_LEN + RECORD_LEN + body;
        if first <= self.segment_room() { Room::Ready } else { Room::Segment }
    }

    /// Bytes that the segment still takes: whole pages, as everything about it is.
    fn segment_room(&self) -> usize {
        (self.segment_bytes - self.offset) as usize
    }

    /// The next batch begins in `segment`.
    pub(crate) fn enter(&mut self, segment: u64) {
        debug_assert!(self.open.is_none());
        self.segment = segment;
        self.offset = PAGE as u64;
    }

    fn open(&mut self) -> &mut Staged {
        if self.open.is_none() {
            // The first record of a batch may exceed the limit, but never the segment.
            let limit = self.segment_room().min(self.max_batch);
            let (seq, at) = (self.next_seq, self.offset);
            self.open = Some(Staged::new(seq, self.segment, at, limit, self.expected));
            self.next_seq.0 += 1;
            self.bytes += BATCH_HEADER_LEN;
        }
        self.open.as_mut().expect("just opened")
    }

    /// Adds a record if it fits the open batch, which it does as a rule.
    #[inline(always)]
    pub(crate) fn try_push(
        &mut self,
        record: &Record,
        body: Option<&Block>,
    ) -> Option<(Seq, Place)> {
        let len = RECORD_LEN + body.map_or(0, Block::len);
        let open = self.open.as_mut().filter(|open| open.used + len <= open.limit)?;
        self.bytes += len;
        Some(open.push(record, body, len))
    }

    /// Adds a record for which [`Staging::room`] said that it is ready.
    pub(crate) fn push(&mut self, record: &Record, body: Option<&Block>) -> (Seq, Place) {
        let len = RECORD_LEN + body.map_or(0, Block::len);
        self.bytes += len;
        self.open().push(record, body, len)
    }

    /// The record pushed last was rewritten forward, not staged by the owner.
    pub(crate) fn note_rewritten(&mut self) {
        if let Some(open) = &mut self.open {
            open.rewritten += 1;
        }
    }

    /// Opens an empty batch, the idle mark. Nothing may be open, and the segment must have room.
    pub(crate) fn push_mark(&mut self) {
        debug_assert!(self.open.is_none());
        // It must not be taken for a mark while it holds records: none fits.
        let open = self.open();
        (open.mark, open.limit) = (true, 0);
    }

    /// Closes the open batch; `needed` is the oldest live segment now.
    pub(crate) fn close(&mut self, needed: u64) {
        if let Some(mut open) = self.open.take() {
            open.needed = needed;
            self.expected = Expected::after(&open);
            self.offset = open.offset + open.length() as u64;
            self.closed.push_back(open);
        }
    }

    /// The segment of the next batch to be written, closed or open.
    pub(crate) fn next_segment(&self) -> Option<u64> {
        self.closed.front().or(self.open.as_ref()).map(|batch| batch.segment)
    }

    /// Whether nothing but an open batch waits, of fewer bytes than these.
    pub(crate) fn is_smaller_than(&self, bytes: usize) -> bool {
        self.closed.is_empty() && self.open.as_ref().is_none_or(|open| open.used() < bytes)
    }

    pub(crate) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Takes the next closed batch to write it.
    pub(crate) fn take(&mut self) -> Option<Staged> {
        let batch = self.closed.pop_front()?;
        self.bytes -= batch.used();
        Some(batch)
    }

    /// The number of the first batch that is not written yet.
    pub(crate) fn first_seq(&self) -> Option<Seq> {
        self.closed.front().or(self.open.as_ref()).map(|batch| batch.seq)
    }

    /// Drops everything: the log failed.
    pub(crate) fn clear(&mut self) {
        self.open = None;
        self.closed.clear();
        self.bytes = 0;
    }
}
