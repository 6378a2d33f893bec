//! All connections of one shard.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;

use glommio::Task;

use super::dialer::Dialer;
use super::introduce::Introducer;
use super::listener::ShardHandover;
use super::notify::Notify;
use super::shared::{Attempts, Peer, Session, Shared};
use super::socket::{Stream, tune};
use crate::config::{ConfigError, NetConfig, PeerNode};
use crate::decoder::FrameDecoder;
use crate::event::{DownReason, NetEvent};
use crate::handshake::wire::encode_reply;
use crate::handshake::{Accepted, Identity, Refusal, Reply, dials};
use crate::outbox::Outbox;
use crate::{Endpoint, Epoch, Lane};

/// The connections of one shard to all shards of all other nodes.
///
/// Lives on the shard's executor. One turn of the shard:
///
/// 1. [`poll_events`](Self::poll_events): what happened since the last turn;
/// 2. push frames to [`outbox`](Self::outbox)es;
/// 3. [`flush`](Self::flush): each peer with something queued gets one write, made by its own
///    task as soon as the shard awaits something;
/// 4. wait until `notify` was called.
///
/// Every few milliseconds it is told the time ([`tick`](Self::tick)).
///
/// Dropping it closes all connections; [`shutdown`](Self::shutdown) also waits for the tasks.
pub struct Net {
    pub(super) shared: Rc<Shared>,
    nodes: BTreeMap<u64, PeerNode>,
    pub(super) peers: BTreeMap<Endpoint, Slot>,
    touched: RefCell<Vec<Rc<Peer>>>,
    pub(super) stopped: bool,
}

/// All that there is of one shard of another node.
pub(super) struct Slot {
    pub(super) node: PeerNode,
    /// In the order of [`Lane::ALL`].
    lanes: [Rc<Peer>; 3],
    dialer: Option<Task<()>>,
    /// The task that dials for bulk data, once somebody has wanted that, and what it waits for.
    pub(super) bulk_dialer: RefCell<Option<(Rc<Notify>, Task<()>)>>,
}

impl Net {
    /// Starts dialing the shards of those `nodes` that this node dials; the others are expected
    /// to come through [`accept`](Self::accept). The node itself may be among them and is left
    /// out. `introducer` says who was met before.
    ///
    /// `notify` is called when [`poll_events`](Self::poll_events) has something after it had
    /// nothing: at most once between two polls, from any task of this executor, also from within
    /// the calls of this type. It should set a flag and wake the shard, not act.
    ///
    /// # Errors
    ///
    /// [`NetConfig::validate`]'s, and a shard that this node doesn't have.
    ///
    /// # Panics
    ///
    /// Outside of a glommio executor.
    pub fn start(
        config: NetConfig,
        identity: Identity,
        shard: u32,
        nodes: &[PeerNode],
        introducer: Rc<dyn Introducer>,
        notify: Rc<dyn Fn()>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        if shard >= identity.shards {
            let rule = format!("this node has {} shards", identity.shards);
            return Err(ConfigError { field: "shard", value: shard.to_string(), rule });
        }
        let mut net = Self {
            shared: Shared::new(config, identity, shard, introducer, notify),
            nodes: BTreeMap::new(),
            peers: BTreeMap::new(),
            touched: RefCell::default(),
            stopped: false,
        };
        nodes.iter().for_each(|node| net.set_peer(*node));
        Ok(net)
    }

    /// Appends everything that happened since the last call to `out`, in order.
    ///
    /// Outboxes open and close here, together with the events that say so. What is given out no
    /// longer counts against [`NetConfig::inbound_bytes`], so reading goes on: a shard that is
    /// behind should not poll before it has dealt with what it has.
    pub fn poll_events(&self, out: &mut Vec<NetEvent>) {
        self.shared.drain(out);
    }

    /// The outbox to a peer; `None` if there is no such peer. It is closed while the peer isn't
    /// connected. What is pushed leaves with the next [`flush`](Self::flush), or before it if the
    /// peer's writer is still busy with earlier frames.
    ///
    /// The borrow must end before the shard awaits anything: the writer needs it.
    ///
    /// # Panics
    ///
    /// If the same outbox is borrowed already.
    pub fn outbox(&self, peer: Endpoint) -> Option<RefMut<'_, Outbox>> {
        self.borrow_outbox(peer, Lane::Consensus)
    }

    pub(super) fn borrow_outbox(&self, peer: Endpoint, lane: Lane) -> Option<RefMut<'_, Outbox>> {
        let peer = self.peers.get(&peer)?.lane(lane);
        if !peer.touched.replace(true) {
            self.touched.borrow_mut().push(Rc::clone(peer));
        }
        Some(peer.outbox.borrow_mut())
    }

    /// Wakes the writers of those peers that have something queued. Once per turn.
    pub fn flush(&self) {
        for peer in self.touched.borrow_mut().drain(..) {
            peer.touched.set(false);
            if peer.outbox.borrow().queued_bytes() > 0
                && let Some(connection) = peer.connection()
            {
                connection.wake_writer.notify();
            }
        }
    }

    /// Takes over a connection from the [`Listener`](crate::Listener), answers its hello and
    /// makes it the only one with that peer: an older one goes down first, as
    /// [`Replaced`](DownReason::Replaced).
    ///
    /// A connection that isn't for this shard or comes from nobody it knows is closed with a log
    /// line; that can happen while members change.
    pub fn accept(&self, handover: ShardHandover) {
        if self.stopped {
            return;
        }
        let peer = match self.judge(&handover) {
            Ok(peer) => peer,
            Err(refusal) => return refuse(handover, &refusal),
        };
        let config = &self.shared.config;
        if let Err(error) = tune(&handover.socket, config) {
            tracing::warn!(peer = %peer.endpoint, %error, "cannot set up an accepted connection");
            return;
        }
        let ShardHandover { socket, hello, accept } = handover;
        let session = Session {
            protocol: accept.protocol,
            data: hello.data,
            incarnation: hello.incarnation,
            attempt: hello.attempt,
        };
        let own = &self.shared.identity;
        let reply = encode_reply(&Reply::Accepted(Accepted {
            protocol: accept.protocol,
            shards: own.shards,
            data: own.data,
            incarnation: own.incarnation,
        }));
        let limits = self.shared.limits(peer.lane);
        let decoder = FrameDecoder::new(limits.frame, limits.read_chunk);
        self.shared.install(peer, Stream::new(socket.into()), decoder, session, Some(reply));
    }

    /// Gives up one connection, for instance since the peer sent an envelope that makes no sense.
    /// Its `Down` carries `reason`. The side that dials makes a new one. Nothing happens if the
    /// epoch isn't the current one.
    pub fn disconnect(&self, peer: Endpoint, epoch: Epoch, reason: impl Into<String>) {
        let Some(slot) = self.peers.get(&peer) else { return };
        for lane in &slot.lanes {
            if let Some(connection) = lane.connection().filter(|c| c.epoch == epoch) {
                return self.shared.take_down(lane, &connection, DownReason::Local(reason.into()));
            }
        }
    }

    /// Adds a node or changes what is known of it; nothing happens if nothing changed.
    ///
    /// After a change of the address, connections that this side dialed go down as
    /// [`Moved`](DownReason::Moved), attempts at the old address end, and the new one is dialed at
    /// once. Connections that the node dialed stay: they don't depend on where it listens. A new
    /// number of shards ends all connections with the node first, as
    /// [`Removed`](DownReason::Removed). The node's listener has to be told as well, with
    /// [`Listener::set_peer`](crate::Listener::set_peer).
    pub fn set_peer(&mut self, node: PeerNode) {
        let known = self.nodes.get(&node.node).copied();
        if node.node == self.shared.identity.node || self.stopped || known == Some(node) {
            return;
        }
        if known.is_some_and(|known| known.shards != node.shards) {
            self.remove_peer(node.node);
        }
        self.nodes.insert(node.node, node);
        for shard in 0..node.shards {
            let endpoint = Endpoint { node: node.node, shard };
            let slot = self
                .peers
                .entry(endpoint)
                .or_insert_with(|| Slot::new(endpoint, node, &self.shared.config));
            slot.node = node;
            // Cancels the dialers of the old address, whatever they are at.
            drop((slot.dialer.take(), slot.bulk_dialer.take()));
            slot.take_down(&self.shared, Lane::BulkOut, &DownReason::Moved);
            if dials(self.shared.identity.node, node.node) {
                slot.take_down(&self.shared, Lane::Consensus, &DownReason::Moved);
                let dialer = Dialer::new(&self.shared, slot.lane(Lane::Consensus), node);
                slot.dialer = Some(glommio::spawn_local(dialer.run()));
            }
        }
    }

    /// Forgets a node: its connections go down as [`Removed`](DownReason::Removed), and no new
    /// ones are made or taken, until it is set again. The node's listener has to be told as well,
    /// with [`Listener::remove_peer`](crate::Listener::remove_peer).
    pub fn remove_peer(&mut self, node: u64) {
        self.nodes.remove(&node);
        let gone = self.peers.extract_if(.., |endpoint, _| endpoint.node == node);
        for (_, mut slot) in gone {
            drop((slot.dialer.take(), slot.bulk_dialer.take()));
            for lane in Lane::ALL {
                slot.take_down(&self.shared, lane, &DownReason::Removed);
            }
        }
    }

    /// The attempts to connect to a peer that failed; none if it is no peer or this side does not
    /// dial it.
    #[must_use]
    pub fn attempts(&self, peer: Endpoint) -> Attempts {
        self.peers
            .get(&peer)
            .map_or_else(Attempts::default, |slot| slot.lane(Lane::Consensus).attempts.get())
    }

    /// Tasks of connections, and attempts to make one, that panicked, since the start.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.shared.panics.get()
    }

    /// All peers, connected or not, in order.
    pub fn peers(&self) -> impl Iterator<Item = Endpoint> + '_ {
        self.peers.keys().copied()
    }

    /// Closes all connections as [`Shutdown`](DownReason::Shutdown) and waits until their tasks
    /// have ended. What was queued and not written is lost. The `Down` events can be polled
    /// afterwards.
    pub async fn shutdown(&mut self) {
        for dialer in self.stop() {
            dialer.cancel().await;
        }
        self.shared.tasks.finished().await;
    }

    fn stop(&mut self) -> Vec<Task<()>> {
        self.stopped = true;
        let mut dialers = Vec::new();
        for slot in self.peers.values_mut() {
            dialers.extend(slot.dialer.take());
            dialers.extend(slot.bulk_dialer.take().map(|(_, task)| task));
            for lane in Lane::ALL {
                slot.take_down(&self.shared, lane, &DownReason::Shutdown);
            }
        }
        dialers
    }

    /// What the listener couldn't know: it lives on another shard, and members change.
    fn judge(&self, handover: &ShardHandover) -> Result<&Rc<Peer>, Refusal> {
        let Identity { cluster, node, shards, .. } = self.shared.identity;
        let from = handover.accept.from;
        if handover.accept.to_shard != self.shared.shard {
            let shard = handover.accept.to_shard;
            return Err(Refusal::NoSuchShard { node, shards, shard });
        }
        let Some(slot) = self.peers.get(&from) else {
            return Err(Refusal::UnknownNode { node, cluster, from: from.node });
        };
        let peer = slot.lane(handover.accept.lane);
        if let Some(connection) = peer.connection() {
            let Session { incarnation, attempt: current, .. } = connection.session;
            let attempt = handover.hello.attempt;
            if incarnation == handover.hello.incarnation && attempt < current {
                return Err(Refusal::Stale { attempt, current });
            }
        }
        Ok(peer)
    }
}

impl Slot {
    fn new(endpoint: Endpoint, node: PeerNode, config: &NetConfig) -> Self {
        let lanes = Lane::ALL.map(|lane| Rc::new(Peer::new(endpoint, lane, config)));
        Self { node, lanes, dialer: None, bulk_dialer: RefCell::default() }
    }

    pub(super) fn lane(&self, lane: Lane) -> &Rc<Peer> {
        &self.lanes[lane as usize]
    }

    fn take_down(&self, shared: &Shared, lane: Lane, reason: &DownReason) {
        let peer = self.lane(lane);
        if let Some(connection) = peer.connection() {
            shared.take_down(peer, &connection, reason.clone());
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Tells the caller if its socket takes that at once, which a fresh one does.
fn refuse(handover: ShardHandover, refusal: &Refusal) {
    tracing::warn!(peer = %handover.accept.from, %refusal, "connection not accepted");
    if handover.socket.set_nonblocking(true).is_ok() {
        let _ = (&handover.socket).write(&encode_reply(&refusal.reply()));
    }
}
