//! Which other nodes there are, which links lead to them, and which of these are up.
//!
//! A group's place on a node follows from the group's number and the node's number of shards
//! ([`place`](crate::place)), so this is all that a shard needs to know of a node. Where a node
//! listens is for the driver to know.

use std::collections::BTreeSet;

use ringleader_net::DataId;
use ringleader_wal::{GroupId, NodeId};

use super::links::{LinkId, LinkPeer, Links};
use super::{Shard, ShardConfig};
use crate::raft::{Outlet, Raft};
use crate::time::Time;

impl Shard {
    /// Another node of the cluster, and how many shards it has: to be said again when that
    /// changes. Groups that have it as a member get links to it, see [`links`](Self::links).
    ///
    /// There is no opposite: links to a node that is gone are down, and stay so.
    pub fn set_node(&mut self, now: Time, node: NodeId, shards: u32) {
        if node == self.config.node || !self.links.set_node(node, shards) {
            return;
        }
        for group in &self.config.groups {
            if let Some(end) = self.links.end(group.group, node) {
                self.links.number(end);
            }
        }
        if self.is_wreck() {
            return;
        }
        for slot in 0..self.groups.len() {
            if self.groups[slot].raft.members().any(|member| member == node) {
                self.relink(now, slot as u32);
            }
        }
    }

    /// Numbers the links that a new group may need.
    pub(super) fn number_links(&mut self, group: GroupId) {
        let ends: Vec<_> = self.links.ends(group).collect();
        for end in ends {
            self.links.number(end);
        }
    }

    /// The other ends of all links, in the order of their numbers. A number is never given to
    /// another end, and the list only grows: when a node is added ([`set_node`](Self::set_node))
    /// or a group gets another member. The driver looks for what was added before each turn, and
    /// says [`link_up`](Self::link_up) for those that are connected already.
    pub fn links(&self) -> impl ExactSizeIterator<Item = LinkPeer> + '_ {
        self.links.peers()
    }

    /// A connection to a peer's shard was made; `epoch` is above that of every earlier one. The peer's
    /// node showed `data`: if a group's log knows it with other data, it is refused.
    pub fn link_up(&mut self, now: Time, link: LinkId, epoch: u64, data: DataId) {
        if self.is_wreck() {
            return;
        }
        if let Err(replaced) = self.links.check(link, data) {
            return self.effects.refused.push((link, replaced));
        }
        self.links.set_connection(link, Some((epoch, data)));
        self.each_on_link(link, |raft, node, out| raft.on_peer_up(now, node, out));
        // Not before: those who rested ask when something was heard on the connection before.
        self.links.hear(link, now);
        self.ask_again(now, link);
    }

    /// The connection was lost.
    pub fn link_down(&mut self, now: Time, link: LinkId) {
        if self.is_wreck() {
            return;
        }
        self.each_on_link(link, |raft, node, out| raft.on_peer_down(now, node, out));
        self.links.set_connection(link, None);
    }

    /// Calls every group that has the link's node as a member, and reaches it by this link.
    pub(super) fn each_on_link(
        &mut self,
        link: LinkId,
        mut each: impl FnMut(&mut Raft, NodeId, &mut dyn Outlet),
    ) {
        let node = self.links.node(link);
        for slot in 0..self.groups.len() {
            if self.groups[slot].links.to(node) == Some(link) {
                self.call(slot as u32, |raft, out| each(raft, node, out));
            }
        }
    }

    /// Follows a change of a group's members, or of where they are. Members on nodes that are not
    /// known have no link until they are.
    pub(super) fn relink(&mut self, now: Time, slot: u32) {
        let Self { groups, links, config, .. } = self;
        let group = &mut groups[slot as usize];
        let found = links.of_group(group.id, group.raft.members(), config.node);
        let added: Vec<_> = found.nodes().collect();
        let before = std::mem::replace(&mut group.links, found);
        for (member, link) in added {
            let earlier = before.to(member);
            if earlier == Some(link) {
                continue;
            }
            if earlier.is_some_and(|earlier| self.links.is_up(earlier)) {
                self.call(slot, |raft, out| raft.on_peer_down(now, member, out));
            }
            if self.links.is_up(link) {
                self.call(slot, |raft, out| raft.on_peer_up(now, member, out));
            }
        }
    }
}

/// The links that the groups may need, in the order of their ends: to wherever another node keeps
/// one of them, or would. Whoever becomes a member is reached at once, and who is not may
/// still be asked for its vote, or be the leader that this node is to learn the members from.
pub(super) fn configured(config: &ShardConfig) -> Links {
    let own = (config.node, config.data);
    let mut links = Links::new(own, config.nodes.iter().copied());
    let mut ends = BTreeSet::new();
    for group in &config.groups {
        ends.extend(links.ends(group.group));
    }
    for end in ends {
        links.number(end);
    }
    links
}
