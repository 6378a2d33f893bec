//! The engine from any thread and any async runtime.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;
use ringleader_wal::{GroupId, LogIndex, LogPosition, NodeId, Term};

use crate::config::{Member, place};
use crate::error::{MemberError, ProposeError, QueryError, ReadError, SnapshotError, UnknownCause};
use crate::existence::GroupsHere;
use crate::inbox::{Inbox, Reader, Request};
use crate::local::{Local, Task};
use crate::members::Members;
use crate::queue::{FromThread, Queue};
use crate::raft::Priorities;
use crate::raft::reads::Consistency;
use crate::shard::{GroupStatus, ReadSubmission, Submission};
use crate::state_machine::StateMachine;

/// What a proposal's future resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposeReply {
    /// Where the operation stands in the group's log.
    pub index: LogIndex,
    /// The term it was proposed in.
    pub term: Term,
    /// The state machine's reply; empty if it made none.
    pub reply: Bytes,
}

/// The shard ended with the request in its hands.
const LOST: ProposeError = ProposeError::Unknown(UnknownCause::Stopped);

/// What all handles of an engine share.
pub(crate) struct Shared {
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    pub(crate) groups: GroupsHere,
    pub(crate) members: Members,
    pub(crate) priorities: HashMap<GroupId, Priorities>,
    pub(crate) max_entry_bytes: usize,
    pub(crate) next_client: AtomicU32,
    pub(crate) node: NodeId,
    pub(crate) cluster: u64,
    pub(crate) started: Instant,
    /// The engine was told to stop.
    pub(crate) stopping: AtomicBool,
}

impl Shared {
    /// The shard that a group is on, if it is on this node.
    pub(crate) fn place(&self, group: GroupId) -> u32 {
        place(group, self.inboxes.len() as u32)
    }

    /// Whether the engine was told to stop: a shard that has ended without that panicked.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

/// A way to a running [`Engine`](crate::Engine). Cloning is cheap; clones may be used from any
/// thread and any async runtime.
///
/// # Ordering
/// Operations for one group are appended in the order in which their futures are first polled;
/// with [`try_propose`](Handle::try_propose), in the order of the calls. An operation is answered
/// after it is durable on a majority of the group's voters and applied on this node.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// The way to the shard that has the group, if this node has it.
    pub(crate) fn inbox(&self, group: GroupId) -> &Inbox {
        &self.shared.inboxes[self.shared.place(group) as usize]
    }

    fn prepare(
        &self,
        group: GroupId,
        term: Option<Term>,
        payload: &[u8],
    ) -> Result<(&Inbox, Submission), ProposeError> {
        let max = self.shared.max_entry_bytes;
        if payload.len() > max {
            return Err(ProposeError::TooLarge { bytes: payload.len(), max });
        }
        let inbox = self.inbox(group);
        let mut submission = Submission::default();
        match term {
            None => submission.push(group, 0, payload),
            Some(term) => submission.push_in_term(group, term, 0, payload),
        }
        Ok((inbox, submission))
    }

    /// Proposes an operation to a group that this node leads, and waits until it is applied.
    /// Waits for room when too much is in flight.
    ///
    /// Dropping the future does not take the proposal back.
    ///
    /// # Errors
    /// [`ProposeError::Unknown`] is the only error after which the operation may take effect.
    pub async fn propose(
        &self,
        group: GroupId,
        payload: &[u8],
    ) -> Result<ProposeReply, ProposeError> {
        let (inbox, submission) = self.prepare(group, None, payload)?;
        send(inbox, submission).await
    }

    /// As [`propose`](Self::propose), for an operation that is appended in `term` or not at all: for
    /// callers who decided on what they saw in that term.
    ///
    /// # Errors
    /// As [`propose`](Self::propose), and [`ProposeError::WrongTerm`].
    pub async fn propose_in_term(
        &self,
        group: GroupId,
        term: Term,
        payload: &[u8],
    ) -> Result<ProposeReply, ProposeError> {
        let (inbox, submission) = self.prepare(group, Some(term), payload)?;
        send(inbox, submission).await
    }

    /// As [`propose`](Self::propose), but says [`ProposeError::Busy`] at once where that would
    /// wait for room. The future that comes back waits for the outcome only.
    ///
    /// # Errors
    /// As [`propose`](Self::propose).
    pub fn try_propose(
        &self,
        group: GroupId,
        payload: &[u8],
    ) -> Result<impl Future<Output = Result<ProposeReply, ProposeError>> + use<>, ProposeError>
    {
        let (inbox, submission) = self.prepare(group, None, payload)?;
        let weight = submission.weight();
        if !inbox.budget.try_take(weight) {
            inbox.budget.turn_away();
            return Err(ProposeError::Busy);
        }
        let (reply, answer) = flume::bounded(1);
        if let Err(error) = inbox.try_send(Request::Propose { submission, reply }) {
            inbox.budget.give_back(weight);
            return Err(match error {
                flume::TrySendError::Full(_) => {
                    inbox.budget.turn_away();
                    ProposeError::Busy
                }
                flume::TrySendError::Disconnected(_) => ProposeError::Stopped,
            });
        }
        inbox.doorbell().ring();
        Ok(async move { answer.recv_async().await.unwrap_or(Err(LOST)) })
    }

    /// A submission and completion queue to one shard, for callers with many operations in
    /// flight; `depth` of them at most.
    ///
    /// # Panics
    /// When there is no such shard.
    #[must_use]
    pub fn queue(&self, shard: u32, depth: usize) -> Queue {
        let announce = FromThread::to(&self.shared.inboxes[shard as usize]);
        Queue::new(Arc::clone(&self.shared), shard, announce, depth)
    }

    /// Runs a task on a shard's own core, beside the shard. `task` is made there, so it need not
    /// be [`Send`]; what it proposes through [`Local::queue`] crosses no thread.
    ///
    /// The task must never block and must not run long between its awaits: nothing of the shard
    /// goes on meanwhile. A panic in it ends the shard, as one in a
    /// [state machine](StateMachine) does. It is dropped when the engine stops.
    ///
    /// # Errors
    /// [`QueryError::Stopped`]; the task was not started.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn spawn_on<F: Future<Output = ()> + 'static>(
        &self,
        shard: u32,
        task: impl FnOnce(Local) -> F + Send + 'static,
    ) -> Result<(), QueryError> {
        let task: Task = Box::new(move |local| Box::pin(task(local)));
        let sent = self.shared.inboxes[shard as usize].send_blocking(Request::Spawn(task));
        sent.map_err(|_| QueryError::Stopped)
    }

    /// The shard that a group lives on, if this node has the group.
    #[must_use]
    pub fn shard_of(&self, group: GroupId) -> Option<u32> {
        self.shared.groups.contains(group).then(|| self.shared.place(group))
    }

    /// Number of shards of this node.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.shared.inboxes.len() as u32
    }

    /// Adds a node to those that this one connects to, or changes its address: connections that
    /// this node made to the old one are closed, and the new one is dialed at once. A node keeps its
    /// number wherever it moves.
    ///
    /// This is about who can be reached, not about who has a vote in which group. Every node has to
    /// be told, in any order, before a group gets a member there; a node that was not told refuses
    /// the new one's connections, with a line in both logs, until it is. Nothing of it is durable:
    /// the configuration that the node is started with next should say the same.
    ///
    /// It takes effect on every shard before any request that is made after this returns.
    ///
    /// # Errors
    /// See [`MemberError`]; nothing changed.
    pub fn set_member(&self, member: Member) -> Result<(), MemberError> {
        self.update_nodes(|members| members.set(member))
    }

    /// Forgets a node: its connections are closed, and it is refused from now on. A group of which
    /// it is still a voter counts it as down, so take it out of its groups first. Nothing happens
    /// if it was not known.
    ///
    /// # Errors
    /// See [`MemberError`]; nothing changed.
    pub fn remove_member(&self, node: NodeId) -> Result<(), MemberError> {
        self.update_nodes(|members| members.remove(node))
    }

    /// The cluster's nodes as this one knows them at the moment, itself included, in the order of
    /// their numbers.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.shared.members.all()
    }

    fn update_nodes(
        &self,
        change: impl FnOnce(&Members) -> Result<bool, MemberError>,
    ) -> Result<(), MemberError> {
        if self.shared.is_stopping() {
            return Err(MemberError::Stopped);
        }
        if change(&self.shared.members)? {
            self.shared.inboxes.iter().for_each(|inbox| inbox.doorbell().ring());
        }
        Ok(())
    }

    /// A group's role, leader, term and indices, as this node sees them.
    ///
    /// # Errors
    /// When the node has no such group or is stopped.
    pub async fn status(&self, group: GroupId) -> Result<GroupStatus, QueryError> {
        let inbox = self.inbox(group);
        let (reply, answer) = flume::bounded(1);
        let sent = inbox.send(Request::Status { group, reply }).await;
        sent.map_err(|_| QueryError::Stopped)?;
        let status = answer.recv_async().await.map_err(|_| QueryError::Stopped)?;
        status.ok_or(QueryError::UnknownGroup(group))
    }

    /// Has a snapshot taken of what the group has applied on this node, unless there is one already,
    /// and waits until it is durable; the last entry that it covers. Snapshots wait for each other on
    /// a shard.
    ///
    /// Dropping the future does not take the request back.
    ///
    /// # Errors
    /// Why there is none. Nothing of the group's state depends on it.
    pub async fn snapshot(&self, group: GroupId) -> Result<LogPosition, SnapshotError> {
        let inbox = self.inbox(group);
        let (reply, answer) = flume::bounded(1);
        let sent = inbox.send(Request::Snapshot { group, reply }).await;
        sent.map_err(|_| SnapshotError::Stopped)?;
        answer.recv_async().await.unwrap_or(Err(SnapshotError::Stopped))
    }

    /// Reads the group's state machine on this node, on its shard's thread, linearizably: `read`
    /// sees every operation that was answered before this was called, whoever proposed it and
    /// wherever. It may be called on any member of the group; one that does not lead asks its
    /// leader and waits until it has applied as much itself. Nothing is written to any disk.
    ///
    /// Reads of one turn share one round of messages, or none ([`Consistency::Lease`]). Waits for
    /// room when too much is in flight. `read` must not block. Dropping the future does not keep it
    /// from being called.
    ///
    /// # Errors
    /// After any error `read` was not called; it may be tried again.
    pub async fn read<S: StateMachine, R: Send + 'static>(
        &self,
        group: GroupId,
        consistency: Consistency,
        read: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        let (reply, answer) = flume::bounded(1);
        let reader: Reader = Box::new(move |outcome| {
            let result = outcome.and_then(|(_, machine)| {
                let machine = (machine as &dyn Any).downcast_ref::<S>();
                machine.map(read).ok_or(ReadError::WrongType(group))
            });
            // A caller that no longer waits is no error.
            let _ = reply.send(result);
        });
        self.send_read(group, consistency, reader).await?;
        answer.recv_async().await.unwrap_or(Err(ReadError::Stopped))
    }

    /// As [`read`](Self::read), but reads nothing: it waits until the state machine on this node
    /// has applied everything that was committed when this was called, and says up to which entry
    /// that is. Whatever is read there from then on is at least as new.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_index(
        &self,
        group: GroupId,
        consistency: Consistency,
    ) -> Result<LogIndex, ReadError> {
        let (reply, answer) = flume::bounded(1);
        let reader: Reader = Box::new(move |outcome| {
            // A caller that no longer waits is no error.
            let _ = reply.send(outcome.map(|(index, _)| index));
        });
        self.send_read(group, consistency, reader).await?;
        answer.recv_async().await.unwrap_or(Err(ReadError::Stopped))
    }

    async fn send_read(
        &self,
        group: GroupId,
        consistency: Consistency,
        reader: Reader,
    ) -> Result<(), ReadError> {
        let inbox = self.inbox(group);
        let weight = ReadSubmission::weight_of(1);
        inbox.budget.take(weight).await;
        inbox.send(Request::Read { group, consistency, reader }).await.map_err(|_| {
            inbox.budget.give_back(weight);
            ReadError::Stopped
        })
    }

    /// Runs `inspect` on the group's state machine, on its shard's thread, and brings the result.
    ///
    /// This reads **what this node has applied**, which may be behind the group's leader: it is
    /// for tests, metrics and debugging. Clients are answered from [`read`](Self::read), or from
    /// here after [`read_index`](Self::read_index). It must not block.
    ///
    /// # Errors
    /// When the node has no such group, the state machine is of another type, or the engine is
    /// stopped.
    pub async fn inspect<S: StateMachine, R: Send + 'static>(
        &self,
        group: GroupId,
        inspect: impl FnOnce(&mut S) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        let inbox = self.inbox(group);
        let (reply, answer) = flume::bounded(1);
        let run = Box::new(move |machine: Option<&mut dyn StateMachine>| {
            let machine = machine.ok_or(QueryError::UnknownGroup(group)).and_then(|machine| {
                let machine = (machine as &mut dyn Any).downcast_mut::<S>();
                machine.ok_or(QueryError::WrongType(group))
            });
            // A caller that no longer waits is no error.
            let _ = reply.send(machine.map(inspect));
        });
        let sent = inbox.send(Request::Query { group, run }).await;
        sent.map_err(|_| QueryError::Stopped)?;
        answer.recv_async().await.unwrap_or(Err(QueryError::Stopped))
    }
}

async fn send(inbox: &Inbox, submission: Submission) -> Result<ProposeReply, ProposeError> {
    let weight = submission.weight();
    inbox.budget.take(weight).await;
    let (reply, answer) = flume::bounded(1);
    if inbox.send(Request::Propose { submission, reply }).await.is_err() {
        inbox.budget.give_back(weight);
        return Err(ProposeError::Stopped);
    }
    answer.recv_async().await.unwrap_or(Err(LOST))
}
