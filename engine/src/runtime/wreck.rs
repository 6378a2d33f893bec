//! A shard in which something panicked, where panics unwind: a state machine, a closure or a task of
//! a caller, or this engine itself.
//!
//! What was being done may be half done, so the shard's logic, its log and its state machines are
//! not touched any more ([`Shard::abandon`](crate::shard::Shard::abandon)): to its peers, and to the
//! groups on it, this shard is down. The thread goes on, for three things that nobody else does: it
//! answers callers, with errors, and whoever asks for the node's [report](crate::Report); it accepts
//! connections for the node's other shards, if it is the one that listens; and it waits to be told to
//! stop.
//!
//! Where that fails too, the thread ends. Its inbox is closed then, so that nobody waits for it, and
//! the report says that it has ended.
//!
//! The tasks of connections and of the disk stand apart: what such a task works on is its own. One that
//! panics over a connection has lost that connection (`ringleader-net`), and one that panics over an
//! operation of the disk has failed in that, which ends the shard as any failed write of its log does
//! (`ringleader_wal::driver`).

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::clients::Clients;
use super::driver::Driver;
use crate::inbox::Inbox;

/// What a panic brings.
pub(super) type Payload = Box<dyn Any + Send>;

impl Driver {
    /// As [`turn`](Self::turn); after a panic in it, or in a guest, the shard is a wreck.
    pub(super) fn guarded_turn(&mut self) -> bool {
        let turned = match self.guests.panicked() {
            Some(payload) => Err(payload),
            None => catch_unwind(AssertUnwindSafe(|| self.turn())),
        };
        turned.unwrap_or_else(|payload| {
            self.be_wrecked(payload);
            false
        })
    }

    fn be_wrecked(&mut self, payload: Payload) {
        if self.shard.is_wreck() {
            // There is nothing left to be abandoned.
            resume_unwind(payload);
        }
        let (shard, cause) = (self.number, message(&*payload));
        tracing::error!(shard, %cause, "the shard panicked; it takes part in nothing more");
        let answered = catch_unwind(AssertUnwindSafe(|| {
            self.shard.abandon(cause.clone());
            self.turn();
        }));
        // Who could not be found any more learns from a channel that closes, or from a budget that
        // lets everybody pass.
        self.clients = Clients::default();
        self.transfers.clear();
        self.snapshots.clear();
        self.inbox.budget.close();
        if self.report.is_some() {
            self.report_start(Err(format!("it panicked: {cause}")));
        }
        if let Err(again) = answered {
            tracing::error!(shard, cause = message(&*again), "and again while callers were told");
        }
    }
}

/// What was said, in one line.
fn message(payload: &(dyn Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().copied();
    let text = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let lines = text.unwrap_or("a panic without a message").lines().map(str::trim);
    lines.collect::<Vec<_>>().join("; ")
}

struct ClosesInbox(Arc<Inbox>);

impl Drop for ClosesInbox {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Has the inbox closed when this thread ends, however that comes about: an executor that unwinds
/// forgets the tasks that wait, and with them everything that they own.
pub(super) fn closes_with_thread(inbox: Arc<Inbox>) {
    thread_local! {
        static INBOX: RefCell<Option<ClosesInbox>> = const { RefCell::new(None) };
    }
    INBOX.with_borrow_mut(|slot| *slot = Some(ClosesInbox(inbox)));
}
