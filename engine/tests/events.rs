//! What nodes say in `tracing` events, each with its group, term and index, and what they count of
//! the same: real engines on loopback, each test with a group of its own.

mod capture;
mod nodes;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use capture::{Captured, about};
use futures_lite::future::block_on;
use nodes::{addresses, eventually, leader};
use ringleader::shard::{SnapshotCounters, SnapshotStage};
use ringleader::{
    Engine, EngineConfig, Entries, GroupConfig, GroupId, Handle, MachineError, Member, NodeId,
    Replies, SnapshotSource, StateMachine, TransferError,
};
use tracing::Level;

const CHUNK: usize = 16 << 10;
/// Bytes of a snapshot that a node sends in a second.
const RATE: u64 = 256 << 10;

/// Its snapshots are long, and hold nothing but how many entries there were.
#[derive(Default)]
struct Long(u64);

impl StateMachine for Long {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        self.0 += entries.iter().count() as u64;
    }

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        Some(Box::new(View { count: self.0, chunks: 40 }))
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        let count = chunk[..8].try_into().map_err(|_| MachineError("too short".into()))?;
        self.0 = u64::from_le_bytes(count);
        Ok(())
    }
}

struct View {
    count: u64,
    chunks: u32,
}

impl SnapshotSource for View {
    fn next_chunk(&mut self, _: usize) -> Result<Option<Bytes>, MachineError> {
        let Some(left) = self.chunks.checked_sub(1) else { return Ok(None) };
        self.chunks = left;
        let mut chunk = vec![0; CHUNK];
        chunk[..8].copy_from_slice(&self.count.to_le_bytes());
        Ok(Some(chunk.into()))
    }
}

/// Its snapshots fail.
struct Broken;

impl StateMachine for Broken {
    fn apply(&mut self, _: &Entries<'_>, _: &mut Replies) {}

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        Some(Box::new(Self))
    }
}

impl SnapshotSource for Broken {
    fn next_chunk(&mut self, _: usize) -> Result<Option<Bytes>, MachineError> {
        Err(MachineError("there is nothing to be had".into()))
    }
}

fn config(addresses: &[SocketAddr], node: u64, group: GroupId, dir: &Path) -> EngineConfig {
    let mut config = nodes::config(addresses, node, 0, dir);
    let voters = (1..=addresses.len() as u64).map(NodeId).collect();
    config.groups = vec![GroupConfig { group, voters }];
    config.snapshots.bytes = None;
    config.snapshots.keep_entries = 0;
    config.snapshots.keep_bytes = 0;
    config.snapshots.chunk_bytes = CHUNK;
    config.snapshots.transfer_timeout = Duration::from_secs(5);
    config.net.bulk.bytes_per_second = Some(RATE);
    config
}

fn start(addresses: &[SocketAddr], node: u64, group: GroupId, dir: &Path) -> Engine {
    let config = config(addresses, node, group, dir);
    Engine::start(config, |_| Box::new(Long::default())).expect("the node starts")
}

/// The first such event.
fn event(group: GroupId, message: &str) -> Captured {
    eventually(message, || about(group, message).into_iter().next())
}

/// It says where and when: in a term and at an entry that there are.
fn check(event: &Captured) {
    assert!(event.number("term") > 0 && event.number("index") > 0, "{event:?}");
    assert_eq!(event.number("shard"), 0, "{event:?}");
}

fn node_of(handle: &Handle) -> u64 {
    block_on(handle.report()).expect("it runs").node.0
}

fn snapshots(handle: &Handle) -> SnapshotCounters {
    block_on(handle.report()).expect("it runs").shards[0].counters.snapshots
}

#[test]
fn elections_and_transfers_are_told_with_group_term_and_index() {
    capture::begin();
    let group = GroupId(101);
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let start = |node| start(&addresses, node, group, dir.path());
    let mut engines: Vec<Option<Engine>> = (1..=3).map(|node| Some(start(node))).collect();
    let serving = |engines: &[Option<Engine>]| {
        eventually("a leader that serves", || {
            let handles = engines.iter().flatten().map(Engine::handle);
            handles.into_iter().find(|handle| block_on(handle.propose(group, b"x")).is_ok())
        })
    };
    let handle = serving(&engines);
    let status = block_on(handle.status(group)).expect("it is here");
    let led = eventually("the leader to be told", || {
        about(group, "leads").into_iter().find(|event| event.number("term") == status.term.0)
    });
    check(&led);
    assert!(led.number("index") <= status.last.index.0 && led.level == Level::INFO, "{led:?}");
    check(&event(group, "follows"));

    let done = block_on(handle.transfer_leadership(group, None)).expect("the others are well");
    let begun = event(group, "hands the leadership over");
    check(&begun);
    assert_eq!((begun.number("to"), begun.number("term")), (done.leader.0, status.term.0));
    let over = event(group, "the leadership was handed over");
    check(&over);
    assert_eq!((over.number("to"), over.number("term")), (done.leader.0, done.term.0));

    // To one that is gone, and that the leader does not know to be yet.
    let to = eventually("a transfer that is given up", || {
        let handle = serving(&engines);
        let to = node_of(&handle) % 3 + 1;
        drop(engines[to as usize - 1].take());
        let failed = block_on(handle.transfer_leadership(group, Some(NodeId(to))));
        engines[to as usize - 1] = Some(start(to));
        matches!(failed, Err(TransferError::NotTaken { .. })).then_some(to)
    });
    let given_up = eventually("that to be told", || {
        let events = about(group, "a transfer of the leadership was given up");
        events.into_iter().find(|event| event.number("to") == to)
    });
    check(&given_up);
    assert_eq!(given_up.level, Level::WARN);
}

#[test]
fn snapshots_on_their_way_are_told_when_they_break_go_on_end_and_are_given_up() {
    capture::begin();
    let group = GroupId(102);
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let start = |node| start(&addresses, node, group, dir.path());
    let mut engines: Vec<Option<Engine>> = (1..=3).map(|node| Some(start(node))).collect();
    let handle = leader(engines.iter().flatten(), group);
    let this = node_of(&handle);
    let away = this % 3 + 1;
    drop(engines[away as usize - 1].take());
    for _ in 0..10 {
        block_on(handle.propose(group, b"x")).expect("the other two are there");
    }
    let taken = block_on(handle.snapshot(group)).expect("it is taken");
    let status = eventually("the log before it to go", || {
        let status = block_on(handle.status(group)).expect("it is here");
        (status.base.index == taken.index).then_some(status)
    });
    assert_eq!(status.snapshot, Some(taken));

    let on_its_way = || {
        let report = block_on(handle.report()).expect("it runs");
        let mut under_way = report.shards[0].snapshots.iter();
        under_way.find(|s| s.stage == SnapshotStage::Sending && s.pieces > 1).copied()
    };
    // Whoever gets it goes away: it is given up.
    engines[away as usize - 1] = Some(start(away));
    let sent = eventually("some pieces to be there", on_its_way);
    assert_eq!((sent.group, sent.peer, sent.at), (group, Some(NodeId(away)), taken));
    drop(engines[away as usize - 1].take());
    let given_up = event(group, "a snapshot on its way was given up");
    check(&given_up);
    assert_eq!((given_up.number("index"), given_up.number("peer")), (taken.index.0, away));
    let counters = snapshots(&handle);
    assert!(counters.sends_given_up > 0 && counters.broken > 0, "{counters:?}");

    // The connection breaks, because the leader looks for the node at a wrong address for a moment.
    engines[away as usize - 1] = Some(start(away));
    let member = |address| Member { node: NodeId(away), address, shards: 1 };
    let right = addresses[away as usize - 1];
    let nowhere = nodes::addresses(1)[0];
    eventually("it to go on after a break", || {
        if on_its_way().is_some_and(|sent| !sent.broken) {
            let broken = snapshots(&handle).broken;
            handle.set_member(member(nowhere)).expect("a right entry");
            eventually("the break", || (snapshots(&handle).broken > broken).then_some(()));
            handle.set_member(member(right)).expect("a right entry");
        }
        (snapshots(&handle).resumed > 0).then_some(())
    });
    let resumed = event(group, "goes on after a break");
    check(&resumed);
    assert_eq!((resumed.number("index"), resumed.number("peer")), (taken.index.0, away));

    let sent = event(group, "a snapshot was sent");
    check(&sent);
    assert_eq!((sent.number("index"), sent.number("peer")), (taken.index.0, away));
    let installed = event(group, "snapshot installed");
    assert_eq!(installed.number("index"), taken.index.0);
    assert_eq!(installed.number("term"), taken.term.0);
    let follower = engines[away as usize - 1].as_ref().expect("it runs").handle();
    let report = block_on(follower.report()).expect("it runs");
    let timings = &report.shards[0].timings;
    assert_eq!((timings.snapshot_installed.count(), timings.snapshot_loaded.count()), (1, 1));
    let least = 40 * CHUNK as u64 * 1_000_000_000 / RATE / 4;
    assert!(timings.snapshot_installed.sum() >= least, "{:?}", timings.snapshot_installed);
    assert_eq!(report.groups[0].status.base, taken);
}

#[test]
fn a_snapshot_that_fails_says_which() {
    capture::begin();
    let group = GroupId(103);
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(&addresses(1), 1, group, dir.path());
    let engine = Engine::start(config, |_| Box::new(Broken)).expect("the node starts");
    let handle = leader([&engine], group);
    let index = block_on(handle.propose(group, b"x")).expect("it leads").index;
    assert!(block_on(handle.snapshot(group)).is_err());
    let failed = event(group, "a snapshot failed");
    check(&failed);
    assert!(failed.number("index") >= index.0 && failed.level == Level::WARN, "{failed:?}");
    assert!(failed.fields["cause"].contains("nothing to be had"), "{failed:?}");
}
