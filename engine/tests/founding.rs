//! Groups that are founded from a state: on real disks, and with real nodes afterwards.

mod nodes;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use futures_lite::future::block_on;
use nodes::{GROUP, addresses, eventually, leader, propose};
use ringleader::{
    Configuration, Engine, EngineConfig, Entries, FoundError, GroupId, MachineError, NodeId,
    Replies, SnapshotSource, StateMachine, found_group,
};

/// A number to which each operation adds one.
#[derive(Default)]
struct Tally {
    count: u64,
    restored: Vec<u8>,
}

impl StateMachine for Tally {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        self.count += entries.iter().count() as u64;
    }

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        Some(Box::new(State::of(self.count)))
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        self.restored.extend_from_slice(chunk);
        Ok(())
    }

    fn restored(&mut self) -> Result<(), MachineError> {
        let bytes = std::mem::take(&mut self.restored);
        self.count = bytes.try_into().map_or(0, u64::from_le_bytes);
        Ok(())
    }
}

/// Chunks, the last first.
struct State(Vec<Result<Bytes, MachineError>>);

impl State {
    /// A byte each.
    fn of(count: u64) -> Self {
        let bytes = count.to_le_bytes();
        Self(bytes.iter().rev().map(|byte| Ok(Bytes::copy_from_slice(&[*byte]))).collect())
    }
}

impl SnapshotSource for State {
    fn next_chunk(&mut self, _: usize) -> Result<Option<Bytes>, MachineError> {
        self.0.pop().transpose()
    }
}

fn members(nodes: &[u64]) -> Configuration {
    Configuration::new(&nodes.iter().copied().map(NodeId).collect::<Vec<_>>(), &[])
}

/// A node on which the group has no voters.
fn config(addresses: &[SocketAddr], node: u64, dir: &Path) -> EngineConfig {
    let mut config = nodes::config(addresses, node, 1, dir);
    config.groups[0].voters.clear();
    config
}

fn start(config: EngineConfig) -> Engine {
    Engine::start(config, |_| Box::new(Tally::default())).expect("it starts")
}

fn count(engine: &Engine) -> u64 {
    let handle = engine.handle();
    block_on(handle.inspect(GROUP, |tally: &mut Tally| tally.count)).expect("the group is here")
}

#[test]
fn a_group_begins_with_a_state_that_was_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let config = |node| config(&addresses, node, dir.path());
    // A crash at an earlier attempt left this.
    fs::create_dir_all(dir.path().join("node-1/shard-0")).expect("it can be made");
    found_group(&config(1), GROUP, &members(&[1, 2, 3]), Box::new(State::of(1000))).expect("done");
    let mut engines: Vec<Engine> = (1..=3).map(|node| start(config(node))).collect();
    leader(&engines, GROUP);
    propose(&engines.iter().collect::<Vec<_>>());
    for engine in &engines {
        eventually("all have it", || (count(engine) == 1001).then_some(()));
    }
    engines.remove(0).shutdown();
    engines.insert(0, start(config(1)));
    propose(&engines.iter().collect::<Vec<_>>());
    for engine in &engines {
        eventually("all have it after a restart", || (count(engine) == 1002).then_some(()));
    }
}

#[test]
fn one_node_begins_alone_with_nothing_and_others_are_added() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(2);
    found_group(
        &config(&addresses, 1, dir.path()),
        GROUP,
        &members(&[1]),
        Box::new(State(Vec::new())),
    )
    .expect("done");
    let engines = [1, 2].map(|node| start(config(&addresses, node, dir.path())));
    let first = leader(&engines, GROUP);
    propose(&[&engines[0]]);
    block_on(first.change_members(GROUP, ringleader::MembershipChange::default().voter(NodeId(2))))
        .expect("it is added");
    eventually("the other has it", || (count(&engines[1]) == 1).then_some(()));
}

#[test]
fn where_there_is_something_nothing_is_founded() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(1);
    let config = config(&addresses, 1, dir.path());
    let found = |group, nodes: &[u64], state| found_group(&config, group, &members(nodes), state);
    let state = || Box::new(State::of(7));
    assert!(matches!(found(GroupId(2), &[1], state()), Err(FoundError::UnknownGroup(_))));
    assert!(matches!(found(GROUP, &[2], state()), Err(FoundError::Impossible(_))));
    assert!(matches!(found(GROUP, &[1, 2], state()), Err(FoundError::UnknownNode(NodeId(2)))));
    // A state that fails leaves nothing behind, and neither does a crash.
    let failing = State(vec![Err(MachineError("gone".into())), Ok(Bytes::from_static(b"x"))]);
    assert!(matches!(found(GROUP, &[1], Box::new(failing)), Err(FoundError::Machine(_))));
    let shard = dir.path().join("node-1/shard-0");
    let files = || fs::read_dir(&shard).expect("it is there").count();
    assert_eq!(files(), 0);
    fs::write(shard.join("1-1-18014415689351168.part"), b"half").expect("it is written");
    found(GROUP, &[1], state()).expect("done");
    assert_eq!(files(), 1);
    assert!(matches!(found(GROUP, &[1], state()), Err(FoundError::NotEmpty(_))));
    let engine = start(config.clone());
    leader([&engine], GROUP);
    assert_eq!(count(&engine), 7);
    assert!(matches!(found(GROUP, &[1], state()), Err(FoundError::Node(_))), "it runs");
    engine.shutdown();
    assert!(matches!(found(GROUP, &[1], state()), Err(FoundError::NotEmpty(_))));
}
