//! A member's state, to be looked at.

use ringleader_wal::{LogIndex, LogPosition, NodeId, Term};
use serde::{Deserialize, Serialize};

use super::configuration::Configuration;
use super::progress::Mode;
use super::{Raft, Role};
use crate::time::Time;

/// The role of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleName {
    /// Follows a leader or waits for one.
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// One group's state on one member. It is copied together from plain fields: ask as often as you
/// like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub node: NodeId,
    /// Its role.
    pub role: RoleName,
    /// The current term.
    pub term: Term,
    /// Who got this member's vote in the current term.
    pub voted_for: Option<NodeId>,
    /// The leader of the current term, if it is known.
    pub leader: Option<NodeId>,
    /// The last entry known committed.
    pub commit: LogIndex,
    /// The last entry that the state machine took.
    pub applied: LogIndex,
    /// The last entry of the log.
    pub last: LogPosition,
    /// The last entry that survives a crash of this member.
    pub durable: LogIndex,
    /// To whom a leader is handing its office.
    pub transfers_to: Option<NodeId>,
    /// Whether it rests, because nothing happens in the group.
    pub rests: bool,
    /// Messages that a correct member can't have sent, and blocks that the WAL can't have
    /// returned; all of them were ignored.
    pub ignored: u64,
}

/// What a node is in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Membership {
    /// It has a vote, before or after a change that is under way.
    Voter,
    /// It gets the log and has none.
    Learner,
    /// It is no member: it catches up to become one, or is yet to learn that it no longer is.
    #[default]
    None,
}

/// What a leader knows about one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// How entries are sent to it.
    pub mode: Mode,
    /// Last entry known durable there and like the leader's.
    pub match_index: LogIndex,
    /// First entry not yet sent.
    pub next_index: LogIndex,
    /// Append requests on their way.
    pub inflight_messages: usize,
    /// Bytes of blocks on their way.
    pub inflight_bytes: usize,
    /// Milliseconds since it was last heard, by the group's clock, which stands at the last
    /// message, proposal or heartbeat; for one that was never heard, since this node leads. One
    /// that is alive answers every heartbeat.
    pub heard_ms_ago: u64,
    /// Whether it votes.
    #[serde(default)]
    pub membership: Membership,
    /// Whether it is alive: as a shard tells, there is a connection to it, on which something came
    /// within an election timeout, of whatever group; as [`Raft::peers`] knows by itself, it
    /// answered in this group within that time by the group's clock.
    #[serde(default)]
    pub alive: bool,
}

impl Raft {
    /// Everyone whom this node may have to reach for the group's sake, itself included: the members,
    /// and those to whom it sends the log although they are none.
    pub(crate) fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        let members = self.configuration();
        let others = self.peers().map(|peer| peer.id).filter(|id| !members.contains(*id));
        members.members().chain(others)
    }

    /// Whether this node leads its group, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// This member.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.state.node
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.state.term()
    }

    /// The last entry known committed.
    #[must_use]
    pub fn commit_index(&self) -> LogIndex {
        self.state.commit_index
    }

    /// The last entry that the state machine took.
    #[must_use]
    pub fn applied_index(&self) -> LogIndex {
        self.state.last_applied
    }

    /// The leader of the current term, if it is known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.state.node),
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// Who the members are, as far as this node knows: the latest configuration in its log.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.state.configurations.latest()
    }

    /// The configuration in force at an entry that is not before the log's [base](Self::base), and
    /// where it stands in the log.
    #[must_use]
    pub fn configuration_at(&self, index: LogIndex) -> (LogIndex, &Configuration) {
        self.state.configurations.at(index)
    }

    /// The first configuration among the entries in `(after, last]`, and where it stands; `after` is
    /// not before the last applied entry but one call.
    pub(crate) fn configuration_after(
        &self,
        after: LogIndex,
        last: LogIndex,
    ) -> Option<(LogIndex, &Configuration)> {
        self.state.configurations.after(after).filter(|(at, _)| *at <= last)
    }

    /// The latest time that any call passed in.
    pub(crate) fn now(&self) -> Time {
        self.state.now
    }

    /// The member's state.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = &self.state;
        Status {
            node: state.node,
            role: match self.role {
                Role::Follower(_) => RoleName::Follower,
                Role::PreCandidate(_) => RoleName::PreCandidate,
                Role::Candidate(_) => RoleName::Candidate,
                Role::Leader(_) => RoleName::Leader,
            },
            term: state.term(),
            voted_for: state.hard_state().voted_for,
            leader: self.leader(),
            commit: state.commit_index,
            applied: state.last_applied,
            last: state.log.last(),
            durable: state.log.durable(),
            transfers_to: self.transfers_to(),
            rests: self.rests(),
            ignored: state.ignored,
        }
    }

    /// What a leader knows about its peers: voters first, nodes that are not members, because they
    /// catch up or have just been removed, last. Nothing unless this node leads.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus> + '_ {
        let peers = match &self.role {
            Role::Leader(leader) => &leader.peers[..],
            _ => &[],
        };
        peers.iter().map(|peer| {
            let (inflight_messages, inflight_bytes) = peer.inflight();
            PeerStatus {
                id: peer.id,
                mode: peer.mode,
                match_index: peer.match_index,
                next_index: peer.next_index,
                inflight_messages,
                inflight_bytes,
                heard_ms_ago: self.state.now.since(peer.heard_at).as_millis() as u64,
                membership: self.configuration().membership(peer.id),
                alive: self.state.now.since(peer.heard_at) < self.state.config.election_timeout,
            }
        })
    }

    /// Bytes of the log's blocks that are in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        self.state.log.held_bytes()
    }

    /// A member's priority, as this one was configured.
    pub(crate) fn priority_of(&self, node: NodeId) -> u16 {
        self.state.priority_of(node)
    }
}
