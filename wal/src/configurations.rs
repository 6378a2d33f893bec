//! The configuration blocks that replay comes across: a group must know who its members are before
//! it can do anything, so recovery hands these blocks over with the group instead of having them
//! read again. They are few, and only recovery keeps them.

use std::collections::BTreeMap;

use crate::block::Block;
use crate::types::{GroupId, LogIndex};

#[derive(Debug, Default)]
pub(crate) struct Configurations(BTreeMap<(GroupId, LogIndex), Block>);

impl Configurations {
    /// A configuration block was appended, or moved to a new place.
    pub(crate) fn note(&mut self, block: Block) {
        self.0.insert((block.group(), block.first_index()), block);
    }

    /// The group's entries from `from` on are void.
    pub(crate) fn truncate(&mut self, group: GroupId, from: LogIndex) {
        self.drop_range(group, from, LogIndex(u64::MAX));
    }

    /// The group's entries up to `through` are released.
    pub(crate) fn release(&mut self, group: GroupId, through: LogIndex) {
        self.drop_range(group, LogIndex(0), through);
    }

    /// The group is gone.
    pub(crate) fn destroy(&mut self, group: GroupId) {
        self.drop_range(group, LogIndex(0), LogIndex(u64::MAX));
    }

    fn drop_range(&mut self, group: GroupId, first: LogIndex, last: LogIndex) {
        while let Some((&at, _)) = self.0.range((group, first)..=(group, last)).next() {
            self.0.remove(&at);
        }
    }

    /// Those of the group's entries in `(base, last]`, in log order. Replay may also have met some
    /// that were dead before its beginning.
    pub(crate) fn of(&self, group: GroupId, base: LogIndex, last: LogIndex) -> Vec<Block> {
        if base >= last {
            return Vec::new();
        }
        let live = self.0.range((group, base.next())..=(group, last));
        live.map(|(_, block)| block.clone()).collect()
    }
}
