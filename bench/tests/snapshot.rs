//! `snapshot` as a user runs it.

use std::process::Command;

use serde_json::Value;

#[test]
fn snapshots_are_taken_and_a_follower_catches_up_both_ways() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringleader-bench"));
    let line = "snapshot --state 4 --behind 8 --rounds 2 --rate 500 --json -";
    let output = command.args(line.split(' ')).output().expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    let json: Value = serde_json::from_slice(&output.stdout).expect("only JSON on stdout");
    assert_eq!(json["verification"]["replicas_identical"], true, "{json:#}");
    assert_eq!(json["snapshots_seconds"].as_array().map(Vec::len), Some(2));
    for way in ["catch_up_by_log", "catch_up_by_snapshot"] {
        assert!(json[way]["mb_per_second"].as_f64() > Some(0.0), "{json:#}");
    }
    let phases = json["latency_us"].as_array().expect("one for each phase");
    assert_eq!(phases.len(), 5);
    assert!(phases[0][1]["p50"].as_f64() > Some(0.0), "{json:#}");
    assert!(stderr.contains("catching up by snapshot"), "{stderr}");
}
