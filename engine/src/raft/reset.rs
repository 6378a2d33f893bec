//! Going on without a majority: the members of a group are set anew on one node that is left, by
//! hand, when those that are lost can't come back.
//!
//! This is no Raft. An entry that was acknowledged was on a majority of the voters, and if all of
//! those are lost it is gone. What stays is the log of the one node that was chosen, all of it,
//! whether it was committed or not. Among the nodes that are left, the one whose log ends at the
//! highest (term, index) has everything that any of them knows committed: the rule by which voters
//! compare candidates (thesis, section 3.6.1).
//!
//! ```text
//! the node's log:   ... | entries, committed or not | first entry of the next era: the members |
//! then:             an election among those, as ever
//! ```
//!
//! The new era ([`era`](super::era)) outbids whatever terms the lost nodes are in, so that one
//! that comes back leads nobody of the new era astray. (SOFAJRaft's `resetPeers` only adds one to
//! the term, so lost nodes that come back elect a rival. etcd's `--force-new-cluster` and TiKV's
//! unsafe recovery ask the operator to see to it that they never do.)

use ringleader_wal::{Block, LogIndex, LogPosition, NodeId};

use super::configuration::Configuration;
use super::era::Era;
use super::output::{Event, Outlet};
use super::{Raft, Role};
use crate::time::Time;

/// What a reset comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The new era's first entry, which sets the members.
    pub at: LogPosition,
    /// The node's last entry before that. All of its log stays, and is committed from now on;
    /// whatever other nodes had beyond it or instead of it is lost.
    pub last: LogPosition,
    /// Of that, so much was known committed.
    pub commit: LogIndex,
    /// Who the members were, as far as this node knows.
    pub before: Configuration,
}

/// Why the members were not set anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetRefused {
    /// The group has a leader: its members can be changed as ever.
    #[error("the group has a leader, node {0}: change its members instead")]
    HasLeader(NodeId),
    /// There is no such configuration.
    #[error("impossible members: {0}")]
    Impossible(&'static str),
}

/// Where a group begins that `node` founds from a state: the state, as a snapshot, stands for the
/// first entry of an era, and for all before it.
pub(crate) fn founding_position(node: NodeId) -> LogPosition {
    let era = Era::default().next(node).expect("the first of many");
    LogPosition { index: LogIndex(1), term: era.first_term() }
}

impl Raft {
    /// What [`reset`](Self::reset) would do at `now`.
    ///
    /// # Errors
    /// Why it would not.
    pub fn plan_reset(&self, now: Time, members: &Configuration) -> Result<Reset, ResetRefused> {
        let impossible = |what| Err(ResetRefused::Impossible(what));
        if let Some(leader) = self.live_leader(now) {
            return Err(ResetRefused::HasLeader(leader));
        }
        if members.members().any(|node| node == NodeId(0)) {
            return impossible("there is no node 0");
        }
        if !members.voters().contains(&self.state.node) || members.is_joint() {
            return impossible("this node has to be a voter: its log is what there is");
        }
        let Some(era) = Era::of(self.state.term()).next(self.state.node) else {
            return impossible("the group was reset too often");
        };
        let last = self.state.log.last();
        Ok(Reset {
            at: LogPosition { index: last.index.next(), term: era.first_term() },
            last,
            commit: self.state.commit_index,
            before: self.state.configurations.latest().clone(),
        })
    }

    /// Sets the members anew, without asking anybody. It is done when the entry is durable; then
    /// the new voters elect a leader.
    ///
    /// # Errors
    /// Nothing has changed.
    pub fn reset(
        &mut self,
        now: Time,
        members: &Configuration,
        out: &mut dyn Outlet,
    ) -> Result<Reset, ResetRefused> {
        self.advance_clock(now);
        let reset = self.plan_reset(now, members)?;
        let before = self.office();
        self.become_follower(self.state.term(), None);
        self.finish(before, out);
        // What the log says of those who stay is as true as ever.
        let known = |node| {
            let shown = out.data(node).filter(|_| node == self.state.node);
            shown.or_else(|| reset.before.data(node)).or_else(|| out.data(node))
        };
        let members = members.identified(known);
        let block = Block::configuration(self.state.group, reset.at, &members.encode());
        self.state.set_hard_state(reset.at.term, None);
        self.state.append_any(block, out);
        self.state.retry_election_timer();
        out.event(Event::MembersReset { at: reset.at.index });
        out.reschedule();
        Ok(reset)
    }

    /// Whether the group was [reset](Self::reset) elsewhere and this member's log does not belong to
    /// it any more, or not yet: it can't lead, and nobody like it can.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.state.is_superseded()
    }

    /// A leader that was heard within an election timeout; this node, if it has heard a quorum.
    fn live_leader(&self, now: Time) -> Option<NodeId> {
        let lately = |heard: Option<Time>| {
            heard.is_some_and(|at| now.since(at) < self.state.config.election_timeout)
        };
        match &self.role {
            // Beats say that it lives, and whoever rests wakes when they stop.
            _ if self.rests() => self.leader(),
            Role::Leader(leader) => {
                lately(leader.quorum_heard(&self.state)).then_some(self.state.node)
            }
            _ => self.leader().filter(|_| lately(self.state.leader_heard_at())),
        }
    }
}
