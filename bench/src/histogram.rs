//! Latencies: an HDR histogram in nanoseconds that travels between processes.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Below this, values are not told apart: 100 ns.
const LOWEST: u64 = 100;
/// Above this, values count as this much: 60 s. The true maximum is kept beside the histogram.
const HIGHEST: u64 = 60_000_000_000;
const DIGITS: u8 = 3;

/// Latencies of many operations, to three digits between 100 ns and 60 s.
#[derive(Debug, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
    max: u64,
    sum: u128,
}

impl Clone for Latencies {
    fn clone(&self) -> Self {
        Self { histogram: self.histogram.clone(), max: self.max, sum: self.sum }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(LOWEST, HIGHEST, DIGITS);
        Self { histogram: histogram.expect("the bounds are valid"), max: 0, sum: 0 }
    }
}

impl Latencies {
    /// Counts `count` operations that took `nanoseconds` each.
    pub(crate) fn record(&mut self, nanoseconds: u64, count: u64) {
        self.histogram.saturating_record_n(nanoseconds, count);
        self.max = self.max.max(nanoseconds);
        self.sum += u128::from(nanoseconds) * u128::from(count);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("all histograms have the same bounds");
        self.max = self.max.max(other.max);
        self.sum += other.sum;
    }

    /// How many were counted.
    pub(crate) fn len(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency that this share of the operations stayed within, in nanoseconds; zero when
    /// there are none.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        // A bucket's upper end may lie above the highest value that was seen.
        self.histogram.value_at_quantile(share).min(self.max)
    }

    /// The same in microseconds.
    pub(crate) fn quantile_us(&self, share: f64) -> f64 {
        self.quantile(share) as f64 / 1e3
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The highest value that was seen elsewhere of what is counted here.
    pub(crate) fn reached(&mut self, max: u64) {
        self.max = self.max.max(max);
    }

    /// Shares of the operations, and the microseconds that they stayed within: at every share
    /// `1 - 10^-x` for `x` in steps of a tenth, up to where one operation is.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        const STEPS: i32 = 60;
        let most = 1.0 - 1.0 / self.len().max(1) as f64;
        let shares = (0..=STEPS).map(|step| 1.0 - 10_f64.powf(-f64::from(step) / 10.0));
        let within = shares.take_while(|share| *share <= most);
        within.map(|share| (share, self.quantile_us(share))).collect()
    }

    /// In nanoseconds; zero when there are none.
    pub(crate) fn mean(&self) -> f64 {
        if self.len() == 0 { 0.0 } else { self.sum as f64 / self.len() as f64 }
    }
}

/// The buckets that are not empty.
#[derive(Serialize, Deserialize)]
struct Wire {
    buckets: Vec<(u64, u64)>,
    max: u64,
    /// As a float, because JSON has no 128-bit numbers; it only serves the mean.
    sum: f64,
}

impl From<Latencies> for Wire {
    fn from(latencies: Latencies) -> Self {
        let recorded = latencies.histogram.iter_recorded();
        let buckets = recorded.map(|at| (at.value_iterated_to(), at.count_at_value())).collect();
        Self { buckets, max: latencies.max, sum: latencies.sum as f64 }
    }
}

impl From<Wire> for Latencies {
    fn from(wire: Wire) -> Self {
        let mut latencies = Self::default();
        for (value, count) in wire.buckets {
            latencies.histogram.saturating_record_n(value, count);
        }
        Self { max: wire.max, sum: wire.sum as u128, ..latencies }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_survive_the_journey_and_add_up() {
        let mut a = Latencies::default();
        a.record(150_000, 90);
        a.record(2_000_000, 10);
        let text = serde_json::to_string(&a).expect("serializes");
        let mut b: Latencies = serde_json::from_str(&text).expect("parses");
        for share in [0.5, 0.9, 0.99] {
            assert_eq!(a.quantile(share), b.quantile(share));
        }
        b.merge(&a);
        assert_eq!(b.len(), 200);
        assert_eq!(b.max(), 2_000_000);
        assert!((b.mean() - 335_000.0).abs() < 1.0);
    }

    #[test]
    fn values_keep_three_digits() {
        let mut latencies = Latencies::default();
        latencies.record(219_000, 1);
        latencies.record(5_000_000, 1);
        let p50 = latencies.quantile(0.5) as f64;
        assert!((p50 / 219_000.0 - 1.0).abs() < 0.002, "{p50}");
    }

    #[test]
    fn a_curve_climbs_to_where_one_operation_is() {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|us| latencies.record(us * 1000, 1));
        let curve = latencies.curve();
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        let last = curve.last().expect("it is not empty");
        assert!((last.0 - 0.999).abs() < 1e-9 && (last.1 - 999.0).abs() < 2.0, "{last:?}");
    }

    #[test]
    fn the_maximum_is_exact_even_beyond_the_bounds() {
        let mut latencies = Latencies::default();
        latencies.record(90_000_000_123, 1);
        assert_eq!(latencies.max(), 90_000_000_123);
        assert_eq!(Latencies::default().quantile(0.99), 0);
    }
}
