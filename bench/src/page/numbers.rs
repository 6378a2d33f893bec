//! All numbers of the points in tables, for those who want them exactly or don't see the charts.

use super::floor::way;
use super::input::{Cluster, Floor, Run};
use super::model::{Load, Model, Point};
use super::parts::{folded, section, table};
use super::text::{bytes, count, plural, whole};
use crate::report::thousands;

const HEADS: [&str; 14] = [
    "engine",
    "load",
    "op/s",
    "lowest",
    "highest",
    "p50 µs",
    "p90 µs",
    "p99 µs",
    "p99.9 µs",
    "max µs",
    "ns/op",
    "op/flush",
    "MB of a node",
    "runs",
];

pub(super) fn draw(model: &Model) -> String {
    let of_load = |load: Load| {
        let points: Vec<&Point> = model.closed(load).chain(model.open(load)).collect();
        let rows: Vec<_> = points.iter().map(|point| row(model, point)).collect();
        let title = format!("{}, {}", load.title(), load.nodes());
        folded(&title, false, &table(&title, &HEADS, &rows))
    };
    let points: String = model.loads().into_iter().map(of_load).collect();
    let floors: String = model.floors.iter().map(floor).collect();
    let body = points + &stages(model) + &floors;
    let about = "Of each point the run that stands for it, with the lowest and the highest \
                 throughput of its runs. Runs are those that passed, of all.";
    section("numbers", "All numbers", about, &body)
}

fn load(point: &Point) -> String {
    let workload = &point.workload;
    match (workload.rate, workload.share, &workload.peer) {
        (None, ..) => format!("{} in flight", thousands(workload.inflight)),
        (Some(rate), Some(share), Some(peer)) => {
            format!("{share} % of {peer}, {}/s", thousands(rate))
        }
        (Some(rate), ..) => format!("{} op/s due", thousands(rate)),
    }
}

fn row(model: &Model, point: &Point) -> Vec<String> {
    let passed = point.runs.iter().filter(|run| run.passed()).count();
    let runs = format!("{passed}/{}", point.runs.len());
    let mut row = vec![model.engine_of(point).label(), load(point)];
    match point.median() {
        Some(run) => row.extend(numbers(point, run)),
        None => {
            row.push("failed".into());
            row.resize(HEADS.len() - 1, String::new());
        }
    }
    row.push(runs);
    row
}

fn numbers(point: &Point, run: &Run) -> Vec<String> {
    let us = |value: Option<f64>| match value {
        Some(us) if us >= 1e3 => whole(us),
        Some(us) => format!("{us:.1}"),
        None => String::new(),
    };
    let rate = run.ops_per_sec;
    let (low, high) = point.spread(|run| Some(run.ops_per_sec)).unwrap_or((rate, rate));
    let latency = &run.latency_us;
    let flushed = run.disk.as_ref().filter(|disk| disk.flushes > 0);
    let per_flush = flushed.map(|disk| run.ops as f64 / disk.flushes as f64);
    vec![
        whole(rate),
        whole(low),
        whole(high),
        us(latency.p50),
        us(latency.p90),
        us(latency.p99),
        us(latency.p99_9),
        us(latency.max),
        run.cpu_ns_per_op.map(whole).unwrap_or_default(),
        per_flush.map(count).unwrap_or_default(),
        whole(run.rss_peak as f64 / 1e6),
    ]
}

/// Processor time by stage: a row of each run, a column of each stage.
fn stages(model: &Model) -> String {
    let runs: Vec<&Cluster> =
        model.clusters.iter().filter(|run| !run.stages_ns_per_op.is_empty()).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in runs.iter().flat_map(|run| &run.stages_ns_per_op) {
        if !names.contains(&&**name) {
            names.push(name);
        }
    }
    let row = |run: &&Cluster| {
        let workload = &run.workload;
        let due = workload.rate.map(|rate| format!(", {} op/s due", thousands(rate)));
        let (payload, inflight) = (bytes(workload.payload_bytes), thousands(workload.inflight));
        let of = |stage: &&str| {
            let found = run.stages_ns_per_op.iter().find(|(name, _)| name == stage);
            found.map(|(_, ns)| format!("{ns:.1}")).unwrap_or_default()
        };
        let head = format!("{payload}, {inflight} in flight{}", due.unwrap_or_default());
        let all = run.run.cpu_ns_per_op.map(|ns| format!("{ns:.1}")).unwrap_or_default();
        [head, all].into_iter().chain(names.iter().map(of)).collect()
    };
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    let heads: Vec<&str> = ["run", "all"].into_iter().chain(names.iter().copied()).collect();
    let title = "Processor time by stage, ns per operation";
    if rows.is_empty() { String::new() } else { folded(title, false, &table(title, &heads, &rows)) }
}

fn floor(floor: &Floor) -> String {
    let times = table("", &["floor", "p50 µs", "p99 µs", "op/s"], &floor_times(floor));
    let bandwidth = floor.durable_bandwidth.iter().map(|at| {
        let what = format!("durable writes of {}, {} at once", bytes(at.write_bytes), at.depth);
        vec![what, format!("{:.1} MB/s", at.mb_per_sec)]
    });
    let memory = floor.memory.iter().flat_map(|at| {
        let row = |what: &str, gb: f64| {
            vec![format!("{what}, {}", bytes(at.buffer_bytes)), format!("{gb:.1} GB/s")]
        };
        [row("CRC-32", at.crc_gb_per_sec), row("copy", at.copy_gb_per_sec)]
    });
    let rates: Vec<_> = bandwidth.chain(memory).collect();
    folded("The floor", false, &(times + &table("", &["floor", "rate"], &rates)))
}

/// What of a floor is a time: its median and 99th percentile, and a rate where there is one.
fn floor_times(floor: &Floor) -> Vec<Vec<String>> {
    let row = |what: String, p50: f64, p99: f64, rate: String| {
        vec![what, format!("{p50:.1}"), format!("{p99:.1}"), rate]
    };
    let reaches = [("round trip", &floor.round_trip), ("wake-up", &floor.wake_up)];
    let reaches = reaches.into_iter().filter_map(|(what, reach)| Some((what, reach.as_ref()?)));
    let reaches = reaches.flat_map(|(what, at)| {
        let (other, same) = (format!("{what}, other core"), format!("{what}, same core"));
        [
            row(other, at.other_core_p50_us, at.other_core_p99_us, String::new()),
            row(same, at.same_core_p50_us, at.same_core_p99_us, String::new()),
        ]
    });
    let writes = floor.durable_writes.iter().map(|at| {
        let what = format!("{}, {}", way(&at.way), plural(at.processes as usize, "writer"));
        row(what, at.p50_us, at.p99_us, String::new())
    });
    let nulls = floor.null_raft.iter().filter_map(|null| {
        let load = (bytes(null.payload_bytes), thousands(null.inflight));
        let what = format!("no protocol, {}, {} in flight", load.0, load.1);
        Some(row(what, null.p50_us?, null.p99_us?, whole(null.ops_per_sec?)))
    });
    reaches.chain(writes).chain(nulls).collect()
}
