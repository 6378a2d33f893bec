//! Waking one task of the same executor, and counting tasks.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// A flag that one task waits for. A notification while nobody waits is kept; several count once,
/// and only a task that really waits is woken.
#[derive(Default)]
pub(crate) struct Notify {
    set: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

impl Notify {
    pub(crate) fn notify(&self) {
        self.set.set(true);
        if let Some(waker) = self.waiter.take() {
            waker.wake();
        }
    }

    pub(crate) async fn wait(&self) {
        poll_fn(|cx| {
            if self.set.replace(false) {
                return Poll::Ready(());
            }
            self.waiter.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Tasks that a shutdown has to wait for.
#[derive(Default)]
pub(crate) struct Tasks {
    live: Cell<usize>,
    ended: Notify,
}

impl Tasks {
    /// Starts a task that nobody joins individually. It is polled at once, inside this call: the
    /// caller holds no borrow that the task might need.
    pub(crate) fn spawn(self: &Rc<Self>, future: impl Future<Output = ()> + 'static) {
        self.live.set(self.live.get() + 1);
        let guard = Guard(Rc::clone(self));
        glommio::spawn_local(async move {
            let _guard = guard;
            future.await;
        })
        .detach();
    }

    /// Resolves once no task is left. For one waiter at a time.
    pub(crate) async fn finished(&self) {
        while self.live.get() > 0 {
            self.ended.wait().await;
        }
    }
}

struct Guard(Rc<Tasks>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.live.set(self.0.live.get() - 1);
        self.0.ended.notify();
    }
}
