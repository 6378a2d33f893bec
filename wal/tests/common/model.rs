//! What the log must hold, kept in the simplest way.

use std::collections::BTreeMap;

use ringleader_wal::{
    Block, BlockKind, GroupId, HardState, LogIndex, LogPosition, Recovered, RecoveredGroup, Run,
    Seq, Term,
};

/// An operation on the log.
#[derive(Clone, Debug)]
pub enum Op {
    Append(Block),
    HardState(GroupId, HardState),
    Truncate(GroupId, LogIndex),
    Release(GroupId, LogPosition),
    Create(GroupId),
    Destroy(GroupId),
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelGroup {
    pub hard_state: HardState,
    pub base: LogPosition,
    /// Term and payload of each entry after the base.
    pub entries: Vec<(Term, Vec<u8>)>,
    /// The configuration blocks among them.
    pub configurations: Vec<Block>,
    pub created: bool,
    pub destroyed: bool,
}

impl ModelGroup {
    pub fn last(&self) -> LogPosition {
        let index = LogIndex(self.base.index.0 + self.entries.len() as u64);
        LogPosition { index, term: self.entries.last().map_or(self.base.term, |entry| entry.0) }
    }

    pub fn term(&self, index: LogIndex) -> Term {
        if index == self.base.index {
            return self.base.term;
        }
        self.entries[(index.0 - self.base.index.0 - 1) as usize].0
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(block) => {
                for index in block.first_index().0..=block.last_index().0 {
                    let payload = block.payload(LogIndex(index)).to_vec();
                    self.entries.push((block.term(), payload));
                }
                if block.kind() == BlockKind::Configuration {
                    self.configurations.push(block.clone());
                }
            }
            Op::HardState(_, hard_state) => self.hard_state = *hard_state,
            Op::Truncate(_, from) => {
                self.entries.truncate((from.0 - self.base.index.0 - 1) as usize);
                self.configurations.retain(|block| block.first_index() < *from);
            }
            Op::Release(_, through) => {
                if through.index > self.base.index {
                    let gone = (through.index.0 - self.base.index.0) as usize;
                    self.entries.drain(..gone.min(self.entries.len()));
                    self.base = *through;
                    self.configurations.retain(|block| block.first_index() > through.index);
                }
            }
            Op::Create(_) => self.created = true,
            Op::Destroy(_) => *self = Self { destroyed: true, ..Self::default() },
        }
    }

    fn recovered(&self, group: GroupId) -> RecoveredGroup {
        let mut terms: Vec<LogPosition> = Vec::new();
        for (i, (term, _)) in self.entries.iter().enumerate() {
            if terms.last().is_none_or(|run| run.term != *term) {
                let index = LogIndex(self.base.index.0 + 1 + i as u64);
                terms.push(LogPosition { index, term: *term });
            }
        }
        RecoveredGroup {
            group,
            created: self.created,
            hard_state: self.hard_state,
            base: self.base,
            last_index: self.last().index,
            terms,
            configurations: self.configurations.clone(),
        }
    }
}

/// Every operation staged so far, with its batch.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub ops: Vec<(Seq, Op)>,
    pub groups: BTreeMap<GroupId, ModelGroup>,
}

impl Model {
    pub fn stage(&mut self, seq: Seq, op: Op) {
        Self::apply(&mut self.groups, &op);
        self.ops.push((seq, op));
    }

    fn apply(groups: &mut BTreeMap<GroupId, ModelGroup>, op: &Op) {
        let group = match op {
            Op::Append(block) => block.group(),
            Op::HardState(group, _)
            | Op::Truncate(group, _)
            | Op::Release(group, _)
            | Op::Create(group)
            | Op::Destroy(group) => *group,
        };
        groups.entry(group).or_default().apply(op);
    }

    /// Forgets what was staged after `durable`: a crash did.
    pub fn forget_after(&mut self, durable: Seq) {
        self.ops.retain(|(seq, _)| *seq <= durable);
        self.groups.clear();
        let ops = std::mem::take(&mut self.ops);
        ops.iter().for_each(|(_, op)| Self::apply(&mut self.groups, op));
        self.ops = ops;
    }

    /// Asserts that recovery found exactly this. Groups of which nothing is left may be missing.
    pub fn check(&self, recovered: &Recovered) {
        let found: BTreeMap<_, _> =
            recovered.groups.iter().map(|group| (group.group, group)).collect();
        for (&id, group) in &self.groups {
            if group.destroyed {
                assert!(!found.contains_key(&id), "group {id} was destroyed");
                continue;
            }
            let expected = group.recovered(id);
            match found.get(&id) {
                Some(found) => assert_eq!(**found, expected),
                None => assert_eq!(*group, ModelGroup::default(), "group {id} is missing"),
            }
        }
        for id in found.keys() {
            assert!(self.groups.contains_key(id), "group {id} appeared from nowhere");
        }
    }
}

/// A block of entries with these payloads.
pub fn block(group: u64, first: u64, term: u64, payloads: &[Vec<u8>]) -> Block {
    let payload = payloads.concat();
    let mut end = 0;
    let ends: Vec<u32> = payloads
        .iter()
        .map(|payload| {
            end += payload.len() as u32;
            end
        })
        .collect();
    let at = LogPosition { index: LogIndex(first), term: Term(term) };
    let run = Run { payload: &payload, ends: &ends, base: 0 };
    Block::encode(GroupId(group), at, BlockKind::Operations, [run])
}
