//! The linearizability checker, against histories that are known to be good or bad, and against
//! trying every order.

#[path = "linearizability/mod.rs"]
mod linearizability;

use linearizability::register::{Input, Output, Register, appended};
use linearizability::{Model as _, Operation, Verdict, check};

use Input::{Append, Get, Put, Swap};
use Output::{Done, Swapped, Value};

/// Far above what any of these histories need.
const BUDGET: u64 = 100_000;

type Op = Operation<Register>;

fn op(called: u64, returned: u64, input: Input, output: Output) -> Op {
    Operation { input, called, returned: Some((returned, output)), hint: None }
}

/// One whose caller was never told.
fn lost(called: u64, input: Input) -> Op {
    Operation { input, called, returned: None, hint: None }
}

#[track_caller]
fn good(history: &[Op]) {
    assert_eq!(check(history, BUDGET), Verdict::Linearizable);
}

#[track_caller]
fn bad(history: &[Op]) {
    let verdict = check(history, BUDGET);
    assert!(matches!(verdict, Verdict::Violated { .. }), "{verdict:?}");
}

#[test]
fn one_after_the_other() {
    good(&[]);
    good(&[op(0, 1, Get, Value(0)), op(2, 3, Put(5), Done), op(4, 5, Get, Value(5))]);
    bad(&[op(0, 1, Put(5), Done), op(2, 3, Put(6), Done), op(4, 5, Get, Value(5))]);
}

#[test]
fn a_read_during_a_write_sees_either() {
    good(&[op(0, 9, Put(5), Done), op(1, 2, Get, Value(0))]);
    good(&[op(0, 9, Put(5), Done), op(1, 2, Get, Value(5))]);
}

#[test]
fn a_stale_read() {
    bad(&[op(0, 1, Put(5), Done), op(2, 3, Get, Value(0))]);
}

#[test]
fn a_read_that_goes_back() {
    bad(&[op(0, 9, Put(5), Done), op(1, 2, Get, Value(5)), op(3, 4, Get, Value(0))]);
    // The same while the reads overlap.
    good(&[op(0, 9, Put(5), Done), op(1, 3, Get, Value(5)), op(2, 4, Get, Value(0))]);
}

#[test]
fn a_value_out_of_nowhere() {
    bad(&[op(0, 1, Put(5), Done), op(2, 3, Get, Value(7))]);
    // Nor may a read see a write that is called later.
    bad(&[op(0, 1, Get, Value(5)), op(2, 3, Put(5), Done)]);
}

#[test]
fn a_lost_update() {
    let (one, two) = (appended(0, 1), appended(0, 2));
    bad(&[op(0, 2, Append(1), Value(one)), op(1, 3, Append(2), Value(two))]);
    let both = appended(one, 2);
    good(&[op(0, 2, Append(1), Value(one)), op(1, 3, Append(2), Value(both))]);
    bad(&[op(0, 1, Append(1), Value(one)), op(2, 3, Append(2), Value(two))]);
}

#[test]
fn appends_in_two_orders() {
    let (ab, ba) = (appended(appended(0, 1), 2), appended(appended(0, 2), 1));
    let writes = [lost(0, Append(1)), lost(0, Append(2))];
    let [a, b] = writes.clone();
    good(&[a, b, op(5, 6, Get, Value(ba)), op(7, 8, Get, Value(ba))]);
    let [a, b] = writes;
    bad(&[a, b, op(5, 6, Get, Value(ba)), op(7, 8, Get, Value(ab))]);
}

#[test]
fn a_swap_succeeds_once() {
    let swap = |to| Swap { from: 1, to };
    let put = op(0, 1, Put(1), Done);
    bad(&[put.clone(), op(2, 9, swap(5), Swapped(true)), op(3, 8, swap(6), Swapped(true))]);
    good(&[put.clone(), op(2, 9, swap(5), Swapped(true)), op(3, 8, swap(6), Swapped(false))]);
    bad(&[put.clone(), op(2, 3, swap(5), Swapped(false))]);
    bad(&[put, op(2, 3, swap(5), Swapped(false)), op(4, 5, Get, Value(1))]);
}

#[test]
fn an_unknown_outcome_takes_effect_late_or_never() {
    let read = |at, value| op(at, at + 1, Get, Value(value));
    good(&[lost(0, Put(5)), read(10, 0), read(20, 0), read(30, 5)]);
    good(&[lost(0, Put(5)), read(10, 0), read(20, 0)]);
    good(&[lost(0, Put(5)), read(10, 5), op(20, 21, Put(6), Done), read(30, 6)]);
    // Late, over another write; but not twice.
    good(&[lost(0, Put(5)), op(20, 21, Put(6), Done), read(30, 6), read(40, 5)]);
    bad(&[lost(0, Put(5)), read(10, 5), op(20, 21, Put(6), Done), read(30, 6), read(40, 5)]);
    // And not before its call.
    bad(&[read(10, 5), lost(20, Put(5))]);
    bad(&[lost(0, Append(1)), read(10, appended(appended(0, 1), 1))]);
}

#[test]
fn many_unknown_outcomes_are_affordable() {
    let mut history = Vec::new();
    for at in 0..300 {
        history.push(lost(at * 10, Append(at + 1)));
        history.push(lost(at * 10 + 1, Put(1000 + at)));
        history.push(op(at * 10 + 2, at * 10 + 9, Get, Value(if at < 200 { 0 } else { 1100 })));
    }
    good(&history);
}

#[test]
fn a_long_history_of_many_callers_is_affordable() {
    let mut history = Vec::new();
    let mut value = 0;
    for at in 0..5000 {
        value = appended(value, at);
        history.push(op(at * 10, at * 10 + 75, Append(at), Value(value)));
    }
    good(&history);
    history[4000].returned = Some((40_075, Value(7)));
    bad(&history);
}

#[test]
fn hints_find_the_order_of_what_tells_nothing() {
    let mut history = Vec::new();
    for at in 0..200 {
        history.push(Operation { hint: Some(900 - at), ..op(at, 5000, Put(at + 1), Done) });
    }
    // The last put is the one that was called first.
    history.push(op(6000, 6001, Get, Value(1)));
    good(&history);
}

#[test]
fn a_budget_that_runs_out_says_so() {
    let history = [op(0, 1, Put(5), Done), op(2, 3, Get, Value(5))];
    let verdict = check(&history, 1);
    assert!(matches!(verdict, Verdict::OutOfBudget { .. }), "{verdict:?}");
}

/// SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Whether some order explains what is left of the history: all of them are tried.
fn explained(history: &[Op], used: &mut Vec<bool>, state: u64) -> bool {
    let left = |used: &Vec<bool>| (0..history.len()).filter(|at| !used[*at]).collect::<Vec<_>>();
    let open = left(used);
    let returns = open.iter().filter_map(|at| history[*at].returned);
    let Some(end) = returns.map(|(returned, _)| returned).min() else { return true };
    open.into_iter().filter(|at| history[*at].called <= end).any(|at| {
        let (next, output) = Register::apply(&state, &history[at].input);
        if history[at].returned.is_some_and(|(_, told)| told != output) {
            return false;
        }
        used[at] = true;
        let found = explained(history, used, next);
        used[at] = false;
        found
    })
}

fn drawn(numbers: &mut Numbers) -> Vec<Op> {
    let mut history = Vec::new();
    let mut state = 0;
    for at in 0..numbers.below(7) {
        let value = numbers.below(3);
        let input = match numbers.below(4) {
            0 => Get,
            1 => Put(value),
            2 => Swap { from: value, to: numbers.below(3) },
            _ => Append(value),
        };
        let (next, mut output) = Register::apply(&state, &input);
        state = next;
        if numbers.below(8) == 0 {
            output = if input == Get { Value(value) } else { Swapped(numbers.below(2) == 0) };
        }
        let called = (at * 10).saturating_sub(numbers.below(30));
        let returned = at * 10 + numbers.below(30);
        let hint = (numbers.below(2) == 0).then(|| numbers.below(9));
        let told = (numbers.below(4) > 0).then_some((returned, output));
        history.push(Operation { input, called, returned: told, hint });
    }
    history
}

#[test]
fn the_search_finds_what_trying_every_order_finds() {
    let mut numbers = Numbers(1);
    let mut verdicts = [0, 0];
    for _ in 0..20_000 {
        let history = drawn(&mut numbers);
        let truth = explained(&history, &mut vec![false; history.len()], 0);
        let verdict = check(&history, BUDGET);
        assert_eq!(verdict == Verdict::Linearizable, truth, "{verdict:?}: {history:#?}");
        verdicts[usize::from(truth)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 2_000), "both occur: {verdicts:?}");
}
