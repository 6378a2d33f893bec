//! A report as OpenMetrics text, which Prometheus reads.
//!
//! Times are in seconds, sizes in bytes. Everything has the label `shard`; what is of one
//! connection has `peer` and `peer_shard`, and `kind` if it is of one kind of message; what is of one
//! group has `group`, of one peer of a group `peer`, of one hook of state machines `hook`.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::page::Page;
use super::{Distribution, GroupReport, LinkReport, Report, ShardReport};
use crate::raft::{Membership, Mode, PeerStatus, RoleName};
use crate::shard::ShardHealth;

/// A metric's name, its help, and its value in `T`.
pub(super) type Metric<T> = (&'static str, &'static str, fn(&T) -> u64);
/// Likewise a distribution.
pub(super) type Spread = (&'static str, &'static str, fn(&ShardReport) -> &Distribution);

pub(super) const SHARD_COUNTERS: &[Metric<ShardReport>] = &[
    ("turns", "Turns of the shard", |s| s.counters.turns),
    ("blocks_proposed", "Blocks proposed", |s| s.counters.blocks_proposed),
    ("operations_proposed", "Operations proposed", |s| s.counters.operations_proposed),
    ("apply_calls", "Times that a group had something to apply", |s| s.counters.apply_calls),
    ("entries_applied", "Entries applied", |s| s.counters.entries_applied),
    ("messages_received", "Messages received", |s| s.counters.messages_received),
    ("messages_held", "Messages that waited for the log", |s| s.counters.messages_held),
    ("append_requests_dropped", "Append requests without room in the outbox", |s| {
        s.counters.requests_dropped
    }),
    ("peer_reads", "Reads of the log for peers that lag", |s| s.counters.peer_reads),
    ("apply_reads", "Reads of the log for state machines that lag", |s| s.counters.apply_reads),
    ("read_requests", "Requests for reads of a group, each for all that had come", |s| {
        s.counters.read_requests
    }),
    ("reads_served", "Reads served", |s| s.callers.reads_served),
    ("reads_failed", "Reads that failed, without any effect", |s| s.callers.reads_failed),
    ("reads_busy", "Reads that failed because too many were in flight", |s| s.callers.reads_busy),
    ("snapshots_taken", "Snapshots taken", |s| s.counters.snapshots.taken),
    ("snapshot_taken_bytes", "Bytes of snapshots taken", |s| s.counters.snapshots.taken_bytes),
    ("snapshot_taken_nanoseconds", "Time that taking snapshots took", |s| {
        s.counters.snapshots.taken_nanos
    }),
    ("snapshots_sent", "Snapshots sent to peers as a whole", |s| s.counters.snapshots.sent),
    ("snapshot_sent_bytes", "Bytes sent of snapshots", |s| s.counters.snapshots.sent_bytes),
    ("snapshot_transfers_broken", "Snapshots on their way when the connection was lost", |s| {
        s.counters.snapshots.broken
    }),
    ("snapshot_transfers_resumed", "Those of them that went on from where they were", |s| {
        s.counters.snapshots.resumed
    }),
    ("snapshot_sends_given_up", "Snapshots not sent to their end", |s| {
        s.counters.snapshots.sends_given_up
    }),
    ("snapshot_receives_given_up", "Snapshots not received to their end", |s| {
        s.counters.snapshots.receives_given_up
    }),
    ("snapshots_installed", "Snapshots of leaders put in place", |s| {
        s.counters.snapshots.installed
    }),
    ("snapshot_installed_bytes", "Bytes of snapshots put in place", |s| {
        s.counters.snapshots.installed_bytes
    }),
    ("snapshots_failed", "Attempts to take, send or install one that failed", |s| {
        s.counters.snapshots.failed
    }),
    (
        "peers_stranded",
        "Times that a peer needed a snapshot and the state machine gave none",
        |s| s.counters.snapshots.stranded,
    ),
    ("transfers_done", "Leaderships handed over on request", |s| s.operations.transfers_done),
    ("transfers_refused", "Transfers not begun", |s| s.operations.transfers_refused),
    ("transfers_failed", "Transfers that did not end as asked", |s| s.operations.transfers_failed),
    ("changes_done", "Changes of members done", |s| s.operations.changes_done),
    ("changes_refused", "Changes of members refused or given up", |s| s.operations.changes_refused),
    ("changes_unknown", "Changes of members of unknown outcome", |s| s.operations.changes_unknown),
    ("resets", "Groups reset without a majority", |s| s.operations.resets),
    ("groups_created", "Groups created while the node ran", |s| s.operations.groups_created),
    ("groups_destroyed", "Replicas destroyed", |s| s.operations.groups_destroyed),
    ("log_portions_read_back", "Portions of committed entries read back", |s| {
        s.operations.log_reads
    }),
    ("connection_panics", "Connections ended because this side panicked over them", |s| {
        s.connection_panics
    }),
    ("silences", "Times that a connected peer was silent for an election timeout", |s| {
        s.counters.silences
    }),
    ("timeouts", "Timers of groups that ran out", |s| s.counters.timeouts),
    ("elections", "Elections stood in", |s| s.counters.groups.elections.into()),
    ("elections_won", "Elections won", |s| s.counters.groups.elected.into()),
    ("step_downs", "Times that leadership was lost", |s| s.counters.groups.stepped_down.into()),
    ("leader_changes", "Leaders learned of", |s| s.counters.groups.leader_changes.into()),
    ("truncations", "Times that uncommitted entries were dropped", |s| {
        s.counters.groups.truncations.into()
    }),
    ("requests", "Requests taken from the inbox", |s| s.callers.requests),
    ("operations_applied", "Operations answered as applied", |s| s.callers.applied),
    ("operations_refused", "Operations answered as not proposed", |s| s.callers.refused),
    ("operations_busy", "Operations refused because too much was in flight", |s| {
        s.callers.refused_busy
    }),
    ("submissions_turned_away", "Submissions without room, before they reached the shard", |s| {
        s.callers.turned_away
    }),
    ("operations_unknown", "Operations whose outcome is unknown", |s| s.callers.unknown),
    ("log_batches", "Batches written to the log", |s| s.log_counters.batches),
    ("log_marks", "Idle marks among them", |s| s.log_counters.marks),
    ("log_records", "Records written to the log", |s| s.log_counters.records),
    ("log_bytes", "Bytes written to the log, padding included", |s| s.log_counters.bytes),
    ("log_block_bytes", "Bytes of blocks among them", |s| s.log_counters.block_bytes),
    ("log_syncs", "Syncs of the log", |s| s.log_counters.syncs),
    ("log_reads", "Reads of the log", |s| s.log_counters.reads),
    ("log_read_bytes", "Bytes read of the log", |s| s.log_counters.read_bytes),
    ("log_segments_created", "Segments prepared", |s| s.log_counters.segments_created),
    ("log_segments_recycled", "Segments used again", |s| s.log_counters.segments_recycled),
    ("log_segments_removed", "Segments removed", |s| s.log_counters.segments_removed),
    ("log_relocated_bytes", "Bytes rewritten forward", |s| s.log_counters.relocated_bytes),
    ("log_preparations_failed", "Segments that could not be prepared", |s| {
        s.log_counters.preparations_failed
    }),
    ("stage_outside_nanoseconds", "Processor time: between turns", |s| nanos(s.stages.outside)),
    ("stage_completions_nanoseconds", "Processor time: what the disk completed", |s| {
        nanos(s.stages.completions)
    }),
    ("stage_receive_nanoseconds", "Processor time: what peers sent", |s| nanos(s.stages.receive)),
    ("stage_requests_nanoseconds", "Processor time: what callers asked for", |s| {
        nanos(s.stages.requests)
    }),
    ("stage_replicate_nanoseconds", "Processor time: proposals into blocks", |s| {
        nanos(s.stages.replicate)
    }),
    ("stage_apply_nanoseconds", "Processor time: state machines", |s| nanos(s.stages.apply)),
    ("stage_submit_nanoseconds", "Processor time: disk operations handed over", |s| {
        nanos(s.stages.submit)
    }),
    ("stage_send_nanoseconds", "Processor time: frames handed over", |s| nanos(s.stages.send)),
    ("stage_answer_nanoseconds", "Processor time: callers answered", |s| nanos(s.stages.answer)),
];

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

pub(super) const SHARD_GAUGES: &[Metric<ShardReport>] = &[
    ("up", "1 while the shard takes part in its groups", |s| {
        (s.health == ShardHealth::Running).into()
    }),
    ("panicked", "1 after something on the shard's thread panicked", |s| {
        matches!(s.health, ShardHealth::Panicked(_)).into()
    }),
    ("storage_failed", "1 after a write of the log failed", |s| {
        matches!(s.health, ShardHealth::StorageFailed(_)).into()
    }),
    ("groups", "Groups", |s| s.groups as u64),
    ("groups_resting", "Groups that rest, because nothing happens in them", |s| s.resting as u64),
    ("inbox_requests", "Requests waiting in the inbox", |s| s.callers.inbox as u64),
    ("in_flight_bytes", "Bytes of proposals in flight", |s| s.callers.in_flight_bytes as u64),
    ("log_memory_bytes", "Bytes of groups' logs in memory", |s| s.memory_bytes as u64),
    ("snapshots_under_way", "Snapshots being taken, sent or received", |s| {
        s.snapshots.len() as u64
    }),
    ("log_staged_bytes", "Bytes not durable yet", |s| s.log.staged_bytes as u64),
    ("log_writes_in_flight", "Log writes under way", |s| s.log.writes_in_flight as u64),
    ("log_segments", "Segments in the log", |s| s.log.segments.len() as u64),
    ("log_segments_spare", "Segments ready for use", |s| s.log.spare_segments as u64),
    ("log_file_bytes", "Bytes of all segment files", |s| s.log.file_bytes),
    ("log_has_space", "0 while proposals are refused for want of space", |s| {
        s.log.has_space.into()
    }),
];

/// Distributions of times in nanoseconds.
pub(super) const SHARD_TIMES: &[Spread] = &[
    ("commit_seconds", "From a proposal to its being applied, sampled", |s| &s.timings.commit),
    ("read_seconds", "From a read to its being served, sampled", |s| &s.timings.linearizable),
    ("turn_seconds", "Length of a turn", |s| &s.timings.turn),
    ("apply_seconds", "State machines' part of a turn", |s| &s.timings.apply),
    ("log_write_seconds", "A write of the log", |s| &s.timings.write),
    ("log_sync_seconds", "A sync of the log", |s| &s.timings.sync),
    ("log_read_seconds", "A read of the log", |s| &s.timings.read),
    ("snapshot_taken_seconds", "Taking a snapshot, until it is durable", |s| {
        &s.timings.snapshot_taken
    }),
    ("snapshot_installed_seconds", "Installing a leader's snapshot", |s| {
        &s.timings.snapshot_installed
    }),
    ("snapshot_loaded_seconds", "Restoring a state machine from a snapshot's file", |s| {
        &s.timings.snapshot_loaded
    }),
];

pub(super) const SHARD_SIZES: &[Spread] = &[
    ("log_write_bytes", "Bytes of a write of the log", |s| &s.timings.write_bytes),
    ("turn_events", "Events taken in by a turn", |s| &s.timings.events),
    ("turn_entries_applied", "Entries applied by a turn", |s| &s.timings.applied),
];

pub(super) const LINK_COUNTERS: &[Metric<LinkReport>] = &[
    ("link_connections", "Connections made", |l| l.connections),
    ("link_failed_connects", "Attempts of this side to connect that failed", |l| l.failed_connects),
    ("link_given_up", "Connections given up by this side", |l| l.given_up),
    ("link_frames_sent", "Frames sent", |l| l.frames_sent),
    ("link_bytes_sent", "Bytes sent", |l| l.bytes_sent),
    ("link_frames_received", "Frames received", |l| l.frames_received),
    ("link_bytes_received", "Bytes received", |l| l.bytes_received),
];

pub(super) const LINK_GAUGES: &[Metric<LinkReport>] = &[
    ("link_connected", "1 while there is a connection", |l| l.connected.into()),
    ("link_alive", "1 while the peer's shard is heard", |l| l.alive.into()),
    ("link_failed_connects_in_a_row", "Failed attempts since the last connection", |l| {
        l.failed_in_a_row
    }),
    ("link_outbox_bytes", "Bytes waiting to be sent", |l| l.outbox_bytes as u64),
];

/// Of each group, or added up over all groups of a shard.
pub(super) const GROUP_SUMS: &[Metric<GroupReport>] = &[
    ("group_leads", "Groups that this node leads", |g| (g.status.role == RoleName::Leader).into()),
    ("group_leaderless", "Groups of which this node knows no leader", |g| {
        g.status.leader.is_none().into()
    }),
    ("group_superseded", "Groups that were reset without this replica", |g| {
        g.status.is_superseded().into()
    }),
    ("group_rests", "Groups that rest", |g| g.status.rests.into()),
    ("group_apply_lag", "Entries committed and not applied", GroupReport::apply_lag),
    ("group_in_flight_bytes", "Bytes of proposals in flight", |g| g.queues.in_flight_bytes as u64),
    ("group_waiting", "Submissions that wait to be applied", |g| g.queues.waiting as u64),
    ("group_memory_bytes", "Bytes of the log in memory", |g| g.queues.memory_bytes as u64),
    ("group_waiting_reads", "Reads that wait", |g| g.queues.reads as u64),
    ("group_members_dead", "Members that are not heard", |g| {
        g.status.members.iter().filter(|member| !member.alive).count() as u64
    }),
    ("group_undurable", "Entries not durable here", |g| {
        g.status.last.index.0.saturating_sub(g.status.durable.0)
    }),
    ("group_peer_lag", "Entries that the peer farthest behind lacks", |g| {
        g.peer_lag().unwrap_or(0)
    }),
];

/// Of each group only.
pub(super) const GROUP_GAUGES: &[Metric<GroupReport>] = &[
    ("group_term", "Current term", |g| g.status.term.0),
    ("group_leader", "The node that leads, 0 if none is known", |g| {
        g.status.leader.map_or(0, |node| node.0)
    }),
    ("group_commit_index", "Last entry known committed", |g| g.status.commit.0),
    ("group_applied_index", "Last entry applied", |g| g.status.applied.0),
    ("group_first_index", "First entry that the log holds, or would", |g| {
        g.status.base.index.next().0
    }),
    ("group_snapshot_index", "Last entry that the newest snapshot covers", |g| {
        g.status.snapshot.map_or(0, |at| at.index.0)
    }),
    ("group_last_index", "Last entry of the log", |g| g.status.last.index.0),
    ("group_durable_index", "Last durable entry", |g| g.status.durable.0),
];

pub(super) const GROUP_COUNTERS: &[Metric<GroupReport>] = &[
    ("group_elections", "Elections stood in", |g| g.history.elections.into()),
    ("group_leader_changes", "Leaders learned of", |g| g.history.leader_changes.into()),
    ("group_step_downs", "Times that leadership was lost", |g| g.history.stepped_down.into()),
];

pub(super) const PEER_GAUGES: &[Metric<PeerStatus>] = &[
    ("peer_match_index", "Last entry known durable at the peer", |p| p.match_index.0),
    ("peer_next_index", "First entry not yet sent to the peer", |p| p.next_index.0),
    ("peer_inflight_messages", "Append requests under way", |p| p.inflight_messages as u64),
    ("peer_inflight_bytes", "Bytes under way", |p| p.inflight_bytes as u64),
    ("peer_alive", "1 while the peer is connected and heard", |p| p.alive.into()),
    ("peer_votes", "1 if the peer is a voter", |p| (p.membership == Membership::Voter).into()),
    ("peer_silent_milliseconds", "Since the peer was last heard", |p| p.heard_ms_ago),
    ("peer_probing", "1 while it is not known where the logs agree", |p| {
        (p.mode == Mode::Probe).into()
    }),
    ("peer_snapshot", "1 while the peer waits for a snapshot", |p| {
        (p.mode == Mode::Snapshot).into()
    }),
];

/// 20 us to 10 s, in nanoseconds.
pub(super) const TIME_BOUNDS: [u64; 18] = {
    let mut bounds = [0; 18];
    let (mut at, mut decade) = (0, 10_000);
    while at < 18 {
        bounds[at] = decade * [2, 5, 10][at % 3];
        if at % 3 == 2 {
            decade *= 10;
        }
        at += 1;
    }
    bounds
};

impl Report {
    /// The report as OpenMetrics text (`application/openmetrics-text; version=1.0.0`). If there are
    /// more than `group_limit` groups, they are not listed but added up per shard: a page about ten
    /// thousand groups, each with its peers, would have ten megabytes.
    #[must_use]
    pub fn into_openmetrics(self, group_limit: usize) -> String {
        let mut registry = Registry::with_prefix("ringleader");
        registry.register_collector(Box::new(Page { report: self, group_limit }));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes everything");
        text
    }
}
