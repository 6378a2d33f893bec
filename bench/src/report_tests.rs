//! The JSON object's shape, and what makes a run fail.

use clap::Parser;
use serde_json::Value;

use super::*;
use crate::args::Cli;
use crate::control::Usage;
use crate::floor::NullRaft;

fn measured(ops: u64, flushes: u64) -> Measured {
    let mut load = LoadReport::new(1);
    load.ops = ops;
    load.latencies.record(300_000, ops);
    let stages = vec![("apply".to_owned(), 500 * ops)];
    let usage = Usage { cpu_ns: 2_000 * ops, rss_start: 1, rss_end: 2, rss_peak: 3, stages };
    let disk = Some(Counters { flushes, writes: 30, bytes: 4096 });
    let usages = vec![("node 1".into(), usage.clone()), ("node 2".into(), usage)];
    Measured {
        startup: Startup::default(),
        load,
        usages,
        disk,
        machine_cpu: Some(15_000_000_000),
        leaders: vec![1, 0],
        flushes_expected: true,
    }
}

fn report(arguments: &[&str], measured: Measured) -> Report {
    let arguments = ["ringleader-bench"].iter().chain(arguments);
    let args = Cli::parse_from(arguments).cluster;
    let verification = Verification { replicas_identical: true, ..Verification::default() };
    let floor = Floor {
        durable_write_p50_us: 150.0,
        durable_write_p99_us: 300.0,
        round_trip_p50_us: 50.0,
        round_trip_p99_us: 90.0,
        same_core_round_trip_p50_us: 15.0,
        ratio_p50: None,
        null_raft: Some(NullRaft {
            block_bytes: 64,
            depth: 1,
            ops_per_sec: 200.0,
            p50_us: 240.0,
            p99_us: 500.0,
            ratio_p50: None,
            ratio_p99: None,
            ratio_ops_per_sec: None,
        }),
    };
    let machine = Machine::describe(std::path::Path::new("/"));
    Report::new(&args, measured, verification, Some(floor), machine)
}

#[test]
fn the_json_object_has_the_promised_fields() {
    let json = report(&["--inflight", "1"], measured(1_000, 10)).json();
    let json: Value = serde_json::from_str(&json).expect("it is JSON");
    let workload = ["nodes", "shards", "groups", "payload_bytes", "inflight", "seconds"];
    for field in workload {
        assert!(json["workload"][field].is_u64(), "workload.{field}");
    }
    assert_eq!(json["workload"]["client"], "embedded");
    assert_eq!(json["workload"]["rate"], Value::Null);
    for field in ["p50", "p90", "p99", "p99_9", "p99_99", "max", "mean"] {
        let value = json["latency_us"][field].as_f64().expect(field);
        assert!((value - 300.0).abs() < 1.0, "latency_us.{field} is {value}");
    }
    for field in ["flushes", "writes", "bytes"] {
        assert!(json["disk"][field].is_u64(), "disk.{field}");
    }
    let counts = ["ops", "errors", "unknown"].map(|field| json[field].as_u64());
    assert_eq!(counts, [Some(1_000), Some(0), Some(0)]);
    assert_eq!(json["ops_per_sec"].as_f64(), Some(100.0));
    assert_eq!(json["cpu_ns_per_op"].as_f64(), Some(4_000.0));
    assert_eq!(json["stages_ns_per_op"][0][1].as_f64(), Some(1_000.0));
    assert_eq!(json["other_cores_busy"].as_f64(), Some(1.5));
    assert_eq!(json["replicas_identical"], true);
    assert!(json["machine"]["cores"].is_u64());
    assert_eq!(json["floor"]["ratio_p50"].as_f64(), Some(1.5));
    let null = &json["floor"]["null_raft"];
    assert_eq!(null["ratio_p50"].as_f64(), Some(1.25));
    assert_eq!(null["ratio_p99"].as_f64(), Some(0.6));
    assert_eq!(null["ratio_ops_per_sec"].as_f64(), Some(0.5));
    assert_eq!(json["passed"], true);
}

#[test]
fn the_ratio_to_the_floor_is_only_for_one_at_a_time() {
    assert_eq!(report(&[], measured(1, 1)).floor.and_then(|floor| floor.ratio_p50), None);
}

#[test]
fn a_durable_run_without_flushes_fails() {
    assert!(report(&[], measured(10, 1)).passed());
    let unflushed = report(&[], measured(10, 0));
    assert!(!unflushed.passed());
    assert!(unflushed.table().contains("FAILED: the device was never flushed"));
    let not_needed = Measured { flushes_expected: false, ..measured(10, 0) };
    assert!(report(&[], not_needed).passed());
}

#[test]
fn errors_and_silence_fail() {
    let mut failed = measured(10, 1);
    failed.load.tally.unknown = 1;
    failed.load.note(|| "leadership was lost".into());
    assert!(report(&[], failed).failures[0].contains("leadership was lost"));
    let silent = report(&[], measured(0, 1));
    assert!(!silent.passed());
    assert_eq!(silent.cpu_ns_per_op, None);
}

#[test]
fn numbers_are_grouped() {
    let numbers = [0, 999, 1_000, 12_345, 1_234_567].map(thousands);
    assert_eq!(numbers, ["0", "999", "1,000", "12,345", "1,234,567"]);
}
