//! All numbers of the points in tables, for those who want them exactly or don't see the charts.

use super::input::Run;
use super::model::{Load, Model, Point};
use super::parts::{folded, section, table};
use super::text::count;
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
    let body: String = model.loads().into_iter().map(of_load).collect();
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
    let whole = |value: f64| thousands(value.max(0.0).round() as u64);
    let us = |value: Option<f64>| value.map(|us| format!("{us:.1}")).unwrap_or_default();
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
