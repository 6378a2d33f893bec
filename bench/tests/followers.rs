//! `followers` as a user runs it.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_follower_is_disturbed_in_every_way_and_comes_back() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringleader-bench"));
    let line = "followers --seconds 1 --log 8 --rate 500 --json -";
    let output = command.args(line.split(' ')).output().expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    let json: Value = serde_json::from_slice(&output.stdout).expect("only JSON on stdout");
    assert_eq!(json["verification"]["replicas_identical"], true, "{json:#}");
    let phases = json["latency_us"].as_array().expect("one for each phase");
    assert_eq!(phases.len(), 6);
    // Two of three serve.
    for phase in [0, 1, 3] {
        assert!(phases[phase][1]["p50"].as_f64() > Some(0.0), "{json:#}");
    }
    let restart = &json["restart"];
    assert!(restart["serves_seconds"].as_f64() > Some(0.0), "{json:#}");
    assert!(restart["serves_seconds"].as_f64() <= restart["caught_up_seconds"].as_f64());
    assert!(stderr.contains("started again"), "{stderr}");
}
