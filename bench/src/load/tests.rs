//! The loader against a port that answers when the test's script says so.

use std::collections::VecDeque;

use super::*;
use crate::control::{ReadBy, Window};

/// Answers each submission after `delay` nanoseconds; refuses what `refuse` says.
struct Script {
    delay: u64,
    refuse: fn(nth_run: u64) -> Option<Outcome>,
    runs: u64,
    staged: Vec<(u64, u64)>,
    waiting: VecDeque<(u64, Completed)>,
    most_in_flight: usize,
    in_flight: usize,
    numbers: Vec<u64>,
    reads: usize,
}

impl Script {
    fn new(delay: u64, refuse: fn(u64) -> Option<Outcome>) -> Self {
        Self {
            delay,
            refuse,
            runs: 0,
            staged: Vec::new(),
            waiting: VecDeque::new(),
            most_in_flight: 0,
            in_flight: 0,
            numbers: Vec::new(),
            reads: 0,
        }
    }
}

impl Script {
    fn stage(&mut self, user_data: u64) {
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        match self.staged.last_mut() {
            Some((first, count)) if *first + *count == user_data => *count += 1,
            _ => self.staged.push((user_data, 1)),
        }
    }
}

impl Port for &mut Script {
    fn push(&mut self, _: GroupId, user_data: u64, payload: &[u8]) -> Result<(), String> {
        let number = u64::from_le_bytes(payload[..8].try_into().expect("eight bytes"));
        self.numbers.push(number);
        self.stage(user_data);
        Ok(())
    }

    fn push_read(&mut self, _: GroupId, user_data: u64) -> Result<(), String> {
        self.reads += 1;
        self.stage(user_data);
        Ok(())
    }

    fn submit(&mut self) -> Result<bool, String> {
        let at = clock::now() + self.delay;
        for (first, count) in std::mem::take(&mut self.staged) {
            let outcome = (self.refuse)(self.runs).unwrap_or(Outcome::Applied);
            self.runs += 1;
            self.waiting.push_back((at, Completed { first, count, outcome }));
        }
        Ok(true)
    }

    fn drain(&mut self, completed: &mut Vec<Completed>) -> Result<(), String> {
        while self.waiting.front().is_some_and(|(at, _)| *at <= clock::now()) {
            let (_, run) = self.waiting.pop_front().expect("it was there");
            self.in_flight -= run.count as usize;
            completed.push(run);
        }
        Ok(())
    }

    async fn wait(&mut self, timeout: Duration) -> Result<(), String> {
        let until = clock::now() + timeout.as_nanos() as u64;
        clock::sleep_until(self.waiting.front().map_or(until, |(at, _)| until.min(*at)));
        Ok(())
    }
}

struct Everything;

impl Routing for Everything {
    fn changes(&self) -> u64 {
        1
    }

    fn mine(&self, _: usize) -> bool {
        true
    }

    fn not_leader(&self, _: usize, _: Option<u64>) {}
}

const MS: u64 = 1_000_000;

fn plan(groups: u64, inflight: u64, rate: Option<u64>, ms: u64) -> LoadPlan {
    let begin = clock::now();
    let window = Window { start: begin, end: begin + ms * MS };
    let read_by = ReadBy::Index;
    LoadPlan { groups, inflight, payload: 16, rate, reads: 0, read_by, begin, window, remote: None }
}

fn run(script: &mut Script, plan: &LoadPlan) -> LoadReport {
    let progress = Arc::new(Progress::default());
    Loader::new(plan, 0..plan.groups, 3, (script, Everything), progress).run_here()
}

#[test]
fn a_closed_loop_keeps_what_was_asked_in_flight_and_knows_every_answer() {
    let mut script = Script::new(MS, |_| None);
    let report = run(&mut script, &plan(4, 64, None, 50));
    assert_eq!(script.most_in_flight, 64);
    assert_eq!(script.in_flight, 0);
    let acknowledged: u64 = report.groups.iter().map(|group| group.acknowledged.len()).sum();
    assert_eq!(acknowledged, script.numbers.len() as u64);
    assert_eq!(report.tally, Tally { acknowledged, errors: 0, unknown: 0 });
    assert!(report.latencies.quantile(0.5) >= MS);
}

#[test]
fn fewer_operations_than_groups_go_round() {
    let mut script = Script::new(MS / 10, |_| None);
    let report = run(&mut script, &plan(10, 3, None, 50));
    assert_eq!(script.most_in_flight, 3);
    assert!(report.groups.iter().all(|group| group.acknowledged.len() > 0));
}

#[test]
fn an_open_loop_counts_a_stall_for_all_that_it_delays() {
    // Answers take 50 ms and at most 10 operations may be in flight, but 100 are due.
    let mut script = Script::new(50 * MS, |_| None);
    let report = run(&mut script, &plan(1, 10, Some(1_000), 100));
    assert_eq!(script.most_in_flight, 10);
    assert_eq!(report.latencies.len(), 100, "sent or not, each counts");
    assert_eq!(report.unsent + script.numbers.len() as u64, 100);
    // Those that were due at 10 to 19 ms waited for the first ten, and then took 50 ms.
    assert!(report.latencies.max() >= 85 * MS, "max {}", report.latencies.max());
    assert!(report.unsent >= 70);
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let mut script = Script::new(MS / 10, |_| None);
    let report = run(&mut script, &plan(2, 100, Some(2_000), 100));
    let sent = script.numbers.len() as u64;
    assert!((190..=200).contains(&sent), "{sent} of 200 due");
    assert_eq!(report.latencies.len(), sent);
}

#[test]
fn busy_operations_come_again_late_and_under_new_numbers() {
    let mut script = Script::new(MS / 10, |run| (run == 0).then_some(Outcome::Busy));
    let report = run(&mut script, &plan(1, 8, None, 50));
    assert_eq!((report.busy, report.tally.errors), (8, 0));
    assert_eq!(report.groups[0].acknowledged.first(), Some(crate::ledger::number(3, 8)));
    assert!(report.latencies.max() >= REST, "the time before the second try counts");
}

#[test]
fn errors_and_unknown_outcomes_are_counted_apart() {
    let mut script = Script::new(MS / 10, |run| match run {
        1 => Some(Outcome::NotLeader(None)),
        2 => Some(Outcome::Unknown("lost".into())),
        _ => None,
    });
    let report = run(&mut script, &plan(1, 4, None, 60));
    assert_eq!((report.tally.errors, report.tally.unknown), (4, 4));
    assert_eq!(report.groups[0].unknown.len(), 4);
    assert_eq!(report.messages.len(), 2);
    assert!(report.tally.acknowledged > 4, "the load goes on");
}

#[test]
fn numbers_rise_by_one_in_each_group() {
    let mut script = Script::new(MS / 10, |_| None);
    run(&mut script, &plan(1, 16, None, 20));
    let first = crate::ledger::number(3, 0);
    assert!(script.numbers.iter().copied().eq((first..).take(script.numbers.len())));
}

#[test]
fn reads_are_their_share_of_the_operations_and_the_ledger_knows_the_writes() {
    for rate in [None, Some(4_000)] {
        // Some are put off, of both kinds.
        let mut script = Script::new(MS / 10, |run| (run % 7 == 3).then_some(Outcome::Busy));
        let plan = LoadPlan { reads: 90, ..plan(4, 50, rate, 60) };
        let report = run(&mut script, &plan);
        let (reads, writes) = (script.reads, script.numbers.len());
        assert!(writes > 0 && reads.abs_diff(9 * writes) <= 4 * 10 + report.busy as usize);
        assert!(script.most_in_flight <= 50);
        let written: u64 = report.groups.iter().map(|group| group.acknowledged.len()).sum();
        let done = (reads + writes) as u64 - report.busy;
        assert_eq!(report.tally, Tally { acknowledged: done, errors: 0, unknown: 0 });
        assert!(report.groups.iter().all(|group| group.acknowledged.len() > 0));
        assert!(written < done / 4);
        assert!(0 < report.reads && report.reads < report.ops);
        let counted = report.latencies.len() + report.read_latencies.len();
        assert!(counted <= done + report.unsent && report.read_latencies.len() > done / 2);
    }
}

#[test]
fn reads_that_never_found_room_count_among_the_reads() {
    let mut script = Script::new(50 * MS, |_| None);
    let report = run(&mut script, &LoadPlan { reads: 75, ..plan(1, 10, Some(1_000), 100) });
    assert_eq!((report.read_latencies.len(), report.latencies.len()), (75, 25));
    assert!(report.unsent >= 70);
}
