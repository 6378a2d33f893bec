//! How the tasks of one executor tell the shard's main task that there is something to do.

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// A flag and the main task's waker.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify {
    /// There is something to do. Any number of calls before the main task looks wake it once.
    pub(crate) fn raise(&self) {
        if !self.raised.replace(true)
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Whether it was raised since the last call; if not, `waker` is woken when it is.
    pub(crate) fn listen(&self, waker: &Waker) -> bool {
        let raised = self.raised.replace(false);
        if !raised {
            let mut held = self.waker.borrow_mut();
            if !held.as_ref().is_some_and(|held| held.will_wake(waker)) {
                *held = Some(waker.clone());
            }
        }
        raised
    }
}
