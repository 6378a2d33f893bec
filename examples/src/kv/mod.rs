//! A linearizable, durable key-value store that every Redis client can use.
//!
//! # The life of a command
//!
//! ```text
//! socket ─► resp::request ─► command ─► Operation ─► server::dispatch
//!                                                      │ a write: encoded, into the log
//!                                                      │ a read: once a quorum, or the lease, confirms
//!                                                      ▼
//!                                   machine (every replica, in log order) ─► execute ─► Keyspace
//!                                                      │
//! socket ◄─ resp::reply ◄─ server::replies (in order) ◄┘ durable on a majority, and applied
//! ```
//!
//! # Where things are
//!
//! | place | what lives there |
//! |---|---|
//! | [`account`] | who takes how much memory |
//! | [`slot`] | the 16,384 hash slots, and how they are spread over the groups |
//! | [`operation`] | what can be done to a group's keys, and how it stands in the log |
//! | [`clock`] | what time it is in a group |
//! | [`keyspace`] | a group's keys: point lookups, order, expiry, memory, snapshots |
//! | [`execute`] | what each operation does and answers |
//! | [`machine`] | the replicated state machine: log entries in, replies out |
//! | [`resp`] | the protocol: requests in, replies out |
//! | [`command`] | the table of commands: name, arity, keys, and what they mean |
//! | [`server`] | connections, routing, forwarding, administration |
//! | [`compare`] | the same load on this server, on Redis and on etcd |
//!
//! Everything but [`server`] and [`compare`] is synchronous and does no IO: `examples/tests/sim.rs` runs
//! it in the engine's simulator, whole clusters with faults of all kinds, and compares what callers were
//! told with a model of the store that is written anew. `examples/tests/kv` has real servers and clients.

pub mod account;
pub mod clock;
pub mod command;
pub mod compare;
pub mod execute;
pub mod glob;
pub mod keyspace;
pub mod machine;
pub mod operation;
pub mod resp;
pub mod server;
pub mod slot;
mod wire;
