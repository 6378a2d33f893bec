//! A report as OpenMetrics text, which Prometheus reads.
//!
//! Times are in seconds, sizes in bytes. Everything has the label `shard`; what is of one
//! connection has `peer` and `peer_shard`, of one group `group`, of one peer of a group `peer`.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{Distribution, GroupReport, LinkReport, Report, ShardReport};
use crate::raft::{Mode, PeerStatus, RoleName};
use crate::shard::ShardHealth;

type Labels = Vec<(&'static str, String)>;
/// A metric's name, its help, and its value in `T`.
type Metric<T> = (&'static str, &'static str, fn(&T) -> u64);
/// Likewise a distribution.
type Spread = (&'static str, &'static str, fn(&ShardReport) -> &Distribution);

const SHARD_COUNTERS: &[Metric<ShardReport>] = &[
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
    ("snapshots_taken", "Snapshots taken", |s| s.counters.snapshots.taken),
    ("snapshot_taken_bytes", "Bytes of snapshots taken", |s| s.counters.snapshots.taken_bytes),
    ("snapshot_taken_nanoseconds", "Time that taking snapshots took", |s| {
        s.counters.snapshots.taken_nanos
    }),
    ("snapshots_sent", "Snapshots sent to peers as a whole", |s| s.counters.snapshots.sent),
    ("snapshot_sent_bytes", "Bytes sent of snapshots", |s| s.counters.snapshots.sent_bytes),
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
];

const SHARD_GAUGES: &[Metric<ShardReport>] = &[
    ("up", "1 while the shard takes part in its groups", |s| {
        (s.health == ShardHealth::Running).into()
    }),
    ("storage_failed", "1 after a write of the log failed", |s| {
        matches!(s.health, ShardHealth::StorageFailed(_)).into()
    }),
    ("groups", "Groups", |s| s.groups as u64),
    ("groups_resting", "Groups that rest, because nothing happens in them", |s| s.resting as u64),
    ("inbox_requests", "Requests waiting in the inbox", |s| s.callers.inbox as u64),
    ("in_flight_bytes", "Bytes of proposals in flight", |s| s.callers.in_flight_bytes as u64),
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
const SHARD_TIMES: &[Spread] = &[
    ("commit_seconds", "From a proposal to its being applied, sampled", |s| &s.timings.commit),
    ("read_seconds", "From a read to its being served, sampled", |s| &s.timings.linearizable),
    ("turn_seconds", "Length of a turn", |s| &s.timings.turn),
    ("apply_seconds", "State machines' part of a turn", |s| &s.timings.apply),
    ("log_write_seconds", "A write of the log", |s| &s.timings.write),
    ("log_sync_seconds", "A sync of the log", |s| &s.timings.sync),
    ("log_read_seconds", "A read of the log", |s| &s.timings.read),
];

const SHARD_SIZES: &[Spread] = &[
    ("log_write_bytes", "Bytes of a write of the log", |s| &s.timings.write_bytes),
    ("turn_events", "Events taken in by a turn", |s| &s.timings.events),
    ("turn_entries_applied", "Entries applied by a turn", |s| &s.timings.applied),
];

const LINK_COUNTERS: &[Metric<LinkReport>] = &[
    ("link_connections", "Connections made", |l| l.connections),
    ("link_given_up", "Connections given up by this side", |l| l.given_up),
    ("link_frames_sent", "Frames sent", |l| l.frames_sent),
    ("link_bytes_sent", "Bytes sent", |l| l.bytes_sent),
    ("link_frames_received", "Frames received", |l| l.frames_received),
    ("link_bytes_received", "Bytes received", |l| l.bytes_received),
];

const LINK_GAUGES: &[Metric<LinkReport>] = &[
    ("link_connected", "1 while there is a connection", |l| l.connected.into()),
    ("link_outbox_bytes", "Bytes waiting to be sent", |l| l.outbox_bytes as u64),
];

/// Of each group, or added up over all groups of a shard.
const GROUP_SUMS: &[Metric<GroupReport>] = &[
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
    ("group_undurable", "Entries not durable here", |g| {
        g.status.last.index.0.saturating_sub(g.status.durable.0)
    }),
    ("group_peer_lag", "Entries that the peer farthest behind lacks", |g| {
        g.peer_lag().unwrap_or(0)
    }),
];

/// Of each group only.
const GROUP_GAUGES: &[Metric<GroupReport>] = &[
    ("group_term", "Current term", |g| g.status.term.0),
    ("group_leader", "The node that leads, 0 if none is known", |g| {
        g.status.leader.map_or(0, |node| node.0)
    }),
    ("group_commit_index", "Last entry known committed", |g| g.status.commit.0),
    ("group_applied_index", "Last entry applied", |g| g.status.applied.0),
    ("group_last_index", "Last entry of the log", |g| g.status.last.index.0),
    ("group_durable_index", "Last durable entry", |g| g.status.durable.0),
];

const GROUP_COUNTERS: &[Metric<GroupReport>] = &[
    ("group_elections", "Elections stood in", |g| g.history.elections.into()),
    ("group_leader_changes", "Leaders learned of", |g| g.history.leader_changes.into()),
    ("group_step_downs", "Times that leadership was lost", |g| g.history.stepped_down.into()),
];

const PEER_GAUGES: &[Metric<PeerStatus>] = &[
    ("peer_match_index", "Last entry known durable at the peer", |p| p.match_index.0),
    ("peer_next_index", "First entry not yet sent to the peer", |p| p.next_index.0),
    ("peer_inflight_messages", "Append requests under way", |p| p.inflight_messages as u64),
    ("peer_inflight_bytes", "Bytes under way", |p| p.inflight_bytes as u64),
    ("peer_silent_milliseconds", "Since the peer was last heard", |p| p.heard_ms_ago),
    ("peer_probing", "1 while it is not known where the logs agree", |p| {
        (p.mode == Mode::Probe).into()
    }),
    ("peer_snapshot", "1 while the peer waits for a snapshot", |p| {
        (p.mode == Mode::Snapshot).into()
    }),
];

/// 20 us to 10 s, in nanoseconds.
const TIME_BOUNDS: [u64; 18] = {
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

#[derive(Debug)]
struct Page {
    report: Report,
    group_limit: usize,
}

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Writer(encoder);
        let Report { shards, groups, node, cluster, version, uptime } = &self.report;
        let info = [
            ("node", node.to_string()),
            ("cluster", cluster.to_string()),
            ("version", version.clone()),
        ];
        page.gauges("node_info", "The node", [(info.to_vec(), 1_u64)])?;
        page.gauges("uptime_seconds", "Since the start", [(Vec::new(), uptime.as_secs_f64())])?;
        page.shards(shards)?;
        page.links(shards)?;
        if groups.len() <= self.group_limit {
            page.groups(groups)
        } else {
            page.group_sums(shards, groups)
        }
    }
}

struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn shards(&mut self, shards: &[ShardReport]) -> fmt::Result {
        let labels = |shard: &ShardReport| vec![("shard", shard.shard.to_string())];
        for (name, help, value) in SHARD_COUNTERS {
            self.counters(name, help, shards.iter().map(|s| (labels(s), value(s))))?;
        }
        let refusals = shards.iter().flat_map(|shard| {
            let labels =
                |reason: &str| [labels(shard), vec![("reason", reason.to_owned())]].concat();
            shard.refusals.iter().map(move |refusal| (labels(&refusal.reason), refusal.count))
        });
        self.counters("connections_refused", "Connections refused, by the reason", refusals)?;
        for (name, help, value) in SHARD_GAUGES {
            self.gauges(name, help, shards.iter().map(|s| (labels(s), value(s))))?;
        }
        for (name, help, value) in SHARD_TIMES {
            let values = shards.iter().map(|s| (labels(s), value(s)));
            self.histograms(name, help, &TIME_BOUNDS, 1e9, values)?;
        }
        let sizes: Vec<u64> = (0..=24).step_by(2).map(|power| 1 << power).collect();
        for (name, help, value) in SHARD_SIZES {
            let values = shards.iter().map(|s| (labels(s), value(s)));
            self.histograms(name, help, &sizes, 1.0, values)?;
        }
        Ok(())
    }

    fn links(&mut self, shards: &[ShardReport]) -> fmt::Result {
        let links = || shards.iter().flat_map(|s| s.links.iter().map(move |link| (s.shard, link)));
        let labels = |shard: u32, link: &LinkReport| {
            vec![
                ("shard", shard.to_string()),
                ("peer", link.node.to_string()),
                ("peer_shard", link.shard.to_string()),
            ]
        };
        for (name, help, value) in LINK_COUNTERS {
            self.counters(name, help, links().map(|(s, link)| (labels(s, link), value(link))))?;
        }
        for (name, help, value) in LINK_GAUGES {
            self.gauges(name, help, links().map(|(s, link)| (labels(s, link), value(link))))?;
        }
        Ok(())
    }

    fn groups(&mut self, groups: &[GroupReport]) -> fmt::Result {
        let labels = |group: &GroupReport| {
            vec![("shard", group.shard.to_string()), ("group", group.status.group.to_string())]
        };
        for (name, help, value) in GROUP_SUMS.iter().chain(GROUP_GAUGES) {
            self.gauges(name, help, groups.iter().map(|g| (labels(g), value(g))))?;
        }
        for (name, help, value) in GROUP_COUNTERS {
            self.counters(name, help, groups.iter().map(|g| (labels(g), value(g))))?;
        }
        for (name, help, value) in PEER_GAUGES {
            let peers = groups.iter().flat_map(|group| {
                let labels = move |peer: &PeerStatus| {
                    [labels(group), vec![("peer", peer.id.to_string())]].concat()
                };
                group.status.peers.iter().map(move |peer| (labels(peer), value(peer)))
            });
            self.gauges(name, help, peers)?;
        }
        Ok(())
    }

    fn group_sums(&mut self, shards: &[ShardReport], groups: &[GroupReport]) -> fmt::Result {
        for (name, help, value) in GROUP_SUMS {
            let sums = shards.iter().map(|shard| {
                let of_shard = groups.iter().filter(|group| group.shard == shard.shard);
                (vec![("shard", shard.shard.to_string())], of_shard.map(value).sum())
            });
            self.gauges::<u64>(name, help, sums)?;
        }
        Ok(())
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, N)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Values and `bounds` are divided by `unit`.
    fn histograms<'d>(
        &mut self,
        name: &str,
        help: &str,
        bounds: &[u64],
        unit: f64,
        values: impl IntoIterator<Item = (Labels, &'d Distribution)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, distribution) in values {
            let count = distribution.count();
            let mut before = 0;
            let mut buckets = Vec::with_capacity(bounds.len() + 1);
            for (bound, through) in bounds.iter().zip(distribution.at_most(bounds)) {
                buckets.push((*bound as f64 / unit, through - before));
                before = through;
            }
            buckets.push((f64::INFINITY, count - before));
            let sum = distribution.sum() as f64 / unit;
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}
