//! The engine's metrics, and behind them the server's own.

use std::fmt::Write as _;

use ringleader::Report;
use ringleader::report::Page;

use crate::kv::server::shard::Node;
use crate::kv::server::stats::Kind;

/// More groups are added up instead of listed.
const GROUPS: usize = 100;

const END: &str = "# EOF\n";

/// OpenMetrics text.
pub(super) fn page(report: Report, node: &Node) -> Page {
    let Page { kind, body: mut text } = Page::metrics(report, GROUPS);
    if text.ends_with(END) {
        text.truncate(text.len() - END.len());
    }
    let shards: Vec<_> = node.stats.iter().map(|stats| stats.all()).collect();
    for (at, (name, kind, help, _)) in shards.first().into_iter().flatten().enumerate() {
        let (family, suffix) = match kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
        };
        // Writing to a string does not fail.
        let _ = write!(text, "# HELP kv_{name} {help}.\n# TYPE kv_{name} {family}\n");
        for (shard, stats) in shards.iter().enumerate() {
            let value = stats[at].3;
            let _ = writeln!(text, "kv_{name}{suffix}{{shard=\"{shard}\"}} {value}");
        }
    }
    Page { kind, body: text + END }
}
