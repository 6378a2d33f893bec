//! Operations as they were applied.

use crate::machine::Output;

/// The number of an operation, unique in a run; its payload starts with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OpName(pub(crate) u64);

/// One operation that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppliedOp {
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// Which operation it was.
    pub(crate) op: OpName,
    /// The hash of its payload.
    pub(crate) payload: u64,
    /// The state after it.
    pub(crate) state: u64,
    /// What its caller is told.
    pub(crate) output: Output,
}
