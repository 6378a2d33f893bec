//! The write-ahead log that all Raft groups of one shard share.

pub mod block;
pub mod disk;
pub mod types;

pub use block::{BLOCK_HEADER_LEN, Block, BlockError, BlockKind, Run};
pub use types::{GroupId, HardState, LogIndex, LogPosition, NodeId, Seq, Term};
