//! Seeded simulation of whole clusters: one to five nodes of one to three shards, each the
//! production shard with its protocol, log and codec, in one thread on simulated disks, network and
//! clocks.
//!
//! ```text
//! cargo test -p ringleader --test sim                                    a fixed set of seeds
//! cargo test --release -p ringleader --test sim -- --seeds N --start S   N seeds from S, all cores
//! cargo test --release -p ringleader --test sim -- --seed X [--trace]    one, readably
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `plan` | what a seed decides beforehand: cluster, settings, rates |
//! | `world` | the queue of events, and a run from trouble to peace |
//! | `process`, `effects` | a node, driven as the runtime drives it; its crashes |
//! | `seats` | which shard of which node keeps a group |
//! | `disk`, `file` | sectors and directory entries that a crash may undo |
//! | `disk_faults` | operations that fail, and crashes around them |
//! | `damage`, `atlas` | what disks do to settled data, and how much of it a run bears |
//! | `network`, `links` | connections made of bytes, and what happens to them |
//! | `faults` | what goes wrong, and when |
//! | `clients`, `machine` | callers, and what their operations are applied to |
//! | `checker`, `history` | what must hold after every step |

use std::io::{IsTerminal as _, Write as _};
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

// The codec is private to the engine; the checker reads with it what a node says. Its paths find
// the protocol here as they do there.
use ringleader::raft;

#[path = "sim/atlas.rs"]
mod atlas;
#[path = "sim/checker.rs"]
mod checker;
#[path = "sim/clients.rs"]
mod clients;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a copy of a library module, of which the decoder is used"
)]
#[path = "../src/codec.rs"]
mod codec;
#[path = "sim/damage.rs"]
mod damage;
#[path = "sim/disk.rs"]
mod disk;
#[path = "sim/disk_faults.rs"]
mod disk_faults;
#[path = "sim/effects.rs"]
mod effects;
#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/file.rs"]
mod file;
#[path = "sim/history.rs"]
mod history;
#[path = "sim/links.rs"]
mod links;
#[path = "sim/machine.rs"]
mod machine;
#[path = "sim/network.rs"]
mod network;
#[path = "sim/options.rs"]
mod options;
#[path = "sim/plan.rs"]
mod plan;
#[path = "sim/process.rs"]
mod process;
#[path = "sim/rng.rs"]
mod rng;
#[path = "sim/seats.rs"]
mod seats;
#[path = "sim/trace.rs"]
mod trace;
#[path = "sim/world.rs"]
mod world;

use faults::Counts;
use options::{Job, Options};
use trace::Lines;
use world::{Summary, World};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    // A violated invariant is a panic that is caught; its report comes with its seed.
    std::panic::set_hook(Box::new(|info| {
        VIOLATION.with_borrow_mut(|violation| *violation = info.to_string());
    }));
    match options.job {
        Job::List => {
            println!("sim: test");
            ExitCode::SUCCESS
        }
        Job::Nothing => {
            println!("0 passed, 0 failed");
            ExitCode::SUCCESS
        }
        Job::One { seed, lines } => replay(seed, lines),
        Job::Many { start, count } => run_many(start, count, &options),
    }
}

thread_local! {
    static VIOLATION: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

/// Runs a seed; the violation, if there is one.
fn run(seed: u64, lines: Lines) -> Result<Summary, String> {
    catch_unwind(|| World::new(seed, lines).run()).map_err(|_| VIOLATION.take())
}

fn replay(seed: u64, lines: Lines) -> ExitCode {
    match run(seed, lines) {
        Ok(summary) => {
            report(std::slice::from_ref(&summary));
            println!("seed {seed}: trace hash {:016x}", summary.hash);
            println!("1 passed, 0 failed");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            explain(seed, &violation, lines);
            println!("0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

/// Tells what failed and what led to it. The run is repeated for its last lines, which a run that
/// is not watched does not make.
fn explain(seed: u64, violation: &str, lines: Lines) {
    if lines != Lines::Print {
        let again = run(seed, Lines::Keep).expect_err("the same seed does the same");
        assert_eq!(again, violation, "the same seed fails alike");
        println!("seed {seed}: the last events");
        trace::last_lines().iter().for_each(|line| println!("{line}"));
    }
    println!("seed {seed} FAILED: {violation}");
    println!("replay: cargo test --release -p ringleader --test sim -- --seed {seed} --trace");
}

/// What all threads of a long run share.
struct Shared {
    next: AtomicU64,
    done: AtomicU64,
    failed: Mutex<Vec<(u64, String)>>,
    passed: Mutex<Vec<Summary>>,
}

fn run_many(start: u64, count: u64, options: &Options) -> ExitCode {
    let shared = Shared {
        next: AtomicU64::new(start),
        done: AtomicU64::new(0),
        failed: Mutex::default(),
        passed: Mutex::default(),
    };
    let began = Instant::now();
    let end = start.saturating_add(count);
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| work(&shared, end, count));
        }
    });
    let mut failed = shared.failed.into_inner().expect("no thread panicked");
    failed.sort();
    for (seed, violation) in failed.iter().take(options.explain) {
        explain(*seed, violation, Lines::Keep);
    }
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    let passed = shared.passed.into_inner().expect("no thread panicked");
    let repeated = options.repeat && repeats(start, &passed);
    let counts = report(&passed);
    let missing = if options.repeat { counts.missing() } else { Vec::new() };
    let seconds = began.elapsed().as_secs_f64();
    println!("{count} seeds in {seconds:.1} s, {:.0} a minute", count as f64 * 60.0 / seconds);
    if !seeds.is_empty() {
        println!("failed seeds: {seeds:?}");
    }
    println!("{} passed, {} failed", passed.len(), seeds.len());
    if !missing.is_empty() {
        println!("never happened: {missing:?}");
    }
    let good = seeds.is_empty() && missing.is_empty() && (repeated || !options.repeat);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn work(shared: &Shared, end: u64, count: u64) {
    loop {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        match run(seed, Lines::Off) {
            Ok(summary) => shared.passed.lock().expect("no thread panicked").push(summary),
            Err(violation) => {
                shared.failed.lock().expect("no thread panicked").push((seed, violation));
            }
        }
        let done = shared.done.fetch_add(1, Ordering::Relaxed) + 1;
        if std::io::stderr().is_terminal() {
            let failed = shared.failed.lock().expect("no thread panicked").len();
            eprint!("\r{done} of {count} seeds, {failed} failed ");
            // A line that does not show is no reason to stop.
            let _ = std::io::stderr().flush();
        }
    }
}

/// The same seed gives the same trace: one that passed is run again.
fn repeats(start: u64, passed: &[Summary]) -> bool {
    let alike = (start..start + 4).all(|seed| {
        let first = run(seed, Lines::Off).map(|summary| summary.hash);
        let second = run(seed, Lines::Keep).map(|summary| summary.hash);
        first == second && first.is_ok_and(|hash| passed.iter().any(|s| s.hash == hash))
    });
    println!("the same seed gives the same trace: {}", if alike { "yes" } else { "NO" });
    alike
}

/// Prints what happened in all the runs.
fn report(summaries: &[Summary]) -> Counts {
    let mut counts = Counts::default();
    let (mut events, mut time) = (0, 0);
    for summary in summaries {
        events += summary.events;
        time += summary.time;
        counts.merge(&summary.counts);
        counts.add("operations acknowledged", summary.fates.applied);
        counts.add("operations refused", summary.fates.failed);
    }
    counts.0.sort_unstable();
    for (what, count) in &counts.0 {
        println!("{count:>12} {what}");
    }
    println!("{events:>12} steps");
    println!("{:>12.1} simulated seconds", time as f64 / 1e9);
    counts
}
