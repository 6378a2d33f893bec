//! What the simulator found in recovery and reads: short reads, reads of another place, a log of
//! which nothing was ever durable, and a header that is lost.

mod common;

use bytes::Bytes;
use common::harness::{Harness, ME, tiny};
use ringleader_wal::disk::{DiskError, DiskOp, DiskOutput, FileName, OpId, PAGE};
use ringleader_wal::{GroupId, LogIndex, RecoveryError, Seq, SyncMode, Wal, WalEvent};

type Tamper<'a> = &'a dyn Fn(&DiskOp, Bytes) -> Bytes;

/// Carries the log's operations out, and what is read through `tamper`, until nothing is left.
fn run(log: &mut Harness, tamper: Tamper<'_>) -> Vec<WalEvent> {
    let (mut ops, mut events) = (Vec::new(), Vec::new());
    loop {
        log.wal.take_ops(&mut ops);
        if ops.is_empty() {
            return events;
        }
        for (id, op) in std::mem::take(&mut ops) {
            let result = carry_out(log, id, &op).map(|output| match output {
                DiskOutput::Read(bytes) => DiskOutput::Read(tamper(&op, bytes)),
                other => other,
            });
            log.wal.complete(id, result);
            events.extend(std::iter::from_fn(|| log.wal.next_event()));
        }
    }
}

fn carry_out(log: &mut Harness, id: OpId, op: &DiskOp) -> Result<DiskOutput, DiskError> {
    log.disk.submit(id, op.clone());
    log.disk.complete_one(&mut common::Rng(1)).expect("one is in flight").1
}

/// A log whose only batch no later one speaks of.
fn one_batch() -> Harness {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 5);
    log.append(1, 1, &[b"acknowledged".to_vec()]);
    log.settle();
    log.wal = Wal::open(log.config.clone(), ME);
    log
}

/// Simulator seed 195: the segment was taken for one without a header, and its batch, which had
/// been acknowledged, for a torn one.
#[test]
fn short_read_of_a_header_ends_recovery() {
    let mut log = one_batch();
    let events = run(&mut log, &|op, bytes| match op {
        DiskOp::Read { offset: 0, .. } => bytes.slice(..PAGE / 2),
        _ => bytes,
    });
    assert!(
        matches!(&events[..], [WalEvent::RecoveryFailed(RecoveryError::Disk(_))]),
        "{events:?}"
    );
    let mut log = one_batch();
    let events = run(&mut log, &|_, bytes| bytes);
    let Some(WalEvent::Recovered(recovered)) = events.first() else { panic!("{events:?}") };
    assert_eq!(recovered.groups[0].last_index, LogIndex(1));
}

/// Simulator seed 13: another batch of the same segment came, the entry was not in it, and the read
/// waited for one that was still to be written.
#[test]
fn a_batch_of_another_place_is_no_answer() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 6);
    for group in [2, 1] {
        log.append(group, 1, &[b"an entry".to_vec()]);
        log.settle();
    }
    let (file, first) = (log.disk.written[0].0, PAGE);
    let elsewhere = Bytes::copy_from_slice(&log.disk.bytes(file)[first..first + PAGE]);
    log.wal.read(GroupId(1), LogIndex(1), 1);
    let events = run(&mut log, &|_, bytes| elsewhere.slice(..bytes.len()));
    let failed = |event: &WalEvent| matches!(event, WalEvent::Loaded { result: Err(_), .. });
    assert!(events.iter().any(failed), "{events:?}");
}

/// Simulator seed 1047: the header of the first segment is still being written when a second one
/// is begun. Nothing was durable, and no segment is missing.
#[test]
fn a_log_of_which_nothing_was_durable_opens() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 7);
    log.settle();
    let (mut ops, mut held, mut second) = (Vec::new(), 0, false);
    for step in 0..200 {
        log.wal.take_ops(&mut ops);
        for (id, op) in ops.drain(..) {
            if matches!(op, DiskOp::Write { offset: 0, .. }) {
                second |= held > 0;
                held += 1;
                if held == 1 {
                    // It never gets to the disk.
                    continue;
                }
            }
            let result = carry_out(&mut log, id, &op);
            log.wal.complete(id, result);
        }
        if !second {
            log.wal.append(&common::model::block(1, step + 1, 1, &[vec![7; 3000]]));
        }
    }
    assert!(second, "a second segment is begun");
    assert_eq!(log.wal.durable(), Seq(0));
    log.wal = Wal::open(log.config.clone(), ME);
    let events = run(&mut log, &|_, bytes| bytes);
    assert!(matches!(&events[..], [WalEvent::Recovered(_), ..]), "{events:?}");
}

/// Simulator seed 3001154: the disk loses a segment's header. Whatever stands in the segment looks
/// like the log's torn end until a second batch says that the first had been durable.
#[test]
fn a_lost_header_is_noticed_from_the_second_batch_on() {
    let without_header = |op: &DiskOp, bytes: Bytes| match op {
        DiskOp::Read { offset: 0, .. } => Bytes::from(vec![0; bytes.len()]),
        _ => bytes,
    };
    let mut log = one_batch();
    let events = run(&mut log, &without_header);
    let Some(WalEvent::Recovered(recovered)) = events.first() else { panic!("{events:?}") };
    assert_eq!(recovered.durable, Seq(0));

    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 5);
    for index in [1, 2] {
        log.append(1, index, &[b"acknowledged".to_vec()]);
        log.settle();
    }
    let file = log.disk.written[0].0;
    log.wal = Wal::open(log.config.clone(), ME);
    let events = run(&mut log, &without_header);
    let [WalEvent::RecoveryFailed(RecoveryError::Corrupt { file: named, offset: 0, reason, .. })] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((*named, *reason), (file, "the segment's header is damaged"));
}

/// Makes the next batch the first one of a segment.
fn fill_segment(log: &mut Harness) {
    let is_full = |log: &Harness| {
        let last = log.disk.written.last();
        last.is_some_and(|(_, offset, len)| offset + len == log.config.segment_bytes)
    };
    while !is_full(log) {
        log.append(1, 1, &[vec![1; 100]]);
        log.settle();
    }
}

/// The file of the newest segment.
fn newest_file(log: &Harness) -> FileName {
    log.disk.written.last().expect("something was written").0
}

/// Simulator seed 1010871: emptying a segment, the log read another file, took an entry that had been
/// truncated since for the one that stands in its place, and moved it forward.
#[test]
fn what_is_read_of_another_segment_is_not_moved_forward() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 6);
    fill_segment(&mut log);
    // Behind another one: where it is looked for, or later in its batch.
    log.append(1, 1, &[b"first".to_vec()]);
    log.append(9, 1, &[b"old".to_vec()]);
    log.settle();
    let old = log.disk.bytes(newest_file(&log)).to_vec();
    log.truncate(9, 1);
    fill_segment(&mut log);
    log.append(9, 2, &[b"new".to_vec()]);
    log.settle();
    let file = newest_file(&log);
    let misdirected = |op: &DiskOp, bytes: Bytes| match op {
        DiskOp::Read { file: read, offset, .. } if *read == file => {
            Bytes::copy_from_slice(&old[*offset as usize..][..bytes.len()])
        }
        _ => bytes,
    };
    for _ in 0..100 {
        let stats = log.wal.stats();
        if stats.relocations_failed > 0 || stats.relocated_blocks > 0 {
            break;
        }
        log.append(1, 1, &[vec![1; 2500]]);
        let last = log.model.groups[&GroupId(1)].last();
        log.release(1, last.index.0 - 1, 1);
        run(&mut log, &misdirected);
    }
    assert_eq!(log.wal.stats().relocations_failed, 1, "{:?}", log.wal.stats());
    log.check_all();
}
