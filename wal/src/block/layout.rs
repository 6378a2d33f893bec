//! The bytes of a block, checked and written.

use std::sync::LazyLock;

use crc32fast::Hasher;
use rkyv::Archive;

use super::{BlockError, BlockKind, Run, announced_len};

/// Bytes of a block before its table.
pub const BLOCK_HEADER_LEN: usize = size_of::<ArchivedEncoded>();
const _: () = assert!(BLOCK_HEADER_LEN == 40);

#[derive(Archive)]
#[rkyv(archived = ArchivedEncoded)]
#[allow(dead_code, reason = "only the archived form is ever built")]
struct Encoded {
    crc: u32,
    length: u32,
    group: u64,
    term: u64,
    first_index: u64,
    count: u32,
    kind: u32,
}

/// Where the header's fields are.
pub(super) mod at {
    use super::ArchivedEncoded as Encoded;

    pub(in crate::block) const LENGTH: usize = std::mem::offset_of!(Encoded, length);
    pub(in crate::block) const GROUP: usize = std::mem::offset_of!(Encoded, group);
    pub(in crate::block) const TERM: usize = std::mem::offset_of!(Encoded, term);
    pub(in crate::block) const FIRST_INDEX: usize = std::mem::offset_of!(Encoded, first_index);
    pub(in crate::block) const COUNT: usize = std::mem::offset_of!(Encoded, count);
    pub(in crate::block) const KIND: usize = std::mem::offset_of!(Encoded, kind);
}

/// A header's fields beside CRC and length.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) group: u64,
    pub(super) term: u64,
    pub(super) first_index: u64,
    pub(super) count: u32,
    pub(super) kind: BlockKind,
}

#[inline]
pub(super) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[inline]
pub(super) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Checks that `bytes` are one block, all of them and nothing else.
#[inline]
pub(super) fn check(bytes: &[u8]) -> Result<(), BlockError> {
    let length = announced_len(bytes)?;
    if bytes.len() < length {
        return Err(BlockError::Short { have: bytes.len(), need: length });
    }
    if bytes.len() > length {
        return Err(BlockError::Malformed("bytes after the block's end"));
    }
    let computed = crc(&bytes[4..]);
    let stored = read_u32(bytes, 0);
    if computed != stored {
        return Err(BlockError::Checksum { computed, stored });
    }
    let header = rkyv::access::<ArchivedEncoded, rkyv::rancor::Failure>(&bytes[..BLOCK_HEADER_LEN])
        .map_err(|_| BlockError::Malformed("header"))?;
    let kind =
        BlockKind::of(header.kind.to_native()).ok_or(BlockError::Malformed("unknown kind"))?;
    let header = Header {
        group: header.group.to_native(),
        term: header.term.to_native(),
        first_index: header.first_index.to_native(),
        count: header.count.to_native(),
        kind,
    };
    check_table(bytes, &header)
}

#[inline(always)]
fn check_table(bytes: &[u8], header: &Header) -> Result<(), BlockError> {
    if header.count == 0 || header.first_index == 0 || header.term == 0 {
        return Err(BlockError::Malformed("no entry, or index or term zero"));
    }
    if header.first_index.checked_add(u64::from(header.count)).is_none() {
        return Err(BlockError::Malformed("index overflows"));
    }
    if header.kind == BlockKind::Configuration && header.count != 1 {
        return Err(BlockError::Malformed("a configuration is one entry"));
    }
    let start = (header.count as usize)
        .checked_mul(4)
        .and_then(|table| BLOCK_HEADER_LEN.checked_add(table))
        .filter(|&start| start <= bytes.len())
        .ok_or(BlockError::Malformed("table longer than the block"))?;
    let mut previous = 0;
    for end in ends(&bytes[BLOCK_HEADER_LEN..start]) {
        if end < previous {
            return Err(BlockError::Malformed("payload ends before it starts"));
        }
        previous = end;
    }
    if previous as usize != bytes.len() - start {
        return Err(BlockError::Malformed("payload bytes do not fill the block"));
    }
    Ok(())
}

#[inline]
pub(super) fn ends(table: &[u8]) -> impl ExactSizeIterator<Item = u32> + '_ {
    table.chunks_exact(4).map(|end| u32::from_le_bytes(end.try_into().expect("four bytes")))
}

/// Writes a block of `length` bytes, which is what `block` has, its CRC left open.
#[inline(always)]
pub(super) fn put<'a>(
    block: &mut [u8],
    length: u32,
    header: &Header,
    runs: impl Iterator<Item = Run<'a>> + Clone,
) {
    let (start, rest) = block.split_first_chunk_mut::<BLOCK_HEADER_LEN>().expect("a header fits");
    start[at::LENGTH..][..4].copy_from_slice(&length.to_le_bytes());
    start[at::GROUP..][..8].copy_from_slice(&header.group.to_le_bytes());
    start[at::TERM..][..8].copy_from_slice(&header.term.to_le_bytes());
    start[at::FIRST_INDEX..][..8].copy_from_slice(&header.first_index.to_le_bytes());
    start[at::COUNT..][..4].copy_from_slice(&header.count.to_le_bytes());
    start[at::KIND..][..4].copy_from_slice(&u32::from(header.kind as u8).to_le_bytes());
    let (mut table, mut payloads) = rest.split_at_mut(4 * header.count as usize);
    let mut origin = 0u32;
    for run in runs {
        let shift = origin.wrapping_sub(run.base);
        let (places, others) = table.split_at_mut(4 * run.ends.len());
        for (place, end) in places.chunks_exact_mut(4).zip(run.ends) {
            place.copy_from_slice(&end.wrapping_add(shift).to_le_bytes());
        }
        let (place, behind) = payloads.split_at_mut(run.payload.len());
        place.copy_from_slice(run.payload);
        (table, payloads) = (others, behind);
        origin += run.payload.len() as u32;
    }
}

#[inline]
pub(super) fn seal(block: &mut [u8]) {
    let crc = crc(&block[4..]);
    block[..4].copy_from_slice(&crc.to_le_bytes());
}

/// Every new [`Hasher`] asks what the CPU can do, for which a clone of one need not.
static HASHER: LazyLock<Hasher> = LazyLock::new(Hasher::new);

#[inline]
fn crc(bytes: &[u8]) -> u32 {
    let mut hasher = HASHER.clone();
    hasher.update(bytes);
    hasher.finalize()
}
