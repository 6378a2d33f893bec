//! What a turn of a shard asks its driver to do.

use bytes::Bytes;
use ringleader_wal::Recovered;
use ringleader_wal::disk::{DiskOp, OpId};

use super::links::LinkId;
use super::membership::ChangeAnswer;
use super::proposal::AnswerRun;

/// The effects of one turn; the driver owns it, empties it and passes it again.
#[derive(Debug, Default)]
pub struct Effects {
    /// Disk operations, to be started in this order; they may complete in any order.
    pub disk: Vec<(OpId, DiskOp)>,
    /// Frames, to be sent in this order on each link.
    pub frames: Vec<OutFrame>,
    /// Answers to callers.
    pub answers: Vec<AnswerRun>,
    /// Answers to who asked for changes of the members.
    pub changes: Vec<ChangeAnswer>,
    /// What the node's owner should know.
    pub notices: Vec<Notice>,
}

impl Effects {
    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.disk.clear();
        self.frames.clear();
        self.answers.clear();
        self.changes.clear();
        self.notices.clear();
    }
}

/// A frame for a peer: the protocol messages of one turn.
#[derive(Clone, Debug)]
pub struct OutFrame {
    /// Where to.
    pub link: LinkId,
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
}

/// What recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoverySummary {
    /// Groups that have a state in the log.
    pub groups: usize,
    /// Entries in the log, over all groups.
    pub entries: u64,
}

impl From<&Recovered> for RecoverySummary {
    fn from(recovered: &Recovered) -> Self {
        Self {
            groups: recovered.groups.len(),
            entries: recovered.groups.iter().map(|g| g.last_index.0 - g.base.index.0).sum(),
        }
    }
}
