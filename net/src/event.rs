//! What a shard learns from its connections.

use std::fmt;

use crate::book::DataId;
use crate::frame::{Frame, FrameError};
use crate::{Endpoint, Epoch, Lane};

/// Something that happened to one connection.
///
/// For each epoch: one [`Up`](Self::Up), then any number of [`Frames`](Self::Frames) in the order
/// in which they were sent, then one [`Down`](Self::Down). Of two epochs of one peer and lane the
/// first is down before the second is up. Between lanes there is no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// A connection is established, its outbox empty and open.
    Up {
        /// The shard at the other end.
        peer: Endpoint,
        /// What it is for.
        lane: Lane,
        /// The connection.
        epoch: Epoch,
        /// The data directory that the peer's node showed, which is the one that it is known with.
        data: DataId,
        /// The life of the peer's process: a changed number means that it restarted.
        incarnation: u64,
        /// The protocol that both sides agreed on.
        protocol: u16,
    },
    /// Frames arrived: all that the shard has received on this connection since it last asked.
    Frames {
        /// The shard at the other end.
        peer: Endpoint,
        /// What it is for. Nothing arrives on [`Lane::BulkOut`].
        lane: Lane,
        /// The connection.
        epoch: Epoch,
        /// In the order in which they were sent; never empty.
        frames: Vec<Frame>,
    },
    /// A connection is gone. Whatever was queued or sent and not answered is lost or not; nobody
    /// knows.
    Down {
        /// The shard at the other end.
        peer: Endpoint,
        /// What it was for.
        lane: Lane,
        /// The connection.
        epoch: Epoch,
        /// Why.
        reason: DownReason,
    },
}

/// Why a connection went down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// The peer closed it.
    Closed,
    /// The kernel reported an error.
    Io {
        /// What kind.
        kind: std::io::ErrorKind,
        /// The kernel's text.
        message: String,
    },
    /// The peer sent something that isn't a frame, or not one for an established connection.
    Protocol(FrameError),
    /// The peer made a new connection, which takes this one's place.
    Replaced,
    /// This side gave it up, for the reason it gave.
    Local(String),
    /// A task of this side that worked on it panicked, with this message.
    Panicked(String),
    /// The peer's node is no longer one of this shard's peers.
    Removed,
    /// The peer's node is to be found at another address.
    Moved,
    /// Nothing was sent on it for a while, and it is made again when it is needed.
    Idle,
    /// This shard is shutting down.
    Shutdown,
}

impl From<&std::io::Error> for DownReason {
    fn from(error: &std::io::Error) -> Self {
        Self::Io { kind: error.kind(), message: error.to_string() }
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the peer"),
            Self::Io { message, .. } => f.write_str(message),
            Self::Protocol(error) => fmt::Display::fmt(error, f),
            Self::Replaced => f.write_str("replaced by a newer connection of the peer"),
            Self::Local(reason) => f.write_str(reason),
            Self::Panicked(message) => write!(f, "this side panicked: {message}"),
            Self::Removed => f.write_str("the node was removed"),
            Self::Moved => f.write_str("the node's address changed"),
            Self::Idle => f.write_str("nothing was sent on it for a while"),
            Self::Shutdown => f.write_str("this shard is shutting down"),
        }
    }
}
