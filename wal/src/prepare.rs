//! Segments prepared in the background: allocated, filled with zeros once and synced, so that a
//! later durable write changes no file-system metadata (writing to unwritten extents would force
//! a journal commit). A segment gets its real name last: a file called `.wal` is complete.

use crate::disk::{DiskError, DiskOp, FileName};

/// Bytes that are zeroed with one operation, and operations in flight. A flush of the log waits for
/// what the device's cache holds, zeros included: larger or overlapping pieces show in the p99 of
/// appends (tuning.md, "zero-filling").
const ZERO_BYTES: u64 = 128 << 10;
const ZERO_DEPTH: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Zero {
        next: u64,
    },
    Sync,
    Rename,
    SyncDir,
    /// Failed; the leftover is being removed.
    Remove,
}

/// The one segment under preparation.
#[derive(Debug)]
pub(crate) struct Preparation {
    number: u32,
    len: u64,
    step: Step,
    /// Operations of this step in flight.
    running: u32,
    /// Whether the step's operation was submitted (steps with one operation only).
    submitted: bool,
    /// Whether it has its real name already.
    renamed: bool,
    failed: Option<DiskError>,
}

/// What a completion brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Prepared {
    Running,
    /// The segment file of this number is ready.
    Ready(u32),
    /// It failed, and what was left over is removed (or can't be).
    Failed(DiskError),
}

impl Preparation {
    pub(crate) fn new(number: u32, len: u64) -> Self {
        Self {
            number,
            len,
            step: Step::Create,
            running: 0,
            submitted: false,
            renamed: false,
            failed: None,
        }
    }

    /// The next operation that may be submitted now.
    pub(crate) fn next_op(&mut self) -> Option<DiskOp> {
        let file = FileName::Preparing(self.number);
        let done = FileName::Segment(self.number);
        if let Step::Zero { next } = &mut self.step {
            if self.failed.is_some() || *next >= self.len || self.running >= ZERO_DEPTH {
                return None;
            }
            let (offset, len) = (*next, ZERO_BYTES.min(self.len - *next));
            *next += len;
            self.running += 1;
            return Some(DiskOp::Zero { file, offset, len });
        }
        if self.submitted {
            return None;
        }
        self.submitted = true;
        self.running += 1;
        Some(match self.step {
            Step::Create => DiskOp::Create { file, len: self.len },
            Step::Sync => DiskOp::Sync { file },
            Step::Rename => DiskOp::Rename { from: file, to: done },
            Step::SyncDir => DiskOp::SyncDir,
            Step::Remove if self.renamed => DiskOp::Remove { file: done },
            Step::Remove | Step::Zero { .. } => DiskOp::Remove { file },
        })
    }

    /// One of its operations completed.
    pub(crate) fn complete(&mut self, result: Result<(), DiskError>) -> Prepared {
        self.running -= 1;
        if self.step == Step::Remove {
            // What can't be removed now is removed at the next start.
            return Prepared::Failed(self.failed.take().expect("removed after a failure"));
        }
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
        if self.running > 0 {
            return Prepared::Running;
        }
        if self.failed.is_some() {
            return self.enter(Step::Remove);
        }
        match self.step {
            Step::Create => self.enter(Step::Zero { next: 0 }),
            Step::Zero { next } if next < self.len => Prepared::Running,
            Step::Zero { .. } => self.enter(Step::Sync),
            Step::Sync => self.enter(Step::Rename),
            Step::Rename => {
                self.renamed = true;
                self.enter(Step::SyncDir)
            }
            Step::SyncDir | Step::Remove => Prepared::Ready(self.number),
        }
    }

    fn enter(&mut self, step: Step) -> Prepared {
        self.step = step;
        self.submitted = false;
        Prepared::Running
    }
}
