//! Errors, one enum per operation. Each variant says whether the operation may have taken effect.

use ringleader_wal::{GroupId, LogIndex, NodeId, Term};

use crate::raft::ResetRefused;
use crate::raft::transfer::TransferRefused;

/// Why a proposal was not, or may not have been, applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not proposed: another node leads the group, or nobody that this node knows of.
    #[error("this node does not lead the group{}", leader.map(|l| format!(" (node {l} does)")).unwrap_or_default())]
    NotLeader {
        /// The leader, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Not proposed: this node leads the group and is handing that over. Ask the other node in a
    /// moment, or this one again: one of them takes proposals within an election timeout.
    #[error("the leadership is being transferred to node {to}")]
    Transferring {
        /// Who is to lead.
        to: NodeId,
    },
    /// Not proposed: the operation was bound to another term than the one in which this node leads.
    #[error("this node leads in term {term}, not in the one that the operation is bound to")]
    WrongTerm {
        /// The term in which this node leads.
        term: Term,
    },
    /// Not proposed: a limit on operations or bytes in flight is reached. Wait for completions,
    /// then try again.
    #[error("too much is in flight; wait for completions")]
    Busy,
    /// Not proposed: the disk has no room for another log segment. The shard goes on by itself
    /// once there is.
    #[error("the log's disk is full")]
    NoSpace,
    /// Not proposed: the payload is above the limit.
    #[error("a payload of {bytes} bytes is above the limit of {max}")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// Not proposed: this node has no such group.
    #[error("no group {0} on this node")]
    UnknownGroup(GroupId),
    /// Not proposed: the shard's log failed, and it accepts nothing until the node is restarted.
    #[error("the shard's log failed: {0}")]
    StorageFailed(String),
    /// Not proposed: the engine is stopped, or the group's shard
    /// [panicked](crate::shard::ShardHealth::Panicked).
    #[error("the engine, or the shard that was asked, is stopped")]
    Stopped,
    /// **It may or may not take effect**: it was appended to the log, and then this node lost the
    /// sight of it.
    #[error("outcome unknown: {0}")]
    Unknown(UnknownCause),
}

/// Why an outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCause {
    /// This node stopped leading the group before the operation was committed.
    #[error("leadership was lost before the operation was committed")]
    LeadershipLost,
    /// The engine was stopped, or the shard panicked, before the operation was known to be committed.
    #[error("the engine, or the shard, stopped before the operation was known to be committed")]
    Stopped,
    /// The shard's log failed before the operation was committed.
    #[error("the log failed before the operation was committed")]
    StorageFailed,
}

/// Why a group's members were not, or may not have been, changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Nothing changed: another node leads the group, or nobody that this node knows of; or it
    /// stopped leading before the change was in the log.
    #[error("this node does not lead the group{}", leader.map(|l| format!(" (node {l} does)")).unwrap_or_default())]
    NotLeader {
        /// The leader, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Nothing changed: the leader has not committed an entry of its term yet. Try again at once.
    #[error("the leader has only just been elected")]
    NotReady,
    /// Nothing changed: another change is under way.
    #[error("another change of the members is under way")]
    InProgress,
    /// Nothing changed: the leadership is being transferred.
    #[error("the leadership is being transferred")]
    Transferring,
    /// Nothing changed: there is no such configuration.
    #[error("impossible change: {0}")]
    Impossible(&'static str),
    /// Nothing changed: this node does not know where that one is; see
    /// [`Handle::set_member`](crate::Handle::set_member).
    #[error("node {0} is not known here")]
    UnknownNode(NodeId),
    /// Nothing changed: this node was to become a voter and did not catch up, because it is down,
    /// has no such group, or is too slow.
    #[error("node {0} does not catch up")]
    TooSlow(NodeId),
    /// Nothing changed: the disk has no room for another log segment.
    #[error("the log's disk is full")]
    NoSpace,
    /// Nothing changed: this node has no such group.
    #[error("no group {0} on this node")]
    UnknownGroup(GroupId),
    /// Nothing changed: the shard's log failed.
    #[error("the shard's log failed: {0}")]
    StorageFailed(String),
    /// Nothing changed: the engine is stopped, or the group's shard
    /// [panicked](crate::shard::ShardHealth::Panicked).
    #[error("the engine, or the shard that was asked, is stopped")]
    Stopped,
    /// **The change may or may not take place**: it is in the log, and then this node lost the sight
    /// of it. The next leader brings it to its end if it has it, and only then takes another.
    #[error("outcome unknown: {0}")]
    Unknown(UnknownCause),
}

/// Why a group's members were not, or may not have been, set anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetError {
    /// Nothing changed.
    #[error(transparent)]
    Refused(#[from] ResetRefused),
    /// Nothing changed: this node does not know where that one is; see
    /// [`Handle::set_member`](crate::Handle::set_member).
    #[error("node {0} is not known here")]
    UnknownNode(NodeId),
    /// Nothing changed: the disk has no room for another log segment.
    #[error("the log's disk is full")]
    NoSpace,
    /// Nothing changed: this node has no such group.
    #[error("no group {0} on this node")]
    UnknownGroup(GroupId),
    /// Nothing changed: the shard's log failed.
    #[error("the shard's log failed: {0}")]
    StorageFailed(String),
    /// Nothing changed: the engine is stopped, or the group's shard
    /// [panicked](crate::shard::ShardHealth::Panicked).
    #[error("the engine, or the shard that was asked, is stopped")]
    Stopped,
    /// **The members may or may not be set anew**: the entry was written, and may be durable.
    #[error("outcome unknown: {0}")]
    Unknown(UnknownCause),
}

/// Why a group was not, or may not have been, created on this node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateGroupError {
    /// Nothing changed: the group is here.
    #[error("group {0} is on this node already")]
    Exists(GroupId),
    /// Nothing changed: the group was here and was destroyed. Its number is used up on this node.
    #[error("group {0} was destroyed on this node; use another number")]
    Destroyed(GroupId),
    /// Nothing changed: there is no such group.
    #[error("{0}")]
    Invalid(String),
    /// Nothing changed: this node does not know where that one is; see
    /// [`Handle::set_member`](crate::Handle::set_member).
    #[error("node {0} is not known here")]
    UnknownNode(NodeId),
    /// Nothing changed: the disk has no room for another log segment.
    #[error("the log's disk is full")]
    NoSpace,
    /// Nothing changed: the shard's log failed.
    #[error("the shard's log failed: {0}")]
    StorageFailed(String),
    /// Nothing changed: the engine is stopped, or the group's shard
    /// [panicked](crate::shard::ShardHealth::Panicked).
    #[error("the engine, or the shard that was asked, is stopped")]
    Stopped,
    /// **The group may or may not be there** when the node is started again.
    #[error("outcome unknown: {0}")]
    Unknown(UnknownCause),
}

/// Why a group's replica on this node was not, or may not have been, destroyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestroyGroupError {
    /// Nothing changed: as far as this node knows, it is a member of the group.
    #[error("this node is a member of group {0}: remove it from the group first")]
    StillMember(GroupId),
    /// Nothing changed: this node has no such group.
    #[error("no group {0} on this node")]
    UnknownGroup(GroupId),
    /// Nothing changed: the shard's log failed.
    #[error("the shard's log failed: {0}")]
    StorageFailed(String),
    /// Nothing changed: the engine is stopped, or the group's shard
    /// [panicked](crate::shard::ShardHealth::Panicked).
    #[error("the engine, or the shard that was asked, is stopped")]
    Stopped,
    /// **The replica may or may not be there** when the node is started again.
    #[error("outcome unknown: {0}")]
    Unknown(UnknownCause),
}

/// Why a leadership was not transferred, or is not known to have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Nothing was begun.
    #[error(transparent)]
    Refused(#[from] TransferRefused),
    /// Nothing was begun: this node has no such group.
    #[error("no group {0} on this node")]
    UnknownGroup(GroupId),
    /// It did not happen within an election timeout, or the connection to the target broke, so this
    /// node leads on. Until something else is appended, the target may still take over, late.
    #[error("node {to} did not take over; this node leads on")]
    NotTaken {
        /// The target.
        to: NodeId,
    },
    /// Somebody else was elected meanwhile.
    #[error("node {leader} was elected instead")]
    Elected {
        /// Who leads.
        leader: NodeId,
    },
    /// This node no longer leads, and nobody is known to yet.
    #[error("this node no longer leads, and node {to} is not known to")]
    Unsettled {
        /// The target.
        to: NodeId,
    },
    /// The shard's log failed. A transfer that was begun may still succeed.
    #[error("the shard's log failed: {0}")]
    StorageFailed(String),
    /// The engine is stopped, or the group's shard
    /// [panicked](crate::shard::ShardHealth::Panicked). A transfer that was begun may still succeed.
    #[error("the engine, or the shard that was asked, is stopped")]
    Stopped,
}

/// Why a linearizable read was not served. It has no effect in any case, and may be asked for
/// again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nobody is known to lead the group, or whoever was asked does not: try again after an
    /// election, or on another node.
    #[error("no leader of the group can be asked")]
    NoLeader,
    /// The leadership changed while the read waited.
    #[error("the leadership changed while the read waited")]
    LeaderChanged {
        /// The leader now, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// A limit on reads that wait is reached. Wait for completions, then try again.
    #[error("too many reads wait; wait for completions")]
    Busy,
    /// It was not served within [`read_timeout`](crate::Limits::read_timeout): the leader can't be
    /// reached, or this node applies what is committed too slowly.
    #[error("the read was not served in time")]
    TimedOut,
    /// This node has no such group.
    #[error("no group {0} on this node")]
    UnknownGroup(GroupId),
    /// The group's state machine is of another type.
    #[error("the state machine of group {0} is of another type")]
    WrongType(GroupId),
    /// The shard's log failed, and it serves nothing until the node is restarted.
    #[error("the shard's log failed: {0}")]
    StorageFailed(String),
    /// The engine is stopped, or the group's shard
    /// [panicked](crate::shard::ShardHealth::Panicked).
    #[error("the engine, or the shard that was asked, is stopped")]
    Stopped,
}

/// Why committed entries were not read back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadLogError {
    /// A snapshot covers the entry, and the log no longer holds it.
    #[error("the log begins at entry {first} by now")]
    Compacted {
        /// The first entry that is still there, or will be.
        first: LogIndex,
    },
    /// The entry is not known to be committed here, or not durable here.
    #[error("entry {committed} is the last that is known committed here")]
    Beyond {
        /// The last one that is.
        committed: LogIndex,
    },
    /// Too many of these reads are under way on the shard, or it reads its own log first.
    #[error("too many reads of the log are under way")]
    Busy,
    /// This node has no such group.
    #[error("no group {0} on this node")]
    UnknownGroup(GroupId),
    /// The shard's log failed: what was written can't be read, or it failed before.
    #[error("the shard's log failed: {0}")]
    StorageFailed(String),
    /// The engine is stopped, or the group's shard
    /// [panicked](crate::shard::ShardHealth::Panicked).
    #[error("the engine, or the shard that was asked, is stopped")]
    Stopped,
}

/// Why a group's state could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// This node has no such group.
    #[error("no group {0} on this node")]
    UnknownGroup(GroupId),
    /// The group's state machine is of another type.
    #[error("the state machine of group {0} is of another type")]
    WrongType(GroupId),
    /// The engine is stopped, or the shard that was asked
    /// [panicked](crate::shard::ShardHealth::Panicked).
    #[error("the engine, or the shard that was asked, is stopped")]
    Stopped,
}

/// Why what is known of a node was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// It is this node itself: its address and shards are those that it was started with.
    #[error("this is the node itself; its entry takes effect when it is started")]
    ThisNode,
    /// The entry can't be right.
    #[error("{0}")]
    Invalid(String),
    /// The engine is stopped.
    #[error("the engine is stopped")]
    Stopped,
}

/// Why there is no new snapshot. The group goes on with its log as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// This node has no such group.
    #[error("no group {0} on this node")]
    UnknownGroup(GroupId),
    /// The group's state machine takes no snapshots.
    #[error("the state machine takes no snapshots")]
    Unsupported,
    /// Writing it failed, or the state machine did. What was written is removed.
    #[error("{0}")]
    Failed(String),
    /// The shard has not recovered yet, its log failed, it panicked, or the engine is stopped.
    #[error("the shard does not run")]
    Stopped,
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration contradicts itself or leaves its bounds.
    #[error("configuration: {0}")]
    Config(String),
    /// The data directory cannot be used: missing, not writable, in use, or another node's.
    #[error("data directory: {0}")]
    DataDir(String),
    /// The admin socket cannot be opened.
    #[error("admin socket: {0}")]
    Admin(String),
    /// The address cannot be listened on.
    #[error("listening on {address}: {cause}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The cause.
        cause: String,
    },
    /// The kernel or its limits do not allow io_uring.
    #[error("io_uring: {0}")]
    IoUring(String),
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(String),
    /// A shard's log could not be recovered.
    #[error("shard {shard}: {cause}")]
    Recovery {
        /// The shard.
        shard: u32,
        /// The cause, with the file and the place in it.
        cause: String,
    },
}

impl StartError {
    /// What to do with a node whose data is damaged or lost, in a word: nobody may go on with what
    /// is left of it, for it has forgotten promises.
    pub const HEAL: &str = "remove the node from its groups and add it again as a new node, with a \
         new number and an empty directory (the README has the commands, under \"A node whose data is \
         damaged or lost\")";
}

/// Why a group was not [founded](crate::found_group). Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// The configuration or the data directory can't be used.
    #[error(transparent)]
    Node(#[from] StartError),
    /// The configuration does not name the group.
    #[error("the configuration does not name group {0}")]
    UnknownGroup(GroupId),
    /// The configuration does not name a node that is to be a member.
    #[error("the configuration does not name node {0}")]
    UnknownNode(NodeId),
    /// There are no such members.
    #[error("impossible members: {0}")]
    Impossible(&'static str),
    /// There is something already.
    #[error("there is something already: {0}")]
    NotEmpty(&'static str),
    /// The state could not be had.
    #[error(transparent)]
    Machine(crate::state_machine::MachineError),
    /// It could not be written.
    #[error("{0}")]
    Storage(String),
}
