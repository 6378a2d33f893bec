//! Quorum arithmetic: what a majority of the voters reached or decided. In joint consensus
//! (thesis, section 4.3) both the new and the outgoing voters must agree.

use ringleader_wal::NodeId;

use super::configuration::Configuration;

/// The most voters that a configuration, or either half of a joint one, may have.
pub const MAX_VOTERS: usize = 15;

/// Where an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// A quorum agreed.
    Won,
    /// So many refused that a quorum can't agree any more.
    Lost,
    /// Not decided yet.
    Pending,
}

impl Configuration {
    /// The number of voters, if they alone decide.
    pub(super) fn plain(&self) -> Option<usize> {
        (!self.is_joint()).then_some(self.voters().len())
    }

    /// The highest value that a quorum reached; none if there are no voters.
    #[must_use]
    pub fn reached<T: Copy + Default + Ord>(&self, value: impl Fn(NodeId) -> T) -> Option<T> {
        match (reached_by(self.voters(), &value), reached_by(self.outgoing(), &value)) {
            (Some(incoming), Some(outgoing)) => Some(incoming.min(outgoing)),
            (incoming, _) => incoming,
        }
    }

    /// Where an election stands, given everyone's vote so far.
    #[must_use]
    pub fn vote_result(&self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        let granted = self.reached(|node| vote(node) == Some(true));
        let possible = self.reached(|node| vote(node) != Some(false));
        match (granted, possible) {
            (Some(true), _) => VoteResult::Won,
            (_, Some(true)) => VoteResult::Pending,
            _ => VoteResult::Lost,
        }
    }
}

fn reached_by<T: Copy + Default + Ord>(
    voters: &[NodeId],
    value: impl Fn(NodeId) -> T,
) -> Option<T> {
    let (first, others) = voters.split_first()?;
    reached_by_most(value(*first), others.iter().map(|voter| value(*voter)))
}

/// The highest value that a majority reached. The values are those of all voters, at most
/// [`MAX_VOTERS`].
#[inline]
pub(super) fn reached_by_most<T: Copy + Default + Ord>(
    first: T,
    mut others: impl ExactSizeIterator<Item = T>,
) -> Option<T> {
    if others.len() == 2
        && let (Some(a), Some(b)) = (others.next(), others.next())
    {
        // The middle one of three.
        return Some(a.min(b).max(a.max(b).min(first)));
    }
    let mut sorted = [first; MAX_VOTERS];
    // Insertion keeps the few values in descending order, where a majority of the voters stands at
    // or above the one in the middle.
    let mut count = 1;
    for value in others {
        let mut at = count;
        while at > 0 && sorted[at - 1] < value {
            sorted[at] = sorted[at - 1];
            at -= 1;
        }
        sorted[at] = value;
        count += 1;
    }
    Some(sorted[count / 2])
}
