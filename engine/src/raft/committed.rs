//! Handing committed entries to the state machine.

use ringleader_wal::{Block, LogIndex};

use super::log::Log;
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

/// Committed blocks in log order, each with the first and the last entry to apply.
#[derive(Clone, Debug)]
pub struct CommittedBlocks<'a> {
    log: &'a Log,
    next: LogIndex,
    commit: LogIndex,
    /// Bytes that may still be given out; none before the first block.
    room: Option<usize>,
    max_bytes: usize,
}

impl<'a> Iterator for CommittedBlocks<'a> {
    type Item = (&'a Block, LogIndex, LogIndex);

    fn next(&mut self) -> Option<Self::Item> {
        if self.next > self.commit {
            return None;
        }
        let block = self.log.blocks_from(self.next)?.next()?;
        self.room = match self.room {
            None => Some(self.max_bytes.saturating_sub(block.len())),
            Some(room) => Some(room.checked_sub(block.len())?),
        };
        let (first, last) = (self.next, block.last_index().min(self.commit));
        self.next = last.next();
        Some((block, first, last))
    }
}

impl Raft {
    /// The next entries to apply: blocks of about `max_bytes` together, at least one.
    #[must_use]
    pub fn next_committed(&self, max_bytes: usize) -> Committed<'_> {
        let (log, commit) = (&self.state.log, self.state.commit_index);
        let next = self.state.last_applied.next();
        if next > commit {
            Committed::Nothing
        } else if log.blocks_from(next).is_none() {
            Committed::Load { from: next, through: commit }
        } else {
            Committed::Blocks(CommittedBlocks { log, next, commit, room: None, max_bytes })
        }
    }

    /// The state machine took everything up to `index`.
    ///
    /// # Panics
    /// When `index` is not committed, or lower than before.
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
