//! The load generator: keeps so many operations in flight (closed loop), or starts them when they
//! are due (open loop), and keeps account of every one.
//!
//! What costs time per operation here is charged to the system under test, so everything is done
//! for runs of operations: one clock reading per turn, one histogram update, one range of numbers.
//! Of each operation only its bytes are written.

mod group;
mod open_loop;
mod port;
mod progress;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use ringleader::GroupId;

use crate::clock;
use crate::control::{LoadPlan, LoadReport, Tally};
use crate::ledger::NUMBER_LEN;
use group::{Due, GroupLoad};
use schedule::Schedule;

pub(crate) use port::{Completed, Outcome, Port, Routing};
pub(crate) use progress::Progress;

/// Bits of `user_data` that hold the operation's sequence number; above them is the group's place
/// in its loader, and the highest one tells reads.
const SEQUENCE_BITS: u32 = 40;
const READ: u64 = 1 << 63;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Read,
}

/// How long a group rests after an error that trying again at once would only repeat.
const REST: u64 = 10_000_000;
/// A loader with nothing to do looks for new groups this often.
const IDLE: u64 = 20_000_000;
/// How long operations in flight at the end may take to be answered.
const DRAIN: u64 = 20_000_000_000;

/// What is read of a group.
struct Reads {
    load: GroupLoad,
    /// Hundredths of a read that its operations so far fall short of.
    due: u64,
}

/// One thread's load on the groups of one shard.
pub(crate) struct Loader<P, R> {
    port: P,
    routing: R,
    plan: LoadPlan,
    schedule: Option<Schedule>,
    groups: Vec<GroupLoad>,
    /// Their reads, in a load that has some.
    reads: Vec<Reads>,
    /// Places of the groups that are loaded here, and the routing's state that this is from.
    active: Vec<usize>,
    changes_seen: u64,
    /// Places of groups that may have room, in a closed loop.
    refill: Vec<usize>,
    /// Groups that rest after an error, and until when.
    resting: Vec<(u64, usize)>,
    /// Where a closed loop with fewer operations than groups goes on.
    cursor: usize,
    in_flight: u64,
    payload: Vec<u8>,
    completed: Vec<Completed>,
    now: u64,
    report: LoadReport,
    progress: Arc<Progress>,
    published: Tally,
}

impl<P: Port, R: Routing> Loader<P, R> {
    /// A loader for the groups at `indices`; `session` marks its operations.
    pub(crate) fn new(
        plan: &LoadPlan,
        indices: impl Iterator<Item = u64>,
        session: u16,
        (port, routing): (P, R),
        progress: Arc<Progress>,
    ) -> Self {
        // Marks filler bytes, so that they are seen in a dump of the log.
        let payload = vec![b'.'; plan.payload.max(NUMBER_LEN)];
        let load = |index| GroupLoad::new(plan, index, session);
        let groups: Vec<_> = indices.map(load).collect();
        let read = groups.iter().filter(|_| plan.reads > 0);
        Self {
            port,
            routing,
            schedule: plan.rate.map(|rate| Schedule::new(plan.begin, rate, plan.groups)),
            reads: read.map(|group| Reads { load: load(group.index), due: 0 }).collect(),
            groups,
            active: Vec::new(),
            changes_seen: 0,
            refill: Vec::new(),
            resting: Vec::new(),
            cursor: 0,
            in_flight: 0,
            payload,
            completed: Vec::new(),
            now: 0,
            report: LoadReport::new(plan.groups),
            progress,
            published: Tally::default(),
            plan: plan.clone(),
        }
    }

    /// Loads from the plan's beginning to its end, then waits for what is in flight. Blocks the
    /// thread.
    pub(crate) fn run_here(self) -> LoadReport {
        clock::tighten_timers();
        clock::sleep_until(self.plan.begin);
        block_on(self.run())
    }

    /// The same from now on, as a task.
    pub(crate) async fn run(mut self) -> LoadReport {
        let mut loaded = self.load().await;
        if loaded.is_ok() {
            loaded = self.drain_rest().await;
        }
        if let Err(message) = loaded {
            self.report.tally.errors += 1;
            self.report.note(|| message);
        }
        self.finish()
    }

    async fn load(&mut self) -> Result<(), String> {
        self.now = clock::now();
        while self.now < self.plan.window.end {
            self.reroute();
            let next = self.push_due()?;
            let sent = self.port.submit()?;
            let most = if sent { next } else { self.now + 1_000_000 };
            self.turn(most).await?;
        }
        if let Some(schedule) = self.schedule {
            self.reroute();
            self.push_scheduled(schedule)?;
            self.give_up_unsent(schedule);
        }
        Ok(())
    }

    async fn drain_rest(&mut self) -> Result<(), String> {
        let deadline = self.now + DRAIN;
        while self.in_flight > 0 && self.now < deadline {
            let sent = self.port.submit()?;
            let most = if sent { deadline } else { self.now + 1_000_000 };
            self.turn(most).await?;
        }
        Ok(())
    }

    /// Waits for completions, `until` then at most, and settles them.
    async fn turn(&mut self, until: u64) -> Result<(), String> {
        let timeout = until.saturating_sub(self.now).clamp(1_000, IDLE);
        self.port.wait(Duration::from_nanos(timeout)).await?;
        let mut completed = std::mem::take(&mut self.completed);
        self.port.drain(&mut completed)?;
        // Read after the drain: what came while it ran is not counted as faster than it was.
        self.now = clock::now();
        completed.drain(..).for_each(|run| self.settle(run));
        self.completed = completed;
        self.progress.publish(&self.report.tally, &mut self.published);
        Ok(())
    }

    /// Learns which groups are loaded here.
    fn reroute(&mut self) {
        let changes = self.routing.changes();
        if changes == self.changes_seen {
            return;
        }
        let begun = std::mem::replace(&mut self.changes_seen, changes) > 0;
        self.active.clear();
        for (place, group) in self.groups.iter_mut().enumerate() {
            let mine = self.routing.mine(group.index as usize);
            if mine
                && !group.active
                && let Some(schedule) = &self.schedule
            {
                // What was due while nobody or another node led is not made up for here.
                let missed = if begun { schedule.total(self.now) } else { 0 };
                group.scheduled = group.scheduled.max(schedule.share(missed, group.index));
            }
            group.active = mine;
            if mine {
                self.active.push(place);
            }
        }
        self.refill.clone_from(&self.active);
    }

    /// Stages what is due and fits; says when there may be more without a completion.
    fn push_due(&mut self) -> Result<u64, String> {
        self.end_rests();
        match self.schedule {
            Some(schedule) => self.push_scheduled(schedule),
            None if self.plan.inflight < self.plan.groups => self.push_rotating(),
            None => self.push_refills(),
        }
    }

    fn end_rests(&mut self) {
        let now = self.now;
        for (_, place) in self.resting.extract_if(.., |(until, _)| *until <= now) {
            self.groups[place].resting = false;
            self.refill.push(place);
        }
    }

    /// Closed loop: each group has as many in flight as is its share.
    fn push_refills(&mut self) -> Result<u64, String> {
        while let Some(place) = self.refill.pop() {
            let group = &self.groups[place];
            if group.active && !group.resting {
                self.push(place, self.room(place), Some(Due::At(self.now)))?;
            }
        }
        Ok(u64::MAX)
    }

    /// Closed loop with fewer operations in flight than groups: the groups take turns.
    fn push_rotating(&mut self) -> Result<u64, String> {
        let share: u64 = self.active.iter().map(|place| self.groups[*place].share).sum();
        let mut room = share.saturating_sub(self.in_flight);
        let mut tried = 0;
        while room > 0 && tried < self.active.len() {
            self.cursor = (self.cursor + 1) % self.active.len();
            let place = self.active[self.cursor];
            tried += 1;
            if !self.groups[place].resting {
                self.push(place, 1, Some(Due::At(self.now)))?;
                room -= 1;
                tried = 0;
            }
        }
        Ok(u64::MAX)
    }

    /// How many more operations of the group may be in flight.
    fn room(&self, place: usize) -> u64 {
        let reads = self.reads.get(place).map_or(0, |reads| reads.load.in_flight());
        self.groups[place].room().saturating_sub(reads)
    }

    /// Stages `count` operations: those that were put off first, then new ones that are `due`.
    fn push(&mut self, place: usize, count: u64, due: Option<Due>) -> Result<(), String> {
        let reads = self.reads_among(place, count);
        if reads > 0 {
            self.push_all(Kind::Read, place, reads, due)?;
        }
        if reads < count {
            self.push_all(Kind::Write, place, count - reads, due.map(|due| due.skip(reads)))?;
        }
        Ok(())
    }

    /// How many of the group's next `count` operations read; they come first.
    fn reads_among(&mut self, place: usize, count: u64) -> u64 {
        let Some(reads) = self.reads.get_mut(place) else { return 0 };
        let hundredths = reads.due + count * self.plan.reads;
        reads.due = hundredths % 100;
        hundredths / 100
    }

    /// Stages what was put off and finds room now.
    fn push_put_off(&mut self, place: usize) -> Result<(), String> {
        for kind in [Kind::Write, Kind::Read] {
            let waiting = match kind {
                Kind::Write => self.groups[place].retries(),
                Kind::Read => self.reads.get(place).map_or(0, |reads| reads.load.retries()),
            };
            let count = waiting.min(self.room(place));
            if count > 0 {
                self.push_all(kind, place, count, None)?;
            }
        }
        Ok(())
    }

    fn push_all(
        &mut self,
        kind: Kind,
        place: usize,
        count: u64,
        due: Option<Due>,
    ) -> Result<(), String> {
        let (first, end) = self.load_of(kind, place).begin(count, due);
        let group = &self.groups[place];
        let (id, base) = (GroupId(group.index + 1), (place as u64) << SEQUENCE_BITS);
        match kind {
            Kind::Write => {
                let number = group.number(0);
                for sequence in first..end {
                    self.payload[..NUMBER_LEN].copy_from_slice(&(number + sequence).to_le_bytes());
                    self.port.push(id, base | sequence, &self.payload)?;
                }
            }
            Kind::Read => {
                for sequence in first..end {
                    self.port.push_read(id, READ | base | sequence)?;
                }
            }
        }
        self.in_flight += end - first;
        Ok(())
    }

    fn load_of(&mut self, kind: Kind, place: usize) -> &mut GroupLoad {
        match kind {
            Kind::Write => &mut self.groups[place],
            Kind::Read => &mut self.reads[place].load,
        }
    }

    fn settle(&mut self, run: Completed) {
        let kind = if run.first & READ == 0 { Kind::Write } else { Kind::Read };
        let place = ((run.first & !READ) >> SEQUENCE_BITS) as usize;
        let first = run.first & ((1 << SEQUENCE_BITS) - 1);
        let (end, count) = (first + run.count, run.count);
        self.in_flight -= count;
        match run.outcome {
            Outcome::Applied => self.acknowledge(kind, place, first, end),
            Outcome::Busy => {
                self.report.busy += count;
                self.load_of(kind, place).put_off(first, end);
                self.rest(place);
            }
            Outcome::NotLeader(leader) => {
                self.fail(kind, place, first, end);
                self.routing.not_leader(self.groups[place].index as usize, leader);
                self.report.note(|| "a node that was asked did not lead the group".into());
            }
            Outcome::Failed(message) => {
                self.fail(kind, place, first, end);
                self.report.note(|| message);
            }
            Outcome::Unknown(message) => {
                self.report.tally.unknown += count;
                let group = &mut self.groups[place];
                let (from, to) = (group.number(first), group.number(end));
                self.report.groups[group.index as usize].unknown.insert(from, to);
                group.finish(first, end, |_, _| {});
                self.rest(place);
                self.report.note(|| message);
            }
        }
    }

    fn acknowledge(&mut self, kind: Kind, place: usize, first: u64, end: u64) {
        let group = &mut self.groups[place];
        let (report, now, window) = (&mut self.report, self.now, self.plan.window);
        report.tally.acknowledged += end - first;
        let counted = if window.contains(now) { end - first } else { 0 };
        report.ops += counted;
        let (schedule, index) = (self.schedule, group.index);
        let (load, latencies) = match kind {
            Kind::Write => {
                let (from, to) = (group.number(first), group.number(end));
                report.groups[index as usize].acknowledged.insert(from, to);
                (group, &mut report.latencies)
            }
            Kind::Read => {
                report.reads += counted;
                (&mut self.reads[place].load, &mut report.read_latencies)
            }
        };
        let mut record = |due: u64, count| {
            if window.contains(due) {
                latencies.record(now.saturating_sub(due), count);
            }
        };
        load.finish(first, end, |due, count| match (due, schedule) {
            (Due::Scheduled(nth), Some(schedule)) => {
                (nth..nth + count).for_each(|nth| record(schedule.due(index, nth), 1));
            }
            (Due::At(at) | Due::Scheduled(at), _) => record(at, count),
        });
        self.refill.push(place);
    }

    fn fail(&mut self, kind: Kind, place: usize, first: u64, end: u64) {
        self.report.tally.errors += end - first;
        self.load_of(kind, place).finish(first, end, |_, _| {});
        self.rest(place);
    }

    fn rest(&mut self, place: usize) {
        if !std::mem::replace(&mut self.groups[place].resting, true) {
            self.resting.push((self.now + REST, place));
        }
    }

    /// What is still not answered is unknown.
    fn finish(mut self) -> LoadReport {
        for group in &self.groups {
            for (first, end) in group.unanswered() {
                self.report.tally.unknown += end - first;
                let unknown = &mut self.report.groups[group.index as usize].unknown;
                unknown.insert(group.number(first), group.number(end));
            }
        }
        for reads in &self.reads {
            self.report.tally.errors += reads.load.in_flight();
        }
        if self.in_flight > 0 {
            let left = self.in_flight;
            self.report.note(|| format!("{left} operations were never answered"));
        }
        self.progress.publish(&self.report.tally, &mut self.published);
        self.report
    }
}

#[cfg(test)]
mod tests;
