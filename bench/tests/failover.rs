//! `failover` as a user runs it.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_leader_is_killed_and_one_is_halted_and_nothing_is_lost() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringleader-bench"));
    let line = "failover --kills 1 --stops 1 --election-timeout 1000 --rate 500 --json -";
    let output = command.args(line.split(' ')).output().expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    let json: Value = serde_json::from_slice(&output.stdout).expect("only JSON on stdout");
    assert_eq!(json["verification"]["replicas_identical"], true, "{json:#}");
    assert!(json["verification"]["acknowledged"].as_u64().is_some_and(|count| count > 0));
    for kind in ["kills", "stops"] {
        let all = json[kind]["all"].as_array().expect("a list");
        assert!(matches!(&all[..], [ms] if ms.as_f64() > Some(0.0)), "{json:#}");
        assert_eq!(json[kind]["median"][0], all[0]);
    }
    assert!(stderr.contains("was killed") && stderr.contains("was halted"), "{stderr}");
}
