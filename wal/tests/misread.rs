//! Reads that bring less than was asked for, or the bytes of another place.

mod common;

use bytes::Bytes;
use common::harness::{Harness, ME, tiny};
use ringleader_wal::disk::{DiskError, DiskOp, DiskOutput, OpId, PAGE};
use ringleader_wal::{GroupId, LogIndex, RecoveryError, SyncMode, Wal, WalEvent};

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
