//! `idle` as a user runs it.

use std::process::Command;

use serde_json::Value;

#[test]
fn groups_find_rest_and_one_that_is_busy_is_measured_beside_one_alone() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringleader-bench"));
    let line = "idle --groups 20 --seconds 2 --rounds 1 --inflight 64 --json -";
    let output = command.args(line.split(' ')).output().expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    let json: Value = serde_json::from_slice(&output.stdout).expect("only JSON on stdout");
    assert_eq!((json["nodes"].as_u64(), json["groups"].as_u64()), (Some(3), Some(20)));
    for cluster in ["idle", "idle_alone"] {
        let nodes = json[cluster].as_array().expect("a list of nodes");
        assert_eq!(nodes.len(), 3, "{json:#}");
        for node in nodes {
            assert!(node["rss"].as_u64() > Some(0), "{json:#}");
            // Twenty groups that exchange heartbeats send ten times as much.
            let sent = node["bytes_sent_per_second"].as_f64().expect("a rate");
            assert!(sent > 0.0 && sent < 4000.0, "{json:#}");
        }
    }
    for busy in ["busy_among_many", "busy_alone"] {
        let rounds = json[busy].as_array().expect("a list of rounds");
        assert_eq!(rounds.len(), 1, "{json:#}");
        assert!(rounds[0]["ops_per_second"].as_f64() > Some(0.0), "{json:#}");
    }
    assert!(json["throughput_ratio"].as_f64() > Some(0.0), "{json:#}");
}
