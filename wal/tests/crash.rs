//! Power failures at every point of recorded runs, and damage at rest.
//!
//! What holds after any crash: recovery succeeds, has every batch that was reported durable, and
//! holds exactly what was staged in the batches up to the one it says is the last.

mod common;

use common::Rng;
use common::harness::{Harness, ME, tiny};
use ringleader_wal::disk::FileName;
use ringleader_wal::{GroupId, LogIndex, RecoveryError, SyncMode, Wal};

const MODES: [SyncMode; 2] = [SyncMode::DurableWrites, SyncMode::CoalescedSync];

/// Takes `images` crash images now and recovers each, some after a second crash during the first
/// recovery; then each is written to and crashes again.
fn check_images(log: &Harness, seed: u64, images: u64) {
    let reported = log.seen.durable;
    for i in 0..images {
        let seed = seed.wrapping_mul(1000) + i;
        let mut image = log.crash_image(seed);
        if i % 2 == 1 {
            // Recovery is cut short, by a power failure or by the end of the process.
            for _ in 0..image.rng.below(30) {
                image.turn();
                image.complete_one();
            }
            if image.rng.chance(50) {
                image.disk.crash(&mut image.rng);
            } else {
                image.disk.kill(&mut image.rng);
            }
            image.note_recovery();
            let model = image.model.clone();
            image = Harness::on(image.disk, image.config, seed ^ 1);
            image.model = model;
        }
        image.recover_and_check(reported);
        if i % 3 == 0 {
            image.check_all();
        }
        // Write on, so that leftovers of the first life meet a second one, and crash again.
        for _ in 0..image.rng.below(6) {
            image.random_op(3);
            image.turn();
            if image.rng.chance(50) {
                image.complete_one();
            }
        }
        image.crash();
        image.check_all();
    }
}

fn run(mode: SyncMode, seed: u64, steps: u64, images: u64) {
    let mut log = Harness::new(tiny(mode), seed);
    for step in 0..steps {
        for _ in 0..log.rng.below(4) {
            log.random_op(3);
        }
        log.turn();
        if log.rng.chance(10) {
            log.wal.tick();
        }
        for _ in 0..log.rng.below(4) {
            log.complete_one();
            check_images(&log, seed * 10_000 + step, images);
        }
    }
    log.settle();
    log.check_all();
}

#[test]
fn every_boundary_with_durable_writes() {
    for seed in 1..=4 {
        run(SyncMode::DurableWrites, seed, 90, 2);
    }
}

#[test]
fn every_boundary_with_coalesced_sync() {
    for seed in 11..=14 {
        run(SyncMode::CoalescedSync, seed, 90, 2);
    }
}

/// Long lives: segments are recycled many times, with crashes and ends of the process between.
#[test]
fn many_lives() {
    for mode in MODES {
        for seed in 21..=26 {
            let mut log = Harness::new(tiny(mode), seed);
            for _ in 0..25 {
                for _ in 0..log.rng.below(40) {
                    for _ in 0..log.rng.below(4) {
                        log.random_op(4);
                    }
                    log.turn();
                    if log.rng.chance(5) {
                        log.wal.tick();
                    }
                    for _ in 0..log.rng.below(5) {
                        log.complete_one();
                    }
                }
                if log.rng.chance(30) {
                    log.disk.kill(&mut log.rng);
                    log.reopen();
                } else {
                    log.crash();
                }
                log.check_all();
            }
            assert!(log.disk.segment_files().len() <= 40);
        }
    }
}

/// A log of several segments, clean, with the places of its durable batches and headers.
fn recorded(mode: SyncMode, seed: u64, mark: bool) -> Harness {
    let mut log = Harness::new(tiny(mode), seed);
    for i in 0..12u64 {
        log.append(1 + i % 2, 1, &[vec![i as u8; 2500], vec![1; 3]]);
        log.hard_state(1, i, None);
        log.settle();
    }
    if mark {
        log.wal.tick();
        log.wal.tick();
        log.settle();
    }
    log
}

fn recover_flipped(
    log: &Harness,
    name: FileName,
    byte: u64,
    bit: u32,
) -> Result<(), RecoveryError> {
    let mut copy = Harness::on(log.disk.clone(), log.config.clone(), 1);
    copy.disk.flip(name, byte, bit);
    copy.recover().map(drop)
}

/// Every part of every batch and header: a flipped bit is refused, with the place.
#[test]
fn flipped_bits_are_refused_with_their_place() {
    for mode in MODES {
        let log = recorded(mode, 31, true);
        let written = log.disk.written.clone();
        let mut rng = Rng(5);
        // The last write is the mark itself: a flip there is a torn mark, and harmless.
        for &(file, offset, len) in &written[..written.len() - 1] {
            let mut bytes: Vec<u64> = (0..64).map(|_| rng.below(len)).collect();
            bytes.extend([0, 4, 8, 16, 24, 32, 40, 44, 48, 52, 56, 63, 64, 72, 100, len - 1]);
            for byte in bytes {
                let bit = rng.below(8) as u32;
                let result = recover_flipped(&log, file, offset + byte, bit);
                match result {
                    Err(RecoveryError::Corrupt { file: named, offset: at, .. }) => {
                        assert_eq!((named, at), (file, offset), "byte {byte} bit {bit}");
                    }
                    Err(RecoveryError::MissingSegment { file: named, .. }) => {
                        assert_eq!((named, 0), (Some(file), offset), "byte {byte} bit {bit}");
                    }
                    other => panic!("{file} {offset}+{byte} bit {bit}: {other:?}"),
                }
            }
        }
    }
}

/// Without a mark the last batch may be lost to a flip, as the documentation says; no other.
#[test]
fn only_the_last_batch_may_vanish_unmarked() {
    let log = recorded(SyncMode::DurableWrites, 32, false);
    let written = log.disk.written.clone();
    let last = written.len() - 1;
    for (i, &(file, offset, _)) in written.iter().enumerate() {
        let result = recover_flipped(&log, file, offset + 20, 3);
        assert_eq!(result.is_ok(), i == last, "write {i}: {result:?}");
    }
}

/// Two bits, anywhere in the files: never a panic, and never a log that is not what was written.
#[test]
fn random_damage_never_invents() {
    let log = recorded(SyncMode::DurableWrites, 33, true);
    let files = log.disk.segment_files();
    let mut rng = Rng(77);
    for _ in 0..300 {
        let mut copy = Harness::on(log.disk.clone(), log.config.clone(), 1);
        for _ in 0..2 {
            let file = files[rng.below(files.len() as u64) as usize];
            let byte = rng.below(copy.disk.bytes(file).len() as u64);
            copy.disk.flip(file, byte, rng.below(8) as u32);
        }
        copy.model = log.model.clone();
        if let Ok(recovered) = copy.recover() {
            copy.model.forget_after(recovered.durable);
            copy.model.check(&recovered);
        }
    }
}

/// Damage behind recovery's back is found by the read.
#[test]
fn read_of_damaged_entries_fails() {
    let mut log = recorded(SyncMode::DurableWrites, 34, true);
    let &(file, offset, _) =
        log.disk.written.iter().find(|(_, offset, _)| *offset > 0).expect("a batch");
    log.disk.flip(file, offset + 300, 0);
    let read = log.wal.read(GroupId(1), LogIndex(1), 10);
    log.settle();
    let error = log.loaded.remove(&read).unwrap().unwrap_err();
    assert!(error.to_string().contains(&file.to_string()), "{error}");
}

/// A directory that holds a half-prepared segment and foreign files' leftovers opens.
#[test]
fn leftovers_of_preparation_are_removed() {
    for steps in 0..40 {
        let mut log = Harness::on(Default::default(), tiny(SyncMode::DurableWrites), steps);
        log.recover().unwrap();
        for _ in 0..steps {
            log.turn();
            log.complete_one();
        }
        log.disk.kill(&mut log.rng);
        log.wal = Wal::open(log.config.clone(), ME);
        log.recover().unwrap();
        log.append(1, 1, &[b"x".to_vec()]);
        log.settle();
        log.crash();
        log.check_all();
    }
}
