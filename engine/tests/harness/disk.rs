//! The WAL of one group as a list of entries.

use std::cmp::Ordering;

use ringleader::raft::{Configuration, LogOp, Restored};
use ringleader_wal::{Block, BlockKind, HardState, LogIndex, LogPosition, Term};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub term: Term,
    pub payload: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub hard_state: HardState,
    /// Entries up to here are released. They are kept for the checker, and never read.
    pub base: LogPosition,
    entries: Vec<Entry>,
    blocks: Vec<Block>,
}

impl Disk {
    /// A log with one block for each of `terms`, as left by members that wrote the same.
    pub fn with_log(terms: &[u64]) -> Self {
        let mut disk = Self::default();
        for (index, term) in (1..).zip(terms) {
            let at = LogPosition { index: LogIndex(index), term: Term(*term) };
            disk.apply(&LogOp::Append(super::entry(at, format!("{index}@{term}").as_bytes())));
        }
        disk.hard_state.term = Term(terms.last().copied().unwrap_or(0));
        disk
    }

    pub fn apply(&mut self, op: &LogOp) {
        match op {
            LogOp::HardState(hard_state) => self.hard_state = *hard_state,
            LogOp::Append(block) => {
                assert_eq!(block.first_index(), self.last_index().next(), "no gap in the log");
                for index in block.first_index().0..=block.last_index().0 {
                    let payload = block.payload(LogIndex(index)).to_vec();
                    self.entries.push(Entry { term: block.term(), payload });
                }
                self.blocks.push(block.clone());
            }
            LogOp::Release(through) => {
                assert!(through.index <= self.last_index(), "a prefix is released");
                self.base = *through;
            }
            LogOp::Truncate(from) => {
                assert!(*from <= self.last_index(), "there is something to truncate");
                self.entries.truncate(from.prev().0 as usize);
                while let Some(block) = self.blocks.pop_if(|block| block.last_index() >= *from) {
                    if block.first_index() < *from {
                        self.blocks.push(block.slice(block.first_index(), from.prev()));
                    }
                }
            }
        }
    }

    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.entries.len() as u64)
    }

    pub fn entry(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index).ok()?.checked_sub(1)?)
    }

    pub fn entries(&self) -> impl Iterator<Item = (u64, &Entry)> {
        (1..).zip(&self.entries)
    }

    pub fn read(&self, from: LogIndex, max_bytes: usize) -> Vec<Block> {
        let mut bytes = 0;
        assert!(from > self.base.index, "entry {from} was released");
        let wanted = self.blocks.iter().filter(|block| block.last_index() >= from);
        wanted
            .take_while(|block| {
                let enough = bytes >= max_bytes;
                bytes += block.len();
                !enough
            })
            .cloned()
            .collect()
    }

    /// The configurations in the log.
    pub fn configurations(&self) -> Vec<(LogIndex, Configuration)> {
        let entries = self.blocks.iter().filter(|block| block.kind() == BlockKind::Configuration);
        entries
            .map(|block| {
                let index = block.first_index();
                (index, Configuration::of_entry(block.payload(index)).expect("a configuration"))
            })
            .collect()
    }

    pub fn restored(&self) -> Restored {
        let mut terms: Vec<LogPosition> = Vec::new();
        for (index, entry) in self.entries().filter(|(index, _)| *index > self.base.index.0) {
            if terms.last().map(|run| run.term.cmp(&entry.term)) != Some(Ordering::Equal) {
                terms.push(LogPosition { index: LogIndex(index), term: entry.term });
            }
        }
        Restored {
            hard_state: self.hard_state,
            base: self.base,
            applied: self.base.index,
            configuration: None,
            last_index: self.last_index(),
            terms,
            configurations: self.configurations(),
        }
    }
}
