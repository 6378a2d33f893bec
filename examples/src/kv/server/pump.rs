//! The way from a shard's connections to its groups and back: one queue for all of them.
//!
//! What connections push while others are served is submitted together, and all reads of a group
//! that came meanwhile are one read for the engine.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ringleader::{Consistency, Local, LocalQueue, ProposeError, PushError, SubmitError};
use slab::Slab;
use smallvec::SmallVec;

use super::outcome;
use super::shard::Shard;
use crate::kv::execute;
use crate::kv::operation::{LogEntry, Operation, TOGETHER};
use crate::kv::resp::reply;

/// Operations and reads of all clients of a shard that are under way, at most.
const DEPTH: usize = 1 << 16;

/// Bytes of an empty batch that are kept for the next one, at most.
const SPARE_BYTES: usize = 64 << 10;

/// The number of nobody: of the server's own proposals.
const NOBODY: usize = u32::MAX as usize;

/// Who waits for a read, and where the operation ends.
struct Reader {
    client: usize,
    number: u32,
    end: usize,
}

/// The reads of one group that are confirmed together.
#[derive(Default)]
struct Batch {
    group: usize,
    operations: Vec<u8>,
    readers: Vec<Reader>,
}

#[derive(Default)]
struct Reads {
    /// By group; those that came since the last submission.
    staged: Vec<Option<Batch>>,
    /// The groups that have some.
    touched: Vec<usize>,
    /// Those that wait for the engine.
    asked: Slab<Batch>,
    /// Empty ones, with their memory.
    spare: Vec<Batch>,
}

/// See the [module](self).
pub(crate) struct Pump {
    queue: RefCell<LocalQueue>,
    consistency: Consistency,
    reads: RefCell<Reads>,
    /// Something is to be submitted.
    dirty: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    entry: RefCell<Vec<u8>>,
    /// Who found no room.
    waiting: RefCell<VecDeque<Waker>>,
}

impl Pump {
    pub(crate) fn new(local: &Local, groups: usize, consistency: Consistency) -> Self {
        let reads = Reads { staged: (0..groups).map(|_| None).collect(), ..Reads::default() };
        Self {
            queue: RefCell::new(local.queue(DEPTH)),
            consistency,
            reads: RefCell::new(reads),
            dirty: Cell::new(false),
            waker: RefCell::default(),
            entry: RefCell::default(),
            waiting: RefCell::default(),
        }
    }

    /// An operation for the log of a group, proposed at `now`.
    ///
    /// # Errors
    /// There is no room, or it can't be proposed at all.
    pub(crate) fn propose(
        &self,
        shard: &Shard,
        place: usize,
        operation: Operation<'_>,
        (client, number): (usize, u32),
        now: u64,
    ) -> Result<(), PushError> {
        let Some(group) = shard.group(place) else {
            return Err(PushError::WrongShard(shard.topology().layout.id(place)));
        };
        let mut entry = self.entry.borrow_mut();
        entry.clear();
        LogEntry { now: group.time(now), operation }.encode(&mut entry);
        let user_data = (client as u64) << 32 | u64::from(number);
        self.queue.borrow_mut().push(group.id, user_data, &entry)?;
        self.touch();
        Ok(())
    }

    /// Advances a group's clock, so that keys go whose time has come.
    pub(crate) fn tick(&self, shard: &Shard, place: usize, now: u64) {
        let nobody = (NOBODY, place as u32);
        if self.propose(shard, place, Operation::Tick, nobody, now).is_ok()
            && let Some(group) = shard.group(place)
        {
            group.ticking.set(true);
        }
    }

    /// A read of a group. Reads do not count against the depth but by their batches.
    pub(crate) fn read(&self, place: usize, operation: &Operation<'_>, client: usize, number: u32) {
        let mut reads = self.reads.borrow_mut();
        let Reads { staged, touched, spare, .. } = &mut *reads;
        let batch = staged[place].get_or_insert_with(|| {
            touched.push(place);
            Batch { group: place, ..spare.pop().unwrap_or_default() }
        });
        operation.encode(&mut batch.operations);
        batch.readers.push(Reader { client, number, end: batch.operations.len() });
        drop(reads);
        self.touch();
    }

    /// `waker` is woken when there is room again.
    pub(crate) fn wait_for_room(&self, waker: &Waker) {
        self.waiting.borrow_mut().push_back(waker.clone());
    }

    fn touch(&self) {
        if !self.dirty.replace(true) {
            self.wake();
        }
    }

    /// Has the pump look again, for what did not fit.
    pub(crate) fn nudge(&self) {
        if self.dirty.get() {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn submit(&self, shard: &Shard) -> Result<(), SubmitError> {
        let mut queue = self.queue.borrow_mut();
        let mut reads = self.reads.borrow_mut();
        let Reads { staged, touched, asked, .. } = &mut *reads;
        touched.retain(|place| {
            let Some(batch) = staged[*place].take() else { return false };
            let entry = asked.vacant_entry();
            let group = shard.topology().layout.id(*place);
            if queue.push_read(group, self.consistency, entry.key() as u64).is_ok() {
                entry.insert(batch);
                return false;
            }
            // Full: with the next submission.
            staged[*place] = Some(batch);
            true
        });
        queue.submit()?;
        self.dirty.set(!touched.is_empty());
        Ok(())
    }
}

/// Carries operations to the engine and completions back until the engine stops.
pub(crate) async fn run(shard: Rc<Shard>) {
    poll_fn(|cx| poll(&shard, cx)).await;
}

fn poll(shard: &Shard, cx: &mut Context<'_>) -> Poll<()> {
    let pump = &shard.pump;
    *pump.waker.borrow_mut() = Some(cx.waker().clone());
    loop {
        if pump.dirty.get() {
            match pump.submit(shard) {
                // Busy: completions make room, and the keeper nudges.
                Ok(()) | Err(SubmitError::Busy) => {}
                Err(SubmitError::Stopped) => return Poll::Ready(()),
            }
        }
        let ready = pump.queue.borrow_mut().poll_ready(cx);
        match ready {
            Poll::Ready(true) => {
                drain(shard);
                pump.waiting.borrow_mut().drain(..).for_each(Waker::wake);
            }
            Poll::Ready(false) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
}

fn drain(shard: &Shard) {
    let mut queue = shard.pump.queue.borrow_mut();
    queue.drain(|completion| {
        let (client, number) = ((completion.user_data >> 32) as usize, completion.user_data as u32);
        if client == NOBODY {
            if let Some(group) = shard.group(number as usize) {
                group.ticking.set(false);
            }
            return;
        }
        shard.complete((client, number), |out| match &completion.result {
            Ok(applied) => out.extend_from_slice(applied.reply),
            Err(error) => {
                if matches!(error, ProposeError::Unknown(_)) {
                    shard.stats().unknown.add(1);
                }
                reply::error(out, &outcome::of_proposal(error));
            }
        });
    });
    queue.drain_reads(|completion| {
        let mut reads = shard.pump.reads.borrow_mut();
        let mut batch = reads.asked.remove(completion.user_data as usize);
        let failed = completion.result.err().map(|error| outcome::of_read(&error));
        serve(shard, &batch, failed.as_deref());
        batch.operations.clear();
        batch.readers.clear();
        if batch.operations.capacity() <= SPARE_BYTES {
            reads.spare.push(batch);
        }
    });
}

/// Does the reads that are confirmed, or says why they are not.
fn serve(shard: &Shard, batch: &Batch, failed: Option<&str>) {
    let group = shard.group(batch.group).filter(|_| failed.is_none());
    let mut start = 0;
    for readers in batch.readers.chunks(TOGETHER) {
        let decode = |reader: &Reader| {
            let operation = &batch.operations[start..reader.end];
            start = reader.end;
            Operation::decode(operation)
        };
        let operations: SmallVec<[_; TOGETHER]> = readers.iter().map(decode).collect();
        if let Some(group) = group {
            let keys = operations.iter().flatten().filter_map(Operation::key);
            group.replica.with(|keyspace| keyspace.prefetch(keys));
        }
        for (Reader { client, number, .. }, operation) in readers.iter().zip(&operations) {
            shard.complete((*client, *number), |out| match group {
                Some(group) => read(group, operation.as_ref(), out),
                None => reply::error(out, failed.unwrap_or(outcome::NO_LEADER)),
            });
        }
    }
}

fn read(group: &super::group::Group, operation: Option<&Operation<'_>>, out: &mut Vec<u8>) {
    let done = operation
        .is_some_and(|operation| group.replica.with(|keys| execute::read(keys, operation, out)));
    debug_assert!(done, "only reads are staged here");
}
