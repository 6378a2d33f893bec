//! The engine's pulse: a thread that wakes every shard a few hundred times a second.
//!
//! It is the shards' clock. And once in a while it is more: an executor that is preempted between
//! looking at its rings and running its first task goes to sleep although tasks are runnable
//! (`LocalExecutor::run_task_queues` of glommio 0.12), the task that listens to the doorbell among
//! them, and a timer does not help either: the task that would arm it again may be the one that
//! sleeps. A waker that another thread calls always gets through, because the executor arms the
//! eventfd for it before it checks for preemption.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use super::notify::Notify;
use crate::inbox::Inbox;

/// How often time passes for a shard. It bounds how late a timeout is noticed.
pub(super) const BEAT: Duration = Duration::from_millis(5);

/// Every so many beats a shard is woken by its waker and not by its doorbell. It bounds how long an
/// executor sleeps with work left.
const BEATS_PER_SHAKE: u64 = 10;

/// Where a shard feels the pulse.
#[derive(Clone, Default)]
pub(crate) struct Wrist(Arc<OnceLock<Waker>>);

impl Wrist {
    /// Raises `notify` whenever the pulse shakes the shard, from now on. Runs on the shard's executor.
    pub(super) fn feel(&self, notify: Rc<Notify>) {
        let wrist = Arc::clone(&self.0);
        let beats = poll_fn(move |context| {
            // The waker of a task stays the same for its whole life.
            wrist.get_or_init(|| context.waker().clone());
            notify.raise();
            Poll::<()>::Pending
        });
        glommio::spawn_local(beats).detach();
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
            for beat in 0_u64.. {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                if beat.is_multiple_of(BEATS_PER_SHAKE) {
                    wrists.iter().filter_map(|wrist| wrist.0.get()).for_each(Waker::wake_by_ref);
                } else {
                    inboxes.iter().for_each(|inbox| inbox.doorbell().ring());
                }
                std::thread::park_timeout(BEAT);
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
