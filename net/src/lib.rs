//! Frames between the shards of different nodes: one ordered connection per pair of shards for
//! consensus, and others, made when they are needed, for bulk data.
//!
//! The crate moves bytes and knows neither logs nor Raft. It has two layers.
//!
//! **Without IO**: [`frame`] (the layout), [`decoder`] (bytes to frames), [`envelope`] (reading an
//! archive in place), [`outbox`] (bounded queue to one peer), [`handshake`] (who may talk to
//! whom), [`book`] (which data each node is known with), [`backoff`], [`throttle`], [`bucket`]. Plain
//! synchronous code without clock, random source or thread; a simulator drives the
//! very same code as the sockets do.
//!
//! **On glommio**: [`runtime`]: a [`Listener`] per node and a [`Net`] per shard.
//!
//! # What holds
//!
//! - Of two nodes the one with the lower number dials, the other accepts; there is at most one
//!   established connection per pair of shards, and a newly accepted one replaces the one before.
//! - A node is known by its data directory ([`book`]), and refused when it
//!   turns up with another one. The meeting is remembered durably before anything comes of it.
//! - Bulk data (snapshots) has a connection of its own in each direction, dialed by the side that
//!   sends when it wants to ([`Net::want_bulk`]) and closed when it has been idle for a while. It
//!   carries [`FrameKind::Snapshot`] and nothing else, one way, at a bounded rate, and never
//!   stands before consensus traffic in a queue.
//! - Every established connection has an [`Epoch`], unique and rising within its shard. Frames of
//!   one epoch arrive in the order of [`Outbox::push`](outbox::Outbox::push), each at most once,
//!   without gaps up to the point where the connection breaks. Nothing queued in one epoch is
//!   sent in another.
//! - Everything that grows is bounded in bytes, and what happens at a bound is back-pressure: a
//!   full [`Outbox`](outbox::Outbox) refuses, a shard that doesn't poll isn't read for. Lengths
//!   that a peer sends are checked before anything is allocated.
//! - Nothing is delayed to make a write larger; what one turn queued for one peer leaves with one
//!   system call (up to [`NetConfig::write_bytes`]).
//!
//! # Trust
//!
//! The handshake finds mistakes, not attackers, and frames are not encrypted: the port belongs on
//! a network that only the cluster's nodes can reach. A stranger who reaches it can't make a node
//! crash, grow or disturb established connections, but one who knows the cluster's settings can
//! take a member's place.

pub mod backoff;
pub mod book;
pub mod bucket;
pub mod config;
pub mod decoder;
pub mod envelope;
pub mod event;
pub mod frame;
pub mod handshake;
pub mod outbox;
pub mod runtime;
pub mod throttle;

use std::fmt;

pub use book::{DataId, DataReplaced, PeerBook};
pub use config::{BulkConfig, ConfigError, NetConfig, PeerNode};
pub use event::{DownReason, NetEvent};
pub use frame::{Frame, FrameKind};
pub use handshake::{Identity, Lane};
pub use runtime::{
    Attempts, BindError, BoundListener, IntroduceError, Introducer, Introduction, Listener,
    ListenerStats, Net, ShardHandover,
};

/// One shard of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The node's number.
    pub node: u64,
    /// The shard on that node, counted from 0.
    pub shard: u32,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} shard {}", self.node, self.shard)
    }
}

/// The number of an established connection: unique within its shard and rising, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
