//! The state machine that the simulated groups replicate: a hash chained over everything that it
//! was given. Equal hashes at an index are equal histories up to there.

use ringleader::{Entries, Replies, StateMachine};

use crate::rng::{chain, chain_bytes};

/// One operation that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppliedOp {
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// Which operation it was.
    pub(crate) op: OpName,
    /// The hash of its payload.
    pub(crate) payload: u64,
    /// The state after it.
    pub(crate) state: u64,
}

/// The number of an operation, unique in a run; its payload starts with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OpName(pub(crate) u64);

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Machine {
    state: u64,
    /// What was applied since the simulator looked last.
    pub(crate) applied: Vec<AppliedOp>,
    /// The term of the leadership that was announced and not ended.
    leading: Option<u64>,
}

impl StateMachine for Machine {
    fn apply(&mut self, entries: &Entries<'_>, replies: &mut Replies) {
        for entry in entries.iter() {
            let (index, term) = (entry.index.0, entry.term.0);
            let payload = chain_bytes(0, entry.payload);
            self.state = chain(chain(chain(self.state, index), term), payload);
            let name = entry.payload.first_chunk().expect("every payload starts with its name");
            let op = OpName(u64::from_le_bytes(*name));
            self.applied.push(AppliedOp { index, term, op, payload, state: self.state });
            replies.push(entry.index, &self.state.to_le_bytes());
        }
    }

    fn leader_start(&mut self, term: ringleader::Term) {
        assert_eq!(self.leading, None, "a leadership starts after the one before it ended");
        self.leading = Some(term.0);
    }

    fn leader_stop(&mut self, term: ringleader::Term) {
        assert_eq!(self.leading.take(), Some(term.0), "the leadership that started is ended");
    }
}
