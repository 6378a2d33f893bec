//! The tasks of callers on a shard's executor. They end with the shard: glommio forgets what still
//! runs when its main task ends, and what such a task owns would never be dropped.

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::rc::{Rc, Weak};

use futures_lite::FutureExt as _;

use super::notify::Notify;
use super::wreck::Payload;

pub(crate) struct Guests {
    notify: Rc<Notify>,
    /// Each with a mark that its future owns while it runs.
    tasks: RefCell<Vec<(Weak<()>, glommio::Task<()>)>>,
    /// So many tasks are looked through for those that have ended.
    prune_at: Cell<usize>,
    /// What one of them panicked with. It must not unwind through the executor, which is the
    /// shard's.
    panicked: Rc<RefCell<Option<Payload>>>,
}

impl Guests {
    /// `notify` is raised when a task panicked.
    pub(super) fn new(notify: Rc<Notify>) -> Self {
        let (tasks, prune_at) = (RefCell::default(), Cell::default());
        Self { notify, tasks, prune_at, panicked: Rc::default() }
    }

    /// A guest may bring others: the new one is polled for the first time in here.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.prune();
        let mark = Rc::new(());
        let running = Rc::downgrade(&mark);
        let (panicked, notify) = (Rc::clone(&self.panicked), Rc::clone(&self.notify));
        let task = glommio::spawn_local(async move {
            if let Err(payload) = AssertUnwindSafe(task).catch_unwind().await {
                *panicked.borrow_mut() = Some(payload);
                notify.raise();
            }
            drop(mark);
        });
        self.tasks.borrow_mut().push((running, task));
    }

    fn prune(&self) {
        let mut tasks = self.tasks.borrow_mut();
        if tasks.len() >= self.prune_at.get() {
            tasks.retain(|(running, _)| running.strong_count() > 0);
            self.prune_at.set(2 * tasks.len() + 16);
        }
    }

    /// What a task panicked with since this was last asked.
    pub(super) fn panicked(&self) -> Option<Payload> {
        self.panicked.borrow_mut().take()
    }

    /// Drops every task that still runs.
    pub(super) async fn cancel(&self) {
        loop {
            let last = self.tasks.borrow_mut().pop();
            let Some((_, task)) = last else { return };
            task.cancel().await;
        }
    }
}
