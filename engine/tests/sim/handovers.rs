//! Who was asked to take over, in which terms: nobody else may campaign in a leader's name.

use std::collections::BTreeSet;

use ringleader::Term;

#[derive(Debug, Default)]
pub(crate) struct Handovers {
    /// Group, node, and the term of the leader that asked it.
    asked: BTreeSet<(usize, usize, Term)>,
}

impl Handovers {
    pub(crate) fn asked(&mut self, group: usize, node: usize, term: Term) {
        self.asked.insert((group, node, term));
    }

    /// A node asks for votes in `term`; `handover` says that the leader of the term before wants
    /// it to, which is what makes followers break their promise to that leader.
    pub(crate) fn campaigns(&self, group: usize, node: usize, term: Term, handover: bool) {
        let asked = self.asked.contains(&(group, node, Term(term.0 - 1)));
        assert!(
            asked || !handover,
            "handover: node {} campaigns in term {term} for a leader that never asked it to",
            node + 1
        );
    }
}
