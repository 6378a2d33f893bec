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
//!
//! A block of one small operation, 63 bytes at most, is kept within the [`Block`] itself; one of up
//! to 1 KiB in memory of its own; a longer one as [`Bytes`], which the log, the network and the state
//! machine share with it.

mod layout;
mod pool;
mod storage;

use std::ops::Range;

use bytes::{Buf, Bytes};

use crate::types::{GroupId, LogIndex, LogPosition, Term};
use layout::{Header, at, check, ends, put, read_u32, seal};
use storage::Storage;

pub(crate) use storage::{INLINE_LEN, OWNED_LEN};

pub use layout::BLOCK_HEADER_LEN;

/// What the entries of a block are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockKind {
    /// Operations for the state machine.
    Operations = 0,
    /// One empty entry, appended by a new leader to commit the entries of earlier terms (Raft
    /// thesis, section 3.6.2). The state machine does not see it.
    Noop = 1,
    /// One entry that says who the group's members are from there on. Its payload is the owner's;
    /// recovery hands these blocks over (see [`RecoveredGroup`](crate::RecoveredGroup)). The state
    /// machine does not see them among its operations.
    Configuration = 2,
}

impl BlockKind {
    /// The kind that a header's number names.
    #[inline]
    fn of(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Operations),
            1 => Some(Self::Noop),
            2 => Some(Self::Configuration),
            _ => None,
        }
    }
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

/// A validated block. Cloning one is a copy of 1 KiB at most, and a reference count if it is longer
/// than that.
#[derive(Clone)]
pub struct Block(Storage);

/// The length that a block's first bytes announce, for bounding a read before it is made.
///
/// # Errors
/// [`BlockError::Short`] when `bytes` does not hold the length, [`BlockError::Malformed`] when the
/// length is below the header's.
pub fn announced_len(bytes: &[u8]) -> Result<usize, BlockError> {
    if bytes.len() < 8 {
        return Err(BlockError::Short { have: bytes.len(), need: 8 });
    }
    let length = read_u32(bytes, at::LENGTH) as usize;
    if length < BLOCK_HEADER_LEN {
        return Err(BlockError::Malformed("length below the header's"));
    }
    Ok(length)
}

impl Block {
    /// Takes the block that `bytes` holds, all of it and nothing else, and checks it. A small one
    /// is copied and lets go of `bytes`.
    ///
    /// # Errors
    /// Says what is wrong; no byte of a refused block was used.
    pub fn parse(bytes: Bytes) -> Result<Self, BlockError> {
        check(&bytes)?;
        let inline = bytes.len() <= INLINE_LEN;
        Ok(Self(if inline { Storage::copied(&bytes) } else { Storage::shared(bytes) }))
    }

    /// Takes the block that `bytes` begins with off it, and checks it. One of up to 1 KiB is copied:
    /// it may be kept for long, and must not keep a whole receive buffer in memory.
    ///
    /// # Errors
    /// Says what is wrong; no byte of a refused block was used or taken off.
    #[inline(always)]
    pub fn take(bytes: &mut Bytes) -> Result<Self, BlockError> {
        let length = announced_len(bytes)?;
        let Some(block) = bytes.get(..length) else {
            return Err(BlockError::Short { have: bytes.len(), need: length });
        };
        check(block)?;
        if length > OWNED_LEN {
            return Ok(Self(Storage::shared(bytes.split_to(length))));
        }
        let storage = Storage::copied_from(bytes, length);
        bytes.advance(length);
        Ok(Self(storage))
    }

    /// Encodes the payloads of all `runs` as the entries from `first` on. This copy of the payloads
    /// is the only one that the leader makes outside the WAL's write buffer.
    ///
    /// The block has memory of its own, no more than it needs: blocks that shared a larger
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
        let (group, term, first_index) = (group.0, first.term.0, first.index.0);
        let header = Header { group, term, first_index, count, kind };
        Self(Storage::filled(length, |bytes| {
            put(bytes, length32, &header, runs);
            seal(bytes);
        }))
    }

    /// The empty entry of a new leader.
    #[must_use]
    pub fn noop(group: GroupId, at: LogPosition) -> Self {
        let run = Run { payload: &[], ends: &[0], base: 0 };
        Self::encode(group, at, BlockKind::Noop, [run])
    }

    /// The entry that says who the group's members are.
    #[must_use]
    pub fn configuration(group: GroupId, at: LogPosition, payload: &[u8]) -> Self {
        let end = u32::try_from(payload.len()).expect("a configuration is small");
        Self::encode(group, at, BlockKind::Configuration, [Run { payload, ends: &[end], base: 0 }])
    }

    /// The encoded block.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// The memory within the block, if that holds the encoded block, and how much of it does.
    #[inline]
    pub(crate) fn inline(&self) -> Option<(&[u8; INLINE_LEN], usize)> {
        self.0.inline()
    }

    /// The encoded block: its own memory if it is a long one, otherwise a copy.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        match &self.0 {
            Storage::Shared { bytes, .. } => Bytes::clone(bytes),
            _ => Bytes::copy_from_slice(self.as_bytes()),
        }
    }

    /// The same block with memory of its own: one out of a large buffer keeps all of that in memory.
    #[must_use]
    pub fn detached(&self) -> Self {
        match &self.0 {
            Storage::Shared { bytes, .. } => Self(Storage::copied(bytes)),
            _ => self.clone(),
        }
    }

    /// The CRC in the header: it identifies the block's bytes.
    #[must_use]
    #[inline]
    pub fn crc(&self) -> u32 {
        self.0.crc()
    }

    /// The group whose log the block belongs to.
    #[must_use]
    #[inline]
    pub fn group(&self) -> GroupId {
        GroupId(self.0.group())
    }

    /// The term of every entry in the block.
    #[must_use]
    #[inline]
    pub fn term(&self) -> Term {
        Term(self.0.term())
    }

    /// What the entries are.
    #[must_use]
    #[inline]
    pub fn kind(&self) -> BlockKind {
        self.0.kind()
    }

    /// Index of the first entry.
    #[must_use]
    #[inline]
    pub fn first_index(&self) -> LogIndex {
        LogIndex(self.0.first_index())
    }

    /// Index of the last entry.
    #[must_use]
    #[inline]
    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.0.first_index() + u64::from(self.0.count()) - 1)
    }

    /// The last entry's index and term.
    #[must_use]
    #[inline]
    pub fn last_position(&self) -> LogPosition {
        LogPosition { index: self.last_index(), term: self.term() }
    }

    /// Number of entries, at least one.
    #[must_use]
    #[inline]
    pub fn count(&self) -> u32 {
        self.0.count()
    }

    /// Bytes of the encoded block.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a block is never empty")]
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All payloads back to back, and the end of each within them.
    #[must_use]
    #[inline]
    pub fn payloads(&self) -> (&[u8], impl ExactSizeIterator<Item = u32> + '_) {
        let (table, payloads) =
            self.as_bytes()[BLOCK_HEADER_LEN..].split_at(4 * self.count() as usize);
        (payloads, ends(table))
    }

    fn payload_range(&self, offset: usize) -> Range<usize> {
        let table = &self.as_bytes()[BLOCK_HEADER_LEN..];
        let base = BLOCK_HEADER_LEN + 4 * self.count() as usize;
        let start = if offset == 0 { 0 } else { read_u32(table, 4 * (offset - 1)) as usize };
        base + start..base + read_u32(table, 4 * offset) as usize
    }

    /// The payload of the entry at `index`.
    ///
    /// # Panics
    /// When the block does not hold `index`.
    #[must_use]
    #[inline]
    pub fn payload(&self, index: LogIndex) -> &[u8] {
        assert!(
            self.first_index() <= index && index <= self.last_index(),
            "index outside the block"
        );
        &self.as_bytes()[self.payload_range((index.0 - self.first_index().0) as usize)]
    }

    /// The same entries between two indices, both included, as a block of their own: the block
    /// itself when the range covers it, otherwise newly encoded.
    ///
    /// # Panics
    /// When the block does not hold the whole range.
    #[must_use]
    pub fn slice(&self, first: LogIndex, last: LogIndex) -> Self {
        assert!(self.first_index() <= first && first <= last && last <= self.last_index());
        if first == self.first_index() && last == self.last_index() {
            return self.clone();
        }
        let offset = (first.0 - self.first_index().0) as usize;
        let count = (last.0 - first.0 + 1) as usize;
        let from = self.payload_range(offset).start;
        let ends: Vec<u32> =
            (offset..offset + count).map(|i| (self.payload_range(i).end - from) as u32).collect();
        let to = self.payload_range(offset + count - 1).end;
        let run = Run { payload: &self.as_bytes()[from..to], ends: &ends, base: 0 };
        let at = LogPosition { index: first, term: self.term() };
        Self::encode(self.group(), at, self.kind(), [run])
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Block({:?} group {} term {} [{}..={}] {} B)",
            self.kind(),
            self.group(),
            self.term(),
            self.first_index(),
            self.last_index(),
            self.len()
        )
    }
}

impl PartialEq for Block {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Block {}
