//! Who waits for answers: queues with their channels, and futures with a slot each.

use std::collections::HashMap;

use bytes::Bytes;
use ringleader_wal::LogIndex;

use crate::error::{
    CreateGroupError, DestroyGroupError, MembershipError, ProposeError, ReadError, ReadLogError,
    ResetError,
};
use crate::handle::ProposeReply;
use crate::inbox::{Answers, Budget, Reader};
use crate::raft::Reset;
use crate::read_log::LogPortion;
use crate::shard::{AnswerRun, ClientId, ReadRun, Shard};

type Reply = flume::Sender<Result<ProposeReply, ProposeError>>;

/// The client under whose number all futures of a shard propose and read.
pub(crate) const FUTURES: ClientId = ClientId(0);

/// The callers of one shard.
#[derive(Default)]
pub(crate) struct Clients {
    queues: HashMap<ClientId, Queue>,
    futures: Slots<Reply>,
    readers: Slots<Reader>,
    /// Queues that got answers in this turn.
    answered: Vec<ClientId>,
    /// Who waits for a change of a group's members.
    pub(crate) changes: Waiters<LogIndex, MembershipError>,
    /// Who waits for members to be set anew.
    pub(crate) resets: Waiters<Reset, ResetError>,
    /// Who waits for a group to be created, or destroyed.
    pub(crate) created: Waiters<(), CreateGroupError>,
    pub(crate) destroyed: Waiters<(), DestroyGroupError>,
    /// Who waits for committed entries.
    pub(crate) log_reads: Waiters<LogPortion, ReadLogError>,
    /// So many queues are looked through for those that were dropped.
    prune_at: usize,
}

struct Queue {
    answers: flume::Sender<Answers>,
    pending: Vec<AnswerRun>,
    pending_reads: Vec<ReadRun>,
}

impl Clients {
    pub(crate) fn attach(&mut self, client: ClientId, answers: flume::Sender<Answers>) {
        if self.queues.len() >= self.prune_at {
            self.queues.retain(|_, queue| !queue.answers.is_disconnected());
            self.prune_at = 2 * self.queues.len() + 16;
        }
        let (pending, pending_reads) = (Vec::new(), Vec::new());
        self.queues.insert(client, Queue { answers, pending, pending_reads });
    }

    /// Keeps a future's reply channel; the number is the operation's `user_data`.
    pub(crate) fn add_future(&mut self, reply: Reply) -> u64 {
        self.futures.insert(reply)
    }

    /// Keeps what a read does; the number is its `user_data`.
    pub(crate) fn add_reader(&mut self, reader: Reader) -> u64 {
        self.readers.insert(reader)
    }

    /// Delivers a turn's answers: one message, and so one wake, per queue.
    pub(crate) fn deliver(&mut self, answers: &mut Vec<AnswerRun>, budget: &Budget) {
        if answers.is_empty() {
            return;
        }
        budget.give_back(answers.iter().map(AnswerRun::weight).sum());
        for run in answers.drain(..) {
            if run.client() == FUTURES {
                answer_futures(&mut self.futures, &run);
            } else if let Some(queue) = self.queues.get_mut(&run.client()) {
                if queue.pending.is_empty() {
                    self.answered.push(run.client());
                }
                queue.pending.push(run);
            }
        }
        for client in self.answered.drain(..) {
            if let Some(queue) = self.queues.get_mut(&client) {
                let pending = std::mem::take(&mut queue.pending);
                if queue.answers.send(Answers::Proposals(pending)).is_err() {
                    // It was dropped, and no longer wants its answers.
                    self.queues.remove(&client);
                }
            }
        }
    }

    /// Likewise; what futures read is read now.
    pub(crate) fn deliver_reads(
        &mut self,
        reads: &mut Vec<ReadRun>,
        budget: &Budget,
        shard: &mut Shard,
    ) {
        if reads.is_empty() {
            return;
        }
        budget.give_back(reads.iter().map(ReadRun::weight).sum());
        for run in reads.drain(..) {
            if run.client() == FUTURES {
                answer_readers(&mut self.readers, &run, shard);
            } else if let Some(queue) = self.queues.get_mut(&run.client()) {
                if queue.pending_reads.is_empty() {
                    self.answered.push(run.client());
                }
                queue.pending_reads.push(run);
            }
        }
        for client in self.answered.drain(..) {
            if let Some(queue) = self.queues.get_mut(&client) {
                let pending = std::mem::take(&mut queue.pending_reads);
                if queue.answers.send(Answers::Reads(pending)).is_err() {
                    self.queues.remove(&client);
                }
            }
        }
    }
}

fn answer_futures(futures: &mut Slots<Reply>, run: &AnswerRun) {
    run.for_each(|completion| {
        let Some(reply) = futures.take(completion.user_data) else { return };
        let result = completion.result.map(|applied| ProposeReply {
            index: applied.index,
            term: applied.term,
            reply: Bytes::copy_from_slice(applied.reply),
        });
        // A caller that dropped its future no longer wants the answer.
        let _ = reply.send(result);
    });
}

fn answer_readers(readers: &mut Slots<Reader>, run: &ReadRun, shard: &mut Shard) {
    let machine = shard.state_machine(run.group()).map(|machine| &*machine);
    run.for_each(|completion| {
        let Some(reader) = readers.take(completion.user_data) else { return };
        reader(completion.result.and_then(|index| {
            let machine = machine.ok_or(ReadError::UnknownGroup(run.group()))?;
            Ok((index, machine))
        }));
    });
}

/// Callers that wait for something seldom, by the number that names it.
pub(crate) struct Waiters<T, E> {
    waiting: HashMap<u64, flume::Sender<Result<T, E>>>,
    named: u64,
}

impl<T, E> Default for Waiters<T, E> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), named: 0 }
    }
}

impl<T, E> Waiters<T, E> {
    /// Keeps the reply channel; its name.
    pub(crate) fn add(&mut self, reply: flume::Sender<Result<T, E>>) -> u64 {
        self.named += 1;
        self.waiting.insert(self.named, reply);
        self.named
    }

    pub(crate) fn answer(&mut self, answers: &mut Vec<(u64, Result<T, E>)>) {
        for (name, answer) in answers.drain(..) {
            if let Some(reply) = self.waiting.remove(&name) {
                // A caller that dropped its future no longer wants the answer.
                let _ = reply.send(answer);
            }
        }
    }
}

/// A slab of what waits for answers.
struct Slots<T> {
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    fn insert(&mut self, reply: T) -> u64 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[at] = Some(reply);
        at as u64
    }

    fn take(&mut self, at: u64) -> Option<T> {
        let at = at as usize;
        let waited = self.slots[at].take();
        if waited.is_some() {
            self.free.push(at);
        }
        waited
    }
}
