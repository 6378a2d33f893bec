//! `ringleader log verify` on the snapshots of real nodes: it says what a start says, and what to do.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bytes::Bytes;
use futures_lite::future::block_on;
use ringleader::{
    Engine, EngineConfig, Entries, GroupConfig, GroupId, MachineError, Member, NodeId, Replies,
    SnapshotSource, StartError, StateMachine,
};
use serde_json::{Value, json};

const OPERATIONS: u64 = 20;

/// Counts operations.
#[derive(Default)]
struct Count(u64);

impl StateMachine for Count {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        self.0 += entries.iter().count() as u64;
    }

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        Some(Box::new(View(Some(self.0))))
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        let bytes = chunk.try_into().map_err(|_| MachineError("not a number".into()))?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
}

struct View(Option<u64>);

impl SnapshotSource for View {
    fn next_chunk(&mut self, _: usize) -> Result<Option<Bytes>, MachineError> {
        Ok(self.0.take().map(|count| Bytes::copy_from_slice(&count.to_le_bytes())))
    }
}

/// A node that keeps so many entries behind a snapshot, with the groups 1 and 2.
fn node(dir: &Path, keep_entries: u64) -> Result<Engine, StartError> {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let members = vec![Member { node: NodeId(1), address, shards: 1 }];
    let mut config = EngineConfig::new(7, NodeId(1), members, dir.into());
    config.wal.segment_bytes = 4 << 20;
    config.snapshots.keep_entries = keep_entries;
    let group = |group| GroupConfig { group: GroupId(group), voters: vec![NodeId(1)] };
    config.groups = (1..=2).map(group).collect();
    Engine::start(config, |_| Box::new(Count::default()))
}

/// A data directory with operations in both groups, and a snapshot of the first amid them; the
/// snapshot's file.
fn written(dir: &Path, keep_entries: u64) -> PathBuf {
    let engine = node(dir, keep_entries).expect("the node starts");
    let handle = engine.handle();
    for round in 0..2 {
        for group in (1..=2).map(GroupId) {
            let mut done = 0;
            while done < OPERATIONS {
                done += u64::from(block_on(handle.propose(group, b"operation")).is_ok());
            }
        }
        if round == 0 {
            block_on(handle.snapshot(GroupId(1))).expect("a snapshot");
        }
    }
    engine.shutdown();
    let files = fs::read_dir(dir.join("shard-0")).expect("readable");
    let mut files = files.map(|entry| entry.expect("readable").path());
    files.find(|path| path.extension().is_some_and(|name| name == "snap")).expect("a snapshot")
}

/// Changes a bit of the snapshot's second record.
fn damage(file: &Path) {
    let file = fs::File::options().read(true).write(true).open(file).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096 + 64).expect("reads");
    file.write_all_at(&[byte[0] ^ 1], 4096 + 64).expect("writes");
}

fn ringleader(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringleader")).args(args).arg(dir).output().expect("it runs")
}

fn text(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn verdict(dir: &Path, code: i32) -> Value {
    let output = ringleader(&["log", "verify", "--json"], dir);
    let document: Value = serde_json::from_str(&text(&output, code)).expect("JSON");
    document["shards"][0].clone()
}

fn name(file: &Path) -> &str {
    file.file_name().and_then(|name| name.to_str()).expect("plain")
}

#[test]
fn a_whole_snapshot_is_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = written(dir.path(), 0);
    let found = verdict(dir.path(), 0);
    assert_eq!(found["sound"], true);
    let snapshots = found["snapshots"].as_array().expect("snapshots");
    assert_eq!((snapshots.len(), &snapshots[0]["whole"]), (1, &json!(true)));
    assert_eq!(snapshots[0]["file"], name(&file));
    assert_eq!(snapshots[0]["bytes"], file.metadata().expect("there").len());
    let said = text(&ringleader(&["log", "verify"], dir.path()), 0);
    assert!(said.contains("2 groups, 1 snapshots"), "{said}");
    let said = text(&ringleader(&["log", "inspect"], dir.path()), 0);
    assert!(said.contains(name(&file)) && said.contains("whole"), "{said}");
}

#[test]
fn a_log_that_begins_at_a_damaged_snapshot_is_not_sound() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = written(dir.path(), 0);
    damage(&file);
    let found = verdict(dir.path(), 1);
    let damage = &found["damage"];
    assert_eq!((&found["sound"], &damage["kind"]), (&json!(false), &json!("snapshot")));
    assert_eq!((&damage["file"], &damage["offset"]), (&json!(name(&file)), &json!(4096)));
    let said = text(&ringleader(&["log", "verify"], dir.path()), 1);
    let place = format!("{} is damaged at offset 4096", name(&file));
    assert!(said.contains(&place) && said.contains(StartError::HEAL), "{said}");
    // It is what a start says.
    let refused = node(dir.path(), 0).err().expect("it must not start").to_string();
    assert!(refused.contains(damage["text"].as_str().expect("text")), "{refused}");
    assert!(refused.contains(StartError::HEAL), "{refused}");
    // The group can't go on from here; the other can.
    let said = text(&ringleader(&["survey"], dir.path()), 1);
    assert!(said.contains("NOT READ") && said.contains(&place), "{said}");
    let survey = ringleader(&["survey", "--json"], dir.path());
    let survey: Value = serde_json::from_str(&text(&survey, 1)).expect("JSON");
    let groups = survey["groups"].as_array().expect("groups");
    assert_eq!((groups.len(), &groups[0]["group"]), (1, &json!("2")));
}

#[test]
fn a_log_that_begins_where_no_snapshot_reaches_is_not_sound() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::remove_file(written(dir.path(), 0)).expect("it was there");
    let found = verdict(dir.path(), 1);
    assert_eq!(found["damage"]["kind"], "missing-snapshot");
    assert!(found["damage"]["base"].as_u64() >= Some(OPERATIONS), "{found}");
    let said = text(&ringleader(&["log", "verify"], dir.path()), 1);
    assert!(said.contains(StartError::HEAL) && said.contains("--own-state"), "{said}");
    text(&ringleader(&["log", "verify", "--own-state"], dir.path()), 0);
    let refused = node(dir.path(), 0).err().expect("it must not start").to_string();
    assert!(refused.contains(found["damage"]["text"].as_str().expect("text")), "{refused}");
}

#[test]
fn a_damaged_snapshot_that_the_log_makes_up_for_is_no_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = written(dir.path(), 1000);
    damage(&file);
    let found = verdict(dir.path(), 0);
    assert_eq!((&found["sound"], &found["snapshots"][0]["whole"]), (&json!(true), &json!(false)));
    let said = text(&ringleader(&["log", "verify"], dir.path()), 0);
    assert!(said.contains("is damaged at offset 4096") && said.contains("does without"), "{said}");
    let engine = node(dir.path(), 1000).expect("it starts");
    let handle = engine.handle();
    let count = block_on(handle.inspect(GroupId(1), |count: &mut Count| count.0));
    assert!(count.is_ok());
    engine.shutdown();
}
