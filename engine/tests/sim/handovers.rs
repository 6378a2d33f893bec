//! Who was asked to take over, in which terms: nobody else may campaign in a leader's name.

use std::collections::BTreeSet;

use ringleader::Term;

#[derive(Debug, Default)]
pub(crate) struct Handovers {
    /// Group, the term of the leader that asked, and the node.
    asked: BTreeSet<(usize, Term, usize)>,
}

impl Handovers {
    pub(crate) fn asked(&mut self, group: usize, node: usize, term: Term) {
        self.asked.insert((group, term, node));
    }

    /// Whether the leader of a term asked anybody.
    pub(crate) fn was_offered(&self, group: usize, term: Term) -> bool {
        self.asked.range((group, term, 0)..=(group, term, usize::MAX)).next().is_some()
    }

    /// Whether a node may ask for votes in `term` at once: the leader of the term before wants it.
    pub(crate) fn may_campaign(&self, group: usize, node: usize, term: Term) -> bool {
        self.asked.contains(&(group, Term(term.0 - 1), node))
    }

    /// A node asks for votes in `term`; `handover` says that the leader of the term before wants
    /// it to, which is what makes followers break their promise to that leader.
    pub(crate) fn campaigns(&self, group: usize, node: usize, term: Term, handover: bool) {
        assert!(
            !handover || self.may_campaign(group, node, term),
            "handover: node {} campaigns in term {term} for a leader that never asked it to",
            node + 1
        );
    }
}
