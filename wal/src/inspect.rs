//! Looking into a segment: what its header and its batches say, for people and tools. Nothing here
//! decides anything; whether a log is sound is for recovery to say ([`Wal::open`](crate::Wal::open)
//! with a disk that reads and does not write).

use bytes::Bytes;
use serde::Serialize;

use crate::config::Identity;
use crate::disk::PAGE;
use crate::format::{LogKey, Record, SegmentHeader};
use crate::scan::{Look, Window, look};
use crate::types::{GroupId, HardState, LogIndex, LogPosition, Seq};

/// What a segment's first page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderInfo {
    /// The format's version; of another version than this program's, nothing else is meaningful.
    pub version: u32,
    /// Whose log it is.
    pub identity: Identity,
    /// The segment's number.
    pub id: u64,
    /// The segment before, 0 for none.
    pub prev: u64,
    /// The first batch.
    pub first_seq: Seq,
    /// The oldest segment that was needed when this one began.
    pub oldest_needed: u64,
}

/// One batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BatchInfo {
    /// Its number.
    pub seq: Seq,
    /// Where in the file it stands.
    pub offset: u64,
    /// Bytes in the file, padding included.
    pub bytes: u32,
    /// The last batch that was known durable when this one was written.
    pub durable: Seq,
    /// What it records; nothing in an idle mark.
    pub records: Vec<RecordInfo>,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum RecordInfo {
    /// Entries.
    Block {
        /// Of this group.
        group: GroupId,
        /// The first.
        first: LogIndex,
        /// The last.
        last: LogIndex,
        /// Bytes of the block.
        bytes: u32,
        /// Whether it was rewritten forward, from an older segment.
        moved: bool,
    },
    /// The group's entries from here on are void.
    Truncate {
        /// The group.
        group: GroupId,
        /// The first of them.
        from: LogIndex,
    },
    /// Term and vote.
    HardState {
        /// The group.
        group: GroupId,
        /// What they are from here on.
        state: HardState,
    },
    /// The group's entries up to here are not needed any more.
    Release {
        /// The group.
        group: GroupId,
        /// The last of them.
        through: LogPosition,
    },
    /// The group was created while the log was in use.
    Create {
        /// The group.
        group: GroupId,
    },
    /// The group is gone from this log for ever.
    Destroy {
        /// The group.
        group: GroupId,
    },
}

/// Reads a segment's header from its first page.
#[must_use]
pub fn header(page: &[u8]) -> Option<HeaderInfo> {
    let (version, header) = SegmentHeader::decode(page)?;
    let SegmentHeader { identity, id, prev, first_seq, oldest_needed, .. } = header;
    Some(HeaderInfo { version, identity, id, prev, first_seq, oldest_needed })
}

/// The batches of a segment's file, in order, up to where no valid one follows.
pub fn batches(header: HeaderInfo, file: Bytes) -> impl Iterator<Item = BatchInfo> {
    let key = LogKey::new(&header.identity);
    let end = file.len() as u64;
    let window = Window::new(0, file);
    let mut offset = PAGE as u64;
    std::iter::from_fn(move || {
        let Look::Batch(batch) = look(&window, key, offset, end, true) else { return None };
        if batch.header.segment != header.id {
            return None;
        }
        let records = batch.items().map_while(Result::ok).map(|item| item.record.into());
        let info = BatchInfo {
            seq: batch.header.seq,
            offset,
            bytes: batch.header.length,
            durable: batch.header.durable,
            records: records.collect(),
        };
        offset = batch.end();
        Some(info)
    })
}

impl From<Record> for RecordInfo {
    fn from(record: Record) -> Self {
        match record {
            Record::Block { group, first, count, len, moved, .. } => {
                let last = LogIndex(first.0 + u64::from(count) - 1);
                Self::Block { group, first, last, bytes: len, moved }
            }
            Record::Truncate { group, from } => Self::Truncate { group, from },
            Record::HardState { group, state } => Self::HardState { group, state },
            Record::Release { group, through } => Self::Release { group, through },
            Record::Create { group } => Self::Create { group },
            Record::Destroy { group } => Self::Destroy { group },
        }
    }
}
