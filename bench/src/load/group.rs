//! One group's operations as its loader sees them: which are in flight, and since when.

use std::collections::VecDeque;

use crate::control::LoadPlan;
use crate::ledger;

/// From when the latency of an operation counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Of several operations alike: when they were sent.
    At(u64),
    /// Of consecutive operations: the first one's place in the group's timetable.
    Scheduled(u64),
}

impl Due {
    pub(crate) fn skip(self, count: u64) -> Self {
        match self {
            Self::At(at) => Self::At(at),
            Self::Scheduled(nth) => Self::Scheduled(nth + count),
        }
    }
}

/// Consecutive operations that were sent together and are not answered: `first..end`.
#[derive(Clone, Copy, Debug)]
struct Sent {
    first: u64,
    end: u64,
    due: Due,
}

/// One group's load.
pub(crate) struct GroupLoad {
    /// The group's number, counted from zero.
    pub(crate) index: u64,
    /// Most operations in flight.
    pub(crate) share: u64,
    /// Whether it is loaded from here.
    pub(crate) active: bool,
    /// Whether it rests after an error.
    pub(crate) resting: bool,
    /// Operations of its timetable that were taken up, in an open loop.
    pub(crate) scheduled: u64,
    session: u16,
    next: u64,
    in_flight: u64,
    /// By sequence; answers mostly come in that order.
    sent: VecDeque<Sent>,
    put_off: VecDeque<(Due, u64)>,
}

impl GroupLoad {
    pub(crate) fn new(plan: &LoadPlan, index: u64, session: u16) -> Self {
        // Adds up to the whole whatever the numbers are, and differs by one at most.
        let upto = |groups: u64| groups * plan.inflight / plan.groups;
        Self {
            index,
            share: upto(index + 1) - upto(index),
            active: false,
            resting: false,
            scheduled: 0,
            session,
            next: 0,
            in_flight: 0,
            sent: VecDeque::new(),
            put_off: VecDeque::new(),
        }
    }

    /// The number of the operation with this sequence.
    pub(crate) fn number(&self, sequence: u64) -> u64 {
        ledger::number(self.session, sequence)
    }

    /// How many more operations may be in flight.
    pub(crate) fn room(&self) -> u64 {
        self.share.saturating_sub(self.in_flight)
    }

    /// How many operations are in flight.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Operations that were put off.
    pub(crate) fn retries(&self) -> u64 {
        self.put_off.iter().map(|(_, count)| count).sum()
    }

    /// Takes `count` operations into flight: those that were put off first, as new operations
    /// that are late already, then those that are `due` now. Gives their sequence numbers.
    pub(crate) fn begin(&mut self, count: u64, due: Option<Due>) -> (u64, u64) {
        let first = self.next;
        let mut left = count;
        while left > 0 {
            let (due, count) = match (self.put_off.pop_front(), due) {
                (Some((due, waiting)), _) => {
                    if waiting > left {
                        self.put_off.push_front((due.skip(left), waiting - left));
                    }
                    (due, waiting.min(left))
                }
                (None, Some(due)) => (due, left),
                (None, None) => break,
            };
            self.sent.push_back(Sent { first: self.next, end: self.next + count, due });
            self.next += count;
            left -= count;
        }
        self.in_flight += self.next - first;
        (first, self.next)
    }

    /// The operations `first..end` are answered: tells `each` since when they counted, in runs.
    pub(crate) fn finish(&mut self, mut first: u64, end: u64, mut each: impl FnMut(Due, u64)) {
        self.in_flight -= end - first;
        while first < end {
            let at = match self.sent.front() {
                Some(front) if front.end > first => 0,
                _ => self.sent.partition_point(|sent| sent.end <= first),
            };
            let sent = self.sent[at];
            debug_assert!(sent.first <= first, "operation {first} is not in flight");
            let upto = end.min(sent.end);
            each(sent.due.skip(first - sent.first), upto - first);
            self.remove(at, first, upto);
            first = upto;
        }
    }

    fn remove(&mut self, at: usize, first: u64, end: u64) {
        let sent = self.sent[at];
        let rest = Sent { first: end, due: sent.due.skip(end - sent.first), ..sent };
        if sent.first < first {
            self.sent[at].end = first;
            if rest.first < rest.end {
                self.sent.insert(at + 1, rest);
            }
        } else if rest.first < rest.end {
            self.sent[at] = rest;
        } else if at == 0 {
            self.sent.pop_front();
        } else {
            self.sent.remove(at);
        }
    }

    /// The operations `first..end` were refused for now: they are proposed again, and their
    /// latency goes on.
    pub(crate) fn put_off(&mut self, first: u64, end: u64) {
        let mut refused = Vec::new();
        self.finish(first, end, |due, count| refused.push((due, count)));
        self.put_off.extend(refused);
    }

    /// Takes out what was put off and not proposed again: since when each counts. `due` tells
    /// that of an operation of the timetable.
    pub(crate) fn take_put_off(&mut self, due: impl Fn(u64) -> u64) -> Vec<u64> {
        let waiting = self
            .put_off
            .drain(..)
            .flat_map(|(since, count)| (0..count).map(move |at| since.skip(at)));
        let since = |since| match since {
            Due::At(at) => at,
            Due::Scheduled(nth) => due(nth),
        };
        waiting.map(since).collect()
    }

    /// The operations that are in flight.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = (u64, u64)> {
        self.sent.iter().map(|sent| (sent.first, sent.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{ReadBy, Window};

    fn plan(groups: u64, inflight: u64) -> LoadPlan {
        LoadPlan {
            groups,
            inflight,
            payload: 8,
            rate: None,
            reads: 0,
            read_by: ReadBy::Index,
            begin: 0,
            window: Window { start: 0, end: 1 },
            remote: None,
        }
    }

    fn group(inflight: u64) -> GroupLoad {
        GroupLoad::new(&plan(1, inflight), 0, 1)
    }

    fn finished(group: &mut GroupLoad, first: u64, end: u64) -> Vec<(Due, u64)> {
        let mut runs = Vec::new();
        group.finish(first, end, |due, count| runs.push((due, count)));
        runs
    }

    #[test]
    fn answers_find_their_senders_in_any_order() {
        let mut group = group(100);
        group.begin(10, Some(Due::At(1)));
        group.begin(10, Some(Due::Scheduled(50)));
        assert_eq!(finished(&mut group, 4, 6), [(Due::At(1), 2)]);
        assert_eq!(finished(&mut group, 8, 13), [(Due::At(1), 2), (Due::Scheduled(50), 3)]);
        assert_eq!(group.unanswered().collect::<Vec<_>>(), [(0, 4), (6, 8), (13, 20)]);
        assert_eq!(finished(&mut group, 13, 20), [(Due::Scheduled(53), 7)]);
        assert_eq!(finished(&mut group, 0, 4), [(Due::At(1), 4)]);
        assert_eq!(finished(&mut group, 6, 8), [(Due::At(1), 2)]);
        assert_eq!((group.unanswered().count(), group.room()), (0, 100));
    }

    #[test]
    fn what_was_refused_comes_first_and_keeps_its_time() {
        let mut group = group(100);
        group.begin(10, Some(Due::Scheduled(0)));
        group.put_off(0, 10);
        assert_eq!((group.retries(), group.room()), (10, 100));
        assert_eq!(group.begin(4, None), (10, 14));
        assert_eq!(group.begin(8, Some(Due::Scheduled(10))), (14, 22));
        let runs = finished(&mut group, 10, 22);
        let due = [0, 4, 10].map(Due::Scheduled);
        assert_eq!(runs, [(due[0], 4), (due[1], 6), (due[2], 2)]);
    }

    #[test]
    fn shares_differ_by_one_at_most_and_add_up() {
        for (groups, inflight) in [(3, 10), (1000, 16), (7, 7), (1000, 16_384)] {
            let plan = plan(groups, inflight);
            let shares: Vec<_> = (0..groups).map(|at| GroupLoad::new(&plan, at, 1).share).collect();
            assert_eq!(shares.iter().sum::<u64>(), inflight);
            let spread = shares.iter().max().unwrap() - shares.iter().min().unwrap();
            assert!(spread <= 1, "{groups} groups, {inflight} in flight");
        }
    }
}
