//! What happened, as a hash always and as readable lines on demand.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Display;

use crate::rng::{chain, chain_bytes};

/// Lines that a failing seed shows.
const KEPT: usize = 80;

/// Lines about what the schedule does start with this.
pub(crate) const NOTABLE: &str = "***";

/// What is done with readable lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// Nothing: they are not even made.
    Off,
    /// The last ones are kept, for the report of a failure.
    Keep,
    /// They are printed as they come.
    Print,
}

thread_local! {
    /// Outlives the world, which a violated invariant unwinds.
    static KEPT_LINES: RefCell<VecDeque<String>> = const { RefCell::new(VecDeque::new()) };
    static NOTABLE_LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static TIME: Cell<u64> = const { Cell::new(0) };
}

/// The record of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    lines: Lines,
    hash: u64,
    events: u64,
    now: u64,
}

impl Trace {
    pub(crate) fn new(lines: Lines) -> Self {
        KEPT_LINES.with_borrow_mut(VecDeque::clear);
        NOTABLE_LINES.with_borrow_mut(Vec::clear);
        TIME.set(0);
        Self { lines, hash: 0, events: 0, now: 0 }
    }

    pub(crate) fn set_time(&mut self, now: u64) {
        self.now = now;
        TIME.set(now);
    }

    /// Takes a step into the hash: what it was, where, and two numbers that tell it apart.
    pub(crate) fn step(&mut self, what: &'static str, place: u64, a: u64, b: u64) {
        self.events += 1;
        self.hash = chain_bytes(chain(self.hash, self.now), what.as_bytes());
        self.hash = [place, a, b].into_iter().fold(self.hash, chain);
    }

    /// Takes bytes into the hash.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.hash = chain_bytes(self.hash, bytes);
    }

    /// A readable line, made only if somebody reads it.
    pub(crate) fn line<T: Display>(&mut self, line: impl FnOnce() -> T) {
        if self.lines == Lines::Off {
            return;
        }
        let text = line().to_string();
        let (s, us) = (self.now / 1_000_000_000, self.now / 1_000 % 1_000_000);
        let line = format!("{s:>5}.{us:06} {text}");
        if text.starts_with(NOTABLE) {
            NOTABLE_LINES.with_borrow_mut(|notable| notable.push(line.clone()));
        }
        if self.lines == Lines::Print {
            println!("{line}");
        }
        KEPT_LINES.with_borrow_mut(|kept| {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(line);
        });
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }
}

/// The last lines of the run that this thread made last.
pub(crate) fn last_lines() -> Vec<String> {
    KEPT_LINES.with_borrow(|kept| kept.iter().cloned().collect())
}

/// Everything that the schedule did in the run that this thread made last.
pub(crate) fn notable_lines() -> Vec<String> {
    NOTABLE_LINES.with_borrow(Vec::clone)
}

/// How far that run came.
pub(crate) fn last_time() -> u64 {
    TIME.get()
}
