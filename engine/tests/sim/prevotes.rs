//! Pre-votes: nobody disturbs a group with a new term unless a majority said, for that very term,
//! that it would vote (thesis, section 9.6), or the leader of the term before wants it so.

use std::collections::BTreeSet;

use ringleader::Term;
use ringleader::raft::Configuration;
use ringleader::raft::message::Message;

use crate::members::is_quorum;

/// What was granted, over all groups and lives: the term names the round, so that an answer may be
/// late but never counts for another one.
#[derive(Debug, Default)]
pub(crate) struct PreVotes {
    /// Group, candidate, term, voter.
    granted: BTreeSet<(usize, usize, Term, usize)>,
}

impl PreVotes {
    /// A message leaves `node` for `to`; `by` is the configuration in force on the node.
    pub(crate) fn sent(
        &mut self,
        group: usize,
        node: usize,
        to: usize,
        message: &Message,
        by: &Configuration,
    ) {
        match message {
            Message::PreVoteResponse { term, granted: true } => {
                self.granted.insert((group, to, *term, node));
            }
            Message::VoteRequest { term, handover: false, .. } => {
                let consents = |other: usize| {
                    other == node || self.granted.contains(&(group, node, *term, other))
                };
                assert!(
                    is_quorum(by, consents),
                    "pre-vote: node {} asks for votes in term {term} without the consent of {by:?}",
                    node + 1
                );
            }
            _ => {}
        }
    }
}
