//! The way into a shard from other threads: a bounded queue, a doorbell, and a budget of bytes.

use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::{Poll, Waker};

use ringleader_net::ShardHandover;
use ringleader_wal::{GroupId, LogIndex, LogPosition, NodeId};

use crate::config::GroupConfig;
use crate::error::{
    CreateGroupError, DestroyGroupError, MembershipError, ProposeError, ReadError, ReadLogError,
    ResetError, SnapshotError,
};
use crate::handle::ProposeReply;
use crate::local::Task;
use crate::raft::reads::Consistency;
use crate::raft::{Configuration, MembershipChange, Reset};
use crate::read_log::LogPortion;
use crate::report::{GroupReport, ShardReport};
use crate::runtime::{Bell, Doorbell};
use crate::shard::{
    AnswerRun, ClientId, GroupStatus, ReadRun, ReadSubmission, Submission, TransferResult,
};
use crate::state_machine::StateMachine;

/// A question to a state machine, carried to its shard.
pub(crate) type Query = Box<dyn FnOnce(Option<&mut dyn StateMachine>) + Send>;

/// What a read does with the state machine, once that has applied the index.
pub(crate) type Reader = Box<dyn FnOnce(Result<(LogIndex, &dyn StateMachine), ReadError>) + Send>;

/// What a turn answers to a queue.
pub(crate) enum Answers {
    Proposals(Vec<AnswerRun>),
    Reads(Vec<ReadRun>),
}

/// What other threads ask of a shard.
pub(crate) enum Request {
    Attach {
        client: ClientId,
        answers: flume::Sender<Answers>,
    },
    Submit {
        client: ClientId,
        submission: Submission,
        reads: Option<Box<ReadSubmission>>,
    },
    Read {
        group: GroupId,
        consistency: Consistency,
        reader: Reader,
    },
    Propose {
        submission: Submission,
        reply: flume::Sender<Result<ProposeReply, ProposeError>>,
    },
    Transfer {
        group: GroupId,
        to: Option<NodeId>,
        reply: flume::Sender<TransferResult>,
    },
    Status {
        group: GroupId,
        reply: flume::Sender<Option<GroupStatus>>,
    },
    Snapshot {
        group: GroupId,
        reply: flume::Sender<Result<LogPosition, SnapshotError>>,
    },
    Query {
        group: GroupId,
        run: Query,
    },
    ChangeMembers {
        group: GroupId,
        change: MembershipChange,
        reply: flume::Sender<Result<LogIndex, MembershipError>>,
    },
    ReadLog {
        group: GroupId,
        from: LogIndex,
        max_bytes: usize,
        reply: flume::Sender<Result<LogPortion, ReadLogError>>,
    },
    ResetPeers {
        group: GroupId,
        members: Configuration,
        /// Only say what would be done.
        plan: bool,
        reply: flume::Sender<Result<Reset, ResetError>>,
    },
    CreateGroup {
        config: GroupConfig,
        reply: flume::Sender<Result<(), CreateGroupError>>,
    },
    DestroyGroup {
        group: GroupId,
        member_too: bool,
        reply: flume::Sender<Result<(), DestroyGroupError>>,
    },
    Report {
        reply: flume::Sender<ShardReport>,
    },
    Groups {
        from: usize,
        reply: flume::Sender<Vec<GroupReport>>,
    },
    Spawn(Task),
    Handover(Box<ShardHandover>),
    Stop,
}

/// One shard's inbox, shared by all who send to it.
pub(crate) struct Inbox {
    requests: flume::Sender<Request>,
    /// For what nobody will take out any more; flume keeps it as long as there is a sender.
    leftover: flume::Receiver<Request>,
    closed: AtomicBool,
    doorbell: Doorbell,
    pub(crate) budget: Budget,
}

/// The shard is gone.
pub(crate) struct Closed;

impl Inbox {
    /// An inbox for at most `messages` requests and proposals of at most `bytes` in flight.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn new(
        messages: usize,
        bytes: usize,
    ) -> std::io::Result<(Self, (flume::Receiver<Request>, Bell))> {
        let (requests, receiver) = flume::bounded(messages);
        let (doorbell, bell) = Doorbell::new()?;
        let (leftover, closed) = (receiver.clone(), AtomicBool::new(false));
        let inbox = Self { requests, leftover, closed, doorbell, budget: Budget::new(bytes) };
        Ok((inbox, (receiver, bell)))
    }

    /// The shard has ended. What is in the queue is dropped, now and later, and the reply channels
    /// with it: nobody waits for an answer that can't come.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.clear_if_closed();
        self.budget.close();
    }

    /// Called after every send: either it sees that the queue is closed, or who closes it sees what
    /// was sent.
    fn clear_if_closed(&self) {
        while self.is_closed() && self.leftover.try_recv().is_ok() {}
    }

    /// Queues without waiting and without waking the shard; gives the request back when the queue
    /// is full.
    #[allow(clippy::result_large_err, reason = "it gives the request back")]
    pub(crate) fn try_send(&self, request: Request) -> Result<(), flume::TrySendError<Request>> {
        if self.is_closed() {
            return Err(flume::TrySendError::Disconnected(request));
        }
        self.requests.try_send(request)?;
        self.clear_if_closed();
        Ok(())
    }

    /// Sends, waiting for room. A shard that ends drops what it did not answer, and that closes the
    /// request's reply channel.
    pub(crate) async fn send(&self, request: Request) -> Result<(), Closed> {
        if self.is_closed() {
            return Err(Closed);
        }
        self.requests.send_async(request).await.map_err(|_| Closed)?;
        self.sent();
        Ok(())
    }

    /// Sends, blocking the thread until there is room.
    pub(crate) fn send_blocking(&self, request: Request) -> Result<(), Closed> {
        if self.is_closed() {
            return Err(Closed);
        }
        self.requests.send(request).map_err(|_| Closed)?;
        self.sent();
        Ok(())
    }

    fn sent(&self) {
        self.clear_if_closed();
        self.doorbell.ring();
    }

    /// Whether the shard has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }
}

/// Bytes that may be in flight, from the submission to the answer. Whoever proposes takes its
/// share here first, so a slow disk or follower stops the callers and not the memory.
pub(crate) struct Budget {
    limit: i64,
    available: AtomicI64,
    closed: AtomicBool,
    has_waiters: AtomicBool,
    waiters: Mutex<Vec<Waker>>,
    turned_away: AtomicU64,
}

impl Budget {
    fn new(bytes: usize) -> Self {
        let limit = i64::try_from(bytes).unwrap_or(i64::MAX / 2);
        Self {
            limit,
            available: AtomicI64::new(limit),
            closed: AtomicBool::new(false),
            has_waiters: AtomicBool::new(false),
            waiters: Mutex::default(),
            turned_away: AtomicU64::new(0),
        }
    }

    /// Takes `weight` if there is as much, or if nothing is in flight: a single submission above
    /// the limit passes alone.
    pub(crate) fn try_take(&self, weight: usize) -> bool {
        let weight = weight as i64;
        let before = self.available.fetch_sub(weight, Ordering::AcqRel);
        let taken = before >= weight || before == self.limit || self.closed.load(Ordering::Acquire);
        if !taken {
            self.give_back(weight as usize);
        }
        taken
    }

    pub(crate) async fn take(&self, weight: usize) {
        poll_fn(|context| {
            if self.try_take(weight) {
                return Poll::Ready(());
            }
            self.waiters.lock().expect("no panic under this lock").push(context.waker().clone());
            self.has_waiters.store(true, Ordering::SeqCst);
            if self.try_take(weight) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Lets everybody pass, to find out that the shard is gone: what was in its inbox is never
    /// given back.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.give_back(0);
    }

    /// Bytes in flight.
    pub(crate) fn taken(&self) -> usize {
        let taken = self.limit - self.available.load(Ordering::Relaxed);
        usize::try_from(taken).unwrap_or(0)
    }

    /// A caller is told that there is no room.
    #[cold]
    pub(crate) fn turn_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was.
    pub(crate) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub(crate) fn give_back(&self, weight: usize) {
        self.available.fetch_add(weight as i64, Ordering::SeqCst);
        if self.has_waiters.swap(false, Ordering::SeqCst) {
            let waiters =
                std::mem::take(&mut *self.waiters.lock().expect("no panic under this lock"));
            waiters.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_refuses_what_it_does_not_have_and_lets_one_giant_pass_alone() {
        let budget = Budget::new(100);
        assert!(budget.try_take(60));
        assert!(!budget.try_take(60));
        assert!(budget.try_take(40));
        budget.give_back(100);
        assert!(budget.try_take(1000));
        assert!(!budget.try_take(1));
        budget.give_back(1000);
        assert!(budget.try_take(100));
    }

    #[test]
    fn a_closed_budget_keeps_nobody_waiting() {
        let budget = Budget::new(10);
        assert!(budget.try_take(10));
        assert!(!budget.try_take(1));
        budget.close();
        futures_lite::future::block_on(budget.take(5));
    }

    #[test]
    fn what_is_in_a_closed_inbox_is_dropped_whenever_it_was_sent() {
        let (inbox, (requests, _bell)) = Inbox::new(1, 10).expect("descriptors");
        let groups = || {
            let (reply, answer) = flume::bounded(1);
            (Request::Groups { from: 0, reply }, answer)
        };
        let ((first, first_answer), (second, second_answer)) = (groups(), groups());
        assert!(inbox.send_blocking(first).is_ok());
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| inbox.send_blocking(second));
            inbox.close();
            // It was sent before, or refused after.
            let _ = blocked.join().expect("no panic");
        });
        assert!(first_answer.recv().is_err() && second_answer.recv().is_err());
        let (third, third_answer) = groups();
        assert!(inbox.try_send(third).is_err() && third_answer.recv().is_err());
        assert!(inbox.is_closed() && requests.is_empty());
    }

    #[test]
    fn a_waiter_goes_on_when_another_gives_back() {
        let budget = std::sync::Arc::new(Budget::new(10));
        assert!(budget.try_take(10));
        let waiter = std::thread::spawn({
            let budget = budget.clone();
            move || futures_lite::future::block_on(budget.take(5))
        });
        while !budget.has_waiters.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        budget.give_back(10);
        waiter.join().expect("the waiter took its share");
        assert!(!budget.try_take(6));
    }
}
