//! Snapshots on real nodes: real disks, real connections on loopback.

mod nodes;
mod wire;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::block_on;
use nodes::{GROUP, addresses, bytes_in, eventually, leader, leads, settle, write, write_to};
use ringleader::{
    Engine, EngineConfig, Entries, GroupId, LogIndex, LogPosition, MachineError, NodeId, Replies,
    RoleName, SnapshotError, SnapshotSource, StateMachine,
};
use wire::Wires;

/// A table of numbers, some of which each operation changes, and how many operations there were. A
/// snapshot shares it until the next change.
#[derive(Clone, Default)]
struct Table {
    operations: u64,
    cells: Arc<Vec<u64>>,
    restored: Vec<u8>,
    from_snapshot: bool,
}

const CELLS: usize = 40_000;

impl StateMachine for Table {
    fn apply(&mut self, entries: &Entries<'_>, replies: &mut Replies) {
        let cells = Arc::make_mut(&mut self.cells);
        cells.resize(CELLS, 0);
        entries.iter().for_each(|entry| {
            let word = |at: usize| entry.payload.get(at).copied().unwrap_or_default();
            let at = (usize::from(word(0)) << 8 | usize::from(word(1))) % CELLS;
            cells[at] = cells[at].wrapping_mul(31).wrapping_add(entry.index.0);
            self.operations += 1;
            replies.push(entry.index, &self.operations.to_le_bytes());
        });
    }

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        let (operations, cells) = (self.operations, Arc::clone(&self.cells));
        Some(Box::new(View { operations: Some(operations), cells, at: 0 }))
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        self.restored.extend_from_slice(chunk);
        Ok(())
    }

    fn restored(&mut self) -> Result<(), MachineError> {
        let bytes = std::mem::take(&mut self.restored);
        let mut words = bytes.chunks_exact(8).map(|word| word.try_into().map(u64::from_le_bytes));
        let mut next = || words.next()?.ok();
        self.operations = next().ok_or_else(|| MachineError("empty".into()))?;
        self.cells = Arc::new(std::iter::from_fn(next).collect());
        self.from_snapshot = true;
        Ok(())
    }
}

struct View {
    operations: Option<u64>,
    cells: Arc<Vec<u64>>,
    at: usize,
}

impl SnapshotSource for View {
    fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>, MachineError> {
        if let Some(operations) = self.operations.take() {
            return Ok(Some(Bytes::copy_from_slice(&operations.to_le_bytes())));
        }
        let end = self.cells.len().min(self.at + max_bytes / 8);
        let cells = &self.cells[self.at..end];
        self.at = end;
        let chunk: Bytes = cells.iter().flat_map(|cell| cell.to_le_bytes()).collect();
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}

fn start(addresses: &[SocketAddr], node: u64, dir: &Path) -> Engine {
    start_with(config(addresses, node, dir), || Box::new(Table::default()))
}

/// Snapshots come often.
fn config(addresses: &[SocketAddr], node: u64, dir: &Path) -> EngineConfig {
    let mut config = nodes::config(addresses, node, 1, dir);
    config.snapshots.bytes = Some(8 << 20);
    config.snapshots.keep_bytes = 1 << 20;
    config.snapshots.chunk_bytes = 32 << 10;
    config
}

fn start_with(
    config: EngineConfig,
    machine: impl Fn() -> Box<dyn StateMachine> + Send + Sync + 'static,
) -> Engine {
    Engine::start(config, move |_| machine()).expect("the node starts")
}

fn table(engine: &Engine) -> Table {
    block_on(engine.handle().inspect(GROUP, |table: &mut Table| table.clone())).expect("it is here")
}

fn same(one: &Table, other: &Table) -> bool {
    (one.operations, &one.cells) == (other.operations, &other.cells)
}

#[test]
fn the_log_stays_small_a_restart_is_complete_and_who_was_away_gets_a_snapshot() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let mut engines: Vec<Engine> =
        (1..=3).map(|node| start(&addresses, node, dir.path())).collect();
    let first = leader(&engines, GROUP);
    write(&first, 1000);
    let away = engines.iter().position(|engine| {
        block_on(engine.handle().status(GROUP)).is_ok_and(|s| s.role == RoleName::Follower)
    });
    let away = away.expect("there are followers");
    engines.remove(away).shutdown();
    let node = [1, 2, 3][away];

    // 80 MB of log go by; a snapshot is 320 kB and is taken every 8 MB.
    write(&first, 20_000);
    eventually("the log to be released", || {
        let others = (1..=3).filter(|other| *other != node);
        let largest = others.map(|other| bytes_in(&dir.path().join(format!("node-{other}")))).max();
        (largest? < 50 << 20).then_some(())
    });

    engines.insert(away, start(&addresses, node, dir.path()));
    write(&leader(&engines, GROUP), 2_000);
    let reference = eventually("a replica to have everything", || {
        let table = table(&engines[(away + 1) % 3]);
        (table.operations == 23_000).then_some(table)
    });
    eventually("the one who was away to catch up", || {
        same(&table(&engines[away]), &reference).then_some(())
    });
    assert!(table(&engines[away]).from_snapshot, "the log that it lacked was gone");

    for engine in engines {
        engine.shutdown();
    }
    let engines: Vec<Engine> = (1..=3).map(|node| start(&addresses, node, dir.path())).collect();
    leader(&engines, GROUP);
    for engine in &engines {
        eventually("a restarted node to be where it was", || {
            let table = table(engine);
            (same(&table, &reference) && table.from_snapshot).then_some(())
        });
    }
}

/// None of them writes enough for a snapshot of its own, and one has long stopped.
#[test]
fn the_log_of_many_groups_stays_small() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(1);
    let mut config = nodes::config(&addresses, 1, 8, dir.path());
    config.snapshots.log_bytes = Some(32 << 20);
    config.wal.kept_segments = config.wal.spare_segments;
    let engine = start_with(config.clone(), || Box::new(Table::default()));
    let handle = leader([&engine], GROUP);
    write(&handle, 500);
    for _ in 0..10 {
        for group in (2..=8).map(GroupId) {
            write_to(&leader([&engine], group), group, 500);
        }
    }
    // 140 MB went by. What is kept of them, a segment more, and the spare ones; and snapshots.
    let segments = (32 << 20) + 3 * config.wal.segment_bytes;
    let snapshots = 8 * (CELLS as u64 * 8 + (64 << 10));
    eventually("the log to be released", || {
        (bytes_in(dir.path()) <= segments + snapshots).then_some(())
    });

    engine.shutdown();
    let engine = start_with(config, || Box::new(Table::default()));
    for group in (1..=8).map(GroupId) {
        let handle = leader([&engine], group);
        let operations = if group == GROUP { 500 } else { 5000 };
        let has_all = |table: &mut Table| (table.operations, table.from_snapshot);
        eventually("everything to be there", || {
            let found = block_on(handle.inspect(group, has_all)).expect("it is here");
            (found == (operations, true)).then_some(())
        });
    }
}

/// Simulator seed 1011548: a peer waited for the snapshots of all groups that a policy wanted before.
#[test]
fn a_snapshot_that_somebody_waits_for_comes_before_those_that_are_due() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(1);
    let mut config = nodes::config(&addresses, 1, 8, dir.path());
    config.snapshots.entries = Some(1);
    config.snapshots.chunk_bytes = 16 << 10;
    // Each of the eight takes two seconds.
    config.snapshots.bytes_per_second = Some(CELLS as u64 * 8 / 2);
    let engine = start_with(config, || Box::new(Table::default()));
    for group in (1..=8).map(GroupId) {
        write_to(&leader([&engine], group), group, 1);
    }
    let handle = engine.handle();
    let taken = || {
        let report = block_on(handle.report()).expect("the node runs");
        report.shards[0].counters.snapshots.taken
    };
    eventually("a snapshot", || (taken() > 0).then_some(()));
    let (before, last) = (taken(), GroupId(8));
    block_on(handle.snapshot(last)).expect("it is taken");
    // The one that was under way, it, and perhaps one that began before it was asked for.
    assert!(taken() <= before + 3, "{before} were taken, then {}", taken());
}

#[test]
fn a_snapshot_is_taken_on_request_and_started_from() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(1);
    let engine = start(&addresses, 1, dir.path());
    let handle = leader([&engine], GROUP);
    write(&handle, 10);
    settle(std::slice::from_ref(&handle), GROUP);
    let taken = block_on(handle.snapshot(GROUP)).expect("it is taken");
    assert!(taken.index >= LogIndex(10), "{taken:?}");
    assert_eq!(block_on(handle.snapshot(GROUP)), Ok(taken), "there is one already");
    let unknown = block_on(handle.snapshot(GroupId(9)));
    assert_eq!(unknown, Err(SnapshotError::UnknownGroup(GroupId(9))));
    write(&handle, 5);
    engine.shutdown();
    let engine = start(&addresses, 1, dir.path());
    leader([&engine], GROUP);
    let restarted = eventually("the rest of the log to be applied", || {
        let table = table(&engine);
        (table.operations == 15).then_some(table)
    });
    assert!(restarted.from_snapshot);
    engine.shutdown();

    // The log holds everything that the damaged snapshot covers: it is passed over.
    damage(&dir.path().join("node-1"), taken);
    let engine = start(&addresses, 1, dir.path());
    leader([&engine], GROUP);
    let replayed = eventually("the whole log to be applied", || {
        let table = table(&engine);
        (table.operations == 15).then_some(table)
    });
    assert!(!replayed.from_snapshot && same(&replayed, &restarted));
}

/// Flips a bit of what the state machine gave.
fn damage(node: &Path, at: LogPosition) {
    let name = format!("{GROUP}-{}-{}.snap", at.index, at.term);
    let shards = std::fs::read_dir(node).expect("the node's directory");
    let files = shards.map(|entry| entry.expect("readable").path().join(&name));
    let path = files.into_iter().find(|path| path.exists()).expect("the snapshot's file");
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[4096 + 64] ^= 1;
    std::fs::write(&path, bytes).expect("writable");
}

/// Nothing is proposed any more, so that there is never anything that a later one could hold.
#[test]
fn a_snapshot_that_can_not_be_read_is_taken_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let start = |node| {
        let mut config = config(&addresses, node, dir.path());
        (config.snapshots.keep_bytes, config.snapshots.keep_entries) = (0, 0);
        start_with(config, || Box::new(Table::default()))
    };
    let mut engines: Vec<Engine> = (1..=3).map(start).collect();
    let handles: Vec<_> = engines.iter().map(Engine::handle).collect();
    settle(&handles, GROUP);
    engines.pop().expect("the third").shutdown();
    write(&leader(&engines, GROUP), 10);
    let reference = eventually("everything to be applied", || {
        Some(table(&engines[0])).filter(|table| table.operations == 10)
    });
    for (engine, node) in engines.iter().zip(["node-1", "node-2"]) {
        eventually("everything to be applied", || same(&table(engine), &reference).then_some(()));
        let taken = block_on(engine.handle().snapshot(GROUP)).expect("it is taken");
        damage(&dir.path().join(node), taken);
    }
    engines.push(start(3));
    eventually("who was away to catch up", || same(&table(&engines[2]), &reference).then_some(()));
    assert!(table(&engines[2]).from_snapshot, "the log that it lacked was gone");
}

/// 320,000 bytes at 400,000 a second, and operations are answered meanwhile.
#[test]
fn a_snapshot_is_taken_no_faster_than_the_disk_is_to_be_used_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(1);
    let mut config = config(&addresses, 1, dir.path());
    (config.snapshots.chunk_bytes, config.snapshots.bytes_per_second) = (16 << 10, Some(400_000));
    let engine = start_with(config, || Box::new(Table::default()));
    let handle = leader([&engine], GROUP);
    write(&handle, 1);
    let began = Instant::now();
    block_on(async {
        let snapshot = handle.snapshot(GROUP);
        let mut taken = Box::pin(snapshot);
        let mut answered = 0;
        while futures_lite::future::poll_once(&mut taken).await.is_none() {
            handle.propose(GROUP, &[1, 2]).await.expect("it is applied");
            answered += 1;
        }
        assert!(answered > 1, "{answered}");
    });
    let least = Duration::from_millis(700);
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
}

/// Keeps nothing, and takes no snapshots.
struct Empty;

impl StateMachine for Empty {
    fn apply(&mut self, _: &Entries<'_>, _: &mut Replies) {}
}

#[test]
fn a_machine_without_snapshots_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = start_with(config(&addresses(1), 1, dir.path()), || Box::new(Empty));
    let handle = leader([&engine], GROUP);
    write(&handle, 10);
    assert_eq!(block_on(handle.snapshot(GROUP)), Err(SnapshotError::Unsupported));
    write(&handle, 10);
}

/// Gives snapshots, and takes none back.
#[derive(Default)]
struct Stubborn(Table);

impl StateMachine for Stubborn {
    fn apply(&mut self, entries: &Entries<'_>, replies: &mut Replies) {
        self.0.apply(entries, replies);
    }

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        self.0.snapshot()
    }

    fn restore(&mut self, _: &[u8]) -> Result<(), MachineError> {
        Err(MachineError("not this one".into()))
    }
}

#[test]
fn a_snapshot_that_the_machine_refuses_keeps_the_node_from_starting_and_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(1);
    let engine = start(&addresses, 1, dir.path());
    let handle = leader([&engine], GROUP);
    write(&handle, 10);
    let taken = block_on(handle.snapshot(GROUP)).expect("it is taken");
    engine.shutdown();

    let stubborn = |_| -> Box<dyn StateMachine> { Box::new(Stubborn::default()) };
    let refused = Engine::start(config(&addresses, 1, dir.path()), stubborn);
    let error = refused.err().expect("it must not start").to_string();
    let file = format!("{GROUP}-{}-{}.snap", taken.index, taken.term);
    assert!(error.contains(&file) && error.contains("not this one"), "{error}");

    // It ended wholly: its address and its directory are free, and nothing is lost.
    let engine = start(&addresses, 1, dir.path());
    leader([&engine], GROUP);
    eventually("all to be there", || (table(&engine).operations == 10).then_some(()));
}

fn snapshots_in(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let names = entries.map(|entry| entry.expect("readable").file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".snap")).count()
}

#[test]
fn snapshots_come_by_the_clock_travel_slowly_and_make_good_leaders() {
    const RATE: u64 = 200_000;
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let start = |node| {
        let mut config = config(&addresses, node, dir.path());
        config.snapshots.bytes = None;
        config.snapshots.interval = Some(Duration::from_millis(200));
        config.snapshots.keep_entries = 0;
        config.net.bulk.bytes_per_second = Some(RATE);
        start_with(config, || Box::new(Table::default()))
    };
    let mut engines: Vec<Engine> = (1..=3).map(start).collect();
    let handle = leader(&engines, GROUP);
    let led = block_on(handle.status(GROUP)).expect("it is here").leader.expect("itself").0;
    let away = led % 3 + 1;
    engines.remove(away as usize - 1).shutdown();
    write(&handle, 100);
    for node in (1..=3).filter(|node| *node != away) {
        let dir = dir.path().join(format!("node-{node}/shard-0"));
        eventually("a snapshot, which nobody asked for", || {
            (snapshots_in(&dir) > 0 && snapshots_in(&dir) < 3).then_some(())
        });
    }
    eventually("the log before it to go", || {
        block_on(handle.snapshot(GROUP)).ok().filter(|taken| taken.index > LogIndex(100))
    });

    let began = std::time::Instant::now();
    engines.insert(away as usize - 1, start(away));
    let follower = &engines[away as usize - 1];
    eventually("the one who was away to catch up", || {
        (table(follower).operations == 100).then_some(())
    });
    assert!(table(follower).from_snapshot, "the log that it lacked was gone");
    // The last piece does not wait for anything after it.
    let least = Duration::from_secs((CELLS as u64 * 8 - (32 << 10)) / RATE);
    assert!(began.elapsed() >= least, "in {:?}, not {least:?}", began.elapsed());

    eventually("it to lead", || {
        let handle = leader(&engines, GROUP);
        let moved = block_on(handle.transfer_leadership(GROUP, Some(NodeId(away))));
        (moved.is_ok() || leads(&follower.handle(), GROUP)).then_some(())
    });
    write(&leader(&engines, GROUP), 10);
    for engine in &engines {
        eventually("all to have it", || (table(engine).operations == 110).then_some(()));
    }
}

/// No connection lives long enough for a whole snapshot: one that began anew after a break would
/// never arrive.
#[test]
fn a_snapshot_whose_connection_breaks_goes_on_where_it_was() {
    const CHUNK: u64 = 32 << 10;
    const PER_CONNECTION: usize = 3 * CHUNK as usize + 4096;
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let wires = Wires::fraying(&addresses, PER_CONNECTION);
    let start = |node| {
        let mut config = config(&addresses, node, dir.path());
        if node != 3 {
            config.members[2].address = wires.end(node, 3);
        }
        (config.snapshots.bytes, config.snapshots.keep_entries) = (None, 0);
        config.snapshots.chunk_bytes = CHUNK as usize;
        start_with(config, || Box::new(Table::default()))
    };
    let pair = [start(1), start(2)];
    let handle = leader(&pair, GROUP);
    write(&handle, 100);
    let taken = block_on(handle.snapshot(GROUP)).expect("it is taken");
    eventually("the log before it to go", || {
        let status = block_on(handle.status(GROUP)).expect("it is here");
        (status.base.index == taken.index).then_some(())
    });

    let late = start(3);
    eventually("it to arrive", || (table(&late).operations == 100).then_some(()));
    assert!(table(&late).from_snapshot, "the log that it lacked was gone");
    let counters = || {
        let report = block_on(handle.report()).expect("it runs");
        report.shards[0].counters.snapshots
    };
    let sent = eventually("the leader to know", || Some(counters()).filter(|sent| sent.sent > 0));
    let breaks = (CELLS as u64 * 8).div_ceil(PER_CONNECTION as u64) - 1;
    assert!(wires.broken().min(sent.broken) >= breaks, "{} broken, {sent:?}", wires.broken());
    assert_eq!((sent.resumed, sent.sent, sent.sends_given_up), (sent.broken, 1, 0));
    // What is lost with a connection is the piece that was on it.
    let most = sent.taken_bytes + (sent.broken + 1) * (CHUNK + 4096);
    assert!(sent.sent_bytes <= most, "{sent:?}, at most {most}");
}
