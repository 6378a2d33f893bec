//! Tasks that wait for time to pass, on the shard's clock.
//!
//! Not glommio's timers: those complete on the latency ring, and what that can lead to is told in
//! [`doorbell`](super::doorbell).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::doze::Doze;

/// The waiting tasks of one shard, each with its time and a number.
pub(crate) struct Sleepers {
    doze: Rc<Doze>,
    waiting: RefCell<BTreeMap<(Instant, u64), Waker>>,
    last: Cell<u64>,
}

impl Sleepers {
    pub(super) fn new(doze: Rc<Doze>) -> Self {
        Self { doze, waiting: RefCell::default(), last: Cell::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Waits until the first [`wake_due`](Self::wake_due) after `duration` has passed.
    pub(crate) async fn sleep(self: &Rc<Self>, duration: Duration) {
        let Some(until) = Instant::now().checked_add(duration) else {
            return std::future::pending().await;
        };
        self.last.set(self.last.get() + 1);
        Sleep { sleepers: Rc::clone(self), until: (until, self.last.get()) }.await;
    }

    /// Wakes whoever has waited long enough.
    pub(super) fn wake_due(&self) {
        let now = Instant::now();
        while let Some(first) = self.waiting.borrow_mut().first_entry()
            && first.key().0 <= now
        {
            first.remove().wake();
        }
    }
}

struct Sleep {
    sleepers: Rc<Sleepers>,
    until: (Instant, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.until.0 {
            return Poll::Ready(());
        }
        self.sleepers.doze.end();
        self.sleepers.waiting.borrow_mut().insert(self.until, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.sleepers.waiting.borrow_mut().remove(&self.until);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::super::pulse::Wrist;
    use super::*;

    #[test]
    fn only_those_sleep_whose_time_has_not_come_and_who_are_still_there() {
        let doze = Doze::new(Wrist::default(), Duration::from_secs(1));
        let sleepers = Rc::new(Sleepers::new(Rc::new(doze)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(sleepers.sleep(Duration::ZERO)).poll(&mut context).is_ready());
        let mut long = Box::pin(sleepers.sleep(Duration::from_secs(3600)));
        assert!(long.as_mut().poll(&mut context).is_pending());
        assert!(long.as_mut().poll(&mut context).is_pending());
        sleepers.wake_due();
        assert_eq!(sleepers.waiting.borrow().len(), 1, "an hour has not passed");
        drop(long);
        assert!(sleepers.waiting.borrow().is_empty());
    }
}
