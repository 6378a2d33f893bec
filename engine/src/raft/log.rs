//! One group's log as the protocol sees it: where each term starts, how far the log is durable, and
//! the recent blocks.
//!
//! 1. `base <= durable <= last`; nothing before `base` is known but `base`'s own term.
//! 2. `runs` holds the first position of every term after `base`, indices and terms ascending.
//! 3. `blocks` are contiguous and end at `last`; what precedes them is durable and can be loaded.

use std::collections::VecDeque;
use std::slice;

use ringleader_wal::{Block, LogIndex, LogPosition, Term, prefetch};

use super::committed::CommittedBlocks;

/// Of the block to be applied next, so much is fetched ahead.
const ENTRIES_AHEAD: usize = 512;

#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct Log {
    /// The last of `runs`, or `base` if there is none: almost all that is asked of the terms is
    /// asked of the newest one, and the answer shall not cost a look elsewhere in memory.
    newest: LogPosition,
    last: LogIndex,
    durable: LogIndex,
    blocks: VecDeque<Block>,
    bytes: usize,
    base: LogPosition,
    runs: Vec<LogPosition>,
}

impl Log {
    /// A log of which everything is durable and nothing in memory.
    pub(super) fn restored(base: LogPosition, last: LogIndex, runs: Vec<LogPosition>) -> Self {
        assert!(base.index <= last, "the log ends at {last}, before its base {}", base.index);
        let first = runs.first().map(|run| run.index);
        let expected = (base.index < last).then(|| base.index.next());
        assert_eq!(first, expected, "the first term starts where the log does");
        assert!(
            runs.windows(2)
                .all(|pair| pair[0].index < pair[1].index && pair[0].term < pair[1].term)
                && runs.iter().all(|run| run.term >= base.term && run.index <= last),
            "terms ascend along the log"
        );
        let newest = runs.last().copied().unwrap_or(base);
        Self { base, runs, newest, last, durable: last, blocks: VecDeque::new(), bytes: 0 }
    }

    #[inline]
    pub(super) fn prefetch(&self) {
        if let Some(block) = self.blocks.front() {
            prefetch(block, size_of::<Block>());
        }
    }

    #[inline]
    pub(super) fn prefetch_entries(&self) {
        if let Some(block) = self.blocks.front() {
            prefetch(block.as_bytes(), ENTRIES_AHEAD);
        }
    }

    pub(super) fn base(&self) -> LogPosition {
        self.base
    }

    /// Bytes of the blocks in memory.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn last_index(&self) -> LogIndex {
        self.last
    }

    pub(super) fn last(&self) -> LogPosition {
        LogPosition { index: self.last, term: self.newest.term }
    }

    pub(super) fn durable(&self) -> LogIndex {
        self.durable
    }

    pub(super) fn set_durable(&mut self, durable: LogIndex) {
        debug_assert!(durable <= self.last);
        self.durable = self.durable.max(durable);
    }

    /// The term of an entry, from `base` to the last one.
    pub(super) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index < self.base.index || index > self.last {
            return None;
        }
        if index >= self.newest.index {
            return Some(self.newest.term);
        }
        let run = self.runs.iter().rev().find(|run| run.index <= index);
        Some(run.map_or(self.base.term, |run| run.term))
    }

    /// The position of an entry, from `base` to the last one.
    pub(super) fn position(&self, index: LogIndex) -> Option<LogPosition> {
        self.term_at(index).map(|term| LogPosition { index, term })
    }

    /// The last of the block's entries that the log holds already; the index before the block if it
    /// holds none. Entries of one term at the same index are the same (thesis, figure 3.2).
    pub(super) fn agreed_through(&self, block: &Block) -> LogIndex {
        let known = block.first_index().prev().max(self.base.index.min(block.last_index()));
        let Some(run) = self.runs.iter().rposition(|run| run.term == block.term()) else {
            return known;
        };
        let end = self.runs.get(run + 1).map_or(self.last, |next| next.index.prev());
        if self.runs[run].index > known.next() || end <= known {
            return known;
        }
        end.min(block.last_index())
    }

    /// The last entry at or before `index` whose term is at most `term`, but nothing before `base`:
    /// the last place where a log that has `term` at `index` may agree with this one.
    pub(super) fn last_at_most(&self, index: LogIndex, term: Term) -> LogPosition {
        let mut end = index.min(self.last);
        for run in self.runs.iter().rev().filter(|run| run.index <= index) {
            if run.term <= term {
                return LogPosition { index: end, term: run.term };
            }
            end = run.index.prev();
        }
        self.base
    }

    /// Appends a block that starts where the log ends.
    #[inline(always)]
    pub(super) fn append(&mut self, block: Block) {
        assert_eq!(block.first_index(), self.last.next(), "the log has no gaps");
        let last = self.last();
        assert!(block.term() >= last.term, "terms ascend along the log");
        if block.term() > last.term || self.runs.is_empty() {
            self.newest = LogPosition { index: block.first_index(), term: block.term() };
            self.runs.push(self.newest);
        }
        self.last = block.last_index();
        self.bytes += block.len();
        self.blocks.push_back(block);
    }

    /// Drops the entries from `from` on.
    pub(super) fn truncate(&mut self, from: LogIndex) {
        assert!(self.base.index < from && from <= self.last, "only entries can be dropped");
        self.last = from.prev();
        self.durable = self.durable.min(self.last);
        while self.runs.last().is_some_and(|run| run.index >= from) {
            self.runs.pop();
        }
        self.newest = self.runs.last().copied().unwrap_or(self.base);
        while self.blocks.back().is_some_and(|block| block.last_index() >= from) {
            let Some(block) = self.blocks.pop_back() else { break };
            self.bytes -= block.len();
            if block.first_index() < from {
                let kept = block.slice(block.first_index(), self.last);
                self.bytes += kept.len();
                self.blocks.push_back(kept);
            }
        }
    }

    /// Forgets the entries up to `base`, which a durable snapshot covers: they count as durable.
    pub(super) fn compact(&mut self, base: LogPosition) {
        assert_eq!(self.term_at(base.index), Some(base.term), "{base:?} is in the log");
        while self.blocks.front().is_some_and(|block| block.first_index() <= base.index) {
            let Some(block) = self.blocks.pop_front() else { break };
            self.bytes -= block.len();
            if block.last_index() > base.index {
                let kept = block.slice(base.index.next(), block.last_index());
                self.bytes += kept.len();
                self.blocks.push_front(kept);
            }
        }
        let gone = self.runs.partition_point(|run| run.index <= base.index.next());
        let first = self.runs[..gone].last().map(|run| run.term);
        self.runs.drain(..gone);
        if let Some(term) = first.filter(|_| base.index < self.last) {
            self.runs.insert(0, LogPosition { index: base.index.next(), term });
        }
        self.base = base;
        self.newest = self.runs.last().copied().unwrap_or(base);
        self.durable = self.durable.max(base.index);
    }

    /// Begins after `base`, with nothing.
    pub(super) fn reset(&mut self, base: LogPosition) {
        *self = Self::restored(base, base.index, Vec::new());
    }

    /// The blocks in memory from the one that holds `from` on; none if that is not in memory.
    pub(super) fn blocks_from(&self, from: LogIndex) -> Option<impl Iterator<Item = &Block>> {
        let held = self.blocks.front().is_some_and(|block| block.first_index() <= from);
        if !held || from > self.last {
            return None;
        }
        let at = self.blocks.partition_point(|block| block.last_index() < from);
        Some(self.blocks.range(at..))
    }

    /// The blocks in memory from the one that holds `from` to the one that holds `through`, or
    /// fewer, as soon as they have `max_bytes` together; none if they are not in memory.
    pub(super) fn stretch(
        &self,
        from: LogIndex,
        through: LogIndex,
        max_bytes: usize,
    ) -> Option<CommittedBlocks<'_>> {
        // The steady path: one block, the oldest in memory or, where a peer lags, the newest.
        let held = |block: &&Block| block.first_index() <= from && through <= block.last_index();
        let oldest = self.blocks.front().filter(held);
        match oldest.or_else(|| self.blocks.back().filter(held)) {
            Some(block) => Some(CommittedBlocks::new(slice::from_ref(block), &[], from, through)),
            None => self.long_stretch(from, through, max_bytes),
        }
    }

    fn long_stretch(
        &self,
        from: LogIndex,
        through: LogIndex,
        max_bytes: usize,
    ) -> Option<CommittedBlocks<'_>> {
        if self.blocks.front()?.first_index() > from || from > self.last {
            return None;
        }
        let start = self.blocks.partition_point(|block| block.last_index() < from);
        let (mut end, mut bytes, mut last) = (start, 0, from);
        for block in self.blocks.range(start..) {
            bytes += block.len();
            if block.first_index() > through || (end > start && bytes > max_bytes) {
                break;
            }
            last = block.last_index().min(through);
            end += 1;
        }
        let (front, back) = self.blocks.as_slices();
        let split = front.len();
        let head = &front[start.min(split)..end.min(split)];
        let tail = &back[start.saturating_sub(split)..end.saturating_sub(split)];
        Some(CommittedBlocks::new(head, tail, from, last))
    }

    /// The last block, if it begins with `from` and is in memory: what the steady path asks for is
    /// the block that was just appended.
    #[inline]
    pub(super) fn newest_from(&self, from: LogIndex) -> Option<&Block> {
        self.blocks.back().filter(|block| block.first_index() == from)
    }

    /// What one message carries of the entries from `from` on: whole blocks of at most `max_bytes`
    /// together, or one larger block; none if they are not in memory.
    pub(super) fn gather(&self, from: LogIndex, max_bytes: usize) -> Option<Vec<Block>> {
        let mut room = max_bytes;
        let blocks = self.blocks_from(from)?.enumerate().map_while(|(at, block)| {
            let fits = at == 0 || block.len() <= room;
            room = room.saturating_sub(block.len());
            fits.then(|| block.slice(block.first_index().max(from), block.last_index()))
        });
        Some(blocks.collect())
    }

    /// Whether `block` is a part of this log; it tells blocks read back from the WAL from blocks
    /// that were truncated meanwhile.
    pub(super) fn holds(&self, block: &Block) -> bool {
        self.term_at(block.first_index()) == Some(block.term())
            && self.term_at(block.last_index()) == Some(block.term())
    }

    /// Whether there is a block to be freed that is durable and not after `unneeded`.
    #[inline]
    pub(super) fn holds_any(&self, unneeded: LogIndex) -> bool {
        let unneeded = unneeded.min(self.durable);
        self.blocks.front().is_some_and(|block| block.last_index() <= unneeded)
    }

    /// Frees the blocks that are durable and not after `unneeded`, those up to `unwanted` in any
    /// case and later ones while more than `cache_bytes` says are held.
    pub(super) fn release(
        &mut self,
        unneeded: LogIndex,
        unwanted: LogIndex,
        cache_bytes: impl Fn() -> usize,
    ) {
        let unneeded = unneeded.min(self.durable);
        while let Some(block) = self.blocks.front() {
            let last = block.last_index();
            if last > unneeded || (last > unwanted && self.bytes <= cache_bytes()) {
                return;
            }
            self.bytes -= block.len();
            self.blocks.pop_front();
        }
        // Nothing is left. The next block goes to the front of the queue's memory again, which then
        // is all of it that is ever touched.
        self.blocks.clear();
    }

    /// Nothing is appended for a while: what the blocks took is better used elsewhere.
    pub(super) fn give_back_room(&mut self) {
        self.blocks.shrink_to_fit();
        self.runs.shrink_to_fit();
    }

    /// Checks the invariants above.
    pub(super) fn check(&self) {
        assert!(self.base.index <= self.durable && self.durable <= self.last);
        assert!(self.runs.windows(2).all(|w| w[0].index < w[1].index && w[0].term < w[1].term));
        assert!(self.runs.iter().all(|run| self.base.index < run.index && run.index <= self.last));
        assert_eq!(self.newest, self.runs.last().copied().unwrap_or(self.base));
        assert_eq!(self.bytes, self.blocks.iter().map(Block::len).sum::<usize>());
        let mut next = self.blocks.front().map(Block::first_index);
        for block in &self.blocks {
            assert_eq!(Some(block.first_index()), next, "blocks are contiguous");
            assert!(self.holds(block), "{block:?} contradicts the terms");
            next = Some(block.last_index().next());
        }
        let first_held = next.map_or(self.last.next(), |end| {
            assert_eq!(end, self.last.next(), "blocks end where the log does");
            self.blocks[0].first_index()
        });
        assert!(first_held <= self.durable.next(), "what is not in memory is durable");
    }
}
