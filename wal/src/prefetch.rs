//! Asking for memory before it is needed.

/// Bytes that the CPU fetches together.
const LINE: usize = 64;

/// Has the CPU fetch the first `bytes` of `place` into its cache, without waiting for them.
///
/// A turn goes through the groups that something happened to, one after another. A thousand of them
/// do not stay in the cache, and what each needs is spread over a few places of its own: waiting for
/// memory is most of what a small operation costs, unless the next groups' memory is on its way
/// while this one is worked on.
#[inline(always)]
#[allow(clippy::inline_always, reason = "the loop has a constant length where it is inlined")]
pub fn prefetch<T: ?Sized>(place: &T, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = std::ptr::from_ref(place).cast::<i8>();
        let bytes = bytes.min(size_of_val(place));
        // Not with `step_by`, whose loops are not unrolled.
        let mut at = 0;
        while at < bytes {
            // SAFETY: `at` is within `place`, and a prefetch does nothing that a program can see.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(at)) };
            at += LINE;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (place, bytes, LINE);
}
