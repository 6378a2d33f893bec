//! The binary as a user runs it: real processes, real logs, the result and the exit code.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringleader-bench"));
    command.args(arguments).output().expect("the binary runs")
}

fn run(arguments: &[&str]) -> Value {
    let mut all = vec!["cluster", "--seconds", "1", "--warmup", "0", "--json", "-"];
    all.extend(arguments);
    let output = bench(&all);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    let json: Value = serde_json::from_slice(&output.stdout).expect("only JSON on stdout");
    assert_eq!(json["replicas_identical"], true, "{json:#}");
    assert_eq!((json["errors"].as_u64(), json["unknown"].as_u64()), (Some(0), Some(0)));
    assert!(json["ops"].as_u64().is_some_and(|ops| ops > 0));
    let latency = |name: &str| json["latency_us"][name].as_f64().expect("a latency");
    assert!(0.0 < latency("p50") && latency("p50") <= latency("p99"));
    assert!(latency("p99") <= latency("max"));
    assert!(json["cpu_ns_per_op"].as_f64().is_some_and(|cpu| cpu > 0.0));
    json
}

#[test]
fn an_embedded_run_succeeds_and_reports() {
    let json = run(&["--payload", "16", "--inflight", "64", "--stages"]);
    assert_eq!(json["workload"]["client"], "embedded");
    assert_eq!(json["workload"]["payload_bytes"], 16);
    let stages = json["stages_ns_per_op"].as_array().expect("a list of stages");
    let spent: f64 = stages.iter().filter_map(|stage| stage[1].as_f64()).sum();
    let all = json["cpu_ns_per_op"].as_f64().expect("a number");
    // The two are read a moment apart.
    assert!(spent > 0.0 && spent < 1.1 * all, "{spent} of {all}");
    for (stage, name) in [(4, "replicate"), (5, "apply")] {
        assert_eq!(stages[stage][0], name);
        assert!(stages[stage][1].as_f64() > Some(0.0), "{stages:?}");
    }
}

#[test]
fn a_remote_run_over_many_groups_and_shards_succeeds() {
    let json = run(&["--client", "remote", "--groups", "20", "--shards", "2"]);
    assert_eq!(json["workload"]["client"], "remote");
    let leaders = json["leaders"].as_array().expect("leaders per node");
    assert_eq!(leaders.iter().filter_map(Value::as_u64).sum::<u64>(), 20);
}

#[test]
fn reads_are_measured_beside_writes() {
    for (percent, by) in [("90", "index"), ("50", "lease")] {
        let json = run(&["--reads", percent, "--read-by", by, "--groups", "3"]);
        assert_eq!(json["workload"]["read_by"], by);
        let rate = |place: &Value| place["ops_per_sec"].as_f64().expect("a rate");
        let share = rate(&json["reads"]) / rate(&json) * 100.0;
        let percent: f64 = percent.parse().expect("a number");
        assert!((share - percent).abs() < 5.0, "{share} % of {percent} %");
        assert!(json["reads"]["latency_us"]["p50"].as_f64() > Some(0.0));
    }
    assert!(run(&["--reads", "100"])["reads"]["ops_per_sec"].as_f64() > Some(0.0));
    let refused = bench(&["cluster", "--reads", "10", "--client", "remote"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let json = run(&["--rate", "500", "--inflight", "32"]);
    let ops = json["ops"].as_u64().expect("a count");
    assert!((400..=500).contains(&ops), "{ops} of 500 due");
}

#[test]
fn one_at_a_time_is_compared_with_the_floor() {
    let json = run(&["--inflight", "1"]);
    if json["floor"].is_object() {
        assert!(json["floor"]["ratio_p50"].as_f64().is_some_and(|ratio| ratio > 0.0));
    }
}

#[test]
fn a_wrong_command_line_exits_with_2_and_says_why() {
    let cases: [(&[&str], &str); 4] = [
        (&["--speed", "9"], "--speed"),
        (&["cluster", "--nodes", "0"], "0 is not in 1..=9"),
        (&["cluster", "--payload", "4"], "4 is not in 8..=1048576"),
        (&["cluster", "--rate", "9", "--groups", "9", "--inflight", "3"], "--rate needs"),
    ];
    for (arguments, reason) in cases {
        let output = bench(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_foreign_data_directory_is_refused() {
    let path = std::env::temp_dir().join(format!("rlb-foreign-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a new directory");
    std::fs::write(path.join("notes"), "precious").expect("a file");
    let output = bench(&["cluster", "--data-dir", path.to_str().expect("a plain path")]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("not empty"), "{stderr}");
    assert!(path.join("notes").exists());
    std::fs::remove_dir_all(path).expect("it is ours");
}
