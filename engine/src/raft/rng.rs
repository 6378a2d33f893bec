//! SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): eight bytes of state per group, and the same
//! seed gives the same elections on every machine.

use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A duration in `[t, 2t)`, to nanoseconds.
    pub(super) fn timeout(&mut self, t: Duration) -> Duration {
        t.saturating_add(self.part(t))
    }

    /// A duration in `[0, t)`, to nanoseconds.
    pub(super) fn part(&mut self, t: Duration) -> Duration {
        let nanos = u64::try_from(t.as_nanos()).unwrap_or(u64::MAX);
        // The high half of the product: an even spread without a division.
        let part = (u128::from(self.next()) * u128::from(nanos)) >> 64;
        Duration::from_nanos(part as u64)
    }
}
