//! The engine from a task on a shard's own core.
//!
//! A caller on a thread of its own pays for two wake-ups per round: its submission wakes the shard,
//! the completions wake it. A task on the shard's executor pays for none, and what it submits is
//! proposed by the very next turn. Servers whose connections live on the shards, and whoever counts
//! microseconds, propose from here.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::handle::{Handle, Shared};
use crate::queue::{Announce, Queue};
use crate::runtime::{Guests, Notify, Sleepers};

/// A task on its way to a shard: made there, because it need not be [`Send`].
pub(crate) type Task = Box<dyn FnOnce(Local) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// What a task on a shard's core is given; see [`Handle::spawn_on`].
pub struct Local {
    shard: u32,
    shared: Arc<Shared>,
    notify: Rc<Notify>,
    sleepers: Rc<Sleepers>,
    guests: Rc<Guests>,
}

/// A [`Queue`] from a shard's own core to that shard.
pub type LocalQueue = Queue<OnCore>;

/// Tells the shard's main task, which runs on this very executor.
pub struct OnCore(Rc<Notify>);

impl Announce for OnCore {
    fn announce(&self) {
        self.0.raise();
    }
}

impl Local {
    pub(crate) fn new(
        shard: u32,
        shared: Arc<Shared>,
        notify: Rc<Notify>,
        sleepers: Rc<Sleepers>,
        guests: Rc<Guests>,
    ) -> Self {
        Self { shard, shared, notify, sleepers, guests }
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> u32 {
        self.shard
    }

    /// The engine, as any thread sees it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// A submission and completion queue to this shard; at most `depth` operations in flight.
    #[must_use]
    pub fn queue(&self, depth: usize) -> LocalQueue {
        let announce = OnCore(Rc::clone(&self.notify));
        Queue::new(Arc::clone(&self.shared), self.shard, announce, depth)
    }

    /// Runs another task on this core, as [`Handle::spawn_on`] does: one for each of a server's
    /// connections, say. It is polled for the first time before this returns.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.guests.spawn(task);
    }

    /// Waits for about `duration`. It ends with a beat of the engine's clock, so up to 5 ms late.
    pub async fn sleep(&self, duration: Duration) {
        self.sleepers.sleep(duration).await;
    }
}
