//! What came of a load.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies from a microsecond to a minute, to three digits.
const BOUNDS: (u64, u64, u8) = (1_000, 60_000_000_000, 3);

/// Counts of one thread, or of all.
pub(crate) struct Tally {
    /// Latencies of the measured part, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// Errors of the whole load, and the first of them.
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) measuring: bool,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let (low, high, digits) = BOUNDS;
        let latencies =
            Histogram::new_with_bounds(low, high, digits).expect("the bounds are valid");
        Self { latencies, errors: 0, first_error: None, measuring: false }
    }

    /// So many operations took so long.
    pub(crate) fn record(&mut self, latency: Duration, count: u64) {
        if self.measuring && count > 0 {
            self.latencies.saturating_record_n(latency.as_nanos() as u64, count);
        }
    }

    pub(crate) fn fail(&mut self, why: &str) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| why.to_owned());
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.latencies.add(other.latencies).expect("all have the same bounds");
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}
