//! What time it is in a group, for whoever proposes there.
//!
//! A group's clock is in its log: each entry says what time its proposer believed it to be, and the
//! latest of these is the time by which keys expire, on every replica
//! ([`Keyspace::advance`](super::keyspace::Keyspace::advance)). Nodes' clocks may differ, and step.

use std::cell::Cell;

/// A node's view of one group's clock.
#[derive(Debug, Default)]
pub struct GroupClock {
    /// The group's clock when it was last seen to be ahead of ours, and ours then.
    ahead: Cell<(u64, u64)>,
}

impl GroupClock {
    /// The time for an entry that is proposed now, when the group's clock is `group` here and our own
    /// is `now`: ours, or the group's where that is ahead, going on at our pace. So time goes on when
    /// the leader changes, even to one whose clock is behind. All are milliseconds since the epoch.
    #[must_use]
    pub fn time(&self, group: u64, now: u64) -> u64 {
        let (ahead, ours) = self.ahead.get();
        let time = now.max(ahead + now.saturating_sub(ours));
        if group <= time {
            return time;
        }
        self.ahead.set((group, now));
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_the_group_s_where_ours_is_behind() {
        let clock = GroupClock::default();
        assert_eq!(clock.time(0, 1_000), 1_000);
        assert_eq!(clock.time(5_000, 1_100), 5_000);
        assert_eq!(clock.time(5_000, 1_200), 5_100);
        // Ours catches up: that of a process that was started with the right time.
        assert_eq!(clock.time(5_100, 9_000), 12_900);
    }
}
