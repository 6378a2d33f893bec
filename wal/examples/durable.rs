//! What the log costs: CPU per record without any disk, and durable batches on a real one.
//!
//! ```text
//! cargo run --release -p ringleader-wal --example cost             # CPU only
//! cargo run --release -p ringleader-wal --example cost -- DIR      # and the disk under DIR
//! ```

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::LocalExecutorBuilder;
use ringleader_wal::disk::{DiskOp, DiskOutput};
use ringleader_wal::driver::Disk;
use ringleader_wal::{
    Block, BlockKind, GroupId, Identity, LogIndex, LogPosition, NodeId, Run, Seq, SyncMode, Term,
    Wal, WalConfig, WalEvent,
};

const ME: Identity = Identity { cluster: 1, node: NodeId(1), shard: 0 };

fn block(group: u64, index: u64, payload: &[u8]) -> Block {
    let at = LogPosition { index: LogIndex(index), term: Term(1) };
    let run = Run { payload, ends: &[payload.len() as u32], base: 0 };
    Block::encode(GroupId(group), at, BlockKind::Operations, [run])
}

/// Carries everything out at once, in memory that is never written.
fn null_disk(wal: &mut Wal) {
    let mut ops = Vec::new();
    loop {
        wal.take_ops(&mut ops);
        if ops.is_empty() {
            break;
        }
        for (id, op) in ops.drain(..) {
            let output = match op {
                DiskOp::List => DiskOutput::Listed(Vec::new()),
                _ => DiskOutput::Done,
            };
            wal.complete(id, Ok(output));
        }
    }
    while wal.next_event().is_some() {}
}

/// Nanoseconds to stage, submit and settle one block of `bytes` payload bytes, with one block of
/// each of `groups` groups in every batch; encoding the blocks is not counted.
fn cpu(groups: u64, bytes: usize) -> f64 {
    let config = WalConfig { relocate_percent: 0, ..WalConfig::default() };
    let mut wal = Wal::open(config, ME);
    null_disk(&mut wal);
    let payload = vec![1; bytes];
    let mut spent = Duration::ZERO;
    let mut records = 0;
    for index in 1..=2_000_000 / groups.max(1) {
        let blocks: Vec<Block> = (0..groups).map(|group| block(group, index, &payload)).collect();
        let start = Instant::now();
        for block in &blocks {
            wal.append(block);
        }
        null_disk(&mut wal);
        spent += start.elapsed();
        records += groups;
        if index % 100 == 0 {
            let through = LogPosition { index: LogIndex(index - 50), term: Term(1) };
            (0..groups).for_each(|group| _ = wal.release(GroupId(group), through));
            null_disk(&mut wal);
        }
    }
    spent.as_nanos() as f64 / records as f64
}

async fn disk(dir: PathBuf, sync: SyncMode, bytes: usize, seconds: u64) {
    let config = WalConfig { sync, depth: 16, ..WalConfig::default() };
    let woken = Rc::new(Cell::new(true));
    let flag = Rc::clone(&woken);
    let disk = Disk::open(&dir, 24, Rc::new(move || flag.set(true))).await.expect("a directory");
    let mut wal = Wal::open(config, ME);
    let (mut done, mut ops) = (Vec::new(), Vec::new());
    let payload = vec![1; bytes];
    let (mut index, mut start, mut first) = (0, None, Seq(0));
    loop {
        disk.completions(&mut done);
        done.drain(..).for_each(|(id, result)| wal.complete(id, result));
        while let Some(event) = wal.next_event() {
            match event {
                WalEvent::Recovered(recovered) => {
                    first = recovered.durable;
                    start = Some(Instant::now());
                }
                WalEvent::RecoveryFailed(error) => panic!("{error}"),
                WalEvent::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
        if start.is_some_and(|start| start.elapsed() > Duration::from_secs(seconds)) {
            break;
        }
        while start.is_some() && wal.staged_bytes() < 16 * (bytes + 200) {
            index += 1;
            wal.append(&block(1, index, &payload));
            wal.take_ops(&mut ops);
            if index % 1000 == 0 {
                let through = LogPosition { index: LogIndex(index - 500), term: Term(1) };
                wal.release(GroupId(1), through);
            }
        }
        wal.take_ops(&mut ops);
        ops.drain(..).for_each(|(id, op)| disk.submit(id, op));
        while !woken.replace(false) {
            glommio::timer::sleep(Duration::from_micros(1)).await;
        }
    }
    let rate = (wal.durable().0 - first.0) as f64 / seconds as f64;
    println!("{sync:?}: {rate:.0} durable batches of {bytes} B a second; {:?}", wal.stats());
    disk.close().await;
}

fn main() {
    for (groups, bytes) in [(1, 16), (10, 16), (1000, 16), (1000, 256)] {
        println!("{groups} groups, {bytes} B: {:.0} ns a block", cpu(groups, bytes));
    }
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return;
    };
    for (name, sync) in
        [("durable", SyncMode::DurableWrites), ("coalesced", SyncMode::CoalescedSync)]
    {
        for bytes in [3000, 60_000] {
            let dir = dir.join(format!("{name}-{bytes}"));
            let executor = LocalExecutorBuilder::default()
                .ring_depth(256)
                .preempt_timer(Duration::from_millis(1));
            let run = executor.spawn(move || disk(dir, sync, bytes, 3)).expect("an executor");
            run.join().expect("no panic");
        }
    }
}
