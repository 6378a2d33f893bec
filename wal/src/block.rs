//! The block: what one group appends in one turn, encoded once by the leader. The same bytes go
//! into the leader's WAL, over the wire, into the followers' WALs and to every state machine.
//!
//! ```text
//! 0        4        8               16              24              32       36       40
//! +--------+--------+---------------+---------------+---------------+--------+--------+
//! | crc    | length | group         | term          | first_index   | count  | kind   |
//! +--------+--------+---------------+---------------+---------------+--------+--------+
//! | ends: count x u32, the end of each payload, counted from the first payload's start |
//! +------------------------------------------------------------------------------------+
//! | payloads, back to back                                                             |
//! +------------------------------------------------------------------------------------+
//! ```
//!
//! All numbers are little-endian. `crc` is CRC-32 (IEEE) over the bytes `4..length`; `length` is
//! the whole block's, header included. The header is an rkyv archive with alignment 1, read in
//! place; [`Block::parse`] checks everything once (length, CRC, the table's order) and every later
//! access relies on that.

use std::ops::Range;

use bytes::{BufMut, Bytes};
use rkyv::Archive;

use crate::types::{GroupId, LogIndex, LogPosition, Term};

/// Bytes of a block before its table.
pub const BLOCK_HEADER_LEN: usize = size_of::<ArchivedHeader>();
const _: () = assert!(BLOCK_HEADER_LEN == 40);

/// What the entries of a block are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum BlockKind {
    /// Operations for the state machine.
    Operations = 0,
    /// One empty entry, appended by a new leader to commit the entries of earlier terms (Raft
    /// thesis, section 3.6.2). The state machine does not see it.
    Noop = 1,
}

#[derive(Archive)]
#[rkyv(archived = ArchivedHeader)]
#[allow(dead_code, reason = "only the archived form is ever built")]
struct Header {
    crc: u32,
    length: u32,
    group: u64,
    term: u64,
    first_index: u64,
    count: u32,
    kind: u32,
}

/// Why bytes are not a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Fewer bytes than the header or the header's length say.
    #[error("block is cut short: {have} bytes of {need}")]
    Short {
        /// Bytes at hand.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// The CRC over the block does not match.
    #[error("block checksum is {computed:#010x}, the header says {stored:#010x}")]
    Checksum {
        /// CRC of the bytes.
        computed: u32,
        /// CRC in the header.
        stored: u32,
    },
    /// The bytes contradict themselves although their checksum is right.
    #[error("malformed block: {0}")]
    Malformed(&'static str),
}

/// Payloads that stand back to back in memory, for [`Block::encode`].
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The payloads' bytes.
    pub payload: &'a [u8],
    /// The end of each payload, counted from the same origin as `base`.
    pub ends: &'a [u32],
    /// Where the first payload starts.
    pub base: u32,
}

/// A validated block. Cloning is a reference count.
#[derive(Clone)]
pub struct Block {
    bytes: Bytes,
    group: GroupId,
    term: Term,
    first_index: LogIndex,
    count: u32,
    kind: BlockKind,
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The length that a block's first bytes announce, for bounding a read before it is made.
///
/// # Errors
/// [`BlockError::Short`] when `bytes` does not hold the length, [`BlockError::Malformed`] when the
/// length is below the header's.
pub fn announced_len(bytes: &[u8]) -> Result<usize, BlockError> {
    if bytes.len() < 8 {
        return Err(BlockError::Short { have: bytes.len(), need: 8 });
    }
    let length = read_u32(bytes, 4) as usize;
    if length < BLOCK_HEADER_LEN {
        return Err(BlockError::Malformed("length below the header's"));
    }
    Ok(length)
}

impl Block {
    /// Takes the block that `bytes` holds, all of it and nothing else, and checks it.
    ///
    /// # Errors
    /// Says what is wrong; no byte of a refused block was used.
    pub fn parse(bytes: Bytes) -> Result<Self, BlockError> {
        let length = announced_len(&bytes)?;
        if bytes.len() < length {
            return Err(BlockError::Short { have: bytes.len(), need: length });
        }
        if bytes.len() > length {
            return Err(BlockError::Malformed("bytes after the block's end"));
        }
        let computed = crc32fast::hash(&bytes[4..]);
        let stored = read_u32(&bytes, 0);
        if computed != stored {
            return Err(BlockError::Checksum { computed, stored });
        }
        let header =
            rkyv::access::<ArchivedHeader, rkyv::rancor::Failure>(&bytes[..BLOCK_HEADER_LEN])
                .map_err(|_| BlockError::Malformed("header"))?;
        let kind = match header.kind.to_native() {
            0 => BlockKind::Operations,
            1 => BlockKind::Noop,
            _ => return Err(BlockError::Malformed("unknown kind")),
        };
        let block = Self {
            group: GroupId(header.group.to_native()),
            term: Term(header.term.to_native()),
            first_index: LogIndex(header.first_index.to_native()),
            count: header.count.to_native(),
            kind,
            bytes,
        };
        block.check_table()?;
        Ok(block)
    }

    fn check_table(&self) -> Result<(), BlockError> {
        if self.count == 0 || self.first_index.0 == 0 || self.term.0 == 0 {
            return Err(BlockError::Malformed("no entry, or index or term zero"));
        }
        if self.first_index.0.checked_add(u64::from(self.count)).is_none() {
            return Err(BlockError::Malformed("index overflows"));
        }
        let payloads = (self.count as usize)
            .checked_mul(4)
            .and_then(|table| BLOCK_HEADER_LEN.checked_add(table))
            .filter(|&start| start <= self.bytes.len())
            .map(|start| self.bytes.len() - start)
            .ok_or(BlockError::Malformed("table longer than the block"))?;
        let mut previous = 0;
        for end in self.ends() {
            if end < previous {
                return Err(BlockError::Malformed("payload ends before it starts"));
            }
            previous = end;
        }
        if previous as usize != payloads {
            return Err(BlockError::Malformed("payload bytes do not fill the block"));
        }
        Ok(())
    }

    fn ends(&self) -> impl Iterator<Item = u32> + '_ {
        let table = &self.bytes[BLOCK_HEADER_LEN..BLOCK_HEADER_LEN + 4 * self.count as usize];
        table.chunks_exact(4).map(|end| u32::from_le_bytes(end.try_into().expect("four bytes")))
    }

    /// Encodes the payloads of all `runs` as the entries from `first` on. This copy of the payloads
    /// is the only one that the leader makes outside the WAL's write buffer.
    ///
    /// The block has memory of its own, exactly as much as it needs: blocks that shared a larger
    /// piece would keep all of it alive as long as the slowest peer of any of their groups wants
    /// one of them.
    ///
    /// # Panics
    /// When the runs hold no payload, or more than a block can: 4 GiB, or 2^32 - 1 entries.
    #[must_use]
    pub fn encode<'a>(
        group: GroupId,
        first: LogPosition,
        kind: BlockKind,
        runs: impl IntoIterator<Item = Run<'a>, IntoIter: Clone>,
    ) -> Self {
        let runs = runs.into_iter();
        let (count, payload) = runs.clone().fold((0, 0), |(count, bytes), run| {
            (count + run.ends.len(), bytes + run.payload.len())
        });
        let length = BLOCK_HEADER_LEN + 4 * count + payload;
        assert!(count > 0, "a block holds at least one entry");
        let count = u32::try_from(count).expect("entries fit 32 bits");
        let length32 = u32::try_from(length).expect("a block is below 4 GiB");
        let mut bytes = Vec::with_capacity(length);
        bytes.put_u32_le(0);
        bytes.put_u32_le(length32);
        bytes.put_u64_le(group.0);
        bytes.put_u64_le(first.term.0);
        bytes.put_u64_le(first.index.0);
        bytes.put_u32_le(count);
        bytes.put_u32_le(kind as u32);
        let mut origin = 0u32;
        for run in runs.clone() {
            let shift = origin.wrapping_sub(run.base);
            run.ends.iter().for_each(|end| bytes.put_u32_le(end.wrapping_add(shift)));
            origin += run.payload.len() as u32;
        }
        runs.for_each(|run| bytes.put_slice(run.payload));
        let crc = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        let bytes = Bytes::from(bytes);
        Self { bytes, group, term: first.term, first_index: first.index, count, kind }
    }

    /// The empty entry of a new leader.
    #[must_use]
    pub fn noop(group: GroupId, at: LogPosition) -> Self {
        let run = Run { payload: &[], ends: &[0], base: 0 };
        Self::encode(group, at, BlockKind::Noop, [run])
    }

    /// The encoded block.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The CRC in the header: it identifies the block's bytes.
    #[must_use]
    pub fn crc(&self) -> u32 {
        read_u32(&self.bytes, 0)
    }

    /// The group whose log the block belongs to.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The term of every entry in the block.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// What the entries are.
    #[must_use]
    pub fn kind(&self) -> BlockKind {
        self.kind
    }

    /// Index of the first entry.
    #[must_use]
    pub fn first_index(&self) -> LogIndex {
        self.first_index
    }

    /// Index of the last entry.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.first_index.0 + u64::from(self.count) - 1)
    }

    /// The last entry's index and term.
    #[must_use]
    pub fn last_position(&self) -> LogPosition {
        LogPosition { index: self.last_index(), term: self.term }
    }

    /// Number of entries, at least one.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the encoded block.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// All payloads back to back, and the end of each within them.
    #[must_use]
    pub fn payloads(&self) -> (&[u8], impl ExactSizeIterator<Item = u32> + '_) {
        let start = BLOCK_HEADER_LEN + 4 * self.count as usize;
        let table = &self.bytes[BLOCK_HEADER_LEN..start];
        let ends = table
            .chunks_exact(4)
            .map(|end| u32::from_le_bytes(end.try_into().expect("four bytes")));
        (&self.bytes[start..], ends)
    }

    fn payload_range(&self, offset: usize) -> Range<usize> {
        let table = &self.bytes[BLOCK_HEADER_LEN..];
        let base = BLOCK_HEADER_LEN + 4 * self.count as usize;
        let start = if offset == 0 { 0 } else { read_u32(table, 4 * (offset - 1)) as usize };
        base + start..base + read_u32(table, 4 * offset) as usize
    }

    /// The payload of the entry at `index`.
    ///
    /// # Panics
    /// When the block does not hold `index`.
    #[must_use]
    pub fn payload(&self, index: LogIndex) -> &[u8] {
        assert!(self.first_index <= index && index <= self.last_index(), "index outside the block");
        &self.bytes[self.payload_range((index.0 - self.first_index.0) as usize)]
    }

    /// The same entries between two indices, both included, as a block of their own: the block
    /// itself when the range covers it, otherwise newly encoded.
    ///
    /// # Panics
    /// When the block does not hold the whole range.
    #[must_use]
    pub fn slice(&self, first: LogIndex, last: LogIndex) -> Self {
        assert!(self.first_index <= first && first <= last && last <= self.last_index());
        if first == self.first_index && last == self.last_index() {
            return self.clone();
        }
        let offset = (first.0 - self.first_index.0) as usize;
        let count = (last.0 - first.0 + 1) as usize;
        let from = self.payload_range(offset).start;
        let ends: Vec<u32> =
            (offset..offset + count).map(|i| (self.payload_range(i).end - from) as u32).collect();
        let to = self.payload_range(offset + count - 1).end;
        let run = Run { payload: &self.bytes[from..to], ends: &ends, base: 0 };
        let at = LogPosition { index: first, term: self.term };
        Self::encode(self.group, at, self.kind, [run])
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Block({:?} group {} term {} [{}..={}] {} B)",
            self.kind,
            self.group,
            self.term,
            self.first_index,
            self.last_index(),
            self.len()
        )
    }
}

impl PartialEq for Block {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Block {}
