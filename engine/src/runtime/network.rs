//! The shard's connections, seen from its main task: links are numbered, frames go in and out.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringleader_net::frame::HEADER_LEN;
use ringleader_net::handshake::Local;
use ringleader_net::{
    Attempts, BindError, BoundListener, DataId, DataReplaced, Endpoint, Frame, FrameKind, Identity,
    Introducer, Lane, Listener, Net, NetEvent, PeerNode, ShardHandover,
};
use ringleader_wal::NodeId;

use crate::config::{EngineConfig, Member};
use crate::error::StartError;
use crate::inbox::{Inbox, Request};
use crate::members::Members;
use crate::report::{LinkReport, RefusalReport};
use crate::shard::{self, LinkId, LinkPeer, LinkStatus, OutFrame, Shard};
use crate::time::Time;

use super::peer_file::Recorder;

pub(super) struct Network {
    net: Net,
    listener: Option<Listener>,
    /// The shard's links as far as they are known here, and their numbers.
    links: Vec<LinkPeer>,
    numbers: HashMap<Endpoint, LinkId>,
    /// What those who are connected showed of their data.
    shown: HashMap<Endpoint, DataId>,
    counts: Vec<LinkReport>,
    /// The links that have a lane for bulk data to their peer.
    lanes: Vec<LinkId>,
    events: Vec<NetEvent>,
    /// The nodes that `net` and the listener know, and the version of the list that they are from.
    members: BTreeMap<NodeId, Member>,
    seen: u64,
    /// How much of what logs told was held against those who are connected.
    told: u64,
}

/// Whose connections these are.
pub(super) struct Seat {
    pub(super) shard: u32,
    pub(super) data: DataId,
    pub(super) introducer: Rc<dyn Introducer>,
}

/// How long a node waits for its address to be free.
const BIND_PATIENCE: Duration = Duration::from_secs(2);

/// Listens on this node's address. The kernel takes a killed process's rings apart, and closes the
/// sockets that they still accept on, a moment after the process is gone: a node that is restarted
/// at once has to wait for that.
///
/// # Errors
/// When the address stays in use or is not this machine's.
pub(crate) fn bind(config: &EngineConfig) -> Result<BoundListener, StartError> {
    let address = config.this_member().expect("a valid configuration lists this node").address;
    let deadline = Instant::now() + BIND_PATIENCE;
    loop {
        match BoundListener::bind(address, &config.net) {
            Ok(bound) => return Ok(bound),
            Err(BindError::InUse { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(StartError::Listen { address, cause: error.to_string() }),
        }
    }
}

impl Network {
    /// Starts dialing and, on the shard that was given the listening socket, accepting.
    ///
    /// # Errors
    /// When the configuration is out of bounds or a descriptor cannot be had.
    pub(super) fn start(
        config: &EngineConfig,
        seat: Seat,
        listener: Option<BoundListener>,
        inboxes: &[Arc<Inbox>],
        notify: Rc<dyn Fn()>,
    ) -> Result<Self, String> {
        let this = config.this_member().expect("a valid configuration lists this node");
        let identity = Identity {
            cluster: config.cluster,
            node: config.node.0,
            shards: this.shards,
            data: seat.data,
            fingerprint: config.fingerprint(),
            incarnation: incarnation(),
        };
        let others = config.members.iter().filter(|member| member.node != config.node);
        let nodes: Vec<PeerNode> = others.clone().map(peer_node).collect();
        let introducer = Rc::clone(&seat.introducer);
        let net = Net::start(config.net.clone(), identity, seat.shard, &nodes, introducer, notify)
            .map_err(|error| error.to_string())?;
        let local = Local::new(identity, &nodes);
        let listener = listener.map(|bound| listen(bound, config, local, seat.introducer, inboxes));
        Ok(Self {
            net,
            listener: listener.transpose().map_err(|error| error.to_string())?,
            links: Vec::new(),
            numbers: HashMap::new(),
            shown: HashMap::new(),
            counts: Vec::new(),
            lanes: Vec::new(),
            events: Vec::new(),
            members: others.map(|member| (member.node, member.clone())).collect(),
            seen: 0,
            told: 0,
        })
    }

    /// Follows a change of the cluster's nodes.
    pub(super) fn follow(&mut self, members: &Members, now: Time, shard: &mut Shard) {
        let Some(members) = members.news(&mut self.seen) else { return };
        for gone in self.members.keys().filter(|node| !members.contains_key(node)) {
            self.net.remove_peer(gone.0);
            self.listener.iter().for_each(|listener| listener.remove_peer(gone.0));
        }
        for member in members.values() {
            self.net.set_peer(peer_node(member));
            self.listener.iter().for_each(|listener| listener.set_peer(peer_node(member)));
            shard.set_node(now, member.node, member.shards);
        }
        self.members = members;
    }

    /// Learns the links that the shard has made since the last time.
    fn number_links(&mut self, now: Time, shard: &mut Shard) {
        let added: Vec<LinkPeer> = shard.links().skip(self.links.len()).collect();
        for peer in added {
            let link = LinkId(self.links.len() as u32);
            self.links.push(peer);
            self.counts.push(LinkReport::of(&peer));
            self.numbers.insert(endpoint(peer), link);
            // A connection may have been there before anybody asked for it.
            let epoch = self.net.outbox(endpoint(peer)).and_then(|outbox| outbox.epoch());
            if let Some((epoch, data)) = epoch.zip(self.shown.get(&endpoint(peer))) {
                self.counts[link.0 as usize].connections += 1;
                shard.link_up(now, link, epoch.0, *data);
            }
        }
    }

    /// Takes what happened on the connections.
    pub(super) fn poll(&mut self) {
        self.net.poll_events(&mut self.events);
    }

    /// Feeds the shard what was taken, and tells it how much it may send. Says how many events
    /// there were. `now` was read after [`poll`](Self::poll).
    pub(super) fn feed(&mut self, now: Time, shard: &mut Shard) -> usize {
        if shard.links().len() > self.links.len() {
            self.number_links(now, shard);
        }
        let mut events = std::mem::take(&mut self.events);
        let count = events.len();
        for event in events.drain(..) {
            self.feed_event(now, shard, event);
        }
        self.events = events;
        for (peer, at) in self.links.iter().zip(0..) {
            let room = self.net.outbox(endpoint(*peer)).map_or(0, |outbox| outbox.free_bytes());
            shard.set_room(LinkId(at), room);
        }
        for &link in &self.lanes {
            let Some(outbox) = self.net.bulk_outbox(self.endpoint(link)) else { continue };
            shard.set_bulk_room(link, outbox.free_bytes(), outbox.held_bytes());
        }
        count
    }

    /// What the connections need to know of the time.
    pub(super) fn tick(&self) {
        self.net.tick(Instant::now());
    }

    /// Nothing is done about what a shard says that this one has nothing to do with yet.
    fn feed_event(&mut self, now: Time, shard: &mut Shard, event: NetEvent) {
        let (NetEvent::Up { peer, .. }
        | NetEvent::Frames { peer, .. }
        | NetEvent::Down { peer, .. }) = &event;
        if let NetEvent::Up { lane: Lane::Consensus, data, .. } = &event {
            self.shown.insert(*peer, *data);
        }
        let Some(&link) = self.numbers.get(peer) else { return };
        match event {
            NetEvent::Up { lane: Lane::Consensus, epoch, data, .. } => {
                self.counts[link.0 as usize].connections += 1;
                shard.link_up(now, link, epoch.0, data);
            }
            NetEvent::Up { lane: Lane::BulkOut, epoch, .. } => {
                self.lanes.push(link);
                shard.bulk_up(link, epoch.0);
            }
            NetEvent::Down { peer, lane: Lane::Consensus, .. } => {
                self.shown.remove(&peer);
                shard.link_down(now, link);
            }
            NetEvent::Down { lane: Lane::BulkOut, .. } => {
                self.lanes.retain(|lane| *lane != link);
                shard.bulk_down(link);
            }
            NetEvent::Up { lane: Lane::BulkIn, .. } | NetEvent::Down { lane: Lane::BulkIn, .. } => {
            }
            NetEvent::Frames { peer, lane, epoch, frames } => {
                let counts = &mut self.counts[link.0 as usize];
                counts.frames_received += frames.len() as u64;
                counts.bytes_received += frames.iter().map(|f| f.wire_len() as u64).sum::<u64>();
                for Frame { kind, envelope, body } in frames {
                    let fed = match (lane, kind) {
                        (Lane::Consensus, FrameKind::Consensus) => {
                            shard.frame(now, link, epoch.0, &envelope, body)
                        }
                        (Lane::BulkIn, FrameKind::Snapshot) => {
                            shard.bulk_frame(now, link, &envelope, body)
                        }
                        _ => Ok(()),
                    };
                    if let Err(error) = fed {
                        tracing::warn!(%peer, %lane, %error, "refused a frame");
                        counts.given_up += 1;
                        self.net.disconnect(peer, epoch, error.to_string());
                        break;
                    }
                }
            }
        }
    }

    /// Hands a turn's frames over; each peer's leave with one write. Lanes are made that are wanted.
    pub(super) fn send(&mut self, frames: &mut Vec<OutFrame>, lanes: &mut Vec<LinkId>) {
        for OutFrame { link, lane, epoch, envelope, blocks } in frames.drain(..) {
            let peer = self.endpoint(link);
            let (outbox, kind) = match lane {
                shard::Lane::Consensus => (self.net.outbox(peer), FrameKind::Consensus),
                shard::Lane::Bulk => (self.net.bulk_outbox(peer), FrameKind::Snapshot),
            };
            let Some(mut outbox) = outbox else { continue };
            if outbox.epoch().is_none_or(|current| current.0 != epoch) {
                continue;
            }
            let bytes = HEADER_LEN + envelope.len() + blocks.iter().map(Bytes::len).sum::<usize>();
            let pushed = outbox.push(kind, &envelope, blocks);
            drop(outbox);
            let counts = &mut self.counts[link.0 as usize];
            counts.frames_sent += 1;
            counts.bytes_sent += bytes as u64;
            if let Err(error) = pushed {
                // The shard keeps to the room it was told of, so this is votes and heartbeats
                // for a peer that reads nothing: start over with it.
                counts.given_up += 1;
                let epoch = ringleader_net::Epoch(epoch);
                self.net.disconnect(peer, epoch, error.to_string());
            }
        }
        self.net.flush();
        for link in lanes.drain(..) {
            self.net.want_bulk(self.endpoint(link));
        }
    }

    /// Another shard's log may have told that somebody lost what it is known with.
    pub(super) fn review(&mut self, recorder: &Recorder) {
        if !recorder.has_news(&mut self.told) {
            return;
        }
        for (peer, data) in &self.shown {
            if let Err(replaced) = recorder.check(peer.node, *data) {
                self.close(*peer, &replaced);
            }
        }
    }

    /// Closes a connection whose peer lost the data that it is known with. The next one is refused
    /// at the handshake.
    pub(super) fn refuse(&self, link: LinkId, replaced: &DataReplaced) {
        self.close(self.endpoint(link), replaced);
    }

    fn close(&self, peer: Endpoint, replaced: &DataReplaced) {
        let Some(epoch) = self.net.outbox(peer).and_then(|outbox| outbox.epoch()) else { return };
        tracing::warn!(%peer, %replaced, "closing the connection");
        self.net.disconnect(peer, epoch, replaced.to_string());
    }

    fn endpoint(&self, link: LinkId) -> Endpoint {
        endpoint(self.links[link.0 as usize])
    }

    /// A peer acknowledged entries, so long after they left.
    pub(super) fn acknowledged(&mut self, link: LinkId, took: Duration) {
        if let Some(counts) = self.counts.get_mut(link.0 as usize) {
            counts.acknowledged.record(took.as_nanos() as u64);
        }
    }

    /// What went over each connection.
    pub(super) fn reports(&self, shard: &Shard) -> Vec<LinkReport> {
        let report = |((peer, counts), at): ((&LinkPeer, &LinkReport), u32)| {
            let outbox = self.net.outbox(endpoint(*peer));
            let open = outbox.as_ref().filter(|outbox| outbox.epoch().is_some());
            let Attempts { failed, failed_in_a_row } = self.net.attempts(endpoint(*peer));
            let LinkStatus { alive, heard_ms_ago, sent, received } = shard.link_status(LinkId(at));
            LinkReport {
                connected: open.is_some(),
                outbox_bytes: open.map_or(0, |outbox| outbox.held_bytes()),
                alive,
                heard_ms_ago,
                failed_connects: failed,
                failed_in_a_row,
                messages_sent: sent,
                messages_received: received,
                ..counts.clone()
            }
        };
        self.links.iter().zip(&self.counts).zip(0..).map(report).collect()
    }

    /// Who was refused here, and why.
    pub(super) fn refusals(&self) -> Vec<RefusalReport> {
        let refusals = self.listener.iter().flat_map(Listener::refusals);
        refusals.map(|(code, count)| RefusalReport { reason: code.to_string(), count }).collect()
    }

    /// Connections that this side panicked over.
    pub(super) fn panics(&self) -> u64 {
        let listener = self.listener.iter().map(|listener| listener.stats().panicked);
        self.net.panics() + listener.sum::<u64>()
    }

    pub(super) fn accept(&self, handover: ShardHandover) {
        self.net.accept(handover);
    }

    pub(super) async fn shutdown(mut self) {
        if let Some(listener) = self.listener.take() {
            listener.shutdown().await;
        }
        self.net.shutdown().await;
    }
}

fn peer_node(member: &Member) -> PeerNode {
    PeerNode { node: member.node.0, shards: member.shards, address: member.address }
}

fn endpoint(peer: LinkPeer) -> Endpoint {
    Endpoint { node: peer.node.0, shard: peer.shard }
}

/// Distinguishes this life of the process from earlier ones.
fn incarnation() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |time| time.as_nanos() as u64)
}

fn listen(
    bound: BoundListener,
    config: &EngineConfig,
    local: Local,
    introducer: Rc<dyn Introducer>,
    inboxes: &[Arc<Inbox>],
) -> std::io::Result<Listener> {
    let inboxes = inboxes.to_vec();
    Listener::start(bound, config.net.clone(), local, introducer, move |handover| {
        let inbox = &inboxes[handover.shard() as usize];
        // A shard whose inbox is full or closed loses the connection; the peer dials again.
        let _ = inbox.try_send(Request::Handover(Box::new(handover)));
    })
}
