//! Encoded blocks back to back, on their way into a disk write or a frame.

use bytes::{Bytes, BytesMut};

use crate::block::{Block, INLINE_LEN, OWNED_LEN};

/// Collects blocks as few pieces of memory: a thousand small blocks are one piece, not a thousand.
///
/// Blocks up to 1 KiB are copied behind one another; longer ones stay where they are and become a
/// part of their own. A part (reference count, place in a list, a piece of a gathering write) costs
/// about what copying that much does.
#[derive(Debug, Default)]
pub struct Gather {
    parts: Vec<Bytes>,
    /// The copied blocks behind the last part.
    tail: BytesMut,
    len: usize,
}

impl Gather {
    /// An empty one, with room for copies of `bytes` bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        // The last one is copied with what lies behind it; see `push`.
        let tail = BytesMut::with_capacity(bytes + INLINE_LEN);
        Self { parts: Vec::new(), tail, len: 0 }
    }

    /// Adds a block behind all others.
    // Always inlined: to call it would cost half as much as it does.
    #[inline(always)]
    pub fn push(&mut self, block: &Block) {
        self.len += block.len();
        if let Some((bytes, len)) = block.inline() {
            // A copy of a length that the compiler knows is a few instructions.
            let end = self.tail.len() + len;
            self.tail.extend_from_slice(bytes);
            self.tail.truncate(end);
        } else {
            self.push_longer(block);
        }
    }

    #[inline(never)]
    fn push_longer(&mut self, block: &Block) {
        if block.len() <= OWNED_LEN {
            self.tail.extend_from_slice(block.as_bytes());
        } else {
            self.seal_tail();
            self.parts.push(block.bytes());
        }
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push(self.tail.split().freeze());
        }
    }

    /// Bytes of all blocks.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends the blocks' bytes to `parts`, in order, and is empty afterwards.
    pub fn take(&mut self, parts: &mut Vec<Bytes>) {
        self.seal_tail();
        self.len = 0;
        parts.append(&mut self.parts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockKind, Run};
    use crate::types::{GroupId, LogIndex, LogPosition, Term};

    #[test]
    fn small_blocks_share_a_part_and_the_order_is_kept() {
        let mut gather = Gather::default();
        let mut bytes = Vec::new();
        for (index, len) in (1..).zip([16, 5000, 16, 300, 2000, 5000, 0]) {
            let at = LogPosition { index: LogIndex(index), term: Term(1) };
            let run = Run { payload: &vec![index as u8; len], ends: &[len as u32], base: 0 };
            let block = Block::encode(GroupId(1), at, BlockKind::Operations, [run]);
            bytes.extend_from_slice(block.as_bytes());
            gather.push(&block);
        }
        assert_eq!(gather.len(), bytes.len());
        let mut parts = vec![Bytes::from_static(b"before")];
        gather.take(&mut parts);
        assert_eq!(parts.len(), 1 + 6);
        assert_eq!(parts[1..].concat(), bytes);
        assert!(gather.is_empty());
        gather.take(&mut parts);
        assert_eq!(parts.len(), 1 + 6);
    }
}
