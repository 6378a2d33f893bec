//! The tasks of callers on a shard's executor. They end with the shard: glommio forgets what still
//! runs when its main task ends, and what such a task owns would never be dropped.

use std::rc::{Rc, Weak};

#[derive(Default)]
pub(super) struct Guests {
    /// Each with a mark that its future owns while it runs.
    tasks: Vec<(Weak<()>, glommio::Task<()>)>,
    /// So many tasks are looked through for those that have ended.
    prune_at: usize,
}

impl Guests {
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        if self.tasks.len() >= self.prune_at {
            self.tasks.retain(|(running, _)| running.strong_count() > 0);
            self.prune_at = 2 * self.tasks.len() + 16;
        }
        let mark = Rc::new(());
        let running = Rc::downgrade(&mark);
        let task = glommio::spawn_local(async move {
            task.await;
            drop(mark);
        });
        self.tasks.push((running, task));
    }

    /// Drops every task that still runs.
    pub(super) async fn cancel(&mut self) {
        for (_, task) in self.tasks.drain(..) {
            task.cancel().await;
        }
    }
}
