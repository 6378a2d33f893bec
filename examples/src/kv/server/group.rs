//! A group of this shard, as its connections see it: its keys, and what time it is there.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use ringleader::GroupId;

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
    /// The group's clock when it was last seen to be ahead of ours, and ours then.
    ahead: Cell<(u64, u64)>,
    /// A tick is on its way.
    pub(crate) ticking: Cell<bool>,
}

impl Group {
    pub(crate) fn new(id: GroupId, replica: Rc<Replica>) -> Self {
        Self { id, replica, ahead: Cell::default(), ticking: Cell::new(false) }
    }

    /// The time for an entry that is proposed now, when ours is `now`: ours, or the group's where
    /// that is ahead, going on at our pace. So time goes on when the leader changes, even to one
    /// whose clock is behind.
    pub(crate) fn time(&self, now: u64) -> u64 {
        let (group, ours) = self.ahead.get();
        let time = now.max(group + now.saturating_sub(ours));
        let applied = self.replica.with(Keyspace::clock);
        if applied <= time {
            return time;
        }
        self.ahead.set((applied, now));
        applied
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::account::Account;
    use crate::kv::machine::KvMachine;
    use crate::kv::operation::{LogEntry, Operation};

    #[test]
    fn time_goes_on_from_the_group_s_where_ours_is_behind() {
        let replica = Replica::new(Account::default());
        let mut machine = KvMachine::new(Rc::clone(&replica), Box::new(|_| {}));
        let group = Group::new(GroupId(1), replica);
        assert_eq!(group.time(1_000), 1_000);
        let mut entry = Vec::new();
        LogEntry { now: 5_000, operation: Operation::Tick }.encode(&mut entry);
        machine.apply_one(&entry, true, &mut Vec::new());
        assert_eq!(group.time(1_100), 5_000);
        assert_eq!(group.time(1_200), 5_100);
        // Ours catches up: that of a process that was started with the right time.
        assert_eq!(group.time(9_000), 12_900);
    }
}
