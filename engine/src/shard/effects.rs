//! What a turn of a shard asks its driver to do.

use std::time::Duration;

use bytes::Bytes;
use ringleader_net::{DataId, DataReplaced};
use ringleader_wal::disk::{DiskOp, OpId};
use ringleader_wal::{GroupId, LogIndex, LogPosition, NodeId, Recovered, Seq, Term};

use super::bulk::Lane;
use super::existence::{CreateAnswer, DestroyAnswer};
use super::links::LinkId;
use super::log_reads::LogAnswer;
use super::membership::ChangeAnswer;
use super::proposal::AnswerRun;
use super::reading::ReadRun;
use super::resets::ResetAnswer;
use super::transfers::{TransferId, TransferResult};
use crate::error::SnapshotError;

/// The effects of one turn; the driver owns it, empties it and passes it again.
#[derive(Debug, Default)]
pub struct Effects {
    /// Disk operations, to be started in this order; they may complete in any order.
    pub disk: Vec<(OpId, DiskOp)>,
    /// Frames, to be sent in this order on each lane of each link.
    pub frames: Vec<OutFrame>,
    /// Links that are to have a lane for bulk data to their peer.
    pub lanes: Vec<LinkId>,
    /// Data directories of other nodes that the groups' logs name, for the node's
    /// [book](ringleader_net::book).
    pub told: Vec<(NodeId, DataId)>,
    /// Links whose connections are to be closed: their peers lost the data that they are known with.
    /// To the shard they are down already.
    pub refused: Vec<(LinkId, DataReplaced)>,
    /// Answers to callers.
    pub answers: Vec<AnswerRun>,
    /// Answers to who asked for changes of the members.
    pub changes: Vec<ChangeAnswer>,
    /// Answers to who asked for members to be set anew.
    pub resets: Vec<ResetAnswer>,
    /// Answers to who creates groups.
    pub created: Vec<CreateAnswer>,
    /// Answers to who destroys groups.
    pub destroyed: Vec<DestroyAnswer>,
    /// What became of transfers.
    pub transfers: Vec<(TransferId, TransferResult)>,
    /// Answers to who reads committed entries back.
    pub log_reads: Vec<LogAnswer>,
    /// Answers to those who asked for a snapshot.
    pub snapshots: Vec<SnapshotAnswer>,
    /// Reads that may be served now, from the state machines as they are after this turn, and
    /// those that failed.
    pub reads: Vec<ReadRun>,
    /// What took how long.
    pub took: Vec<(Timed, Duration)>,
    /// What the node's owner should know.
    pub notices: Vec<Notice>,
}

impl Effects {
    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.disk.clear();
        self.frames.clear();
        self.lanes.clear();
        self.told.clear();
        self.refused.clear();
        self.answers.clear();
        self.changes.clear();
        self.resets.clear();
        self.created.clear();
        self.destroyed.clear();
        self.transfers.clear();
        self.log_reads.clear();
        self.snapshots.clear();
        self.reads.clear();
        self.took.clear();
        self.notices.clear();
    }
}

/// The answer to [`Shard::request_snapshot`](super::Shard::request_snapshot).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotAnswer {
    /// What the caller named its request.
    pub ticket: u64,
    /// The last entry that a durable snapshot covers: whatever was applied when it was asked for,
    /// or more.
    pub result: Result<LogPosition, SnapshotError>,
}

/// A frame for a peer: the protocol messages of one turn.
#[derive(Clone, Debug)]
pub struct OutFrame {
    /// Where to.
    pub link: LinkId,
    /// On which of its connections.
    pub lane: Lane,
    /// The connection it was made for; on a later one it must not be sent.
    pub epoch: u64,
    /// The messages, as an rkyv archive (see `codec.rs`).
    pub envelope: Bytes,
    /// Their blocks, back to back in as many parts as suits: small ones share a part.
    pub blocks: Vec<Bytes>,
}

/// Something that happens to a shard seldom.
#[derive(Debug)]
pub enum Notice {
    /// The log was read; the shard takes part in its groups from now on.
    Recovered(RecoverySummary),
    /// The log could not be read; the shard does nothing.
    RecoveryFailed(String),
    /// A write or sync of the log failed. Nothing is acknowledged any more, and the shard is
    /// silent towards its peers, so that they elect others.
    StorageFailed(String),
    /// The disk is full: proposals are refused, everything else goes on.
    SpaceExhausted,
    /// There is room again.
    SpaceAvailable,
    /// A group was created; it is durable with the answer.
    GroupCreated(GroupId),
    /// A group's replica was destroyed, likewise.
    GroupDestroyed(GroupId),
    /// A group's snapshot is durable, up to this entry.
    SnapshotTaken(GroupId, LogPosition),
    /// A group's state machine and log were replaced by the leader's snapshot, which covers what the
    /// log lacked.
    SnapshotInstalled(GroupId, LogPosition),
    /// A group's snapshot, which covers everything up to this entry, could not be taken, sent or
    /// installed; it is tried again.
    SnapshotFailed(GroupId, LogPosition, String),
    /// A group's state machine keeps its state on stable storage and gives no snapshots: its log grows
    /// for ever.
    LogKept(GroupId),
    /// This peer lacks what the group's log no longer holds, and the state machine gives no snapshot
    /// to be sent to it: it gets nothing, unless a member leads whose state machine does.
    PeerStranded(GroupId, NodeId),
    /// Something happened in a group.
    Group(GroupNotice),
}

/// Something that happens to a group seldom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupNotice {
    /// The group.
    pub group: GroupId,
    /// The current term.
    pub term: Term,
    /// The last entry of this node's log.
    pub last: LogPosition,
    /// The last entry known committed.
    pub commit: LogIndex,
    /// What happened.
    pub what: GroupEvent,
}

/// See [`GroupNotice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// This node stands in an election: it votes for itself.
    Stands,
    /// This node leads.
    Leads,
    /// This node no longer leads.
    SteppedDown {
        /// Why.
        cause: StepDown,
        /// The new leader, if it is known.
        leader: Option<NodeId>,
    },
    /// This node follows another leader, or knows of none.
    Follows {
        /// The leader.
        leader: Option<NodeId>,
    },
    /// Entries that an earlier leader left here, and that were never committed, are dropped.
    Truncated {
        /// The first of them.
        from: LogIndex,
    },
    /// A change of the members is complete.
    MembersChanged {
        /// Where the configuration stands.
        at: LogIndex,
    },
    /// A change of the members was given up: this node did not catch up.
    ChangeGivenUp {
        /// The node that was to become a voter.
        node: NodeId,
    },
    /// The members were set anew here, without a majority.
    MembersReset {
        /// Where the configuration stands.
        at: LogIndex,
    },
    /// The group was reset elsewhere; see [`era`](crate::raft::era).
    EraBegan,
    /// This leader began to hand its office over.
    TransferBegun {
        /// Who is to lead.
        to: NodeId,
    },
    /// That node leads.
    TransferDone {
        /// The new leader.
        to: NodeId,
    },
    /// That node did not take over: this one goes on, or a third one leads.
    TransferGivenUp {
        /// Who was to lead.
        to: NodeId,
    },
    /// A peer was sent a snapshot, and has put it in place.
    SnapshotSent {
        /// The peer.
        peer: NodeId,
        /// The last entry that it covers.
        at: LogPosition,
    },
    /// The connection was lost on which a snapshot was sent, and the peer gets on with it from where
    /// it was.
    SnapshotResumed {
        /// The peer.
        peer: NodeId,
        /// The last entry that it covers.
        at: LogPosition,
    },
    /// A snapshot is not sent to a peer any more, or not taken from one.
    SnapshotGivenUp {
        /// The peer.
        peer: NodeId,
        /// The last entry that it covers.
        at: LogPosition,
        /// Why.
        cause: GiveUp,
    },
}

/// Why a snapshot that was on its way was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// The peer that is sent it did not get on for
    /// [`transfer_timeout`](crate::SnapshotConfig::transfer_timeout).
    PeerStuck,
    /// This node does not lead any more, or the peer is not in the group any more.
    NotLeading,
    /// The leader that sends it did not get on for as long.
    LeaderStuck,
    /// The leader, or another one, sends a newer one instead.
    Newer,
}

/// What a shard says the length of, by the times that it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// A snapshot was taken: from its beginning until it was durable.
    SnapshotTaken,
    /// A leader's snapshot was put in place: from the first piece's arrival.
    SnapshotInstalled,
    /// A state machine was restored from a snapshot on disk, at a start or within an installation.
    SnapshotLoaded,
}

/// Why a leader stopped leading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepDown {
    /// It saw a higher term.
    HigherTerm,
    /// It had not heard from a quorum for an election timeout.
    NoQuorum,
    /// It is no voter of the group any more.
    Removed,
}

/// What recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoverySummary {
    /// Groups that have a state in the log.
    pub groups: usize,
    /// Entries in the log, over all groups.
    pub entries: u64,
    /// The log's last batch.
    pub durable: Seq,
    /// Groups whose state machine was restored from a snapshot.
    pub snapshots: usize,
}

impl From<&Recovered> for RecoverySummary {
    fn from(recovered: &Recovered) -> Self {
        Self {
            groups: recovered.groups.len(),
            entries: recovered.groups.iter().map(|g| g.last_index.0 - g.base.index.0).sum(),
            durable: recovered.durable,
            snapshots: 0,
        }
    }
}
