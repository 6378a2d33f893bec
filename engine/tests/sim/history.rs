//! What is known of one group over the whole run: who led, where each term starts, what every
//! entry is, what is committed, and what was applied.

use std::collections::BTreeMap;

use ringleader::raft::Configuration;
use ringleader::{Entry, GroupId, LogIndex, LogPortion, LogPosition, NodeId, Term};
use ringleader_wal::{Block, BlockKind};

use crate::clients::{Asked, Fate};
use crate::image::Image;
use crate::machine::{AppliedOp, OpName};
use crate::rng::chain_bytes;

/// The one leader of a term.
#[derive(Clone, Copy, Debug)]
struct Office {
    leader: NodeId,
    /// The entry before the term's first.
    before: LogPosition,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct History {
    /// Who decides as long as the log says nothing about that.
    pub(crate) founders: Configuration,
    /// Every configuration that a leader appended.
    configurations: BTreeMap<LogPosition, Configuration>,
    offices: BTreeMap<Term, Office>,
    entries: BTreeMap<LogPosition, u64>,
    /// The term of each committed entry, from index 1, and the term of the leader that committed it.
    committed: Vec<(Term, Term)>,
    applied: BTreeMap<u64, AppliedOp>,
    places: BTreeMap<OpName, u64>,
}

impl History {
    pub(crate) fn new(founders: Configuration) -> Self {
        Self {
            founders,
            configurations: BTreeMap::new(),
            offices: BTreeMap::new(),
            entries: BTreeMap::new(),
            committed: Vec::new(),
            applied: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// A configuration is in somebody's log.
    pub(crate) fn learn_configuration(&mut self, at: LogPosition, configuration: &Configuration) {
        let known = self.configurations.entry(at).or_insert_with(|| configuration.clone());
        assert_eq!(known, configuration, "log matching: two configurations at {at:?}");
    }

    /// The configurations in the log that ends at `last`, in order.
    pub(crate) fn configurations_in(
        &self,
        last: LogPosition,
    ) -> impl Iterator<Item = (LogPosition, &Configuration)> {
        let held = self.configurations.iter().filter(move |(at, _)| self.holds(last, **at));
        held.map(|(at, configuration)| (*at, configuration))
    }

    /// The configuration in force in the log that ends at `last`, and where it stands.
    pub(crate) fn in_force(&self, last: LogPosition) -> (LogPosition, &Configuration) {
        let latest = self.configurations_in(last).last();
        latest.unwrap_or((LogPosition::default(), &self.founders))
    }

    /// The configurations that some log held behind entry `index`.
    pub(crate) fn configurations_after(
        &self,
        index: LogIndex,
    ) -> impl Iterator<Item = &Configuration> {
        let later = self.configurations.iter().filter(move |(at, _)| at.index > index);
        later.map(|(_, configuration)| configuration)
    }

    /// A node won an election; its log ended at `before` (election safety, figure 3.2).
    pub(crate) fn lead(&mut self, term: Term, leader: NodeId, before: LogPosition) {
        let office = Office { leader, before };
        if let Some(other) = self.offices.insert(term, office) {
            panic!("election safety: nodes {leader} and {} lead term {term}", other.leader);
        }
        assert!(before.term < term, "a leader's log ends before its term");
    }

    /// Whether somebody is known to have led in the term.
    pub(crate) fn was_won(&self, term: Term) -> bool {
        self.offices.contains_key(&term)
    }

    /// Who led in the term.
    pub(crate) fn leader_of(&self, term: Term) -> Option<NodeId> {
        self.offices.get(&term).map(|office| office.leader)
    }

    /// The term of entry `index` of the log that ends at `last`; zero before the first.
    pub(crate) fn term_at(&self, last: LogPosition, index: LogIndex) -> Term {
        assert!(index <= last.index, "entry {index} of a log that ends at {last:?}");
        let mut at = last;
        while at.index > LogIndex(0) {
            let before = self.office(at).before;
            if index > before.index {
                return at.term;
            }
            at = before;
        }
        Term(0)
    }

    fn office(&self, at: LogPosition) -> &Office {
        let office = self.offices.get(&at.term);
        office.unwrap_or_else(|| panic!("entry {at:?} is of a term that nobody won"))
    }

    /// Whether the log that ends at `last` holds the entry.
    pub(crate) fn holds(&self, last: LogPosition, entry: LogPosition) -> bool {
        entry.index <= last.index && self.term_at(last, entry.index) == entry.term
    }

    /// A log ends here.
    pub(crate) fn check_position(&self, at: LogPosition) {
        if at != LogPosition::default() {
            assert!(self.office(at).before.index < at.index, "{at:?} precedes its own term");
        }
    }

    /// A leader sends entries: they are where and what everyone knows them to be (log matching,
    /// figure 3.2).
    pub(crate) fn appended(&mut self, term: Term, prev: LogPosition, blocks: &[Block]) {
        self.check_position(prev);
        let mut before = prev;
        for block in blocks {
            assert!(block.term() <= term, "log matching: an entry is ahead of its leader's term");
            let at = LogPosition { index: block.first_index(), term: block.term() };
            let known = self.office(at).before;
            if block.term() == before.term {
                assert!(known.index < before.index, "log matching: {at:?} follows {before:?}");
            } else {
                assert_eq!(known, before, "log matching: what precedes {at:?}");
            }
            for index in block.first_index().0..=block.last_index().0 {
                let at = LogPosition { index: LogIndex(index), term: block.term() };
                self.content(at, entry_hash(block, LogIndex(index)));
            }
            before = block.last_position();
        }
    }

    fn content(&mut self, at: LogPosition, hash: u64) {
        let known = *self.entries.entry(at).or_insert(hash);
        assert_eq!(known, hash, "log matching: two entries at {at:?}");
    }

    /// A node in term `by` whose log ends at `last` moved its commit index; true if that is news
    /// to all.
    pub(crate) fn commit(
        &mut self,
        by: Term,
        last: LogPosition,
        from: LogIndex,
        to: LogIndex,
    ) -> bool {
        let mut news = false;
        let known = LogIndex(self.committed.len() as u64);
        // Equal terms at one index are equal logs up to there; compare the last that is known.
        let common = to.min(known);
        if common > from {
            let term = self.term_at(last, common);
            assert_eq!(
                term,
                self.committed[common.0 as usize - 1].0,
                "committed entries never change: entry {common}"
            );
        }
        for index in known.0 + 1..=to.0 {
            let term = self.term_at(last, LogIndex(index));
            assert!(self.committed.last().is_none_or(|before| *before <= (term, by)));
            self.committed.push((term, by));
            news = true;
        }
        news
    }

    pub(crate) fn last_committed(&self) -> Option<LogPosition> {
        self.committed_before(Term(u64::MAX))
    }

    /// The last entry that was committed in a term before `term`.
    pub(crate) fn committed_before(&self, term: Term) -> Option<LogPosition> {
        let count = self.committed.partition_point(|(_, by)| *by < term);
        let (term, _) = *self.committed[..count].last()?;
        Some(LogPosition { index: LogIndex(count as u64), term })
    }

    /// A state machine took an operation.
    pub(crate) fn applied(&mut self, op: &AppliedOp, group: GroupId, asked: &[Asked]) {
        let known = self.applied.get(&op.index);
        if let Some(known) = known {
            assert_eq!(known, op, "state machine safety: group {group}");
            return;
        }
        let (term, _) = self.committed[op.index as usize - 1];
        assert_eq!(term.0, op.term, "state machine safety: the applied entry is the committed one");
        if let Some(last) = self.applied.last_key_value() {
            assert!(*last.0 < op.index, "state machine safety: entry {} was left out", op.index);
        }
        let earlier = self.places.insert(op.op, op.index);
        assert_eq!(earlier, None, "operation {:?} was applied twice", op.op);
        self.check_asked(op, group, asked);
        self.applied.insert(op.index, *op);
    }

    /// What a snapshot holds is what the history had come to there.
    pub(crate) fn check_image(&self, image: &Image, group: GroupId) {
        let index = image.last.index.0;
        let expected = self.applied.get(&index).map(|op| (op.term, op.state));
        let found = (index > 0).then_some((image.last.term.0, image.state));
        assert_eq!(found, expected, "snapshot: group {group} was restored to entry {index}");
    }

    /// What was read back from a log are the operations of the committed entries from `from` on, and
    /// none is left out.
    pub(crate) fn check_read(&self, from: LogIndex, portion: &LogPortion) {
        assert!(from < portion.next() && portion.next().0 <= self.committed.len() as u64 + 1);
        let mut next = from.0;
        for Entry { index, term, payload } in portion.operations() {
            let left_out = self.applied.range(next..index.0).next();
            assert!(left_out.is_none(), "read back: {left_out:?} is left out before {index}");
            assert_eq!(term, self.committed[index.0 as usize - 1].0, "read back: entry {index}");
            let known = self.entries.get(&LogPosition { index, term });
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

    pub(crate) fn last_applied(&self) -> u64 {
        self.applied.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// Terms that had a leader.
    pub(crate) fn terms(&self) -> u64 {
        self.offices.len() as u64
    }
}

/// What identifies an entry's content.
fn entry_hash(block: &Block, index: LogIndex) -> u64 {
    chain_bytes(block.kind() as u64, block.payload(index))
}
