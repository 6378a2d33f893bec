//! Runs seeds: one, readably, or many, on all cores.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::faults::Counts;
use crate::fixed;
use crate::options::{Job, Options};
use crate::rng::Rng;
use crate::schedule::Part;
use crate::shrink::shrink;
use crate::trace::{self, Lines};
use crate::traces;
use crate::world::{Summary, World, drawn};

thread_local! {
    static VIOLATION: RefCell<String> = const { RefCell::new(String::new()) };
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) text: String,
    /// The moment, in simulated nanoseconds.
    pub(crate) at: u64,
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    catch_violations();
    match &options.job {
        Job::List => {
            println!("sim: test");
            ExitCode::SUCCESS
        }
        Job::Nothing => {
            println!("0 passed, 0 failed");
            ExitCode::SUCCESS
        }
        Job::Hashes => {
            traces::print();
            ExitCode::SUCCESS
        }
        Job::One { seed, lines, part } => replay(*seed, *lines, part, &options),
        Job::Many { start, count } => run_many(*start, *count, &options),
    }
}

/// A violated invariant is a panic that is caught; its report comes with its seed.
fn catch_violations() {
    std::panic::set_hook(Box::new(|info| {
        VIOLATION.with_borrow_mut(|violation| *violation = info.to_string());
    }));
}

/// Runs a part of a seed.
pub(crate) fn run(seed: u64, lines: Lines, part: &Part) -> Result<Summary, Violation> {
    let run = catch_unwind(|| World::new(seed, lines, part).run());
    run.map_err(|_| Violation { text: VIOLATION.take(), at: trace::last_time() })
}

fn replay(seed: u64, lines: Lines, part: &Part, options: &Options) -> ExitCode {
    match run(seed, lines, part) {
        Ok(summary) => {
            report(std::slice::from_ref(&summary));
            println!("seed {seed}: trace hash {:016x}", summary.hash);
            println!("1 passed, 0 failed");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            explain(seed, part, &violation, lines, options);
            println!("0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

/// Tells what failed and the shortest way to it that can be found. The run is repeated for its
/// lines, which a run that is not watched does not make.
fn explain(seed: u64, part: &Part, violation: &Violation, lines: Lines, options: &Options) {
    let (mut part, mut violation) = (part.clone(), violation.clone());
    if lines != Lines::Print {
        let shrunk = shrink(seed, &part, &violation, options.shrink);
        println!("seed {seed} shrunk: {}", shrunk.story);
        (part, violation) = (shrunk.part, shrunk.violation);
        let again = run(seed, Lines::Keep, &part).expect_err("the same seed does the same");
        assert_eq!(again, violation, "the same seed fails alike");
        println!("seed {seed}: what was done to it");
        trace::notable_lines().iter().for_each(|line| println!("{line}"));
        println!("seed {seed}: its last events");
        trace::last_lines().iter().for_each(|line| println!("{line}"));
    }
    println!("seed {seed} FAILED: {}", violation.text);
    let command = fixed::COMMAND;
    println!("replay whole:  {command} --seed {seed} --trace");
    println!("replay shrunk: {command} --seed {seed} --part '{part}' --trace");
}

/// What all threads of a long run share.
struct Shared {
    next: AtomicU64,
    done: AtomicU64,
    failed: Mutex<Vec<(u64, Violation)>>,
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
            scope.spawn(|| work(&shared, end, count, options));
        }
    });
    let (real, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds());
    let mut failed = shared.failed.into_inner().expect("no thread panicked");
    failed.sort_by_key(|(seed, _)| *seed);
    if let Some((seed, violation)) = failed.first().filter(|_| options.until_failure) {
        let invariant = violation.text.split_once('\n').map_or("", |(_, said)| said);
        let invariant = invariant.lines().next().unwrap_or_default();
        println!("killed by seed {seed} after {} seeds: {invariant}", seed - start + 1);
        return ExitCode::FAILURE;
    }
    for (seed, violation) in failed.iter().take(options.explain) {
        explain(*seed, &Part::default(), violation, Lines::Keep, options);
    }
    let passed = shared.passed.into_inner().expect("no thread panicked");
    let alike = !options.check_traces || traces::are_known(&passed);
    let counts = report(&passed);
    let missing = if options.check_traces { counts.missing() } else { Vec::new() };
    if !failed.is_empty() {
        let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
        println!("failed seeds: {seeds:?}");
    }
    let time: u64 = passed.iter().map(|summary| summary.time).sum();
    let count = (passed.len() + failed.len()) as u64;
    println!(
        "{count} seeds in {real:.1} s; {:.0} simulated seconds a second; {:.0} seeds a minute of \
         one core",
        time as f64 / 1e9 / real,
        count as f64 * 60.0 / cpu.max(0.01)
    );
    println!("{} passed, {} failed", passed.len(), failed.len());
    if !missing.is_empty() {
        println!("never happened: {missing:?}");
    }
    if failed.is_empty() && missing.is_empty() && alike {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn work(shared: &Shared, end: u64, count: u64, options: &Options) {
    loop {
        if options.until_failure && !shared.failed.lock().expect("no thread panicked").is_empty() {
            return;
        }
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        if options.resets && !drawn(&mut Rng::new(seed)).0.resetting {
            continue;
        }
        match run(seed, Lines::Off, &Part::default()) {
            Ok(summary) => shared.passed.lock().expect("no thread panicked").push(summary),
            Err(violation) => {
                shared.failed.lock().expect("no thread panicked").push((seed, violation));
            }
        }
        let done = shared.done.fetch_add(1, Ordering::Relaxed) + 1;
        progress(shared, done, count);
    }
}

/// A line that is written over where somebody watches, and now and then elsewhere.
fn progress(shared: &Shared, done: u64, count: u64) {
    let watched = std::io::stderr().is_terminal();
    if watched || done.is_multiple_of(5_000) {
        let failed = shared.failed.lock().expect("no thread panicked").len();
        let end = if watched { '\r' } else { '\n' };
        eprint!("{done} of {count} seeds, {failed} failed{end}");
        // A line that does not show is no reason to stop.
        let _ = std::io::stderr().flush();
    }
}

/// What this process took from all cores; a machine with other work says nothing with its clock.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system time, in hundredths.
    let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    ticks.sum::<u64>() as f64 / 100.0
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
        let seeds = summaries.iter().filter(|summary| summary.counts.has(what)).count();
        let within = if seeds > 0 { format!(", in {seeds} seeds") } else { String::new() };
        println!("{count:>12} {what}{within}");
    }
    println!("{events:>12} steps");
    println!("{:>12.1} simulated seconds", time as f64 / 1e9);
    let slowest = |of: fn(&Summary) -> u64| summaries.iter().map(of).max().unwrap_or_default();
    println!(
        "{:>12} % of the time allowed was the longest until all groups served",
        slowest(|s| s.served)
    );
    println!(
        "{:>12} % of the time allowed was the longest until all agreed",
        slowest(|s| s.agreed)
    );
    counts
}
