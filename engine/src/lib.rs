//! Ringleader: an io_uring, thread-per-core Raft replication engine.

pub mod raft;
pub mod time;
