//! Reads one snapshot, record by record.

use bytes::Bytes;
use ringleader_wal::disk::{DiskError, DiskOp, DiskOutput, FileName, PAGE};
use ringleader_wal::{GroupId, Identity, LogPosition};

use super::format::{Chain, Head, Missing, Record};

/// Bytes of a read at least, where the file has as many.
const READ_BYTES: u64 = 64 << 10;

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// Something has to be read first.
    Read(DiskOp),
    Head(Head),
    Chunk(Bytes),
    /// The snapshot is whole.
    End,
    Damaged(Damage),
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} is damaged at offset {offset}: {reason}")]
pub(super) struct Damage {
    pub(super) file: FileName,
    pub(super) offset: u64,
    pub(super) reason: &'static str,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Reader {
    file: FileName,
    group: GroupId,
    at: LogPosition,
    len: u64,
    chain: Chain,
    /// What was read last, and where it begins.
    window: (u64, Bytes),
    /// Bytes that were asked for.
    asked: u64,
    chunks: u64,
    bytes: u64,
}

impl Reader {
    /// `len` is the file's length, as the directory says.
    pub(super) fn new(identity: &Identity, group: GroupId, at: LogPosition, len: u64) -> Self {
        Self {
            file: FileName::Snapshot(group, at),
            group,
            at,
            len,
            chain: Chain::new(identity, group, at),
            window: (0, Bytes::new()),
            asked: 0,
            chunks: 0,
            bytes: 0,
        }
    }

    pub(super) fn next(&mut self) -> Next {
        let offset = self.chain.offset;
        let known = (offset - self.window.0).min(self.window.1.len() as u64);
        let bytes = self.window.1.slice(known as usize..);
        match self.chain.open(&bytes, self.len.saturating_sub(offset)) {
            Ok(Record::Head(head)) if (head.group, head.at) == (self.group, self.at) => {
                Next::Head(head)
            }
            Ok(Record::Head(_)) => self.damaged(offset, "another snapshot under this name"),
            Ok(Record::Chunk(chunk)) => {
                self.chunks += 1;
                self.bytes += chunk.len() as u64;
                Next::Chunk(chunk)
            }
            Ok(Record::End { chunks, bytes }) if (chunks, bytes) == (self.chunks, self.bytes) => {
                Next::End
            }
            Ok(Record::End { .. }) => self.damaged(offset, "chunks are missing"),
            Err(Missing::More(need)) => {
                let need = (need.next_multiple_of(PAGE) as u64).max(READ_BYTES);
                let len = need.min((self.len - offset).next_multiple_of(PAGE as u64));
                self.asked = len.min(self.len - offset);
                Next::Read(DiskOp::Read { file: self.file, offset, len })
            }
            Err(Missing::Damaged(reason)) => self.damaged(offset, reason),
        }
    }

    fn damaged(&self, offset: u64, reason: &'static str) -> Next {
        Next::Damaged(Damage { file: self.file, offset, reason })
    }

    /// The answer to [`Next::Read`].
    pub(super) fn fill(&mut self, result: Result<DiskOutput, DiskError>) -> Result<(), DiskError> {
        let offset = self.chain.offset;
        let DiskOutput::Read(bytes) = result? else {
            return Err(DiskError::Io(format!("reading {}: no bytes", self.file)));
        };
        if (bytes.len() as u64) < self.asked {
            let have = bytes.len();
            return Err(DiskError::Io(format!("reading {} at {offset}: {have} B", self.file)));
        }
        self.window = (offset, bytes);
        Ok(())
    }
}
