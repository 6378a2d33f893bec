//! Loading an engine in the same process, through its submission and completion queue: from the
//! shard's own core, or from a thread beside it.

use std::time::Duration;

use futures_lite::future::or;
use ringleader::{
    Announce, Completion, Consistency, GroupId, Local, LocalQueue, ProposeError, Queue,
    ReadCompletion, ReadError, SubmitError,
};

use crate::control::ReadBy;
use crate::load::{Completed, Outcome, Port};

/// A queue on a thread beside the shard's.
pub(crate) struct ThreadPort {
    queue: Queue,
    read_by: Consistency,
}

impl ThreadPort {
    pub(crate) fn new(queue: Queue, read_by: ReadBy) -> Self {
        Self { queue, read_by: consistency(read_by) }
    }
}

impl Port for ThreadPort {
    fn push(&mut self, group: GroupId, user_data: u64, payload: &[u8]) -> Result<(), String> {
        self.queue.push(group, user_data, payload).map_err(|error| error.to_string())
    }

    fn push_read(&mut self, group: GroupId, user_data: u64) -> Result<(), String> {
        let pushed = self.queue.push_read(group, self.read_by, user_data);
        pushed.map_err(|error| error.to_string())
    }

    fn submit(&mut self) -> Result<bool, String> {
        submitted(self.queue.submit())
    }

    fn drain(&mut self, completed: &mut Vec<Completed>) -> Result<(), String> {
        drain_runs(&mut self.queue, completed);
        drain_reads(&mut self.queue, completed);
        Ok(())
    }

    async fn wait(&mut self, timeout: Duration) -> Result<(), String> {
        self.queue.wait(timeout);
        Ok(())
    }
}

/// A queue on its shard's own core.
pub(crate) struct CorePort {
    queue: LocalQueue,
    local: Local,
    read_by: Consistency,
}

impl CorePort {
    pub(crate) fn new(local: Local, depth: usize, read_by: ReadBy) -> Self {
        Self { queue: local.queue(depth), local, read_by: consistency(read_by) }
    }
}

impl Port for CorePort {
    fn push(&mut self, group: GroupId, user_data: u64, payload: &[u8]) -> Result<(), String> {
        self.queue.push(group, user_data, payload).map_err(|error| error.to_string())
    }

    fn push_read(&mut self, group: GroupId, user_data: u64) -> Result<(), String> {
        let pushed = self.queue.push_read(group, self.read_by, user_data);
        pushed.map_err(|error| error.to_string())
    }

    fn submit(&mut self) -> Result<bool, String> {
        submitted(self.queue.submit())
    }

    fn drain(&mut self, completed: &mut Vec<Completed>) -> Result<(), String> {
        drain_runs(&mut self.queue, completed);
        drain_reads(&mut self.queue, completed);
        Ok(())
    }

    async fn wait(&mut self, timeout: Duration) -> Result<(), String> {
        let answered = async {
            self.queue.ready().await;
        };
        or(answered, self.local.sleep(timeout)).await;
        Ok(())
    }
}

fn consistency(read_by: ReadBy) -> Consistency {
    match read_by {
        ReadBy::Index => Consistency::Linearizable,
        ReadBy::Lease => Consistency::Lease,
    }
}

fn submitted(result: Result<usize, SubmitError>) -> Result<bool, String> {
    match result {
        Ok(_) => Ok(true),
        Err(SubmitError::Busy) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// Drains the queue's completions as runs. An applied operation that follows the one before it
/// costs a comparison and an addition.
pub(crate) fn drain_runs(queue: &mut Queue<impl Announce>, completed: &mut Vec<Completed>) {
    let (mut first, mut next) = (0, 0);
    queue.drain(|completion| {
        if completion.result.is_ok() && completion.user_data == next && first < next {
            next += 1;
            return;
        }
        applied(completed, first, next);
        let at = completion.user_data;
        if completion.result.is_ok() {
            (first, next) = (at, at + 1);
        } else {
            (first, next) = (0, 0);
            other(completed, completion);
        }
    });
    applied(completed, first, next);
}

/// Drains the reads that may be carried out now. The state is the shard's own, and looking a number up
/// in it would cost next to nothing: a read is over with its permission.
fn drain_reads(queue: &mut Queue<impl Announce>, completed: &mut Vec<Completed>) {
    let (mut first, mut next) = (0, 0);
    queue.drain_reads(|ReadCompletion { user_data: at, result }| {
        if result.is_ok() && at == next && first < next {
            next += 1;
            return;
        }
        applied(completed, first, next);
        (first, next) = if result.is_ok() { (at, at + 1) } else { (0, 0) };
        if let Err(error) = result {
            append(completed, at, not_read(error));
        }
    });
    applied(completed, first, next);
}

#[cold]
fn not_read(error: ReadError) -> Outcome {
    match error {
        ReadError::NoLeader => Outcome::NotLeader(None),
        ReadError::LeaderChanged { leader } => Outcome::NotLeader(leader.map(|node| node.0)),
        ReadError::Busy => Outcome::Busy,
        error => Outcome::Failed(error.to_string()),
    }
}

fn applied(completed: &mut Vec<Completed>, first: u64, end: u64) {
    if first < end {
        completed.push(Completed { first, count: end - first, outcome: Outcome::Applied });
    }
}

#[cold]
fn other(completed: &mut Vec<Completed>, completion: Completion<'_>) {
    let Err(error) = completion.result else { return };
    let outcome = match error {
        ProposeError::NotLeader { leader } => Outcome::NotLeader(leader.map(|node| node.0)),
        ProposeError::Busy => Outcome::Busy,
        ProposeError::Unknown(cause) => Outcome::Unknown(cause.to_string()),
        error => Outcome::Failed(error.to_string()),
    };
    append(completed, completion.user_data, outcome);
}

fn append(completed: &mut Vec<Completed>, first: u64, outcome: Outcome) {
    match completed.last_mut() {
        Some(run) if run.first + run.count == first && run.outcome == outcome => run.count += 1,
        _ => completed.push(Completed { first, count: 1, outcome }),
    }
}
