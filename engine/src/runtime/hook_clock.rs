//! How long the hooks of state machines take.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use crate::report::HookTimings;
use crate::shard::{Hook, HookWatch};

/// Watches the hooks of one shard; clones are of the same.
#[derive(Clone, Default)]
pub(super) struct HookClock(Rc<Watched>);

#[derive(Default)]
struct Watched {
    began: Cell<Option<Instant>>,
    times: RefCell<HookTimings>,
}

impl HookClock {
    pub(super) fn timings(&self) -> HookTimings {
        self.0.times.borrow().clone()
    }
}

impl HookWatch for HookClock {
    fn begins(&self, _: Hook) {
        self.0.began.set(Some(Instant::now()));
    }

    fn ended(&self, hook: Hook) {
        if let Some(began) = self.0.began.take() {
            self.0.times.borrow_mut().record(hook, began.elapsed().as_nanos() as u64);
        }
    }
}
