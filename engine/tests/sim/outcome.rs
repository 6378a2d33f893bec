//! Where a run has come to: who leads, whether all agree, and what must be true at its end.

use std::collections::BTreeMap;

use ringleader::raft::RoleName;
use ringleader::{NodeId, Term};

use super::{Checker, Member};
use crate::clients::{Asked, Fate};
use crate::history::History;

impl Checker {
    /// Entries that the group's members have applied, all together.
    pub(crate) fn all_applied(&self, at: usize) -> u64 {
        let views = self.members[at].iter().filter_map(|member| member.view);
        views.map(|view| view.status.applied.0).sum()
    }

    /// Why the group has not come to rest: a leader, and everything applied on all nodes whose
    /// disks are not damaged.
    pub(crate) fn unsettled(&self, at: usize, damaged: &[bool]) -> Option<String> {
        let members = &self.members[at];
        let views = members.iter().filter_map(|member| member.view);
        let longest = views.map(|view| view.status.last).max_by_key(|last| (last.term, last.index));
        let history = &self.histories[at];
        let (changed, by) = history.in_force(longest.unwrap_or_default());
        let mut statuses = Vec::new();
        let is_member = |node: usize| by.contains(NodeId(node as u64 + 1));
        let counts = |node: usize| !damaged[node] && !self.contradicts(at, node);
        let intact = members.iter().enumerate().filter(|(node, _)| counts(*node));
        for (node, member) in intact.filter(|(node, _)| is_member(*node)) {
            let Some(view) = &member.view else {
                return Some(format!("node {} has not recovered", node + 1));
            };
            statuses.push(view.status);
        }
        let views = members.iter().filter_map(|member| member.view);
        let leaders = views.filter(|view| view.status.role == RoleName::Leader).count();
        let Some(first) = statuses.first().copied() else { return Some("nobody is there".into()) };
        if by.is_joint() || changed.index > first.commit {
            return Some(format!("a change of the members is under way: {by:?}, {statuses:#?}"));
        }
        let alike = statuses.iter().all(|status| {
            status.term == first.term
                && status.last == first.last
                && status.commit == first.last.index
                && status.applied == first.last.index
        });
        (leaders != 1 || !alike).then(|| format!("group {}: {statuses:#?}", self.groups[at]))
    }

    /// The group's leader, when there is exactly one.
    pub(crate) fn leader(&self, at: usize) -> Option<usize> {
        let leads =
            |member: &Member| member.view.is_some_and(|view| view.status.role == RoleName::Leader);
        let members = &self.members[at];
        let leader = members.iter().position(leads)?;
        (members.iter().filter(|member| leads(member)).count() == 1).then_some(leader)
    }

    /// Who leads in the highest term. One who was deposed may not know it yet.
    pub(crate) fn newest_leader(&self, at: usize) -> Option<usize> {
        let term = |member: &Member| {
            let status = member.view.as_ref()?.status;
            (status.role == RoleName::Leader).then_some(status.term)
        };
        let terms =
            self.members[at].iter().enumerate().filter_map(|(n, one)| Some((term(one)?, n)));
        terms.max().map(|(_, node)| node)
    }

    /// Who led a group in a term.
    pub(crate) fn led(&self, at: usize, term: Term) -> Option<NodeId> {
        self.histories[at].leader_of(term)
    }

    /// The group's leader and the highest term that anybody with intact disks is in.
    pub(crate) fn reign(&self, at: usize, damaged: &[bool]) -> (Option<usize>, Option<Term>) {
        let intact = self.members[at].iter().zip(damaged).filter(|(_, damaged)| !**damaged);
        let views = intact.filter_map(|(member, _)| member.view.as_ref());
        (self.leader(at), views.map(|view| view.status.term).max())
    }

    /// At the end: every operation that a caller was told of is in the history that all share.
    /// `damaged` says who need not have it, and is none when the cluster came to no rest.
    pub(crate) fn check_end(&self, asked: &[Asked], damaged: Option<&[bool]>) {
        for (op, asked) in asked.iter().enumerate() {
            let at = self.at(asked.group);
            let found = self.histories[at].find(op as u64);
            if asked.read.is_some() {
                assert_ne!(asked.fate, Fate::Waiting, "read {op} was never answered");
                continue;
            }
            match asked.fate {
                Fate::Applied => assert!(found.is_some(), "acknowledged operation {op} is lost"),
                Fate::Failed => assert!(found.is_none(), "refused operation {op} was applied"),
                Fate::Waiting => panic!("operation {op} was never answered"),
                Fate::Unknown => {}
            }
        }
        let Some(damaged) = damaged else { return };
        for (at, history) in self.histories.iter().enumerate() {
            let first = history.line().first;
            assert!(history.line().contains(first), "eras: {first:?} and what it follows is kept");
            let members = self.members[at].iter().enumerate();
            let (_, by) = history.in_force(history.last_committed().unwrap_or_default());
            let is_member = |node: usize| by.contains(NodeId(node as u64 + 1));
            let counts =
                |node: usize| !damaged[node] && is_member(node) && !self.contradicts(at, node);
            for (node, member) in members.filter(|(node, _)| counts(*node)) {
                assert_eq!(
                    member.applied,
                    history.line().last_applied(),
                    "group {} node {} has applied everything",
                    self.groups[at],
                    node + 1
                );
            }
        }
    }

    /// Entries committed and terms seen, over all groups.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let committed = self.histories.iter().filter_map(History::last_committed);
        let terms: BTreeMap<usize, u64> =
            self.histories.iter().map(History::terms).enumerate().collect();
        (committed.map(|position| position.index.0).sum(), terms.values().sum())
    }
}
