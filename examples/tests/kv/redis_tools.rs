//! Debian's redis-tools. A machine without them fails these tests, and says what to install.

use std::process::{Output, Stdio};

use crate::children::child;
use crate::children::wait_for;
use crate::nodes::Nodes;
use crate::resp::Client;

fn run(program: &str, args: &[&str]) -> String {
    let output = child(program).args(args).stderr(Stdio::piped()).output();
    let output: Output = output.unwrap_or_else(|error| {
        panic!("{program} can't be run ({error}): apt-get install redis-tools")
    });
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}{errors}");
    text
}

#[test]
fn redis_cli_follows_redirections() {
    let nodes = Nodes::three();
    let port = nodes.cluster(0).port().to_string();
    let cli = |args: &[&str]| run("redis-cli", &[&["-c", "-p", &port], args].concat());
    for number in 0..20 {
        let key = format!("key-{number}");
        assert_eq!(cli(&["SET", &key, "value"]), "OK\n");
        assert_eq!(cli(&["GET", &key]), "value\n");
        assert_eq!(cli(&["-3", "GET", &key]), "value\n");
    }
    let plain = nodes.plain(1).port().to_string();
    let keys = run("redis-cli", &["-p", &plain, "--scan", "--pattern", "key-*"]);
    assert_eq!(keys.lines().count(), 20);
    assert!(run("redis-cli", &["-p", &plain, "INFO"]).contains("redis_version:"));
}

/// Whether a line of redis-benchmark says that something was done.
fn is_rate(line: &str) -> bool {
    let rate = |words: &str| words.trim().parse::<f64>().is_ok_and(|rate| rate > 0.0);
    let before = line.split(" requests per second").next().unwrap_or_default();
    line.contains("requests per second") && before.rsplit(' ').next().is_some_and(rate)
}

#[test]
fn redis_benchmark_runs_against_the_cluster_and_plainly() {
    let nodes = Nodes::three();
    // It wants a cluster in which more than one node leads.
    let mut operator = Client::to(nodes.plain(0));
    wait_for("an even spread", || {
        operator.say("KV.CLUSTER BALANCE");
        let nodes = operator.say("KV.CLUSTER NODES");
        nodes.list().iter().all(|node| node.list()[3].int() > 0).then_some(())
    });
    let (cluster, plain) = (nodes.cluster(0).port().to_string(), nodes.plain(2).port().to_string());
    let common = ["-q", "-n", "3000", "-r", "1000", "-c", "10", "-P", "16"];
    let cluster = ["--cluster", "-p", &cluster, "-t", "set,get,incr"];
    let text = run("redis-benchmark", &[&cluster[..], &common].concat());
    assert_eq!(text.lines().filter(|line| is_rate(line)).count(), 3, "{text}");
    let plain = ["-p", &plain, "-t", "ping,set,get,incr,mset"];
    let text = run("redis-benchmark", &[&plain[..], &common].concat());
    assert_eq!(text.lines().filter(|line| is_rate(line)).count(), 6, "{text}");
}
