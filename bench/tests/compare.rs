//! `compare` as a user runs it, against peers that only speak the contract of `bench/peers`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// A node that leads if it is the first, and has whatever hash it is told to have.
const NODE: &str = r#"#!/bin/sh
[ "$1 $3 $5" = "--id --addresses --data-dir" ] || exit 9
id=$2 hash=HASH
echo '{"ready": {"name": "fake", "version": "7", "durable": false, "settings": {"x": "y"}}}'
while read -r word; do
    case $word in
    roles) if [ "$id" = 1 ]; then leads=1; else leads=; fi
        echo "{\"roles\": {\"leads\": [$leads], \"known\": 1}}" ;;
    end) if [ "$id" = 1 ]; then ops=50; else ops=0; fi
        echo "{\"measured\": {\"seconds\": 1.0, \"ops\": $ops, \"errors\": 0, \"unknown\": 0, \"busy\": 0," \
            "\"histogram\": [[2000000, $ops]], \"max_ns\": 2500000, \"proposed\": $ops, \"acknowledged\": $ops}}" ;;
    applied) echo "{\"applied\": {\"count\": 50, \"hash\": \"$hash\"}}" ;;
    esac
done
"#;

struct Peers(PathBuf);

impl Peers {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("peers-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary directory is there");
        Self(path)
    }

    fn add(&self, name: &str, build: &str, node: &str) {
        let folder = self.0.join(name);
        fs::create_dir_all(&folder).expect("a folder");
        for (file, text) in [("build", build), ("node", node)] {
            let path = folder.join(file);
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
    }

    fn compare(&self, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringleader-bench"));
        command.args(["compare", "--rounds", "1", "--seconds", "1", "--warmup", "0"]);
        command.args(["--inflight", "8", "--json", "-", "--peers-dir"]).arg(&self.0).args(more);
        command.output().expect("the binary runs")
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it is ours");
    }
}

fn points<'a>(json: &'a Value, engine: &str) -> Vec<&'a Value> {
    let points = json["points"].as_array().expect("a list of points");
    points.iter().filter(|point| point["engine"] == engine).collect()
}

#[test]
fn a_peer_is_measured_beside_this_engine_and_one_that_cannot_be_built_is_named() {
    let peers = Peers::new("plain");
    let node = NODE.replace("HASH", "12");
    peers.add("fake", "#!/bin/sh\n", &node);
    peers.add("toolless", "#!/bin/sh\necho there is no cobc >&2\nexit 3\n", &node);
    let output = peers.compare(&[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    assert!(stderr.contains("toolless was left out: there is no cobc"), "{stderr}");
    assert!(stderr.contains("fake (!)"), "what is not durable is marked: {stderr}");
    let json: Value = serde_json::from_slice(&output.stdout).expect("only JSON on stdout");
    let [fake] = points(&json, "fake")[..] else { panic!("{json:#}") };
    let run = &fake["runs"][0];
    assert_eq!(run["ops_per_sec"].as_f64(), Some(50.0));
    assert!((run["latency_us"]["p50"].as_f64().expect("a number") - 2_000.0).abs() < 3.0, "{run}");
    assert_eq!(run["latency_us"]["max"].as_f64(), Some(2_500.0));
    let [own] = points(&json, "ringleader")[..] else { panic!("{json:#}") };
    assert!(own["runs"][0]["ops"].as_u64() > Some(0), "{own:#}");
}

#[test]
fn nodes_that_end_and_nodes_that_say_something_else_fail_the_comparison() {
    let peers = Peers::new("broken");
    peers.add("ends", "#!/bin/sh\n", "#!/bin/sh\necho no disk >&2\nexit 1\n");
    let garbled = NODE.replace("max_ns", "what");
    peers.add("garbles", "#!/bin/sh\n", &garbled);
    let output = peers.compare(&[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let ended = "ended: exit status: 1; the last it wrote: no disk";
    assert!(stderr.contains("ends, 16 B x 8: FAILED: node ") && stderr.contains(ended), "{stderr}");
    assert!(stderr.contains("garbles, 16 B x 8: FAILED: node "), "{stderr}");
}

#[test]
fn a_peer_that_is_not_there_is_refused_with_those_that_are() {
    let peers = Peers::new("absent");
    peers.add("fake", "#!/bin/sh\n", NODE);
    let output = peers.compare(&["--peers", "fak"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("there is no peer \"fak\"") && stderr.contains("there are: fake"));
}
