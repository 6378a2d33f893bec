//! State machines that panic, at any of the calls that they are given, a snapshot's next piece among
//! them, which some fail to give without a panic. As the runtime does it, their
//! shard is abandoned: it answers whom it can find, with errors, says and writes nothing more, and its
//! node's other shards go on, until the node's owner restarts it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use ringleader::MachineError;

use crate::plan::MS;
use crate::world::{Event, World};

/// How many calls the state machines of a shard still bear, if not all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fuse(Rc<Cell<Option<u64>>>);

/// What a state machine panics with.
struct Blown {
    /// A piece of a snapshot was asked for.
    in_snapshot: bool,
}

/// What is wrong with a snapshot whose next piece a state machine fails to give.
pub(crate) const FAILED: &str = "simulated: no next piece";

impl Fuse {
    pub(crate) fn light(&self, calls: u64) {
        self.0.set(Some(calls));
    }

    pub(crate) fn put_out(&self) {
        self.0.set(None);
    }

    /// A state machine was called.
    pub(crate) fn burn(&self) {
        self.burn_in(false);
    }

    /// It is asked for the next piece of a snapshot. `fails` says that it has no panic, but no piece
    /// either, if this is the call that it does not bear.
    pub(crate) fn burn_in_snapshot(&self, fails: bool) -> Result<(), MachineError> {
        if fails && self.0.get() == Some(0) {
            self.put_out();
            return Err(MachineError(FAILED.into()));
        }
        self.burn_in(true);
        Ok(())
    }

    fn burn_in(&self, in_snapshot: bool) {
        if self.0.get() == Some(0) {
            self.put_out();
            // No hook hears of it: it is no violation.
            resume_unwind(Box::new(Blown { in_snapshot }));
        }
        self.0.set(self.0.get().map(|calls| calls - 1));
    }
}

impl World {
    /// Calls into a shard; none if one of its state machines panicked. The shard is a wreck then.
    pub(crate) fn guarded<T>(
        &mut self,
        seat: usize,
        call: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(|| call(self))) {
            Ok(done) => Some(done),
            Err(payload) => match payload.downcast::<Blown>() {
                Ok(blown) => {
                    let of_snapshot = u64::from(blown.in_snapshot);
                    self.counts.add("panics while a snapshot was written", of_snapshot);
                    self.be_wrecked(seat);
                    None
                }
                Err(violation) => resume_unwind(violation),
            },
        }
    }

    fn be_wrecked(&mut self, seat: usize) {
        let (node, name) = (self.plan.seats.node(seat), self.plan.seats.name(seat));
        self.trace.step("panic", seat as u64, 0, 0);
        self.trace.line(|| format!("*** node {name}: a state machine panics"));
        // What they did before that is done.
        self.look_at_machines(seat);
        let process = self.seats[seat].process.as_mut().expect("it was called");
        let what = if process.recovered { "shards that panicked" } else { "starts that panicked" };
        process.shard.abandon("simulated".into());
        process.silent = true;
        self.counts.add(what, 1);
        for at in 0..self.plan.groups.len() {
            if self.plan.seats.of_group(self.plan.groups[at], node) == seat {
                self.checker.abandoned(node, at);
            }
        }
        self.watch_beside(seat);
        let life = self.nodes[node].life;
        let delay = self.nodes[node].rng.between(MS, self.plan.faults.away + MS);
        self.after(delay, Event::Restart { node, life });
    }
}
