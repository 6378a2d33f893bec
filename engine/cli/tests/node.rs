//! The tool and a running node.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};

use futures_lite::future::block_on;
use ringleader::{
    Engine, EngineConfig, Entries, GroupConfig, GroupId, Member, NodeId, Replies, StateMachine,
};
use serde_json::Value;

/// More than JSON's readers keep of a number.
const GROUP: GroupId = GroupId(u64::MAX - 6);

struct Null;

impl StateMachine for Null {
    fn apply(&mut self, _: &Entries<'_>, _: &mut Replies) {}
}

fn node(dir: &Path, admin: bool) -> Engine {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let members = vec![Member { node: NodeId(1), address, shards: 1 }];
    let mut config = EngineConfig::new(7, NodeId(1), members, dir.into());
    config.wal.segment_bytes = 4 << 20;
    config.admin = admin;
    config.groups = vec![GroupConfig { group: GROUP, voters: vec![NodeId(1)] }];
    let engine = Engine::start(config, |_| Box::new(Null)).expect("the node starts");
    while block_on(engine.handle().propose(GROUP, b"operation")).is_err() {}
    engine
}

fn ringleader(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringleader"));
    command.args(args).arg("--data-dir").arg(dir).output().expect("it runs")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn every_command_answers_people_and_programs() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = node(dir.path(), true);
    let ask = |command| text(&ringleader(&[command], dir.path()));
    let ask_json = |command| -> Value {
        serde_json::from_str(&text(&ringleader(&[command, "--json"], dir.path()))).expect("JSON")
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
    drop(engine);
    let gone = ringleader(&["status"], dir.path());
    assert_eq!(gone.status.code(), Some(3), "{gone:?}");
}

#[test]
fn the_socket_is_only_there_on_request_and_for_its_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("admin.sock");
    drop(node(dir.path(), false));
    assert!(!socket.exists());
    // As a killed process leaves it.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
    let engine = node(dir.path(), true);
    let mode = socket.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(engine);
    assert!(!socket.exists());
}

#[test]
fn what_makes_no_sense_is_answered_and_harms_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let _engine = node(dir.path(), true);
    let stream = UnixStream::connect(dir.path().join("admin.sock")).expect("it listens");
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
    let idle = |_| UnixStream::connect(dir.path().join("admin.sock")).expect("it listens");
    let held: Vec<UnixStream> = (0..20).map(idle).collect();
    let mut refusal = String::new();
    BufReader::new(held.last().expect("the last")).read_line(&mut refusal).expect("it answers");
    assert!(refusal.contains("busy"), "{refusal}");
}
