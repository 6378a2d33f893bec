//! A run's result: one JSON object, or a table.

use std::fmt::Write as _;

use serde::Serialize;

use crate::args::{ClientKind, ClusterArgs};
use crate::control::{LoadReport, ReadBy, SyncChoice, Usage};
use crate::disk::Counters;
use crate::floor::Floor;
use crate::latency::LatencyReport;
use crate::machine::Machine;
use crate::verify::Verification;

/// What a benchmark's run came to.
pub(crate) trait RunReport: Serialize {
    /// Whether all went well.
    fn passed(&self) -> bool;

    /// For people.
    fn table(&self) -> String;

    /// One JSON object, with a line break at the end.
    fn json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("the report has string keys only");
        json + "\n"
    }
}

/// What went wrong, below a table.
pub(crate) fn failed(failures: &[String]) -> String {
    failures.iter().map(|failure| format!("\n  FAILED: {failure}\n")).collect()
}

/// One process's part of the resources, by name.
pub(crate) type NamedUsage = (String, Usage);

/// How long the cluster took to be ready, from the start of the first process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Startup {
    /// Until every node's engine ran.
    pub(crate) nodes_seconds: f64,
    /// Until every group had a leader that all nodes knew.
    pub(crate) leaders_seconds: f64,
}

/// What was measured.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) startup: Startup,
    pub(crate) load: LoadReport,
    /// Of every process, in the order of the nodes.
    pub(crate) usages: Vec<NamedUsage>,
    pub(crate) disk: Option<Counters>,
    /// Time that the machine's processors were busy with anything in the measured part.
    pub(crate) machine_cpu: Option<u64>,
    /// How many groups each node led when the load began.
    pub(crate) leaders: Vec<u64>,
    /// Whether durable writes show as flushes of the device.
    pub(crate) flushes_expected: bool,
}

/// The whole result. The fields' names are the JSON object's.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    workload: Workload,
    /// Operations acknowledged in the measured part.
    pub(crate) ops: u64,
    /// Operations that failed, warm-up included.
    pub(crate) errors: u64,
    /// Operations whose outcome is unknown, warm-up included.
    pub(crate) unknown: u64,
    /// Operations that were put off because of a limit, and done later.
    pub(crate) busy: u64,
    /// Open loop: operations that were due and found no room until the end. They count in the
    /// latencies, with the time that they had waited.
    unsent: u64,
    pub(crate) ops_per_sec: f64,
    /// Of writes, where there are some.
    pub(crate) latency_us: LatencyReport,
    /// The reads among all this, where there are some.
    reads: Option<ReadReport>,
    /// Shares of the operations, and the microseconds that they stayed within.
    pub(crate) latency_curve_us: Vec<(f64, f64)>,
    /// User and system time of all processes, divided by `ops`.
    pub(crate) cpu_ns_per_op: Option<f64>,
    /// Processors that were busy with anything but this run's processes, on average: kernel
    /// threads that serve its disk and network, and other programs, which spoil the result.
    other_cores_busy: Option<f64>,
    pub(crate) disk: Option<Counters>,
    replicas_identical: bool,
    verification: Verification,
    floor: Option<Floor>,
    /// Processor time per operation of all nodes' shards, by stage in the order of a turn, if that
    /// was counted; what is missing to `cpu_ns_per_op` are other threads and processes.
    pub(crate) stages_ns_per_op: Vec<(String, f64)>,
    pub(crate) processes: Vec<ProcessReport>,
    startup: Startup,
    /// Groups that each node led when the load began.
    leaders: Vec<u64>,
    machine: Machine,
    passed: bool,
    /// What went wrong, in words.
    pub(crate) failures: Vec<String>,
}

/// Linearizable reads of the state machine on the leader.
#[derive(Debug, Serialize)]
struct ReadReport {
    ops_per_sec: f64,
    latency_us: LatencyReport,
}

#[derive(Debug, Serialize)]
struct Workload {
    nodes: u64,
    shards: u32,
    groups: u64,
    payload_bytes: u64,
    inflight: u64,
    rate: Option<u64>,
    /// Of a hundred operations, how many read, and what reads rest on.
    read_percent: u64,
    read_by: ReadBy,
    seconds: u64,
    warmup_seconds: u64,
    client: ClientKind,
    sync: Option<SyncChoice>,
    wal_depth: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ProcessReport {
    name: String,
    cpu_ns_per_op: Option<f64>,
    /// Processor time in the measured part, in nanoseconds.
    cpu_ns: u64,
    /// Resident memory in bytes, at the beginning and the end of the measured part, and the most.
    rss_start: u64,
    rss_end: u64,
    pub(crate) rss_peak: u64,
}

impl Report {
    pub(crate) fn new(
        args: &ClusterArgs,
        measured: Measured,
        verification: Verification,
        floor: Option<Floor>,
        machine: Machine,
    ) -> Self {
        let failures = failures(&measured, &verification);
        let Measured { startup, load, usages, disk, machine_cpu, leaders, .. } = measured;
        let cpu_ns: u64 = usages.iter().map(|(_, usage)| usage.cpu_ns).sum();
        let cores = |cpu_ns: u64| round(cpu_ns as f64 / (args.seconds as f64 * 1e9));
        let ops = load.ops;
        let per_op = |cpu_ns: u64| (ops > 0).then(|| round(cpu_ns as f64 / ops as f64));
        let written = if args.reads < 100 { &load.latencies } else { &load.read_latencies };
        let latency_us = LatencyReport::new(written);
        let reads = (args.reads > 0).then(|| ReadReport {
            ops_per_sec: round(load.reads as f64 / args.seconds as f64),
            latency_us: LatencyReport::new(&load.read_latencies),
        });
        let ops_per_sec = round(ops as f64 / args.seconds as f64);
        let floor = floor.map(|floor| floor.under(args.inflight, &latency_us, ops_per_sec));
        let process = |(name, usage): &NamedUsage| ProcessReport {
            name: name.clone(),
            cpu_ns_per_op: per_op(usage.cpu_ns),
            cpu_ns: usage.cpu_ns,
            rss_start: usage.rss_start,
            rss_end: usage.rss_end,
            rss_peak: usage.rss_peak,
        };
        Self {
            workload: Workload::new(args),
            ops,
            errors: load.tally.errors,
            unknown: load.tally.unknown,
            busy: load.busy,
            unsent: load.unsent,
            ops_per_sec,
            latency_us,
            latency_curve_us: written.curve(),
            reads,
            cpu_ns_per_op: per_op(cpu_ns),
            other_cores_busy: machine_cpu.map(|all| cores(all.saturating_sub(cpu_ns))),
            disk,
            replicas_identical: verification.replicas_identical,
            verification,
            floor,
            stages_ns_per_op: stages(&usages, ops),
            processes: usages.iter().map(process).collect(),
            startup: Startup {
                nodes_seconds: round(startup.nodes_seconds),
                leaders_seconds: round(startup.leaders_seconds),
            },
            leaders,
            machine,
            passed: failures.is_empty(),
            failures,
        }
    }

    fn throughput_row(&self) -> String {
        let payload = self.ops_per_sec * self.workload.payload_bytes as f64 / 1e6;
        let mut row = format!("{} op/s, {payload:.1} MB/s", thousands(self.ops_per_sec as u64));
        if let Some(rate) = self.workload.rate {
            let share = self.ops_per_sec / rate as f64 * 100.0;
            write!(row, ", {share:.1} % of what was due").expect("strings take all");
            if self.unsent > 0 {
                let unsent = thousands(self.unsent);
                write!(row, "\nOVERLOADED: {unsent} operations were due and never found room")
                    .expect("strings take all");
            }
        }
        row
    }

    fn latency_row(&self) -> String {
        let heads = LatencyReport::HEADS.map(|head| format!("{head:>10}")).concat();
        let row = format!("{heads}\n{}", self.latency_us.columns());
        match &self.reads {
            Some(reads) if self.workload.read_percent < 100 => {
                let (writes, row) = (row, reads.latency_us.columns());
                let rate = thousands(reads.ops_per_sec as u64);
                format!("{writes}  writes\n{row}  {rate} reads/s")
            }
            _ => row,
        }
    }

    fn processor_row(&self) -> String {
        let Some(all) = self.cpu_ns_per_op else { return "no operations".into() };
        let busy: u64 = self.processes.iter().map(|process| process.cpu_ns).sum();
        let cores = busy as f64 / (self.workload.seconds as f64 * 1e9);
        let part = |process: &ProcessReport| {
            let ns = process.cpu_ns_per_op.unwrap_or(0.0);
            format!("{} {ns:.0}", process.name)
        };
        let parts: Vec<_> = self.processes.iter().map(part).collect();
        let others = self.other_cores_busy.unwrap_or(0.0);
        format!(
            "{all:.0} ns/op ({})\n{cores:.2} cores busy, {others:.2} more with the kernel's threads \
             and other programs",
            parts.join(", ")
        )
    }

    fn stages_row(&self) -> String {
        let all: f64 = self.stages_ns_per_op.iter().map(|(_, ns)| ns).sum();
        let others = self.cpu_ns_per_op.unwrap_or(0.0) - all;
        let rows = self.stages_ns_per_op.iter().map(|(name, ns)| (&**name, *ns));
        let rows = rows.chain([("others", others)]);
        rows.map(|(name, ns)| format!("{name:<12}{ns:>8.1}")).collect::<Vec<_>>().join("\n")
    }

    fn disk_row(&self) -> String {
        let Some(disk) = &self.disk else { return "the device's counters can't be read".into() };
        let per_flush = self.ops as f64 / disk.flushes.max(1) as f64;
        format!(
            "{} flushes, {} writes, {:.1} MB; {per_flush:.2} op per flush",
            thousands(disk.flushes),
            thousands(disk.writes),
            disk.bytes as f64 / 1e6,
        )
    }

    fn memory_row(&self) -> String {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let nodes = self.processes.iter().filter(|process| process.rss_peak > 0);
        let row = |process: &ProcessReport| {
            format!(
                "{}: {:.0} MB -> {:.0} MB, at most {:.0} MB",
                process.name,
                megabytes(process.rss_start),
                megabytes(process.rss_end),
                megabytes(process.rss_peak),
            )
        };
        nodes.map(row).collect::<Vec<_>>().join("\n")
    }
}

impl RunReport for Report {
    fn passed(&self) -> bool {
        self.passed
    }

    fn table(&self) -> String {
        let mut rows = vec![
            ("throughput", self.throughput_row()),
            ("latency, us", self.latency_row()),
            ("processor", self.processor_row()),
            ("disk", self.disk_row()),
            ("memory", self.memory_row()),
        ];
        if !self.stages_ns_per_op.is_empty() {
            rows.push(("stages, ns/op", self.stages_row()));
        }
        rows.extend(self.floor.as_ref().map(|floor| ("floor", floor_row(floor))));
        rows.push(("verified", self.verification.summary(self.workload.nodes)));
        let mut table = format!("\n{}\n{}\n\n", self.workload.summary(), self.machine.summary());
        for (label, text) in rows {
            let text = text.replace('\n', &format!("\n{:16}", ""));
            writeln!(table, "  {label:<14}{text}").expect("strings take all");
        }
        table + &failed(&self.failures)
    }
}

impl Workload {
    fn new(args: &ClusterArgs) -> Self {
        Self {
            nodes: args.nodes,
            shards: args.shards,
            groups: args.groups,
            payload_bytes: args.payload,
            inflight: args.inflight,
            rate: args.rate,
            read_percent: args.reads,
            read_by: args.read_by,
            seconds: args.seconds,
            warmup_seconds: args.warmup,
            client: args.client,
            sync: args.sync,
            wal_depth: args.wal_depth,
        }
    }

    fn summary(&self) -> String {
        let plural = |count: u64, noun: &str| {
            let ending = if count == 1 { "" } else { "s" };
            format!("{} {noun}{ending}", thousands(count))
        };
        let rate = self.rate.map_or_else(
            || "closed loop".to_owned(),
            |rate| format!("open loop at {} op/s", thousands(rate)),
        );
        let reads = match (self.read_percent, self.read_by) {
            (0, _) => String::new(),
            (percent, ReadBy::Index) => format!(", {percent} % reads (ReadIndex)"),
            (percent, ReadBy::Lease) => format!(", {percent} % reads (leases)"),
        };
        let client = match self.client {
            ClientKind::Embedded => "embedded",
            ClientKind::Remote => "remote",
        };
        format!(
            "{} of {}, {}, {} B payload, {} in flight, {rate}{reads}, {client} clients, {} s",
            plural(self.nodes, "node"),
            plural(self.shards.into(), "shard"),
            plural(self.groups, "group"),
            self.payload_bytes,
            thousands(self.inflight),
            self.seconds,
        )
    }
}

/// Nanoseconds per operation by stage, of all processes together.
fn stages(usages: &[NamedUsage], ops: u64) -> Vec<(String, f64)> {
    let mut sum: Vec<(String, u64)> = Vec::new();
    for (_, usage) in usages {
        for (name, spent) in &usage.stages {
            match sum.iter_mut().find(|(known, _)| known == name) {
                Some((_, all)) => *all += spent,
                None => sum.push((name.clone(), *spent)),
            }
        }
    }
    let per_op = |(name, spent): (String, u64)| (name, round(spent as f64 / ops.max(1) as f64));
    sum.into_iter().map(per_op).collect()
}

fn floor_row(floor: &Floor) -> String {
    let mut row = format!(
        "durable 4 KiB write p50 {:.1} us, p99 {:.1} us\n\
         loopback round trip p50 {:.1} us, p99 {:.1} us (on one core p50 {:.1} us)",
        floor.durable_write_p50_us,
        floor.durable_write_p99_us,
        floor.round_trip_p50_us,
        floor.round_trip_p99_us,
        floor.same_core_round_trip_p50_us,
    );
    if let Some(ratio) = floor.ratio_p50 {
        write!(row, "\nan operation takes {ratio:.2} times their sum").expect("strings take all");
    }
    if let Some(null) = &floor.null_raft {
        let ratio = |ratio: Option<f64>| ratio.unwrap_or_default();
        write!(
            row,
            "\ndurable on two of three without a protocol {} op/s, p50 {:.1} us, p99 {:.1} us;\n\
             the engine has {:.2} times the throughput, {:.2} and {:.2} times the latencies",
            thousands(null.ops_per_sec as u64),
            null.p50_us,
            null.p99_us,
            ratio(null.ratio_ops_per_sec),
            ratio(null.ratio_p50),
            ratio(null.ratio_p99),
        )
        .expect("strings take all");
    }
    row
}

/// Everything that makes a run fail. No fault was injected, so any error is one.
fn failures(measured: &Measured, verification: &Verification) -> Vec<String> {
    let load = &measured.load;
    let mut failures = verification.findings.clone();
    if load.ops == 0 {
        failures.push("no operation was acknowledged in the measured part".into());
    }
    if load.tally.errors + load.tally.unknown > 0 {
        failures.push(format!(
            "{} operations failed and {} have an unknown outcome: {}",
            load.tally.errors,
            load.tally.unknown,
            load.messages.join("; ")
        ));
    }
    let flushes = measured.disk.map(|disk| disk.flushes);
    if measured.flushes_expected && flushes == Some(0) {
        failures.push("the device was never flushed: what was acknowledged was not durable".into());
    }
    failures
}

/// To three decimals, so that JSON has no digits that mean nothing.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The value in the middle, or halfway between the two that are; none of none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get((sorted.len().max(1) - 1) / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
