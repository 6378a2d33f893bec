//! Eras: what keeps the two histories of a group apart that was [reset](super::reset) without its
//! majority.
//!
//! A term is a number of two parts, so that any term of a later era is above all of an earlier one,
//! and every rule about higher terms holds as it is:
//!
//! ```text
//! bit 63   62                54 53                       34 33                              0
//! +------+--------------------+---------------------------+---------------------------------+
//! |  0   | resets, one by one | node of the last, 20 bits | terms of this era, one by one   |
//! +------+--------------------+---------------------------+---------------------------------+
//!          \_________________ era _____________________/
//! ```
//!
//! Groups begin in era 0 and stay there as a rule, but for those that are
//! [founded from a state](crate::found_group): there, the state stands for a first entry. A reset
//! begins the next era with one entry, of a term that nobody is elected in: the era's *first entry*,
//! which says who the members are. Two nodes that are reset apart from each other begin different
//! eras, because the node is a part of the number; where they meet, the higher one is the group's.
//!
//! Two rules make an era one history, and end the earlier ones:
//!
//! - Votes of a term are given only to who has the first entry of its era, and nobody else campaigns
//!   in it. So every leader of the era has that entry, and what was before it on the node that was
//!   reset, exactly as if all of it had been committed.
//! - What a member knows committed in an earlier era is compared, never assumed, to be what a
//!   leader of a later one has (`State::agrees`).
//!
//! So an old member that comes back and hears a term of the new era can neither be elected nor help
//! anybody of its kind; it is [superseded](super::Raft::is_superseded). If it becomes a member again, it
//! takes the leader's log as anybody, provided that it knows nothing committed that contradicts it;
//! otherwise it refuses it, for what it applied can't be taken back. A snapshot it takes: that replaces
//! its state machine with all that was applied. Old members that hear nothing of the new era know nothing of
//! it: a majority of them, without a connection to anybody of the new era, goes on by itself.

use ringleader_wal::{LogPosition, NodeId, Term};

use super::state::State;

const COUNT_BITS: u32 = 34;
const NODE_BITS: u32 = 20;
const RESETS: u64 = 1 << (63 - COUNT_BITS - NODE_BITS);

/// An era of a group; see the [module documentation](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Era(u64);

impl Era {
    /// The era that a term is of.
    #[must_use]
    pub fn of(term: Term) -> Self {
        Self(term.0 >> COUNT_BITS)
    }

    /// How many resets there were before it, of those that it follows.
    #[must_use]
    pub fn resets(self) -> u64 {
        self.0 >> NODE_BITS
    }

    /// The number of the node that was reset, as far as it fits 20 bits.
    #[must_use]
    pub fn node(self) -> u64 {
        self.0 & ((1 << NODE_BITS) - 1)
    }

    /// The term of the era's first entry.
    #[must_use]
    pub fn first_term(self) -> Term {
        Term(self.0 << COUNT_BITS)
    }

    /// The era that begins when `node` is reset in this one; none after too many.
    pub(super) fn next(self, node: NodeId) -> Option<Self> {
        let resets = self.resets() + 1;
        let node = node.0 & ((1 << NODE_BITS) - 1);
        (resets < RESETS).then_some(Self(resets << NODE_BITS | node))
    }
}

/// Whether nobody gets to a term by counting. It is refused: a forged one must not leave the era
/// without a next one.
pub(super) fn is_out_of_reach(term: Term) -> bool {
    let count = term.0 & ((1 << COUNT_BITS) - 1);
    count >= 1 << (COUNT_BITS - 1) || Era::of(term).resets() >= RESETS
}

/// Whether a log that ends at `last` may belong to a leader of `term`.
pub(super) fn may_lead(last: LogPosition, term: Term) -> bool {
    Era::of(last.term) == Era::of(term)
}

impl State {
    /// Whether the group was reset and this log does not have the new era's first entry. Until it
    /// has, this member follows and does not campaign.
    pub(super) fn is_superseded(&self) -> bool {
        !may_lead(self.log.last(), self.term())
    }

    /// Whether the log has the entry at `position`. What is not after the log's base is committed,
    /// and so what every leader has, unless that is of a later era than the log.
    #[inline]
    pub(super) fn agrees(&self, position: LogPosition) -> bool {
        if position.index < self.log.base().index {
            return !self.is_superseded();
        }
        self.log.term_at(position.index) == Some(position.term)
    }

    /// The leader says what contradicts what is known committed here.
    pub(super) fn contradicted(&mut self) {
        // Leaders of this member's own era have all that; those of a later one need not.
        self.ignored += u64::from(!self.is_superseded());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_term_of_a_later_era_is_above_all_of_an_earlier_one() {
        let mut last = Term(0);
        let mut era = Era::of(last);
        for node in [3, 1, 0xf_ffff, 2, u64::MAX] {
            let highest = Term(last.0 | ((1 << COUNT_BITS) - 1));
            let next = era.next(NodeId(node)).expect("not too many");
            assert!(next.first_term() > highest);
            assert_eq!((next.resets(), next.node()), (era.resets() + 1, node & 0xf_ffff));
            assert_eq!(Era::of(next.first_term().next()), next);
            assert!(!is_out_of_reach(next.first_term()) && is_out_of_reach(highest));
            (era, last) = (next, next.first_term());
        }
        let last = Era((RESETS - 1) << NODE_BITS);
        assert_eq!(last.next(NodeId(1)), None);
        assert!(is_out_of_reach(Term(u64::MAX)) && is_out_of_reach(Term(1 << 63)));
    }

    #[test]
    fn resets_apart_from_each_other_begin_different_eras() {
        let first = Era::default();
        assert_ne!(first.next(NodeId(1)), first.next(NodeId(2)));
    }
}
