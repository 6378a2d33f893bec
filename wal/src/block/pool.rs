//! Memory for blocks that don't lie within the [`Block`](super::Block).
//!
//! A shard with a thousand groups has some thousand blocks in flight: far more than an allocator
//! keeps at hand per size, so that it would take apart and join its memory for each of them. And
//! what it is given back of large pieces it returns to the kernel, which has to find and clear every
//! page of the next one. A thread keeps the memory that it let go, up to a bound, and uses it again.

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

/// Bytes that a thread keeps of what long blocks had, at most.
const KEPT_LONG_BYTES: usize = 16 << 20;
/// So many pieces of those are looked at for one of the right size.
const LOOKED_AT: usize = 16;

#[derive(Default)]
struct KeptLong {
    /// The one let go last is at the end.
    pieces: Vec<Box<[u8]>>,
    bytes: usize,
}

thread_local! {
    static KEPT_LONG: RefCell<KeptLong> = RefCell::default();
}

/// The bytes of a block above [`MAX_LEN`].
pub(super) struct Long {
    memory: Box<[u8]>,
    len: usize,
}

impl Long {
    /// Has `fill` write `len` bytes, all of them.
    pub(super) fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        // In steps of an eighth to a quarter, so that the next one that is about as long fits.
        let rounded = || len.next_multiple_of(len.next_power_of_two() / 8);
        let mut memory = take_long(len).unwrap_or_else(|| vec![0; rounded()].into());
        fill(&mut memory[..len]);
        Self { memory, len }
    }
}

impl AsRef<[u8]> for Long {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl Drop for Long {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let _ = KEPT_LONG.try_with(|kept| {
            let kept = &mut *kept.borrow_mut();
            if kept.bytes + memory.len() <= KEPT_LONG_BYTES {
                kept.bytes += memory.len();
                kept.pieces.push(memory);
            }
        });
    }
}

/// Memory for `len` bytes of which no more than half would lie idle.
fn take_long(len: usize) -> Option<Box<[u8]>> {
    let from_kept = |kept: &RefCell<KeptLong>| {
        let kept = &mut *kept.borrow_mut();
        let last = kept.pieces.iter().enumerate().rev().take(LOOKED_AT);
        let fits = |piece: &[u8]| piece.len() >= len && piece.len() / 2 <= len;
        let (at, _) = last.into_iter().find(|(_, piece)| fits(piece))?;
        let memory = kept.pieces.swap_remove(at);
        kept.bytes -= memory.len();
        Some(memory)
    };
    KEPT_LONG.try_with(from_kept).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_long_blocks_is_used_again_if_it_fits() {
        let long = |len: usize| Long::filled(len, |bytes| bytes.fill(len as u8));
        let first = long(8000);
        let place = first.as_ref().as_ptr();
        let second = long(8000);
        assert_ne!(second.as_ref().as_ptr(), place, "it is in use");
        drop(first);
        let (small, large) = (long(2000), long(9000));
        assert_ne!(small.as_ref().as_ptr(), place, "it is much too large");
        assert_ne!(large.as_ref().as_ptr(), place, "it is too short");
        let third = long(7000);
        assert_eq!(third.as_ref().as_ptr(), place);
        assert_eq!(third.as_ref(), vec![7000usize as u8; 7000]);
    }

    #[test]
    fn a_thread_keeps_no_more_of_long_blocks_than_the_bound() {
        let many: Vec<_> = (0..9).map(|_| Long::filled(KEPT_LONG_BYTES / 8, |_| {})).collect();
        drop(many);
        let (bytes, pieces) =
            KEPT_LONG.with_borrow(|kept| (kept.bytes, kept.pieces.iter().map(|p| p.len()).sum()));
        assert_eq!((bytes, pieces), (KEPT_LONG_BYTES, KEPT_LONG_BYTES));
    }

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
