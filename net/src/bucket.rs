//! How fast bulk data may leave: a token bucket, told of the time and never asking for it.

use std::time::{Duration, Instant};

/// What may leave at once after a pause is what the rate gives in this time.
const BURST: Duration = Duration::from_millis(20);

/// And this at least, so that a slow rate still moves.
const LEAST_BURST: u64 = 4096;

const NANOS: u128 = 1_000_000_000;

/// Gives out bytes at a rate. Over any time `t` it gives no more than `rate * t`, and 20 ms of the
/// rate (4 KiB at least) on top.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// Bytes per second; none: without limit.
    rate: Option<u64>,
    /// Bytes that may leave now, in billionths.
    tokens: u128,
    refilled: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket of so many bytes per second; `None` has no limit.
    #[must_use]
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate, tokens: rate.map_or(0, capacity), refilled: None }
    }

    /// Time passed. Only what was told here counts; a time before an earlier one counts as none.
    pub fn refill(&mut self, now: Instant) {
        let Some(rate) = self.rate else { return };
        let since = self.refilled.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.tokens = (self.tokens + u128::from(rate) * since.as_nanos()).min(capacity(rate));
        self.refilled = Some(self.refilled.map_or(now, |at| at.max(now)));
    }

    /// Bytes that may leave now.
    #[must_use]
    pub fn available(&self) -> usize {
        match self.rate {
            None => usize::MAX,
            Some(_) => usize::try_from(self.tokens / NANOS).unwrap_or(usize::MAX),
        }
    }

    /// So many bytes left.
    ///
    /// # Panics
    /// If they are more than [`available`](Self::available).
    pub fn spend(&mut self, bytes: usize) {
        if self.rate.is_some() {
            let left = self.tokens.checked_sub(bytes as u128 * NANOS);
            self.tokens = left.expect("no more leaves than may");
        }
    }
}

fn capacity(rate: u64) -> u128 {
    (u128::from(rate) * BURST.as_nanos()).max(u128::from(LEAST_BURST) * NANOS)
}
