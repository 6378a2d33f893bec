//! The log on a real disk, with glommio.

mod common;

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use common::harness::{ME, tiny};
use common::model::block;
use glommio::LocalExecutorBuilder;
use glommio::timer::sleep;
use ringleader_wal::driver::Disk;
use ringleader_wal::{
    GroupId, HardState, LogIndex, LogPosition, Recovered, Seq, SyncMode, Term, Wal, WalEvent,
};

struct Driven {
    wal: Wal,
    disk: Disk,
    woken: Rc<Cell<bool>>,
}

impl Driven {
    async fn open(dir: &Path, mode: SyncMode) -> (Self, Recovered) {
        let woken = Rc::new(Cell::new(false));
        let flag = Rc::clone(&woken);
        let disk = Disk::open(dir, 12, Rc::new(move || flag.set(true))).await.unwrap();
        let mut driven = Self { wal: Wal::open(tiny(mode), ME), disk, woken };
        let recovered = driven
            .until(|event| match event {
                WalEvent::Recovered(recovered) => Some(recovered),
                other => panic!("{other:?}"),
            })
            .await;
        (driven, recovered)
    }

    fn turn(&mut self) {
        let mut done = Vec::new();
        self.disk.completions(&mut done);
        for (id, result) in done {
            self.wal.complete(id, result);
        }
        let mut ops = Vec::new();
        self.wal.take_ops(&mut ops);
        ops.into_iter().for_each(|(id, op)| self.disk.submit(id, op));
    }

    async fn until<T>(&mut self, mut found: impl FnMut(WalEvent) -> Option<T>) -> T {
        loop {
            self.turn();
            while let Some(event) = self.wal.next_event() {
                if let Some(found) = found(event) {
                    return found;
                }
            }
            // A timer keeps the executor from parking for good; see the driver's notes.
            while !self.woken.replace(false) {
                sleep(Duration::from_micros(50)).await;
            }
        }
    }

    async fn durable(&mut self, seq: Seq) {
        self.until(|event| matches!(event, WalEvent::Durable(at) if at >= seq).then_some(())).await;
    }

    async fn close(mut self) {
        self.wal.close();
        self.turn();
        while !self.wal.is_idle() {
            sleep(Duration::from_micros(50)).await;
            self.turn();
            while self.wal.next_event().is_some() {}
        }
        self.disk.close().await;
    }
}

async fn write_reopen_read(dir: &Path, mode: SyncMode) {
    let (mut log, recovered) = Driven::open(dir, mode).await;
    assert_eq!(recovered, Recovered::default());
    let group = GroupId(7);
    let state = HardState { term: Term(2), voted_for: None };
    log.wal.set_hard_state(group, state);
    let payloads: Vec<Vec<u8>> = (0..60u8).map(|i| vec![i; 1000]).collect();
    for (i, pair) in payloads.chunks(2).enumerate() {
        let seq = log.wal.append(&block(7, 1 + 2 * i as u64, 2, pair));
        log.durable(seq).await;
    }
    log.wal.release(group, LogPosition { index: LogIndex(30), term: Term(2) });
    let last = log.wal.truncate(group, LogIndex(59));
    log.durable(last).await;
    log.close().await;

    let (mut log, recovered) = Driven::open(dir, mode).await;
    assert!(recovered.durable >= last && recovered.torn.is_none());
    let found = &recovered.groups[0];
    assert_eq!((found.group, found.hard_state), (group, state));
    assert_eq!((found.base.index, found.last_index), (LogIndex(30), LogIndex(58)));
    let mut next = 31;
    // An answer may be short while blocks are being rewritten forward.
    while next < 59 {
        let read = log.wal.read(group, LogIndex(next), 1 << 20);
        let blocks = log
            .until(|event| match event {
                WalEvent::Loaded { id, result } if id == read => Some(result.unwrap()),
                _ => None,
            })
            .await;
        for block in &blocks {
            assert_eq!(block.first_index(), LogIndex(next));
            for index in next..=block.last_index().0 {
                assert_eq!(block.payload(LogIndex(index)), payloads[index as usize - 1]);
            }
            next = block.last_index().0 + 1;
        }
    }
    assert_eq!(next, 59);
    log.close().await;
}

#[test]
fn both_modes_on_a_real_disk() {
    for mode in [SyncMode::DurableWrites, SyncMode::CoalescedSync] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = dir.path().join("made/by/open");
        let executor = LocalExecutorBuilder::default().io_memory(1 << 20);
        let run = executor.spawn(move || async move { write_reopen_read(&path, mode).await });
        run.unwrap().join().unwrap();
    }
}

#[test]
fn directory_is_locked() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().to_path_buf();
    let executor = LocalExecutorBuilder::default().io_memory(1 << 20);
    let run = executor.spawn(move || async move {
        let disk = Disk::open(&path, 1, Rc::new(|| ())).await.unwrap();
        let second = Disk::open(&path, 1, Rc::new(|| ())).await;
        assert!(second.err().unwrap().to_string().contains("locking"));
        disk.close().await;
        Disk::open(&path, 1, Rc::new(|| ())).await.unwrap().close().await;
    });
    run.unwrap().join().unwrap();
}
