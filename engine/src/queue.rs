//! A submission and completion queue pair, in the manner of io_uring.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use ringleader_wal::{GroupId, Term};

use crate::error::ProposeError;
use crate::handle::Shared;
use crate::inbox::{Answers, Inbox, Request};
use crate::raft::reads::Consistency;
use crate::shard::{
    AnswerRun, ClientId, Completion, ReadCompletion, ReadRun, ReadSubmission, Submission,
};

/// How a queue tells its shard that something was submitted.
pub trait Announce {
    /// Called after it was queued in the shard's inbox.
    #[doc(hidden)]
    fn announce(&self);
}

/// Rings the shard's doorbell, from any thread.
pub struct FromThread(Arc<Inbox>);

impl FromThread {
    pub(crate) fn to(inbox: &Arc<Inbox>) -> Self {
        Self(Arc::clone(inbox))
    }
}

impl Announce for FromThread {
    fn announce(&self) {
        self.0.doorbell().ring();
    }
}

/// Many operations in flight from one thread to one shard.
///
/// [`push`](Self::push) any number of operations, each with a `user_data` of your own;
/// [`submit`](Self::submit) them all as one message; [`drain`](Self::drain) the completions. None
/// of these allocates, locks or wakes anyone per operation.
///
/// # Reads
/// [`push_read`](Self::push_read) asks when the group's state machine on this node may be read. The
/// completion ([`drain_reads`](Self::drain_reads)) says that it may be from then on, and nothing is
/// read for the caller. A task on the shard's core that shares the state with its state machine (by
/// an `Rc`; both live on that thread) reads it right there: no thread is crossed, no closure boxed,
/// no copy made. From elsewhere, [`Handle::read`](crate::Handle::read) does both in one.
///
/// # Ordering
/// Operations for one group are appended in the order of their pushes. Completions of one group
/// come in that order too, unless some of them failed; between groups there is no order. A read sees
/// what was completed before its submission; of what is still in flight then, it sees some or none.
///
/// # Back-pressure
/// At most `depth` operations and reads are pushed and not yet drained; the shard's budget of bytes
/// bounds all its callers together. At either limit the non-blocking calls say so and nothing is
/// lost.
pub struct Queue<A = FromThread> {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    announce: A,
    shard: u32,
    client: ClientId,
    depth: usize,
    outstanding: usize,
    staged: Submission,
    staged_reads: Option<Box<ReadSubmission>>,
    /// Weight of what is staged that was already taken from the budget.
    taken: usize,
    answers: flume::Receiver<Answers>,
    /// Waits for the next of them, since [`poll_ready`](Self::poll_ready) was called.
    receiving: Option<flume::r#async::RecvFut<'static, Answers>>,
    attached: Option<flume::Sender<Answers>>,
    ready: Option<Answers>,
    /// Arrived while only the others were drained.
    aside: VecDeque<Vec<AnswerRun>>,
    aside_reads: VecDeque<Vec<ReadRun>>,
}

/// Why an operation was not pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// `depth` operations are pushed and not yet drained.
    #[error("the queue is full")]
    Full,
    /// The payload is above the limit.
    #[error("a payload of {bytes} bytes is above the limit of {max}")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The group is not on this queue's shard.
    #[error("group {0} is not on this queue's shard")]
    WrongShard(GroupId),
}

/// Why a submission was not accepted. What was pushed stays pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The shard has too much in flight: drain completions, then submit again.
    #[error("the shard has too much in flight")]
    Busy,
    /// The engine is stopped, or the shard [panicked](crate::shard::ShardHealth::Panicked).
    #[error("the engine, or the shard, is stopped")]
    Stopped,
}

impl<A: Announce> Queue<A> {
    pub(crate) fn new(shared: Arc<Shared>, shard: u32, announce: A, depth: usize) -> Self {
        let (attached, answers) = flume::unbounded();
        let inbox = Arc::clone(&shared.inboxes[shard as usize]);
        let client = ClientId(shared.next_client.fetch_add(1, Ordering::Relaxed));
        Self {
            shared,
            inbox,
            announce,
            shard,
            client,
            depth,
            outstanding: 0,
            staged: Submission::default(),
            staged_reads: None,
            taken: 0,
            answers,
            receiving: None,
            attached: Some(attached),
            ready: None,
            aside: VecDeque::new(),
            aside_reads: VecDeque::new(),
        }
    }

    /// Stages an operation; `payload` is copied.
    ///
    /// # Errors
    /// Nothing was staged.
    pub fn push(
        &mut self,
        group: GroupId,
        user_data: u64,
        payload: &[u8],
    ) -> Result<(), PushError> {
        self.check(group, payload)?;
        self.staged.push(group, user_data, payload);
        self.outstanding += 1;
        Ok(())
    }

    /// As [`push`](Self::push), for an operation that is appended in `term` or not at all: it fails
    /// with [`ProposeError::WrongTerm`] when the group's leader is in another.
    ///
    /// # Errors
    /// Nothing was staged.
    pub fn push_in_term(
        &mut self,
        group: GroupId,
        term: Term,
        user_data: u64,
        payload: &[u8],
    ) -> Result<(), PushError> {
        self.check(group, payload)?;
        self.staged.push_in_term(group, term, user_data, payload);
        self.outstanding += 1;
        Ok(())
    }

    #[inline]
    fn check(&self, group: GroupId, payload: &[u8]) -> Result<(), PushError> {
        if self.outstanding == self.depth {
            return Err(PushError::Full);
        }
        let max = self.shared.max_entry_bytes;
        if payload.len() > max {
            return Err(PushError::TooLarge { bytes: payload.len(), max });
        }
        let known = self.staged.groups.last().is_some_and(|(last, _)| *last == group);
        if !known && self.shared.place(group) != self.shard {
            return Err(PushError::WrongShard(group));
        }
        Ok(())
    }

    /// Stages a read; see [Reads](Self#reads).
    ///
    /// # Errors
    /// Nothing was staged.
    pub fn push_read(
        &mut self,
        group: GroupId,
        consistency: Consistency,
        user_data: u64,
    ) -> Result<(), PushError> {
        if self.outstanding == self.depth {
            return Err(PushError::Full);
        }
        if self.shared.place(group) != self.shard {
            return Err(PushError::WrongShard(group));
        }
        self.staged_reads.get_or_insert_default().push(group, consistency, user_data);
        self.outstanding += 1;
        Ok(())
    }

    /// Hands everything that is staged to the shard, as one message; says how many operations
    /// and reads that were. Never waits.
    ///
    /// # Errors
    /// What was staged stays staged.
    pub fn submit(&mut self) -> Result<usize, SubmitError> {
        let submitted = self.try_submit();
        if submitted == Err(SubmitError::Busy) {
            self.inbox.budget.turn_away();
        }
        submitted
    }

    fn try_submit(&mut self) -> Result<usize, SubmitError> {
        if self.staged.is_empty() && self.staged_reads.is_none() {
            return Ok(0);
        }
        self.attach()?;
        let missing = self.missing();
        if missing > 0 && !self.inbox.budget.try_take(missing) {
            return Err(SubmitError::Busy);
        }
        self.taken += missing;
        self.send_staged()
    }

    /// As [`submit`](Self::submit), but waits for room in the shard's budget.
    ///
    /// # Errors
    /// [`SubmitError::Stopped`]; what was staged stays staged.
    pub async fn submit_when_room(&mut self) -> Result<usize, SubmitError> {
        loop {
            match self.try_submit() {
                Err(SubmitError::Busy) => {}
                done => return done,
            }
            let missing = self.missing();
            if missing == 0 {
                // The budget was there and the inbox full: the shard drains it every turn.
                futures_lite::future::yield_now().await;
                continue;
            }
            self.inbox.budget.take(missing).await;
            self.taken += missing;
        }
    }

    /// Weight of what is staged that has to be taken from the budget.
    fn missing(&self) -> usize {
        let reads = self.staged_reads.as_ref().map_or(0, |reads| reads.weight());
        self.staged.weight() + reads - self.taken
    }

    fn attach(&mut self) -> Result<(), SubmitError> {
        let Some(answers) = self.attached.take() else {
            let lost = self.answers.is_disconnected();
            return if lost { Err(SubmitError::Stopped) } else { Ok(()) };
        };
        match self.inbox.try_send(Request::Attach { client: self.client, answers }) {
            Ok(()) => Ok(()),
            Err(flume::TrySendError::Full(request)) => {
                if let Request::Attach { answers, .. } = request {
                    self.attached = Some(answers);
                }
                Err(SubmitError::Busy)
            }
            Err(flume::TrySendError::Disconnected(_)) => Err(SubmitError::Stopped),
        }
    }

    fn send_staged(&mut self) -> Result<usize, SubmitError> {
        let count = self.staged.len();
        let next = Submission {
            user_data: Vec::with_capacity(count),
            ends: Vec::with_capacity(count),
            payload: Vec::with_capacity(self.staged.payload.len()),
            groups: Vec::with_capacity(self.staged.groups.len()),
            terms: Vec::new(),
        };
        let submission = std::mem::replace(&mut self.staged, next).gathered();
        let reads = self.staged_reads.take();
        let count = count + reads.as_ref().map_or(0, |reads| reads.len());
        match self.inbox.try_send(Request::Submit { client: self.client, submission, reads }) {
            Ok(()) => {
                self.announce.announce();
                self.taken = 0;
                Ok(count)
            }
            Err(flume::TrySendError::Full(request)) => {
                self.unsend(request);
                Err(SubmitError::Busy)
            }
            Err(flume::TrySendError::Disconnected(request)) => {
                self.unsend(request);
                Err(SubmitError::Stopped)
            }
        }
    }

    fn unsend(&mut self, request: Request) {
        if let Request::Submit { submission, reads, .. } = request {
            self.staged = submission;
            self.staged_reads = reads;
        }
    }

    /// Operations and reads pushed and not yet drained.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    fn arrived(&mut self) -> Option<Answers> {
        self.ready.take().or_else(|| self.answers.try_recv().ok())
    }

    /// The next completions of operations that have arrived; those of reads are put aside.
    fn arrived_proposals(&mut self) -> Option<Vec<AnswerRun>> {
        if let Some(runs) = self.aside.pop_front() {
            return Some(runs);
        }
        loop {
            match self.arrived()? {
                Answers::Proposals(runs) => return Some(runs),
                Answers::Reads(runs) => self.aside_reads.push_back(runs),
            }
        }
    }

    /// Likewise the other way round.
    fn arrived_reads(&mut self) -> Option<Vec<ReadRun>> {
        if let Some(runs) = self.aside_reads.pop_front() {
            return Some(runs);
        }
        loop {
            match self.arrived()? {
                Answers::Reads(runs) => return Some(runs),
                Answers::Proposals(runs) => self.aside.push_back(runs),
            }
        }
    }

    /// Gives every completion of an operation that has arrived to `each`, and says how many there
    /// were. Never waits.
    pub fn drain(&mut self, mut each: impl FnMut(Completion<'_>)) -> usize {
        let mut drained = 0;
        while let Some(runs) = self.arrived_proposals() {
            for run in runs {
                drained += run.len();
                run.for_each(&mut each);
            }
        }
        self.outstanding -= drained;
        drained
    }

    /// Gives every completion of a read that has arrived to `each`, and says how many there were.
    /// Never waits.
    pub fn drain_reads(&mut self, mut each: impl FnMut(ReadCompletion)) -> usize {
        let mut drained = 0;
        while let Some(runs) = self.arrived_reads() {
            for run in runs {
                drained += run.len();
                run.for_each(&mut each);
            }
        }
        self.outstanding -= drained;
        drained
    }

    fn is_ready(&self) -> bool {
        self.ready.is_some() || !self.aside.is_empty() || !self.aside_reads.is_empty()
    }

    /// Waits until a completion can be drained, of an operation or of a read; false when none can
    /// come any more because the engine is stopped, or the shard
    /// [panicked](crate::shard::ShardHealth::Panicked): what is then still outstanding may have
    /// taken effect.
    pub async fn ready(&mut self) -> bool {
        if !self.is_ready() {
            self.ready = self.answers.recv_async().await.ok();
        }
        self.is_ready()
    }

    /// As [`ready`](Self::ready), without borrowing the queue between two polls: for a queue that
    /// several tasks of one thread push to while one of them waits for the completions. The task that
    /// called this last is woken.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.is_ready() {
            let answers = &self.answers;
            let receiving = self.receiving.get_or_insert_with(|| answers.clone().into_recv_async());
            match Pin::new(receiving).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(answers) => {
                    self.receiving = None;
                    self.ready = answers.ok();
                }
            }
        }
        Poll::Ready(self.is_ready())
    }

    /// Takes everything that is staged and not submitted out of the queue again, reads too, with
    /// the reason that it cannot be submitted: for callers that give up after
    /// [`SubmitError::Stopped`].
    pub fn abandon(&mut self, mut each: impl FnMut(u64, ProposeError)) {
        let staged = std::mem::take(&mut self.staged);
        let reads = self.staged_reads.take().unwrap_or_default();
        self.outstanding -= staged.len() + reads.len();
        self.inbox.budget.give_back(std::mem::take(&mut self.taken));
        let names = staged.user_data.iter().chain(&reads.user_data);
        names.for_each(|&user_data| each(user_data, ProposeError::Stopped));
    }
}

impl Queue {
    /// Blocks the thread until a completion can be drained; false when none came in time or none
    /// can come any more, see [`ready`](Self::ready).
    pub fn wait(&mut self, timeout: Duration) -> bool {
        if !self.is_ready() {
            self.ready = self.answers.recv_timeout(timeout).ok();
        }
        self.is_ready()
    }
}

impl<A> Drop for Queue<A> {
    fn drop(&mut self) {
        self.inbox.budget.give_back(self.taken);
    }
}
