//! Memory for blocks that don't lie within the [`Block`](super::Block) and aren't long.
//!
//! A shard with a thousand groups has some thousand blocks in flight: far more than an allocator
//! keeps at hand per size, so that it would take apart and join its memory for each of them. A
//! thread keeps the memory of the pieces that it let go, up to a bound, and uses it again.

use std::cell::RefCell;
use std::ops::Deref;

use crate::prefetch::prefetch;

/// Sizes are multiples of this: little is wasted, and few kinds are kept.
const STEP: usize = 128;
/// The longest piece.
pub(super) const MAX_LEN: usize = 1024;
/// Bytes that a thread keeps of one size, at most.
const KEPT_BYTES: usize = 1 << 20;

static ZEROS: [u8; MAX_LEN] = [0; MAX_LEN];

type Kept = [Vec<Box<[u8]>>; MAX_LEN / STEP];

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new([const { Vec::new() }; MAX_LEN / STEP]) };
}

/// Bytes that do not change any more. A clone is a copy: nothing that happens to every block makes
/// one, and a count of who has the bytes would make every block wait, when it is made and when it is
/// dropped, until the CPU has got rid of all that it wrote before.
/// There may be more of them than were asked for.
pub(super) struct Piece {
    /// Always there, but for the moment in which it is dropped.
    memory: Option<Box<[u8]>>,
}

impl Piece {
    /// Has `fill` write `len` bytes, all of them: at most [`MAX_LEN`], and not none.
    #[inline]
    pub(super) fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let mut memory = take(len);
        fill(&mut memory[..len]);
        Self { memory: Some(memory) }
    }
}

impl Clone for Piece {
    fn clone(&self) -> Self {
        Self::filled(self.len(), |bytes| bytes.copy_from_slice(self))
    }
}

// Not inlined, like its counterpart: blocks are made and dropped in many places, and most of them
// have no piece.
#[inline(never)]
fn take(len: usize) -> Box<[u8]> {
    let class = (len - 1) / STEP;
    let from_kept = |kept: &RefCell<Kept>| {
        let kept = &mut kept.borrow_mut()[class];
        let memory = kept.pop();
        // The next block is likely to be as long.
        if let Some(next) = kept.last() {
            prefetch(&**next, MAX_LEN);
        }
        memory
    };
    // While a thread ends, what it kept may be gone already.
    let kept = KEPT.try_with(from_kept).ok().flatten();
    kept.unwrap_or_else(|| Box::from(&ZEROS[..(class + 1) * STEP]))
}

impl Deref for Piece {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or_default()
    }
}

impl Drop for Piece {
    #[inline]
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            let_go(memory);
        }
    }
}

#[inline(never)]
fn let_go(memory: Box<[u8]>) {
    let _ = KEPT.try_with(|kept| {
        let kept = &mut kept.borrow_mut()[memory.len() / STEP - 1];
        if kept.len() < KEPT_BYTES / memory.len() {
            kept.push(memory);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(len: usize) -> Piece {
        Piece::filled(len, |bytes| bytes.fill(len as u8))
    }

    #[test]
    fn memory_is_used_again_and_never_shared() {
        for len in [1, STEP, STEP + 1, MAX_LEN] {
            let first = piece(len);
            let place = first.as_ptr();
            let second = first.clone();
            assert_ne!(second.as_ptr(), place, "it is in use");
            drop(first);
            assert_eq!(piece(len).as_ptr(), place);
            assert_eq!(second[..len], vec![len as u8; len]);
        }
    }

    #[test]
    fn a_thread_keeps_no_more_than_the_bound() {
        let many: Vec<_> = (0..2 * KEPT_BYTES / MAX_LEN).map(|_| piece(MAX_LEN)).collect();
        drop(many);
        let kept = KEPT.with(|kept| kept.borrow()[MAX_LEN / STEP - 1].len());
        assert_eq!(kept * MAX_LEN, KEPT_BYTES);
    }
}
