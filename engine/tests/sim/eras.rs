//! Groups that are reset without their majority: which acknowledged operations may go with those
//! that are lost, who may still lead, and who still belongs to the group.

use ringleader::raft::era::Era;
use ringleader::raft::{Configuration, Reset, RoleName, Status};
use ringleader::{LogIndex, LogPortion, LogPosition, NodeId};

use super::Checker;
use crate::history::History;
use crate::members::is_quorum;

/// What an election depends on, of one node.
#[derive(Clone, Debug)]
pub(crate) struct Elector {
    pub(crate) node: usize,
    pub(crate) status: Status,
    pub(crate) configuration: Configuration,
    /// It has a vote by its log, and is of its era.
    pub(crate) campaigns: bool,
}

impl Elector {
    /// Whether the others, all that there are, are enough to elect it.
    fn wins(&self, electors: &[Self]) -> bool {
        let last = self.status.last;
        let votes = |node: usize| {
            let voter = electors.iter().find(|voter| voter.node == node);
            voter.is_some_and(|voter| {
                let own = voter.status.last;
                (own.term, own.index) <= (last.term, last.index)
            })
        };
        is_quorum(&self.configuration, votes)
    }

    /// Whether one of them will be elected by them, all others being away.
    pub(crate) fn any_wins(electors: &[Self]) -> bool {
        let era = electors.iter().map(|elector| Era::of(elector.status.term)).max();
        let stands =
            |elector: &&Self| elector.campaigns && Some(Era::of(elector.status.last.term)) == era;
        electors.iter().filter(stands).any(|elector| elector.wins(electors))
    }

    /// Whether one of them can't be kept from that by what it has. Votes that a candidate has count,
    /// whatever became of those who gave them.
    pub(crate) fn any_might_win(electors: &[Self]) -> bool {
        let stands = |elector: &Self| elector.status.role == RoleName::Candidate;
        electors.iter().any(|elector| stands(elector) || elector.wins(electors))
    }
}

impl Checker {
    /// A node begins the next era of a group, by what it has. What anybody who is `left` knows of
    /// what is committed stays: the others alone had the rest. Returns the last entry that stays.
    pub(crate) fn era_begins(
        &mut self,
        at: usize,
        node: usize,
        reset: &Reset,
        left: &[usize],
        since: u64,
    ) -> LogIndex {
        let history = &self.histories[at];
        let held = |node: &usize| {
            let view = self.members[at][*node].view;
            view.map_or(LogIndex(0), |view| history.committed_in(view.status.last))
        };
        let held = left.iter().map(held).max().unwrap_or_default();
        let kept = self.histories[at].begin_era(NodeId(node as u64 + 1), reset, since);
        assert!(
            kept >= held,
            "eras: {kept} stays of group {}, and {held} is left",
            self.groups[at]
        );
        kept
    }

    /// Somebody's first entry of the newest era may be durable.
    pub(super) fn era_may_stand(&mut self, at: usize, status: &Status) {
        let history = &mut self.histories[at];
        let first = history.line().first;
        let stands = history.line().stands
            || (status.durable >= first.index && history.holds(status.last, first));
        if stands {
            history.stand();
        }
    }

    /// A node answered that the era which begins at `at` has begun.
    pub(crate) fn era_answered(&self, group: usize, at: LogPosition) {
        let begun = self.histories[group].lines().iter().find(|line| line.first == at);
        assert!(begun.is_some_and(|line| line.stands), "reset before durable: {at:?}");
    }

    /// Whether a node knows committed what a reset left behind: it takes nothing of the new era.
    pub(crate) fn contradicts(&self, at: usize, node: usize) -> bool {
        let Some(view) = self.members[at][node].view else { return false };
        let history = &self.histories[at];
        let Status { last, commit, .. } = view.status;
        let known = LogPosition { index: commit, term: history.term_at(last, commit) };
        !history.line().contains(known)
    }

    /// Whether a node's disk has the first entry of the group's era.
    pub(crate) fn is_of_era(&self, at: usize, node: usize) -> bool {
        let history = &self.histories[at];
        let promise = &self.members[at][node].promise;
        let first = history.line().first;
        promise.durable >= first.index && history.holds(promise.last, first)
    }

    /// The group's era, and whether a reset began it.
    pub(crate) fn era(&self, at: usize) -> Era {
        self.histories[at].line().era
    }

    pub(crate) fn was_reset(&self, at: usize) -> bool {
        let history = &self.histories[at];
        let founded = history.founded.as_ref().map(|founded| founded.image.last);
        history.line().first != founded.unwrap_or_default()
    }

    /// Operations that were applied, and went with those who had them.
    pub(crate) fn lost(&self) -> u64 {
        let gone = |history: &History| {
            let lines = history.lines().windows(2);
            lines.map(|pair| pair[0].lost_by(&pair[1])).sum::<u64>()
        };
        self.histories.iter().map(gone).sum()
    }

    pub(crate) fn check_read(&self, at: usize, node: usize, from: LogIndex, portion: &LogPortion) {
        let history: &History = &self.histories[at];
        let known = |Status { last, commit, .. }: Status| LogPosition {
            index: commit,
            term: history.term_at(last, commit),
        };
        // It may have ended in the very turn in which it answers.
        let commit = match self.members[at][node].view {
            Some(view) => known(view.status),
            None => history.last_committed().unwrap_or_default(),
        };
        history.check_read(commit, from, portion);
    }
}
