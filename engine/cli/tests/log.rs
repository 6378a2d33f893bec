//! `ringleader log` on the logs of real nodes: what is there is shown, damage is named, and nothing
//! is written.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use futures_lite::future::block_on;
use ringleader::{
    Engine, EngineConfig, Entries, GroupConfig, GroupId, Member, NodeId, Replies, StateMachine,
};
use serde_json::Value;

const GROUPS: u64 = 3;
const OPERATIONS: u64 = 20;

struct Null;

impl StateMachine for Null {
    fn apply(&mut self, _: &Entries<'_>, _: &mut Replies) {}
}

fn node(dir: &Path) -> Engine {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let members = vec![Member { node: NodeId(1), address, shards: 1 }];
    let mut config = EngineConfig::new(7, NodeId(1), members, dir.into());
    config.wal.segment_bytes = 4 << 20;
    let group = |group| GroupConfig { group: GroupId(group), voters: vec![NodeId(1)] };
    config.groups = (1..=GROUPS).map(group).collect();
    Engine::start(config, |_| Box::new(Null)).expect("the node starts")
}

/// A data directory with `OPERATIONS` operations in each of `GROUPS` groups.
fn written(dir: &Path) {
    let engine = node(dir);
    let handle = engine.handle();
    for group in (1..=GROUPS).map(GroupId) {
        let mut done = 0;
        while done < OPERATIONS {
            done += u64::from(block_on(handle.propose(group, b"operation")).is_ok());
        }
    }
    engine.shutdown();
}

fn ringleader(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringleader"));
    command.args(args).arg(dir).output().expect("it runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).expect("JSON")
}

/// The segment file that holds the highest batch, and its batches.
fn newest(found: &Value) -> (Value, Vec<Value>) {
    let files = found["shards"][0]["files"].as_array().expect("files");
    let batches = |file: &Value| file["batch_list"].as_array().expect("batches").clone();
    let last = |file: &&Value| batches(file).last().and_then(|batch| batch["seq"].as_u64());
    let file = files.iter().max_by_key(last).expect("a file");
    (file.clone(), batches(file))
}

/// Every file's content and the time of its last change.
fn state(dir: &Path, found: &mut BTreeMap<PathBuf, (Vec<u8>, SystemTime)>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            state(&path, found)?;
        } else {
            let changed = path.metadata()?.modified()?;
            found.insert(path.clone(), (fs::read(path)?, changed));
        }
    }
    Ok(())
}

#[test]
fn a_sound_log_is_shown_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path());
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    state(dir.path(), &mut before).expect("readable");

    let shown = ringleader(&["log", "inspect", "--batches"], dir.path());
    assert_eq!(code(&shown), 0, "{shown:?}");
    let text = stdout(&shown);
    for part in ["shard-0: sound", "node 1", "00000001.wal", "group 2: entries", "voted for node 1"]
    {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert_eq!(code(&ringleader(&["log", "verify"], dir.path())), 0);
    let found = json(&ringleader(&["log", "inspect", "--json"], dir.path()));
    let shard = &found["shards"][0];
    let groups = shard["groups"].as_array().expect("groups");
    assert_eq!(groups.len() as u64, GROUPS);
    for group in groups {
        assert!(group["last"].as_u64() > Some(OPERATIONS), "and the empty entry of the first term");
        assert_eq!(group["hard_state"]["voted_for"], 1);
    }
    let alone = json(&ringleader(&["--json", "log", "inspect"], &dir.path().join("shard-0")));
    assert_eq!(alone["shards"][0]["groups"], shard["groups"]);

    state(dir.path(), &mut after).expect("readable");
    assert!(before == after, "looking at it changed something");
    node(dir.path()).shutdown();
}

#[test]
fn damage_is_named_by_file_offset_and_batch() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path());
    let (file, batches) =
        newest(&json(&ringleader(&["log", "inspect", "--batches", "--json"], dir.path())));
    let victim = &batches[batches.len() / 2];
    let offset = victim["offset"].as_u64().expect("an offset");
    let path = dir.path().join("shard-0").join(file["file"].as_str().expect("a name"));
    let segment = fs::File::options().read(true).write(true).open(&path).expect("opens");
    let mut byte = [0];
    segment.read_exact_at(&mut byte, offset + 70).expect("reads");
    segment.write_all_at(&[byte[0] ^ 1], offset + 70).expect("writes");

    let verdict = ringleader(&["log", "verify", "--json"], dir.path());
    assert_eq!(code(&verdict), 1, "{verdict:?}");
    let damage = &json(&verdict)["shards"][0]["damage"];
    assert_eq!(damage["kind"], "corrupt");
    assert_eq!(
        (&damage["file"], &damage["offset"], &damage["batch"]),
        (&file["file"], &victim["offset"], &victim["seq"])
    );
    let told = ringleader(&["log", "verify"], dir.path());
    assert!(stdout(&told).contains(&format!("at offset {offset}")), "{told:?}");
    // What is left of it is still shown.
    assert_eq!(code(&ringleader(&["log", "inspect"], dir.path())), 0);
}

#[test]
fn a_torn_tail_is_no_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path());
    let (file, batches) =
        newest(&json(&ringleader(&["log", "inspect", "--batches", "--json"], dir.path())));
    let batch = batches.last().expect("a batch");
    let path = dir.path().join("shard-0").join(file["file"].as_str().expect("a name"));
    let segment = fs::File::options().write(true).open(&path).expect("opens");
    let offset = batch["offset"].as_u64().expect("an offset");
    segment.write_all_at(&[0xff; 64], offset).expect("writes");
    let verdict = json(&ringleader(&["log", "verify", "--json"], dir.path()));
    assert_eq!(verdict["shards"][0]["sound"], true, "{verdict}");
    let durable = batch["seq"].as_u64().expect("a number") - 1;
    assert_eq!(verdict["shards"][0]["durable"], durable);
}

#[test]
fn what_cannot_be_looked_at_is_refused_with_a_reason() {
    let refused = |dir: &Path, why: &str| {
        let output = ringleader(&["log", "verify"], dir);
        assert_eq!(code(&output), 3, "{output:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(why) && error.contains(&dir.display().to_string()), "{error}");
    };
    let dir = tempfile::tempdir().expect("a directory");
    refused(&dir.path().join("nowhere"), "No such file");
    refused(dir.path(), "no log");
    let engine = node(dir.path());
    refused(dir.path(), "a running node");
    engine.shutdown();
    assert_eq!(code(&ringleader(&["log", "verify"], dir.path())), 0);
    let usage = Command::new(env!("CARGO_BIN_EXE_ringleader")).arg("log").output().expect("runs");
    assert_eq!(code(&usage), 2);
}
