//! The shard's side of its connections: which peer shard holds which replica, what this turn says
//! to each, and how much room there is to say it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ringleader_net::{DataId, DataReplaced, PeerBook};
use ringleader_wal::{Block, GroupId, NodeId};

use super::bulk::{Bulk, Lane};
use super::effects::OutFrame;
use super::traffic::{MessageCounts, Traffic};
use crate::codec::Encoder;
use crate::config::place;
use crate::raft::message::{AppendRequest, Message};
use crate::time::Time;

/// Index of a link, in the order of [`Shard::links`](super::Shard::links).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// The other end of a link: one shard of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkPeer {
    /// The node.
    pub node: NodeId,
    /// Its shard.
    pub shard: u32,
}

/// The links to the other members of a group. Those of three voters lie in the group itself: they are
/// needed for each message.
#[derive(Debug)]
#[repr(C)]
pub(super) struct GroupLinks {
    near: [NodeId; NEAR],
    near_links: [LinkId; NEAR],
    count: usize,
    far: Box<[(NodeId, LinkId)]>,
}

const NEAR: usize = 2;

impl GroupLinks {
    pub(super) fn new(links: &[(NodeId, LinkId)]) -> Self {
        let count = links.len().min(NEAR);
        let (mut near, mut near_links) = ([NodeId(0); NEAR], [LinkId(0); NEAR]);
        for (at, (node, link)) in links[..count].iter().enumerate() {
            (near[at], near_links[at]) = (*node, *link);
        }
        Self { near, near_links, count, far: links[count..].into() }
    }

    fn near(&self) -> impl Iterator<Item = (NodeId, LinkId)> + '_ {
        self.near.into_iter().zip(self.near_links).take(self.count)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (NodeId, LinkId)> + '_ {
        self.near().chain(self.far.iter().copied())
    }

    #[inline]
    pub(super) fn to(&self, node: NodeId) -> Option<LinkId> {
        for at in 0..NEAR {
            if self.near[at] == node && at < self.count {
                return Some(self.near_links[at]);
            }
        }
        self.far.iter().find(|(member, _)| *member == node).map(|(_, link)| *link)
    }
}

/// Bodies above this are split over several frames, so that the receiver starts on the first
/// while the last is still on its way.
const FRAME_BODY_BYTES: usize = 1 << 20;

#[derive(Debug)]
struct Link {
    peer: LinkPeer,
    epoch: Option<u64>,
    /// What the node at the other end of that connection showed.
    data: Option<DataId>,
    /// Bytes that the outbox still takes.
    room: usize,
    encoder: Encoder,
    bulk: Bulk,
    /// When something last arrived on the present connection.
    heard_at: Time,
    /// That was too long ago, and the groups were told.
    is_silent: bool,
    /// No beat is due before.
    beat_at: Time,
    beats: bool,
    traffic: Traffic,
}

#[derive(Debug)]
pub(super) struct Links {
    links: Vec<Link>,
    /// Whose frame is being handled, and what links there.
    receiving: Option<(NodeId, LinkId)>,
    /// The other nodes, and how many shards each has.
    nodes: BTreeMap<NodeId, u32>,
    /// This node, and its data directory.
    own: (NodeId, DataId),
    /// What the groups' logs say of their members' directories.
    book: PeerBook,
    /// The shard takes part in nothing any more.
    silent: bool,
    /// The latest time that came with a frame or a tick.
    now: Time,
}

impl Links {
    pub(super) fn new(own: (NodeId, DataId), nodes: impl Iterator<Item = (NodeId, u32)>) -> Self {
        Self {
            links: Vec::new(),
            receiving: None,
            nodes: nodes.collect(),
            own,
            book: PeerBook::default(),
            silent: false,
            now: Time(0),
        }
    }

    /// False if that was known.
    pub(super) fn set_node(&mut self, node: NodeId, shards: u32) -> bool {
        self.nodes.insert(node, shards) != Some(shards)
    }

    /// Where a node keeps a group, if the node is known.
    pub(super) fn end(&self, group: GroupId, node: NodeId) -> Option<LinkPeer> {
        let shards = *self.nodes.get(&node)?;
        Some(LinkPeer { node, shard: place(group, shards) })
    }

    /// Where all nodes keep a group, or would.
    pub(super) fn ends(&self, group: GroupId) -> impl Iterator<Item = LinkPeer> + '_ {
        self.nodes.keys().filter_map(move |node| self.end(group, *node))
    }

    /// The link to where a node keeps a group, if the node is known.
    pub(super) fn to(&self, group: GroupId, node: NodeId) -> Option<LinkId> {
        let end = self.end(group, node)?;
        let at = self.links.iter().position(|link| link.peer == end)?;
        Some(LinkId(at as u32))
    }

    /// The links to a group's members, as far as they are known, without the node itself.
    pub(super) fn of_group(
        &self,
        group: GroupId,
        members: impl Iterator<Item = NodeId>,
        node: NodeId,
    ) -> GroupLinks {
        let others = members.filter(|member| *member != node);
        let found = others.filter_map(|member| Some((member, self.to(group, member)?)));
        GroupLinks::new(&found.collect::<Vec<_>>())
    }

    pub(super) fn knows(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    pub(super) fn number(&mut self, peer: LinkPeer) -> LinkId {
        let known = self.links.iter().position(|link| link.peer == peer);
        let at = known.unwrap_or_else(|| {
            let (encoder, bulk) = (Encoder::default(), Bulk::default());
            self.links.push(Link {
                peer,
                epoch: None,
                data: None,
                room: 0,
                encoder,
                bulk,
                heard_at: Time(0),
                is_silent: false,
                beat_at: Time(0),
                beats: false,
                traffic: Traffic::default(),
            });
            self.links.len() - 1
        });
        LinkId(at as u32)
    }

    pub(super) fn peers(&self) -> impl ExactSizeIterator<Item = LinkPeer> + '_ {
        self.links.iter().map(|link| link.peer)
    }

    pub(super) fn bulk(&self, link: LinkId) -> &Bulk {
        &self.links[link.0 as usize].bulk
    }

    pub(super) fn bulk_mut(&mut self, link: LinkId) -> &mut Bulk {
        &mut self.links[link.0 as usize].bulk
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    pub(super) fn is_up(&self, link: LinkId) -> bool {
        self.links[link.0 as usize].epoch.is_some()
    }

    pub(super) fn node(&self, link: LinkId) -> NodeId {
        self.links[link.0 as usize].peer.node
    }

    /// What the node at the other end showed, if the link is up.
    pub(super) fn data(&self, link: LinkId) -> Option<DataId> {
        self.links[link.0 as usize].data
    }

    /// The same of a node, on the link to where it keeps a group; or this node's own.
    pub(super) fn data_of(
        &self,
        link: impl FnOnce() -> Option<LinkId>,
        node: NodeId,
    ) -> Option<DataId> {
        let (own, data) = self.own;
        if node == own { Some(data) } else { link().and_then(|link| self.data(link)) }
    }

    /// What is wrong with a node that shows this at the other end of a link.
    pub(super) fn check(&self, link: LinkId, data: DataId) -> Result<(), DataReplaced> {
        self.book.check(self.own.0.0, self.node(link).0, data)
    }

    /// A group's log names the directory of a node. True if that is news.
    pub(super) fn tell(&mut self, node: NodeId, data: DataId) -> bool {
        self.book.tell(node.0, data)
    }

    /// The next link that is up to a node without the data that it is known with.
    pub(super) fn next_stranger(&self) -> Option<(LinkId, DataReplaced)> {
        let links = (0..self.links.len() as u32).map(LinkId);
        let mut up = links.filter_map(|link| Some((link, self.data(link)?)));
        up.find_map(|(link, data)| Some((link, self.check(link, data).err()?)))
    }

    /// The link came up as a connection, whose other end showed its data, or went down. What this turn
    /// already said was for the connection before and is dropped with it.
    pub(super) fn set_connection(&mut self, link: LinkId, connection: Option<(u64, DataId)>) {
        let link = &mut self.links[link.0 as usize];
        (link.epoch, link.data) = connection.unzip();
        link.encoder = Encoder::default();
        link.beats = false;
        link.traffic.reset();
    }

    /// Something arrived on the link's present connection, or it was made just now. True if the
    /// groups were told that the link was silent.
    #[inline]
    pub(super) fn hear(&mut self, link: LinkId, now: Time) -> bool {
        self.now = self.now.max(now);
        let at = &mut self.links[link.0 as usize];
        at.heard_at = now;
        std::mem::take(&mut at.is_silent)
    }

    /// A frame of this link is being handled, or none any more.
    pub(super) fn receive(&mut self, link: Option<LinkId>) {
        self.receiving = link.map(|link| (self.node(link), link));
    }

    /// When something last arrived on a link, if it is up. While a frame is handled no other link
    /// to its sender counts: which of them leads to where the sender keeps a group may just change.
    pub(super) fn heard(&self, link: LinkId) -> Option<Time> {
        let at = &self.links[link.0 as usize];
        let other = self.receiving.is_some_and(|(node, by)| node == at.peer.node && by != link);
        at.epoch.filter(|_| !other).map(|_| at.heard_at)
    }

    /// How long nothing has arrived on a link, if it is up, as the last frame or tick tells.
    pub(super) fn silence(&self, link: LinkId) -> Option<Duration> {
        let at = &self.links[link.0 as usize];
        at.epoch.map(|_| self.now.since(at.heard_at))
    }

    /// Messages sent and received on a link.
    pub(super) fn counts(&self, link: LinkId) -> (MessageCounts, MessageCounts) {
        let traffic = &self.links[link.0 as usize].traffic;
        (traffic.sent, traffic.received)
    }

    pub(super) fn traffic(&mut self) -> impl Iterator<Item = (LinkId, &mut Traffic)> {
        let links = self.links.iter_mut().zip(0..);
        links.map(|(link, at)| (LinkId(at), &mut link.traffic))
    }

    #[inline]
    pub(super) fn traffic_on(&mut self, link: LinkId) -> &mut Traffic {
        &mut self.links[link.0 as usize].traffic
    }

    /// Has the links that are due send something with this turn, if only that this shard is there.
    pub(super) fn beat(&mut self, now: Time, interval: Duration) {
        self.now = self.now.max(now);
        for link in self.links.iter_mut().filter(|link| link.epoch.is_some()) {
            if now >= link.beat_at {
                link.beats = true;
                link.beat_at = now + interval;
            }
        }
    }

    /// The next link on which nothing has arrived for so long, and who rests there was not told.
    pub(super) fn next_silent(&mut self, now: Time, timeout: Duration) -> Option<LinkId> {
        let is_silent = |link: &Link| {
            link.epoch.is_some() && !link.is_silent && now.since(link.heard_at) >= timeout
        };
        let at = self.links.iter().position(is_silent)?;
        self.links[at].is_silent = true;
        Some(LinkId(at as u32))
    }

    pub(super) fn connected(&self) -> Vec<LinkId> {
        let links = self.links.iter().zip(0..).filter(|(link, _)| link.epoch.is_some());
        links.map(|(_, at)| LinkId(at)).collect()
    }

    /// Drops what this turn said, and everything from now on.
    pub(super) fn fall_silent(&mut self) {
        self.silent = true;
        for link in &mut self.links {
            link.encoder = Encoder::default();
            link.beats = false;
        }
    }

    /// Whether the link's current connection is `epoch`: what an earlier one brings is ignored.
    pub(super) fn is_current(&self, link: LinkId, epoch: u64) -> bool {
        self.links[link.0 as usize].epoch == Some(epoch)
    }

    pub(super) fn set_room(&mut self, link: LinkId, bytes: usize) {
        self.links[link.0 as usize].room = bytes;
    }

    /// Adds a message without entries to what this turn says to the peer: it is small and always
    /// passes. On a link that is down it is lost, as on any network.
    pub(super) fn push(&mut self, link: LinkId, group: GroupId, message: &Message) {
        let at = &mut self.links[link.0 as usize];
        if at.epoch.is_some() && !self.silent {
            at.traffic.sends(message);
            at.encoder.push(group, message);
        }
    }

    /// Adds a request likewise. False if there is no room for its entries.
    pub(super) fn push_append(
        &mut self,
        link: LinkId,
        group: GroupId,
        request: &AppendRequest<'_>,
        frames: &mut Vec<OutFrame>,
    ) -> bool {
        let at = &mut self.links[link.0 as usize];
        if at.epoch.is_none() || self.silent {
            return true;
        }
        let bytes: usize = request.blocks.iter().map(Block::len).sum();
        if bytes > at.room {
            return false;
        }
        at.room -= bytes;
        at.traffic.sends_append(group, request);
        at.encoder.push_append(group, request);
        if at.encoder.body_bytes() >= FRAME_BODY_BYTES {
            at.finish(link, frames);
        }
        true
    }

    /// Closes the turn: everything that was pushed goes out.
    pub(super) fn finish(&mut self, frames: &mut Vec<OutFrame>) {
        for (at, link) in self.links.iter_mut().enumerate() {
            link.finish(LinkId(at as u32), frames);
        }
    }
}

impl Link {
    fn finish(&mut self, link: LinkId, frames: &mut Vec<OutFrame>) {
        let beats = std::mem::take(&mut self.beats);
        let said = self.encoder.finish().or_else(|| {
            beats.then(|| {
                self.traffic.sends_beat();
                self.encoder.finish_any()
            })
        });
        let Some((envelope, blocks)) = said else { return };
        if let Some(epoch) = self.epoch {
            frames.push(OutFrame { link, lane: Lane::Consensus, epoch, envelope, blocks });
        }
    }
}

impl OutFrame {
    /// Bytes of the frame without its header.
    #[must_use]
    pub fn len(&self) -> usize {
        self.envelope.len() + self.blocks.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether the frame says nothing; never the case.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.envelope.is_empty()
    }
}
