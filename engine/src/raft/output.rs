//! What a step gives out. The type says what each effect waits for.

use ringleader_net::DataId;
use ringleader_wal::{Block, HardState, LogIndex, LogPosition, NodeId, Term};

use super::message::{AppendRequest, Message, SnapshotId};
use super::reads::ReadAnswer;
use crate::time::Time;

/// Where a call's effects go, as they arise: records are staged in the order of these calls, and
/// confirmed with [`Raft::on_staged`](super::Raft::on_staged) before the next call.
pub trait Outlet {
    /// Stages entries that follow the last one.
    fn append(&mut self, block: &Block);

    /// Stages another record.
    fn log(&mut self, op: LogOp);

    /// A message that may leave at once.
    fn send(&mut self, to: NodeId, message: Message);

    /// Likewise; its blocks are in the log's memory.
    fn append_request(&mut self, to: NodeId, request: AppendRequest<'_>);

    /// A message that may leave only when everything that this group staged so far, until the end
    /// of the call, is durable: votes asked and given, and whatever else shows a term that a crash
    /// could still undo.
    fn send_when_durable(&mut self, to: NodeId, message: Message);

    /// Entries are to be read from the WAL for a peer that lags.
    fn load(&mut self, load: Load);

    /// A change of office or of the members.
    fn event(&mut self, event: Event);

    /// Something that is for whoever keeps the snapshots.
    fn snapshot(&mut self, event: SnapshotEvent);

    /// What became of reads that were asked for with [`Raft::read`](super::Raft::read).
    fn read(&mut self, answer: ReadAnswer);

    /// Reads wait for [`Raft::serve_reads`](super::Raft::serve_reads), which is to be called once
    /// everything that is ready was passed in.
    fn reads_wait(&mut self);

    /// When anything was last heard from the shard where `peer` keeps the group, on the connection
    /// to it: a message of any group, or a beat. None if there is no connection.
    fn heard(&self, peer: NodeId) -> Option<Time>;

    /// Which data directory a node has: what `node` showed on the connection to where it keeps the
    /// group, or this node's own. None if there is no connection.
    fn data(&self, node: NodeId) -> Option<DataId>;

    /// [`Raft::deadline`](super::Raft::deadline) may be earlier than it was. Otherwise it is where
    /// it was or later, and a timer that was set for it may stay.
    fn reschedule(&mut self);
}

/// Collects the effects of one or more calls. The caller owns it, reuses it, and drains it after
/// every call: first `log` is staged and confirmed, then the messages are sent.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Records for the WAL.
    pub log: Vec<LogOp>,
    /// Messages that may leave at once.
    pub send: Vec<(NodeId, Message)>,
    /// Messages that may leave when `log` and everything before it is durable.
    pub send_when_durable: Vec<(NodeId, Message)>,
    /// Entries to be read from the WAL.
    pub loads: Vec<Load>,
    /// Changes of office.
    pub events: Vec<Event>,
    /// What is for whoever keeps the snapshots.
    pub snapshots: Vec<SnapshotEvent>,
    /// What became of reads.
    pub reads: Vec<ReadAnswer>,
    /// [`Raft::serve_reads`](super::Raft::serve_reads) has something to do.
    pub reads_wait: bool,
    /// What [`Outlet::heard`] is to say; it is not an effect, and stays.
    pub heard: Vec<(NodeId, Time)>,
    /// What [`Outlet::data`] is to say, likewise.
    pub data: Vec<(NodeId, DataId)>,
}

impl Output {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
            && self.send.is_empty()
            && self.send_when_durable.is_empty()
            && self.loads.is_empty()
            && self.events.is_empty()
            && self.snapshots.is_empty()
            && self.reads.is_empty()
            && !self.reads_wait
    }
}

impl Outlet for Output {
    fn append(&mut self, block: &Block) {
        self.log.push(LogOp::Append(block.clone()));
    }

    fn log(&mut self, op: LogOp) {
        self.log.push(op);
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.send.push((to, message));
    }

    fn append_request(&mut self, to: NodeId, request: AppendRequest<'_>) {
        self.send.push((to, request.into()));
    }

    fn send_when_durable(&mut self, to: NodeId, message: Message) {
        self.send_when_durable.push((to, message));
    }

    fn load(&mut self, load: Load) {
        self.loads.push(load);
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    fn snapshot(&mut self, event: SnapshotEvent) {
        self.snapshots.push(event);
    }

    fn read(&mut self, answer: ReadAnswer) {
        self.reads.push(answer);
    }

    fn reads_wait(&mut self) {
        self.reads_wait = true;
    }

    fn heard(&self, peer: NodeId) -> Option<Time> {
        self.heard.iter().find(|heard| heard.0 == peer).map(|heard| heard.1)
    }

    fn data(&self, node: NodeId) -> Option<DataId> {
        self.data.iter().find(|data| data.0 == node).map(|data| data.1)
    }

    fn reschedule(&mut self) {}
}

/// What the protocol leaves to whoever keeps the snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotEvent {
    /// A peer lacks entries that the log no longer holds: it is to get the newest snapshot, from
    /// where it left off if it has a part of it. Said again whenever it answers a heartbeat.
    Send {
        /// The peer.
        peer: NodeId,
    },
    /// A peer answered a piece.
    Answered {
        /// The peer.
        peer: NodeId,
        /// Which snapshot.
        id: SnapshotId,
        /// The number of the piece that it waits for.
        next: u32,
    },
    /// A piece of a snapshot came from this term's leader, and it covers what the log lacks. It is
    /// answered with [`Raft::answer_piece`](super::Raft::answer_piece); once the snapshot is durable
    /// and the state machine restored, [`Raft::install`](super::Raft::install) is called.
    Arrived {
        /// The leader.
        from: NodeId,
        /// Which snapshot.
        id: SnapshotId,
        /// Whether nothing follows.
        last: bool,
        /// The piece; see [`Message::SnapshotPiece`].
        piece: Block,
    },
}

/// One record for the WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOp {
    /// The entries from here on are void.
    Truncate(LogIndex),
    /// Entries that follow the last one.
    Append(Block),
    /// Replaces the earlier hard state.
    HardState(HardState),
    /// The entries up to here are void: a snapshot that is durable covers them. The log begins
    /// after this position, which may lie beyond its last entry.
    Release(LogPosition),
}

/// A wish to read entries for a peer; answered with [`Raft::on_loaded`](super::Raft::on_loaded) or
/// [`Raft::on_load_failed`](super::Raft::on_load_failed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Whom the entries are for.
    pub peer: NodeId,
    /// The first entry to read.
    pub from: LogIndex,
    /// Enough is read when the blocks hold this many bytes; at least one block is.
    pub max_bytes: usize,
}

/// A change of office or of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node leads the group.
    BecameLeader {
        /// The term of office.
        term: Term,
    },
    /// This node no longer leads the group.
    SteppedDown {
        /// The present term.
        term: Term,
        /// The new leader, if it is known.
        leader: Option<NodeId>,
    },
    /// This node, which did not and does not lead, learned who does, or that nobody is known to.
    LeaderChanged {
        /// The present term.
        term: Term,
        /// The leader of that term, if it is known.
        leader: Option<NodeId>,
    },
    /// Another configuration is in force, because one was appended or taken back, or a leader began
    /// or ceased to send the log to nodes that are no members.
    Reconfigured,
    /// A change of the members that this leader was asked for, with
    /// [`Raft::change_members`](super::Raft::change_members), or found half done, is at its end: the
    /// latest configuration is committed.
    MembersChanged {
        /// Where the configuration stands.
        at: LogIndex,
    },
    /// That change was given up, and had no effect: this node did not catch up.
    ChangeGivenUp {
        /// The node that was to become a voter.
        node: NodeId,
    },
    /// The members of the group were set anew on this node, without a majority.
    MembersReset {
        /// Where the configuration stands.
        at: LogIndex,
    },
    /// The group was reset elsewhere: this is the first that the node hears of it.
    EraBegan {
        /// The present term.
        term: Term,
    },
}

impl Event {
    /// Whether it tells of another leader, or of none.
    #[must_use]
    pub fn is_of_office(&self) -> bool {
        matches!(
            self,
            Self::BecameLeader { .. } | Self::SteppedDown { .. } | Self::LeaderChanged { .. }
        )
    }
}
