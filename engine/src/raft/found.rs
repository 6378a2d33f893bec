//! How a group begins that is created while its nodes run: with an entry that names its members.
//!
//! The voters of a group that a node is started with are in the node's configuration. Those of a
//! group that is created later are in the group's own log, from its first entry on, so that a node
//! needs to be told of it once:
//!
//! ```text
//! index 1, term 1: the members | index 2, term 2 or later: the first leader's empty entry | ...
//! ```
//!
//! Each founding member writes that first entry by itself. It is the same on all of them, so it names
//! no data directories, and nobody is elected in term 1, so it needs nobody's consent: a leader of a later term commits it
//! with its own first entry. (etcd's members begin likewise, with one entry for each of them.)

use ringleader_wal::{Block, LogIndex, LogPosition, Term};

use super::Raft;
use super::configuration::Configuration;
use super::output::Outlet;
use crate::time::Time;

/// Where the entry stands that a group begins with.
pub const FOUNDED_AT: LogPosition = LogPosition { index: LogIndex(1), term: Term(1) };

impl Raft {
    /// Begins the group's log with `members`. It is done when that is durable; then the members
    /// elect a leader.
    ///
    /// # Panics
    /// When the log is not empty, or this member has seen a term.
    pub fn found(&mut self, now: Time, members: &Configuration, out: &mut dyn Outlet) {
        let state = &mut self.state;
        let is_new = state.log.last() == LogPosition::default() && state.term() == Term(0);
        assert!(is_new, "a group begins once");
        let block =
            Block::configuration(state.group, FOUNDED_AT, &members.identified(|_| None).encode());
        self.advance_clock(now);
        self.state.set_hard_state(FOUNDED_AT.term, None);
        self.state.append_any(block, out);
        self.state.retry_election_timer();
        out.reschedule();
    }
}
