//! Writes one snapshot: under another name first, synced whole, then renamed, and the directory
//! synced. Only then is it a snapshot. Whatever fails, what was written is removed.

use std::collections::VecDeque;

use bytes::Bytes;
use ringleader_wal::disk::{DiskError, DiskOp};
use ringleader_wal::{GroupId, Identity, LogPosition};

use super::format::{Chain, Head, names};

/// Writes at once.
const DEPTH: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Create,
    Write,
    Sync,
    Rename,
    SyncDir,
    Remove,
    Over,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Writer {
    group: GroupId,
    at: LogPosition,
    chain: Chain,
    stage: Stage,
    /// The stage's operations that have not begun.
    waiting: VecDeque<DiskOp>,
    running: usize,
    chunks: u64,
    bytes: u64,
    ended: bool,
    /// There is a file of this name already.
    replaces: bool,
    error: Option<DiskError>,
}

impl Writer {
    /// `replaces` says that there is a file of the same position, whose place this one takes in one
    /// step. It stays when that fails: what could not be read once may be read at the next start.
    pub(super) fn new(identity: &Identity, head: &Head, replaces: bool) -> Self {
        let mut writer = Self {
            group: head.group,
            at: head.at,
            chain: Chain::new(identity, head.group, head.at),
            stage: Stage::Create,
            waiting: VecDeque::new(),
            running: 0,
            chunks: 0,
            bytes: 0,
            ended: false,
            replaces,
            error: None,
        };
        let offset = writer.chain.offset;
        let parts = writer.chain.head(head);
        writer.write(offset, parts);
        writer
    }

    /// Whether another chunk may be pushed: what is not on its way yet is in memory.
    pub(super) fn has_room(&self) -> bool {
        !self.ended && self.error.is_none() && self.waiting.len() < DEPTH
    }

    /// Whether the last chunk was pushed.
    pub(super) fn is_whole(&self) -> bool {
        self.ended
    }

    /// Whether it writes this snapshot.
    pub(super) fn is_of(&self, group: GroupId, at: LogPosition) -> bool {
        (self.group, self.at) == (group, at)
    }

    /// Bytes of the file, once all is pushed.
    pub(super) fn len(&self) -> u64 {
        self.chain.offset
    }

    /// Adds a chunk.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.chunks += 1;
        self.bytes += chunk.len() as u64;
        let offset = self.chain.offset;
        let parts = self.chain.chunk(chunk);
        self.write(offset, parts);
    }

    /// There are no more chunks.
    pub(super) fn end(&mut self) {
        let offset = self.chain.offset;
        let parts = self.chain.end(self.chunks, self.bytes);
        self.write(offset, parts);
        self.ended = true;
    }

    /// Ends it here: what was written is removed.
    pub(super) fn give_up(&mut self, error: DiskError) {
        self.error.get_or_insert(error);
    }

    fn write(&mut self, offset: u64, parts: [Bytes; 2]) {
        let (file, _) = names(self.group, self.at);
        let len = self.chain.offset - offset;
        let op = DiskOp::Write { file, offset, parts: parts.into(), len, durable: false };
        self.waiting.push_back(op);
    }

    /// An operation to be submitted now.
    pub(super) fn next_op(&mut self) -> Option<DiskOp> {
        if self.running == 0 {
            self.advance();
        }
        let (partial, snapshot) = names(self.group, self.at);
        let op = match self.stage {
            Stage::Write if self.running < DEPTH && self.error.is_none() => {
                self.waiting.pop_front()?
            }
            // The others are one operation, or two.
            _ if self.running > 0 => return None,
            Stage::Create => DiskOp::Create { file: partial, len: 0 },
            Stage::Sync => DiskOp::Sync { file: partial },
            Stage::Rename => DiskOp::Rename { from: partial, to: snapshot },
            Stage::SyncDir => DiskOp::SyncDir,
            Stage::Remove => self.waiting.pop_front()?,
            Stage::Write | Stage::Over => return None,
        };
        self.running += 1;
        Some(op)
    }

    /// Goes on to the next stage if there is nothing left to do in this one.
    fn advance(&mut self) {
        let (partial, snapshot) = names(self.group, self.at);
        if self.error.is_some() && !matches!(self.stage, Stage::Remove | Stage::Over) {
            // Whether a rename that was not confirmed took place is not known. Where it replaces
            // something, either is better than nothing.
            let renamed = matches!(self.stage, Stage::Rename | Stage::SyncDir) && !self.replaces;
            self.waiting = [DiskOp::Remove { file: partial }].into();
            self.waiting.extend(renamed.then_some(DiskOp::Remove { file: snapshot }));
            self.stage = Stage::Remove;
        } else if self.stage == Stage::Write && self.ended && self.waiting.is_empty() {
            self.stage = Stage::Sync;
        } else if self.stage == Stage::Remove && self.waiting.is_empty() {
            self.stage = Stage::Over;
        }
    }

    /// An operation ended. `Some` when the snapshot is durable, or failed and is gone.
    pub(super) fn complete(
        &mut self,
        result: Result<(), DiskError>,
    ) -> Option<Result<(), DiskError>> {
        self.running -= 1;
        if let (Err(error), false) = (result, self.stage == Stage::Remove) {
            self.error.get_or_insert(error);
        }
        if self.running > 0 {
            return None;
        }
        if self.error.is_none() {
            self.stage = match self.stage {
                Stage::Create => Stage::Write,
                Stage::Sync => Stage::Rename,
                Stage::Rename => Stage::SyncDir,
                Stage::SyncDir => Stage::Over,
                stage => stage,
            };
        }
        self.outcome()
    }

    /// Whether there is nothing left to be done or waited for.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// How it ended, if it did.
    fn outcome(&mut self) -> Option<Result<(), DiskError>> {
        self.advance();
        (self.stage == Stage::Over).then(|| self.error.clone().map_or(Ok(()), Err))
    }
}
