//! What a node tells about itself: one [`Report`], read as a text for people
//! ([`Display`](std::fmt::Display)), as JSON (serde) or as Prometheus text
//! (`Report::into_openmetrics`, with the feature `export`).
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
//! | `replicate-entries`, `-count`, `-bytes` | [`LinkReport::acknowledged`] is the time from a request to its acknowledgement; [`Counters::blocks_proposed`], [`Counters::operations_proposed`], bytes of [`LinkReport`]; [`Timings::commit`] is from the proposal to its being applied |
//! | `handle-append-entries`, `-count` | [`LinkReport::messages_received`]: [`Append`](MessageKind::Append), [`Probe`](MessageKind::Probe); all groups of a shard share a frame, so that a message has no time of its own: [`Timings::turn`] |
//! | `handle-heartbeat-requests`, `heartbeat-times`, `append-entries-times`, `probe-times`, `install-snapshot-times` | [`LinkReport::messages_sent`] and `messages_received`, by [`MessageKind`], for each connection; [`Counters::timeouts`] |
//! | `read-index`, `handle-read-index`, `-entries` | [`Timings::linearizable`], [`CallerCounters::reads_served`], [`Counters::read_requests`]; [`ReadRequest`](MessageKind::ReadRequest) |
//! | `pre-vote`, `request-vote` | asked, granted and refused, for each connection: [`MessageKind`]; [`GroupHistory::elections`] and `elected`; messages take no time to speak of |
//! | `save-raft-meta` | the hard state is a record of the log: [`Timings::write`] |
//! | `install-snapshot` | [`Timings::snapshot_installed`], [`SnapshotCounters`], which also has transfers that broke, went on, or were given up |
//! | `fsm-snapshot-save`, `-load` | [`Timings::snapshot_taken`], [`Timings::snapshot_loaded`]; the state machine's own part of taking one is a hook |
//! | `fsm-commit`, `fsm-apply-tasks`, `-count` | [`Timings::apply`], [`Timings::applied`], [`Counters::entries_applied`] |
//! | `fsm-leader-start`, `-stop`, `-start-following`, `-stop-following` | [`HookTimings`] |
//! | `fsm-shutdown`, `-flush`, `-error` | there are no such hooks |
//! | `node-lock-blocked`, `locked` | there is no lock |
//! | `apply-task-overload-times`, `read-index-overload-times` | [`CallerCounters::refused_busy`], `reads_busy` and `turned_away` |
//! | replicator's `log-lags`, `next-index`, `replicate-inflights-count`, `state`, `running-state` | [`PeerStatus`](crate::raft::PeerStatus), [`GroupReport::peer_lag`] |
//! | replicator's `consecutive-error-times`, `block-times` | [`LinkReport::failed_in_a_row`] and `failed_connects`, `alive` and `heard_ms_ago`; [`Counters::requests_dropped`], `outbox_bytes` and `given_up` of [`LinkReport`] |
//! | disruptors' `buffer-size`, `remaining-capacity` | [`CallerCounters::inbox`] and `in_flight_bytes`, [`GroupQueues`], `staged_bytes` of [`WalStatus`] |
//! | `logs-size`, `logs-memory-bytes` | [`GroupQueues::memory_bytes`], [`ShardReport::memory_bytes`]; [`GroupStatus::base`] and `last` |
//! | thread pools | there is none |

mod distribution;
#[cfg(feature = "export")]
mod exporter;
mod gather;
mod link;
#[cfg(feature = "export")]
mod page;
#[cfg(feature = "export")]
mod prometheus;
mod shard_tables;
mod table;
mod text;
mod timings;

use std::time::Duration;

use ringleader_wal::{NodeId, WalStats, WalStatus};
use serde::{Deserialize, Serialize};

pub use self::distribution::{Distribution, Summary};
#[cfg(feature = "export")]
pub use self::exporter::{Exporter, Page};
pub use self::link::LinkReport;
pub use self::table::Table;
pub use self::text::{group_table, member_table, peer_table};
pub use self::timings::{HookTimings, Stages, Timings};
use crate::shard::{
    Counters, GroupHistory, GroupQueues, GroupStatus, ShardHealth, SnapshotUnderWay,
};
#[cfg(doc)]
use crate::shard::{MessageKind, SnapshotCounters};

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
    /// What the processor's time went into, if that is counted.
    pub stages: Stages,
    /// How long hooks of state machines took.
    pub hooks: HookTimings,
    /// Callers.
    pub callers: CallerCounters,
    /// What was asked of groups seldom.
    pub operations: OperatorCounters,
    /// Who was refused a connection here: how often, by the reason. On the shard that listens for
    /// its node; empty on the others.
    pub refusals: Vec<RefusalReport>,
    /// Connections that were ended, here or before they were made, because this side panicked over
    /// them. Each is logged, with what was said.
    pub connection_panics: u64,
    /// Its log, as it is.
    pub log: WalStatus,
    /// What its log counted.
    pub log_counters: WalStats,
    /// Bytes of its groups' logs that are in memory, of which each group keeps up to
    /// [`RaftConfig::cache_bytes`](crate::RaftConfig::cache_bytes) for peers that lag a little.
    pub memory_bytes: usize,
    /// Snapshots that are being taken, sent or received.
    pub snapshots: Vec<SnapshotUnderWay>,
    /// Its connections.
    pub links: Vec<LinkReport>,
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
    /// Those of them that were too many: [`ProposeError::Busy`](crate::ProposeError::Busy).
    pub refused_busy: u64,
    /// Operations answered as unknown.
    pub unknown: u64,
    /// Reads served.
    pub reads_served: u64,
    /// Reads that failed, without any effect.
    pub reads_failed: u64,
    /// Those of them that were too many: [`ReadError::Busy`](crate::ReadError::Busy).
    pub reads_busy: u64,
    /// Times that a caller was told that there is no room before anything reached the shard: by
    /// [`try_propose`](crate::Handle::try_propose) or [`Queue::submit`](crate::Queue::submit).
    pub turned_away: u64,
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
