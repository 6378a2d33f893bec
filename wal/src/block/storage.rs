//! Where a block's bytes are: within the [`Block`](super::Block) itself, in memory of its own or, if
//! they are many, in memory that its clones share.
//!
//! A shard with a thousand groups handles a thousand blocks of one small operation in each turn. To
//! allocate and free memory for each of them would cost more than all that is done with its bytes.

use bytes::Bytes;

use super::BlockKind;
use super::layout::{BLOCK_HEADER_LEN, at, read_u32, read_u64};
use super::pool::{self, Long, Piece};

/// Longest block that needs no memory of its own: one entry of 19 bytes. More would make every
/// block larger than a cache line.
pub(crate) const INLINE_LEN: usize = 63;

/// Longest block that has its memory to itself. It is copied wherever it goes, and is never taken for
/// [`Bytes`], whose count of who has them is dearer than that.
pub(crate) const OWNED_LEN: usize = pool::MAX_LEN;

type HeaderBytes = [u8; BLOCK_HEADER_LEN];

/// The encoded header begins at the same place in all variants, which is what the representation is
/// for: it is read a dozen times on a block's way through a replica, and then without asking first
/// where the rest is. Bytes elsewhere hold a copy of it, since they may not be in the cache.
#[derive(Clone)]
#[repr(u8)]
pub(super) enum Storage {
    Inline { bytes: [u8; INLINE_LEN] },
    Owned { header: HeaderBytes, piece: Piece },
    Shared { header: HeaderBytes, bytes: Box<Bytes> },
}

const _: () = assert!(size_of::<Storage>() == 64, "a cache line");
const _: () = assert!(size_of::<Option<Storage>>() == 64, "whether there is one costs nothing");

impl Storage {
    /// Has `fill` write an encoded block of `length` bytes, all of them.
    #[inline]
    pub(super) fn filled(length: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        if length <= INLINE_LEN {
            let mut bytes = [0; INLINE_LEN];
            fill(&mut bytes[..length]);
            return Self::Inline { bytes };
        }
        if length <= OWNED_LEN {
            let piece = Piece::filled(length, fill);
            return Self::Owned { header: header_of(&piece), piece };
        }
        Self::shared(Bytes::from_owner(Long::filled(length, fill)))
    }

    /// Copies an encoded block.
    #[inline]
    pub(super) fn copied(block: &[u8]) -> Self {
        Self::filled(block.len(), |bytes| bytes.copy_from_slice(block))
    }

    /// Copies the encoded block of `length` bytes that `bytes` begins with.
    #[inline]
    pub(super) fn copied_from(bytes: &[u8], length: usize) -> Self {
        match bytes.first_chunk::<INLINE_LEN>() {
            // A copy of a length that the compiler knows is a few instructions. What it takes of the
            // bytes behind the block is never looked at.
            Some(chunk) if length <= INLINE_LEN => Self::Inline { bytes: *chunk },
            _ => Self::copied(&bytes[..length]),
        }
    }

    #[inline]
    pub(super) fn inline(&self) -> Option<(&[u8; INLINE_LEN], usize)> {
        match self {
            Self::Inline { bytes } => Some((bytes, self.len())),
            _ => None,
        }
    }

    /// Keeps an encoded block where it is.
    pub(super) fn shared(bytes: Bytes) -> Self {
        Self::Shared { header: header_of(&bytes), bytes: Box::new(bytes) }
    }

    #[inline]
    fn header(&self) -> &HeaderBytes {
        match self {
            Self::Inline { bytes } => bytes.first_chunk().expect("a header fits"),
            Self::Owned { header, .. } | Self::Shared { header, .. } => header,
        }
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline { bytes } => &bytes[..self.len()],
            Self::Owned { piece, .. } => &piece[..self.len()],
            Self::Shared { bytes, .. } => bytes,
        }
    }

    #[inline]
    pub(super) fn crc(&self) -> u32 {
        read_u32(self.header(), 0)
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        read_u32(self.header(), at::LENGTH) as usize
    }

    #[inline]
    pub(super) fn group(&self) -> u64 {
        read_u64(self.header(), at::GROUP)
    }

    #[inline]
    pub(super) fn term(&self) -> u64 {
        read_u64(self.header(), at::TERM)
    }

    #[inline]
    pub(super) fn first_index(&self) -> u64 {
        read_u64(self.header(), at::FIRST_INDEX)
    }

    #[inline]
    pub(super) fn count(&self) -> u32 {
        read_u32(self.header(), at::COUNT)
    }

    #[inline]
    pub(super) fn kind(&self) -> BlockKind {
        // It was checked when the block was made.
        match read_u32(self.header(), at::KIND) {
            0 => BlockKind::Operations,
            1 => BlockKind::Noop,
            _ => BlockKind::Configuration,
        }
    }
}

/// The header of an encoded block.
#[inline]
fn header_of(block: &[u8]) -> HeaderBytes {
    *block.first_chunk().expect("a block has a header")
}

const _: () = assert!(INLINE_LEN > BLOCK_HEADER_LEN && INLINE_LEN <= u8::MAX as usize);
