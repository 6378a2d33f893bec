//! What is known of one group over the whole run: who led, where each term starts, what every
//! entry is; and per era what is committed and what was applied ([`Line`]).

use std::collections::BTreeMap;

use ringleader::raft::era::Era;
use ringleader::raft::found::FOUNDED_AT;
use ringleader::raft::{Configuration, Reset};
use ringleader::{GroupId, LogIndex, LogPortion, LogPosition, NodeId, Term};
use ringleader_wal::Block;

use crate::applied::AppliedOp;
use crate::clients::Asked;
use crate::founding::Founded;
use crate::image::Image;
use crate::line::{Entries, Line};
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
    entries: Entries,
    /// One after the other; the last is the group's.
    lines: Vec<Line>,
    /// What the group begins with, if that is something.
    pub(crate) founded: Option<Founded>,
}

impl History {
    pub(crate) fn new(founders: Configuration) -> Self {
        Self {
            founders,
            configurations: BTreeMap::new(),
            offices: BTreeMap::new(),
            entries: BTreeMap::new(),
            lines: vec![Line::founded()],
            founded: None,
        }
    }

    /// The group's present line.
    pub(crate) fn line(&self) -> &Line {
        self.lines.last().expect("there is one from the start")
    }

    /// All, the present one last.
    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The line that a leader of `term` belongs to; the present one if that era has none.
    fn line_of(&mut self, term: Term) -> &mut Line {
        let at = self.lines.iter().rposition(|line| line.era == Era::of(term));
        let at = at.unwrap_or(self.lines.len() - 1);
        &mut self.lines[at]
    }

    /// The newest line in which the entry is committed.
    pub(crate) fn line_with(&self, entry: LogPosition) -> Option<&Line> {
        self.lines.iter().rev().find(|line| line.contains(entry))
    }

    /// Whether the era that `term` is of was ended by a reset.
    pub(crate) fn is_ended(&self, term: Term) -> bool {
        self.lines.iter().any(|line| line.stands && line.era > Era::of(term))
    }

    /// How much of what is committed the log that ends at `last` holds.
    pub(crate) fn committed_in(&self, last: LogPosition) -> LogIndex {
        let (mut low, mut high) = (0, self.line().last().min(last.index).0);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let term = self.term_at(last, LogIndex(middle));
            match term == self.line().term_at(LogIndex(middle)) {
                true => low = middle,
                false => high = middle - 1,
            }
        }
        LogIndex(low)
    }

    /// A node begins an era; until it [stands](Self::stand) it may be undone. What of the line
    /// before it stays.
    pub(crate) fn begin_era(&mut self, node: NodeId, reset: &Reset, since: u64) -> LogIndex {
        let Reset { at, last, .. } = *reset;
        self.lines.retain(|line| line.stands);
        let kept = self.committed_in(last);
        assert!(at.term > self.line().first.term, "eras: a later one is higher");
        let next = self.line().next(at, node, kept, since);
        self.lines.push(next);
        self.configurations.remove(&at);
        self.offices.insert(at.term, Office { leader: node, before: last });
        kept
    }

    /// The first entry of the newest era is durable.
    pub(crate) fn stand(&mut self) {
        self.lines.last_mut().expect("there is one from the start").stands = true;
    }

    /// A node starts without the first entry that it wrote last.
    pub(crate) fn undo(&mut self, node: NodeId) {
        self.lines.retain(|line| line.stands || line.node != node);
    }

    /// The group's own first entry names its founders; nobody was elected for that.
    pub(crate) fn found(&mut self) {
        self.lead(FOUNDED_AT.term, NodeId(0), LogPosition::default());
        let founders = self.founders.clone();
        self.learn_configuration(FOUNDED_AT, &founders);
    }

    /// A state stands for the first entry of an era.
    pub(crate) fn begin_with(&mut self, founded: &Founded) {
        let Founded { node, image } = founded;
        let office = Office { leader: *node, before: LogPosition::default() };
        self.offices.insert(image.last.term, office);
        let founders = self.founders.clone();
        self.learn_configuration(image.last, &founders);
        let next = self.line().next(image.last, *node, LogIndex(0), 0);
        self.lines.push(next.holding(image));
        self.founded = Some(founded.clone());
    }

    /// The node whose copy is the only one, if all that is committed is what the group began with.
    pub(crate) fn only_copy(&self) -> Option<NodeId> {
        let founded = self.founded.as_ref()?;
        (self.last_committed() == Some(founded.image.last)).then_some(founded.node)
    }

    pub(crate) fn was_founded(&self) -> bool {
        self.leader_of(FOUNDED_AT.term) == Some(NodeId(0))
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
        let ended = self.is_ended(by);
        let known = self.line_of(by).last();
        // Equal terms at one index are equal logs up to there; compare the last that is known.
        let common = to.min(known);
        if common > from {
            let term = self.term_at(last, common);
            assert_eq!(
                term,
                self.line_of(by).term_at(common),
                "committed entries never change: entry {common}"
            );
        }
        for index in known.0 + 1..=to.0 {
            assert!(!ended, "eras: a commit in term {by}, after a reset");
            let term = self.term_at(last, LogIndex(index));
            self.line_of(by).commit(term, by);
            news = true;
        }
        news
    }

    pub(crate) fn last_committed(&self) -> Option<LogPosition> {
        self.line().committed_before(Term(u64::MAX))
    }

    /// The last entry that was committed in a term before `term`.
    pub(crate) fn committed_before(&self, term: Term) -> Option<LogPosition> {
        self.line().committed_before(term)
    }

    /// A state machine took an operation: of every line that has it.
    pub(crate) fn applied(&mut self, op: &AppliedOp, group: GroupId, asked: &[Asked]) {
        let entry = LogPosition { index: LogIndex(op.index), term: Term(op.term) };
        let mut lines: Vec<_> = self.lines.iter_mut().filter(|line| line.contains(entry)).collect();
        assert!(!lines.is_empty(), "state machine safety: {entry:?} is not the committed one");
        lines.iter_mut().for_each(|line| line.applied(op, group, asked));
    }

    /// What a snapshot holds is what the history had come to there.
    pub(crate) fn check_image(&self, image: &Image, group: GroupId) {
        let index = image.last.index.0;
        let line = self.line_with(image.last);
        let expected = line.and_then(|line| line.operation(index)).map(|op| (op.term, op.state));
        let found = (index > 0).then_some((image.last.term.0, image.state));
        assert_eq!(found, expected, "snapshot: group {group} was restored to entry {index}");
    }

    /// What was read back from the log of a node that knows `commit` committed.
    pub(crate) fn check_read(&self, commit: LogPosition, from: LogIndex, portion: &LogPortion) {
        let line = self.line_with(commit).expect("what is known committed is");
        line.check_read(from, portion, &self.entries);
    }

    /// Where and as what an operation was applied, in the group's line or else in one that ended.
    pub(crate) fn find(&self, op: u64) -> Option<&AppliedOp> {
        self.lines.iter().rev().find_map(|line| line.find(op))
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
