//! Panics on the tasks of connections, where panics unwind: each is the failure of one connection, or
//! of one attempt to make it. What such a task works on is its own; what it shares with others it
//! changes in one step, between two waits.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_lite::FutureExt as _;

/// What a task comes to, or what it panicked with, in words. That must not unwind through the
/// executor, which is the shard's.
pub(crate) async fn contained<T>(task: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(task).catch_unwind().await.map_err(|payload| message(&*payload))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().copied();
    let text = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
