//! The engine's pulse: a thread that wakes every shard a few hundred times a second, or some twenty
//! times while nothing happens there.
//!
//! It is the shards' clock. A shard in which nothing happens and nothing is due soon has no need of
//! a fine one: it [dozes](super::doze), and is only *shaken*. When all doze, the pulse sleeps from one
//! shake to the next.
//!
//! A shake is more than a beat: an executor that is preempted between looking at its rings and
//! running its first task goes to sleep although tasks are runnable
//! (`LocalExecutor::run_task_queues` of glommio 0.12), the task that listens to the doorbell among
//! them, and a timer does not help either: the task that would arm it again may be the one that
//! sleeps. A waker that another thread calls always gets through, because the executor arms the
//! eventfd for it before it checks for preemption.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use crate::inbox::Inbox;

/// How often time passes for a shard that does not doze. It bounds how late a timeout is noticed.
pub(super) const BEAT: Duration = Duration::from_millis(5);

/// Every so many beats a shard is woken by its waker and not by its doorbell. It bounds how long an
/// executor sleeps with work left.
const BEATS_PER_SHAKE: u32 = 10;

/// How often time passes for a shard that dozes: 50 ms.
pub(super) const SHAKE: Duration = BEAT.saturating_mul(BEATS_PER_SHAKE);

/// Where a shard feels the pulse.
#[derive(Clone, Default)]
pub(crate) struct Wrist(Arc<Felt>);

#[derive(Default)]
struct Felt {
    waker: OnceLock<Waker>,
    dozes: AtomicBool,
    /// The thread whose pulse it is.
    pulse: OnceLock<Thread>,
}

impl Wrist {
    /// Whether shakes are enough from now on.
    pub(super) fn doze(&self, dozes: bool) {
        self.0.dozes.store(dozes, Ordering::Release);
        if let Some(pulse) = self.0.pulse.get()
            && !dozes
        {
            pulse.unpark();
        }
    }

    fn dozes(&self) -> bool {
        self.0.dozes.load(Ordering::Acquire)
    }

    /// Has the pulse wake the task that awaits this, whatever it waits for, from now on. The executor
    /// must not have slept before: nothing would wake it.
    pub(super) async fn feel(&self) {
        poll_fn(|context| {
            // The waker of a task stays the same for its whole life.
            self.0.waker.get_or_init(|| context.waker().clone());
            Poll::Ready(())
        })
        .await;
    }
}

/// The running thread; dropping it stops it.
pub(crate) struct Pulse {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    /// # Errors
    /// When the thread cannot be made.
    pub(crate) fn start(inboxes: Vec<Arc<Inbox>>, wrists: Vec<Wrist>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let beat = move || {
            let thread = std::thread::current();
            wrists.iter().for_each(|wrist| drop(wrist.0.pulse.set(thread.clone())));
            let mut beats = 0;
            while !stopped.load(Ordering::Acquire) {
                if beats == 0 {
                    beats = BEATS_PER_SHAKE;
                    let wakers = wrists.iter().filter_map(|wrist| wrist.0.waker.get());
                    wakers.for_each(Waker::wake_by_ref);
                } else {
                    let awake = wrists.iter().zip(&inboxes).filter(|(wrist, _)| !wrist.dozes());
                    awake.for_each(|(_, inbox)| inbox.doorbell().ring());
                }
                // Who ends a doze while the pulse sleeps wakes it, and one that it has not seen yet
                // makes it wake at once.
                let sleeps = if wrists.iter().all(Wrist::dozes) { beats } else { 1 };
                std::thread::park_timeout(BEAT * sleeps);
                beats -= sleeps;
            }
        };
        let thread = std::thread::Builder::new().name("ringleader-pulse".into()).spawn(beat)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to say, and a panic in it has been printed.
            let _ = thread.join();
        }
    }
}
