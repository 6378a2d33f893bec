//! How long to wait before dialing again.

use std::time::Duration;

/// Exponential delays with jitter, reproducible from a seed.
///
/// Each delay is drawn evenly from the upper half of a span that doubles from `min` to `max`: the
/// shards of a restarted cluster don't dial in step, and none is unlucky forever.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    span: Duration,
    random: u64,
}

impl Backoff {
    /// Delays between `min / 2` and `max`. `seed` should differ from shard to shard and peer to
    /// peer.
    #[must_use]
    pub fn new(min: Duration, max: Duration, seed: u64) -> Self {
        let max = max.max(min);
        Self { min, max, span: min, random: seed }
    }

    /// The next delay; the one after it is drawn from twice the span.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.draw(self.span);
        self.span = self.span.saturating_mul(2).min(self.max);
        delay
    }

    /// A delay at the slow end, for failures that need somebody to change a setting.
    pub fn slowest_delay(&mut self) -> Duration {
        self.span = self.max;
        self.draw(self.max)
    }

    /// Tells how long the last connection lived. One that outlived the slowest delay was a
    /// working connection, so the next attempt starts from the shortest one; a peer that accepts
    /// and closes at once in a loop gets no such credit.
    pub fn connection_lived(&mut self, lifetime: Duration) {
        if lifetime >= self.max {
            self.span = self.min;
        }
    }

    fn draw(&mut self, span: Duration) -> Duration {
        let half = span / 2;
        let nanos = u64::try_from((span - half).as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(self.next_random() % nanos.saturating_add(1).max(1))
    }

    /// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
