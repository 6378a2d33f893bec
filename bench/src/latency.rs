//! Latencies as they are reported.

use std::fmt::Write as _;

use serde::Serialize;

use crate::histogram::Latencies;
use crate::report::round;

/// In microseconds, of operations that were due in the measured part.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LatencyReport {
    pub(crate) p50: f64,
    p90: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    p99_99: f64,
    pub(crate) max: f64,
    mean: f64,
}

impl LatencyReport {
    pub(crate) const HEADS: [&str; 7] = ["p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"];

    pub(crate) fn columns(&self) -> String {
        let Self { p50, p90, p99, p99_9, p99_99, max, mean } = self;
        [p50, p90, p99, p99_9, p99_99, max, mean].map(|value| format!("{value:>10.1}")).concat()
    }

    pub(crate) fn new(latencies: &Latencies) -> Self {
        let us = |share| round(latencies.quantile_us(share));
        Self {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p99_9: us(0.999),
            p99_99: us(0.9999),
            max: round(latencies.max() as f64 / 1e3),
            mean: round(latencies.mean() / 1e3),
        }
    }
}

/// Latencies of a load, by what went on meanwhile.
#[derive(Debug, Serialize)]
pub(crate) struct Phases(Vec<(&'static str, LatencyReport)>);

impl Phases {
    pub(crate) fn new(names: &[&'static str], latencies: &[Latencies]) -> Self {
        let phases = names.iter().zip(latencies);
        Self(phases.map(|(name, all)| (*name, LatencyReport::new(all))).collect())
    }

    /// Adds a table of them.
    pub(crate) fn write(&self, table: &mut String) -> std::fmt::Result {
        let columns = ["p50", "p99", "p99.9", "max"].map(|head| format!("{head:>12}"));
        writeln!(table, "  latency, us             {}", columns.concat())?;
        for (phase, l) in &self.0 {
            let cells = [l.p50, l.p99, l.p99_9, l.max].map(|us| format!("{us:>12.0}"));
            writeln!(table, "  {phase:<24}{}", cells.concat())?;
        }
        Ok(())
    }
}
