//! Looking at a group from outside: for callers, reports and tests.

use ringleader_net::DataId;
use ringleader_wal::{GroupId, LogIndex, LogPosition, NodeId, Term};
use serde::{Deserialize, Serialize};

use super::Shard;
use super::group::Group;
use crate::raft::era::Era;
use crate::raft::{Configuration, Membership, PeerStatus, Raft, RoleName};
use crate::state_machine::StateMachine;

/// A member of a group, as a node sees it that need not lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The member.
    pub id: NodeId,
    /// Whether it votes, by the latest configuration in the node's log.
    pub membership: Membership,
    /// Which data directory its promises rest on, by the same configuration; none if no leader has met
    /// it yet.
    #[serde(default)]
    pub data: Option<DataId>,
    /// Its [priority](crate::Priorities), as the node was configured.
    pub priority: u16,
    /// Whether it is alive, as far as the node can know by itself: connected, and heard within an
    /// election timeout. Whatever rests, nodes that are connected say several times in that time
    /// that they are there.
    pub alive: bool,
}

/// A group as its node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// This node's role in it.
    pub role: RoleName,
    /// The current term.
    pub term: Term,
    /// The term's leader, if it is known.
    pub leader: Option<NodeId>,
    /// The last entry known committed.
    pub commit: LogIndex,
    /// The last entry that the state machine took.
    pub applied: LogIndex,
    /// The last entry of this node's log.
    pub last: LogPosition,
    /// The last entry that survives a crash of this node.
    pub durable: LogIndex,
    /// Who the members are, by the latest configuration in this node's log.
    pub configuration: Configuration,
    /// To whom a leader is handing its office.
    pub transfers_to: Option<NodeId>,
    /// Whether the member rests, because nothing happens in the group.
    pub rests: bool,
    /// Who got this node's vote in the current term.
    #[serde(default)]
    pub voted_for: Option<NodeId>,
    /// The entry before the first of this node's log; everything up to it is in a snapshot, or in
    /// the state machine's own storage.
    #[serde(default)]
    pub base: LogPosition,
    /// What this node's newest snapshot file covers, if there is one.
    #[serde(default)]
    pub snapshot: Option<LogPosition>,
    /// The members, this node included, and who of them is alive: on every node.
    #[serde(default)]
    pub members: Vec<MemberStatus>,
    /// What a leader knows about its peers; empty on others.
    pub peers: Vec<PeerStatus>,
    /// Of these, whoever lacks what the log no longer holds while the state machine gives no snapshot
    /// for it: it gets nothing until another member leads, or its replica is replaced.
    #[serde(default)]
    pub stranded: Vec<NodeId>,
}

impl GroupStatus {
    /// Whether the group was [reset](crate::Handle::reset_peers) elsewhere and what this node has
    /// does not belong to it any more, or not yet: it follows nobody that it contradicts, and can't
    /// lead.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        Era::of(self.last.term) != Era::of(self.term)
    }
}

impl Shard {
    /// A group's state, if it is on this shard and the shard has recovered. A shard whose log
    /// failed or that was stopped leads and follows nobody, whatever its groups last were.
    #[must_use]
    pub fn status(&self, group: GroupId) -> Option<GroupStatus> {
        let group = self.groups.get(*self.slots.get(&group)? as usize)?;
        Some(self.status_of(group))
    }

    pub(super) fn status_of(&self, group: &Group) -> GroupStatus {
        let status = group.raft.status();
        let takes_part = self.takes_part();
        GroupStatus {
            group: group.id,
            role: if takes_part { status.role } else { RoleName::Follower },
            term: status.term,
            leader: status.leader.filter(|_| takes_part),
            commit: status.commit,
            applied: status.applied,
            last: status.last,
            durable: status.durable,
            configuration: group.raft.configuration().clone(),
            transfers_to: status.transfers_to,
            rests: status.rests && takes_part,
            voted_for: status.voted_for,
            base: group.raft.base(),
            snapshot: self.slots.get(&group.id).and_then(|slot| self.snapshots.newest(*slot)),
            members: self.members_of(group),
            peers: self.peers_of(group),
            stranded: self.stranded_in(group.id),
        }
    }

    fn members_of(&self, group: &Group) -> Vec<MemberStatus> {
        let configuration = group.raft.configuration();
        let members = configuration.members().map(|id| MemberStatus {
            id,
            membership: configuration.membership(id),
            data: configuration.data(id),
            priority: group.raft.priority_of(id),
            alive: self.sees(group, id),
        });
        members.collect()
    }

    fn peers_of(&self, group: &Group) -> Vec<PeerStatus> {
        let peers = group.raft.peers();
        peers.map(|peer| PeerStatus { alive: self.sees(group, peer.id), ..peer }).collect()
    }

    /// Whether the shard where `node` keeps the group is there; this one is, while it takes part.
    fn sees(&self, group: &Group, node: NodeId) -> bool {
        if node == self.config.node {
            return self.takes_part();
        }
        let link = group.links.to(node).or_else(|| self.links.to(group.id, node));
        link.is_some_and(|link| self.is_alive(link))
    }

    /// A group's state machine, likewise.
    pub fn state_machine(&mut self, group: GroupId) -> Option<&mut dyn StateMachine> {
        let slot = *self.slots.get(&group)? as usize;
        self.groups.get_mut(slot).map(|group| &mut *group.machine)
    }

    /// A group's protocol, likewise: for checking invariants.
    #[must_use]
    pub fn raft(&self, group: GroupId) -> Option<&Raft> {
        self.groups.get(*self.slots.get(&group)? as usize).map(|group| &group.raft)
    }
}
