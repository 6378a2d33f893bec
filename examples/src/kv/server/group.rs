//! A group of this shard, as its connections see it: its keys, and what time it is there.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use ringleader::GroupId;

use crate::kv::clock::GroupClock;
use crate::kv::keyspace::Keyspace;
use crate::kv::machine::Replica;

/// The wall clock as it was when the process began, and what has passed since: a step of the clock
/// while the process runs does no harm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SteadyClock {
    began: Instant,
    epoch: Duration,
}

impl SteadyClock {
    pub(crate) fn start() -> Self {
        // A clock before 1970 is taken for 1970.
        let epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self { began: Instant::now(), epoch }
    }

    /// Since it was started.
    pub(crate) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        (self.epoch + self.began.elapsed()).as_millis() as u64
    }
}

/// A group that has a replica on this shard.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) replica: Rc<Replica>,
    clock: GroupClock,
    /// A tick is on its way.
    pub(crate) ticking: Cell<bool>,
}

impl Group {
    pub(crate) fn new(id: GroupId, replica: Rc<Replica>) -> Self {
        Self { id, replica, clock: GroupClock::default(), ticking: Cell::new(false) }
    }

    /// The time for an entry that is proposed now, when the node's own is `now`.
    pub(crate) fn time(&self, now: u64) -> u64 {
        self.clock.time(self.replica.with(Keyspace::clock), now)
    }

    /// Whether the group's clock should be advanced although nothing else happens.
    pub(crate) fn wants_tick(&self, now: u64) -> bool {
        self.is_due(now) || self.replica.with(Keyspace::is_untidy)
    }

    /// Whether there is a key that should be gone by now, and the log does not say so yet.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        let deadline = self.replica.with(Keyspace::next_deadline);
        deadline.is_some_and(|deadline| deadline <= self.time(now))
    }
}
