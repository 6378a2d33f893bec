//! What a state machine is told of its node's office in the group: who leads, and in which term.

use ringleader::{NodeId, Term};

/// What a machine was told so far; it panics at what it must not be told.
#[derive(Debug, Default)]
pub(crate) struct Offices {
    /// The leader that was announced and not ended, none if it is this node, and its term.
    present: Option<(Option<NodeId>, Term)>,
    /// The highest term that was announced.
    latest: Term,
}

impl Offices {
    pub(crate) fn begin(&mut self, leader: Option<NodeId>, term: Term) {
        assert_eq!(self.present, None, "offices: one starts after the one before it ended");
        assert!(self.latest <= term, "offices: terms are told in order");
        self.latest = term;
        self.present = Some((leader, term));
    }

    pub(crate) fn end(&mut self, leader: Option<NodeId>, term: Term) {
        let ended = self.present.take();
        assert_eq!(ended, Some((leader, term)), "offices: the one that started is ended");
    }
}
