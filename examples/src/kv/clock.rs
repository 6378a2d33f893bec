//! What time it is in a group, for whoever proposes there.
//!
//! A group's clock is in its log: each entry says what time its proposer believed it to be, and the
//! latest of these is the time by which keys expire, on every replica
//! ([`Keyspace::advance`](super::keyspace::Keyspace::advance)). Nodes' clocks may differ, and step.
//!
//! It goes on at the pace of whoever leads. A node that takes over goes on from the clock that it saw
//! as a follower, with the time that has passed since by its own watch; what its own clock says does
//! not matter. Only a node that has followed nobody since it was started, as after all nodes were
//! down, can't know how much time has passed but from its own clock, if that is ahead of the group's.

use std::cell::Cell;

use super::keyspace::Keyspace;
use super::machine::Replica;

/// A node's view of one group's clock. All times are milliseconds since the epoch.
#[derive(Debug, Default)]
pub struct GroupClock {
    /// The group's clock when it was last seen to be ahead of what was expected, and ours then.
    seen: Cell<Option<(u64, u64)>>,
}

impl GroupClock {
    /// Looks at the clock of the group that `replica` is of; what it should be by now, when our own
    /// is `now`. The more often it is looked at, the less is missed.
    pub fn watch(&self, replica: &Replica, now: u64) -> u64 {
        let expected = self.seen.get().map_or(0, |(group, ours)| group + now.saturating_sub(ours));
        let applied = replica.with(Keyspace::clock);
        if applied > expected {
            self.seen.set(Some((applied, now)));
        }
        expected.max(applied)
    }

    /// The time for an entry that is proposed now, when our own clock is `now`.
    #[must_use]
    pub fn time(&self, replica: &Replica, now: u64) -> u64 {
        let time = self.watch(replica, now);
        if replica.has_followed() { time } else { time.max(now) }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use ringleader::{NodeId, StateMachine as _, Term};

    use super::*;
    use crate::kv::account::Account;
    use crate::kv::machine::KvMachine;
    use crate::kv::operation::{LogEntry, Operation};

    const HOUR: u64 = 3_600_000;

    struct Node {
        clock: GroupClock,
        replica: Rc<Replica>,
        machine: KvMachine,
    }

    impl Node {
        fn new() -> Self {
            let replica = Replica::new(Account::default());
            let machine = KvMachine::new(Rc::clone(&replica), Box::new(|_| {}));
            Self { clock: GroupClock::default(), replica, machine }
        }

        fn apply(&mut self, now: u64, operation: Operation<'_>) -> Vec<u8> {
            let (mut entry, mut out) = (Vec::new(), Vec::new());
            LogEntry { now, operation }.encode(&mut entry);
            self.machine.apply_one(&entry, true, &mut out);
            out
        }

        fn time(&self, now: u64) -> u64 {
            self.clock.time(&self.replica, now)
        }
    }

    #[test]
    fn time_goes_on_from_the_group_s_where_ours_is_behind() {
        let mut node = Node::new();
        assert_eq!(node.time(1_000), 1_000);
        node.apply(5_000, Operation::Tick);
        assert_eq!(node.time(1_100), 5_000);
        assert_eq!(node.time(1_200), 5_100);
        // Ours catches up: that of a process that was started with the right time.
        assert_eq!(node.time(9_000), 12_900);
    }

    #[test]
    fn a_clock_that_is_ahead_ends_no_lease_early() {
        let mut node = Node::new();
        // The follower's clock is an hour ahead of its leader's.
        node.machine.follow_start(NodeId(2), Term(1));
        let acquire = Operation::Acquire { key: b"lock", owner: b"me", lease: 60_000 };
        assert_eq!(node.apply(1_000, acquire), b":1\r\n");
        node.clock.watch(&node.replica, HOUR + 1_000);
        node.machine.follow_stop(NodeId(2), Term(1));
        node.machine.leader_start(Term(2));
        let now = HOUR + 3_000;
        assert_eq!(node.time(now), 3_000);
        let other = Operation::Acquire { key: b"lock", owner: b"other", lease: 60_000 };
        assert_eq!(node.apply(node.time(now), other.clone()), b"_\r\n");
        // It ends when it was to end.
        let now = HOUR + 61_000;
        assert_eq!(node.apply(node.time(now), other), b":2\r\n");
    }

    #[test]
    fn who_followed_nobody_counts_the_time_when_all_were_down() {
        let mut node = Node::new();
        // What is in its own log, it applies as a leader.
        node.machine.leader_start(Term(2));
        node.apply(1_000, Operation::Tick);
        assert_eq!(node.time(HOUR), HOUR);
    }
}
