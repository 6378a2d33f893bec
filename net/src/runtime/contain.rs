//! Panics on the tasks of connections, where panics unwind: each is the failure of one connection, or
//! of one attempt to make it. What such a task works on is its own; what it shares with others it
//! changes in one step, between two waits.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_lite::FutureExt as _;

/// What a task comes to, or what it panicked with, in words. That must not unwind through the
/// executor, which is the shard's.
///
/// In memory of its own: a future that waits for another holds room for it, and each layer of that
/// would double what a connection's task takes.
pub(crate) fn contained<'a, T: 'a>(
    task: impl Future<Output = T> + 'a,
) -> impl Future<Output = Result<T, String>> + 'a {
    let task = AssertUnwindSafe(Box::pin(task)).catch_unwind();
    async { task.await.map_err(|payload| message(&*payload)) }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().copied();
    let text = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
