//! What a node tells about itself: one [`Report`], read as a text for people
//! ([`Display`](std::fmt::Display)), as JSON (serde) or as Prometheus text
//! (`to_prometheus`, with the feature `export`).
//!
//! Every core counts for itself, in plain fields. A report is gathered by requests to the shards'
//! inboxes: each shard answers between two turns, the groups a page at a time, so that ten thousand
//! of them hold no heartbeat up. So the parts of a report are of slightly different moments.
//!
//! # SOFAJRaft's metrics, and what there is here
//!
//! Its timers are in milliseconds; these are in nanoseconds.
//!
//! | there (`NodeMetrics`) | here |
//! |---|---|
//! | `append-logs`, `-count`, `-bytes` | [`Timings::write`], [`Timings::sync`], [`Timings::write_bytes`]; [`WalStats`] has batches, records, bytes |
//! | `truncate-log-prefix`, `-suffix` | a record in the next batch, not an operation: [`GroupHistory::truncations`], segments recycled and removed in [`WalStats`] |
//! | `replicate-entries`, `-count`, `-bytes`, `handle-append-entries`, `-count` | [`Counters::blocks_proposed`], [`Counters::operations_proposed`], [`LinkReport`]; all groups of a shard share a frame, so that a message has no time of its own: [`Timings::commit`] is from the proposal to its being applied |
//! | `handle-heartbeat-requests`, `heartbeat-times`, `append-entries-times`, `probe-times` | [`Counters::messages_received`], [`Counters::timeouts`], frames in [`LinkReport`] |
//! | `read-index`, `handle-read-index`, `-entries` | [`Timings::linearizable`], [`CallerCounters::reads_served`], [`Counters::read_requests`] |
//! | `pre-vote`, `request-vote` | [`GroupHistory::elections`] and `elected`; messages take no time to speak of |
//! | `save-raft-meta` | the hard state is a record of the log: [`Timings::write`] |
//! | `install-snapshot`, `install-snapshot-times`, `fsm-snapshot-save`, `-load` | [`SnapshotCounters`] |
//! | `fsm-commit`, `fsm-apply-tasks`, `-count` | [`Timings::apply`], [`Timings::applied`], [`Counters::entries_applied`] |
//! | `fsm-leader-start`, `-stop`, `-start-following`, `-stop-following`, `-shutdown`, `-flush`, `-error` | parts of a turn: [`Timings::turn`] |
//! | `node-lock-blocked`, `locked` | there is no lock |
//! | `apply-task-overload-times`, `read-index-overload-times` | [`CallerCounters::refused`], [`CallerCounters::reads_failed`] |
//! | replicator's `log-lags`, `next-index`, `replicate-inflights-count`, `state`, `running-state` | [`PeerStatus`](crate::raft::PeerStatus), [`GroupReport::peer_lag`] |
//! | replicator's `consecutive-error-times`, `block-times` | `heard_ms_ago` there, [`Counters::requests_dropped`], `outbox_bytes` and `given_up` of [`LinkReport`] |
//! | disruptors' `buffer-size`, `remaining-capacity`, `logs-size`, `logs-memory-bytes` | [`CallerCounters::inbox`] and `in_flight_bytes`, [`GroupQueues`], `staged_bytes` of [`WalStatus`] |
//! | thread pools | there is none |

mod distribution;
#[cfg(feature = "export")]
mod exporter;
mod gather;
#[cfg(feature = "export")]
mod prometheus;
mod table;
mod text;

use std::time::Duration;

use ringleader_wal::{NodeId, WalStats, WalStatus};
use serde::{Deserialize, Serialize};

pub use self::distribution::{Distribution, Summary};
#[cfg(feature = "export")]
pub use self::exporter::Exporter;
pub use self::table::Table;
pub use self::text::{group_table, peer_table};
#[cfg(doc)]
use crate::shard::SnapshotCounters;
use crate::shard::{Counters, GroupHistory, GroupQueues, GroupStatus, LinkPeer, ShardHealth};

/// A node's state and everything it has counted since its start.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The node.
    pub node: NodeId,
    /// The cluster's number.
    pub cluster: u64,
    /// The version of this crate.
    pub version: String,
    /// Since the engine was started.
    pub uptime: Duration,
    /// Its shards, in order.
    pub shards: Vec<ShardReport>,
    /// Its groups, by shard.
    pub groups: Vec<GroupReport>,
}

/// One shard.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShardReport {
    /// Its number.
    pub shard: u32,
    /// Whether it takes part.
    pub health: ShardHealth,
    /// Groups on it.
    pub groups: usize,
    /// Those of them that rest.
    pub resting: usize,
    /// What its logic counted.
    pub counters: Counters,
    /// What its driver measured.
    pub timings: Timings,
    /// Callers.
    pub callers: CallerCounters,
    /// What was asked of groups seldom.
    pub operations: OperatorCounters,
    /// Who was refused a connection here: how often, by the reason. On the shard that listens for
    /// its node; empty on the others.
    pub refusals: Vec<RefusalReport>,
    /// Its log, as it is.
    pub log: WalStatus,
    /// What its log counted.
    pub log_counters: WalStats,
    /// Its connections.
    pub links: Vec<LinkReport>,
}

/// Distributions since the start. All times are in nanoseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timings {
    /// From taking a proposal out of the inbox until it is applied here. A sample: at any moment
    /// one proposal of the shard is followed, the last of a turn.
    pub commit: Distribution,
    /// From taking reads out of the inbox until they are served. A sample: at any moment the reads
    /// of one submission are followed.
    pub linearizable: Distribution,
    /// A turn's length, without the wait before it.
    pub turn: Distribution,
    /// The part of a turn in which state machines apply; turns that applied nothing don't count.
    pub apply: Distribution,
    /// From handing a log write to the kernel until the shard saw its completion. A durable write,
    /// or with coalesced syncs one that a sync follows.
    pub write: Distribution,
    /// Likewise for syncs of the log.
    pub sync: Distribution,
    /// Likewise for reads of the log.
    pub read: Distribution,
    /// Bytes of a log write, padding included.
    pub write_bytes: Distribution,
    /// Events that a turn took in: completions, frames' arrivals, requests.
    pub events: Distribution,
    /// Entries that a turn gave to state machines; turns that applied nothing don't count.
    pub applied: Distribution,
}

/// What callers asked of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallerCounters {
    /// Requests taken from the inbox.
    pub requests: u64,
    /// Requests that wait in the inbox at present.
    pub inbox: usize,
    /// Bytes of proposals in flight at present; see [`Limits::shard_bytes`](crate::Limits).
    pub in_flight_bytes: usize,
    /// Operations answered as applied.
    pub applied: u64,
    /// Operations answered with an error that says that they were not proposed.
    pub refused: u64,
    /// Operations answered as unknown.
    pub unknown: u64,
    /// Reads served.
    pub reads_served: u64,
    /// Reads that failed, without any effect.
    pub reads_failed: u64,
}

/// What became of requests that are seldom, on the node that was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OperatorCounters {
    /// Leaderships handed over to who was to get them. What a node hands over before it stops does
    /// not count.
    pub transfers_done: u64,
    /// Transfers that were not begun.
    pub transfers_refused: u64,
    /// Transfers that did not end as asked, or may yet.
    pub transfers_failed: u64,
    /// Changes of members that were done, those of nothing included.
    pub changes_done: u64,
    /// Changes of members that were refused or given up.
    pub changes_refused: u64,
    /// Changes of members whose outcome is unknown.
    pub changes_unknown: u64,
    /// Groups that were reset here, without a majority.
    pub resets: u64,
    /// Groups created on this node while it ran.
    pub groups_created: u64,
    /// Replicas destroyed on this node.
    pub groups_destroyed: u64,
    /// Portions of committed entries read back.
    pub log_reads: u64,
}

/// How often callers were refused for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusalReport {
    /// The reason, as the logs have it.
    pub reason: String,
    /// Connections refused.
    pub count: u64,
}

/// A connection to a peer's shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LinkReport {
    /// The node at the other end.
    pub node: NodeId,
    /// Its shard.
    pub shard: u32,
    /// Whether there is a connection.
    pub connected: bool,
    /// Connections made so far, this one included.
    pub connections: u64,
    /// Frames handed to the connection or to the lane for bulk data beside it.
    pub frames_sent: u64,
    /// Their bytes, headers included.
    pub bytes_sent: u64,
    /// Frames received on either.
    pub frames_received: u64,
    /// Their bytes, headers included.
    pub bytes_received: u64,
    /// Bytes that wait to be written.
    pub outbox_bytes: usize,
    /// Connections given up because the outbox was full or a frame made no sense.
    pub given_up: u64,
}

/// One group, as this node sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupReport {
    /// The shard it lives on.
    pub shard: u32,
    /// Role, term, indices, and what a leader knows about its peers.
    #[serde(flatten)]
    pub status: GroupStatus,
    /// What waits in it.
    pub queues: GroupQueues,
    /// What happened to it since the shard started.
    pub history: GroupHistory,
}

impl LinkReport {
    /// Of a connection over which nothing went yet.
    pub(crate) fn of(peer: &LinkPeer) -> Self {
        Self {
            node: peer.node,
            shard: peer.shard,
            connected: false,
            connections: 0,
            frames_sent: 0,
            bytes_sent: 0,
            frames_received: 0,
            bytes_received: 0,
            outbox_bytes: 0,
            given_up: 0,
        }
    }
}

impl GroupReport {
    /// Entries that are committed and not applied here.
    #[must_use]
    pub fn apply_lag(&self) -> u64 {
        self.status.commit.0.saturating_sub(self.status.applied.0)
    }

    /// Entries that the peer farthest behind has not got; `None` unless this node leads and has
    /// peers.
    #[must_use]
    pub fn peer_lag(&self) -> Option<u64> {
        let last = self.status.last.index.0;
        self.status.peers.iter().map(|peer| last.saturating_sub(peer.match_index.0)).max()
    }
}
