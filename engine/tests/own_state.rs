//! State machines that keep their state on stable storage themselves, on real nodes.

mod nodes;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_lite::future::block_on;
use nodes::{GROUP, addresses, bytes_in, eventually, leader, write};
use ringleader::{
    Engine, EngineConfig, Entries, LogIndex, LogPosition, MachineError, NodeId, Replies,
    SnapshotError, SnapshotSource, StateMachine, Term,
};

/// A database, which survives its process: how many operations it has, and the last of them.
#[derive(Default)]
struct Store {
    operations: u64,
    last: LogPosition,
    /// Times that a snapshot took the place of what was there.
    replaced: u64,
}

type Shared = Arc<Mutex<Store>>;

/// Stands for a state machine with a database of its own.
struct Keeper {
    operations: u64,
    last: LogPosition,
    store: Shared,
    gives: bool,
}

impl Keeper {
    fn open(store: &Shared, gives: bool) -> Self {
        let Store { operations, last, .. } = *store.lock().expect("no panic under this lock");
        Self { operations, last, store: Arc::clone(store), gives }
    }
}

impl StateMachine for Keeper {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        for entry in entries.iter() {
            assert!(entry.index > self.last.index, "an operation is applied again");
            self.operations += 1;
            self.last = LogPosition { index: entry.index, term: entry.term };
            // It commits now and then.
            if self.operations.is_multiple_of(100) {
                let mut store = self.store.lock().expect("no panic under this lock");
                (store.operations, store.last) = (self.operations, self.last);
            }
        }
    }

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        let words = [self.operations, self.last.index.0, self.last.term.0];
        let view = View(Some(words.into_iter().flat_map(u64::to_le_bytes).collect()));
        self.gives.then(|| Box::new(view) as Box<_>)
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        let words: Vec<_> =
            chunk.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let [operations, index, term] = words[..] else {
            return Err(MachineError(format!("a chunk of {} B", chunk.len())));
        };
        self.operations = operations;
        self.last = LogPosition { index: LogIndex(index), term: Term(term) };
        Ok(())
    }

    /// Until here the database was as it had been.
    fn restored(&mut self) -> Result<(), MachineError> {
        let mut store = self.store.lock().expect("no panic under this lock");
        let replaced = store.replaced + 1;
        *store = Store { operations: self.operations, last: self.last, replaced };
        Ok(())
    }

    fn durable_position(&self) -> Option<LogPosition> {
        Some(self.store.lock().expect("no panic under this lock").last)
    }
}

/// A snapshot of one chunk.
struct View(Option<Bytes>);

impl SnapshotSource for View {
    fn next_chunk(&mut self, _: usize) -> Result<Option<Bytes>, MachineError> {
        Ok(self.0.take())
    }
}

/// No policy takes snapshots: only what a machine keeps lets its log go.
fn keeper(addresses: &[SocketAddr], node: u64, dir: &Path, store: &Shared, gives: bool) -> Engine {
    let store = Arc::clone(store);
    let machine = move |_| -> Box<dyn StateMachine> { Box::new(Keeper::open(&store, gives)) };
    Engine::start(config(addresses, node, dir), machine).expect("the node starts")
}

fn config(addresses: &[SocketAddr], node: u64, dir: &Path) -> EngineConfig {
    let mut config = nodes::config(addresses, node, 1, dir);
    let snapshots = &mut config.snapshots;
    (snapshots.entries, snapshots.bytes, snapshots.interval) = (None, None, None);
    snapshots.keep_bytes = 1 << 20;
    config
}

fn snapshots_in(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let names = entries.map(|entry| entry.expect("readable").file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".snap")).count()
}

fn kept_by(engine: &Engine) -> u64 {
    block_on(engine.handle().inspect(GROUP, |keeper: &mut Keeper| keeper.operations))
        .expect("it is here")
}

#[test]
fn a_machine_that_keeps_its_own_state_starts_where_that_ends_and_its_log_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    let (addresses, store) = (addresses(1), Shared::default());
    let engine = keeper(&addresses, 1, dir.path(), &store, true);
    write(&leader([&engine], GROUP), 20_050);
    eventually("the log to be released", || {
        (bytes_in(&dir.path().join("node-1")) < 50 << 20).then_some(())
    });
    engine.shutdown();
    assert_eq!(store.lock().expect("no panic under this lock").operations, 20_000);

    let engine = keeper(&addresses, 1, dir.path(), &store, true);
    write(&leader([&engine], GROUP), 7);
    assert_eq!(kept_by(&engine), 20_057, "each operation once, the last ones from the log");
    engine.shutdown();

    // Another node's directory, or one that lost what it had.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let machine = move |_| -> Box<dyn StateMachine> { Box::new(Keeper::open(&store, true)) };
    let refused = Engine::start(config(&addresses, 1, elsewhere.path()), machine);
    let error = refused.err().expect("it must not start").to_string();
    assert!(error.contains("its state machine holds everything up to entry"), "{error}");
}

#[test]
fn who_was_away_gets_a_snapshot_of_a_machine_that_keeps_its_own_state() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let stores: Vec<Shared> = (0..3).map(|_| Shared::default()).collect();
    let start =
        |node: u64, gives| keeper(&addresses, node, dir.path(), &stores[node as usize - 1], gives);
    let replaced =
        |node: u64| stores[node as usize - 1].lock().expect("no panic under this lock").replaced;
    let mut engines: Vec<Engine> = (1..=3).map(|node| start(node, true)).collect();
    let first = leader(&engines, GROUP);
    write(&first, 1000);
    let away = block_on(first.status(GROUP)).expect("it is here").leader.expect("itself").0 % 3 + 1;
    engines.remove(away as usize - 1).shutdown();
    let others: Vec<u64> = (1..=3).filter(|node| *node != away).collect();
    // One snapshot says who the members are; the log goes on beyond it.
    for _ in 0..2 {
        write(&first, 20_000);
        eventually("the log to be released", || {
            let sizes =
                others.iter().map(|node| bytes_in(&dir.path().join(format!("node-{node}"))));
            (sizes.max()? < 50 << 20).then_some(())
        });
    }
    for node in &others {
        assert_eq!(snapshots_in(&dir.path().join(format!("node-{node}/shard-0"))), 1);
    }
    for engine in &engines {
        let status = block_on(engine.handle().status(GROUP)).expect("it is here");
        assert!(status.snapshot.is_some_and(|at| at.index < status.base.index), "{status:?}");
    }

    // A version of the program that gives no snapshots any more: the log stays, and is too short.
    engines.drain(..).for_each(Engine::shutdown);
    engines = others.iter().map(|node| start(*node, false)).collect();
    leader(&engines, GROUP);
    engines.push(start(away, false));
    let stranded = eventually("somebody to say that the peer gets nothing", || {
        let all = engines.iter().filter_map(|engine| block_on(engine.handle().status(GROUP)).ok());
        all.map(|status| status.stranded).find(|stranded| !stranded.is_empty())
    });
    assert_eq!(stranded, [NodeId(away)]);
    let told = engines.iter().map(|engine| {
        let report = block_on(engine.handle().report()).expect("it runs");
        report.shards.iter().map(|shard| shard.counters.snapshots.stranded).sum::<u64>()
    });
    assert!(told.sum::<u64>() > 0);

    engines.drain(..).for_each(Engine::shutdown);
    engines = (1..=3).map(|node| start(node, true)).collect();
    write(&leader(&engines, GROUP), 2_000);
    eventually("the one who was away to catch up", || {
        engines.iter().all(|engine| kept_by(engine) == 43_000).then_some(())
    });
    // Once, or again where the log that follows the snapshot goes before it has arrived.
    let before: Vec<u64> = (1..=3).map(replaced).collect();
    assert!(before[away as usize - 1] > 0, "{before:?}: that of {away} was replaced");
    assert_eq!(before.iter().filter(|times| **times > 0).count(), 1, "{before:?}: and no other");

    // Each goes on from its own.
    engines.drain(..).for_each(Engine::shutdown);
    let engines: Vec<Engine> = (1..=3).map(|node| start(node, true)).collect();
    write(&leader(&engines, GROUP), 7);
    eventually("all to have everything, once", || {
        engines.iter().all(|engine| kept_by(engine) == 43_007).then_some(())
    });
    assert_eq!((1..=3).map(replaced).collect::<Vec<_>>(), before, "no start needs a snapshot");
}

#[test]
fn a_machine_that_keeps_its_state_and_gives_no_snapshots_keeps_its_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let (addresses, store) = (addresses(1), Shared::default());
    let engine = keeper(&addresses, 1, dir.path(), &store, false);
    let handle = leader([&engine], GROUP);
    write(&handle, 20_000);
    assert_eq!(block_on(handle.snapshot(GROUP)), Err(SnapshotError::Unsupported));
    let read = block_on(handle.read_log(GROUP, LogIndex(1), 4096)).expect("the log begins there");
    assert!(read.next() > LogIndex(1));
    engine.shutdown();
    let engine = keeper(&addresses, 1, dir.path(), &store, false);
    let handle = leader([&engine], GROUP);
    write(&handle, 7);
    assert_eq!(kept_by(&engine), 20_007);
    assert!(block_on(handle.read_log(GROUP, LogIndex(1), 4096)).is_ok(), "nothing of it went");
}
