//! Time as the logic knows it: nanoseconds of a monotonic clock, passed in as an argument. Only the
//! drivers (the runtime, the simulator) read a clock.

use std::ops::Add;
use std::time::Duration;

/// A moment of one node's monotonic clock, in nanoseconds since the driver's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// Later than every moment: the deadline of something that is not going to happen.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time that passed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}
