//! The log's promises one by one, on a simulated disk.

mod common;

use common::harness::{Harness, ME, tiny};
use common::model::block;
use ringleader_wal::{
    GroupId, Identity, LogIndex, ReadError, RecoveryError, Seq, SyncMode, Wal, WalConfig,
};

const MODES: [SyncMode; 2] = [SyncMode::DurableWrites, SyncMode::CoalescedSync];

fn payload(byte: u8, len: usize) -> Vec<Vec<u8>> {
    vec![vec![byte; len]]
}

#[test]
fn records_survive_a_clean_restart() {
    for mode in MODES {
        let mut log = Harness::new(tiny(mode), 1);
        log.append(1, 1, &[b"one".to_vec(), b"two".to_vec(), vec![]]);
        log.append(2, 3, &payload(7, 5000));
        log.hard_state(1, 4, Some(2));
        log.truncate(1, 3);
        let last = log.append(1, 4, &[b"other".to_vec()]);
        log.settle();
        assert_eq!(log.seen.durable, last);
        log.check_all();
        log.reopen();
        log.check_all();
        let next = log.append(1, 4, &[b"more".to_vec()]);
        assert_eq!(next, Seq(last.0 + 1), "numbers go on");
        log.settle();
        log.reopen();
        log.check_all();
    }
}

#[test]
fn a_small_batch_waits_for_a_write_under_way_and_a_large_one_does_not() {
    for mode in MODES {
        let mut log = Harness::new(WalConfig { eager_writes: 1, ..tiny(mode) }, 21);
        log.append(1, 1, &payload(1, 10));
        log.settle();
        let before = log.wal.status().writes_in_flight;
        assert_eq!(before, 0);
        let write = |log: &mut Harness, len| {
            log.append(1, 1, &payload(2, len));
            log.turn();
            log.wal.status().writes_in_flight
        };
        assert_eq!(write(&mut log, 10), 1);
        assert_eq!(write(&mut log, 10), 1, "it waits, and grows");
        let large = log.wal.config().deep_batch_bytes;
        assert_eq!(write(&mut log, large), 2);
        let last = log.append(1, 1, &payload(3, 10));
        log.turn();
        assert_eq!(log.wal.status().writes_in_flight, 2);
        log.settle();
        assert_eq!(log.seen.durable, last, "what waited goes when the others end");
        log.check_all();
    }
}

#[test]
fn segments_fill_and_come_back() {
    for mode in MODES {
        let mut log = Harness::new(tiny(mode), 2);
        for i in 0..400u64 {
            log.append(1 + i % 3, 1, &payload(i as u8, 1500));
            if i % 5 == 4 {
                for group in 1..=3 {
                    let last = log.model.groups[&GroupId(group)].last();
                    log.release(group, last.index.0 - 1, 1);
                }
            }
            log.settle();
        }
        log.check_all();
        assert!(log.wal.stats().segments_recycled > 5, "{:?}", log.wal.stats());
        assert!(log.wal.segments() <= 5, "{} segments", log.wal.segments());
        assert!(log.disk.segment_files().len() <= 7);
        log.reopen();
        log.check_all();
    }
}

#[test]
fn quiet_group_does_not_pin_the_disk() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 3);
    log.append(9, 1, &[b"quiet".to_vec(), b"group".to_vec()]);
    log.hard_state(8, 5, Some(1));
    for i in 0..300u64 {
        let last = log.append(1, 1, &payload(i as u8, 2500));
        assert!(last > Seq(0));
        if i > 2 {
            log.release(1, i - 2, 1);
        }
        log.settle();
    }
    let stats = *log.wal.stats();
    assert!(stats.relocated_blocks > 0 && stats.restated > 0, "{stats:?}");
    assert!(log.wal.segments() <= 5);
    log.check_all();
    log.reopen();
    log.check_all();
}

#[test]
fn idle_mark_is_written_once() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 4);
    log.append(1, 1, &payload(1, 10));
    log.settle();
    for _ in 0..20 {
        log.wal.tick();
        log.settle();
    }
    assert_eq!(log.wal.stats().marks, 1);
    log.append(1, 1, &payload(2, 10));
    log.settle();
    log.wal.close();
    log.settle();
    assert!(log.wal.is_idle());
    assert_eq!(log.wal.stats().marks, 2);
    log.reopen();
}

#[test]
fn reads_answer_precisely() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 5);
    let many: Vec<Vec<u8>> = (0..50u8).map(|i| vec![i; 20]).collect();
    log.append(1, 1, &many);
    // Asked before it is even submitted: the answer waits until it is durable.
    let early = log.wal.read(GroupId(1), LogIndex(7), 1);
    assert!(log.loaded.is_empty());
    log.settle();
    let blocks = log.loaded.remove(&early).unwrap().unwrap();
    assert_eq!((blocks[0].first_index(), blocks[0].last_index()), (LogIndex(7), LogIndex(50)));
    log.truncate(1, 31);
    log.release(1, 10, 1);
    let ids = [5, 10, 11, 30, 31].map(|index| log.wal.read(GroupId(1), LogIndex(index), 1 << 20));
    let nobody = log.wal.read(GroupId(77), LogIndex(1), 10);
    log.settle();
    let mut answers = ids.map(|id| log.loaded.remove(&id).unwrap()).into_iter();
    let base = LogIndex(10);
    for index in [5, 10].map(LogIndex) {
        assert_eq!(answers.next().unwrap(), Err(ReadError::Released { index, base }));
    }
    for first in [11, 30].map(LogIndex) {
        let blocks = answers.next().unwrap().unwrap();
        assert_eq!((blocks[0].first_index(), blocks[0].last_index()), (first, LogIndex(30)));
    }
    let last = LogIndex(30);
    let beyond = ReadError::Beyond { index: LogIndex(31), last };
    assert_eq!(answers.next().unwrap(), Err(beyond));
    let unknown = ReadError::Beyond { index: LogIndex(1), last: LogIndex(0) };
    assert_eq!(log.loaded.remove(&nobody).unwrap(), Err(unknown));
}

/// Reads one block after the other, and returns the disk reads that it took.
fn read_block_by_block(log: &mut Harness, group: u64, last: u64) -> u64 {
    let before = log.wal.stats().reads;
    for index in 1..=last {
        let read = log.wal.read(GroupId(group), LogIndex(index), 1);
        log.settle();
        let blocks = log.loaded.remove(&read).expect("an answer").expect("the entry is there");
        assert_eq!((blocks.len(), blocks[0].first_index()), (1, LogIndex(index)));
    }
    log.wal.stats().reads - before
}

#[test]
fn small_portions_go_on_where_the_one_before_ended() {
    let config = WalConfig { segment_bytes: 1 << 20, ..tiny(SyncMode::DurableWrites) };
    let mut log = Harness::new(config, 15);
    for i in 0..200u64 {
        log.append(1 + i % 2, 1, &payload(i as u8, 10));
        log.settle();
    }
    // Each look at a batch is one read of a page, or two if the batch before it comes first.
    let reads = read_block_by_block(&mut log, 1, 100);
    assert!(reads <= 300, "{reads} reads for 100 batches, 200 with those between");
    // What was read once is not taken for what stands there later.
    log.truncate(1, 50);
    for i in 0..51u64 {
        log.append(1, 2, &payload(100 + i as u8, 10));
        log.settle();
    }
    read_block_by_block(&mut log, 1, 100);
    log.check_all();
}

#[test]
fn truncation_during_a_read_is_noticed() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 6);
    for i in 0..8 {
        log.append(1, 1, &payload(i, 3000));
    }
    log.settle();
    let read = log.wal.read(GroupId(1), LogIndex(1), 1 << 20);
    log.turn();
    assert!(log.disk.in_flight() > 0);
    log.truncate(1, 3);
    log.append(1, 2, &payload(99, 3000));
    log.settle();
    let blocks = log.loaded.remove(&read).unwrap().unwrap();
    let terms: Vec<u64> = blocks.iter().map(|block| block.term().0).collect();
    assert!(terms == [1, 1] || terms == [1, 1, 2], "{terms:?}");
}

#[test]
fn failed_write_or_sync_poisons() {
    for mode in MODES {
        for sync in [false, true] {
            if sync && mode == SyncMode::DurableWrites {
                continue;
            }
            let mut log = Harness::new(tiny(mode), 7);
            log.append(1, 1, &payload(1, 10));
            log.settle();
            let durable = log.seen.durable;
            if sync {
                log.disk.fail_sync = true;
            } else {
                log.disk.fail_write = true;
            }
            for i in 0..5 {
                log.append(1, 1, &payload(i, 6000));
                log.turn();
            }
            let waiting = log.wal.read(GroupId(1), LogIndex(3), 10);
            log.settle();
            let error = log.seen.failed.clone().expect("poisoned");
            assert!(error.to_string().contains("injected"), "{error}");
            assert_eq!(log.loaded.remove(&waiting), Some(Err(ReadError::Poisoned)));
            log.append(1, 1, &payload(9, 10));
            log.settle();
            assert_eq!(log.wal.staged_bytes(), 0);
            assert!(log.wal.durable() >= durable && log.wal.is_idle());
            // What was durable is read even now.
            let old = log.wal.read(GroupId(1), LogIndex(1), 10);
            log.settle();
            assert!(log.loaded.remove(&old).unwrap().is_ok());
            log.crash();
        }
    }
}

#[test]
fn no_space_comes_and_goes() {
    for mode in MODES {
        let mut log = Harness::new(tiny(mode), 8);
        log.settle();
        log.disk.capacity = log.disk.used();
        let mut last = Seq(0);
        for i in 0..40 {
            last = log.append(1, 1, &payload(i, 3000));
            log.settle();
        }
        assert_eq!((log.seen.exhausted, log.seen.available), (1, 0));
        assert!(!log.wal.has_space() && log.seen.durable < last && log.seen.failed.is_none());
        let waiting = log.wal.staged_bytes();
        for _ in 0..3 {
            log.wal.tick();
            log.settle();
        }
        assert_eq!((log.seen.exhausted, log.wal.staged_bytes()), (1, waiting));
        log.disk.capacity = u64::MAX;
        // Attempts grow rarer while they fail, but a second or so is the longest pause.
        for _ in 0..200 {
            log.wal.tick();
            log.settle();
        }
        assert!(log.wal.has_space());
        assert!(log.seen.durable >= last);
        assert_eq!(log.seen.available, 1);
        assert_eq!(log.wal.staged_bytes(), 0);
        log.check_all();
        log.crash();
        log.check_all();
    }
}

#[test]
fn foreign_log_is_refused() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 9);
    log.append(1, 1, &payload(1, 10));
    log.settle();
    let other = Identity { shard: 4, ..ME };
    log.wal = Wal::open(log.config.clone(), other);
    match log.recover() {
        Err(RecoveryError::Foreign { found, expected, .. }) => {
            assert_eq!((found, expected), (ME, other));
        }
        result => panic!("{result:?}"),
    }
}

#[test]
fn restarts_do_not_pile_up_segments() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 10);
    log.append(1, 1, &payload(1, 3000));
    log.hard_state(2, 1, None);
    log.settle();
    for i in 0..60 {
        if i % 2 == 0 {
            log.hard_state(2, 2 + i, None);
        }
        log.settle();
        log.wal.tick();
        log.wal.tick();
        log.settle();
        log.crash();
        assert!(log.wal.segments() <= 6, "{} segments at restart {i}", log.wal.segments());
        assert!(log.disk.segment_files().len() <= 9, "{:?}", log.disk.segment_files());
    }
    log.check_all();
}

#[test]
fn segment_size_may_change() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 11);
    for i in 0..30 {
        log.append(1, 1, &payload(i, 3000));
        log.settle();
    }
    log.config.segment_bytes = 48 << 10;
    log.reopen();
    log.check_all();
    for i in 0..100u64 {
        log.append(1, 1, &payload(i as u8, 3000));
        log.release(1, 29 + i, 1);
        log.settle();
    }
    log.check_all();
    let lengths: Vec<usize> =
        log.disk.segment_files().into_iter().map(|name| log.disk.bytes(name).len()).collect();
    assert!(lengths.iter().all(|&len| len == 48 << 10), "{lengths:?}");
}

#[test]
fn read_error_on_recovery_is_reported() {
    let mut log = Harness::new(WalConfig::tiny(), 12);
    log.append(1, 1, &payload(1, 10));
    log.settle();
    log.disk.fail_reads = true;
    log.wal = Wal::open(log.config.clone(), ME);
    assert!(matches!(log.recover(), Err(RecoveryError::Disk(_))));
    log.disk.fail_reads = false;
    log.disk.crash(&mut common::Rng(1));
    log.wal = Wal::open(log.config.clone(), ME);
    log.recover().unwrap();
}

/// Recovery finds a quiet group's configurations wherever the log has moved them, but not those
/// that were truncated or released.
#[test]
fn configurations_move_with_their_group() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 8);
    log.configuration(9, 1, b"released");
    log.append(9, 1, &payload(1, 10));
    log.release(9, 1, 1);
    log.configuration(9, 1, b"kept");
    log.configuration(9, 1, b"truncated");
    log.truncate(9, 4);
    log.append(9, 2, &payload(2, 10));
    for i in 0..300u64 {
        log.append(1, 1, &payload(i as u8, 2500));
        if i > 2 {
            log.release(1, i - 2, 1);
        }
        log.settle();
    }
    assert!(log.wal.stats().relocated_blocks > 0, "{:?}", log.wal.stats());
    log.reopen();
    let kept = &log.model.groups[&GroupId(9)].configurations;
    assert_eq!(kept.iter().map(|block| block.first_index()).collect::<Vec<_>>(), [LogIndex(3)]);
    log.check_all();
}

/// A group that writes little is asked what it has beyond the newest segments, however much others write.
#[test]
fn the_log_says_what_was_appended_before_its_newest_segments() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 12);
    let (busy, quiet, segment) = (GroupId(1), GroupId(2), log.config.segment_bytes);
    for i in 0..60u64 {
        log.append(1, 1, &payload(i as u8, 4000));
        if i % 20 == 0 {
            log.append(2, 1, &payload(i as u8, 100));
        }
        log.settle();
    }
    let old = |log: &Harness, group, segments| log.wal.appended_before(group, segments * segment);
    assert_eq!(old(&log, busy, 1000), LogIndex(0), "nothing is that old");
    assert_eq!(old(&log, GroupId(7), 1), LogIndex(0));
    let [near, far] = [2, 4].map(|segments| old(&log, busy, segments));
    assert!(LogIndex(0) < far && far < near && near < LogIndex(60), "{far} and {near}");
    assert_eq!(old(&log, quiet, 1), LogIndex(3), "all of it is");
    log.release(1, far.0, 1);
    assert_eq!(old(&log, busy, 4), far, "what is old is gone");
    log.reopen();
    assert_eq!(old(&log, quiet, 1), LogIndex(3));
}

#[test]
fn the_log_says_what_its_tail_takes_and_leaves_snapshots_alone() {
    use ringleader_wal::disk::{DiskOp, FileName, OpId};
    use ringleader_wal::{LogPosition, Term};
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 9);
    for i in 0..40u64 {
        log.append(1, 1, &payload(i as u8, 4000));
        log.append(2, 1, &payload(i as u8, 100));
    }
    log.settle();
    let (group, all) = (GroupId(1), log.wal.bytes_after(GroupId(1), LogIndex(0)));
    assert!((160_000..170_000).contains(&all), "{all}");
    assert_eq!(log.wal.bytes_after(group, LogIndex(40)), 0);
    assert_eq!(log.wal.tail(group, LogIndex(40), u64::MAX), LogIndex(0));
    assert_eq!(log.wal.tail(group, LogIndex(40), 0), LogIndex(40));
    let after = log.wal.tail(group, LogIndex(40), 50_000);
    let held = log.wal.bytes_after(group, after);
    assert!(LogIndex(20) < after && held <= 50_000, "{held} bytes after {after}");
    assert_eq!(log.wal.bytes_after(GroupId(7), LogIndex(0)), 0);
    let at = LogPosition { index: LogIndex(3), term: Term(1) };
    for file in [FileName::Snapshot(group, at), FileName::Partial(group, at)] {
        log.disk.submit(OpId(1 << 63), DiskOp::Create { file, len: 0 });
        log.disk.complete_one(&mut log.rng).expect("a file is created").1.expect("it is");
    }
    log.reopen();
    log.check_all();
}

/// A destroyed group leaves nothing but a record that it was, which outlives every segment.
#[test]
fn a_destroyed_group_stays_destroyed_and_its_space_comes_back() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 5);
    log.create(9);
    log.create(8);
    log.hard_state(9, 3, Some(2));
    log.append(9, 3, &[vec![7; 2000], vec![8; 2000]]);
    log.configuration(9, 3, b"members");
    log.release(9, 1, 3);
    log.settle();
    let read = log.wal.read(GroupId(9), LogIndex(2), 1);
    log.destroy(9);
    log.settle();
    assert!(log.loaded.remove(&read).expect("an answer").is_err());
    log.crash();
    assert!(log.wal.is_destroyed(GroupId(9)) && !log.wal.is_destroyed(GroupId(1)));
    // Others go on until the segment with the record is needed no more, several times over.
    let restated = log.wal.stats().restated;
    for i in 1..200 {
        log.append(1, 1, &[vec![1; 1000]]);
        log.release(1, i, 1);
        log.settle();
    }
    assert!(log.wal.stats().restated > restated, "it is written again");
    assert!(log.wal.segments() <= 4, "{} segments", log.wal.segments());
    log.reopen();
    assert!(log.wal.is_destroyed(GroupId(9)));
}

#[test]
#[should_panic(expected = "does not follow entry")]
fn nothing_is_appended_to_a_destroyed_group() {
    let mut log = Harness::new(tiny(SyncMode::DurableWrites), 6);
    log.append(1, 1, &[vec![1]]);
    log.wal.destroy(GroupId(1));
    log.wal.append(&block(1, 2, 1, &[vec![2]]));
}
