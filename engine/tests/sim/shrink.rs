//! Finds a short way to a failure: parts of the schedule are left out, as long as what is left
//! fails in the same way (delta debugging: Zeller and Hildebrandt, 2002).

use std::time::{Duration, Instant};

use crate::plan::MS;
use crate::rng::Rng;
use crate::runner::{Violation, run};
use crate::schedule::{AMBIENT, Part, Schedule};
use crate::trace::Lines;
use crate::world;

/// The shortest that was found.
pub(crate) struct Shrunk {
    pub(crate) part: Part,
    pub(crate) violation: Violation,
    /// How it was found, in words.
    pub(crate) story: String,
}

struct Search {
    seed: u64,
    kind: String,
    part: Part,
    violation: Violation,
    end: Instant,
    runs: u64,
}

/// What can be left out.
#[derive(Clone, Copy)]
enum List {
    Strikes,
    Calls,
    Deeds,
}

pub(crate) fn shrink(seed: u64, part: &Part, violation: &Violation, limit: Duration) -> Shrunk {
    let (plan, mut schedule) = world::drawn(&mut Rng::new(seed));
    schedule.keep(part);
    let whole = (schedule.strikes.len(), schedule.calls.len(), schedule.deeds.len());
    let mut search = Search {
        seed,
        kind: kind(violation),
        part: part.clone(),
        violation: violation.clone(),
        end: Instant::now() + limit,
        runs: 0,
    };
    search.name_all(&schedule);
    search.cut(plan.trouble);
    loop {
        let before = search.part.clone();
        AMBIENT.iter().for_each(|what| search.switch_off(what));
        search.leave_out(List::Strikes, plan.trouble);
        search.leave_out(List::Calls, plan.trouble);
        search.leave_out(List::Deeds, plan.trouble);
        if search.part == before || search.is_late() {
            break;
        }
    }
    let Search { part, violation, runs, .. } = search;
    let left = |list: &Option<Vec<usize>>| list.as_ref().map_or(0, Vec::len);
    let story = format!(
        "{} of {} faults, {} of {} calls and {} of {} actions are left after {runs} runs",
        left(&part.strikes),
        whole.0,
        left(&part.calls),
        whole.1,
        left(&part.deeds),
        whole.2
    );
    Shrunk { part, violation, story }
}

/// What a violation has in common with its like: where it was found, and its name.
fn kind(violation: &Violation) -> String {
    let mut lines = violation.text.lines();
    let place = lines.next().unwrap_or_default();
    let name = lines.next().unwrap_or_default();
    let name = name.split(|c: char| c == ':' || c.is_ascii_digit()).next().unwrap_or_default();
    format!("{place} {name}")
}

impl Search {
    fn is_late(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Keeps a part if it fails as the whole does.
    fn try_part(&mut self, part: Part) -> bool {
        if self.is_late() {
            return false;
        }
        self.runs += 1;
        match run(self.seed, Lines::Off, &part) {
            Err(violation) if kind(&violation) == self.kind => {
                (self.part, self.violation) = (part, violation);
                true
            }
            _ => false,
        }
    }

    /// From here on everything that is kept is named.
    fn name_all(&mut self, schedule: &Schedule) {
        let strikes = schedule.strikes.iter().map(|strike| strike.number).collect();
        let calls = schedule.calls.iter().map(|call| call.number).collect();
        (self.part.strikes, self.part.calls) = (Some(strikes), Some(calls));
        self.part.deeds = Some(schedule.deeds.iter().map(|deed| deed.number).collect());
    }

    /// Nothing that comes after the failure led to it.
    fn cut(&mut self, trouble: u64) {
        let end = self.violation.at / MS + 1;
        if self.violation.at < trouble && self.part.trouble_ms.is_none_or(|before| end < before) {
            let part = Part { trouble_ms: Some(end), ..self.part.clone() };
            self.try_part(part);
        }
    }

    fn switch_off(&mut self, what: &'static str) {
        if !self.part.off.contains(&what) {
            let mut part = self.part.clone();
            part.off.push(what);
            self.try_part(part);
        }
    }

    fn list(part: &mut Part, list: List) -> &mut Vec<usize> {
        let list = match list {
            List::Strikes => &mut part.strikes,
            List::Calls => &mut part.calls,
            List::Deeds => &mut part.deeds,
        };
        list.get_or_insert_default()
    }

    /// Leaves out ever smaller pieces of a list.
    fn leave_out(&mut self, list: List, trouble: u64) {
        let mut piece = Self::list(&mut self.part, list).len();
        while piece > 0 && !self.is_late() {
            let mut start = 0;
            while start < Self::list(&mut self.part, list).len() && !self.is_late() {
                let mut part = self.part.clone();
                let kept = Self::list(&mut part, list);
                kept.drain(start..(start + piece).min(kept.len()));
                if !self.try_part(part) {
                    start += piece;
                }
            }
            self.cut(trouble);
            piece /= 2;
        }
    }
}
