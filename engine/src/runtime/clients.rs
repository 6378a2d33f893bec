//! Who waits for answers: queues with their channels, and futures with a slot each.

use std::collections::HashMap;

use bytes::Bytes;
use ringleader_wal::LogIndex;

use crate::error::{MembershipError, ProposeError};
use crate::handle::ProposeReply;
use crate::inbox::Budget;
use crate::shard::{AnswerRun, ChangeAnswer, ClientId};

type ChangeReply = flume::Sender<Result<LogIndex, MembershipError>>;

type Reply = flume::Sender<Result<ProposeReply, ProposeError>>;

/// The client under whose number all futures of a shard propose.
pub(crate) const FUTURES: ClientId = ClientId(0);

/// The callers of one shard.
#[derive(Default)]
pub(crate) struct Clients {
    queues: HashMap<ClientId, Queue>,
    futures: Slots,
    /// Queues that got answers in this turn.
    answered: Vec<ClientId>,
    /// Who waits for a change of a group's members, by the change's name.
    changes: HashMap<u64, ChangeReply>,
    changes_named: u64,
    /// So many queues are looked through for those that were dropped.
    prune_at: usize,
}

struct Queue {
    answers: flume::Sender<Vec<AnswerRun>>,
    pending: Vec<AnswerRun>,
}

impl Clients {
    pub(crate) fn attach(&mut self, client: ClientId, answers: flume::Sender<Vec<AnswerRun>>) {
        if self.queues.len() >= self.prune_at {
            self.queues.retain(|_, queue| !queue.answers.is_disconnected());
            self.prune_at = 2 * self.queues.len() + 16;
        }
        self.queues.insert(client, Queue { answers, pending: Vec::new() });
    }

    /// Keeps a future's reply channel; the number is the operation's `user_data`.
    pub(crate) fn add_future(&mut self, reply: Reply) -> u64 {
        self.futures.insert(reply)
    }

    /// Keeps the reply channel of a change of members; the number is the change's name.
    pub(crate) fn add_change(&mut self, reply: ChangeReply) -> u64 {
        self.changes_named += 1;
        self.changes.insert(self.changes_named, reply);
        self.changes_named
    }

    pub(crate) fn deliver_changes(&mut self, answers: &mut Vec<ChangeAnswer>) {
        for (name, answer) in answers.drain(..) {
            if let Some(reply) = self.changes.remove(&name) {
                // A caller that dropped its future no longer wants the answer.
                let _ = reply.send(answer);
            }
        }
    }

    /// Delivers a turn's answers: one message, and so one wake, per queue.
    pub(crate) fn deliver(&mut self, answers: &mut Vec<AnswerRun>, budget: &Budget) {
        if answers.is_empty() {
            return;
        }
        budget.give_back(answers.iter().map(AnswerRun::weight).sum());
        for run in answers.drain(..) {
            if run.client() == FUTURES {
                self.futures.answer(&run);
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
                if queue.answers.send(pending).is_err() {
                    // It was dropped, and no longer wants its answers.
                    self.queues.remove(&client);
                }
            }
        }
    }
}

/// A slab of reply channels.
#[derive(Default)]
struct Slots {
    slots: Vec<Option<Reply>>,
    free: Vec<usize>,
}

impl Slots {
    fn insert(&mut self, reply: Reply) -> u64 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[at] = Some(reply);
        at as u64
    }

    fn answer(&mut self, run: &AnswerRun) {
        run.for_each(|completion| {
            let at = completion.user_data as usize;
            let Some(reply) = self.slots[at].take() else { return };
            self.free.push(at);
            let result = completion.result.map(|applied| ProposeReply {
                index: applied.index,
                term: applied.term,
                reply: Bytes::copy_from_slice(applied.reply),
            });
            // A caller that dropped its future no longer wants the answer.
            let _ = reply.send(result);
        });
    }
}
