//! Pre-votes: nobody disturbs a group with a new term unless a majority said, for that very term,
//! that it would vote (thesis, section 9.6), or the leader of the term before wants it so.

use std::collections::BTreeSet;

use ringleader::Term;
use ringleader::raft::message::Message;

/// What was granted, over all groups and lives: the term names the round, so that an answer may be
/// late but never counts for another one.
#[derive(Debug, Default)]
pub(crate) struct PreVotes {
    /// Group, candidate, term, voter.
    granted: BTreeSet<(usize, usize, Term, usize)>,
}

impl PreVotes {
    /// A message leaves `node` for `to`; the group has `voters` of them.
    pub(crate) fn sent(
        &mut self,
        group: usize,
        node: usize,
        to: usize,
        message: &Message,
        voters: usize,
    ) {
        match message {
            Message::PreVoteResponse { term, granted: true } => {
                self.granted.insert((group, to, *term, node));
            }
            Message::VoteRequest { term, handover: false, .. } => {
                let round = (group, node, *term, 0)..=(group, node, *term, usize::MAX);
                let consent = 1 + self.granted.range(round).count();
                assert!(
                    consent > voters / 2,
                    "pre-vote: node {} asks for votes in term {term} with the consent of {consent} \
                     of {voters}",
                    node + 1
                );
            }
            _ => {}
        }
    }
}
