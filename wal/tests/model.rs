//! Random histories against the model, shrunk by proptest when they fail.

mod common;

use common::harness::{Harness, tiny};
use proptest::prelude::*;
use ringleader_wal::{SyncMode, WalConfig};

#[derive(Clone, Debug)]
enum Step {
    Ops(u8),
    Turn,
    Complete(u8),
    Settle,
    Tick,
    Read,
    Reopen,
    Kill,
    Crash,
    NoSpace,
    Space,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..6u8).prop_map(Step::Ops),
        6 => Just(Step::Turn),
        6 => (1..6u8).prop_map(Step::Complete),
        2 => Just(Step::Settle),
        2 => Just(Step::Tick),
        2 => Just(Step::Read),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        1 => Just(Step::Crash),
        1 => Just(Step::NoSpace),
        2 => Just(Step::Space),
    ];
    prop::collection::vec(step, 1..120)
}

fn make_space(log: &mut Harness) {
    log.disk.capacity = u64::MAX;
    // A preparation that failed before may have to be cleaned up first, and attempts grow rarer
    // while they fail.
    log.settle();
    for _ in 0..200 {
        if !log.wal.has_space() {
            log.wal.tick();
            log.settle();
        }
    }
    assert!(log.wal.has_space());
}

fn take(log: &mut Harness, step: &Step) {
    match step {
        Step::Ops(count) => (0..*count).for_each(|_| log.random_op(4)),
        Step::Turn => log.turn(),
        Step::Complete(count) => {
            for _ in 0..*count {
                log.complete_one();
            }
        }
        Step::Settle => log.settle(),
        Step::Tick => log.wal.tick(),
        Step::Read => {
            make_space(log);
            log.check_all();
        }
        Step::Reopen => {
            make_space(log);
            log.wal.close();
            log.settle();
            assert!(log.wal.is_idle());
            let durable = log.wal.durable();
            log.reopen();
            assert_eq!(log.seen.durable, durable, "a clean end loses nothing");
        }
        Step::Kill => {
            log.disk.kill(&mut log.rng);
            log.reopen();
        }
        Step::Crash => log.crash(),
        Step::NoSpace => log.disk.capacity = log.disk.used(),
        Step::Space => log.disk.capacity = u64::MAX,
    }
}

fn run(config: WalConfig, seed: u64, steps: &[Step]) {
    let mut log = Harness::new(config, seed);
    for step in steps {
        take(&mut log, step);
        log.check_bytes();
    }
    take(&mut log, &Step::Reopen);
    log.check_all();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    })]

    #[test]
    fn durable_writes(seed: u64, steps in steps()) {
        run(tiny(SyncMode::DurableWrites), seed, &steps);
    }

    #[test]
    fn coalesced_sync(seed: u64, steps in steps()) {
        run(tiny(SyncMode::CoalescedSync), seed, &steps);
    }

    #[test]
    fn other_sizes(seed: u64, depth in 1..6usize, spare in 2..4usize, steps in steps()) {
        let config = WalConfig {
            segment_bytes: 16 << 10,
            max_batch_bytes: 4 << 10,
            depth,
            eager_writes: depth.min(2),
            spare_segments: spare,
            kept_segments: spare,
            relocate_beyond: 2,
            read_bytes: 4 << 10,
            ..WalConfig::tiny()
        };
        run(config, seed, &steps);
    }
}
