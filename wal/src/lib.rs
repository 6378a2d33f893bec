//! The write-ahead log that all Raft groups of one shard share.
//!
//! [`Wal`] is a synchronous state machine: it takes completions of disk operations and gives out
//! new ones. [`driver::Disk`] carries them out with glommio, a simulated disk does so in tests.
//!
//! | module | what lives there |
//! |---|---|
//! | [`types`], [`block`] | the log's nouns |
//! | [`disk`] | the seam to the disk |
//! | `format` | **the on-disk format** |
//! | `wal` | the state machine's parts and phases |
//! | `gather` | many small blocks as one piece of memory |
//! | `staging`, `writer`, `flight` | records into batches, batches onto the disk, what is durable |
//! | `segments`, `prepare`, `reclaim` | the life of a segment |
//! | `index`, `spans`, `reader`, `scan` | where entries are, and reading them |
//! | `recovery`, `replay`, `search`, `opened` | opening a log; a torn tail or damage? |
//! | [`status`] | a log's state, to be looked at |
//! | [`inspect`] | what a segment's bytes say |
//! | [`driver`] | the operations with glommio |

pub mod block;
pub mod config;
mod configurations;
pub mod disk;
pub mod driver;
pub mod event;
mod flight;
mod format;
mod gather;
mod index;
pub mod inspect;
mod opened;
mod prefetch;
mod prepare;
mod reader;
mod reclaim;
mod recovery;
mod replay;
mod scan;
mod search;
mod segments;
mod spans;
mod staging;
pub mod status;
pub mod types;
mod wal;
mod writer;

pub use block::{BLOCK_HEADER_LEN, Block, BlockError, BlockKind, Run};
pub use config::{ConfigError, Identity, SyncMode, WalConfig};
pub use event::{
    ReadError, ReadId, Recovered, RecoveredGroup, RecoveryError, TornTail, WalError, WalEvent,
    WalStats,
};
pub use gather::Gather;
pub use index::GroupSlot;
pub use prefetch::prefetch;
pub use status::{SegmentStatus, WalPhase, WalStatus};
pub use types::{GroupId, HardState, LogIndex, LogPosition, NodeId, NumberMap, Seq, Term};
pub use wal::Wal;
