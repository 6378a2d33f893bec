//! Which runs of a group's blocks are where.
//!
//! Places are kept sparsely, so that memory stays bounded however long the log is: a [`Span`] is a
//! run of blocks of one group in one segment, known by the place of its first one, and a read
//! scans forward from there. A span holds at least [`SPAN_OWN_BYTES`] of its group or spans
//! [`SPAN_DISTANCE_MAX`] of the segment before the next begins, so spans take about 1 % of the
//! bytes they index. Each truncation starts a new span: within one, the group's blocks of one kind
//! are contiguous and none is stale.

use std::collections::VecDeque;

use crate::index::{Entry, Place};
use crate::types::LogIndex;

/// Bytes of a segment that a span covers before the next may begin.
const SPAN_DISTANCE: u32 = 128 << 10;
/// Bytes of its group that a span holds before the next may begin.
const SPAN_OWN_BYTES: u32 = 4 << 10;
/// Bytes of a segment after which the next span begins in any case. With a thousand groups one of
/// them has some 4 KiB in as much; spans that end sooner take more memory, and most appends find the
/// end of their group's list of them out of the caches.
const SPAN_DISTANCE_MAX: u32 = 4 << 20;

/// A run of one group's blocks in one segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// The live entries, both included. The first block may begin before `first`, the last may
    /// reach beyond `last`.
    pub(crate) first: LogIndex,
    pub(crate) last: LogIndex,
    pub(crate) place: Place,
    pub(crate) bytes: u32,
    /// Whether the blocks are `Moved` records.
    pub(crate) moved: bool,
    /// Whether a block appended next may join; only ever true of the newest span.
    open: bool,
}

impl Span {
    #[inline]
    pub(crate) fn new(entry: &Entry, moved: bool) -> Self {
        let Entry { first, last, bytes, place, .. } = *entry;
        Self { first, last, place, bytes, moved, open: !moved }
    }

    /// Lets the entry join if it may.
    #[inline(always)]
    pub(crate) fn take(&mut self, entry: &Entry, moved: bool) -> bool {
        let distance = entry.place.offset.wrapping_sub(self.place.offset);
        let takes = self.moved == moved
            && self.place.segment == entry.place.segment
            && self.last.next() == entry.first
            && distance < SPAN_DISTANCE_MAX
            && (distance < SPAN_DISTANCE || self.bytes < SPAN_OWN_BYTES);
        if takes {
            self.last = entry.last;
            self.bytes += entry.bytes;
        }
        takes
    }
}

/// A group's spans in the order of their entries. Nearly every block joins the newest one, which
/// therefore lies within, beside what else an append needs.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Spans {
    newest: Option<Span>,
    older: VecDeque<Span>,
    /// Bytes of the older ones: a policy that asks how much there is asks often.
    older_bytes: u64,
}

impl Spans {
    /// Adds a block that was appended; says whether it joined the newest span.
    #[inline(always)]
    pub(crate) fn append(&mut self, entry: &Entry) -> bool {
        if let Some(newest) = &mut self.newest
            && newest.open
            && newest.take(entry, false)
        {
            return true;
        }
        self.push(Span::new(entry, false));
        false
    }

    fn push(&mut self, span: Span) {
        if let Some(before) = self.newest.replace(span) {
            self.older_bytes += u64::from(before.bytes);
            self.older.push_back(Span { open: false, ..before });
        }
    }

    /// Whether the newest span ends right before `first`.
    #[inline(always)]
    pub(crate) fn end_before(&self, first: LogIndex) -> bool {
        self.newest.as_ref().is_some_and(|newest| newest.last.next() == first)
    }

    /// No block joins the newest span any more.
    pub(crate) fn close(&mut self) {
        if let Some(newest) = &mut self.newest {
            newest.open = false;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.older.len() + usize::from(self.newest.is_some())
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Span> {
        if at == self.older.len() { self.newest.as_ref() } else { self.older.get(at) }
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut Span> {
        if at == self.older.len() { self.newest.as_mut() } else { self.older.get_mut(at) }
    }

    /// Lets a moved block join the span at `at`, if it may.
    pub(crate) fn join(&mut self, at: usize, entry: &Entry) -> bool {
        let joined = self.get_mut(at).is_some_and(|span| span.take(entry, true));
        if joined && at < self.older.len() {
            self.older_bytes += u64::from(entry.bytes);
        }
        joined
    }

    /// Takes `bytes` off those of the span at `at`.
    pub(crate) fn shrink(&mut self, at: usize, bytes: u32) {
        if let Some(span) = self.get_mut(at) {
            span.bytes -= bytes;
        }
        if at < self.older.len() {
            self.older_bytes -= u64::from(bytes);
        }
    }

    /// Bytes of the spans from the one at `at` on.
    pub(crate) fn bytes_from(&self, at: usize) -> u64 {
        let sum = |spans: &mut dyn Iterator<Item = &Span>| -> u64 {
            spans.map(|span| u64::from(span.bytes)).sum()
        };
        // Whichever side has fewer.
        let before = at.min(self.older.len());
        let older = match before <= self.older.len() / 2 {
            true => self.older_bytes - sum(&mut self.older.range(..before)),
            false => sum(&mut self.older.range(before..)),
        };
        older + sum(&mut self.newest.iter().filter(|_| at <= self.older.len()))
    }

    pub(crate) fn newest_mut(&mut self) -> Option<&mut Span> {
        self.newest.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Span> {
        self.older.iter().chain(&self.newest)
    }

    /// The number of spans from the first on for which `before` holds; it holds for no later one.
    pub(crate) fn count_while(&self, before: impl Fn(&Span) -> bool) -> usize {
        match &self.newest {
            Some(newest) if before(newest) => self.len(),
            _ => self.older.partition_point(before),
        }
    }

    pub(crate) fn insert(&mut self, at: usize, span: Span) {
        if at == self.len() {
            return self.push(span);
        }
        self.older_bytes += u64::from(span.bytes);
        self.older.insert(at, span);
    }

    /// Takes out the span at `at`, if there is one.
    pub(crate) fn remove(&mut self, at: usize) -> Option<Span> {
        let (left, removed) = if at == self.older.len() {
            let before = self.older.pop_back();
            (before, std::mem::replace(&mut self.newest, before))
        } else {
            let removed = self.older.remove(at);
            (removed, removed)
        };
        self.older_bytes -= left.map_or(0, |span| u64::from(span.bytes));
        removed
    }
}
