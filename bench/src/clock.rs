//! One clock for all processes of a run.

use std::time::Duration;

/// Nanoseconds of `CLOCK_MONOTONIC`: the same for every process of the machine, unlike an
/// `Instant`, which cannot travel.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes; this clock always exists on Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sleeps until `at`; returns at once when that is past.
pub(crate) fn sleep_until(at: u64) {
    let left = at.saturating_sub(now());
    if left > 0 {
        std::thread::sleep(Duration::from_nanos(left));
    }
}

/// Lets this thread's timers fire within a microsecond instead of the default 50.
pub(crate) fn tighten_timers() {
    // SAFETY: no pointers; a refusal leaves the default slack, which is only less precise.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
}
