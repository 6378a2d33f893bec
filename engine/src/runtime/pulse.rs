//! The engine's pulse: a thread that wakes every shard a few hundred times a second.
//!
//! Shards need it for their clock, and glommio needs it to be safe. An executor that is preempted
//! between looking at its rings and running its first task goes to sleep although tasks are
//! runnable (`LocalExecutor::run_task_queues`, fixed upstream after 0.12), and a timer does not
//! help: the task that would arm it again may be the one that sleeps. A wake from another thread
//! always gets through, because the executor arms its eventfd before it checks for preemption. So
//! such a sleep lasts one beat at most.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use super::notify::Notify;

/// How often time passes for a shard. It bounds how late a timeout is noticed.
pub(super) const BEAT: Duration = Duration::from_millis(5);

/// Where a shard feels the pulse.
#[derive(Clone, Default)]
pub(crate) struct Wrist(Arc<OnceLock<Waker>>);

impl Wrist {
    /// Raises `notify` at every beat from now on. Runs on the shard's executor.
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
    pub(crate) fn start(wrists: Vec<Wrist>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let beat = move || {
            while !stopped.load(Ordering::Acquire) {
                wrists.iter().filter_map(|wrist| wrist.0.get()).for_each(Waker::wake_by_ref);
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
