//! How a measured value is distributed.

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// Two digits: a bucket's width is at most a hundredth of its values, and a histogram takes 40 KiB.
const DIGITS: u8 = 2;

/// Values above are counted as this one: an hour in nanoseconds.
const HIGHEST: u64 = 3_600_000_000_000;

/// The distribution of a value, to within 1 %. As JSON it is its [`Summary`].
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    /// None before the first value: what is never measured takes no memory.
    histogram: Option<Histogram<u64>>,
    sum: u64,
}

/// A distribution in a few numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Values recorded.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The median.
    pub p50: u64,
    /// 90 % of the values are at most this.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// The highest.
    pub max: u64,
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST, DIGITS).expect("bounds that the crate accepts")
}

impl Distribution {
    /// Counts a value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.histogram.get_or_insert_with(empty).saturating_record(value);
        self.sum = self.sum.saturating_add(value);
    }

    /// Adds another's values, of another shard for example.
    pub fn add(&mut self, other: &Self) {
        if let Some(others) = &other.histogram {
            let own = self.histogram.get_or_insert_with(empty);
            own.add(others).expect("both have the same bounds");
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Values recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The value that `share` (0 to 1) of the values are at most; 0 if there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        self.histogram.as_ref().map_or(0, |values| values.value_at_quantile(share))
    }

    /// How many values are at most each of `bounds`, which ascend.
    #[must_use]
    pub fn at_most(&self, bounds: &[u64]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len()];
        for bucket in self.histogram.iter().flat_map(Histogram::iter_recorded) {
            let from = bounds.partition_point(|bound| *bound < bucket.value_iterated_to());
            counts[from..].iter_mut().for_each(|count| *count += bucket.count_at_value());
        }
        counts
    }

    /// The numbers that are looked at most.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.count(),
            sum: self.sum,
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.histogram.as_ref().map_or(0, Histogram::max),
        }
    }
}

impl Serialize for Distribution {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.summary().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_counts_are_those_of_the_values() {
        let mut values = Distribution::default();
        assert_eq!(values.summary(), Summary::default());
        (1..=1000).for_each(|value| values.record(value * 1000));
        assert_eq!((values.count(), values.sum()), (1000, 500_500_000));
        let median = values.quantile(0.5);
        assert!((495_000..=505_000).contains(&median), "{median}");
        let counts = values.at_most(&[999, 100_000, 10_000_000]);
        assert_eq!(counts[0], 0);
        assert!((99..=101).contains(&counts[1]), "{counts:?}");
        assert_eq!(counts[2], 1000);
        values.record(u64::MAX);
        assert_eq!(values.count(), 1001, "too high a value is counted as the highest");
    }

    #[test]
    fn two_shards_make_one_distribution() {
        let (mut one, mut other) = (Distribution::default(), Distribution::default());
        one.record(10);
        other.record(30);
        one.add(&other);
        assert_eq!((one.count(), one.sum(), one.summary().max), (2, 40, 30));
    }
}
