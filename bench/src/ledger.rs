//! Which operations were acknowledged, and which were applied: sets of operation numbers, kept as
//! ranges so that a hundred million operations take a few bytes.
//!
//! An operation's number is unique in its group: the proposer's session in the high 16 bits, and
//! below it a sequence that rises by one per operation.

use serde::{Deserialize, Serialize};

/// Bits of an operation number below the session.
const SEQUENCE_BITS: u32 = 48;

/// Bytes that an operation number takes at the start of a payload.
pub(crate) const NUMBER_LEN: usize = 8;

/// The number of a session's operation.
pub(crate) fn number(session: u16, sequence: u64) -> u64 {
    debug_assert!(sequence >> SEQUENCE_BITS == 0, "2^48 operations of one session");
    u64::from(session) << SEQUENCE_BITS | sequence
}

/// A set of numbers: sorted, disjoint, non-adjacent half-open ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds the numbers `start..end`. Constant time when they follow the highest so far.
    pub(crate) fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            Some(last) if last.1 > start => self.merge(start, end),
            _ => self.0.push((start, end)),
        }
    }

    fn merge(&mut self, start: u64, end: u64) {
        let from = self.0.partition_point(|range| range.1 < start);
        let to = self.0.partition_point(|range| range.0 <= end);
        let merged = match self.0.get(from..to) {
            Some([first, .., last]) => (start.min(first.0), end.max(last.1)),
            Some([only]) => (start.min(only.0), end.max(only.1)),
            _ => (start, end),
        };
        self.0.splice(from..to, [merged]);
    }

    /// Adds all numbers of `other`.
    pub(crate) fn union(&mut self, other: &Self) {
        other.0.iter().for_each(|&(start, end)| self.insert(start, end));
    }

    /// The numbers that are here and not in `other`.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let mut left = Self::default();
        for &(mut start, end) in &self.0 {
            let from = other.0.partition_point(|range| range.1 <= start);
            for &(hole_start, hole_end) in &other.0[from..] {
                if hole_start >= end {
                    break;
                }
                left.insert(start, hole_start);
                start = hole_end;
            }
            left.insert(start, end);
        }
        left
    }

    /// How many numbers there are.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// The lowest number.
    pub(crate) fn first(&self) -> Option<u64> {
        self.0.first().map(|range| range.0)
    }

    /// Whether `number` is among them.
    pub(crate) fn contains(&self, number: u64) -> bool {
        let after = self.0.partition_point(|range| range.0 <= number);
        after > 0 && number < self.0[after - 1].1
    }

    /// The highest number below `limit`.
    fn highest_below(&self, limit: u64) -> Option<u64> {
        let after = self.0.partition_point(|range| range.0 < limit);
        after.checked_sub(1).map(|at| self.0[at].1.min(limit) - 1)
    }
}

/// What one replica of a group applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// The group.
    pub(crate) group: u64,
    /// Operations applied, repeated ones included.
    pub(crate) count: u64,
    /// Depends on every number and on the order of them.
    pub(crate) hash: u64,
    /// Log index of the last operation.
    pub(crate) last_index: u64,
    /// The operations.
    pub(crate) applied: Ranges,
    /// Operations that were repeated, out of their proposer's order, or unreadable.
    pub(crate) violations: u64,
    /// The first of these.
    pub(crate) first_violation: Option<String>,
}

/// One replica's account of what it applies; a few instructions per operation.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    count: u64,
    hash: u64,
    last_index: u64,
    /// The range being extended, `start..next`, is not in `settled` yet.
    start: u64,
    next: u64,
    settled: Ranges,
    violations: u64,
    first_violation: Option<String>,
}

impl Ledger {
    /// Takes operations in log order: index and payload of each.
    pub(crate) fn apply<'a>(&mut self, operations: impl Iterator<Item = (u64, &'a [u8])>) {
        let (mut count, mut last_index) = (self.count, self.last_index);
        operations.for_each(|(index, payload)| {
            count += 1;
            last_index = index;
            match payload.first_chunk::<NUMBER_LEN>() {
                Some(bytes) => self.take(u64::from_le_bytes(*bytes)),
                None => self.violation(format!("entry {index} has {} bytes", payload.len())),
            }
        });
        (self.count, self.last_index) = (count, last_index);
    }

    fn take(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        if number == self.next && self.start < self.next {
            self.next += 1;
        } else {
            self.begin_range(number);
        }
    }

    #[cold]
    fn begin_range(&mut self, number: u64) {
        self.settled.insert(self.start, self.next);
        let session_end = ((number >> SEQUENCE_BITS) + 1) << SEQUENCE_BITS;
        let highest = self.settled.highest_below(session_end);
        match highest.filter(|highest| *highest >= number) {
            Some(_) if self.settled.contains(number) => {
                self.violation(format!("operation {number:#x} was applied twice"));
            }
            Some(highest) => {
                self.violation(format!("operation {number:#x} was applied after {highest:#x}"));
            }
            None => {}
        }
        (self.start, self.next) = (number, number + 1);
    }

    fn violation(&mut self, what: String) {
        self.violations += 1;
        self.first_violation.get_or_insert(what);
    }

    /// The account so far.
    pub(crate) fn summary(&self, group: u64) -> Summary {
        let mut applied = self.settled.clone();
        applied.insert(self.start, self.next);
        Summary {
            group,
            count: self.count,
            hash: self.hash,
            last_index: self.last_index,
            applied,
            violations: self.violations,
            first_violation: self.first_violation.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(of: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::default();
        of.iter().for_each(|&(start, end)| ranges.insert(start, end));
        ranges
    }

    fn applied(numbers: &[u64]) -> Summary {
        let mut ledger = Ledger::default();
        let payloads: Vec<_> = numbers.iter().map(|number| number.to_le_bytes()).collect();
        ledger.apply((1..).zip(payloads.iter().map(|payload| &payload[..])));
        ledger.summary(1)
    }

    #[test]
    fn ranges_join_what_touches_in_any_order() {
        assert_eq!(ranges(&[(5, 7), (7, 9)]).0, [(5, 9)]);
        assert_eq!(ranges(&[(7, 9), (1, 2), (5, 7)]).0, [(1, 2), (5, 9)]);
        assert_eq!(ranges(&[(1, 2), (4, 5), (7, 8), (2, 7)]).0, [(1, 8)]);
        assert_eq!(ranges(&[(1, 9), (3, 4)]).0, [(1, 9)]);
        assert_eq!(ranges(&[(4, 4)]).0, []);
    }

    #[test]
    fn ranges_agree_with_a_set() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let (mut a, mut b) = (Ranges::default(), Ranges::default());
            let (mut set_a, mut set_b) = ([false; 64], [false; 64]);
            for _ in 0..12 {
                let start = random(60);
                let end = start + random(4);
                a.insert(start, end);
                set_a[start as usize..end as usize].fill(true);
                let start = random(60);
                b.insert(start, start + 3);
                set_b[start as usize..start as usize + 3].fill(true);
            }
            let left = a.minus(&b);
            for number in 0..64 {
                let (in_a, in_b) = (set_a[number as usize], set_b[number as usize]);
                assert_eq!(a.contains(number), in_a);
                assert_eq!(left.contains(number), in_a && !in_b);
            }
            assert_eq!(a.len(), set_a.iter().filter(|bit| **bit).count() as u64);
        }
    }

    #[test]
    fn a_ledger_knows_what_was_applied_from_two_sessions() {
        let (a, b) = (number(1, 0), number(2, 0));
        let summary = applied(&[a, a + 1, b, a + 2, b + 1, b + 5]);
        assert_eq!(summary.applied.0, [(a, a + 3), (b, b + 2), (b + 5, b + 6)]);
        assert_eq!((summary.count, summary.last_index, summary.violations), (6, 6, 0));
    }

    #[test]
    fn number_zero_counts_like_any_other() {
        let summary = applied(&[0, 1, 2]);
        assert_eq!(summary.applied.0, [(0, 3)]);
        assert_eq!(applied(&[]).applied.0, []);
    }

    #[test]
    fn a_repeated_or_reordered_operation_is_a_violation() {
        assert_eq!(applied(&[1, 2, 3, 2, 4]).violations, 1, "4 after 2 is a gap and no violation");
        assert_eq!(applied(&[5, 6, 6]).violations, 1);
        let late = applied(&[1, 3, 2]);
        assert_eq!(late.violations, 1);
        assert!(late.first_violation.is_some_and(|text| text.contains("after")));
    }

    #[test]
    fn a_short_payload_is_a_violation() {
        let mut ledger = Ledger::default();
        ledger.apply([(1, &[1, 2, 3][..])].into_iter());
        assert_eq!(ledger.summary(1).violations, 1);
    }

    #[test]
    fn the_hash_depends_on_order_and_content() {
        assert_eq!(applied(&[1, 2, 3]).hash, applied(&[1, 2, 3]).hash);
        assert_ne!(applied(&[1, 2, 3]).hash, applied(&[1, 3, 2]).hash);
        assert_ne!(applied(&[1, 2, 3]).hash, applied(&[1, 2]).hash);
    }
}
