//! Encoded blocks back to back, on their way into a disk write or a frame.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::block::{Block, INLINE_LEN, OWNED_LEN};

/// Collects blocks as few pieces of memory: a thousand small blocks are a few pieces, not a thousand.
///
/// Blocks up to 1 KiB are copied behind one another; longer ones stay where they are and become a
/// part of their own. A part (reference count, place in a list, a piece of a gathering write) costs
/// about what copying that much does.
#[derive(Debug, Default)]
pub struct Gather {
    parts: Vec<Bytes>,
    /// The copied blocks behind the last part.
    tail: BytesMut,
    /// Whether that is in a chunk of those that the thread uses again.
    in_chunk: bool,
    len: usize,
}

impl Gather {
    /// An empty one, with room for copies of `bytes` bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        // The last one is copied with what lies behind it; see `push`.
        let (tail, in_chunk) = memory_for(bytes + INLINE_LEN);
        Self { parts: Vec::new(), tail, in_chunk, len: 0 }
    }

    /// Adds a block behind all others.
    // Always inlined: to call it would cost half as much as it does.
    #[inline(always)]
    pub fn push(&mut self, block: &Block) {
        self.len += block.len();
        if let Some((bytes, len)) = block.inline() {
            self.make_room(INLINE_LEN);
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
            self.make_room(block.len());
            self.tail.extend_from_slice(block.as_bytes());
        } else {
            self.seal_tail();
            self.parts.push(block.bytes());
        }
    }

    #[inline(always)]
    fn make_room(&mut self, bytes: usize) {
        if self.tail.capacity() - self.tail.len() < bytes {
            self.renew_tail();
        }
    }

    #[cold]
    fn renew_tail(&mut self) {
        self.seal_tail();
        let (tail, in_chunk) = memory_for(self.len.max(SMALL));
        let spent = std::mem::replace(&mut self.tail, tail);
        if std::mem::replace(&mut self.in_chunk, in_chunk) {
            keep(spent);
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

impl Drop for Gather {
    fn drop(&mut self) {
        if self.in_chunk {
            keep(std::mem::take(&mut self.tail));
        }
    }
}

/// A batch of a thousand groups takes some of these. Memory of the size of what was gathered before
/// would have to grow, and the allocator would get it from the kernel, page by page, and give it
/// back, each time.
const CHUNK: usize = 64 << 10;
/// What has become no longer than this takes no chunk: a frame that waits for a slow peer is to hold
/// little more than its own bytes.
const SMALL: usize = 4 << 10;
/// Chunks that a thread keeps at most.
const KEPT: usize = 64;
/// So many of them are looked at for one that nobody uses any more.
const LOOKED_AT: usize = 4;

const _: () = assert!(SMALL >= OWNED_LEN && SMALL > INLINE_LEN);

thread_local! {
    /// The ends of chunks whose beginnings are written or sent at present, or were, oldest first.
    static CHUNKS: RefCell<VecDeque<BytesMut>> = const { RefCell::new(VecDeque::new()) };
}

/// Memory for what is expected to be `bytes` long, and whether it is a chunk.
fn memory_for(bytes: usize) -> (BytesMut, bool) {
    if bytes <= SMALL {
        return (BytesMut::with_capacity(bytes), false);
    }
    // While a thread ends, what it kept may be gone already.
    let used = CHUNKS.try_with(|chunks| {
        let chunks = &mut *chunks.borrow_mut();
        let free = chunks.iter_mut().take(LOOKED_AT).position(|chunk| chunk.try_reclaim(CHUNK))?;
        chunks.remove(free)
    });
    (used.ok().flatten().unwrap_or_else(|| BytesMut::with_capacity(CHUNK)), true)
}

/// Keeps a chunk for when nobody holds anything in it any more.
fn keep(mut chunk: BytesMut) {
    chunk.clear();
    let _ = CHUNKS.try_with(|chunks| {
        let chunks = &mut *chunks.borrow_mut();
        if chunks.len() < KEPT {
            chunks.push_back(chunk);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockKind, Run};
    use crate::types::{GroupId, LogIndex, LogPosition, Term};

    fn block(index: u64, len: usize) -> Block {
        let at = LogPosition { index: LogIndex(index), term: Term(1) };
        let run = Run { payload: &vec![index as u8; len], ends: &[len as u32], base: 0 };
        Block::encode(GroupId(1), at, BlockKind::Operations, [run])
    }

    #[test]
    fn many_blocks_fill_many_pieces_that_are_used_again_when_nobody_holds_them() {
        let mut held = Vec::new();
        for round in 0..20 {
            let mut gather = Gather::with_capacity(if round % 2 == 0 { 0 } else { 3 * CHUNK });
            let (mut bytes, mut parts) = (Vec::new(), Vec::new());
            for index in 1..2000 {
                let block = block(index, [8, 16, 400, 40][index as usize % 4]);
                bytes.extend_from_slice(block.as_bytes());
                gather.push(&block);
            }
            assert_eq!(gather.len(), bytes.len());
            gather.take(&mut parts);
            assert_eq!(parts.concat(), bytes);
            // Two small ones come first, where little was expected.
            let chunks = bytes.len().div_ceil(CHUNK - OWNED_LEN);
            assert!(parts.len() <= 2 + chunks, "{} parts", parts.len());
            held.push((parts, bytes));
            if held.len() > 3 {
                let (parts, bytes) = held.remove(0);
                assert_eq!(parts.concat(), bytes, "what is held stays as it is");
            }
        }
        let kept = CHUNKS.with(|chunks| chunks.borrow().len());
        assert!(kept <= 4 * 8, "{kept} chunks for what four rounds hold");
    }

    #[test]
    fn small_blocks_share_a_part_and_the_order_is_kept() {
        let mut gather = Gather::default();
        let mut bytes = Vec::new();
        for (index, len) in (1..).zip([16, 5000, 16, 300, 2000, 5000, 0]) {
            let block = block(index, len);
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
