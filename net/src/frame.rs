//! The frame: the one unit that travels between two shards.
//!
//! Little-endian, no padding; a frame starts where the one before it ended.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic, `RLN1` |
//! | 4 | 2 | layout version, [`FRAME_VERSION`] |
//! | 6 | 2 | kind, [`FrameKind`] |
//! | 8 | 4 | envelope length |
//! | 12 | 4 | body length |
//! | 16 | 4 | CRC-32 of the envelope |
//! | 20 | 4 | CRC-32 of bytes 0 to 19 |
//! | 24 | envelope length | envelope: an rkyv archive, opaque to this crate |
//! | then | body length | body: blocks one after the other, opaque to this crate |
//!
//! The header has a checksum of its own, so that a damaged length is found at once instead of
//! after waiting for bytes that never come. **The body is not covered**: every block that the
//! engine puts there carries its own CRC, which follows it from the leader to the disks of all
//! followers; a second pass over the same bytes would find nothing more.

use bytes::{BufMut, Bytes};

/// First four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"RLN1";

/// Version of the layout described in the [module documentation](self).
pub const FRAME_VERSION: u16 = 1;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 24;

/// Bytes of the header that its own checksum covers.
const HEADER_CHECKED: usize = 20;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum FrameKind {
    /// The first frame of a dialing shard: [`Hello`](crate::handshake::Hello).
    Hello = 1,
    /// The answer to it: [`Reply`](crate::handshake::Reply).
    HelloReply = 2,
    /// Consensus traffic of any number of groups.
    Consensus = 3,
    /// Snapshot data, which travels on connections of its own.
    Snapshot = 4,
    /// Reserved for clients.
    Client = 5,
}

impl FrameKind {
    /// The kind with this number on the wire.
    #[must_use]
    pub fn from_wire(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::HelloReply,
            3 => Self::Consensus,
            4 => Self::Snapshot,
            5 => Self::Client,
            _ => return None,
        })
    }
}

/// A complete, checked frame.
///
/// Both parts are usually slices of a receive buffer shared with neighbouring frames: cheap to
/// clone and to slice further, but each keeps the whole buffer alive. See
/// [`FrameDecoder`](crate::decoder::FrameDecoder) for who may keep what for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the frame is for.
    pub kind: FrameKind,
    /// An rkyv archive, its checksum verified; read it with
    /// [`envelope::read`](crate::envelope::read).
    pub envelope: Bytes,
    /// Blocks, one after the other; **not** verified here.
    pub body: Bytes,
}

impl Frame {
    /// Bytes of this frame on the wire, header included.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        HEADER_LEN + self.envelope.len() + self.body.len()
    }
}

/// Why the bytes of a peer are not a frame. After any of these the stream's framing is lost and
/// the connection must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The peer doesn't speak this protocol at all, or the stream is out of step.
    #[error("a frame starts with {found:02x?} instead of the magic {MAGIC:02x?}")]
    BadMagic {
        /// The four bytes in the magic's place.
        found: [u8; 4],
    },
    /// The peer uses another frame layout.
    #[error("frame layout version {found}, but only {FRAME_VERSION} is known here")]
    Version {
        /// The version in the header.
        found: u16,
    },
    /// The header's checksum doesn't match its bytes.
    #[error("header checksum is {found:#010x}, its bytes give {computed:#010x}")]
    HeaderChecksum {
        /// The checksum in the header.
        found: u32,
        /// The checksum of the bytes that arrived.
        computed: u32,
    },
    /// An intact header with a kind that this version doesn't know.
    #[error("unknown frame kind {found}")]
    UnknownKind {
        /// The kind in the header.
        found: u16,
    },
    /// A kind that has no place at this point of the conversation.
    #[error("a {found:?} frame was not expected here")]
    UnexpectedKind {
        /// The kind in the header.
        found: FrameKind,
    },
    /// The frame exceeds the limit. Found before anything is allocated for it.
    #[error("a frame of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Size of the whole frame in bytes, header included.
        bytes: u64,
        /// Largest size allowed, in bytes.
        limit: u64,
    },
    /// The envelope's checksum doesn't match its bytes.
    #[error("envelope checksum is {found:#010x}, its bytes give {computed:#010x}")]
    EnvelopeChecksum {
        /// The checksum in the header.
        found: u32,
        /// The checksum of the bytes that arrived.
        computed: u32,
    },
}

/// The fields of a header that passed every check a header can be given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) kind: FrameKind,
    pub(crate) envelope_len: usize,
    pub(crate) body_len: usize,
    pub(crate) envelope_crc: u32,
}

impl Header {
    pub(crate) fn frame_len(&self) -> usize {
        HEADER_LEN + self.envelope_len + self.body_len
    }

    /// Checks in the order that gives the most helpful error: a foreign protocol is reported as
    /// such and not as a checksum failure.
    pub(crate) fn parse(bytes: &[u8; HEADER_LEN], limit: usize) -> Result<Self, FrameError> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at =
            |at| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[..4] != MAGIC {
            return Err(FrameError::BadMagic { found: [bytes[0], bytes[1], bytes[2], bytes[3]] });
        }
        if u16_at(4) != FRAME_VERSION {
            return Err(FrameError::Version { found: u16_at(4) });
        }
        let computed = crc32fast::hash(&bytes[..HEADER_CHECKED]);
        if u32_at(20) != computed {
            return Err(FrameError::HeaderChecksum { found: u32_at(20), computed });
        }
        let kind =
            FrameKind::from_wire(u16_at(6)).ok_or(FrameError::UnknownKind { found: u16_at(6) })?;
        let (envelope_len, body_len) = (u32_at(8), u32_at(12));
        let total = HEADER_LEN as u64 + u64::from(envelope_len) + u64::from(body_len);
        if total > limit as u64 {
            return Err(FrameError::TooLarge { bytes: total, limit: limit as u64 });
        }
        Ok(Self {
            kind,
            envelope_len: envelope_len as usize,
            body_len: body_len as usize,
            envelope_crc: u32_at(16),
        })
    }

    pub(crate) fn check_envelope(&self, envelope: &[u8]) -> Result<(), FrameError> {
        let computed = crc32fast::hash(envelope);
        if computed == self.envelope_crc {
            return Ok(());
        }
        Err(FrameError::EnvelopeChecksum { found: self.envelope_crc, computed })
    }
}

/// Appends the header and the envelope of a frame to `out`; `body_len` bytes of body are to
/// follow.
///
/// # Panics
///
/// If either length doesn't fit 32 bits; callers bound a frame long before that.
pub fn encode_head(out: &mut impl BufMut, kind: FrameKind, envelope: &[u8], body_len: usize) {
    let mut header = [0; HEADER_LEN];
    let envelope_len = u32::try_from(envelope.len()).expect("an envelope fits 32 bits");
    let body_len = u32::try_from(body_len).expect("a body fits 32 bits");
    header[..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&FRAME_VERSION.to_le_bytes());
    header[6..8].copy_from_slice(&(kind as u16).to_le_bytes());
    header[8..12].copy_from_slice(&envelope_len.to_le_bytes());
    header[12..16].copy_from_slice(&body_len.to_le_bytes());
    header[16..20].copy_from_slice(&crc32fast::hash(envelope).to_le_bytes());
    let checksum = crc32fast::hash(&header[..HEADER_CHECKED]);
    header[20..].copy_from_slice(&checksum.to_le_bytes());
    out.put_slice(&header);
    out.put_slice(envelope);
}

/// A whole frame in one buffer: for the handshake and for tests. The data path goes through
/// [`Outbox`](crate::outbox::Outbox), which doesn't copy large blocks.
///
/// # Panics
///
/// As [`encode_head`].
#[must_use]
pub fn encode(kind: FrameKind, envelope: &[u8], body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(HEADER_LEN + envelope.len() + body.len());
    encode_head(&mut out, kind, envelope, body.len());
    out.extend_from_slice(body);
    out.into()
}
