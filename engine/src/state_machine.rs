//! What a user replicates: a deterministic state machine, one per group and node.

use std::any::Any;
use std::ops::Range;

use bytes::Bytes;
use ringleader_wal::{Block, BlockKind, LogIndex, LogPosition, NodeId, Term};

use crate::raft::{CommittedBlocks, Configuration};

/// A group's state, changed by committed operations alone.
///
/// Every replica applies the same operations in the same order, each exactly once between a start
/// of the node and its end, so `apply` must be deterministic: no clock, no random number, no
/// environment. A state machine lives on its group's shard and never leaves that thread: it need
/// not be `Send`, and none of its methods may block.
///
/// One that can't go on panics. Where panics unwind, that ends its shard and no more: all groups of
/// the shard are led by other nodes from then on, and the node [reports](crate::Handle::report) it as
/// [`Panicked`](crate::shard::ShardHealth::Panicked) until it is restarted. The same operation is
/// applied again then. Where panics abort, that ends the node.
///
/// # State on stable storage
/// A state machine that keeps its state in a store of its own says so with
/// [`durable_position`](Self::durable_position), and has three things to see to:
///
/// - *It gives snapshots too*. The engine has one taken when a member lacks what the log no longer
///   holds, or when nothing else says who the members are. If [`snapshot`](Self::snapshot) is `None`
///   the whole log is kept, for ever, and a warning says so.
/// - *A snapshot replaces the whole store*, whatever was in it, and does so at once, in
///   [`restored`](Self::restored). Until then its chunks are kept aside: the snapshot may be given up
///   at any time, and the node then goes on from the old store. It may come to a machine that has
///   just opened its store, at a start; or to a second one, which the factory makes while the first
///   still applies entries. Once the second is restored, the first is given nothing more but the end
///   of its office ([`leader_stop`](Self::leader_stop), [`follow_stop`](Self::follow_stop)), and is
///   dropped; it must not write any more. A factory that keeps each group's open store, and gives it
///   to both, is one way to do this.
/// - *The store belongs to the node's data directory*: both are lost, or moved, together. A start is
///   refused where the store is ahead of the log, but for one case: a node that waits to be added to
///   a group (named without voters, and new to this node) may be given a copy of another node's store
///   beforehand, and is sent no more than what follows. Of a group that is destroyed on a node, the
///   store is its owner's to remove, once the answer says that it is destroyed.
///
/// Such a machine is given committed entries when this node's own log has them on stable storage too,
/// which may be a little later than others are.
pub trait StateMachine: Any {
    /// Applies committed operations, in log order. One call covers all that a group has to apply
    /// in one turn of its shard.
    ///
    /// A reply that is pushed for an entry reaches the caller who proposed it on this node; see
    /// [`Replies`].
    fn apply(&mut self, entries: &Entries<'_>, replies: &mut Replies);

    /// The group's members are `configuration` from the entry at `index` on, by a committed entry:
    /// at the beginning of a change through joint consensus, at its end, and when only learners
    /// change. Calls come in log order, on every replica and again after a restart, after the
    /// operations before `index` and perhaps some after it. What is before the entry that a machine
    /// starts from, by a snapshot or its own state, is not told again.
    ///
    /// A replica whose node is no longer among the members is not needed any more.
    fn configuration_committed(&mut self, index: LogIndex, configuration: &Configuration) {
        let _ = (index, configuration);
    }

    /// This node became the group's leader in `term`. Entries of earlier terms may still have to
    /// be applied.
    fn leader_start(&mut self, term: Term) {
        let _ = term;
    }

    /// This node was the group's leader in `term` and is no longer.
    fn leader_stop(&mut self, term: Term) {
        let _ = term;
    }

    /// This node follows `leader`, which leads the group in `term`.
    ///
    /// Of leading and following, each start is told exactly once, and its stop before the next
    /// start, in the order in which they came about. A node that knows no leader does neither.
    fn follow_start(&mut self, leader: NodeId, term: Term) {
        let _ = (leader, term);
    }

    /// This node followed `leader` in `term` and does so no longer.
    fn follow_stop(&mut self, leader: NodeId, term: Term) {
        let _ = (leader, term);
    }

    /// A view of the present state, to be written out while `apply` goes on: what is applied later
    /// must not show in it. Persistent structures, a copy on write or a copy of something small do.
    /// `None` (the default) says that this machine takes no snapshots: its log grows for ever.
    ///
    /// A machine with a [durable position](Self::durable_position) is asked for one before the log
    /// goes that the position covers; that view is dropped at once.
    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        None
    }

    /// Takes the next chunk of a snapshot, in the order and with the boundaries in which
    /// [`SnapshotSource::next_chunk`] gave them, perhaps on another node and by an earlier version of
    /// the program. The machine is in its initial state before the first, or in that of its store,
    /// which counts until the last: see [above](Self#state-on-stable-storage).
    ///
    /// # Errors
    /// What is wrong with the chunk; the snapshot is refused then.
    fn restore(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        let _ = chunk;
        Err(MachineError("it takes no snapshots".into()))
    }

    /// The last chunk was restored: the machine is what the snapshot says, and nothing else. A store
    /// of its own is replaced now, as a whole: a crash leaves the old state or the new one. As long as
    /// the new one is not on stable storage, [`durable_position`](Self::durable_position) must not say
    /// so; the snapshot's file stays as long as it is needed.
    ///
    /// # Errors
    /// What is missing; the snapshot is refused then.
    fn restored(&mut self) -> Result<(), MachineError> {
        Ok(())
    }

    /// For machines that keep their state on stable storage themselves: the last entry (an
    /// [`Entry`]'s index and term) whose effects, and those of all before it, survive a crash.
    /// `None` (the default) for all others.
    ///
    /// Asked at a start, it says where applying begins, so the machine must then be in the very state
    /// after that entry, even if that is beyond what was ever said before. Asked from time to time
    /// later, it says how far the log may go. It never goes back, and is `None` always or never.
    /// [Above](Self#state-on-stable-storage) is what else it means.
    fn durable_position(&self) -> Option<LogPosition> {
        None
    }
}

/// A state machine's view of its state at one moment.
pub trait SnapshotSource {
    /// The next chunk, of at most `max_bytes`; `None` when there is nothing left. The shard asks for
    /// one in a turn, while there is room to write it, and goes on with everything else in between.
    ///
    /// # Errors
    /// What failed; the snapshot is given up then, and tried again later.
    fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>, MachineError>;
}

/// What a state machine says when it can't make or take a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state machine: {0}")]
pub struct MachineError(pub String);

/// One committed operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its place in the group's log. Indices rise, with gaps where the protocol put entries of
    /// its own.
    pub index: LogIndex,
    /// The term in which it was proposed.
    pub term: Term,
    /// What the caller proposed.
    pub payload: &'a [u8],
}

/// Committed operations of one group, in log order. The payloads lie in the blocks that the
/// network and the log share; nothing was copied.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a> {
    blocks: CommittedBlocks<'a>,
}

impl<'a> Entries<'a> {
    /// The operations among the entries of `blocks`; none if there are only others.
    pub(crate) fn of(blocks: CommittedBlocks<'a>) -> Option<Self> {
        blocks.iter().any(|portion| is_for_machine(&portion)).then_some(Self { blocks })
    }

    /// Number of operations, at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "apply is never called with nothing")]
    pub fn len(&self) -> usize {
        let count = |(_, first, last): (_, LogIndex, LogIndex)| (last.0 + 1 - first.0) as usize;
        self.blocks.iter().filter(is_for_machine).map(count).sum()
    }

    /// The operations in log order. `for_each` and `fold` are faster than a `for` loop here: they
    /// run one tight loop per block.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        self.blocks.iter().filter(is_for_machine).flat_map(|(block, first, last)| {
            let (payloads, ends) = block.payloads();
            let term = block.term();
            let base = block.first_index().0;
            let mut start = 0;
            ends.enumerate()
                .map(move |(offset, end)| {
                    let payload = &payloads[start..end as usize];
                    start = end as usize;
                    Entry { index: LogIndex(base + offset as u64), term, payload }
                })
                .skip((first.0 - base) as usize)
                .take((last.0 + 1 - first.0) as usize)
        })
    }
}

fn is_for_machine((block, ..): &(&Block, LogIndex, LogIndex)) -> bool {
    block.kind() == BlockKind::Operations
}

/// Collects what `apply` answers to the callers whose operations it applies.
///
/// Push at most one reply per entry, in the order of the entries; an entry without one is answered
/// with an empty reply.
#[derive(Debug, Default)]
pub struct Replies {
    wanted: bool,
    bytes: Vec<u8>,
    ends: Vec<(LogIndex, u32)>,
}

impl Replies {
    pub(crate) fn begin(&mut self, wanted: bool) {
        self.wanted = wanted;
        self.bytes.clear();
        self.ends.clear();
    }

    /// Whether anyone on this node waits for an answer. Where nobody does (on a follower, after a
    /// restart) replies are dropped, and a state machine may save itself making them.
    #[must_use]
    pub fn wanted(&self) -> bool {
        self.wanted
    }

    /// Answers the entry at `index`.
    pub fn push(&mut self, index: LogIndex, reply: &[u8]) {
        if self.wanted {
            self.bytes.extend_from_slice(reply);
            let end = u32::try_from(self.bytes.len()).expect("replies of one turn are below 4 GiB");
            self.ends.push((index, end));
        }
    }

    /// The replies to the entries in `first..=last`, if there are any.
    pub(crate) fn between(&self, first: LogIndex, last: LogIndex) -> Option<ReplyRun> {
        let from = self.ends.partition_point(|(index, _)| *index < first);
        let to = self.ends.partition_point(|(index, _)| *index <= last);
        if from == to {
            return None;
        }
        let start = if from == 0 { 0 } else { self.ends[from - 1].1 };
        let end = self.ends[to - 1].1;
        Some(ReplyRun {
            bytes: bytes::Bytes::copy_from_slice(&self.bytes[start as usize..end as usize]),
            ends: self.ends[from..to].iter().map(|(index, end)| (*index, end - start)).collect(),
        })
    }
}

/// The replies to consecutive operations of one caller.
#[derive(Clone, Debug)]
pub(crate) struct ReplyRun {
    pub(crate) bytes: bytes::Bytes,
    pub(crate) ends: Vec<(LogIndex, u32)>,
}

impl ReplyRun {
    /// The reply to the entry at `index`, empty if there is none. `cursor` remembers where the
    /// last call found one, so that a walk in log order is linear.
    pub(crate) fn get(&self, index: LogIndex, cursor: &mut usize) -> Range<usize> {
        while self.ends.get(*cursor).is_some_and(|(at, _)| *at < index) {
            *cursor += 1;
        }
        match self.ends.get(*cursor) {
            Some((at, end)) if *at == index => {
                let start = if *cursor == 0 { 0 } else { self.ends[*cursor - 1].1 };
                start as usize..*end as usize
            }
            _ => 0..0,
        }
    }
}
