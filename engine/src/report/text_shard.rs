//! A shard's report as text for people.

use std::fmt;
use std::time::Duration;

use super::{LinkReport, ShardReport, Table};
use crate::shard::{Hook, MessageKind, SnapshotStage};

impl fmt::Display for ShardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, health, groups, resting, counters, callers, log, .. } = self;
        writeln!(f, "shard {shard}: {health}; {groups} groups, {resting} of them at rest")?;
        writeln!(
            f,
            "  callers   inbox {}, in flight {} B; applied {}, refused {} ({} as too many), unknown {}; \
             reads {}, failed {} ({} as too many), in {} requests; turned away {} times",
            callers.inbox,
            callers.in_flight_bytes,
            callers.applied,
            callers.refused,
            callers.refused_busy,
            callers.unknown,
            callers.reads_served,
            callers.reads_failed,
            callers.reads_busy,
            counters.read_requests,
            callers.turned_away
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
            "  log       durable through batch {}; staged {} B, in memory {} B; under way: {} writes, \
             {} others; {} spare segments, {} B of files{}",
            log.durable,
            log.staged_bytes,
            self.memory_bytes,
            log.writes_in_flight,
            log.others_in_flight,
            log.spare_segments,
            log.file_bytes,
            if log.has_space { "" } else { "; NO SPACE" }
        )?;
        let tables = [
            self.timing_table(),
            self.segment_table(),
            self.snapshot_table(),
            self.link_table(),
            self.message_table(),
        ];
        for table in tables {
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
             transfers {} broken, {} resumed, {} given up here, {} of leaders' given up",
            snapshots.taken,
            snapshots.taken_bytes,
            Duration::from_nanos(snapshots.taken_nanos),
            snapshots.sent,
            snapshots.sent_bytes,
            snapshots.installed,
            snapshots.installed_bytes,
            snapshots.failed,
            snapshots.broken,
            snapshots.resumed,
            snapshots.sends_given_up,
            snapshots.receives_given_up
        )?;
        writeln!(
            f,
            "  asked     transfers {} done, {} refused, {} failed; changes {} done, {} refused, {} \
             unknown; {} resets, {} log reads; groups {} created, {} destroyed",
            operations.transfers_done,
            operations.transfers_refused,
            operations.transfers_failed,
            operations.changes_done,
            operations.changes_refused,
            operations.changes_unknown,
            operations.resets,
            operations.log_reads,
            operations.groups_created,
            operations.groups_destroyed
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
        let rows = [
            ("commit", &timings.commit),
            ("read", &timings.linearizable),
            ("turn", &timings.turn),
            ("apply", &timings.apply),
            ("log write", &timings.write),
            ("log sync", &timings.sync),
            ("log read", &timings.read),
            ("snapshot taken", &timings.snapshot_taken),
            ("snapshot installed", &timings.snapshot_installed),
            ("snapshot loaded", &timings.snapshot_loaded),
        ];
        let rows = rows.into_iter().map(|(name, times)| (name.to_owned(), times));
        let hooks = Hook::ALL.into_iter();
        let hooks = hooks.map(|hook| (format!("hook {}", hook.name()), self.hooks.of(hook)));
        let links = self.links.iter().map(|link| {
            let peer = format!("append to {}/{}", link.node, link.shard);
            (peer, &link.acknowledged)
        });
        let rows = rows.chain(hooks).chain(links);
        for (name, distribution) in rows.filter(|row| row.1.count() > 0) {
            let summary = distribution.summary();
            let times = [summary.p50, summary.p99, summary.p999, summary.max].map(time);
            table.row([name, summary.count.to_string()].into_iter().chain(times));
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

    fn snapshot_table(&self) -> Table {
        let mut table = Table::new(&[
            "snapshot of",
            "is",
            "node",
            "covers",
            "term",
            "pieces",
            "bytes",
            "idle ms",
            "",
        ]);
        for snapshot in &self.snapshots {
            table.row([
                format!("group {}", snapshot.group),
                stage(snapshot.stage).to_owned(),
                snapshot.peer.map_or("-".to_owned(), |peer| peer.to_string()),
                snapshot.at.index.to_string(),
                snapshot.at.term.to_string(),
                snapshot.pieces.to_string(),
                snapshot.bytes.to_string(),
                snapshot.idle_ms.to_string(),
                if snapshot.broken { "BROKEN" } else { "" }.to_owned(),
            ]);
        }
        table
    }

    fn link_table(&self) -> Table {
        let mut table = Table::new(&[
            "link to",
            "state",
            "alive",
            "heard ms ago",
            "connections",
            "failed",
            "in a row",
            "sent",
            "received",
            "outbox",
        ]);
        for link in &self.links {
            table.row([
                format!("node {} shard {}", link.node, link.shard),
                if link.connected { "up" } else { "DOWN" }.into(),
                if link.alive { "yes" } else { "NO" }.into(),
                link.heard_ms_ago.map_or("-".into(), |ms| ms.to_string()),
                link.connections.to_string(),
                link.failed_connects.to_string(),
                link.failed_in_a_row.to_string(),
                format!("{} B in {} frames", link.bytes_sent, link.frames_sent),
                format!("{} B in {} frames", link.bytes_received, link.frames_received),
                format!("{} B", link.outbox_bytes),
            ]);
        }
        table
    }

    /// Of each kind of message that went over some link, those sent and those received.
    fn message_table(&self) -> Table {
        let both =
            |link: &LinkReport, kind| link.messages_sent.of(kind) + link.messages_received.of(kind);
        let seen = |kind: &MessageKind| self.links.iter().any(|link| both(link, *kind) > 0);
        let kinds: Vec<MessageKind> = MessageKind::ALL.into_iter().filter(seen).collect();
        let names = kinds.iter().map(|kind| kind.name());
        let mut table = Table::new(&["out/in"].into_iter().chain(names).collect::<Vec<_>>());
        for link in self.links.iter().filter(|_| !kinds.is_empty()) {
            let counts = kinds.iter().map(|kind| {
                format!("{}/{}", link.messages_sent.of(*kind), link.messages_received.of(*kind))
            });
            let name = format!("node {} shard {}", link.node, link.shard);
            table.row([name].into_iter().chain(counts));
        }
        table
    }
}

fn stage(stage: SnapshotStage) -> &'static str {
    match stage {
        SnapshotStage::Taking => "taken",
        SnapshotStage::Sending => "sent to",
        SnapshotStage::Receiving => "received from",
        SnapshotStage::Loading => "loaded, from",
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
