//! The command line, and what `cargo test` passes to every test without meaning this one.

use crate::trace::Lines;

/// Seeds of a plain `cargo test`: about half a minute in the debug profile on two cores.
const DEFAULT_SEEDS: u64 = 60;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Name the tests.
    List,
    One {
        seed: u64,
        lines: Lines,
    },
    Many {
        start: u64,
        count: u64,
    },
    /// The filter is for other tests.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) job: Job,
    pub(crate) threads: usize,
    /// Failures that are told in full.
    pub(crate) explain: usize,
    /// Whether to check that seeds repeat exactly.
    pub(crate) repeat: bool,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut seed, mut start, mut count) = (None, 0, None);
        let (mut trace, mut list, mut chosen) = (false, false, None);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (mut threads, mut explain) = (cores, 3);
        while let Some(arg) = args.next() {
            let mut number = || {
                let value = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
                value.parse::<u64>().map_err(|_| format!("{arg}: {value} is not a number"))
            };
            match arg.as_str() {
                "--seed" => seed = Some(number()?),
                "--start" => start = number()?,
                "--seeds" => count = Some(number()?),
                "--threads" => threads = number()?.max(1) as usize,
                "--explain" => explain = number()? as usize,
                "--trace" => trace = true,
                "--list" => list = true,
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
            (false, Some(seed)) => Job::One { seed, lines },
            (false, None) => Job::Many { start, count: count.unwrap_or(DEFAULT_SEEDS) },
        };
        Ok(Self { job, threads, explain, repeat: count.is_none() })
    }
}
