//! What panics in a shard's turn ends that shard, and nothing else: its callers are told, the rest of
//! its node goes on, and its groups are led elsewhere. On the disk's tasks it is one operation that
//! fails; what it is on those of connections is tried in `net/tests/panics.rs`. (Tests unwind; in a program whose panics
//! abort, the node's process ends, as in `acceptance.rs`.)

mod nodes;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::block_on;
use nodes::{addresses, eventually, leader, leads};
use ringleader::shard::ShardHealth;
use ringleader::{
    Consistency, Engine, EngineConfig, Entries, GroupConfig, GroupId, Handle, MachineError, NodeId,
    ProposeError, QueryError, ReadError, Replies, SnapshotSource, StateMachine, UnknownCause,
    place,
};

/// Counts operations, but panics where `victim` says that it is to.
struct Fragile {
    node: u64,
    victim: Arc<AtomicU64>,
    count: u64,
}

impl StateMachine for Fragile {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        for entry in entries.iter() {
            let here = self.victim.load(Ordering::SeqCst) == self.node;
            assert!(!(here && entry.payload == b"last straw"), "this is too much");
            self.count += 1;
        }
    }
}

/// A node with two shards, and a group on each: the first on the shard that listens for the node.
fn config(addresses: &[std::net::SocketAddr], node: u64, dir: &Path) -> EngineConfig {
    let mut config = nodes::config(addresses, node, 0, dir);
    // A leader stays one until its state machine panics, on a machine that has much else to do.
    config.raft.election_timeout = Duration::from_secs(3);
    config.members.iter_mut().for_each(|member| member.shards = 2);
    let voters: Vec<NodeId> = config.members.iter().map(|member| member.node).collect();
    config.groups = groups().map(|group| GroupConfig { group, voters: voters.clone() }).into();
    config
}

fn groups() -> [GroupId; 2] {
    [0, 1].map(|shard| (1..).map(GroupId).find(|group| place(*group, 2) == shard).expect("one"))
}

fn start(config: EngineConfig, victim: &Arc<AtomicU64>) -> Engine {
    let (node, victim) = (config.node.0, Arc::clone(victim));
    let machine = move |_| Fragile { node, victim: Arc::clone(&victim), count: 0 };
    Engine::start(config, move |group| Box::new(machine(group))).expect("the node starts")
}

fn count(handle: &Handle, group: GroupId) -> Result<u64, QueryError> {
    block_on(handle.inspect(group, |machine: &mut Fragile| machine.count))
}

/// Proposes through whoever leads.
fn propose<'a>(engines: impl IntoIterator<Item = &'a Engine> + Clone, group: GroupId) {
    eventually("an operation to be done", || {
        block_on(leader(engines.clone(), group).propose(group, b"x")).ok()
    });
}

fn health(handle: &Handle) -> Vec<ShardHealth> {
    let report = block_on(handle.report()).expect("the node runs");
    report.shards.into_iter().map(|shard| shard.health).collect()
}

/// Hands the operation that is too much to the group's leader, between others; what became of each.
fn break_shard(handle: &Handle, group: GroupId) -> Vec<Result<(), ProposeError>> {
    let mut queue = handle.queue(0, 100);
    for name in 0..100 {
        let payload: &[u8] = if name == 50 { b"last straw" } else { b"x" };
        queue.push(group, name, payload).expect("there is room");
    }
    assert_eq!(queue.submit(), Ok(100));
    let mut results = Vec::new();
    while queue.wait(Duration::from_secs(60)) {
        queue.drain(|completion| results.push(completion.result.map(drop)));
    }
    queue.push(group, 100, b"late").expect("there is room");
    assert!(queue.submit().is_err(), "nobody would ever answer it");
    results
}

/// All replicas of the group come to have applied the same.
fn alike(engines: &[Engine], group: GroupId) {
    eventually("all to have applied the same", || {
        let counts = engines.iter().map(|engine| count(&engine.handle(), group).ok());
        let counts: Option<Vec<u64>> = counts.collect();
        counts.filter(|counts| counts.iter().all(|count| *count == counts[0])).map(drop)
    });
}

/// What a node whose first shard panicked says, and to whom.
fn check_wreck(handle: &Handle) {
    let [broken, _] = groups();
    assert_eq!(block_on(handle.propose(broken, b"x")), Err(ProposeError::Stopped));
    let read = handle.read(broken, Consistency::Linearizable, |machine: &Fragile| machine.count);
    assert_eq!(block_on(read), Err(ReadError::Stopped));
    assert_eq!(count(handle, broken), Err(QueryError::Stopped));
    let status = block_on(handle.status(broken)).expect("the group is known");
    assert!(status.leader.is_none() && !leads(handle, broken));
    let panicked = ShardHealth::Panicked("this is too much".into());
    assert_eq!(health(handle), [panicked, ShardHealth::Running]);
    let report = block_on(handle.report()).expect("the node runs");
    assert!(report.to_string().contains("shard 0: PANICKED: this is too much"), "{report}");
    #[cfg(feature = "export")]
    {
        let metrics = report.into_openmetrics(100);
        assert!(metrics.contains("ringleader_panicked{shard=\"0\"} 1\n"), "{metrics}");
        assert!(metrics.contains("ringleader_up{shard=\"1\"} 1\n"), "{metrics}");
    }
}

#[test]
fn a_state_machine_that_panics_ends_its_shard_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let victim = Arc::new(AtomicU64::new(0));
    let node = |at: usize| start(config(&addresses, at as u64 + 1, dir.path()), &victim);
    let mut engines: Vec<Engine> = (0..3).map(node).collect();
    let [broken, sound] = groups();
    groups().into_iter().for_each(|group| propose(&engines, group));

    let at = eventually("a leader", || {
        engines.iter().position(|engine| leads(&engine.handle(), broken))
    });
    victim.store(at as u64 + 1, Ordering::SeqCst);
    let handle = engines[at].handle();
    let results = break_shard(&handle, broken);
    let unknown = Err(ProposeError::Unknown(UnknownCause::Stopped));
    assert_eq!(results.len(), 100, "each is answered");
    assert!(results.iter().all(|result| result.is_ok() || *result == unknown), "{results:?}");
    assert_eq!(results[50], unknown);
    check_wreck(&handle);

    // Its group is led by another node.
    let others = engines.iter().enumerate().filter(|(other, _)| *other != at);
    propose(others.map(|(_, engine)| engine), broken);

    // Its other shard goes on, and gets connections although the wreck is what listens for them.
    let other = (at + 1) % 3;
    engines.remove(other).shutdown();
    engines.insert(other, node(other));
    let moved = handle.members().swap_remove(other);
    assert_eq!(handle.set_member(moved), Ok(()));
    propose(&engines, sound);
    alike(&engines, sound);

    // It can be stopped, and a program that does better starts with all that it had.
    engines.remove(at).shutdown();
    assert_eq!(block_on(handle.report()).err(), Some(QueryError::Stopped));
    victim.store(0, Ordering::SeqCst);
    engines.insert(at, node(at));
    propose(&engines, broken);
    alike(&engines, broken);
    assert_eq!(health(&engines[at].handle()), [ShardHealth::Running, ShardHealth::Running]);
}

/// A state machine whose first snapshot is a [`Bomb`].
struct Armed {
    armed: bool,
}

impl StateMachine for Armed {
    fn apply(&mut self, _: &Entries<'_>, _: &mut Replies) {}

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        let armed = std::mem::take(&mut self.armed);
        Some(Box::new(Chunk(armed.then(|| Bomb))))
    }
}

struct Chunk(Option<Bomb>);

impl SnapshotSource for Chunk {
    fn next_chunk(&mut self, _: usize) -> Result<Option<Bytes>, MachineError> {
        Ok(self.0.take().map(Bytes::from_owner))
    }
}

/// The disk has the last hold of what it writes.
#[test]
fn what_panics_on_the_disk_is_an_operation_that_failed() {
    let dir = tempfile::tempdir().expect("a directory");
    let machine = |_| -> Box<dyn StateMachine> { Box::new(Armed { armed: true }) };
    let engine = Engine::start(config(&addresses(1), 1, dir.path()), machine).expect("it starts");
    let [group, _] = groups();
    propose([&engine], group);
    let handle = engine.handle();
    let failed = block_on(handle.snapshot(group)).expect_err("its chunk can't be written");
    assert!(failed.to_string().contains("a disk operation panicked: a bomb"), "{failed}");
    assert_eq!(health(&handle), [ShardHealth::Running, ShardHealth::Running]);
    propose([&engine], group);
    eventually("a snapshot", || block_on(handle.snapshot(group)).ok());
    engine.shutdown();
}

/// Panics when it is dropped.
struct Bomb;

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        b"tick"
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a bomb");
        }
    }
}

#[test]
fn a_thread_that_ends_leaves_nobody_waiting_and_can_be_stopped() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = start(config(&addresses(1), 1, dir.path()), &Arc::default());
    let [broken, sound] = groups();
    propose([&engine], broken);
    let handle = engine.handle();
    // A caller's task panics, and then what is left of the shard does.
    handle.spawn_on(0, |_| async { panic!("a guest") }).expect("the shard runs");
    let panicked = ShardHealth::Panicked("a guest".into());
    eventually("the shard to be down", || (health(&handle)[0] == panicked).then_some(()));
    let bomb = Bomb;
    let asked = handle.inspect(broken, move |_: &mut Fragile| drop(bomb));
    assert_eq!(block_on(asked), Err(QueryError::Stopped));
    let ended = |health: &ShardHealth| matches!(health, ShardHealth::Panicked(cause) if cause.contains("its thread ended"));
    eventually("the thread to be gone", || ended(&health(&handle)[0]).then_some(()));

    assert_eq!(health(&handle)[1], ShardHealth::Running);
    assert_eq!(block_on(handle.propose(broken, b"x")), Err(ProposeError::Stopped));
    assert_eq!(block_on(handle.status(broken)), Err(QueryError::Stopped));
    assert!(handle.queue(0, 1).submit().is_ok(), "there was nothing to submit");
    propose([&engine], sound);
    let report = block_on(handle.report()).expect("the node runs");
    assert!(report.groups.iter().all(|group| group.status.group == sound), "{report}");
    engine.shutdown();
}

#[test]
fn what_panics_at_a_start_is_why_the_node_does_not_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let refused = Engine::start(config(&addresses(1), 1, dir.path()), |_| panic!("no machine"));
    let message = refused.err().expect("it must not start").to_string();
    assert!(message.contains("it panicked: no machine"), "{message}");
}
