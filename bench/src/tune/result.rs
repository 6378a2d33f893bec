//! What settings are worth here: one JSON object, or a table.

use std::fmt::Write as _;

use serde::Serialize;

use super::experiments::{Experiment, Metric};
use crate::machine::Machine;
use crate::report::{Report, RunReport, median, round};

/// The whole result. The fields' names are the JSON object's.
#[derive(Debug, Serialize)]
pub(crate) struct Tuned {
    kind: &'static str,
    machine: Machine,
    rounds: u64,
    rows: Vec<Row>,
}

/// One experiment.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    name: &'static str,
    setting: &'static str,
    why: &'static str,
    /// The workload of both sides.
    command: String,
    metric: &'static str,
    /// With the setting, divided by without: the median of the rounds, the lowest and the highest.
    ratio: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    /// Why it was not run.
    skipped: Option<String>,
}

impl Metric {
    fn name(self) -> &'static str {
        match self {
            Self::Throughput => "op/s",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Processor => "CPU per op",
        }
    }

    pub(super) fn of(self, report: &Report) -> f64 {
        match self {
            Self::Throughput => report.ops_per_sec,
            Self::P50 => report.latency_us.p50,
            Self::P99 => report.latency_us.p99,
            Self::Processor => report.cpu_ns_per_op.unwrap_or(0.0),
        }
    }
}

impl Row {
    fn of(one: &Experiment) -> Self {
        Self {
            name: one.name,
            setting: one.setting,
            why: one.why,
            command: format!("ringleader-bench tune --only {} ({})", one.name, one.load.flags()),
            metric: one.metric.name(),
            ratio: None,
            low: None,
            high: None,
            skipped: None,
        }
    }

    pub(super) fn skipped(one: &Experiment, reason: String) -> Self {
        Self { skipped: Some(reason), ..Self::of(one) }
    }

    pub(super) fn measured(one: &Experiment, ratios: &[f64]) -> Self {
        let (low, high) =
            (ratios.iter().copied().reduce(f64::min), ratios.iter().copied().reduce(f64::max));
        let [ratio, low, high] = [median(ratios), low, high].map(|ratio| ratio.map(round));
        Self { ratio, low, high, ..Self::of(one) }
    }

    /// In one line.
    pub(super) fn line(&self) -> String {
        let Self { name, setting, metric, .. } = self;
        match (self.ratio, self.low, self.high, &self.skipped) {
            (Some(ratio), Some(low), Some(high), _) => {
                format!(
                    "  {name:<20} {metric:<10} {ratio:>6.2}  ({low:.2} to {high:.2})  {setting}"
                )
            }
            (.., reason) => {
                let reason = reason.as_deref().unwrap_or("it was not run");
                format!("  {name:<20} not run: {reason}")
            }
        }
    }
}

impl Tuned {
    pub(super) fn new(machine: Machine, rounds: u64, rows: Vec<Row>) -> Self {
        Self { kind: "tune", machine, rounds, rows }
    }
}

impl RunReport for Tuned {
    fn passed(&self) -> bool {
        true
    }

    fn table(&self) -> String {
        let mut table = format!(
            "\n{}\nwith the setting divided by without, medians of {} pairs (lowest to highest)\n\n",
            self.machine.summary(),
            self.rounds
        );
        for row in &self.rows {
            writeln!(table, "{}", row.line()).expect("strings take all");
        }
        table
    }
}
