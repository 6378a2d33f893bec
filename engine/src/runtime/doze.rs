//! Noticing that nothing happens in a shard, so that its [pulse](super::pulse) may be slow.

use std::cell::Cell;
use std::time::Duration;

use super::pulse::{SHAKE, Wrist};
use crate::time::Time;

/// Heartbeat intervals in which nothing happens before a shard dozes.
const QUIET_INTERVALS: u32 = 3;

/// Whether a shard dozes.
pub(super) struct Doze {
    wrist: Wrist,
    dozes: Cell<bool>,
    /// What had happened when that was last looked at, as a number that only grows.
    seen: Cell<u64>,
    /// Since when nothing has.
    since: Cell<Time>,
    /// How long nothing must happen; none if it never dozes.
    after: Option<Duration>,
}

impl Doze {
    /// Beats must not come much later than they are due, so that a shard whose heartbeat interval is
    /// short never dozes.
    pub(super) fn new(wrist: Wrist, heartbeat_interval: Duration) -> Self {
        let may = heartbeat_interval >= SHAKE * 2;
        let after = may.then(|| heartbeat_interval * QUIET_INTERVALS);
        let (seen, since) = (Cell::new(0), Cell::new(Time(0)));
        Self { wrist, dozes: Cell::new(false), seen, since, after }
    }

    /// Time passed. `happened` grows with everything that happens but beats, and nobody waits for
    /// anything before `next`.
    pub(super) fn look(&self, now: Time, happened: u64, next: Time) {
        if self.seen.replace(happened) != happened {
            self.since.set(now);
        }
        let quiet = self.after.is_some_and(|after| now.since(self.since.get()) >= after);
        self.set(quiet && now + SHAKE < next);
    }

    /// Somebody waits for time to pass.
    pub(super) fn end(&self) {
        self.set(false);
    }

    fn set(&self, dozes: bool) {
        if self.dozes.replace(dozes) != dozes {
            self.wrist.doze(dozes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    #[test]
    fn a_shard_dozes_when_nothing_happens_and_nothing_is_due() {
        let doze = Doze::new(Wrist::default(), Duration::from_millis(100));
        let dozes = |now, happened, next| {
            doze.look(ms(now), happened, next);
            doze.dozes.get()
        };
        assert!(!dozes(1000, 1, Time::NEVER));
        assert!(!dozes(1299, 1, Time::NEVER));
        assert!(dozes(1300, 1, Time::NEVER));
        assert!(!dozes(1310, 1, ms(1350)), "a timer runs out soon");
        assert!(dozes(1360, 1, Time::NEVER));
        assert!(!dozes(1370, 2, Time::NEVER), "something happened");
        assert!(dozes(1670, 2, Time::NEVER));
        doze.end();
        assert!(!doze.dozes.get());
        let hasty = Doze::new(Wrist::default(), Duration::from_millis(99));
        hasty.look(ms(60_000), 0, Time::NEVER);
        assert!(!hasty.dozes.get());
    }
}
