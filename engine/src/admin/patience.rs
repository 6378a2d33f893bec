//! Waiting for a future on a thread, but not for ever.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The future's result; none if there is none by `deadline`, and then it is dropped.
pub(super) fn block_until<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return Some(result);
        }
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        thread::park_timeout(left?);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_future_is_waited_for_until_the_deadline() {
        let (send, receive) = flume::bounded(1);
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(block_until(soon, receive.recv_async()), None);
        assert!(Instant::now() >= soon);
        let sender = thread::spawn(move || send.send(7));
        let late = Instant::now() + Duration::from_secs(60);
        assert_eq!(block_until(late, receive.recv_async()), Some(Ok(7)));
        sender.join().expect("no panic").expect("it was received");
    }
}
