//! Log lines that strangers can cause, kept to a bearable number.

use std::time::{Duration, Instant};

/// Allows so many lines per period and counts what it withholds.
#[derive(Debug)]
pub struct LogThrottle {
    period: Duration,
    per_period: u32,
    started: Option<Instant>,
    used: u32,
    withheld: u64,
}

impl LogThrottle {
    /// At most `per_period` lines in each `period`.
    #[must_use]
    pub fn new(per_period: u32, period: Duration) -> Self {
        Self { period, per_period, started: None, used: 0, withheld: 0 }
    }

    /// Whether one more line may be written at `now`: `Some` with the number of lines withheld
    /// since the last one that was allowed, `None` if this one is withheld, too.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        let fresh =
            self.started.is_none_or(|start| now.saturating_duration_since(start) >= self.period);
        if fresh {
            self.started = Some(now);
            self.used = 0;
        }
        if self.used == self.per_period {
            self.withheld += 1;
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.withheld))
    }
}
