//! The nodes' clocks. Each runs at a speed of its own, which may change; only time that passed on
//! one clock is ever compared. All of it is integers, the same on every machine.

use crate::plan::MS;
use crate::rng::{Rng, SURE};
use crate::world::{Event, World};

/// Clocks that are promised to be this true, in parts of a million, keep a group live. Beyond that
/// it must be safe.
const PROMISED_PPM: u64 = 100_000;

/// How clocks and their ticks behave in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockPlan {
    /// Clocks run at up to this many parts of a million faster or slower.
    pub(crate) drift_ppm: u64,
    /// Parts of a million of the ticks that come late, and by how much at most.
    pub(crate) late_ppm: u32,
    pub(crate) late: u64,
}

impl ClockPlan {
    pub(crate) fn draw(rng: &mut Rng, election: u64) -> Self {
        let drift_ppm = match rng.below(20) {
            0..10 => 0,
            10..17 => rng.between(1_000, PROMISED_PPM),
            _ => rng.between(PROMISED_PPM, 900_000),
        };
        let late_ppm = if rng.coin() { 0 } else { rng.magnitude(100, 100_000) as u32 };
        Self { drift_ppm, late_ppm, late: rng.between(MS, election) }
    }

    /// By how much a clock may fall behind another while that one measures `span`, in nanoseconds.
    pub(crate) fn lag(self, span: u64) -> u64 {
        let apart = 2 * u128::from(self.drift_ppm) * u128::from(span);
        (apart / u128::from(u64::from(SURE) + self.drift_ppm)) as u64 + 10
    }

    /// Whether clocks keep the promise on which liveness rests.
    pub(crate) fn is_promised(self) -> bool {
        self.drift_ppm <= PROMISED_PPM
    }
}

/// A monotonic clock, from the start of its process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Parts of a million of true time.
    rate: u64,
    /// When it was last set to `local`.
    since: u64,
    local: u64,
}

impl Clock {
    pub(crate) fn new(rng: &mut Rng, drift_ppm: u64) -> Self {
        Self { rate: rate(rng, drift_ppm), since: 0, local: 0 }
    }

    pub(crate) fn read(&self, now: u64) -> u64 {
        let passed = u128::from(now - self.since) * u128::from(self.rate) / u128::from(SURE);
        self.local + passed as u64
    }

    pub(crate) fn restart(&mut self, now: u64) {
        (self.since, self.local) = (now, 0);
    }

    fn set_rate(&mut self, now: u64, rate: u64) {
        *self = Self { local: self.read(now), since: now, rate };
    }
}

fn rate(rng: &mut Rng, drift_ppm: u64) -> u64 {
    u64::from(SURE) + rng.below(2 * drift_ppm + 1) - drift_ppm
}

impl World {
    /// A node's clock runs at another speed from now on.
    pub(crate) fn change_clock(&mut self, node: usize, rng: &mut Rng) {
        let now = self.now();
        self.nodes[node].clock.set_rate(now, rate(rng, self.plan.clock.drift_ppm));
    }

    /// A node's clock stands still, as that of a machine that is suspended does, or goes on.
    pub(crate) fn suspend_clock(&mut self, node: usize, suspended: bool) {
        let now = self.now();
        let at = &mut self.nodes[node];
        let rate = if suspended { 0 } else { rate(&mut at.rng, PROMISED_PPM) };
        at.clock.set_rate(now, rate);
    }

    /// Clocks are as true as promised again.
    pub(crate) fn mend_clocks(&mut self) {
        let now = self.now();
        self.plan.clock.late_ppm = 0;
        if !self.plan.clock.is_promised() {
            for node in 0..self.plan.nodes {
                let at = &mut self.nodes[node];
                let rate = rate(&mut at.rng, PROMISED_PPM);
                at.clock.set_rate(now, rate);
            }
        }
        for seat in 0..self.plan.seats.count() {
            let life = self.life(seat);
            self.resume(seat, life);
        }
    }

    /// True time until a shard's next tick.
    pub(crate) fn tick_pause(&mut self, node: usize) -> u64 {
        let clock = self.plan.clock;
        let rng = &mut self.nodes[node].rng;
        let pause = rng.between(self.plan.tick / 2, self.plan.tick);
        let late = clock.late_ppm > 0 && rng.chance(clock.late_ppm);
        let late = if late { rng.below(clock.late) } else { 0 };
        self.counts.add("ticks that came late", u64::from(late > 0));
        pause + late
    }

    /// Whether the process stands still now that the shard's turn is over. All of it does.
    pub(crate) fn holds(&mut self, seat: usize, life: u32) -> bool {
        let now = self.now();
        let node = &mut self.nodes[self.plan.seats.node(seat)];
        let pause = std::mem::take(&mut node.holds_for);
        if pause == 0 {
            return false;
        }
        node.stalled_until = node.stalled_until.max(now + pause);
        let process = self.seats[seat].process.as_mut().expect("its turn was run");
        (process.held, process.turn_is_due) = (true, true);
        self.after(pause, Event::Resume { seat, life });
        true
    }

    /// What was held back is done.
    pub(crate) fn resume(&mut self, seat: usize, life: u32) {
        if !self.is_alive(seat, life) {
            return;
        }
        let process = self.seats[seat].process.as_mut().expect("it is alive");
        if std::mem::take(&mut process.held) {
            process.turn_is_due = false;
            self.end_turn(seat);
        }
    }
}
