//! Which entries each group has, and where they are.
//!
//! Places are kept sparsely, so that memory stays bounded however long the log is: a [`Span`] is a
//! run of blocks of one group in one segment, known by the place of its first one, and a read
//! scans forward from there. A span holds at least [`SPAN_OWN_BYTES`] of its group or spans
//! [`SPAN_DISTANCE_MAX`] of the segment before the next begins, so spans take about 1 % of the
//! bytes they index. Each truncation starts a new span: within one, the group's blocks of one kind
//! are contiguous and none is stale.

use std::collections::VecDeque;

use crate::segments::Segments;
use crate::types::{GroupId, HardState, LogIndex, LogPosition, NumberMap, Term};

/// Bytes of a segment that a span covers before the next may begin.
const SPAN_DISTANCE: u32 = 128 << 10;
/// Bytes of its group that a span holds before the next may begin.
const SPAN_OWN_BYTES: u32 = 4 << 10;
/// Bytes of a segment after which the next span begins in any case.
const SPAN_DISTANCE_MAX: u32 = 1 << 20;

/// Where a block is: its segment, its batch's offset in there, its number in the batch's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u32,
    pub(crate) record: u32,
}

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
}

impl Span {
    fn takes(&self, first: LogIndex, place: Place, moved: bool) -> bool {
        let distance = place.offset.wrapping_sub(self.place.offset);
        self.moved == moved
            && self.place.segment == place.segment
            && self.last.next() == first
            && distance < SPAN_DISTANCE_MAX
            && (distance < SPAN_DISTANCE || self.bytes < SPAN_OWN_BYTES)
    }
}

/// One block as the index sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) first: LogIndex,
    pub(crate) last: LogIndex,
    pub(crate) term: Term,
    pub(crate) bytes: u32,
    pub(crate) place: Place,
}

/// One group's log.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) hard_state: HardState,
    /// Segment of the latest hard state record, 0 for none.
    pub(crate) hard_state_at: u64,
    pub(crate) base: LogPosition,
    /// Segment of the latest release record, 0 for none.
    pub(crate) base_at: u64,
    pub(crate) last: LogPosition,
    spans: VecDeque<Span>,
    terms: VecDeque<LogPosition>,
    /// Counts truncations, so that a read notices one under way.
    pub(crate) epoch: u32,
    /// Whether the newest span of appended blocks may grow.
    open: bool,
    /// The last entry of the block moved last, while its span may grow: only a block that follows
    /// it directly, on the disk and in the log, may join.
    moved_to: Option<LogIndex>,
}

impl Group {
    fn new(id: GroupId) -> Self {
        Self {
            id,
            hard_state: HardState::default(),
            hard_state_at: 0,
            base: LogPosition::default(),
            base_at: 0,
            last: LogPosition::default(),
            spans: VecDeque::new(),
            terms: VecDeque::new(),
            epoch: 0,
            open: false,
            moved_to: None,
        }
    }

    /// Adds a block behind all others.
    #[inline]
    pub(crate) fn append(&mut self, segments: &mut Segments, entry: &Entry) {
        match self.spans.back_mut() {
            Some(span) if self.open && span.takes(entry.first, entry.place, false) => {
                span.last = entry.last;
                span.bytes += entry.bytes;
                segments.grow_span(entry.place.segment, entry.bytes);
            }
            _ => {
                self.spans.push_back(Self::span(entry, false));
                segments.add_span(entry.place.segment, entry.bytes);
                self.open = true;
            }
        }
        self.note_term(entry.first, entry.term);
        self.last = LogPosition { index: entry.last, term: entry.term };
    }

    fn span(entry: &Entry, moved: bool) -> Span {
        let Entry { first, last, bytes, place, .. } = *entry;
        Span { first, last, place, bytes, moved }
    }

    /// Notes a new place for entries that were appended earlier. Their old place may be unknown,
    /// when replay began behind it.
    pub(crate) fn relocate(&mut self, segments: &mut Segments, entry: &Entry) {
        self.carve(segments, entry);
        let at = self.spans.partition_point(|span| span.first < entry.first);
        let before = at.checked_sub(1).map(|at| &mut self.spans[at]);
        match before {
            Some(span)
                if self.moved_to == Some(span.last)
                    && span.takes(entry.first, entry.place, true) =>
            {
                span.last = entry.last;
                span.bytes += entry.bytes;
                segments.grow_span(entry.place.segment, entry.bytes);
            }
            _ => {
                self.spans.insert(at, Self::span(entry, true));
                segments.add_span(entry.place.segment, entry.bytes);
            }
        }
        self.moved_to = Some(entry.last);
        self.note_term(entry.first, entry.term);
        if entry.last > self.last.index {
            self.last = LogPosition { index: entry.last, term: entry.term };
        }
    }

    /// Takes the entry's range out of the spans that cover it.
    fn carve(&mut self, segments: &mut Segments, entry: &Entry) {
        let mut at = self.spans.partition_point(|span| span.last < entry.first);
        while at < self.spans.len() && self.spans[at].first <= entry.last {
            let span = self.spans[at];
            let segment = span.place.segment;
            let (left, right) = (span.first < entry.first, span.last > entry.last);
            if !left && !right {
                self.spans.remove(at);
                segments.drop_span(segment, span.bytes);
                continue;
            }
            let gone = span.bytes.min(entry.bytes);
            segments.shrink_span(segment, gone);
            self.spans[at].bytes -= gone;
            if left && right {
                // The right part is found by scanning from the same place.
                self.spans[at].last = entry.first.prev();
                self.spans.insert(at + 1, Span { first: entry.last.next(), bytes: 0, ..span });
                segments.add_span(segment, 0);
                return;
            }
            if left {
                self.spans[at].last = entry.first.prev();
            } else {
                self.spans[at].first = entry.last.next();
            }
            at += 1;
        }
    }

    /// Drops the entries from `from` on.
    pub(crate) fn truncate(&mut self, segments: &mut Segments, from: LogIndex) {
        while let Some(span) = self.spans.back().copied().filter(|span| span.last >= from) {
            if span.first < from {
                self.spans.back_mut().expect("just seen").last = from.prev();
                break;
            }
            self.spans.pop_back();
            segments.drop_span(span.place.segment, span.bytes);
        }
        while self.terms.back().is_some_and(|run| run.index >= from) {
            self.terms.pop_back();
        }
        if from <= self.last.index {
            let term = self.terms.back().map_or(self.base.term, |run| run.term);
            self.last = LogPosition { index: from.prev(), term };
        }
        self.close();
    }

    /// Lets nothing grow across a change of the log, and makes reads under way start again.
    fn close(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.open = false;
        self.moved_to = None;
    }

    /// Drops the entries up to `through`, which becomes the base.
    pub(crate) fn release(&mut self, segments: &mut Segments, through: LogPosition) {
        if through.index < self.base.index {
            return;
        }
        self.base = through;
        while let Some(span) = self.spans.front_mut() {
            if span.last > through.index {
                span.first = span.first.max(through.index.next());
                break;
            }
            segments.drop_span(span.place.segment, span.bytes);
            self.spans.pop_front();
        }
        while self.terms.get(1).is_some_and(|run| run.index <= through.index.next()) {
            self.terms.pop_front();
        }
        if self.last.index <= through.index {
            self.last = through;
            self.terms.clear();
            self.close();
        } else if let Some(run) = self.terms.front_mut() {
            run.index = run.index.max(through.index.next());
        }
    }

    /// Entries from `first` on have `term`, up to the next run. Terms never fall along a log, so
    /// this also works when runs become known out of order.
    #[inline]
    fn note_term(&mut self, first: LogIndex, term: Term) {
        if self.terms.back().is_some_and(|run| run.term == term && run.index <= first) {
            return;
        }
        let at = self.terms.partition_point(|run| run.index < first);
        if at > 0 && self.terms[at - 1].term == term {
            return;
        }
        match self.terms.get_mut(at) {
            Some(run) if run.index == first => run.term = term,
            _ => self.terms.insert(at, LogPosition { index: first, term }),
        }
        if self.terms.get(at + 1).is_some_and(|run| run.term == term) {
            self.terms.remove(at + 1);
        }
    }

    /// The span that holds `index`.
    pub(crate) fn locate(&self, index: LogIndex) -> Option<&Span> {
        let at = self.spans.partition_point(|span| span.last < index);
        self.spans.get(at).filter(|span| span.first <= index)
    }

    /// The live part of the block at `place` that begins at `first`, if any of it is live there.
    pub(crate) fn live_part(
        &self,
        entry_first: LogIndex,
        entry_last: LogIndex,
        place: Place,
        moved: bool,
    ) -> Option<(LogIndex, LogIndex)> {
        let at = self.spans.partition_point(|span| span.last < entry_first);
        let span = self.spans.get(at)?;
        let (first, last) = (span.first.max(entry_first), span.last.min(entry_last));
        let here = span.moved == moved
            && span.place.segment == place.segment
            && span.place <= place
            && first <= last;
        here.then_some((first, last))
    }

    /// The first index in `(base, last]` that no span holds.
    pub(crate) fn gap(&self) -> Option<LogIndex> {
        let mut expected = self.base.index.next();
        for span in &self.spans {
            if span.first != expected {
                return Some(expected);
            }
            expected = span.last.next();
        }
        (expected <= self.last.index).then_some(expected)
    }

    pub(crate) fn terms(&self) -> impl Iterator<Item = LogPosition> + '_ {
        self.terms.iter().copied()
    }
}

/// All groups, dense.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    list: Vec<Group>,
    slots: NumberMap<u64, u32>,
}

impl Groups {
    /// The group's slot, made when it is new.
    #[inline]
    pub(crate) fn slot(&mut self, id: GroupId) -> u32 {
        let next = self.list.len() as u32;
        let slot = *self.slots.entry(id.0).or_insert(next);
        if slot == next {
            self.list.push(Group::new(id));
        }
        slot
    }

    #[inline]
    pub(crate) fn at(&mut self, slot: u32) -> &mut Group {
        &mut self.list[slot as usize]
    }

    /// The group's state, made when it is new.
    pub(crate) fn entry(&mut self, id: GroupId) -> &mut Group {
        let slot = self.slot(id);
        self.at(slot)
    }

    pub(crate) fn len(&self) -> u32 {
        self.list.len() as u32
    }

    pub(crate) fn get(&self, id: GroupId) -> Option<&Group> {
        self.slots.get(&id.0).map(|&slot| &self.list[slot as usize])
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Group> {
        self.list.iter()
    }
}
