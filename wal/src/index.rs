//! Which entries each group has, and where they are.
//!
//! With a thousand groups an append finds little of its group in the cache. What it needs, unless
//! something changes beside the log's end, is one cache line: see [`Group`].

use std::collections::VecDeque;

use crate::prefetch::prefetch;
use crate::segments::Segments;
use crate::spans::{Span, Spans};
use crate::types::{GroupId, HardState, LogIndex, LogPosition, NumberMap, Term};

/// Where a block is: its segment, its batch's offset in there, its number in the batch's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u32,
    pub(crate) record: u32,
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

/// One group's log. The first three fields fill a cache line, the newest span included.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) last: LogPosition,
    spans: Spans,
    /// The index where each run of one term begins; none while the log is empty.
    terms: VecDeque<LogPosition>,
    pub(crate) hard_state: HardState,
    /// Segment of the latest hard state record, 0 for none.
    pub(crate) hard_state_at: u64,
    pub(crate) base: LogPosition,
    /// Segment of the latest release record, or of the one that destroyed the group; 0 for none.
    pub(crate) base_at: u64,
    /// Segment of the latest record that the group was created, 0 for none.
    pub(crate) created_at: u64,
    /// Counts truncations, so that a read notices one under way.
    pub(crate) epoch: u32,
    /// The last entry of the block moved last, while its span may grow: only a block that follows
    /// it directly, on the disk and in the log, may join.
    moved_to: Option<LogIndex>,
}

/// Base and end of the log of a group that was destroyed: nothing follows it.
const DESTROYED: LogPosition = LogPosition { index: LogIndex(u64::MAX), term: Term(u64::MAX) };

/// What an append looks at.
const HOT_BYTES: usize = 64;
const _: () = assert!(std::mem::offset_of!(Group, spans) + size_of::<Option<Span>>() == HOT_BYTES);
/// And one that begins a span.
const NEXT_SPAN_BYTES: usize = HOT_BYTES + size_of::<VecDeque<Span>>();

impl Group {
    fn new(id: GroupId) -> Self {
        Self {
            id,
            last: LogPosition::default(),
            spans: Spans::default(),
            terms: VecDeque::new(),
            hard_state: HardState::default(),
            hard_state_at: 0,
            base: LogPosition::default(),
            base_at: 0,
            created_at: 0,
            epoch: 0,
            moved_to: None,
        }
    }

    /// Adds a block behind all others.
    #[inline(always)]
    pub(crate) fn append(&mut self, segments: &mut Segments, entry: &Entry) {
        // A span that ends with the last entry is of a run of its term that is known.
        let follows = self.last.term == entry.term && self.spans.end_before(entry.first);
        if self.spans.append(entry) {
            segments.grow_span(entry.place.segment, entry.bytes);
            if self.last.term != entry.term {
                self.note_term(entry.first, entry.term);
            }
        } else {
            segments.add_span(entry.place.segment, entry.bytes);
            if !follows {
                self.note_term(entry.first, entry.term);
            }
        }
        self.last = LogPosition { index: entry.last, term: entry.term };
    }

    /// Notes a new place for entries that were appended earlier. Their old place may be unknown,
    /// when replay began behind it.
    pub(crate) fn relocate(&mut self, segments: &mut Segments, entry: &Entry) {
        self.carve(segments, entry);
        let at = self.spans.count_while(|span| span.first < entry.first);
        let joined = at.checked_sub(1).is_some_and(|before| {
            let last = self.spans.get(before).map(|span| span.last);
            last.is_some() && self.moved_to == last && self.spans.join(before, entry)
        });
        if joined {
            segments.grow_span(entry.place.segment, entry.bytes);
        } else {
            self.spans.insert(at, Span::new(entry, true));
            segments.add_span(entry.place.segment, entry.bytes);
        }
        self.moved_to = Some(entry.last);
        self.note_term(entry.first, entry.term);
        if entry.last > self.last.index {
            self.last = LogPosition { index: entry.last, term: entry.term };
        }
    }

    /// Takes the entry's range out of the spans that cover it.
    fn carve(&mut self, segments: &mut Segments, entry: &Entry) {
        let mut at = self.spans.count_while(|span| span.last < entry.first);
        while let Some(span) = self.spans.get_mut(at).filter(|span| span.first <= entry.last) {
            let segment = span.place.segment;
            let (left, right) = (span.first < entry.first, span.last > entry.last);
            if !left && !right {
                segments.drop_span(segment, span.bytes);
                self.spans.remove(at);
                continue;
            }
            let gone = span.bytes.min(entry.bytes);
            segments.shrink_span(segment, gone);
            let mut rest = *span;
            if left {
                span.last = entry.first.prev();
            } else {
                span.first = entry.last.next();
            }
            self.spans.shrink(at, gone);
            if left && right {
                // The right part is found by scanning from the same place.
                (rest.first, rest.bytes) = (entry.last.next(), 0);
                self.spans.insert(at + 1, rest);
                segments.add_span(segment, 0);
                return;
            }
            at += 1;
        }
    }

    /// Drops the entries from `from` on.
    pub(crate) fn truncate(&mut self, segments: &mut Segments, from: LogIndex) {
        while let Some(span) = self.spans.newest_mut().filter(|span| span.last >= from) {
            if span.first < from {
                span.last = from.prev();
                break;
            }
            segments.drop_span(span.place.segment, span.bytes);
            self.spans.remove(self.spans.len() - 1);
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
        self.spans.close();
        self.moved_to = None;
    }

    /// Drops the entries up to `through`, which becomes the base.
    pub(crate) fn release(&mut self, segments: &mut Segments, through: LogPosition) {
        if through.index < self.base.index {
            return;
        }
        self.base = through;
        while let Some(span) = self.spans.get_mut(0) {
            if span.last > through.index {
                span.first = span.first.max(through.index.next());
                break;
            }
            segments.drop_span(span.place.segment, span.bytes);
            self.spans.remove(0);
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

    /// Drops everything: the group's number is used up.
    pub(crate) fn destroy(&mut self, segments: &mut Segments) {
        while let Some(span) = self.spans.remove(0) {
            segments.drop_span(span.place.segment, span.bytes);
        }
        (self.spans, self.terms) = (Spans::default(), VecDeque::new());
        (self.base, self.last) = (DESTROYED, DESTROYED);
        self.hard_state = HardState::default();
        segments.drop_state(&mut self.hard_state_at);
        segments.drop_state(&mut self.created_at);
        self.close();
    }

    pub(crate) fn is_destroyed(&self) -> bool {
        self.base == DESTROYED
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
        let at = self.spans.count_while(|span| span.last < index);
        self.spans.get(at).filter(|span| span.first <= index)
    }

    /// Bytes of the blocks after `index`, in whole spans: up to one more than there are.
    pub(crate) fn bytes_after(&self, index: LogIndex) -> u64 {
        self.spans.bytes_from(self.spans.count_while(|span| span.last <= index))
    }

    /// The last entry whose block was appended before the segment `since`. Blocks are moved oldest
    /// first, so those that were come before all others.
    pub(crate) fn appended_before(&self, since: u64) -> LogIndex {
        let old = |span: &Span| span.place.segment < since || span.moved;
        match self.spans.count_while(old).checked_sub(1).and_then(|at| self.spans.get(at)) {
            Some(span) if since > 0 => span.last,
            _ => self.base.index,
        }
    }

    /// The entry after which the blocks up to `through` take at most `bytes`, in whole spans.
    pub(crate) fn tail(&self, through: LogIndex, bytes: u64) -> LogIndex {
        let (mut room, mut after) = (bytes, through);
        for at in (0..self.spans.count_while(|span| span.first <= through)).rev() {
            let Some(span) = self.spans.get(at) else { break };
            match room.checked_sub(u64::from(span.bytes)) {
                Some(left) => (room, after) = (left, span.first.prev()),
                None => break,
            }
        }
        after
    }

    /// The live part of the block at `place` that begins at `first`, if any of it is live there.
    pub(crate) fn live_part(
        &self,
        entry_first: LogIndex,
        entry_last: LogIndex,
        place: Place,
        moved: bool,
    ) -> Option<(LogIndex, LogIndex)> {
        let at = self.spans.count_while(|span| span.last < entry_first);
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
        for span in self.spans.iter() {
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

/// Where the log keeps what it knows of a group: kept by the owner beside the group's own state,
/// it spares an append the search. Any value will do at first, and none can do harm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupSlot(u32);

/// All groups, dense.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    list: Vec<Group>,
    slots: NumberMap<u64, u32>,
    /// The slot after the one asked for last: a turn goes through the groups in much the same
    /// order as the one before, and what tells whether the guess is right is needed anyway.
    guess: u32,
}

impl Groups {
    /// The group's slot, made when it is new.
    #[inline]
    pub(crate) fn slot(&mut self, id: GroupId) -> u32 {
        let mut guess = GroupSlot(self.guess);
        let slot = self.known(id, &mut guess);
        self.guess = if slot as usize + 1 < self.list.len() { slot + 1 } else { 0 };
        slot
    }

    /// The same with a guess of the caller's, which is right afterwards.
    #[inline]
    pub(crate) fn known(&mut self, id: GroupId, guess: &mut GroupSlot) -> u32 {
        if self.list.get(guess.0 as usize).is_none_or(|group| group.id != id) {
            guess.0 = self.find(id);
        }
        guess.0
    }

    fn find(&mut self, id: GroupId) -> u32 {
        let next = self.list.len() as u32;
        let slot = *self.slots.entry(id.0).or_insert(next);
        if slot == next {
            self.list.push(Group::new(id));
        }
        slot
    }

    /// Has the CPU fetch what an append looks at, if the guess is right.
    #[inline]
    pub(crate) fn prefetch(&self, guess: GroupSlot) {
        if let Some(group) = self.list.get(guess.0 as usize) {
            prefetch(group, NEXT_SPAN_BYTES);
        }
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
