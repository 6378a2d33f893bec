//! A report as text for people.

use std::fmt;
use std::time::Duration;

use super::{Distribution, GroupReport, Report, ShardReport, Table};
use crate::raft::{Mode, RoleName};
use crate::shard::ShardHealth;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, cluster, version, uptime, shards, groups } = self;
        let up = Duration::from_secs(uptime.as_secs());
        writeln!(f, "node {node} of cluster {cluster}, ringleader {version}, up {up:?}")?;
        for shard in shards {
            write!(f, "\n{shard}")?;
        }
        if groups.is_empty() {
            return Ok(());
        }
        write!(f, "\ngroups\n{}", group_table(groups))?;
        let peers = peer_table(groups);
        if peers.is_empty() { Ok(()) } else { write!(f, "\npeers of led groups\n{peers}") }
    }
}

impl fmt::Display for ShardHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recovering => f.write_str("reads its log"),
            Self::Running => f.write_str("running"),
            Self::StorageFailed(cause) => write!(f, "STORAGE FAILED: {cause}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl fmt::Display for ShardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, health, groups, resting, counters, callers, log, .. } = self;
        writeln!(f, "shard {shard}: {health}; {groups} groups, {resting} of them at rest")?;
        writeln!(
            f,
            "  callers   inbox {}, in flight {} B; applied {}, refused {}, unknown {}; reads {}, failed \
             {}, in {} requests",
            callers.inbox,
            callers.in_flight_bytes,
            callers.applied,
            callers.refused,
            callers.unknown,
            callers.reads_served,
            callers.reads_failed,
            counters.read_requests
        )?;
        writeln!(
            f,
            "  turns     {}; proposed {} operations in {} blocks; applied {} entries in {} calls",
            counters.turns,
            counters.operations_proposed,
            counters.blocks_proposed,
            counters.entries_applied,
            counters.apply_calls
        )?;
        let history = &counters.groups;
        writeln!(
            f,
            "  groups    {} elections, {} won; {} step-downs, {} leader changes, {} truncations; {} \
             silences of peers",
            history.elections,
            history.elected,
            history.stepped_down,
            history.leader_changes,
            history.truncations,
            counters.silences
        )?;
        self.write_rare(f)?;
        writeln!(
            f,
            "  log       durable through batch {}; staged {} B; under way: {} writes, {} others; \
             {} spare segments, {} B of files{}",
            log.durable,
            log.staged_bytes,
            log.writes_in_flight,
            log.others_in_flight,
            log.spare_segments,
            log.file_bytes,
            if log.has_space { "" } else { "; NO SPACE" }
        )?;
        for table in [self.timing_table(), self.segment_table(), self.link_table()] {
            if !table.is_empty() {
                table.to_string().lines().try_for_each(|line| writeln!(f, "  {line}"))?;
            }
        }
        Ok(())
    }
}

impl ShardReport {
    fn write_rare(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (snapshots, operations) = (&self.counters.snapshots, &self.operations);
        writeln!(
            f,
            "  snapshots {} taken of {} B in {:?}; {} sent, {} B; {} installed, {} B; {} failures; \
             {} peers stranded",
            snapshots.taken,
            snapshots.taken_bytes,
            Duration::from_nanos(snapshots.taken_nanos),
            snapshots.sent,
            snapshots.sent_bytes,
            snapshots.installed,
            snapshots.installed_bytes,
            snapshots.failed,
            snapshots.stranded
        )?;
        writeln!(
            f,
            "  asked     transfers {} done, {} refused, {} failed; changes {} done, {} refused, {} \
             unknown; {} resets, {} log reads",
            operations.transfers_done,
            operations.transfers_refused,
            operations.transfers_failed,
            operations.changes_done,
            operations.changes_refused,
            operations.changes_unknown,
            operations.resets,
            operations.log_reads
        )?;
        let refusals = self.refusals.iter();
        let refusals = refusals.map(|refusal| format!("{} x {}", refusal.count, refusal.reason));
        match refusals.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => Ok(()),
            some => writeln!(f, "  refused   {some}"),
        }
    }

    fn timing_table(&self) -> Table {
        let mut table = Table::new(&["time", "count", "p50", "p99", "p99.9", "max"]);
        let timings = &self.timings;
        let rows: [(&str, &Distribution); 7] = [
            ("commit", &timings.commit),
            ("read", &timings.linearizable),
            ("turn", &timings.turn),
            ("apply", &timings.apply),
            ("log write", &timings.write),
            ("log sync", &timings.sync),
            ("log read", &timings.read),
        ];
        for (name, distribution) in rows.into_iter().filter(|row| row.1.count() > 0) {
            let summary = distribution.summary();
            let times = [summary.p50, summary.p99, summary.p999, summary.max].map(time);
            table.row([name.to_owned(), summary.count.to_string()].into_iter().chain(times));
        }
        table
    }

    fn segment_table(&self) -> Table {
        let headings = ["segment", "file", "bytes", "durable", "live", "states", "reads"];
        let mut table = Table::new(&headings);
        for segment in &self.log.segments {
            let numbers = [segment.bytes, segment.durable_bytes, segment.live_bytes];
            let file = segment.file.clone().unwrap_or_else(|| "-".into());
            let head = [segment.id.to_string(), file];
            let counts = [segment.states, segment.reads].map(|count| count.to_string());
            table.row(head.into_iter().chain(numbers.map(|n| n.to_string())).chain(counts));
        }
        table
    }

    fn link_table(&self) -> Table {
        let headings = ["link to", "state", "connections", "sent", "received", "outbox"];
        let mut table = Table::new(&headings);
        for link in &self.links {
            table.row([
                format!("node {} shard {}", link.node, link.shard),
                if link.connected { "up" } else { "DOWN" }.into(),
                link.connections.to_string(),
                format!("{} B in {} frames", link.bytes_sent, link.frames_sent),
                format!("{} B in {} frames", link.bytes_received, link.frames_received),
                format!("{} B", link.outbox_bytes),
            ]);
        }
        table
    }
}

/// Groups, a line each.
#[must_use]
pub fn group_table(groups: &[GroupReport]) -> Table {
    let mut table = Table::new(&[
        "group",
        "shard",
        "role",
        "rests",
        "term",
        "leader",
        "commit",
        "applied",
        "last",
        "durable",
        "waiting",
        "peer lag",
        "elections",
        "changes",
    ]);
    for group in groups {
        let status = &group.status;
        let or_none = |number: Option<u64>| number.map_or("-".to_owned(), |n| n.to_string());
        table.row([
            status.group.to_string(),
            group.shard.to_string(),
            if status.is_superseded() { "superseded" } else { role(status.role) }.to_owned(),
            if status.rests { "yes" } else { "-" }.to_owned(),
            status.term.to_string(),
            or_none(status.leader.map(|leader| leader.0)),
            status.commit.to_string(),
            status.applied.to_string(),
            status.last.index.to_string(),
            status.durable.to_string(),
            group.queues.waiting.to_string(),
            or_none(group.peer_lag()),
            group.history.elections.to_string(),
            group.history.leader_changes.to_string(),
        ]);
    }
    table
}

/// What leaders know about their peers, a line each.
#[must_use]
pub fn peer_table(groups: &[GroupReport]) -> Table {
    let headings =
        ["group", "peer", "mode", "heard ms ago", "match", "next", "lag", "in flight", "bytes"];
    let mut table = Table::new(&headings);
    for group in groups {
        let last = group.status.last.index.0;
        for peer in &group.status.peers {
            let stranded = group.status.stranded.contains(&peer.id);
            table.row([
                group.status.group.to_string(),
                peer.id.to_string(),
                if stranded { "stranded" } else { mode(peer.mode) }.to_owned(),
                peer.heard_ms_ago.to_string(),
                peer.match_index.to_string(),
                peer.next_index.to_string(),
                last.saturating_sub(peer.match_index.0).to_string(),
                peer.inflight_messages.to_string(),
                peer.inflight_bytes.to_string(),
            ]);
        }
    }
    table
}

fn role(role: RoleName) -> &'static str {
    match role {
        RoleName::Follower => "follower",
        RoleName::PreCandidate => "pre-candidate",
        RoleName::Candidate => "candidate",
        RoleName::Leader => "leader",
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Probe => "probe",
        Mode::Replicate => "replicate",
        Mode::Snapshot => "snapshot",
    }
}

/// Three digits and a unit.
fn time(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanos as f64 / 1e6),
        _ => format!("{:.2} s", nanos as f64 / 1e9),
    }
}
