//! What goes to an engine, and what comes back from it.

use std::sync::{Mutex, OnceLock};
use std::thread::Thread;

use bytes::Bytes;

/// An operation in flight.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Counts from 0.
    pub group: usize,
    /// When its latency begins to count, in nanoseconds of [`clock`](crate::clock).
    pub(crate) begun: u64,
}

/// An operation and its bytes.
#[derive(Clone, Debug)]
pub struct Proposal {
    pub operation: Operation,
    pub payload: Bytes,
}

/// An engine as the load sees it.
pub trait Engine: Send {
    /// Proposes operations without waiting for them. Each of them comes back through
    /// [`Completions`], once.
    fn propose(&mut self, proposals: Vec<Proposal>);
}

/// What became of an operation that was not acknowledged.
#[derive(Clone, Debug)]
pub enum Failure {
    /// It did not happen, and won't.
    Refused(String),
    /// It may have happened, or may yet.
    Unknown(String),
}

#[derive(Debug, Default)]
pub(crate) struct Completed {
    pub(crate) applied: Vec<Operation>,
    pub(crate) failed: Vec<(Operation, Failure)>,
}

/// What is done, on its way from the engine's threads to the load's.
#[derive(Debug, Default)]
pub struct Completions {
    completed: Mutex<Completed>,
    load: OnceLock<Thread>,
}

impl Completions {
    /// Reports operations that are durable on a majority and applied here; leaves `operations`
    /// empty.
    ///
    /// # Panics
    /// Never: a panic on another thread ends the process.
    pub fn applied(&self, operations: &mut Vec<Operation>) {
        self.completed.lock().expect("a panic ends the process").applied.append(operations);
        self.wake();
    }

    /// Reports an operation that failed.
    ///
    /// # Panics
    /// Never: a panic on another thread ends the process.
    pub fn failed(&self, operation: Operation, failure: Failure) {
        let mut completed = self.completed.lock().expect("a panic ends the process");
        completed.failed.push((operation, failure));
        drop(completed);
        self.wake();
    }

    /// Makes the calling thread the one to wake.
    pub(crate) fn register(&self) {
        self.load.set(std::thread::current()).expect("one thread loads");
    }

    pub(crate) fn wake(&self) {
        if let Some(thread) = self.load.get() {
            thread.unpark();
        }
    }

    /// Exchanges what has come for an empty `spent`, whose memory is used again.
    pub(crate) fn exchange(&self, spent: &mut Completed) {
        std::mem::swap(spent, &mut *self.completed.lock().expect("a panic ends the process"));
    }
}
