//! Where a block's bytes are: within the [`Block`](super::Block) itself, in memory of its own or, if
//! they are many, in memory that its clones share.
//!
//! A shard with a thousand groups handles a thousand blocks of one small operation in each turn. To
//! allocate and free memory for each of them would cost more than all that is done with its bytes.

use std::ops::Deref;

use bytes::Bytes;

use super::BlockKind;
use super::layout::{BLOCK_HEADER_LEN, Header, at, read_u32, read_u64};
use super::pool::{self, Piece};

/// Longest block that needs no memory of its own: one entry of 18 bytes. More would make every
/// block larger than a cache line.
pub(super) const INLINE_LEN: usize = 62;

/// Longest block that has its memory to itself. It is copied wherever it goes, and is never taken for
/// [`Bytes`], whose count of who has them is dearer than that.
pub(crate) const OWNED_LEN: usize = pool::MAX_LEN;

#[derive(Clone)]
pub(super) enum Memory {
    Owned(Piece),
    Bytes(Bytes),
}

impl Memory {
    #[inline]
    pub(super) fn copied(block: &[u8]) -> Self {
        if block.len() <= OWNED_LEN {
            return Self::Owned(Piece::filled(block.len(), |piece| piece.copy_from_slice(block)));
        }
        Self::Bytes(Bytes::copy_from_slice(block))
    }

    /// Has `fill` write `length` bytes, all of them.
    #[inline]
    pub(super) fn filled(length: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        if length <= OWNED_LEN {
            return Self::Owned(Piece::filled(length, fill));
        }
        let mut memory = vec![0; length];
        fill(&mut memory);
        Self::Bytes(memory.into())
    }
}

impl Deref for Memory {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(piece) => piece,
            Self::Bytes(bytes) => bytes,
        }
    }
}

#[derive(Clone)]
pub(super) enum Storage {
    /// The header is read where it lies.
    Inline { len: u8, bytes: [u8; INLINE_LEN] },
    /// The header is kept beside the bytes: they may not be in the cache.
    Shared { kind: BlockKind, count: u32, group: u64, term: u64, first_index: u64, bytes: Memory },
}

const _: () = assert!(size_of::<Storage>() == 64, "a cache line");

/// A number of the header, from where it lies or from beside the bytes.
macro_rules! header_field {
    ($name:ident: $number:ty, $read:ident, $at:expr) => {
        #[inline]
        pub(super) fn $name(&self) -> $number {
            match self {
                Self::Inline { bytes, .. } => $read(bytes, $at),
                Self::Shared { $name, .. } => *$name,
            }
        }
    };
}

impl Storage {
    /// Copies an encoded block that fits.
    #[inline]
    pub(super) fn inline(block: &[u8]) -> Self {
        let mut bytes = [0; INLINE_LEN];
        bytes[..block.len()].copy_from_slice(block);
        Self::Inline { len: block.len() as u8, bytes }
    }

    #[inline]
    pub(super) fn shared(header: &Header, bytes: Memory) -> Self {
        let Header { kind, count, group, term, first_index, .. } = *header;
        Self::Shared { kind, count, group, term, first_index, bytes }
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Shared { bytes, .. } => bytes,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Inline { len, .. } => usize::from(*len),
            Self::Shared { bytes, .. } => bytes.len(),
        }
    }

    header_field!(group: u64, read_u64, at::GROUP);
    header_field!(term: u64, read_u64, at::TERM);
    header_field!(first_index: u64, read_u64, at::FIRST_INDEX);
    header_field!(count: u32, read_u32, at::COUNT);

    #[inline]
    pub(super) fn kind(&self) -> BlockKind {
        match self {
            // It was checked when the block was made.
            Self::Inline { bytes, .. } => match read_u32(bytes, at::KIND) {
                0 => BlockKind::Operations,
                1 => BlockKind::Noop,
                _ => BlockKind::Configuration,
            },
            Self::Shared { kind, .. } => *kind,
        }
    }
}

const _: () = assert!(INLINE_LEN > BLOCK_HEADER_LEN && INLINE_LEN <= u8::MAX as usize);
