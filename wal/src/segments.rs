//! The log's segments, oldest first, and what of each is still live.

use std::collections::VecDeque;

use crate::disk::FileName;
use crate::status::SegmentStatus;

/// One segment of the log. `file` is unknown until its first batch is submitted.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) id: u64,
    /// The segment before, 0 for none.
    pub(crate) prev: u64,
    pub(crate) file: Option<u32>,
    /// Bytes of the file.
    pub(crate) len: u64,
    /// Bytes of the file, header page included, that hold durable batches.
    pub(crate) durable_end: u64,
    /// Spans of live entries, over all groups; see [`crate::spans::Span`].
    pub(crate) spans: u32,
    /// Their bytes, an upper bound.
    pub(crate) bytes: u64,
    /// Latest hard states, bases and ends of groups that are recorded here.
    pub(crate) states: u32,
    /// Reads under way; the file must not be used again before they end.
    pub(crate) pins: u32,
    /// Set when relocation could not read it: not to be tried again.
    pub(crate) unreadable: bool,
}

impl Segment {
    pub(crate) fn new(id: u64, prev: u64, len: u64) -> Self {
        Self {
            id,
            prev,
            file: None,
            len,
            durable_end: 0,
            spans: 0,
            bytes: 0,
            states: 0,
            pins: 0,
            unreadable: false,
        }
    }

    fn live(&self) -> bool {
        self.spans > 0 || self.states > 0
    }

    fn status(&self) -> SegmentStatus {
        SegmentStatus {
            id: self.id,
            file: self.file.map(|file| FileName::Segment(file).to_string()),
            bytes: self.len,
            durable_bytes: self.durable_end,
            live_bytes: self.bytes,
            states: self.states,
            reads: self.pins,
        }
    }
}

/// The segments in the order of their ids.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    list: VecDeque<Segment>,
}

impl Segments {
    pub(crate) fn push(&mut self, segment: Segment) {
        debug_assert!(self.list.back().is_none_or(|last| last.id < segment.id));
        self.list.push_back(segment);
    }

    /// Puts `older` segments before these.
    pub(crate) fn behind(mut self, older: Vec<Segment>) -> Self {
        older.into_iter().rev().for_each(|segment| self.list.push_front(segment));
        self
    }

    /// Keeps the first `count`, which must be all that hold anything.
    pub(crate) fn truncate(&mut self, count: usize) {
        debug_assert!(self.list.iter().skip(count).all(|segment| !segment.live()));
        self.list.truncate(count);
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// The id of the oldest one among the newest `count`; 0 when there are no others.
    pub(crate) fn newest(&self, count: usize) -> u64 {
        let others = self.list.len().saturating_sub(count);
        if others == 0 { 0 } else { self.list.get(others).map_or(0, |segment| segment.id) }
    }

    pub(crate) fn statuses(&self) -> impl Iterator<Item = SegmentStatus> {
        self.list.iter().map(Segment::status)
    }

    #[inline]
    pub(crate) fn get(&self, id: u64) -> Option<&Segment> {
        // Most accesses are to the newest one.
        if let Some(last) = self.list.back().filter(|last| last.id == id) {
            return Some(last);
        }
        let at = self.list.binary_search_by_key(&id, |segment| segment.id).ok()?;
        self.list.get(at)
    }

    /// The segment `id`, which must be in the log.
    #[inline]
    pub(crate) fn at(&mut self, id: u64) -> &mut Segment {
        let newest = self.list.len().wrapping_sub(1);
        let is_newest = self.list.get(newest).is_some_and(|segment| segment.id == id);
        let at = if is_newest { newest } else { self.find(id) };
        &mut self.list[at]
    }

    #[cold]
    fn find(&self, id: u64) -> usize {
        let at = self.list.binary_search_by_key(&id, |segment| segment.id);
        at.expect("a span or state names a segment of the log")
    }

    pub(crate) fn add_span(&mut self, id: u64, bytes: u32) {
        let segment = self.at(id);
        segment.spans += 1;
        segment.bytes += u64::from(bytes);
    }

    #[inline]
    pub(crate) fn grow_span(&mut self, id: u64, bytes: u32) {
        self.at(id).bytes += u64::from(bytes);
    }

    pub(crate) fn drop_span(&mut self, id: u64, bytes: u32) {
        let segment = self.at(id);
        segment.spans -= 1;
        segment.bytes -= u64::from(bytes);
    }

    pub(crate) fn shrink_span(&mut self, id: u64, bytes: u32) {
        self.at(id).bytes -= u64::from(bytes);
    }

    /// Moves the record of a state from segment `*from` (0: nowhere) to `to`.
    #[inline]
    pub(crate) fn move_state(&mut self, from: &mut u64, to: u64) {
        if *from == to {
            return;
        }
        if *from != 0 {
            self.at(*from).states -= 1;
        }
        self.at(to).states += 1;
        *from = to;
    }

    /// The record of a state in segment `*at` (0: nowhere) is dead.
    pub(crate) fn drop_state(&mut self, at: &mut u64) {
        if *at != 0 {
            self.at(*at).states -= 1;
        }
        *at = 0;
    }

    /// The oldest segment with something live.
    pub(crate) fn oldest_live(&self) -> Option<&Segment> {
        self.list.iter().find(|segment| segment.live())
    }

    /// Takes out the oldest segment if it is older than `below` and nobody reads it.
    pub(crate) fn take_free(&mut self, below: u64) -> Option<Segment> {
        let front = self.list.front()?;
        if front.id >= below || front.pins > 0 || front.file.is_none() {
            return None;
        }
        debug_assert!(!front.live());
        self.list.pop_front()
    }
}
