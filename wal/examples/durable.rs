//! How many batches a second the log makes durable on a real disk, in each of its modes. What it
//! costs the CPU is `benches/append.rs`'s to say.
//!
//! ```text
//! cargo run --release -p ringleader-wal --example durable -- DIR
//! ```

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::LocalExecutorBuilder;
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
    let dir = std::env::args_os().nth(1).map(PathBuf::from).expect("a directory to write to");
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
