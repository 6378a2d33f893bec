//! A group of this shard, as its connections see it: its keys, and what time it is there.

use std::cell::Cell;
use std::rc::Rc;

use ringleader::GroupId;

use crate::kv::keyspace::Keyspace;
use crate::kv::machine::Replica;

/// How long a group's clock may stand still while it has keys with a deadline: so much later than they
/// should may they go if the next leader is a node that knows nothing but the log.
const STANDSTILL: u64 = 5_000;

/// A group that has a replica on this shard.
///
/// # Its clock
///
/// The group's clock is in its log, and goes on at the pace of whoever leads. A node that takes over
/// goes on from the clock that it saw as a follower, with the time that has passed since by its own
/// watch; what its wall clock says does not matter. Only a node that has followed nobody since it was
/// started, as after all nodes were down, can't know how much time has passed but from the wall
/// clocks, if they are ahead of the group's: see [`SteadyClock::among`](super::clock::SteadyClock).
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) replica: Rc<Replica>,
    /// The group's clock when it was last seen to be ahead of what was expected, and ours then.
    seen: Cell<Option<(u64, u64)>>,
    /// A tick is on its way.
    pub(crate) ticking: Cell<bool>,
}

impl Group {
    pub(crate) fn new(id: GroupId, replica: Rc<Replica>) -> Self {
        Self { id, replica, seen: Cell::default(), ticking: Cell::new(false) }
    }

    /// Looks at the group's clock; what it should be by now, when ours is `now`. The more often it is
    /// looked at, the less is missed.
    pub(crate) fn watch(&self, now: u64) -> u64 {
        let expected = self.seen.get().map_or(0, |(group, ours)| group + now.saturating_sub(ours));
        let applied = self.replica.with(Keyspace::clock);
        if applied > expected {
            self.seen.set(Some((applied, now)));
        }
        expected.max(applied)
    }

    /// The time for an entry that is proposed now, when ours is `now`.
    pub(crate) fn time(&self, now: u64) -> u64 {
        let time = self.watch(now);
        if self.replica.has_followed() { time } else { time.max(now) }
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

    fn node() -> (Group, KvMachine) {
        let replica = Replica::new(Account::default());
        let machine = KvMachine::new(Rc::clone(&replica), Box::new(|_| {}));
        (Group::new(GroupId(1), replica), machine)
    }

    fn apply(machine: &mut KvMachine, now: u64, operation: Operation<'_>) -> Vec<u8> {
        let (mut entry, mut out) = (Vec::new(), Vec::new());
        LogEntry { now, operation }.encode(&mut entry);
        machine.apply_one(&entry, true, &mut out);
        out
    }

    #[test]
    fn time_goes_on_from_the_group_s_where_ours_is_behind() {
        let (group, mut machine) = node();
        assert_eq!(group.time(1_000), 1_000);
        apply(&mut machine, 5_000, Operation::Tick);
        assert_eq!(group.time(1_100), 5_000);
        assert_eq!(group.time(1_200), 5_100);
        // Ours catches up: that of a process that was started with the right time.
        assert_eq!(group.time(9_000), 12_900);
    }

    #[test]
    fn a_clock_that_is_ahead_ends_no_lease_early() {
        let (group, mut machine) = node();
        // The follower's clock is an hour ahead of its leader's.
        machine.follow_start(NodeId(2), Term(1));
        let acquire = Operation::Acquire { key: b"lock", owner: b"me", lease: 60_000 };
        assert_eq!(apply(&mut machine, 1_000, acquire), b":1\r\n");
        group.watch(HOUR + 1_000);
        machine.follow_stop(NodeId(2), Term(1));
        machine.leader_start(Term(2));
        let now = HOUR + 3_000;
        assert_eq!(group.time(now), 3_000);
        let other = Operation::Acquire { key: b"lock", owner: b"other", lease: 60_000 };
        assert_eq!(apply(&mut machine, group.time(now), other.clone()), b"_\r\n");
        // It ends when it was to end.
        let now = HOUR + 61_000;
        assert_eq!(apply(&mut machine, group.time(now), other), b":2\r\n");
    }

    #[test]
    fn who_followed_nobody_counts_the_time_when_all_were_down() {
        let (group, mut machine) = node();
        // What is in its own log, it applies as a leader.
        machine.leader_start(Term(2));
        apply(&mut machine, 1_000, Operation::Tick);
        assert_eq!(group.time(HOUR), HOUR);
    }

    #[test]
    fn the_clock_of_a_group_with_deadlines_does_not_stand_still() {
        let (group, mut machine) = node();
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
