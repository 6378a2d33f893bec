//! A log's state, to be looked at.

use serde::Serialize;

use crate::types::Seq;
use crate::wal::{Phase, Wal};

/// What a log is doing, and the space that it takes. It is copied together from plain fields, in
/// time proportional to the number of segments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WalStatus {
    /// Whether it recovers, works, or has failed.
    pub phase: WalPhase,
    /// The last durable batch.
    pub durable: Seq,
    /// Bytes of records and blocks staged or being written and not durable yet.
    pub staged_bytes: usize,
    /// Writes under way; see [`WalConfig::depth`](crate::WalConfig).
    pub writes_in_flight: usize,
    /// Other disk operations under way: syncs, reads, preparing segments.
    pub others_in_flight: usize,
    /// Reads of entries under way; see [`Wal::read`].
    pub reads: usize,
    /// Segments, oldest first.
    pub segments: Vec<SegmentStatus>,
    /// Segments ready to be written to.
    pub spare_segments: usize,
    /// Bytes of all segment files, the spare ones included.
    pub file_bytes: u64,
    /// False while proposals are refused for want of space; see [`Wal::has_space`].
    pub has_space: bool,
}

/// See [`WalStatus::phase`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalPhase {
    /// It reads what it holds.
    #[default]
    Recovering,
    /// It takes records.
    Running,
    /// Recovery failed, or a write did: nothing becomes durable any more.
    Failed,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentStatus {
    /// Its number in the log; it rises.
    pub id: u64,
    /// The file's name; none until its first batch is submitted.
    pub file: Option<String>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes up to the end of the last durable batch.
    pub durable_bytes: u64,
    /// Bytes of blocks that some group still needs, at most.
    pub live_bytes: u64,
    /// Groups' latest hard states and bases that are recorded here.
    pub states: u32,
    /// Reads under way.
    pub reads: u32,
}

impl Wal {
    /// The log's state at present.
    #[must_use]
    pub fn status(&self) -> WalStatus {
        let segments: Vec<SegmentStatus> = self.segments.statuses().collect();
        let files = segments.iter().filter(|segment| segment.file.is_some());
        let in_log: u64 = files.map(|segment| segment.bytes).sum();
        WalStatus {
            phase: match self.phase {
                Phase::Recovering(_) => WalPhase::Recovering,
                Phase::Running => WalPhase::Running,
                Phase::Failed => WalPhase::Failed,
            },
            durable: self.durable,
            staged_bytes: self.staged_bytes(),
            writes_in_flight: self.flight.running,
            others_in_flight: self.operations_in_flight() - self.flight.running,
            reads: self.reads.len(),
            segments,
            spare_segments: self.spares.len(),
            file_bytes: in_log + self.spares.len() as u64 * self.config.segment_bytes,
            has_space: self.has_space(),
        }
    }
}
