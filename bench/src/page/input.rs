//! What the page takes from result files. All of it may be missing: a file of an older version, or
//! one made by hand, still has a page.

use serde::{Deserialize, Deserializer};

/// `null`, as JSON has what isn't a number, is as good as nothing.
fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Machine {
    pub(super) version: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) profile: Option<String>,
    pub(super) kernel: Option<String>,
    pub(super) cpu: Option<String>,
    pub(super) cores: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) file_system: Option<String>,
    pub(super) mount_options: Option<String>,
    pub(super) device: Option<String>,
    pub(super) write_cache: Option<String>,
    pub(super) fua: Option<bool>,
    pub(super) scheduler: Option<String>,
}

impl Machine {
    /// Whether results of both can be compared; the program may be another.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let place = |machine: &Self| Self {
            version: None,
            commit: None,
            profile: None,
            // Of the same machine the kernel may see a page more or less from one boot to the next.
            memory_bytes: machine.memory_bytes.map(|bytes| bytes >> 28),
            ..machine.clone()
        };
        place(self) == place(other)
    }
}

/// What was asked of an engine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Workload {
    pub(super) nodes: u64,
    pub(super) shards: Option<u64>,
    pub(super) groups: u64,
    pub(super) payload_bytes: u64,
    pub(super) inflight: u64,
    /// Operations due in a second; none is a closed loop.
    pub(super) rate: Option<u64>,
    /// Percent of the maximum of `peer` that `rate` is.
    pub(super) share: Option<u64>,
    pub(super) peer: Option<String>,
    pub(super) seconds: u64,
    pub(super) client: Option<String>,
    pub(super) sync: Option<String>,
    pub(super) wal_depth: Option<u64>,
}

/// In microseconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latency {
    pub(super) p50: Option<f64>,
    pub(super) p90: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) p99_9: Option<f64>,
    pub(super) max: Option<f64>,
}

/// What the device did.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Disk {
    pub(super) flushes: u64,
    pub(super) bytes: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Run {
    pub(super) ops: u64,
    #[serde(deserialize_with = "or_default")]
    pub(super) ops_per_sec: f64,
    pub(super) latency_us: Latency,
    /// Shares of the operations, and the microseconds that they stayed within.
    pub(super) latency_curve_us: Vec<(f64, f64)>,
    pub(super) cpu_ns_per_op: Option<f64>,
    pub(super) disk: Option<Disk>,
    /// The most resident memory of a node, in bytes.
    pub(super) rss_peak: u64,
    pub(super) passed: Option<bool>,
    pub(super) failures: Vec<String>,
}

impl Run {
    pub(super) fn passed(&self) -> bool {
        self.passed.unwrap_or(self.failures.is_empty())
    }
}

/// A result of `cluster`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cluster {
    pub(super) workload: Workload,
    #[serde(flatten)]
    pub(super) run: Run,
    /// In the order of a turn; empty if that was not counted.
    pub(super) stages_ns_per_op: Vec<(String, f64)>,
    pub(super) floor: Option<RunFloor>,
    pub(super) processes: Vec<Process>,
    pub(super) machine: Machine,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) rss_peak: u64,
}

/// The floor under a single run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RunFloor {
    /// Median latency with one operation in flight, divided by a durable write and a round trip.
    pub(super) ratio_p50: Option<f64>,
    pub(super) null_raft: Option<NullRaft>,
}

/// What three processes do without a protocol, and the engine's results divided by that.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NullRaft {
    pub(super) inflight: u64,
    pub(super) payload_bytes: u64,
    pub(super) ops_per_sec: Option<f64>,
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    pub(super) ratio_p50: Option<f64>,
    pub(super) ratio_p99: Option<f64>,
    pub(super) ratio_ops_per_sec: Option<f64>,
}

/// A result of `compare`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Comparison {
    pub(super) machine: Option<Machine>,
    pub(super) engines: Vec<Engine>,
    pub(super) points: Vec<Point>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Engine {
    pub(super) name: String,
    pub(super) version: Option<String>,
    /// What it acknowledges is on the disks of a majority; unknown before it has run.
    pub(super) durable: Option<bool>,
    pub(super) settings: serde_json::Map<String, serde_json::Value>,
    /// Why it was not run.
    pub(super) skipped: Option<String>,
}

/// An engine under one workload.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Point {
    pub(super) engine: String,
    pub(super) workload: Workload,
    /// Which of the runs stands for all.
    pub(super) median: Option<usize>,
    pub(super) runs: Vec<Run>,
}

/// A result of `floor`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Floor {
    pub(super) machine: Machine,
    pub(super) round_trip: Option<Reach>,
    pub(super) wake_up: Option<Reach>,
    pub(super) durable_writes: Vec<Write>,
    pub(super) durable_bandwidth: Vec<Bandwidth>,
    pub(super) memory: Vec<Memory>,
    pub(super) null_raft: Vec<NullRaft>,
}

/// There and back again, in microseconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reach {
    pub(super) other_core_p50_us: f64,
    pub(super) other_core_p99_us: f64,
    pub(super) same_core_p50_us: f64,
    pub(super) same_core_p99_us: f64,
}

/// Durable writes of 4 KiB, one at a time in each of the processes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Write {
    pub(super) way: String,
    pub(super) processes: u64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Bandwidth {
    pub(super) write_bytes: u64,
    pub(super) depth: u64,
    pub(super) mb_per_sec: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    pub(super) buffer_bytes: u64,
    pub(super) crc_gb_per_sec: f64,
    pub(super) copy_gb_per_sec: f64,
}

/// A result of `tune`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tuning {
    pub(super) machine: Machine,
    pub(super) rounds: u64,
    pub(super) rows: Vec<TuningRow>,
}

/// What a setting does to a metric, as a ratio to the default's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TuningRow {
    pub(super) name: String,
    pub(super) setting: String,
    pub(super) why: String,
    pub(super) command: String,
    pub(super) metric: String,
    pub(super) ratio: Option<f64>,
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
    pub(super) skipped: Option<String>,
}
