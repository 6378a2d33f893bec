//! What is under way, to be looked at.

use ringleader_wal::{GroupId, LogPosition, NodeId};
use serde::{Deserialize, Serialize};

use super::Snapshots;
use crate::shard::Shard;

/// What is being done with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotStage {
    /// The state machine's view is written to a file.
    Taking,
    /// A file is sent to a peer.
    Sending,
    /// A leader's file is received.
    Receiving,
    /// What was received is restored into a new state machine.
    Loading,
}

/// A snapshot that is being taken or on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotUnderWay {
    /// The group.
    pub group: GroupId,
    /// What is being done.
    pub stage: SnapshotStage,
    /// The node at the other end, if there is one.
    pub peer: Option<NodeId>,
    /// The last entry that it covers.
    pub at: LogPosition,
    /// Pieces that the receiver has; none of one that is taken.
    pub pieces: u32,
    /// Bytes of the file: all of them if it is sent, otherwise those that are there.
    pub bytes: u64,
    /// The connection was lost, and the peer has not got on since.
    pub broken: bool,
    /// Milliseconds since it got on last.
    pub idle_ms: u64,
}

impl Snapshots {
    /// What a group's newest file covers.
    pub(in crate::shard) fn newest(&self, slot: u32) -> Option<LogPosition> {
        self.kept.get(slot as usize)?.file.map(|(at, _)| at)
    }
}

impl Shard {
    /// Every snapshot that is being taken, sent or received: a few at most.
    #[must_use]
    pub fn snapshots_under_way(&self) -> Vec<SnapshotUnderWay> {
        let snapshots = &self.snapshots;
        let now = snapshots.now;
        let group = |slot: u32| self.groups[slot as usize].id;
        let taking = snapshots.taking.iter().map(|taking| taking.under_way(group(taking.slot())));
        let sending = snapshots.sending.iter().map(|(&(slot, peer), sending)| SnapshotUnderWay {
            peer: Some(peer),
            ..sending.under_way(group(slot), now)
        });
        let receiving = snapshots.receiving.iter();
        let receiving = receiving.map(|(slot, receiving)| receiving.under_way(group(*slot), now));
        taking.chain(sending).chain(receiving).collect()
    }
}
