//! The load generator: keeps so many operations in flight (closed loop), or starts them when they
//! are due (open loop), and keeps account of every one.
//!
//! What costs time per operation here is charged to the system under test, so everything is done
//! for runs of operations: one clock reading per turn, one histogram update, one range of numbers.
//! Of each operation only its bytes are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_lite::future::block_on;
use ringleader::GroupId;

use crate::clock;
use crate::control::{LoadPlan, LoadReport, Tally};
use crate::group_load::{Due, GroupLoad};
use crate::ledger::NUMBER_LEN;
use crate::schedule::Schedule;

/// Bits of `user_data` that hold the operation's sequence number; above them is the group's place
/// in its loader.
const SEQUENCE_BITS: u32 = 40;

/// How long a group rests after an error that trying again at once would only repeat.
const REST: u64 = 10_000_000;
/// An open loop with much to do wakes this often, so that it leaves the core to the engine.
const OPEN_LOOP_STEP: u64 = 20_000;
/// A loader with nothing to do looks for new groups this often.
const IDLE: u64 = 20_000_000;
/// How long operations in flight at the end may take to be answered.
const DRAIN: u64 = 20_000_000_000;

/// What became of consecutive operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Applied,
    /// Not proposed, and the leader is elsewhere, if anywhere.
    NotLeader(Option<u64>),
    /// Not proposed because of a limit.
    Busy,
    /// It may take effect or not.
    Unknown(String),
    /// Not proposed, for good.
    Failed(String),
}

/// Operations whose `user_data` is consecutive, and what became of them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Completed {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) outcome: Outcome,
}

/// A way to propose operations to the groups of one shard.
pub(crate) trait Port {
    /// Stages an operation.
    ///
    /// # Errors
    /// What the port was not made for: a programming error or a dead engine.
    fn push(&mut self, group: GroupId, user_data: u64, payload: &[u8]) -> Result<(), String>;
    /// Sends what is staged; false when there is no room for now.
    fn submit(&mut self) -> Result<bool, String>;
    /// Appends what has completed. Never waits.
    fn drain(&mut self, completed: &mut Vec<Completed>) -> Result<(), String>;
    /// Waits until there may be something to drain. A port on a thread of its own blocks that.
    fn wait(&mut self, timeout: Duration) -> impl Future<Output = Result<(), String>>;
}

/// Tells a loader which groups it is to load.
pub(crate) trait Routing {
    /// Rises with every change of [`mine`](Self::mine).
    fn changes(&self) -> u64;
    /// Whether the group at `index` (counted from zero) is to be loaded here.
    fn mine(&self, index: usize) -> bool;
    /// An operation for the group was refused here; `leader` would have taken it.
    fn not_leader(&self, index: usize, leader: Option<u64>);
}

/// How far the loaders of a process are, for whoever watches.
#[derive(Default)]
pub(crate) struct Progress {
    acknowledged: AtomicU64,
    errors: AtomicU64,
    unknown: AtomicU64,
}

impl Progress {
    fn publish(&self, now: &Tally, published: &mut Tally) {
        let add = |to: &AtomicU64, now, before| to.fetch_add(now - before, Ordering::Relaxed);
        add(&self.acknowledged, now.acknowledged, published.acknowledged);
        add(&self.errors, now.errors, published.errors);
        add(&self.unknown, now.unknown, published.unknown);
        *published = *now;
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            acknowledged: self.acknowledged.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            unknown: self.unknown.load(Ordering::Relaxed),
        }
    }
}

/// One thread's load on the groups of one shard.
pub(crate) struct Loader<P, R> {
    port: P,
    routing: R,
    plan: LoadPlan,
    schedule: Option<Schedule>,
    groups: Vec<GroupLoad>,
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
        Self {
            port,
            routing,
            schedule: plan.rate.map(|rate| Schedule::new(plan.begin, rate, plan.groups)),
            groups: indices.map(|index| GroupLoad::new(plan, index, session)).collect(),
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

    /// What was due in the window and found no room counts with the time it has waited: leaving it
    /// out would flatter an overloaded system.
    fn give_up_unsent(&mut self, schedule: Schedule) {
        let total = schedule.total(self.plan.window.end - 1);
        for group in self.groups.iter_mut().filter(|group| group.active) {
            let index = group.index;
            let due = |nth| schedule.due(index, nth);
            let put_off = group.take_put_off(due);
            let scheduled = (group.scheduled..schedule.share(total, index)).map(due);
            for due in put_off.into_iter().chain(scheduled) {
                self.report.unsent += 1;
                if self.plan.window.contains(due) {
                    self.report.latencies.record(self.now.saturating_sub(due), 1);
                }
            }
        }
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

    /// Open loop: every operation that is due by now.
    fn push_scheduled(&mut self, schedule: Schedule) -> Result<u64, String> {
        let total = schedule.total(self.now.min(self.plan.window.end - 1));
        let mut next = u64::MAX;
        for at in 0..self.active.len() {
            let place = self.active[at];
            let group = &self.groups[place];
            if group.resting {
                continue;
            }
            let room = group.room();
            let retries = group.retries().min(room);
            let due = schedule.share(total, group.index).saturating_sub(group.scheduled);
            let due = due.min(room - retries);
            if retries + due > 0 {
                self.push(place, retries, None)?;
                let scheduled = self.groups[place].scheduled;
                self.push(place, due, Some(Due::Scheduled(scheduled)))?;
                self.groups[place].scheduled += due;
            }
            let group = &self.groups[place];
            if group.room() > 0 {
                next = next.min(schedule.due(group.index, group.scheduled));
            }
        }
        Ok(next.max(self.now + OPEN_LOOP_STEP))
    }

    /// Closed loop: each group has as many in flight as is its share.
    fn push_refills(&mut self) -> Result<u64, String> {
        while let Some(place) = self.refill.pop() {
            let group = &self.groups[place];
            if group.active && !group.resting {
                self.push(place, group.room(), Some(Due::At(self.now)))?;
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

    /// Stages `count` operations: those that were put off first, then new ones that are `due`.
    fn push(&mut self, place: usize, count: u64, due: Option<Due>) -> Result<(), String> {
        let group = &mut self.groups[place];
        let (first, end) = group.begin(count, due);
        let (id, base) = (GroupId(group.index + 1), (place as u64) << SEQUENCE_BITS);
        let number = group.number(0);
        for sequence in first..end {
            self.payload[..NUMBER_LEN].copy_from_slice(&(number + sequence).to_le_bytes());
            self.port.push(id, base | sequence, &self.payload)?;
        }
        self.in_flight += end - first;
        Ok(())
    }

    fn settle(&mut self, run: Completed) {
        let place = (run.first >> SEQUENCE_BITS) as usize;
        let first = run.first & ((1 << SEQUENCE_BITS) - 1);
        let (end, count) = (first + run.count, run.count);
        self.in_flight -= count;
        match run.outcome {
            Outcome::Applied => self.acknowledge(place, first, end),
            Outcome::Busy => {
                self.report.busy += count;
                self.groups[place].put_off(first, end);
                self.rest(place);
            }
            Outcome::NotLeader(leader) => {
                self.fail(place, first, end);
                self.routing.not_leader(self.groups[place].index as usize, leader);
                self.report.note(|| "a node that was asked did not lead the group".into());
            }
            Outcome::Failed(message) => {
                self.fail(place, first, end);
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

    fn acknowledge(&mut self, place: usize, first: u64, end: u64) {
        let group = &mut self.groups[place];
        let (report, now, window) = (&mut self.report, self.now, self.plan.window);
        report.tally.acknowledged += end - first;
        if window.contains(now) {
            report.ops += end - first;
        }
        let (from, to) = (group.number(first), group.number(end));
        report.groups[group.index as usize].acknowledged.insert(from, to);
        let (schedule, index) = (self.schedule, group.index);
        let latencies = &mut report.latencies;
        let mut record = |due: u64, count| {
            if window.contains(due) {
                latencies.record(now.saturating_sub(due), count);
            }
        };
        group.finish(first, end, |due, count| match (due, schedule) {
            (Due::Scheduled(nth), Some(schedule)) => {
                (nth..nth + count).for_each(|nth| record(schedule.due(index, nth), 1));
            }
            (Due::At(at) | Due::Scheduled(at), _) => record(at, count),
        });
        self.refill.push(place);
    }

    fn fail(&mut self, place: usize, first: u64, end: u64) {
        self.report.tally.errors += end - first;
        self.groups[place].finish(first, end, |_, _| {});
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
        if self.in_flight > 0 {
            let left = self.in_flight;
            self.report.note(|| format!("{left} operations were never answered"));
        }
        self.progress.publish(&self.report.tally, &mut self.published);
        self.report
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
