//! The counter as real processes: servers with their logs on disk, clients beside them.

mod bad_input;
#[path = "../children/mod.rs"]
mod children;
mod client;
mod cluster;
mod crashes;
mod load;
mod metrics;
mod replication;
mod snapshots;
mod surroundings;
