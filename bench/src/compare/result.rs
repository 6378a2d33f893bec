//! What a comparison came to: one JSON object, or a table with bars.

use std::fmt::Write as _;

use serde::Serialize;

use super::RINGLEADER;
use super::peer::Ready;
use crate::disk::Counters;
use crate::histogram::Latencies;
use crate::latency::LatencyReport;
use crate::machine::Machine;
use crate::report::{Report, RunReport, round, thousands};

/// Characters of the longest bar.
const BAR: usize = 24;

/// The whole result. The fields' names are the JSON object's.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    kind: &'static str,
    machine: Machine,
    /// How often each point was run.
    rounds: u64,
    pub(crate) engines: Vec<Engine>,
    points: Vec<Point>,
}

/// One of those that are compared.
#[derive(Debug, Serialize)]
pub(crate) struct Engine {
    name: String,
    version: Option<String>,
    /// What it acknowledges is on the disks of a majority; unknown before it has run.
    durable: Option<bool>,
    settings: serde_json::Map<String, serde_json::Value>,
    /// Why it was not run.
    skipped: Option<String>,
}

/// What was asked of an engine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Workload {
    pub(crate) nodes: u64,
    pub(crate) groups: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) inflight: u64,
    /// Operations due in a second; none is a closed loop.
    pub(crate) rate: Option<u64>,
    /// Percent of the maximum of `peer` that `rate` is.
    pub(crate) share: Option<u64>,
    pub(crate) peer: Option<String>,
    pub(crate) seconds: u64,
    pub(crate) warmup_seconds: u64,
}

/// An engine under one workload.
#[derive(Debug, Serialize)]
struct Point {
    engine: String,
    workload: Workload,
    /// The run with the median throughput (in an open loop: the median p99) of those that passed.
    median: Option<usize>,
    runs: Vec<Run>,
}

/// One run of an engine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    ops: u64,
    ops_per_sec: f64,
    errors: u64,
    unknown: u64,
    busy: u64,
    latency_us: LatencyReport,
    /// Shares of the operations, and the microseconds that they stayed within.
    latency_curve_us: Vec<(f64, f64)>,
    /// User and system time of all nodes, divided by `ops`.
    cpu_ns_per_op: Option<f64>,
    disk: Option<Counters>,
    /// The most resident memory of a node, in bytes.
    rss_peak: u64,
    passed: bool,
    failures: Vec<String>,
}

/// Operations of the measured part, and what went wrong in the whole load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) seconds: f64,
    pub(crate) ops: u64,
    pub(crate) errors: u64,
    pub(crate) unknown: u64,
    pub(crate) busy: u64,
}

/// What a run cost in its measured part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunCost {
    pub(crate) cpu_ns: u64,
    pub(crate) disk: Option<Counters>,
    pub(crate) rss_peak: u64,
}

impl Engine {
    pub(crate) fn ringleader() -> Self {
        let version = Some(env!("CARGO_PKG_VERSION").to_owned());
        Self { version, durable: Some(true), ..Self::new(RINGLEADER) }
    }

    pub(crate) fn new(name: &str) -> Self {
        let settings = serde_json::Map::new();
        Self { name: name.to_owned(), version: None, durable: None, settings, skipped: None }
    }

    pub(crate) fn skipped(name: &str, reason: String) -> Self {
        Self { skipped: Some(reason), ..Self::new(name) }
    }
}

impl Run {
    pub(crate) fn new(
        tally: Tally,
        latencies: &Latencies,
        cost: RunCost,
        failures: Vec<String>,
    ) -> Self {
        let Tally { seconds, ops, errors, unknown, busy } = tally;
        Self {
            ops,
            ops_per_sec: round(ops as f64 / seconds),
            errors,
            unknown,
            busy,
            latency_us: LatencyReport::new(latencies),
            latency_curve_us: latencies.curve(),
            cpu_ns_per_op: (ops > 0).then(|| round(cost.cpu_ns as f64 / ops as f64)),
            disk: cost.disk,
            rss_peak: cost.rss_peak,
            passed: failures.is_empty(),
            failures,
        }
    }

    /// A run that came to nothing.
    pub(crate) fn failed(reason: String) -> Self {
        let tally = Tally { seconds: 1.0, ..Tally::default() };
        let cost = RunCost { cpu_ns: 0, disk: None, rss_peak: 0 };
        Self::new(tally, &Latencies::default(), cost, vec![reason])
    }

    /// For whoever waits.
    pub(crate) fn line(&self, engine: &str, workload: &Workload) -> String {
        let (payload, inflight) = (workload.payload_bytes, thousands(workload.inflight));
        let rate = workload.rate.map(|rate| format!(" at {} op/s", thousands(rate)));
        let what = format!("{engine}, {payload} B x {inflight}{}", rate.unwrap_or_default());
        match self.failures.first() {
            Some(reason) => format!("{what}: FAILED: {reason}"),
            None => format!(
                "{what}: {} op/s, p50 {:.0} us, p99 {:.0} us",
                thousands(self.ops_per_sec as u64),
                self.latency_us.p50,
                self.latency_us.p99
            ),
        }
    }
}

impl From<Report> for Run {
    fn from(report: Report) -> Self {
        Self {
            ops: report.ops,
            ops_per_sec: report.ops_per_sec,
            errors: report.errors,
            unknown: report.unknown,
            busy: report.busy,
            latency_us: report.latency_us,
            latency_curve_us: report.latency_curve_us,
            cpu_ns_per_op: report.cpu_ns_per_op,
            disk: report.disk,
            rss_peak: report.processes.iter().map(|process| process.rss_peak).max().unwrap_or(0),
            passed: report.failures.is_empty(),
            failures: report.failures,
        }
    }
}

impl Point {
    fn median(&self) -> Option<&Run> {
        self.median.map(|at| &self.runs[at])
    }

    fn choose_median(&mut self) {
        let open = self.workload.rate.is_some();
        let key = |run: &Run| if open { run.latency_us.p99 } else { run.ops_per_sec };
        let passed = self.runs.iter().enumerate().filter(|(_, run)| run.passed);
        let mut order: Vec<_> = passed.map(|(at, run)| (key(run), at)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.median = order.get(order.len().saturating_sub(1) / 2).map(|(_, at)| *at);
    }

    /// The lowest and the highest throughput of the runs that passed.
    fn spread(&self) -> (f64, f64) {
        let rates = self.runs.iter().filter(|run| run.passed).map(|run| run.ops_per_sec);
        rates.fold((f64::INFINITY, 0.0), |(low, high), rate| (low.min(rate), high.max(rate)))
    }
}

impl Comparison {
    /// One without any engines yet.
    pub(crate) fn new(machine: Machine, rounds: u64) -> Self {
        Self { kind: "compare", machine, rounds, engines: Vec::new(), points: Vec::new() }
    }

    pub(crate) fn add(&mut self, engine: &str, workload: Workload, run: Run) {
        let same = |point: &&mut Point| point.engine == engine && alike(&point.workload, &workload);
        if let Some(point) = self.points.iter_mut().find(same) {
            point.runs.push(run);
            point.choose_median();
            return;
        }
        let engine = engine.to_owned();
        let mut point = Point { engine, workload, median: None, runs: vec![run] };
        point.choose_median();
        self.points.push(point);
    }

    pub(crate) fn describe(&mut self, name: &str, ready: Ready) {
        let engine = self.engines.iter_mut().find(|engine| engine.name == name);
        let engine = engine.expect("every engine is entered before it runs");
        engine.version = Some(ready.version);
        engine.durable = Some(ready.durable);
        engine.settings = ready.settings;
    }

    /// The number in flight at which an engine did most, and how much.
    pub(crate) fn most(&self, engine: &str, payload: u64) -> Option<(u64, f64)> {
        let closed = self.points.iter().filter(|point| {
            let workload = &point.workload;
            point.engine == engine && workload.payload_bytes == payload && workload.rate.is_none()
        });
        let medians =
            closed.filter_map(|point| Some((point.workload.inflight, point.median()?.ops_per_sec)));
        medians.max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The workloads, in the order in which they were first run.
    fn workloads(&self) -> Vec<&Workload> {
        let mut workloads: Vec<&Workload> = Vec::new();
        for point in &self.points {
            let workload = &point.workload;
            if !workloads.iter().any(|known| alike(known, workload)) {
                workloads.push(workload);
            }
        }
        workloads
    }

    fn section(&self, workload: &Workload) -> String {
        let points: Vec<_> =
            self.points.iter().filter(|point| alike(&point.workload, workload)).collect();
        let rate_of = |point: &Point| point.median().map_or(0.0, |run| run.ops_per_sec);
        let most = points.iter().map(|point| rate_of(point)).fold(1.0, f64::max);
        let own = points.iter().find(|point| point.engine == RINGLEADER);
        let mut text = format!("\n{}\n", title(workload));
        let head = "op/s      ours/its  p50 us    p99 us    ns/op  op/flush  spread";
        writeln!(text, "  {:<16}{head}", "").expect("strings take all");
        for point in &points {
            let Some(run) = point.median() else {
                let reason = point.runs.iter().find_map(|run| run.failures.first());
                let reason = reason.map_or("", |reason| reason);
                writeln!(text, "  {:<16}FAILED: {reason}", point.engine).expect("strings take all");
                continue;
            };
            let ratio = own.map_or(0.0, |own| rate_of(own) / run.ops_per_sec.max(1e-9));
            let per_flush =
                run.disk.map_or(0.0, |disk| run.ops as f64 / disk.flushes.max(1) as f64);
            let (low, high) = point.spread();
            let spread = (high - low) / run.ops_per_sec.max(1e-9) * 100.0;
            writeln!(
                text,
                "  {:<16}{:<10}{ratio:<10.2}{:<10.0}{:<10.0}{:<7.0}{per_flush:<10.2}{spread:>3.0} % {}",
                self.label(&point.engine),
                thousands(run.ops_per_sec as u64),
                run.latency_us.p50,
                run.latency_us.p99,
                run.cpu_ns_per_op.unwrap_or(0.0),
                bar(run.ops_per_sec / most),
            )
            .expect("strings take all");
        }
        text
    }

    /// An engine that is not durable is marked.
    fn label(&self, name: &str) -> String {
        let engine = self.engines.iter().find(|engine| engine.name == name);
        let volatile = engine.is_some_and(|engine| engine.durable == Some(false));
        format!("{name}{}", if volatile { " (!)" } else { "" })
    }
}

/// Whether two workloads belong into one table. A rate follows from a round's maximum: its share is
/// what is asked for.
fn alike(a: &Workload, b: &Workload) -> bool {
    let rate = if a.share.is_some() { b.rate } else { a.rate };
    Workload { rate, ..a.clone() } == *b
}

fn title(workload: &Workload) -> String {
    let groups = match workload.groups {
        1 => String::new(),
        groups => format!(", {} groups", thousands(groups)),
    };
    let load = match (workload.share, &workload.peer) {
        (Some(share), Some(peer)) => format!("{share} % of what {peer} does at most"),
        _ => format!("{} in flight", thousands(workload.inflight)),
    };
    format!("{} B payload{groups}, {load}", thousands(workload.payload_bytes))
}

/// A part of the longest bar.
fn bar(share: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share * (BAR * 8) as f64).round().max(1.0) as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

impl RunReport for Comparison {
    /// Whether every engine passed every run.
    fn passed(&self) -> bool {
        self.points.iter().all(|point| point.runs.iter().all(|run| run.passed))
    }

    fn table(&self) -> String {
        let machine = self.machine.summary();
        let mut table = format!("\n{machine}\nmedians of {} runs, in turn\n", self.rounds);
        for workload in self.workloads() {
            table += &self.section(workload);
        }
        let volatile = self.engines.iter().any(|engine| engine.durable == Some(false));
        if volatile {
            table += "\n(!) not durable: what it acknowledges is not on disk yet\n";
        }
        for engine in &self.engines {
            if let Some(reason) = &engine.skipped {
                writeln!(table, "\n{} was left out: {reason}", engine.name)
                    .expect("strings take all");
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn workload(rate: Option<u64>, share: Option<u64>) -> Workload {
        let peer = share.map(|_| "other".to_owned());
        let (nodes, groups, payload_bytes, inflight) = (3, 1, 16, 64);
        let (seconds, warmup_seconds) = (1, 0);
        Workload {
            nodes,
            groups,
            payload_bytes,
            inflight,
            rate,
            share,
            peer,
            seconds,
            warmup_seconds,
        }
    }

    fn run(ops: u64) -> Run {
        let tally = Tally { seconds: 1.0, ops, ..Tally::default() };
        let cost = RunCost { cpu_ns: 1000, disk: None, rss_peak: 0 };
        Run::new(tally, &Latencies::default(), cost, Vec::new())
    }

    fn empty() -> Comparison {
        Comparison::new(Machine::describe(Path::new("/")), 3)
    }

    fn comparison() -> Comparison {
        let mut all = empty();
        all.engines = vec![Engine::ringleader(), Engine::new("other")];
        for ops in [300, 100, 200] {
            all.add(RINGLEADER, workload(None, None), run(ops));
            all.add("other", workload(None, None), run(ops / 10));
        }
        all
    }

    #[test]
    fn the_median_run_stands_for_a_point_and_makes_the_ratio() {
        let all = comparison();
        assert_eq!(all.most(RINGLEADER, 16), Some((64, 200.0)));
        assert!(all.passed());
        let row = all.table().lines().find(|line| line.contains("other")).map(str::to_owned);
        assert!(row.is_some_and(|row| row.contains(" 10.00 ")), "{}", all.table());
    }

    #[test]
    fn a_failed_run_is_no_median_and_fails_the_whole() {
        let mut all = comparison();
        all.add("other", workload(None, None), Run::failed("no disk".into()));
        assert_eq!(all.most("other", 16), Some((64, 20.0)));
        assert!(!all.passed());
        all.add("third", workload(None, None), Run::failed("no disk".into()));
        assert!(all.table().contains("FAILED: no disk"), "{}", all.table());
    }

    #[test]
    fn shares_of_a_maximum_are_one_point_although_the_rates_differ() {
        let mut all = empty();
        for rate in [50, 51] {
            all.add("other", workload(Some(rate), Some(50)), run(rate));
        }
        assert_eq!(all.points.len(), 1);
        assert_eq!(all.points[0].runs.len(), 2);
        all.add("other", workload(Some(25), Some(25)), run(25));
        assert_eq!(all.points.len(), 2);
    }

    #[test]
    fn bars_are_never_empty_and_never_too_long() {
        assert_eq!(bar(1.0).chars().count(), BAR);
        assert_eq!(bar(0.0), "▏");
    }
}
