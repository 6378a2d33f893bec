//! The open loop's timetable: operation `k` of the whole load is due `k / rate` seconds after the
//! beginning, whatever became of those before it, and belongs to group `k mod groups`. Latency is
//! counted from there, so a stall of the system is charged for every operation that it delays
//! (coordinated omission: G. Tene, "How not to measure latency").

const SECOND: u64 = 1_000_000_000;

/// When each group's operations are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// When the first operation is due, in nanoseconds.
    begin: u64,
    /// Operations per second, of all groups together; at most 10^9.
    rate: u64,
    groups: u64,
}

impl Schedule {
    pub(crate) fn new(begin: u64, rate: u64, groups: u64) -> Self {
        debug_assert!((1..=SECOND).contains(&rate) && groups > 0);
        Self { begin, rate, groups }
    }

    /// When the `nth` operation (counted from zero) of the group at `index` is due.
    pub(crate) fn due(&self, index: u64, nth: u64) -> u64 {
        let k = nth * self.groups + index;
        let (seconds, rest) = (k / self.rate, k % self.rate);
        self.begin + seconds * SECOND + rest * SECOND / self.rate
    }

    /// How many operations of all groups are due at `now`.
    pub(crate) fn total(&self, now: u64) -> u64 {
        let Some(elapsed) = now.checked_sub(self.begin) else { return 0 };
        let (seconds, rest) = (elapsed / SECOND, elapsed % SECOND);
        seconds * self.rate + ((rest + 1) * self.rate).div_ceil(SECOND)
    }

    /// How many of the `total` are of the group at `index`.
    pub(crate) fn share(&self, total: u64, index: u64) -> u64 {
        if total > index { (total - index - 1) / self.groups + 1 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_spread_evenly_over_time_and_groups() {
        let schedule = Schedule::new(1_000, 1_000, 4);
        assert_eq!(schedule.due(0, 0), 1_000);
        assert_eq!(schedule.due(1, 0), 1_001_000);
        assert_eq!(schedule.due(0, 1), 4_001_000);
        assert_eq!(schedule.due(2, 249), 1_000 + 998 * 1_000_000);
    }

    #[test]
    fn an_operation_counts_as_due_from_its_very_nanosecond() {
        for (rate, groups) in [(1, 1), (7, 3), (1_000_003, 2), (999_999_937, 5)] {
            let schedule = Schedule::new(5_000, rate, groups);
            for k in [0, 1, 2, 3, 10, 999, 1_000_000, 123_456_789] {
                let due = schedule.due(k % groups, k / groups);
                // At very high rates several operations share a nanosecond.
                assert!(schedule.total(due) > k, "rate {rate}, operation {k}");
                assert!(schedule.total(due - 1) <= k, "rate {rate}, operation {k}");
            }
        }
    }

    #[test]
    fn the_groups_shares_add_up() {
        let schedule = Schedule::new(0, 1_000, 7);
        for total in [0, 1, 6, 7, 8, 1_000] {
            let sum: u64 = (0..7).map(|index| schedule.share(total, index)).sum();
            assert_eq!(sum, total);
        }
    }

    #[test]
    fn nothing_is_due_before_the_beginning() {
        assert_eq!(Schedule::new(100, 10, 1).total(99), 0);
        assert_eq!(Schedule::new(100, 10, 1).total(100), 1);
    }
}
