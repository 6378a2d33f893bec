//! The load: a thread that keeps so many operations in flight (closed loop), or proposes them when
//! they are due (open loop), in the groups that this node leads.
//!
//! Its processor time counts as the peer's, so it works on as many operations at a time as there
//! are: one look at the clock, one call of the engine and one allocation for all of them.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use crate::clock;
use crate::node::Node;
use crate::operation::{Completed, Engine, Failure, Operation, Proposal};
use crate::tally::Tally;

/// Most bytes of payload in flight, so that the memory of a run with many big operations is
/// bounded: an engine holds each a few times (log, cache, buffers of two connections).
const MAX_INFLIGHT_BYTES: usize = 64 << 20;
/// Most operations and bytes of one call of the engine, which can begin with them while the next are
/// made.
const CALL_OPERATIONS: usize = 4096;
const CALL_BYTES: usize = 1 << 18;
/// An open loop that is busy wakes this often, and leaves the core to the engine meanwhile.
const OPEN_LOOP_STEP: u64 = 20_000;
/// Without anything to do, the load looks for new groups to lead this often.
const IDLE: u64 = 10_000_000;
/// After a failure the load rests: proposing again at once would only repeat it.
const REST: u64 = 10_000_000;
/// How long operations may take to end after the load has.
const DRAIN: u64 = 20_000_000_000;

/// What standard input says to the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Load,
    Measure,
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Loading,
    /// Until then at most.
    Draining(u64),
}

/// When an open loop's operations are due, evenly from `begin` on.
#[derive(Default)]
struct Schedule {
    begin: u64,
    per_second: f64,
    taken: u64,
}

impl Schedule {
    fn due(&self, nth: u64) -> u64 {
        self.begin + (nth as f64 * 1e9 / self.per_second) as u64
    }

    /// How many are due and not yet taken.
    fn waiting(&self, now: u64) -> u64 {
        let all = (now.saturating_sub(self.begin) as f64 * self.per_second / 1e9) as u64;
        all.saturating_sub(self.taken)
    }
}

pub(crate) struct Load<E> {
    node: Arc<Node>,
    engine: E,
    orders: Receiver<Order>,
    /// An operation's bytes after its number.
    filler: Vec<u8>,
    phase: Phase,
    /// Groups that this node leads, as of `changes_seen`; the next operation is for `led[cursor]`.
    led: Vec<usize>,
    changes_seen: u64,
    cursor: usize,
    schedule: Option<Schedule>,
    /// This node's share of the operations in flight.
    room: usize,
    in_flight: usize,
    rest_until: u64,
    next_number: u64,
    tally: Tally,
}

impl<E: Engine> Load<E> {
    pub(crate) fn new(node: Arc<Node>, engine: E, orders: Receiver<Order>) -> Self {
        let filler = incompressible(node.args.payload - size_of::<u64>());
        Self {
            schedule: node.args.rate.map(|_| Schedule::default()),
            node,
            engine,
            orders,
            filler,
            phase: Phase::Idle,
            led: Vec::new(),
            changes_seen: 0,
            cursor: 0,
            room: 0,
            in_flight: 0,
            rest_until: 0,
            next_number: 0,
            tally: Tally::default(),
        }
    }

    /// Follows orders until the process ends.
    pub(crate) fn run(mut self) {
        clock::tighten_timers();
        self.node.completions.register();
        let mut completed = Completed::default();
        loop {
            while let Ok(order) = self.orders.try_recv() {
                self.follow(order);
            }
            let mut now = clock::now();
            if self.phase == Phase::Loading {
                self.look_for_roles(now);
                self.propose_due(now);
                now = clock::now();
            }
            thread::park_timeout(Duration::from_nanos(self.wake_at(now).saturating_sub(now)));
            self.node.completions.exchange(&mut completed);
            // Read after what it is the end of: nothing is counted as faster than it was.
            self.settle(&mut completed, clock::now());
        }
    }

    fn follow(&mut self, order: Order) {
        let now = clock::now();
        match order {
            Order::Load => {
                self.tally = Tally::default();
                self.changes_seen = 0;
                self.phase = Phase::Loading;
            }
            Order::Measure => self.tally.measure(now),
            Order::End => {
                self.tally.stop(now);
                self.phase = Phase::Draining(now + DRAIN);
            }
        }
    }

    /// Takes this node's share of the load, which is that of the groups that it leads.
    fn look_for_roles(&mut self, now: u64) {
        let changes = self.node.roles.changes();
        if changes == self.changes_seen {
            return;
        }
        self.changes_seen = changes;
        self.led = self.node.roles.led();
        self.cursor = 0;
        let args = &self.node.args;
        self.room = (args.inflight * self.led.len()).div_ceil(args.groups);
        let share = self.led.len() as f64 / args.groups as f64;
        if let Some(rate) = args.rate {
            self.schedule = Some(Schedule { begin: now, per_second: rate * share, taken: 0 });
        }
    }

    fn propose_due(&mut self, now: u64) {
        if self.led.is_empty() || now < self.rest_until {
            return;
        }
        let payload = self.node.args.payload;
        let fits = (MAX_INFLIGHT_BYTES / payload).max(1);
        if self.room > fits && self.in_flight >= fits {
            self.tally.busy += 1;
        }
        let mut room = self.room.min(fits).saturating_sub(self.in_flight);
        if let Some(schedule) = &self.schedule {
            room = room.min(schedule.waiting(now) as usize);
        }
        let at_once = (CALL_BYTES / payload).clamp(1, CALL_OPERATIONS);
        while room > 0 {
            let count = room.min(at_once);
            self.propose(count);
            room -= count;
        }
    }

    fn propose(&mut self, count: usize) {
        let payload = self.node.args.payload;
        let mut bytes = BytesMut::with_capacity(count * payload);
        for number in self.next_number..self.next_number + count as u64 {
            bytes.put_u64_le(number);
            bytes.put_slice(&self.filler);
        }
        let mut bytes = bytes.freeze();
        let now = clock::now();
        let mut next = || {
            let begun = self.schedule.as_mut().map_or(now, |schedule| {
                schedule.taken += 1;
                schedule.due(schedule.taken - 1)
            });
            let operation = Operation { group: self.led[self.cursor], begun };
            self.cursor = (self.cursor + 1) % self.led.len();
            Proposal { operation, payload: bytes.split_to(payload) }
        };
        let proposals = (0..count).map(|_| next()).collect();
        self.engine.propose(proposals);
        self.next_number += count as u64;
        self.in_flight += count;
        self.tally.proposed += count as u64;
    }

    /// When the load has something to do, unless an operation completes before.
    fn wake_at(&self, now: u64) -> u64 {
        match (self.phase, &self.schedule) {
            (Phase::Loading, Some(schedule)) if self.in_flight < self.room => {
                schedule.due(schedule.taken).clamp(now + OPEN_LOOP_STEP, now + IDLE)
            }
            _ => now + IDLE,
        }
    }

    fn settle(&mut self, completed: &mut Completed, now: u64) {
        self.in_flight -= completed.applied.len() + completed.failed.len();
        for operation in completed.applied.drain(..) {
            self.tally.acknowledge(now.saturating_sub(operation.begun));
        }
        for (_, failure) in completed.failed.drain(..) {
            self.rest_until = now + REST;
            match failure {
                Failure::Refused(message) => self.tally.error(message),
                Failure::Unknown(message) => self.tally.unknown(message),
            }
        }
        if let Phase::Draining(deadline) = self.phase
            && (self.in_flight == 0 || now >= deadline)
        {
            for _ in 0..self.in_flight {
                self.tally.unknown("still in flight at the end".into());
            }
            println!("{}", self.tally.report());
            self.phase = Phase::Idle;
        }
    }
}

/// Bytes that no compression makes less of, so that a peer that compresses is not measured with an
/// operation of no size.
fn incompressible(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
