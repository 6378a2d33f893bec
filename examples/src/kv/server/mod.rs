//! Connections, routing, forwarding, administration.
//!
//! Each shard of a node serves connections of its own (`connection`) on its own core. A command for
//! a group that this node leads on this very shard goes straight into the shard's queue (`pump`);
//! for all others the client is told where to go, or the command is forwarded (`link`) for
//! clients that know no cluster. Replies leave in the order of the commands (`client`). What operators
//! want of the cluster is in `operator`.

mod administration;
mod ask;
mod client;
mod clock;
mod cluster;
mod config;
mod connection;
mod everywhere;
mod gathering;
mod group;
mod held;
mod http;
mod info;
mod link;
mod listen;
mod operator;
mod outcome;
mod pump;
mod run;
mod scattered;
mod session;
mod shard;
mod stats;
mod topology;

pub use config::{Config, NodeAddress};
pub use run::{Running, start};
