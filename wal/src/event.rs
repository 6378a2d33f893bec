//! What the log tells its owner: events, errors and counters.

use crate::block::Block;
use crate::config::Identity;
use crate::disk::{DiskError, FileName};
use crate::types::{GroupId, HardState, LogIndex, LogPosition, Seq};

/// Names a read between [`crate::Wal::read`] and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// Something that happened in the log, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum WalEvent {
    /// The log is open: what it holds. Staging is allowed from here on.
    Recovered(Recovered),
    /// The log can't be opened. Nothing was changed that a later attempt would miss.
    RecoveryFailed(RecoveryError),
    /// Every record staged with this batch number or a lower one survives a crash.
    Durable(Seq),
    /// The answer to a [`crate::Wal::read`].
    Loaded {
        /// The read.
        id: ReadId,
        /// Contiguous blocks that start exactly at the index asked for, at least one.
        result: Result<Vec<Block>, ReadError>,
    },
    /// The log is poisoned: nothing staged becomes durable any more. Given out once.
    Failed(WalError),
    /// No segment is spare and none can be prepared. What is staged waits; see
    /// [`crate::Wal::has_space`].
    SpaceExhausted,
    /// A segment is spare again after [`WalEvent::SpaceExhausted`].
    SpaceAvailable,
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Every group of which the log holds something, ascending; none that was destroyed.
    pub groups: Vec<RecoveredGroup>,
    /// The last batch; staging goes on with the number after it.
    pub durable: Seq,
    /// Where a torn tail was dropped: something was written there that had never been durable.
    pub torn: Option<TornTail>,
    /// Batches replayed.
    pub batches: u64,
}

/// The place at which the log ended although something followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// File of the last valid batch.
    pub file: FileName,
    /// The first byte after the last valid batch.
    pub offset: u64,
    /// The number of the first batch that is lost.
    pub expected: Seq,
    /// Why the bytes there are not that batch.
    pub reason: &'static str,
}

/// What the log holds of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// The group.
    pub group: GroupId,
    /// Whether it was [created](crate::Wal::create) while the log was in use.
    pub created: bool,
    /// Its latest hard state.
    pub hard_state: HardState,
    /// The latest released position: the entry before the first one held.
    pub base: LogPosition,
    /// The last entry; `base.index` when there is none.
    pub last_index: LogIndex,
    /// The first index after `base` of each term, ascending.
    pub terms: Vec<LogPosition>,
    /// The configuration blocks after `base`, in log order.
    pub configurations: Vec<Block>,
}

/// Why a log can't be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// The disk failed.
    #[error("the disk failed during recovery: {0}")]
    Disk(#[from] DiskError),
    /// The directory holds another shard's log.
    #[error("{file} belongs to {found}, this is {expected}")]
    Foreign {
        /// The file.
        file: FileName,
        /// Whose it is.
        found: Identity,
        /// Who asked.
        expected: Identity,
    },
    /// A later version wrote the file.
    #[error("{file} has format version {version}, this program reads version {supported}")]
    Version {
        /// The file.
        file: FileName,
        /// Its format version.
        version: u32,
        /// The version this program knows.
        supported: u32,
    },
    /// A batch that had been acknowledged can't be read.
    #[error(
        "batch {expected} is damaged: {file} at offset {offset}: {reason}; it had been durable: \
         batch {witness_seq} in {witness_file} at offset {witness_offset} was written when batch \
         {witness_durable} was"
    )]
    Corrupt {
        /// File with the damage.
        file: FileName,
        /// Offset of the damaged batch or, with 0, of the segment's header.
        offset: u64,
        /// The number of the batch that should be there.
        expected: Seq,
        /// What is wrong with it.
        reason: &'static str,
        /// File of the batch, or segment header, that tells.
        witness_file: FileName,
        /// Its offset.
        witness_offset: u64,
        /// Its number.
        witness_seq: Seq,
        /// The highest batch that was durable when it was written; at least `expected`.
        witness_durable: Seq,
    },
    /// A segment that is still needed is not there, or its header can't be read.
    #[error(
        "segment {segment} is missing or its header is damaged{}; {witness} says it is needed",
        .file.map_or(String::new(), |file| format!(" ({file})"))
    )]
    MissingSegment {
        /// Number of the segment, not of its file.
        segment: u64,
        /// The file that held it, when its batches were found behind a damaged header.
        file: Option<FileName>,
        /// The file that says so.
        witness: FileName,
    },
    /// A batch with a valid checksum contradicts itself or what came before it.
    #[error("batch {seq} in {file} at offset {offset} contradicts the log: {reason}")]
    Malformed {
        /// File of the batch.
        file: FileName,
        /// Its offset.
        offset: u64,
        /// Its number.
        seq: Seq,
        /// What is wrong.
        reason: &'static str,
    },
    /// A group's entries have a hole although every batch is intact.
    #[error("group {group}: no record of entry {missing}")]
    Gap {
        /// The group.
        group: GroupId,
        /// The first index that is missing.
        missing: LogIndex,
    },
}

impl RecoveryError {
    /// Whether something of what was written is not there any more: no later attempt finds it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. }
            | Self::MissingSegment { .. }
            | Self::Malformed { .. }
            | Self::Gap { .. } => true,
            Self::Disk(_) | Self::Foreign { .. } | Self::Version { .. } => false,
        }
    }
}

/// A write or sync of log data failed. The log is poisoned: a retried sync may claim success over
/// lost data (PostgreSQL's "fsyncgate"; Rebello et al., ATC '20), so nothing is retried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log failed at {what} {file}: {cause}")]
pub struct WalError {
    /// The operation.
    pub what: &'static str,
    /// The file.
    pub file: FileName,
    /// Why.
    pub cause: DiskError,
}

/// Why a read has no entries to give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The group has no such entry, or no longer.
    #[error("entry {index} is beyond the end of the log, {last}")]
    Beyond {
        /// The index asked for.
        index: LogIndex,
        /// The group's last.
        last: LogIndex,
    },
    /// The entry was released.
    #[error("entry {index} was released, the log starts after {base}")]
    Released {
        /// The index asked for.
        index: LogIndex,
        /// The group's base.
        base: LogIndex,
    },
    /// The disk failed.
    #[error("reading failed: {0}")]
    Disk(#[from] DiskError),
    /// What is on the disk is not what was written.
    #[error("{file} is damaged at offset {offset}: {reason}")]
    Corrupt {
        /// The file.
        file: FileName,
        /// Offset of the batch.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The log failed before the entry became durable.
    #[error("the log failed before the entry was written")]
    Poisoned,
}

/// Plain counters since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct WalStats {
    /// Batches submitted, idle marks included.
    pub batches: u64,
    /// Idle marks submitted.
    pub marks: u64,
    /// Records submitted.
    pub records: u64,
    /// Bytes submitted in batches, padding included.
    pub bytes: u64,
    /// Block bytes among them.
    pub block_bytes: u64,
    /// Syncs of log data submitted (with `CoalescedSync`).
    pub syncs: u64,
    /// Segments prepared from nothing.
    pub segments_created: u64,
    /// Segments taken into use again.
    pub segments_recycled: u64,
    /// Segment files removed.
    pub segments_removed: u64,
    /// Blocks rewritten forward, so that their old segment could go.
    pub relocated_blocks: u64,
    /// Their bytes.
    pub relocated_bytes: u64,
    /// Hard states and bases rewritten forward.
    pub restated: u64,
    /// Attempts to prepare a segment that failed.
    pub preparations_failed: u64,
    /// Relocations given up because the old segment could not be read.
    pub relocations_failed: u64,
    /// Disk reads for [`crate::Wal::read`].
    pub reads: u64,
    /// Their bytes.
    pub read_bytes: u64,
}
