//! The sockets: the only part of the crate that knows glommio.
//!
//! Everything here belongs to one executor and is `!Send`, except what is handed from the
//! listener's shard to the others: [`ShardHandover`]. Each connection has two long-lived tasks,
//! one that reads and one that writes; nothing is spawned per frame.
//!
//! The two tasks share one socket through a `RefCell` that is borrowed within a poll only.
//! glommio keeps the readiness of reading and of writing apart, so neither steals the other's
//! wake, and a connection costs one descriptor rather than two.
//!
//! glommio sends without `MSG_NOSIGNAL`: `SIGPIPE` must be ignored, as every program with a Rust
//! `main` does. A program that isn't one must see to it before it starts a [`Net`].

mod bulk;
mod connection;
mod contain;
mod dialer;
mod introduce;
mod listener;
mod net;
mod notify;
mod shared;
mod socket;

pub use introduce::{IntroduceError, Introducer, Introduction};
pub use listener::{Listener, ListenerStats, ShardHandover};
pub use net::Net;
pub use shared::Attempts;
pub use socket::{BindError, BoundListener};
