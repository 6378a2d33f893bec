//! The node's one address: from a stranger's connection to the shard that it is for.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::Task;
use glommio::net::TcpListener;
use socket2::Socket;

use super::contain::contained;
use super::introduce::{IntroduceError, Introducer};
use super::notify::Tasks;
use super::socket::{BoundListener, Stream, adopt_listener, within};
use crate::config::{NetConfig, PeerNode};
use crate::decoder::FrameDecoder;
use crate::frame::{FrameError, FrameKind};
use crate::handshake::wire::{MAX_HANDSHAKE_FRAME, WireError, decode_hello, encode_reply};
use crate::handshake::{Accept, Hello, Local, Refusal, RefusalCode, check};
use crate::throttle::LogThrottle;

/// After accepting failed for want of descriptors or memory, which takes a while to mend.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection whose hello has passed, on its way to [`Net::accept`](crate::Net::accept) of the
/// shard it is for. `Send`; dropping it closes the connection, and the caller tries again.
#[derive(Debug)]
pub struct ShardHandover {
    pub(crate) socket: Socket,
    pub(crate) hello: Hello,
    pub(crate) accept: Accept,
}

impl ShardHandover {
    /// The local shard that the connection is for.
    #[must_use]
    pub fn shard(&self) -> u32 {
        self.accept.to_shard
    }

    /// The shard at the other end.
    #[must_use]
    pub fn from(&self) -> crate::Endpoint {
        self.accept.from
    }
}

/// What became of the connections that a [`Listener`] accepted, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerStats {
    /// Accepted from the kernel.
    pub accepted: u64,
    /// Given to their shard.
    pub handed_over: u64,
    /// Refused with a reason that the caller was told.
    pub refused: u64,
    /// Closed since what they sent was no hello, or they went away before it was complete.
    pub invalid: u64,
    /// Closed since their hello took too long.
    pub timed_out: u64,
    /// Closed since more connections than allowed were in the handshake.
    pub displaced: u64,
    /// Closed since this side panicked over them.
    pub panicked: u64,
    /// In the handshake now.
    pub pending: usize,
}

/// Accepts a node's connections. Lives on one shard's executor; dropping it stops it.
pub struct Listener {
    state: Rc<State>,
    /// A second descriptor of the listening socket, to stop it with.
    socket: Socket,
    address: SocketAddr,
    task: Option<Task<()>>,
}

struct State {
    config: NetConfig,
    local: RefCell<Local>,
    introducer: Rc<dyn Introducer>,
    handover: Box<dyn Fn(ShardHandover)>,
    /// Oldest first.
    pending: RefCell<VecDeque<Rc<Stream>>>,
    stats: Cell<ListenerStats>,
    refusals: RefCell<BTreeMap<u16, u64>>,
    throttle: RefCell<LogThrottle>,
    tasks: Rc<Tasks>,
    stopping: Cell<bool>,
}

/// Why a connection wasn't handed over.
#[derive(Debug, thiserror::Error)]
enum Rejected {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("closed before the hello was complete")]
    Closed,
    #[error("no complete hello within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("bytes follow the hello before it was answered")]
    Trailing,
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    #[error("gave way to newer connections in the handshake")]
    Displaced,
    #[error("this side panicked: {0}")]
    Panicked(String),
}

impl Listener {
    /// Starts accepting on the current executor. `local` says who is welcome, `introducer` who
    /// was met before; `handover` is called for each connection that passed and must get it to
    /// shard [`ShardHandover::shard`]. It must neither block nor call back into this listener.
    ///
    /// # Errors
    ///
    /// If the kernel has no second descriptor for the socket.
    ///
    /// # Panics
    ///
    /// Outside of a glommio executor.
    pub fn start(
        bound: BoundListener,
        config: NetConfig,
        local: Local,
        introducer: Rc<dyn Introducer>,
        handover: impl Fn(ShardHandover) + 'static,
    ) -> io::Result<Self> {
        let socket = bound.socket.try_clone()?;
        let state = Rc::new(State {
            config,
            local: RefCell::new(local),
            introducer,
            handover: Box::new(handover),
            pending: RefCell::default(),
            stats: Cell::default(),
            refusals: RefCell::default(),
            throttle: RefCell::new(LogThrottle::new(20, Duration::from_secs(1))),
            tasks: Rc::default(),
            stopping: Cell::new(false),
        });
        let listener = adopt_listener(bound.socket);
        let task = Some(glommio::spawn_local(accept_all(Rc::clone(&state), listener)));
        Ok(Self { state, socket, address: bound.address, task })
    }

    /// The address that others can dial.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a node or changes its number of shards, for connections whose hello hasn't been
    /// judged yet. The node's shards have to be told as well, with
    /// [`Net::set_peer`](crate::Net::set_peer): until both are, the node is refused and tries
    /// again.
    pub fn set_peer(&self, node: PeerNode) {
        let mut local = self.state.local.borrow_mut();
        if node.node != local.identity.node {
            local.members.insert(node.node, node.shards);
        }
    }

    /// Forgets a node likewise: from now on it is refused.
    pub fn remove_peer(&self, node: u64) {
        self.state.local.borrow_mut().members.remove(&node);
    }

    /// How often each reason was given for a refusal, since the start.
    #[must_use]
    pub fn refusals(&self) -> Vec<(RefusalCode, u64)> {
        let refusals = self.state.refusals.borrow();
        refusals.iter().map(|(code, count)| (RefusalCode(*code), *count)).collect()
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> ListenerStats {
        let pending = self.state.pending.borrow().len();
        ListenerStats { pending, ..self.state.stats.get() }
    }

    /// Stops accepting, closes what is in the handshake and waits for the tasks to end. The
    /// address is free afterwards.
    pub async fn shutdown(mut self) {
        self.stop();
        if let Some(task) = self.task.take() {
            task.await;
        }
        self.state.tasks.finished().await;
    }

    fn stop(&self) {
        self.state.stopping.set(true);
        // Takes the socket out of its listening state now; closing the descriptor would have to
        // wait until the ring lets go of the pending accept.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        self.state.pending.borrow().iter().for_each(|stream| stream.shut());
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Nobody else accepts for the node: what panics here does not end it.
async fn accept_all(state: Rc<State>, listener: TcpListener) {
    while let Err(message) = contained(accept_loop(&state, &listener)).await {
        tracing::error!(%message, "accepting connections panicked");
        state.count(|stats| stats.panicked += 1);
        glommio::timer::sleep(ACCEPT_PAUSE).await;
    }
}

async fn accept_loop(state: &Rc<State>, listener: &TcpListener) {
    while !state.stopping.get() {
        match listener.shared_accept().await {
            Ok(accepted) => {
                let from = accepted.peer_addr().ok();
                state.admit(Rc::new(Stream::new(accepted.bind_to_executor())), from);
            }
            Err(_) if state.stopping.get() => return,
            // Gone before it was accepted: nothing is wrong on this side.
            Err(error) if is_aborted(&error) => {}
            Err(error) => {
                state.log(None, &error);
                glommio::timer::sleep(ACCEPT_PAUSE).await;
            }
        }
        glommio::yield_if_needed().await;
    }
}

fn is_aborted(error: &glommio::GlommioError<()>) -> bool {
    error.raw_os_error() == Some(libc::ECONNABORTED)
}

impl State {
    fn admit(self: &Rc<Self>, stream: Rc<Stream>, from: Option<SocketAddr>) {
        self.count(|stats| stats.accepted += 1);
        let mut pending = self.pending.borrow_mut();
        if pending.len() >= self.config.max_pending_handshakes
            && let Some(oldest) = pending.pop_front()
        {
            oldest.shut();
        }
        pending.push_back(Rc::clone(&stream));
        drop(pending);
        let (state, own) = (Rc::clone(self), Rc::clone(self));
        let greets = async move {
            let received = contained(state.receive(&stream)).await;
            let outcome = received.unwrap_or_else(|message| Err(Rejected::Panicked(message)));
            let displaced = !state.leave(&stream);
            let outcome = if displaced { Err(Rejected::Displaced) } else { outcome };
            match outcome {
                Ok((hello, accept)) => state.hand_over(stream, hello, accept),
                Err(rejected) => state.reject(&stream, from, rejected).await,
            }
        };
        self.tasks.spawn(async move {
            if let Err(message) = contained(greets).await {
                own.log(from, &Rejected::Panicked(message));
                own.count(|stats| stats.panicked += 1);
            }
        });
    }

    /// Removes a connection from those in the handshake; false if it had to give way before.
    fn leave(&self, stream: &Rc<Stream>) -> bool {
        let mut pending = self.pending.borrow_mut();
        let place = pending.iter().position(|other| Rc::ptr_eq(other, stream));
        place.and_then(|place| pending.remove(place)).is_some()
    }

    async fn receive(&self, stream: &Stream) -> Result<(Hello, Accept), Rejected> {
        let limit = self.config.handshake_timeout;
        let envelope =
            within(limit, receive_hello(stream)).await.unwrap_or(Err(Rejected::Timeout(limit)))?;
        let hello = decode_hello(&envelope)?;
        let known = self.introducer.known(hello.from.node);
        let accept = check(&hello, &self.local.borrow(), known)?;
        if known.is_none() {
            self.introduce(&hello).await?;
        }
        Ok((hello, accept))
    }

    /// The first meeting: remembered before anything comes of it.
    async fn introduce(&self, hello: &Hello) -> Result<(), Refusal> {
        let (node, from) = (self.local.borrow().identity.node, hello.from.node);
        self.introducer.introduce(from, hello.data).await.map_err(|error| match error {
            IntroduceError::Replaced(replaced) => replaced.into(),
            IntroduceError::NotRecorded(cause) => {
                self.log(None, &cause);
                Refusal::NotRecorded { node, from }
            }
        })
    }

    fn hand_over(&self, stream: Rc<Stream>, hello: Hello, accept: Accept) {
        if self.stopping.get() {
            return;
        }
        self.count(|stats| stats.handed_over += 1);
        let stream = Rc::into_inner(stream).expect("only its own task still has the stream");
        (self.handover)(ShardHandover { socket: stream.into_socket(), hello, accept });
    }

    async fn reject(&self, stream: &Stream, from: Option<SocketAddr>, rejected: Rejected) {
        self.count(|stats| match rejected {
            Rejected::Refused(_) => stats.refused += 1,
            Rejected::Timeout(_) => stats.timed_out += 1,
            Rejected::Displaced => stats.displaced += 1,
            Rejected::Panicked(_) => stats.panicked += 1,
            _ => stats.invalid += 1,
        });
        self.log(from, &rejected);
        if let Rejected::Refused(refusal) = &rejected {
            *self.refusals.borrow_mut().entry(refusal.code().0).or_default() += 1;
            let reply = encode_reply(&refusal.reply());
            let _ = within(self.config.handshake_timeout, stream.write_all(reply)).await;
        }
        stream.shut();
    }

    fn log(&self, from: Option<SocketAddr>, error: &dyn std::fmt::Display) {
        let allowed = self.throttle.borrow_mut().allow(Instant::now());
        if let Some(withheld) = allowed {
            let from = from.map(|from| from.to_string()).unwrap_or_default();
            tracing::warn!(%from, %error, withheld, "connection not accepted");
        }
    }

    fn count(&self, change: impl FnOnce(&mut ListenerStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }
}

async fn receive_hello(stream: &Stream) -> Result<Bytes, Rejected> {
    // A stranger is worth one small buffer, whatever lengths it claims.
    let mut decoder = FrameDecoder::new(MAX_HANDSHAKE_FRAME, MAX_HANDSHAKE_FRAME);
    loop {
        if let Some(frame) = decoder.next_frame()? {
            if frame.kind != FrameKind::Hello {
                return Err(FrameError::UnexpectedKind { found: frame.kind }.into());
            }
            if decoder.pending_bytes() > 0 {
                return Err(Rejected::Trailing);
            }
            return Ok(frame.envelope);
        }
        match stream.read(decoder.space()).await? {
            0 => return Err(Rejected::Closed),
            count => decoder.advance(count),
        }
    }
}
