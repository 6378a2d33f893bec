//! The processor's time of a shard's thread, by what it went into.

use std::time::Duration;

use crate::report::Stages;

/// Counts only where [`stage_times`](crate::EngineConfig::stage_times) is set: the clock is a system
/// call.
pub(super) struct StageClock {
    counts: bool,
    /// When the last stage ended, by the thread's own clock.
    last: Duration,
    spent: Stages,
}

impl StageClock {
    pub(super) fn new(counts: bool) -> Self {
        Self { counts, last: thread_time(), spent: Stages::default() }
    }

    /// A stage ends; the next one begins.
    #[inline]
    pub(super) fn end(&mut self, of: impl FnOnce(&mut Stages) -> &mut Duration) {
        if self.counts {
            let now = thread_time();
            *of(&mut self.spent) += now.saturating_sub(self.last);
            self.last = now;
        }
    }

    pub(super) fn spent(&self) -> Stages {
        self.spent
    }
}

/// How long this thread has run, in user space and in the kernel.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes; the clock exists on every Linux that has io_uring.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
