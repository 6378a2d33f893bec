//! The tool and a running node.

mod cluster;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use cluster::{NOBODY, alone, code, data_dir, run, text};
use ringleader::GroupId;
use serde_json::Value;

/// More than JSON's readers keep of a number.
const GROUP: GroupId = GroupId(u64::MAX - 6);

/// Not a test by itself: what the child processes run.
#[test]
fn node_process() {
    cluster::serve();
}

#[test]
fn every_command_answers_people_and_programs() {
    let dir = tempfile::tempdir().expect("a directory");
    let (node, data) = (alone(dir.path(), GROUP, true), data_dir(dir.path(), 1));
    let ask = |command| text(&run(&data, &[command]));
    let ask_json = |command| -> Value {
        serde_json::from_str(&text(&run(&data, &[command, "--json"]))).expect("JSON")
    };
    let group = GROUP.to_string();

    assert!(ask("status").contains("1 groups: leads 1, 0 without a leader"));
    assert_eq!(ask_json("status")["shards"][0]["health"]["state"], "running");
    let groups = ask("groups");
    assert!(
        groups.lines().any(|line| line.contains(&group) && line.contains("leader")),
        "{groups}"
    );
    assert_eq!(ask_json("groups")[0]["group"], group);
    assert!(ask("peers").contains("connections"));
    assert_eq!(ask_json("peers")["groups"], Value::Array(Vec::new()), "it is alone");
    assert!(ask("metrics").contains("shard 0 callers applied 1\n"));
    assert_eq!(ask_json("metrics")[0]["callers"]["applied"], 1);
    assert!(ask("dump").contains("log write") && ask("dump").contains(&group));
    assert_eq!(ask_json("dump")["report"]["node"], 1);
    node.stop();
    let gone = run(&data, &["status"]);
    assert_eq!(code(&gone), NOBODY, "{gone:?}");
}

#[test]
fn the_socket_is_only_there_on_request_and_for_its_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = data_dir(dir.path(), 1).join("admin.sock");
    let node = alone(dir.path(), GROUP, false);
    assert!(!socket.exists());
    node.stop();
    alone(dir.path(), GROUP, true).kill();
    assert!(socket.exists(), "a killed process leaves it");
    let node = alone(dir.path(), GROUP, true);
    let mode = socket.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    node.stop();
    assert!(!socket.exists());
}

#[test]
fn what_makes_no_sense_is_answered_and_harms_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let _node = alone(dir.path(), GROUP, true);
    let socket = data_dir(dir.path(), 1).join("admin.sock");
    let stream = UnixStream::connect(&socket).expect("it listens");
    let mut answers = BufReader::new(&stream);
    let mut ask = |line: &[u8]| -> Value {
        (&stream).write_all(line).expect("it reads");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("it answers");
        serde_json::from_str(&answer).expect("JSON")
    };
    assert_eq!(ask(b"what?\n")["error"]["code"], "malformed");
    assert_eq!(ask(b"{\"version\":2,\"command\":\"status\"}\n")["error"]["code"], "version");
    let unknown = ask(b"{\"version\":1,\"command\":\"explode\"}\n");
    assert_eq!(unknown["error"]["code"], "unknown-command");
    assert_eq!(ask(b"{\"version\":1,\"command\":\"status\"}\n")["ok"]["node"], 1);
    assert_eq!(ask(&vec![b'x'; 64 << 10])["error"]["code"], "malformed");
    // Callers that say nothing take seats, and the others are told.
    let idle = |_| UnixStream::connect(&socket).expect("it listens");
    let held: Vec<UnixStream> = (0..20).map(idle).collect();
    let mut refusal = String::new();
    BufReader::new(held.last().expect("the last")).read_line(&mut refusal).expect("it answers");
    assert!(refusal.contains("busy"), "{refusal}");
}
