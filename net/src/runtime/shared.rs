//! What all connections of one shard share: the queue of events, and who is connected.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

use super::connection::{Context, read_loop, write_loop};
use super::contain::contained;
use super::introduce::Introducer;
use super::notify::{Notify, Tasks};
use super::socket::Stream;
use crate::book::DataId;
use crate::bucket::TokenBucket;
use crate::config::NetConfig;
use crate::decoder::FrameDecoder;
use crate::event::{DownReason, NetEvent};
use crate::frame::Frame;
use crate::handshake::Identity;
use crate::outbox::Outbox;
use crate::{Endpoint, Epoch, Lane};

/// One lane to a shard of another node.
pub(crate) struct Peer {
    pub(crate) endpoint: Endpoint,
    pub(crate) lane: Lane,
    pub(crate) outbox: RefCell<Outbox>,
    pub(crate) current: RefCell<Option<Rc<Connection>>>,
    /// Whether the shard has asked for the outbox since the last flush.
    pub(crate) touched: Cell<bool>,
    pub(crate) attempts: Cell<Attempts>,
}

/// Attempts of this side to connect that led to no connection. The other side has its own: of two
/// nodes the one with the lower number dials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// All of them.
    pub failed: u64,
    /// Those since the last connection.
    pub failed_in_a_row: u64,
}

impl Peer {
    pub(crate) fn new(endpoint: Endpoint, lane: Lane, config: &NetConfig) -> Self {
        let limits = Limits::of(lane, config);
        Self {
            endpoint,
            lane,
            outbox: RefCell::new(Outbox::new(limits.outbox, limits.frame)),
            current: RefCell::new(None),
            touched: Cell::new(false),
            attempts: Cell::default(),
        }
    }

    pub(crate) fn attempt_failed(&self) {
        let Attempts { failed, failed_in_a_row } = self.attempts.get();
        let attempts = Attempts { failed: failed + 1, failed_in_a_row: failed_in_a_row + 1 };
        self.attempts.set(attempts);
    }

    pub(crate) fn connection(&self) -> Option<Rc<Connection>> {
        self.current.borrow().clone()
    }
}

/// What holds on one lane, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) frame: usize,
    pub(crate) outbox: usize,
    pub(crate) inbound: usize,
    pub(crate) write: usize,
    pub(crate) read_chunk: usize,
}

impl Limits {
    pub(crate) fn of(lane: Lane, config: &NetConfig) -> Self {
        let read_chunk = config.read_chunk_bytes;
        match lane {
            Lane::Consensus => Self {
                frame: config.max_frame_bytes,
                outbox: config.outbox_bytes,
                inbound: config.inbound_bytes,
                write: config.write_bytes,
                read_chunk,
            },
            Lane::BulkOut | Lane::BulkIn => Self {
                frame: config.bulk.max_frame_bytes,
                outbox: config.bulk.outbox_bytes,
                inbound: config.bulk.inbound_bytes,
                write: config.bulk.write_bytes,
                read_chunk: read_chunk.min(config.bulk.inbound_bytes),
            },
        }
    }
}

/// One established connection.
pub(crate) struct Connection {
    pub(crate) epoch: Epoch,
    pub(crate) session: Session,
    pub(crate) stream: Stream,
    pub(crate) since: Instant,
    pub(crate) closed: Cell<bool>,
    /// Something was written since the last tick.
    pub(crate) wrote: Cell<bool>,
    /// Since when nothing was, as the ticks tell.
    pub(crate) idle_since: Cell<Option<Instant>>,
    /// Bytes of frames that were delivered and not polled yet.
    pub(crate) backlog: Cell<usize>,
    pub(crate) wake_reader: Notify,
    pub(crate) wake_writer: Notify,
    /// For the dialer, which makes the next one.
    pub(crate) ended: Notify,
}

/// What the handshake settled.
#[derive(Clone, Copy)]
pub(crate) struct Session {
    pub(crate) protocol: u16,
    /// The peer's, see [`Identity::data`].
    pub(crate) data: DataId,
    /// The peer's, see [`Identity::incarnation`].
    pub(crate) incarnation: u64,
    /// The dialing side's count.
    pub(crate) attempt: u64,
}

struct Queued {
    event: NetEvent,
    peer: Rc<Peer>,
    connection: Rc<Connection>,
}

pub(crate) struct Shared {
    pub(crate) config: NetConfig,
    pub(crate) identity: Identity,
    pub(crate) shard: u32,
    pub(crate) introducer: Rc<dyn Introducer>,
    pub(crate) tasks: Rc<Tasks>,
    events: RefCell<VecDeque<Queued>>,
    notify: Rc<dyn Fn()>,
    last_epoch: Cell<u64>,
    last_attempt: Cell<u64>,
    /// Tasks of connections that panicked.
    pub(crate) panics: Cell<u64>,
    /// What may leave on all bulk lanes together.
    pub(crate) bulk: RefCell<TokenBucket>,
}

impl Shared {
    pub(crate) fn new(
        config: NetConfig,
        identity: Identity,
        shard: u32,
        introducer: Rc<dyn Introducer>,
        notify: Rc<dyn Fn()>,
    ) -> Rc<Self> {
        Rc::new(Self {
            bulk: RefCell::new(TokenBucket::new(config.bulk.bytes_per_second)),
            config,
            identity,
            shard,
            introducer,
            tasks: Rc::default(),
            events: RefCell::default(),
            notify,
            last_epoch: Cell::new(0),
            last_attempt: Cell::new(0),
            panics: Cell::new(0),
        })
    }

    pub(crate) fn limits(&self, lane: Lane) -> Limits {
        Limits::of(lane, &self.config)
    }

    /// Bytes that a lane may write at once, at this moment.
    pub(crate) fn allowance(&self, lane: Lane) -> usize {
        let most = self.limits(lane).write;
        if lane == Lane::BulkOut { most.min(self.bulk.borrow().available()) } else { most }
    }

    pub(crate) fn next_attempt(&self) -> u64 {
        self.last_attempt.set(self.last_attempt.get() + 1);
        self.last_attempt.get()
    }

    /// Makes a connection the peer's only one. `first` is written before anything else.
    pub(crate) fn install(
        self: &Rc<Self>,
        peer: &Rc<Peer>,
        stream: Stream,
        decoder: FrameDecoder,
        session: Session,
        first: Option<Bytes>,
    ) -> Rc<Connection> {
        if let Some(old) = peer.connection() {
            self.take_down(peer, &old, DownReason::Replaced);
        }
        self.last_epoch.set(self.last_epoch.get() + 1);
        let connection = Rc::new(Connection {
            epoch: Epoch(self.last_epoch.get()),
            session,
            stream,
            since: Instant::now(),
            closed: Cell::new(false),
            wrote: Cell::new(false),
            idle_since: Cell::new(None),
            backlog: Cell::new(0),
            wake_reader: Notify::default(),
            wake_writer: Notify::default(),
            ended: Notify::default(),
        });
        *peer.current.borrow_mut() = Some(Rc::clone(&connection));
        peer.attempts.set(Attempts { failed_in_a_row: 0, ..peer.attempts.get() });
        let Session { protocol, data, incarnation, .. } = session;
        let (id, lane, epoch) = (peer.endpoint, peer.lane, connection.epoch);
        tracing::info!(peer = %id, %lane, %epoch, "connected");
        let up = NetEvent::Up { peer: id, lane, epoch, data, incarnation, protocol };
        self.push(up, peer, &connection);
        let context = (Rc::clone(self), Rc::clone(peer), Rc::clone(&connection));
        self.work_on(&context, read_loop(context.clone(), decoder));
        self.work_on(&context, write_loop(context.clone(), first));
        connection
    }

    /// Starts a task of a connection, which goes down if it panics.
    fn work_on(&self, context: &Context, task: impl Future<Output = ()> + 'static) {
        let (shared, peer, connection) = context.clone();
        self.tasks.spawn(async move {
            if let Err(message) = contained(task).await {
                let (id, lane) = (peer.endpoint, peer.lane);
                tracing::error!(peer = %id, %lane, %message, "a task of a connection panicked");
                shared.panicked();
                shared.take_down(&peer, &connection, DownReason::Panicked(message));
            }
        });
    }

    /// Counts what panicked.
    pub(crate) fn panicked(&self) {
        self.panics.set(self.panics.get() + 1);
    }

    /// Ends a connection. The first reason given is the one reported.
    pub(crate) fn take_down(
        &self,
        peer: &Rc<Peer>,
        connection: &Rc<Connection>,
        reason: DownReason,
    ) {
        if connection.closed.replace(true) {
            return;
        }
        peer.current.borrow_mut().take_if(|current| Rc::ptr_eq(current, connection));
        connection.stream.shut();
        connection.wake_reader.notify();
        connection.wake_writer.notify();
        connection.ended.notify();
        let (id, lane, epoch) = (peer.endpoint, peer.lane, connection.epoch);
        tracing::info!(peer = %id, %lane, %epoch, %reason, "disconnected");
        self.push(NetEvent::Down { peer: id, lane, epoch, reason }, peer, connection);
    }

    /// Queues frames; those of two reads that the shard hasn't polled yet become one batch.
    pub(crate) fn deliver(&self, peer: &Rc<Peer>, connection: &Rc<Connection>, frames: Vec<Frame>) {
        if frames.is_empty() || connection.closed.get() {
            return;
        }
        let bytes: usize = frames.iter().map(Frame::wire_len).sum();
        connection.backlog.set(connection.backlog.get() + bytes);
        if let Some(last) = self.events.borrow_mut().back_mut()
            && Rc::ptr_eq(&last.connection, connection)
            && let NetEvent::Frames { frames: batch, .. } = &mut last.event
        {
            batch.extend(frames);
            return;
        }
        let (id, lane, epoch) = (peer.endpoint, peer.lane, connection.epoch);
        self.push(NetEvent::Frames { peer: id, lane, epoch, frames }, peer, connection);
    }

    /// Gives out all events, and makes outboxes follow: an outbox changes its epoch when the
    /// shard learns of it, not before, so that what a shard believes and where its frames go
    /// can't differ.
    pub(crate) fn drain(&self, out: &mut Vec<NetEvent>) {
        let mut events = self.events.borrow_mut();
        for Queued { event, peer, connection } in events.drain(..) {
            let epoch = connection.epoch;
            match &event {
                NetEvent::Up { .. } => peer.outbox.borrow_mut().open(epoch),
                NetEvent::Down { .. } => peer.outbox.borrow_mut().close(),
                NetEvent::Frames { .. } => {
                    let backlog = connection.backlog.replace(0);
                    if backlog >= self.limits(peer.lane).inbound {
                        connection.wake_reader.notify();
                    }
                }
            }
            out.push(event);
        }
    }

    fn push(&self, event: NetEvent, peer: &Rc<Peer>, connection: &Rc<Connection>) {
        let (peer, connection) = (Rc::clone(peer), Rc::clone(connection));
        let mut events = self.events.borrow_mut();
        let first = events.is_empty();
        events.push_back(Queued { event, peer, connection });
        drop(events);
        if first {
            (self.notify)();
        }
    }
}
