//! Medians, ratios, and how they are shown.

use std::fmt::Write as _;

use serde::Serialize;

use super::args::Kind;
use super::load::{Load, Measured};

/// What one run came to.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) ops_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Processor time of all servers.
    pub(crate) server_cpu_us_per_op: f64,
    /// Of the client; nothing to compare, but what it leaves of the machine.
    pub(crate) client_cpu_us_per_op: f64,
    /// Of the disk; none when it does not tell.
    pub(crate) flushes_per_second: Option<f64>,
}

impl Figures {
    pub(crate) fn of(measured: &Measured) -> Self {
        let (latencies, cost) = (&measured.tally.latencies, &measured.cost);
        let ops = latencies.len() as f64;
        let us = |share| latencies.value_at_quantile(share) as f64 / 1e3;
        let per_op = |nanoseconds: u64| nanoseconds as f64 / 1e3 / ops.max(1.0);
        Self {
            ops_per_second: ops / cost.seconds,
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            server_cpu_us_per_op: per_op(cost.servers_ns),
            client_cpu_us_per_op: per_op(cost.client_ns),
            flushes_per_second: cost.flushes.map(|flushes| flushes as f64 / cost.seconds),
        }
    }

    /// The median of each.
    fn medians(rounds: &[Self]) -> Self {
        let median = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure));
        let flushes: Option<Vec<f64>> = rounds.iter().map(|one| one.flushes_per_second).collect();
        Self {
            ops_per_second: median(|one| one.ops_per_second),
            p50_us: median(|one| one.p50_us),
            p99_us: median(|one| one.p99_us),
            p999_us: median(|one| one.p999_us),
            server_cpu_us_per_op: median(|one| one.server_cpu_us_per_op),
            client_cpu_us_per_op: median(|one| one.client_cpu_us_per_op),
            flushes_per_second: flushes.map(|flushes| self::median(flushes.into_iter())),
        }
    }
}

/// The middle one, or the mean of the two in the middle; zero when there are none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count => (values[(count - 1) / 2] + values[count / 2]) / 2.0,
    }
}

/// What a system came to at a point.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    system: &'static str,
    median: Figures,
    /// Throughput and processor time per operation of this server, divided by this system's.
    kv_throughput_ratio: Option<f64>,
    kv_cpu_ratio: Option<f64>,
    rounds: Vec<Figures>,
    failures: Vec<String>,
}

/// A load, and what all systems came to under it.
#[derive(Debug, Serialize)]
pub(crate) struct PointReport {
    payload_bytes: usize,
    connections: usize,
    pipeline: usize,
    writes_percent: u32,
    pub(crate) systems: Vec<Entry>,
}

/// The runs of a system at a point.
#[derive(Clone, Default)]
pub(crate) struct Runs {
    pub(crate) rounds: Vec<Figures>,
    pub(crate) failures: Vec<String>,
}

impl PointReport {
    pub(crate) fn new(load: &Load, runs: Vec<(Kind, Runs)>) -> Self {
        let medians = |runs: &Runs| Figures::medians(&runs.rounds);
        let own = runs.iter().find(|(kind, runs)| *kind == Kind::Kv && !runs.rounds.is_empty());
        let own = own.map(|(_, runs)| medians(runs));
        let entry = |(kind, runs): (Kind, Runs)| {
            let median = medians(&runs);
            let ratio = |figure: fn(&Figures) -> f64| {
                let other = figure(&median);
                own.as_ref()
                    .filter(|_| kind != Kind::Kv && other > 0.0)
                    .map(|own| figure(own) / other)
            };
            Entry {
                system: kind.name(),
                kv_throughput_ratio: ratio(|one| one.ops_per_second),
                kv_cpu_ratio: ratio(|one| one.server_cpu_us_per_op),
                median,
                rounds: runs.rounds,
                failures: runs.failures,
            }
        };
        Self {
            payload_bytes: load.payload,
            connections: load.connections,
            pipeline: load.pipeline,
            writes_percent: load.writes,
            systems: runs.into_iter().map(entry).collect(),
        }
    }

    pub(crate) fn failed(&self) -> bool {
        self.systems.iter().any(|entry| !entry.failures.is_empty())
    }

    /// The table of the point.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{} B, {} x {} in flight, {} % writes\n",
            self.payload_bytes, self.connections, self.pipeline, self.writes_percent
        );
        text += "            ops/s   p50 us   p99 us  p99.9 us  cpu us/op  client  flush/s  \
                 kv/this  cpu kv/this\n";
        for entry in &self.systems {
            let one = &entry.median;
            if entry.rounds.is_empty() {
                let _ =
                    writeln!(text, "  {:6} failed: {}", entry.system, entry.failures.join("; "));
                continue;
            }
            let shown = |figure: Option<f64>, digits| {
                figure.map_or("-".to_owned(), |figure| format!("{figure:.digits$}"))
            };
            let _ = writeln!(
                text,
                "  {:6} {:9.0} {:8.0} {:8.0} {:9.0} {:10.2} {:7.2} {:>8} {:>8} {:>12}",
                entry.system,
                one.ops_per_second,
                one.p50_us,
                one.p99_us,
                one.p999_us,
                one.server_cpu_us_per_op,
                one.client_cpu_us_per_op,
                shown(one.flushes_per_second, 0),
                shown(entry.kv_throughput_ratio, 2),
                shown(entry.kv_cpu_ratio, 2),
            );
        }
        for entry in self.systems.iter().filter(|entry| !entry.rounds.is_empty()) {
            for failure in &entry.failures {
                let _ = writeln!(text, "  {}: a round failed: {failure}", entry.system);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([9.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 9.0].into_iter()), 3.0);
        assert_eq!(median(std::iter::empty()), 0.0);
    }
}
