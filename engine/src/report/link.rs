//! One connection to a peer's shard.

use ringleader_wal::NodeId;
use serde::Serialize;

use super::Distribution;
use crate::shard::{LinkPeer, MessageCounts};

/// A connection to a peer's shard.
#[derive(Clone, Debug, Serialize)]
pub struct LinkReport {
    /// The node at the other end.
    pub node: NodeId,
    /// Its shard.
    pub shard: u32,
    /// Whether there is a connection.
    pub connected: bool,
    /// Whether the peer's shard is there: connected, and heard within an election timeout. Nodes
    /// that have nothing else to say say that they are there once per heartbeat interval.
    pub alive: bool,
    /// Milliseconds since something came on the present connection, or it was made; none without
    /// one. It is measured in ticks.
    pub heard_ms_ago: Option<u64>,
    /// Connections made so far, this one included.
    pub connections: u64,
    /// Attempts of this side to connect that failed. Of two nodes the one with the lower number
    /// dials, so that the other one counts none.
    pub failed_connects: u64,
    /// Those since the last connection.
    pub failed_in_a_row: u64,
    /// Frames handed to the connection or to the lane for bulk data beside it.
    pub frames_sent: u64,
    /// Their bytes, headers included.
    pub bytes_sent: u64,
    /// Frames received on either.
    pub frames_received: u64,
    /// Their bytes, headers included.
    pub bytes_received: u64,
    /// Bytes that wait to be written.
    pub outbox_bytes: usize,
    /// Connections given up because the outbox was full or a frame made no sense.
    pub given_up: u64,
    /// Messages sent, by their kind. Those of all groups share frames.
    pub messages_sent: MessageCounts,
    /// Messages received, likewise.
    pub messages_received: MessageCounts,
    /// Nanoseconds from handing a request with entries to the connection until the peer's
    /// acknowledgement came, which says that they are durable there. A sample: at any moment one
    /// request of the link is followed.
    pub acknowledged: Distribution,
}

impl LinkReport {
    /// Of a connection over which nothing went yet.
    pub(crate) fn of(peer: &LinkPeer) -> Self {
        Self {
            node: peer.node,
            shard: peer.shard,
            connected: false,
            alive: false,
            heard_ms_ago: None,
            connections: 0,
            failed_connects: 0,
            failed_in_a_row: 0,
            frames_sent: 0,
            bytes_sent: 0,
            frames_received: 0,
            bytes_received: 0,
            outbox_bytes: 0,
            given_up: 0,
            messages_sent: MessageCounts::default(),
            messages_received: MessageCounts::default(),
            acknowledged: Distribution::default(),
        }
    }
}
