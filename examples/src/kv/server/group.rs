//! A group of this shard, as its connections see it: its keys, and what time it is there.

use std::cell::Cell;
use std::rc::Rc;

use ringleader::GroupId;

use crate::kv::clock::GroupClock;
use crate::kv::keyspace::Keyspace;
use crate::kv::machine::Replica;

/// How long a group's clock may stand still while it has keys with a deadline: so much later than they
/// should may they go if the next leader is a node that knows nothing but the log.
const STANDSTILL: u64 = 5_000;

/// A group that has a replica on this shard. Our own clock is
/// [`SteadyClock`](super::clock::SteadyClock).
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

    /// See [`GroupClock::watch`].
    pub(crate) fn watch(&self, now: u64) {
        self.clock.watch(&self.replica, now);
    }

    /// See [`GroupClock::time`].
    pub(crate) fn time(&self, now: u64) -> u64 {
        self.clock.time(&self.replica, now)
    }

    /// Whether the group's clock should be advanced although nothing else happens.
    pub(crate) fn wants_tick(&self, now: u64) -> bool {
        let stands_still = || {
            let is_mortal = self.replica.with(Keyspace::next_deadline).is_some();
            is_mortal && self.time(now) >= self.replica.with(Keyspace::clock) + STANDSTILL
        };
        self.is_due(now) || self.replica.with(Keyspace::is_untidy) || stands_still()
    }

    /// Whether there is a key that should be gone by now, and the log does not say so yet.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        let deadline = self.replica.with(Keyspace::next_deadline);
        deadline.is_some_and(|deadline| deadline <= self.time(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::account::Account;
    use crate::kv::machine::KvMachine;
    use crate::kv::operation::{Condition, Expiry, LogEntry, Operation};
    use ringleader::{NodeId, StateMachine as _, Term};

    const HOUR: u64 = 3_600_000;

    fn apply(machine: &mut KvMachine, now: u64, operation: Operation<'_>) {
        let mut entry = Vec::new();
        LogEntry { now, operation }.encode(&mut entry);
        machine.apply_one(&entry, true, &mut Vec::new());
    }

    #[test]
    fn the_clock_of_a_group_with_deadlines_does_not_stand_still() {
        let replica = Replica::new(Account::default());
        let mut machine = KvMachine::new(Rc::clone(&replica), Box::new(|_| {}));
        let group = Group::new(GroupId(1), replica);
        machine.follow_start(NodeId(2), Term(1));
        apply(&mut machine, 1_000, Operation::Tick);
        group.watch(1_000);
        assert!(!group.wants_tick(HOUR));
        let expiry = Expiry::In(HOUR);
        let condition = Condition::Always;
        let set = Operation::Set { key: b"key", value: b"", condition, expiry, get: false };
        apply(&mut machine, 1_000, set);
        assert!(!group.wants_tick(1_000 + STANDSTILL - 1));
        assert!(group.wants_tick(1_000 + STANDSTILL));
    }
}
