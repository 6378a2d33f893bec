//! Reading committed entries back.

use ringleader_wal::{Block, GroupId, LogIndex};

use crate::error::ReadLogError;
use crate::handle::Handle;
use crate::inbox::Request;
use crate::raft::CommittedBlocks;
use crate::state_machine::{Entries, Entry};

/// Committed entries of a group, as they were read from its log.
#[derive(Clone, Debug)]
pub struct LogPortion {
    blocks: Vec<Block>,
    first: LogIndex,
    last: LogIndex,
}

impl LogPortion {
    /// The entries in `first..=last` of the blocks, which hold them all.
    pub(crate) fn new(blocks: Vec<Block>, first: LogIndex, last: LogIndex) -> Self {
        Self { blocks, first, last }
    }

    /// The operations among the entries, in log order; where the protocol put entries of its own,
    /// their indices have gaps, and there may be none.
    pub fn operations(&self) -> impl Iterator<Item = Entry<'_>> {
        let blocks = CommittedBlocks::new(&self.blocks, &[], self.first, self.last);
        Entries::of(blocks).into_iter().flat_map(|entries| entries.iter())
    }

    /// Where to go on reading: the entry after the last of this portion.
    #[must_use]
    pub fn next(&self) -> LogIndex {
        self.last.next()
    }
}

impl Handle {
    /// Reads committed operations back from this node's log, leader or not: from entry `from` on,
    /// about `max_bytes` of them, at least one block of entries and at most 4 MiB and a block.
    ///
    /// What it finds is committed, and never changes. It need not be all that is committed: this
    /// node may not know of the latest, nor have applied what is read here. It reads files beside
    /// the shard's work and is for audits, repairs and copies to elsewhere, not for serving requests.
    ///
    /// # Errors
    /// [`ReadLogError::Compacted`] says where the log begins by now. Nothing has any effect.
    pub async fn read_log(
        &self,
        group: GroupId,
        from: LogIndex,
        max_bytes: usize,
    ) -> Result<LogPortion, ReadLogError> {
        let inbox = self.inbox(group);
        let (reply, answer) = flume::bounded(1);
        let sent = inbox.send(Request::ReadLog { group, from, max_bytes, reply }).await;
        sent.map_err(|_| ReadLogError::Stopped)?;
        answer.recv_async().await.unwrap_or(Err(ReadLogError::Stopped))
    }
}
