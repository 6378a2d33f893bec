//! What a shard measured and whom it talks to, as tables for people.

use super::{LinkReport, ShardReport, Table};
use crate::shard::{Hook, MessageKind, SnapshotStage};

impl ShardReport {
    pub(super) fn timing_table(&self) -> Table {
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

    pub(super) fn segment_table(&self) -> Table {
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

    pub(super) fn snapshot_table(&self) -> Table {
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

    pub(super) fn link_table(&self) -> Table {
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
    pub(super) fn message_table(&self) -> Table {
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
