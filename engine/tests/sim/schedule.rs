//! The schedule of a run: every fault, every call and everything that the operator does, drawn
//! before anything happens. Each has a moment and a seed of its own, so that a run can be repeated
//! without some of them; what is left is then the same. That is how a failure is shrunk.

use std::fmt;

use crate::faults::Fault;
use crate::mishaps::MishapPlan;
use crate::operator::Action;
use crate::plan::{MS, Plan};
use crate::rng::{Rng, SURE};

/// Something at its moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned<T> {
    pub(crate) at: u64,
    pub(crate) what: T,
    pub(crate) seed: u64,
    /// Its place in the whole schedule.
    pub(crate) number: usize,
}

/// A fault.
pub(crate) type Strike = Planned<Fault>;

/// An action of the operator.
pub(crate) type Deed = Planned<Action>;

/// A caller's attempt to submit something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) at: u64,
    pub(crate) caller: u32,
    pub(crate) seed: u64,
    pub(crate) number: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) strikes: Vec<Strike>,
    pub(crate) calls: Vec<Call>,
    pub(crate) deeds: Vec<Deed>,
}

/// What lasts for a whole run and can be switched off.
pub(crate) const AMBIENT: [&str; 11] = [
    "ghosts",
    "duplicates",
    "slow-network",
    "late-peers",
    "slow-disk",
    "slow-snapshots",
    "drift",
    "late-ticks",
    "crash-again",
    "last-loss",
    "mishaps",
];

/// A part of a run. Written as `f3,7;c10-20;o1;t500;-drift`: the faults, calls and actions of the
/// operator that are kept, the milliseconds until the faults end, and what is switched off; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) strikes: Option<Vec<usize>>,
    pub(crate) calls: Option<Vec<usize>>,
    pub(crate) deeds: Option<Vec<usize>>,
    pub(crate) trouble_ms: Option<u64>,
    pub(crate) off: Vec<&'static str>,
}

impl Schedule {
    pub(crate) fn draw(rng: &mut Rng, plan: &Plan) -> Self {
        let strikes = planned(rng, &plan.faults.enabled, plan.trouble);
        let mut calls: Vec<Call> = Vec::new();
        for caller in 0..plan.load.callers {
            let mut own = rng.fork();
            let mut at = 0;
            while at < plan.trouble {
                calls.push(Call { at, caller, seed: own.next(), number: 0 });
                // Bursts, so that calls overlap whatever the pace.
                let burst = own.chance(SURE / 3);
                at += if burst { own.below(MS) } else { own.between(1, plan.load.pause) };
            }
        }
        calls.sort_by_key(|call| call.at);
        calls.iter_mut().enumerate().for_each(|(number, call)| call.number = number);
        let deeds = planned(rng, &plan.operator.enabled, plan.trouble);
        Self { strikes, calls, deeds }
    }

    pub(crate) fn keep(&mut self, part: &Part) {
        if let Some(kept) = &part.strikes {
            self.strikes.retain(|strike| kept.binary_search(&strike.number).is_ok());
        }
        if let Some(kept) = &part.calls {
            self.calls.retain(|call| kept.binary_search(&call.number).is_ok());
        }
        if let Some(kept) = &part.deeds {
            self.deeds.retain(|deed| kept.binary_search(&deed.number).is_ok());
        }
    }
}

/// Everything again and again, each with pauses of its own, until trouble ends.
fn planned<T: Copy>(rng: &mut Rng, enabled: &[(T, u64)], trouble: u64) -> Vec<Planned<T>> {
    let mut planned = Vec::new();
    for &(what, longest) in enabled {
        let mut own = rng.fork();
        let mut at = own.between(longest / 8, longest);
        while at < trouble {
            planned.push(Planned { at, what, seed: own.next(), number: 0 });
            at += own.between(longest / 8, longest);
        }
    }
    planned.sort_by_key(|one| one.at);
    planned.iter_mut().enumerate().for_each(|(number, one)| one.number = number);
    planned
}

impl Plan {
    pub(crate) fn keep(&mut self, part: &Part) {
        if let Some(trouble) = part.trouble_ms {
            self.trouble = self.trouble.min(trouble * MS);
        }
        for what in &part.off {
            match *what {
                "ghosts" => self.net.ghost_ppm = 0,
                "late-peers" => self.net.late_peers_ppm = 0,
                "duplicates" => self.net.duplicate_ppm = 0,
                "slow-network" => self.net.slow_ppm = 0,
                "slow-disk" => self.disk.slow_ppm = 0,
                "slow-snapshots" => self.disk.slow_snapshots = false,
                "drift" => self.clock.drift_ppm = 0,
                "late-ticks" => self.clock.late_ppm = 0,
                "crash-again" => self.faults.crash_again_ppm = 0,
                "mishaps" => self.mishaps = MishapPlan::default(),
                "last-loss" => self.faults.loses_last = false,
                other => unreachable!("{other} is no part of a run"),
            }
        }
    }
}

impl Part {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut part = Self::default();
        for piece in text.split(';').filter(|piece| !piece.is_empty()) {
            let (kind, rest) = piece.split_at(piece.chars().next().map_or(0, char::len_utf8));
            match kind {
                "f" => part.strikes = Some(numbers(rest)?),
                "c" => part.calls = Some(numbers(rest)?),
                "o" => part.deeds = Some(numbers(rest)?),
                "t" => part.trouble_ms = Some(number(rest)?),
                "-" => {
                    let known = AMBIENT.iter().find(|known| **known == rest);
                    part.off.push(known.ok_or_else(|| format!("-{rest} is not known"))?);
                }
                _ => return Err(format!("{piece} is no part of a run")),
            }
        }
        Ok(part)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn numbers(text: &str) -> Result<Vec<usize>, String> {
    let mut numbers = Vec::new();
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        numbers.extend(number::<usize>(first)?..=number::<usize>(last)?);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pieces = Vec::new();
        pieces.extend(self.strikes.as_ref().map(|kept| format!("f{}", ranges(kept))));
        pieces.extend(self.calls.as_ref().map(|kept| format!("c{}", ranges(kept))));
        pieces.extend(self.deeds.as_ref().map(|kept| format!("o{}", ranges(kept))));
        pieces.extend(self.trouble_ms.map(|trouble| format!("t{trouble}")));
        pieces.extend(self.off.iter().map(|what| format!("-{what}")));
        f.write_str(&pieces.join(";"))
    }
}

fn ranges(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let text = |(first, last): (usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.into_iter().map(text).collect::<Vec<_>>().join(",")
}
