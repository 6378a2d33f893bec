//! The check at the end of a run: is every acknowledged operation in every replica, are the
//! replicas the same, and did nothing happen that nobody asked for?

use serde::Serialize;

use crate::control::GroupOutcome;
use crate::ledger::{Ranges, Summary};
use crate::report::thousands;

/// Most findings that are spelled out.
const FINDINGS: usize = 8;

/// What the check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verification {
    /// All replicas of every group applied the same operations in the same order.
    pub(crate) replicas_identical: bool,
    /// Operations that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Acknowledged operations that a replica lacks, summed over the replicas.
    pub(crate) missing: u64,
    /// Operations that a replica applied although they were refused or never proposed, summed.
    pub(crate) unexpected: u64,
    /// Operations that a replica applied twice or out of their proposer's order, summed.
    pub(crate) violations: u64,
    /// The first findings, in words.
    pub(crate) findings: Vec<String>,
}

impl Verification {
    /// Whether nothing was found.
    pub(crate) fn passed(&self) -> bool {
        self.findings.is_empty()
    }

    /// What was compared, in one line.
    pub(crate) fn summary(&self, nodes: u64) -> String {
        let same = if self.replicas_identical { "the same order" } else { "DIFFERENT orders" };
        let (acknowledged, missing) = (thousands(self.acknowledged), self.missing);
        format!(
            "{acknowledged} acknowledged operations, {nodes} replicas, {same}, {missing} missing"
        )
    }

    pub(crate) fn find(&mut self, finding: impl FnOnce() -> String) {
        if self.findings.len() < FINDINGS {
            self.findings.push(finding());
        }
    }

    fn check_replica(&mut self, node: u64, outcome: &GroupOutcome, replica: &Summary) {
        let group = replica.group;
        let missing = outcome.acknowledged.minus(&replica.applied);
        let lost = missing.len();
        self.missing += lost;
        if let Some(first) = missing.first() {
            self.find(|| {
                format!(
                    "group {group}: node {node} lacks {lost} acknowledged operations, {first:#x} first"
                )
            });
        }
        let unexpected = replica.applied.minus(&outcome.acknowledged).minus(&outcome.unknown);
        let strange = unexpected.len();
        self.unexpected += strange;
        if let Some(first) = unexpected.first() {
            self.find(|| {
                format!(
                    "group {group}: node {node} applied {strange} operations that were refused or \
                     never proposed, {first:#x} first"
                )
            });
        }
        self.violations += replica.violations;
        if let Some(what) = &replica.first_violation {
            self.find(|| format!("group {group}: node {node}: {what}"));
        }
    }
}

/// Compares what the load generators know with what the replicas applied. `outcomes[i]` is of group
/// `i + 1`, and so is `replicas[node][i]`.
pub(crate) fn verify(outcomes: &[GroupOutcome], replicas: &[Vec<Summary>]) -> Verification {
    let mut found = Verification { replicas_identical: true, ..Verification::default() };
    for (index, outcome) in outcomes.iter().enumerate() {
        let acknowledged: &Ranges = &outcome.acknowledged;
        found.acknowledged += acknowledged.len();
        let group = index as u64 + 1;
        let mut first: Option<&Summary> = None;
        for (summaries, node) in replicas.iter().zip(1..) {
            let Some(replica) = summaries.get(index).filter(|summary| summary.group == group)
            else {
                found.replicas_identical = false;
                found.find(|| format!("group {group}: node {node} has no replica"));
                continue;
            };
            found.check_replica(node, outcome, replica);
            let reference = *first.get_or_insert(replica);
            let same = |summary: &Summary| (summary.count, summary.hash, summary.last_index);
            if same(reference) != same(replica) || reference.applied != replica.applied {
                found.replicas_identical = false;
                let (a, b) = (same(reference), same(replica));
                found.find(|| {
                    format!(
                        "group {group}: the replicas differ (operations, hash, last index): {a:x?} \
                         on the first node, {b:x?} on node {node}"
                    )
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ledger, number};

    fn replica(sequences: &[u64]) -> Summary {
        let payloads: Vec<_> =
            sequences.iter().map(|sequence| number(1, *sequence).to_le_bytes()).collect();
        let mut ledger = Ledger::default();
        ledger.apply((1..).zip(payloads.iter().map(|payload| &payload[..])));
        ledger.summary(1)
    }

    fn outcome(acknowledged: u64, unknown: std::ops::Range<u64>) -> GroupOutcome {
        let mut outcome = GroupOutcome::default();
        outcome.acknowledged.insert(number(1, 0), number(1, acknowledged));
        outcome.unknown.insert(number(1, unknown.start), number(1, unknown.end));
        outcome
    }

    fn check(outcome: GroupOutcome, replicas: [&[u64]; 3]) -> Verification {
        verify(&[outcome], &replicas.map(|sequences| vec![replica(sequences)]))
    }

    #[test]
    fn three_replicas_with_all_that_was_acknowledged_pass() {
        let found = check(outcome(3, 0..0), [&[0, 1, 2]; 3]);
        assert!(found.passed() && found.replicas_identical, "{found:?}");
        assert_eq!(found.acknowledged, 3);
    }

    #[test]
    fn a_missing_operation_is_found() {
        let found = check(outcome(3, 0..0), [&[0, 1, 2], &[0, 1, 2], &[0, 2]]);
        assert_eq!((found.missing, found.replicas_identical, found.passed()), (1, false, false));
        let found = check(outcome(3, 0..0), [&[0, 1]; 3]);
        assert_eq!((found.missing, found.replicas_identical, found.passed()), (3, true, false));
    }

    #[test]
    fn another_order_is_found() {
        let found = check(outcome(3, 0..0), [&[0, 1, 2], &[0, 2, 1], &[0, 1, 2]]);
        assert!(!found.replicas_identical && !found.passed());
        assert_eq!(found.violations, 1);
        let found = check(outcome(3, 0..0), [&[1, 0, 2]; 3]);
        assert!(found.replicas_identical && !found.passed(), "the same wrong order everywhere");
    }

    #[test]
    fn a_repeated_operation_is_found() {
        let found = check(outcome(3, 0..0), [&[0, 1, 1, 2]; 3]);
        assert_eq!((found.violations, found.passed()), (3, false));
    }

    #[test]
    fn an_operation_of_unknown_outcome_may_be_there_or_not_but_everywhere_alike() {
        assert!(check(outcome(2, 2..4), [&[0, 1]; 3]).passed());
        assert!(check(outcome(2, 2..4), [&[0, 1, 2]; 3]).passed());
        assert!(!check(outcome(2, 2..4), [&[0, 1, 2], &[0, 1], &[0, 1]]).passed());
    }

    #[test]
    fn an_operation_that_was_refused_must_not_be_there() {
        let found = check(outcome(2, 0..0), [&[0, 1, 5]; 3]);
        assert_eq!((found.unexpected, found.passed()), (3, false));
    }

    #[test]
    fn a_replica_that_is_not_there_is_found() {
        let found = verify(&[outcome(1, 0..0)], &[vec![replica(&[0])], vec![]]);
        assert!(!found.replicas_identical && !found.passed());
    }
}
