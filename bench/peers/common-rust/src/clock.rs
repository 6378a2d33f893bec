//! The node's monotonic clock.

use std::sync::LazyLock;
use std::time::Instant;

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the first call.
pub(crate) fn now() -> u64 {
    ORIGIN.elapsed().as_nanos() as u64
}

/// Makes the calling thread's sleeps end when they are due, not 50 µs later as by default: an open
/// loop's operations are due at given moments.
pub(crate) fn tighten_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes a number and touches no memory. It can't fail for a thread
    // of normal scheduling, and if it did, sleeps would be less exact.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_usize) };
}
