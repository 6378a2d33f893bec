//! Handing committed entries to the state machine.

use ringleader_wal::{Block, LogIndex};

use super::{Raft, Role};

/// The entries that are committed and not applied.
#[derive(Debug)]
pub enum Committed<'a> {
    /// There are none.
    Nothing,
    /// The next ones, in memory.
    Blocks(CommittedBlocks<'a>),
    /// They start at `from` and are not in memory, as after a restart: read them from the WAL, up
    /// to `through` at most.
    Load {
        /// The first entry to apply.
        from: LogIndex,
        /// The last committed entry.
        through: LogIndex,
    },
}

/// Contiguous blocks in log order, of which the entries in `first..=last` are to be applied.
#[derive(Clone, Copy, Debug)]
pub struct CommittedBlocks<'a> {
    head: &'a [Block],
    tail: &'a [Block],
    first: LogIndex,
    last: LogIndex,
}

impl<'a> CommittedBlocks<'a> {
    /// The entries in `first..=last` of the blocks of `head` and then `tail`, which hold them all.
    pub(crate) fn new(
        head: &'a [Block],
        tail: &'a [Block],
        first: LogIndex,
        last: LogIndex,
    ) -> Self {
        Self { head, tail, first, last }
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> LogIndex {
        self.last
    }

    /// Each block with its first and its last entry to apply.
    pub fn iter(&self) -> impl Iterator<Item = (&'a Block, LogIndex, LogIndex)> + use<'a> {
        let Self { head, tail, first, last } = *self;
        // A chain of two iterators would make two loops of every loop over the entries.
        (0..head.len() + tail.len()).map(move |at| {
            let block = head.get(at).unwrap_or_else(|| &tail[at - head.len()]);
            (block, block.first_index().max(first), block.last_index().min(last))
        })
    }
}

impl Raft {
    /// The next entries to apply: blocks of about `max_bytes` together, at least one.
    #[must_use]
    pub fn next_committed(&self, max_bytes: usize) -> Committed<'_> {
        self.next_committed_through(self.state.commit_index, max_bytes)
    }

    /// Likewise, none after `through`, which is committed.
    #[must_use]
    pub(crate) fn next_committed_through(
        &self,
        through: LogIndex,
        max_bytes: usize,
    ) -> Committed<'_> {
        let next = self.state.last_applied.next();
        if next > through {
            return Committed::Nothing;
        }
        match self.state.log.stretch(next, through, max_bytes) {
            Some(blocks) => Committed::Blocks(blocks),
            None => Committed::Load { from: next, through },
        }
    }

    /// The last committed entry that this node's log has on stable storage.
    #[inline]
    pub(crate) fn committed_here(&self) -> LogIndex {
        self.state.commit_index.min(self.state.log.durable())
    }

    /// The state machine took everything up to `index`.
    ///
    /// # Panics
    /// When `index` is not committed, or lower than before.
    #[inline(always)]
    pub fn on_applied(&mut self, index: LogIndex) {
        let state = &mut self.state;
        assert!(state.last_applied <= index && index <= state.commit_index, "applied in order");
        state.last_applied = index;
        match &self.role {
            Role::Leader(leader) => leader.release(state),
            _ => state.release(LogIndex(u64::MAX)),
        }
    }
}
