//! What the machine allows: one durable write, one round trip, and the least that three processes
//! can do (`null_raft`). A run of the engine takes the part that its load is compared with; the
//! command `floor` takes everything (`whole`).

mod memory;
mod network;
mod null_raft;
mod pages;
mod whole;
mod writes;

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::clock;
use crate::histogram::Latencies;
use crate::latency::LatencyReport;
use crate::report::round;

pub(crate) use null_raft::{NullRaft, NullRole, run as run_null_raft};
pub(crate) use pages::allocate;
pub(crate) use whole::measure as measure_whole;
pub(crate) use writes::{WriterRole, run as run_writer};

/// The floor under a run, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Floor {
    /// One `pwrite` of 4 KiB with `O_DIRECT|O_DSYNC` into a file that was written before.
    pub(crate) durable_write_p50_us: f64,
    pub(crate) durable_write_p99_us: f64,
    /// 64 bytes to a thread on another core and back over TCP: a peer is never on the same core.
    pub(crate) round_trip_p50_us: f64,
    pub(crate) round_trip_p99_us: f64,
    /// The same with both threads on one core, where no sleeping core has to be woken.
    pub(crate) same_core_round_trip_p50_us: f64,
    /// Median latency of an operation, divided by the sum of the medians of a durable write and a
    /// round trip; only with one operation in flight.
    pub(crate) ratio_p50: Option<f64>,
    /// Durable on two of three processes without a protocol, with as many operations of the same
    /// size in flight; only in a closed loop.
    pub(crate) null_raft: Option<NullRaft>,
}

impl Floor {
    /// Measures, in some seconds. `load` is operations in flight and bytes of each, in a closed
    /// loop. Uses and removes files in `directory`.
    pub(crate) fn measure(directory: &Path, load: Option<(u64, u64)>) -> anyhow::Result<Self> {
        let writes = writes::durable_writes(directory).context("measuring durable writes")?;
        let (here, there) = network::cores();
        let trips = network::round_trips(here, there).context("measuring loopback round trips")?;
        let same_core =
            network::round_trips(here, here).context("measuring round trips on one core")?;
        let null_raft = load
            .map(|(inflight, payload)| null_raft::measure(directory, inflight, payload))
            .transpose()
            .context("measuring what three processes do without a protocol")?;
        Ok(Self {
            durable_write_p50_us: writes.quantile_us(0.5),
            durable_write_p99_us: writes.quantile_us(0.99),
            round_trip_p50_us: trips.quantile_us(0.5),
            round_trip_p99_us: trips.quantile_us(0.99),
            same_core_round_trip_p50_us: same_core.quantile_us(0.5),
            ratio_p50: None,
            null_raft,
        })
    }

    /// One durable write and one round trip, at the median.
    fn p50_us(&self) -> f64 {
        self.durable_write_p50_us + self.round_trip_p50_us
    }

    /// The same with the ratios of a run to it.
    pub(crate) fn under(self, inflight: u64, latency: &LatencyReport, ops_per_sec: f64) -> Self {
        Self {
            ratio_p50: (inflight == 1).then(|| round(latency.p50 / self.p50_us())),
            null_raft: self.null_raft.map(|null| null.under(latency, ops_per_sec)),
            ..self
        }
    }
}

/// Runs `operation` at most `count` times and for `time` nanoseconds, after a tenth of that to
/// warm up.
fn sample(
    count: u64,
    time: u64,
    mut operation: impl FnMut(u64) -> std::io::Result<()>,
) -> std::io::Result<Latencies> {
    let mut latencies = Latencies::default();
    (0..count / 10).try_for_each(&mut operation)?;
    let end = clock::now() + time;
    let mut before = clock::now();
    for at in 0..count {
        operation(at)?;
        let now = clock::now();
        latencies.record(now - before, 1);
        before = now;
        if now >= end {
            break;
        }
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_ends_with_the_count_or_the_time() {
        let counted = sample(100, u64::MAX / 2, |_| Ok(())).expect("nothing fails");
        assert_eq!(counted.len(), 100);
        let sleep = |_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            Ok(())
        };
        let timed = sample(1_000, 5_000_000, sleep).expect("nothing fails");
        assert!((1..=5).contains(&timed.len()));
    }
}
