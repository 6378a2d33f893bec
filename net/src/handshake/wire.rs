//! The handshake's bytes.
//!
//! Both messages are the envelope of a frame without a body, little-endian, without padding. They
//! are written by hand and not as archives, since they are what two builds with different ideas
//! of everything else use to find that out: fields are only ever added at the end, and a reader
//! ignores what it doesn't know.
//!
//! | Hello: offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 + 2 | oldest and newest protocol |
//! | 4 | 8 | cluster |
//! | 12 | 8 + 4 + 4 | caller: node, shard, number of shards |
//! | 28 | 8 + 4 | wanted: node, shard |
//! | 40 | 8 | fingerprint of the settings |
//! | 48 | 8 + 8 | caller's incarnation, caller's attempt |
//! | 64 | 2 | lane: 0 consensus, 1 bulk data from the caller (this and what follows since protocol 2) |
//! | 66 | 16 + 16 | data directory: the caller's, and what it met the wanted node with, or 0 |
//!
//! | Reply: offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | 0 if accepted, otherwise the [`RefusalCode`] |
//! | 2 | 2 | accepted: protocol |
//! | 4 | 4 | accepted: number of shards |
//! | 8 | 8 | accepted: incarnation |
//! | 16 | 16 | accepted: data directory |
//! | 2 | rest | refused: a sentence in UTF-8 |

use bytes::{BufMut, Bytes};

use super::{Accepted, Hello, Lane, RefusalCode, Reply};
use crate::frame::{FrameKind, encode};
use crate::{DataId, Endpoint};

/// Largest frame of a handshake in bytes. All that is ever held for a stranger.
pub const MAX_HANDSHAKE_FRAME: usize = 1024;

/// A lane that no build knows.
const LANE_UNKNOWN: u16 = u16::MAX;

/// Longest sentence sent or kept, in bytes.
const MAX_SENTENCE: usize = 512;

/// A handshake message that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Fewer bytes than its fields need.
    #[error("a handshake message of {bytes} bytes ends before its last field")]
    Short {
        /// Length of the message in bytes.
        bytes: usize,
    },
}

/// The frame that carries a [`Hello`].
#[must_use]
pub fn encode_hello(hello: &Hello) -> Bytes {
    let mut out = Vec::with_capacity(128);
    out.put_u16_le(hello.protocol_min);
    out.put_u16_le(hello.protocol_max);
    out.put_u64_le(hello.cluster);
    out.put_u64_le(hello.from.node);
    out.put_u32_le(hello.from.shard);
    out.put_u32_le(hello.from_shards);
    out.put_u64_le(hello.to.node);
    out.put_u32_le(hello.to.shard);
    out.put_u64_le(hello.fingerprint);
    out.put_u64_le(hello.incarnation);
    out.put_u64_le(hello.attempt);
    out.put_u16_le(hello.lane.map_or(LANE_UNKNOWN, lane_number));
    out.put_u128_le(hello.data.0);
    out.put_u128_le(hello.expects.map_or(0, |data| data.0));
    encode(FrameKind::Hello, &out, &[])
}

/// The [`Hello`] in a frame's envelope.
///
/// # Errors
///
/// [`WireError`] if fields are missing. Whether they make sense is for
/// [`check`](super::check) to say.
pub fn decode_hello(envelope: &[u8]) -> Result<Hello, WireError> {
    let mut fields = Fields { all: envelope.len(), rest: envelope };
    let (protocol_min, protocol_max) = (fields.u16()?, fields.u16()?);
    // An older caller is to be told so, and not that its hello is too short.
    let old = protocol_max < 2;
    Ok(Hello {
        protocol_min,
        protocol_max,
        cluster: fields.u64()?,
        from: Endpoint { node: fields.u64()?, shard: fields.u32()? },
        from_shards: fields.u32()?,
        to: Endpoint { node: fields.u64()?, shard: fields.u32()? },
        fingerprint: fields.u64()?,
        incarnation: fields.u64()?,
        attempt: fields.u64()?,
        lane: if old { Some(Lane::Consensus) } else { lane(fields.u16()?) },
        data: DataId(if old { 0 } else { fields.u128()? }),
        expects: Some(if old { 0 } else { fields.u128()? }).filter(|data| *data != 0).map(DataId),
    })
}

fn lane_number(lane: Lane) -> u16 {
    match lane {
        Lane::Consensus => 0,
        Lane::BulkOut => 1,
        // Nobody asks for what the other side dials.
        Lane::BulkIn => LANE_UNKNOWN,
    }
}

fn lane(number: u16) -> Option<Lane> {
    [Lane::Consensus, Lane::BulkOut].into_iter().find(|lane| lane_number(*lane) == number)
}

/// The frame that carries a [`Reply`]. An overlong sentence is cut.
#[must_use]
pub fn encode_reply(reply: &Reply) -> Bytes {
    let mut out = Vec::with_capacity(64);
    match reply {
        Reply::Accepted(accepted) => {
            out.put_u16_le(0);
            out.put_u16_le(accepted.protocol);
            out.put_u32_le(accepted.shards);
            out.put_u64_le(accepted.incarnation);
            out.put_u128_le(accepted.data.0);
        }
        Reply::Refused { code, sentence } => {
            out.put_u16_le(code.0);
            out.extend_from_slice(cut(sentence).as_bytes());
        }
    }
    encode(FrameKind::HelloReply, &out, &[])
}

/// The [`Reply`] in a frame's envelope. The sentence is a stranger's and goes to a log, so
/// control characters in it are escaped and its length is bounded.
///
/// # Errors
///
/// [`WireError`] if fields are missing.
pub fn decode_reply(envelope: &[u8]) -> Result<Reply, WireError> {
    let mut fields = Fields { all: envelope.len(), rest: envelope };
    let code = fields.u16()?;
    if code != 0 {
        let text: String = String::from_utf8_lossy(fields.rest).chars().flat_map(visible).collect();
        return Ok(Reply::Refused { code: RefusalCode(code), sentence: cut(&text).to_owned() });
    }
    Ok(Reply::Accepted(Accepted {
        protocol: fields.u16()?,
        shards: fields.u32()?,
        incarnation: fields.u64()?,
        data: DataId(fields.u128()?),
    }))
}

fn visible(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

fn cut(sentence: &str) -> &str {
    &sentence[..sentence.floor_char_boundary(MAX_SENTENCE)]
}

struct Fields<'a> {
    all: usize,
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (field, rest) =
            self.rest.split_first_chunk().ok_or(WireError::Short { bytes: self.all })?;
        self.rest = rest;
        Ok(*field)
    }

    fn u16(&mut self) -> Result<u16, WireError> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        self.take().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Result<u128, WireError> {
        self.take().map(u128::from_le_bytes)
    }
}
