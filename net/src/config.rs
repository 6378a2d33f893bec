//! What can be set, and what it costs.

use std::net::SocketAddr;
use std::time::Duration;

use crate::frame::HEADER_LEN;
use crate::handshake::wire::MAX_HANDSHAKE_FRAME;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Another node, as this one's settings know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerNode {
    /// The node's number.
    pub node: u64,
    /// How many shards it runs. One connection is made to each of them.
    pub shards: u32,
    /// Where its listener is. A name is resolved by the caller: looking it up here would stop the
    /// shard.
    pub address: SocketAddr,
}

/// Settings of the connections for bulk data. All limits are per connection unless they say
/// otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkConfig {
    /// Largest frame in bytes, header included; sent and accepted. Default 2 MiB. All nodes must
    /// agree.
    pub max_frame_bytes: usize,
    /// Most bytes queued for a peer or handed to its writer. Default 4 MiB.
    pub outbox_bytes: usize,
    /// Reading from a peer stops while this many bytes of its frames wait to be polled. Default
    /// 2 MiB.
    pub inbound_bytes: usize,
    /// Most bytes given to the kernel in one write. Default 64 KiB: between two of them the shard
    /// and its other connections have their turn.
    pub write_bytes: usize,
    /// Bytes per second that a shard sends to all its peers together, headers included. `None`: as
    /// fast as the peers take it. Default 64 MiB, which leaves room for consensus. Over any time it sends no more than that and 20 ms
    /// of it (4 KiB at least) on top. At least 4 KiB per second.
    pub bytes_per_second: Option<u64>,
    /// A connection on which nothing was sent for this long is closed by the side that dialed it.
    /// Default 10 s. Shorter frees descriptors sooner, longer spares a handshake.
    pub idle_after: Duration,
}

impl Default for BulkConfig {
    fn default() -> Self {
        Self {
            max_frame_bytes: 2 * MIB,
            outbox_bytes: 4 * MIB,
            inbound_bytes: 2 * MIB,
            write_bytes: 64 * KIB,
            bytes_per_second: Some(64 * MIB as u64),
            idle_after: Duration::from_secs(10),
        }
    }
}

impl BulkConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let frame = self.max_frame_bytes;
        at_least("bulk.max_frame_bytes", frame, 4 * KIB)?;
        at_most("bulk.max_frame_bytes", frame, u32::MAX as usize)?;
        at_least("bulk.outbox_bytes", self.outbox_bytes, frame)?;
        at_least("bulk.inbound_bytes", self.inbound_bytes, 1)?;
        at_least("bulk.write_bytes", self.write_bytes, 4 * KIB)?;
        if let Some(rate) = self.bytes_per_second {
            at_least(
                "bulk.bytes_per_second",
                usize::try_from(rate).unwrap_or(usize::MAX),
                4 * KIB,
            )?;
        }
        Ok(())
    }
}

/// Settings of the network. All limits are per consensus connection unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// Largest frame in bytes, header included; sent and accepted. Default 8 MiB. A larger one
    /// lets more travel in one piece, and everything behind it wait for longer: 8 MiB take 7 ms
    /// at 10 Gbit/s. All nodes must agree.
    pub max_frame_bytes: usize,
    /// Most bytes queued for a peer or handed to its writer. Default 32 MiB: four of the largest
    /// frames, or 25 ms at 10 Gbit/s. Less makes a short stall of a peer show as
    /// [`Full`](crate::outbox::PushError::Full); more only lengthens the queue of a peer that is
    /// too slow anyway. Large blocks are shared with whoever else holds them, not copied.
    pub outbox_bytes: usize,
    /// Reading from a peer stops while this many bytes of its frames wait to be polled. Default
    /// 8 MiB. What is held can exceed it by one read (a chunk, or the largest frame). Less
    /// saves memory; more lets a peer run ahead while the shard is busy.
    pub inbound_bytes: usize,
    /// Largest receive buffer in bytes, and so the most that one read takes. Default 256 KiB. A
    /// larger one saves system calls under load and costs memory for every busy connection. See
    /// [`FrameDecoder`](crate::decoder::FrameDecoder).
    pub read_chunk_bytes: usize,
    /// Most bytes given to the kernel in one write. Default 256 KiB: beyond that the copy into
    /// the kernel keeps the core longer than the saved call is worth.
    pub write_bytes: usize,
    /// How long a connection may take to be established. Default 1 s. Shorter finds a dead
    /// address sooner; it must exceed a lost SYN's retransmission only if such networks matter.
    pub connect_timeout: Duration,
    /// How long a dialer waits for the answer to its hello, and a listener for the whole hello.
    /// Default 2 s. Shorter frees the slots of strangers sooner; longer forgives a busy shard.
    pub handshake_timeout: Duration,
    /// Shortest span between two attempts to dial. Default 10 ms.
    pub backoff_min: Duration,
    /// Longest span between two attempts to dial, used at once after a refusal. Default 1 s: how
    /// long a node that comes back may stay unnoticed.
    pub backoff_max: Duration,
    /// A connection on which sent bytes stay unacknowledged, or whose peer keeps its window
    /// closed, for this long is given up (`TCP_USER_TIMEOUT`; keep-alive probes find the idle
    /// ones). Default 10 s, against the kernel's 15 minutes. Shorter finds a vanished peer
    /// sooner, longer forgives one that stops for a while. Whole milliseconds.
    pub dead_after: Duration,
    /// `SO_SNDBUF` in bytes. Default `None`: the kernel sizes the buffer by itself, up to
    /// `net.ipv4.tcp_wmem`. A value turns that off and is capped by `net.core.wmem_max`, so it
    /// usually makes the buffer smaller.
    pub send_buffer_bytes: Option<usize>,
    /// `SO_RCVBUF` in bytes; as [`send_buffer_bytes`](Self::send_buffer_bytes), with `tcp_rmem`
    /// and `rmem_max`.
    pub receive_buffer_bytes: Option<usize>,
    /// Connections (per node) that may be in the handshake at once. Default 64. One more makes
    /// the oldest give way: an honest handshake takes a round trip, so the oldest is hardly one.
    pub max_pending_handshakes: usize,
    /// Connections for bulk data.
    pub bulk: BulkConfig,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            max_frame_bytes: 8 * MIB,
            outbox_bytes: 32 * MIB,
            inbound_bytes: 8 * MIB,
            read_chunk_bytes: 256 * KIB,
            write_bytes: 256 * KIB,
            connect_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(2),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
            dead_after: Duration::from_secs(10),
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            max_pending_handshakes: 64,
            bulk: BulkConfig::default(),
        }
    }
}

/// A setting that can't work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, but {rule}")]
pub struct ConfigError {
    /// The field of [`NetConfig`].
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What it must be.
    pub rule: String,
}

impl NetConfig {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first field that can't work, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let frame = self.max_frame_bytes;
        at_least("max_frame_bytes", frame, MAX_HANDSHAKE_FRAME.max(HEADER_LEN))?;
        at_most("max_frame_bytes", frame, u32::MAX as usize)?;
        at_least("outbox_bytes", self.outbox_bytes, frame)?;
        at_least("inbound_bytes", self.inbound_bytes, 1)?;
        at_least("read_chunk_bytes", self.read_chunk_bytes, 4 * KIB)?;
        at_least("write_bytes", self.write_bytes, 4 * KIB)?;
        at_least("max_pending_handshakes", self.max_pending_handshakes, 1)?;
        self.bulk.validate()?;
        for (field, value) in [
            ("connect_timeout", self.connect_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("backoff_min", self.backoff_min),
            ("dead_after", self.dead_after),
            ("bulk.idle_after", self.bulk.idle_after),
        ] {
            if value < Duration::from_millis(1) {
                return Err(broken(field, format!("{value:?}"), "must be 1 ms or more".into()));
            }
        }
        if self.backoff_max < self.backoff_min {
            let rule = format!("must not be less than backoff_min, {:?}", self.backoff_min);
            return Err(broken("backoff_max", format!("{:?}", self.backoff_max), rule));
        }
        for (field, value) in [
            ("send_buffer_bytes", self.send_buffer_bytes),
            ("receive_buffer_bytes", self.receive_buffer_bytes),
        ] {
            if let Some(value) = value {
                at_least(field, value, 4 * KIB)?;
                at_most(field, value, i32::MAX as usize)?;
            }
        }
        Ok(())
    }
}

fn broken(field: &'static str, value: String, rule: String) -> ConfigError {
    ConfigError { field, value, rule }
}

fn at_least(field: &'static str, value: usize, least: usize) -> Result<(), ConfigError> {
    if value >= least {
        return Ok(());
    }
    Err(broken(field, value.to_string(), format!("must be {least} or more")))
}

fn at_most(field: &'static str, value: usize, most: usize) -> Result<(), ConfigError> {
    if value <= most {
        return Ok(());
    }
    Err(broken(field, value.to_string(), format!("must be {most} or less")))
}
