//! What is committed and applied in one era of a group: its history as a line. A reset ends a line
//! and begins the next one with what the chosen node had of it; what else it held is lost, and only
//! that.

use std::collections::BTreeMap;

use ringleader::raft::era::Era;
use ringleader::{Entry, GroupId, LogIndex, LogPortion, LogPosition, NodeId, Term};
use ringleader_wal::BlockKind;

use crate::applied::{AppliedOp, OpName};
use crate::clients::{Asked, Fate};
use crate::image::Image;
use crate::machine::NOTHING;
use crate::rng::chain_bytes;

/// Hashes of entries.
pub(crate) type Entries = BTreeMap<LogPosition, u64>;

/// See the [module documentation](self).
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    pub(crate) era: Era,
    /// The era's first entry; zero for era 0.
    pub(crate) first: LogPosition,
    /// The node that began it.
    pub(crate) node: NodeId,
    /// The moment at which it began, in the order of all calls and answers.
    pub(crate) since: u64,
    /// Its first entry is durable: nothing undoes that any more.
    pub(crate) stands: bool,
    /// The term of each committed entry, from index 1, and the term of the leader that committed it.
    committed: Vec<(Term, Term)>,
    applied: BTreeMap<u64, AppliedOp>,
    places: BTreeMap<OpName, u64>,
}

impl Line {
    /// Era 0.
    pub(crate) fn founded() -> Self {
        Self { stands: true, ..Self::default() }
    }

    /// The line that begins at `first` with this one's entries up to `kept`.
    pub(crate) fn next(
        &self,
        first: LogPosition,
        node: NodeId,
        kept: LogIndex,
        since: u64,
    ) -> Self {
        let era = Era::of(first.term);
        let mut next = Self { era, first, node, since, stands: false, ..self.clone() };
        next.committed.truncate(kept.0 as usize);
        next.applied.retain(|index, _| *index <= kept.0);
        next.places.retain(|_, index| *index <= kept.0);
        next
    }

    /// The same with a state for its first entry, which stands.
    pub(crate) fn holding(mut self, image: &Image) -> Self {
        let (index, term, state) = (image.last.index.0, image.last.term, image.state);
        let (op, payload, output) = (OpName(u64::MAX), 0, NOTHING);
        self.stands = true;
        self.commit(term, term);
        self.applied.insert(index, AppliedOp { index, term: term.0, op, payload, state, output });
        self
    }

    /// The last entry known committed, and the term of that at `index`.
    pub(crate) fn last(&self) -> LogIndex {
        LogIndex(self.committed.len() as u64)
    }

    pub(crate) fn term_at(&self, index: LogIndex) -> Term {
        self.committed[index.0 as usize - 1].0
    }

    /// Whether the entry is committed here.
    pub(crate) fn contains(&self, entry: LogPosition) -> bool {
        entry.index == LogIndex(0)
            || (entry.index <= self.last() && self.term_at(entry.index) == entry.term)
    }

    /// A leader of term `by` committed the entry after the last.
    pub(crate) fn commit(&mut self, term: Term, by: Term) {
        assert!(self.committed.last().is_none_or(|before| *before <= (term, by)));
        self.committed.push((term, by));
    }

    /// The last entry that was committed in a term before `term`.
    pub(crate) fn committed_before(&self, term: Term) -> Option<LogPosition> {
        let count = self.committed.partition_point(|(_, by)| *by < term);
        let (term, _) = *self.committed[..count].last()?;
        Some(LogPosition { index: LogIndex(count as u64), term })
    }

    /// A state machine took an operation of this line.
    pub(crate) fn applied(&mut self, op: &AppliedOp, group: GroupId, asked: &[Asked]) {
        let known = self.applied.get(&op.index);
        if let Some(known) = known {
            assert_eq!(known, op, "state machine safety: group {group}");
            return;
        }
        if let Some(last) = self.applied.last_key_value() {
            assert!(*last.0 < op.index, "state machine safety: entry {} was left out", op.index);
        }
        let earlier = self.places.insert(op.op, op.index);
        assert_eq!(earlier, None, "operation {:?} was applied twice", op.op);
        self.check_asked(op, group, asked);
        self.applied.insert(op.index, *op);
    }

    /// The operation at an entry.
    pub(crate) fn operation(&self, index: u64) -> Option<&AppliedOp> {
        self.applied.get(&index)
    }

    /// What was read back from a log are the operations of the committed entries from `from` on, and
    /// none is left out.
    pub(crate) fn check_read(&self, from: LogIndex, portion: &LogPortion, entries: &Entries) {
        assert!(from < portion.next() && portion.next().0 <= self.committed.len() as u64 + 1);
        let mut next = from.0;
        for Entry { index, term, payload } in portion.operations() {
            let left_out = self.applied.range(next..index.0).next();
            assert!(left_out.is_none(), "read back: {left_out:?} is left out before {index}");
            assert_eq!(term, self.term_at(index), "read back: entry {index}");
            let known = entries.get(&LogPosition { index, term });
            let found = chain_bytes(BlockKind::Operations as u64, payload);
            assert!(known.is_none_or(|known| *known == found), "read back: entry {index}");
            next = index.0 + 1;
        }
        let left_out = self.applied.range(next..portion.next().0).next();
        assert!(left_out.is_none(), "read back: {left_out:?} is left out at the end");
    }

    /// What callers know of an operation that is applied for the first time anywhere.
    fn check_asked(&self, op: &AppliedOp, group: GroupId, asked: &[Asked]) {
        let by = asked.get(op.op.0 as usize).expect("somebody asked for it");
        assert_eq!(by.group, group, "an operation is applied in its group");
        assert_ne!(by.fate, Fate::Failed, "operation {:?} was refused and is applied", op.op);
        let bound = by.bound.is_none_or(|term| term.0 == op.term);
        assert!(bound, "bound to a term: {:?}, applied in {}", by.bound, op.term);
        assert!(
            op.index > by.after,
            "real-time order: operation {:?} at {} was asked for after {} was answered",
            op.op,
            op.index,
            by.after
        );
        if let Some(before) = by.follows {
            let place = self.places.get(&before);
            assert!(
                place.is_some_and(|place| *place < op.index),
                "a caller's order: {:?} is applied, and {before:?} was not before it",
                op.op
            );
        }
    }

    /// Where and as what an operation was applied.
    pub(crate) fn find(&self, op: u64) -> Option<&AppliedOp> {
        self.applied.get(self.places.get(&OpName(op))?)
    }

    /// Operations that were applied here, and are not in the line that took over from this one.
    pub(crate) fn lost_by(&self, next: &Self) -> u64 {
        self.places.keys().filter(|name| !next.places.contains_key(name)).count() as u64
    }

    pub(crate) fn last_applied(&self) -> u64 {
        self.applied.last_key_value().map_or(0, |(index, _)| *index)
    }
}
