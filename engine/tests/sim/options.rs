//! The command line, and what `cargo test` passes to every test without meaning this one.

use std::time::Duration;

use crate::fixed;
use crate::schedule::Part;
use crate::trace::Lines;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Name the tests.
    List,
    One {
        seed: u64,
        lines: Lines,
        part: Part,
    },
    /// Print the hashes of the known traces.
    Hashes,
    Many {
        start: u64,
        count: u64,
    },
    /// The filter is for other tests.
    Nothing,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) job: Job,
    pub(crate) threads: usize,
    /// Failures that are told in full.
    pub(crate) explain: usize,
    /// How long the way to a failure may be searched for.
    pub(crate) shrink: Duration,
    /// Whether to check that seeds repeat exactly.
    pub(crate) check_traces: bool,
    /// Whether the first failure ends the run.
    pub(crate) until_failure: bool,
    /// Whether to pass over the seeds in which no majority is lost.
    pub(crate) resets: bool,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut seed, mut start, mut count) = (None, 0, None);
        let (mut trace, mut list, mut hashes, mut chosen) = (false, false, false, None);
        let (mut until_failure, mut resets) = (false, false);
        let (mut part, mut shrink) = (Part::default(), 20);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (mut threads, mut explain) = (cores, 3);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            if arg == "--part" {
                part = Part::parse(&value()?)?;
                continue;
            }
            let mut number = || {
                let value = value()?;
                value.parse::<u64>().map_err(|_| format!("{arg}: {value} is not a number"))
            };
            match arg.as_str() {
                "--seed" => seed = Some(number()?),
                "--start" => start = number()?,
                "--seeds" => count = Some(number()?),
                "--threads" => threads = number()?.max(1) as usize,
                "--explain" => explain = number()? as usize,
                "--shrink" => shrink = number()?,
                "--hashes" => hashes = true,
                "--trace" => trace = true,
                "--list" => list = true,
                "--until-failure" => until_failure = true,
                "--resets" => resets = true,
                // libtest's, for the tests beside this one.
                "--test-threads" | "--skip" | "--format" | "--color" | "--logfile" | "-Z" => {
                    args.next();
                }
                "--ignored" => chosen = Some(false),
                filter if !filter.starts_with('-') => {
                    let here = "sim".contains(filter);
                    chosen = Some(here || chosen.unwrap_or(false));
                }
                // Another of libtest's.
                _ => {}
            }
        }
        let lines = if trace { Lines::Print } else { Lines::Keep };
        let job = match (list, seed) {
            _ if chosen == Some(false) => Job::Nothing,
            (true, _) => Job::List,
            (false, Some(seed)) => Job::One { seed, lines, part },
            (false, None) if hashes => Job::Hashes,
            (false, None) => Job::Many { start, count: count.unwrap_or(fixed::SEEDS) },
        };
        Ok(Self {
            job,
            threads,
            explain,
            shrink: Duration::from_secs(shrink),
            check_traces: count.is_none(),
            until_failure,
            resets,
        })
    }
}
