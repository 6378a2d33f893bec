//! The way of a call: submitted, answered or given up, asked again elsewhere; and at the end of
//! the run, whether all that callers were told has an order.

use std::collections::BTreeMap;

use ringleader::shard::{Applied, Submission};
use ringleader::{GroupId, ProposeError};

use crate::applied::OpName;
use crate::clients::{Asked, Fate};
use crate::inputs;
use crate::line::Line;
use crate::linearizability::{Operation, Verdict, check};
use crate::machine::{self, BUDGET, Subject, told};
use crate::plan::MS;
use crate::schedule::Call;
use crate::world::{Event, World};

impl World {
    pub(crate) fn schedule_call(&mut self, at: usize) {
        if let Some(call) = self.schedule.calls.get(at) {
            let pause = call.at - self.now();
            self.after(pause, Event::Call(at));
        }
    }

    /// A call of the schedule.
    pub(crate) fn call(&mut self, at: usize) {
        if self.healed {
            return;
        }
        self.schedule_call(at + 1);
        let call = self.schedule.calls[at];
        if self.call_reads(call) {
            return;
        }
        match self.clients.next(call.caller, call.seed, &self.plan.groups) {
            Some((node, submission)) => {
                self.trace.line(|| {
                    let Call { number, caller, .. } = call;
                    let names = &submission.user_data;
                    format!(
                        "*** call {number}: caller {caller} asks node {} for {names:?}",
                        node + 1
                    )
                });
                self.ask(node, call.caller, submission);
            }
            None => self.counts.add("calls left out by busy callers", 1),
        }
    }

    /// A submission leaves its caller, whose patience ends some time later.
    fn ask(&mut self, node: usize, client: u32, submission: Submission) {
        let first = OpName(submission.user_data[0]);
        let count = submission.len();
        let delay = self.clients.rng.below(MS);
        self.after(delay, Event::Submit { node, client, submission });
        self.after(self.plan.load.timeout, Event::TimeOut { first, count });
    }

    /// A caller's operations reach a node, each the shard that keeps its group.
    pub(crate) fn submit(&mut self, node: usize, client: u32, submission: &Submission) {
        self.clients.reached(&submission.user_data, self.nodes[node].life);
        let seats = &self.plan.seats;
        if self.seats[seats.of(node).start].process.is_none() {
            self.refuse(submission);
            return;
        }
        let mut parts: BTreeMap<usize, Submission> = BTreeMap::new();
        let asked = &self.clients.asked;
        let (mut start, mut ops) = (0, submission.user_data.iter().zip(&submission.ends));
        for &(group, count) in &submission.groups {
            let part = parts.entry(seats.of_group(group, node)).or_default();
            for (name, end) in ops.by_ref().take(count as usize) {
                let payload = &submission.payload[start..*end as usize];
                match asked[*name as usize].bound {
                    None => part.push(group, *name, payload),
                    Some(term) => part.push_in_term(group, term, *name, payload),
                }
                start = *end as usize;
            }
        }
        for (seat, mut part) in parts {
            machine::arrive(self, seat, &mut part);
            self.feed(seat, inputs::Input::Submit(client, part));
        }
    }

    /// The node was not there: nothing of it was proposed.
    fn refuse(&mut self, submission: &Submission) {
        for name in &submission.user_data {
            let name = OpName(*name);
            let at = self.group_of(name);
            if self.clients.answer(name, at, Err(&ProposeError::Stopped)) {
                self.ask_again_later(name);
            }
        }
    }

    pub(crate) fn time_out(&mut self, first: OpName, count: usize) {
        for name in (first.0..first.0 + count as u64).map(OpName) {
            let at = self.group_of(name);
            if self.clients.time_out(name, at) {
                self.ask_again_later(name);
            }
        }
    }

    pub(crate) fn ask_again_later(&mut self, name: OpName) {
        let backoff = self.clients.rng.between(MS / 10, self.plan.load.backoff);
        self.after(backoff, Event::AskAgain(name));
    }

    pub(crate) fn ask_again(&mut self, name: OpName) {
        if self.healed {
            return;
        }
        let caller = self.clients.asked[name.0 as usize].caller;
        let (node, submission) = self.clients.again(name, &self.plan.groups);
        self.ask(node, caller, submission);
    }

    /// An answer reached its caller.
    pub(crate) fn told(
        &mut self,
        seat: usize,
        name: OpName,
        result: Result<&Applied<'_>, &ProposeError>,
    ) {
        let at = self.group_of(name);
        self.trace.step("answer", seat as u64, name.0, u64::from(result.is_ok()));
        let place = self.plan.seats.name(seat);
        self.trace.line(|| format!("node {place} answers operation {}: {result:?}", name.0));
        let command = self.clients.asked[name.0 as usize].command;
        let short = result.map(|done| (done.index, done.term, told(&command, done.reply)));
        if self.clients.answer(name, at, short) {
            self.ask_again_later(name);
        }
        let fate = self.clients.asked[name.0 as usize].fate;
        self.checker.answered(at, name.0, fate, result.ok());
        if matches!(result, Err(ProposeError::Transferring { .. })) {
            self.counts.add("operations refused during transfers", 1);
        }
        if matches!(result, Err(ProposeError::WrongTerm { .. })) {
            self.counts.add("operations refused in another term", 1);
        }
        if fate == Fate::Unknown {
            self.counts.add("outcomes unknown", 1);
        }
    }

    pub(crate) fn group_of(&self, name: OpName) -> usize {
        let group = self.clients.asked[name.0 as usize].group;
        self.plan.groups.iter().position(|known| *known == group).expect("a known group")
    }

    /// Where an operation is believed to be in the order of all: that of the log, in which each read
    /// has a place of its own after the entry that it saw.
    fn hint(line: &Line, name: usize, asked: &Asked) -> Option<u64> {
        let place = line.find(name as u64).map(|op| op.index << 32);
        place.or(asked.read_at.map(|index| (index << 32) + name as u64 + 1))
    }

    /// The history of every object has an order (linearizability). What was never applied, now that
    /// all members agree, never will be: without it the search is stricter, and shorter.
    pub(crate) fn check_histories(&mut self) {
        for group in self.plan.groups.clone() {
            for era in 0..self.checker.history(group).lines().len() {
                self.check_line(group, era);
            }
        }
    }

    /// What was seen in one era. A read belongs to the last one at its moment that had what it saw.
    fn check_line(&mut self, group: GroupId, era: usize) {
        let lines = self.checker.history(group).lines();
        let line = &lines[era];
        let ends = lines.get(era + 1).map_or(u64::MAX, |next| next.since);
        let mut histories: BTreeMap<u8, Vec<(usize, &Asked)>> = BTreeMap::new();
        let of_group = self.clients.asked.iter().enumerate().filter(|(_, of)| of.group == group);
        for (name, asked) in of_group.filter(|(_, asked)| !self.is_exempt(asked)) {
            let seen = match asked.read {
                None => line.find(name as u64).is_some(),
                Some(_) => asked
                    .returned
                    .is_some_and(|(moment, _)| moment < ends && line.contains(asked.read_after)),
            };
            if seen {
                histories.entry(asked.command.object()).or_default().push((name, asked));
            }
        }
        self.counts.add("histories checked", histories.len() as u64);
        for (object, history) in histories {
            machine::check_history(&history, &mut self.counts);
            // What there was at first, as if somebody had put it there before all others.
            let founded = self.checker.history(group).founded.as_ref();
            let first = founded.and_then(|founded| founded.image.origin(object));
            let first = first.map(|(input, output)| Operation::<Subject> {
                input,
                called: 0,
                returned: Some((0, output)),
                hint: Some(1),
            });
            let given = usize::from(first.is_some());
            let asked = history.iter().map(|(name, asked)| Operation {
                input: asked.command.input,
                called: asked.called,
                returned: asked.returned,
                hint: Self::hint(line, *name, asked),
            });
            let operations: Vec<_> = first.into_iter().chain(asked).collect();
            let (verdict, explained, stuck) = match check(&operations, BUDGET) {
                Verdict::Linearizable => continue,
                Verdict::Violated { explained, stuck } => ("violated", explained, stuck),
                Verdict::OutOfBudget { explained, stuck } => ("unknown", explained, stuck),
            };
            let asked = stuck.iter().filter_map(|at| at.checked_sub(given));
            let stuck: Vec<_> = asked.map(|at| &history[at]).collect();
            panic!(
                "linearizability {verdict}: group {group} object {object}: {explained} of {} operations \
                 have an order, and none of these can be next: {stuck:#?}",
                operations.len()
            );
        }
    }
}
