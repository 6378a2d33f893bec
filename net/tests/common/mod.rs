//! Nodes on the loopback, all on one executor and driven by the test.
#![allow(dead_code, reason = "each test file uses a part")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement};
use ringleader_net::handshake::Local;
use ringleader_net::{
    BoundListener, BulkConfig, DataId, DownReason, Endpoint, Epoch, Frame, FrameKind, Identity,
    IntroduceError, Introducer, Introduction, Lane, Listener, Net, NetConfig, NetEvent, PeerBook,
    PeerNode, ShardHandover,
};

/// No test waits longer than this for anything.
const DEADLINE: Duration = Duration::from_secs(20);

/// Runs a test on an executor of its own.
pub(crate) fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce() -> F + 'static) {
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(64 << 10)
        .preempt_timer(Duration::from_millis(100))
        .make()
        .expect("an executor")
        .run(async move {
            let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
            let _shaker = Shaker::start(waker);
            test().await;
        });
}

/// Wakes a test now and then: its executor may go to sleep with tasks that could run, as
/// `engine/src/runtime/pulse.rs` tells. Before the first one runs nothing wakes it, hence the long timer.
struct Shaker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Shaker {
    fn start(waker: Waker) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let shake = move || {
            while !stopped.load(Ordering::Acquire) {
                std::thread::park_timeout(Duration::from_millis(50));
                waker.wake_by_ref();
            }
        };
        Self { stop, thread: Some(std::thread::spawn(shake)) }
    }
}

impl Drop for Shaker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().expect("it only wakes");
        }
    }
}

/// Bulk data as fast as the peers take it: nobody here says what time it is.
pub(crate) fn unthrottled() -> BulkConfig {
    BulkConfig { bytes_per_second: None, ..BulkConfig::default() }
}

/// Short times, so that the suite takes seconds.
pub(crate) fn config() -> NetConfig {
    NetConfig {
        bulk: unthrottled(),
        handshake_timeout: Duration::from_millis(300),
        backoff_min: Duration::from_millis(2),
        backoff_max: Duration::from_millis(40),
        ..NetConfig::default()
    }
}

pub(crate) fn identity(node: u64, shards: u32) -> Identity {
    let data = data(node);
    Identity { cluster: 7, node, shards, data, fingerprint: 0xfeed, incarnation: 1000 + node }
}

/// The data directory of a node, as long as it keeps it.
pub(crate) fn data(node: u64) -> DataId {
    DataId(0xd000 + u128::from(node))
}

/// A book in memory; it can be told to fail, or to take its time.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) node: u64,
    pub(crate) book: RefCell<PeerBook>,
    pub(crate) fails: Cell<bool>,
    /// It panics when it is asked whom it knows.
    pub(crate) panics: Cell<bool>,
    pub(crate) asked: Cell<usize>,
}

impl Introducer for Book {
    fn known(&self, node: u64) -> Option<DataId> {
        assert!(!self.panics.get(), "the book burns");
        self.book.borrow().known(node)
    }

    fn introduce(&self, node: u64, data: DataId) -> Introduction {
        self.asked.set(self.asked.get() + 1);
        let result = if self.fails.get() {
            Err(IntroduceError::NotRecorded("the disk is full".into()))
        } else {
            self.book.borrow_mut().meet(self.node, node, data).map(drop).map_err(Into::into)
        };
        Box::pin(async move {
            futures_lite::future::yield_now().await;
            result
        })
    }
}

#[derive(Default)]
pub(crate) struct Flag {
    /// The next task that raises it panics.
    pub(crate) panics: Cell<bool>,
    set: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

impl Flag {
    pub(crate) fn raise(&self) {
        self.set.set(true);
        if let Some(waker) = self.waiter.take() {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            if self.set.replace(false) {
                return Poll::Ready(());
            }
            self.waiter.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// One shard: its connections, and what it has learnt.
pub(crate) struct Shard {
    pub(crate) id: Endpoint,
    pub(crate) net: Net,
    pub(crate) events: Vec<NetEvent>,
    pub(crate) frames: Vec<(Endpoint, Frame)>,
    /// What came on bulk lanes.
    pub(crate) bulk: Vec<(Endpoint, Frame)>,
    /// Whether it leaves its events where they are.
    pub(crate) asleep: bool,
}

impl Shard {
    pub(crate) fn epoch(&self, peer: Endpoint) -> Option<Epoch> {
        self.net.outbox(peer).and_then(|outbox| outbox.epoch())
    }

    pub(crate) fn send(&self, to: Endpoint, envelope: &[u8], blocks: Vec<Bytes>) {
        let mut outbox = self.net.outbox(to).expect("a peer");
        outbox.push(FrameKind::Consensus, envelope, blocks).expect("room");
    }

    pub(crate) fn downs(&self) -> Vec<DownReason> {
        self.downs_of(Lane::Consensus)
    }

    pub(crate) fn downs_of(&self, of: Lane) -> Vec<DownReason> {
        let down = |event: &NetEvent| match event {
            NetEvent::Down { lane, reason, .. } if *lane == of => Some(reason.clone()),
            _ => None,
        };
        self.events.iter().filter_map(down).collect()
    }

    pub(crate) fn ups(&self, of: Endpoint) -> Vec<Epoch> {
        self.ups_of(of, Lane::Consensus)
    }

    pub(crate) fn ups_of(&self, of: Endpoint, on: Lane) -> Vec<Epoch> {
        let up = |event: &NetEvent| match event {
            NetEvent::Up { peer, lane, epoch, .. } if (*peer, *lane) == (of, on) => Some(*epoch),
            _ => None,
        };
        self.events.iter().filter_map(up).collect()
    }
}

/// One node's listener, with the connections it has handed over.
pub(crate) struct Door {
    pub(crate) listener: Listener,
    handovers: Rc<RefCell<VecDeque<ShardHandover>>>,
    node: u64,
}

/// All nodes of a test.
pub(crate) struct World {
    pub(crate) shards: Vec<Shard>,
    pub(crate) doors: Vec<Door>,
    pub(crate) nodes: Vec<PeerNode>,
    /// What each node remembers, whatever becomes of its process.
    pub(crate) books: RefCell<BTreeMap<u64, Rc<Book>>>,
    pub(crate) config: NetConfig,
    pub(crate) flag: Rc<Flag>,
    pub(crate) started: Instant,
}

pub(crate) const fn at(node: u64, shard: u32) -> Endpoint {
    Endpoint { node, shard }
}

impl World {
    /// Nodes 1, 2, ... with these numbers of shards; all listen, none is started.
    pub(crate) fn new(shards: &[u32], config: NetConfig) -> (Self, Vec<BoundListener>) {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound: Vec<BoundListener> = shards
            .iter()
            .map(|_| BoundListener::bind(loopback, &config).expect("a free port"))
            .collect();
        let nodes = (1..)
            .zip(shards)
            .zip(&bound)
            .map(|((node, &shards), bound)| PeerNode { node, shards, address: bound.address() })
            .collect();
        let flag = Rc::new(Flag::default());
        let ticker = Rc::downgrade(&flag);
        // Also what keeps a glommio executor from parking with work to do.
        glommio::spawn_local(async move {
            while let Some(flag) = ticker.upgrade() {
                flag.raise();
                drop(flag);
                glommio::timer::sleep(Duration::from_millis(2)).await;
            }
        })
        .detach();
        let started = Instant::now();
        let (doors, all) = (Vec::new(), Vec::new());
        let books = RefCell::default();
        (Self { shards: all, doors, nodes, books, config, flag, started }, bound)
    }

    /// All nodes started.
    pub(crate) fn started(shards: &[u32], config: NetConfig) -> Self {
        let (mut world, bound) = Self::new(shards, config);
        for (number, bound) in (1..).zip(bound) {
            let shards = shards[number as usize - 1];
            world.open(bound, identity(number, shards));
            for shard in 0..shards {
                world.start(identity(number, shards), shard);
            }
        }
        world
    }

    pub(crate) fn book(&self, node: u64) -> Rc<Book> {
        let mut books = self.books.borrow_mut();
        Rc::clone(books.entry(node).or_insert_with(|| Book { node, ..Book::default() }.into()))
    }

    pub(crate) fn open(&mut self, bound: BoundListener, identity: Identity) {
        let handovers = Rc::new(RefCell::new(VecDeque::new()));
        let (queue, flag) = (Rc::clone(&handovers), Rc::clone(&self.flag));
        let local = Local::new(identity, &self.nodes);
        let book = self.book(identity.node);
        let listener = Listener::start(bound, self.config.clone(), local, book, move |handover| {
            queue.borrow_mut().push_back(handover);
            flag.raise();
        });
        let listener = listener.expect("a listener");
        self.doors.push(Door { listener, handovers, node: identity.node });
    }

    pub(crate) fn start(&mut self, identity: Identity, shard: u32) {
        let flag = Rc::clone(&self.flag);
        let notify = Rc::new(move || {
            flag.raise();
            assert!(!flag.panics.take(), "whoever is told burns");
        });
        let book = self.book(identity.node);
        let net = Net::start(self.config.clone(), identity, shard, &self.nodes, book, notify);
        let (id, net) = (at(identity.node, shard), net.expect("valid settings"));
        self.shards.push(Shard {
            id,
            net,
            events: Vec::new(),
            frames: Vec::new(),
            bulk: Vec::new(),
            asleep: false,
        });
    }

    pub(crate) fn shard(&mut self, id: Endpoint) -> &mut Shard {
        self.shards.iter_mut().find(|shard| shard.id == id).expect("a shard")
    }

    pub(crate) fn door(&self, node: u64) -> &Door {
        self.doors.iter().find(|door| door.node == node).expect("a listener")
    }

    /// Ends a shard as an orderly stop of its process would.
    pub(crate) async fn stop(&mut self, id: Endpoint) {
        let place = self.shards.iter().position(|shard| shard.id == id).expect("a shard");
        self.shards.remove(place).net.shutdown().await;
    }

    pub(crate) async fn close(&mut self, node: u64) {
        let place = self.doors.iter().position(|door| door.node == node).expect("a listener");
        self.doors.remove(place).listener.shutdown().await;
    }

    /// One turn of every shard.
    fn turn(&mut self) {
        for door in &self.doors {
            while let Some(handover) = door.handovers.borrow_mut().pop_front() {
                let target = at(door.node, handover.shard());
                if let Some(shard) = self.shards.iter().find(|shard| shard.id == target) {
                    shard.net.accept(handover);
                }
            }
        }
        for shard in self.shards.iter_mut().filter(|shard| !shard.asleep) {
            let mut events = Vec::new();
            shard.net.poll_events(&mut events);
            for event in events {
                match event {
                    NetEvent::Frames { peer, lane, frames, .. } => {
                        let bulk = lane == Lane::BulkIn;
                        let into = if bulk { &mut shard.bulk } else { &mut shard.frames };
                        into.extend(frames.into_iter().map(|frame| (peer, frame)));
                    }
                    other => shard.events.push(other),
                }
            }
        }
        for shard in &self.shards {
            shard.net.flush();
        }
    }

    /// Takes turns until `found` finds something.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        mut found: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.turn();
            if let Some(value) = found(self) {
                return value;
            }
            assert!(Instant::now() < deadline, "still waiting for {what}");
            self.flag.wait().await;
        }
    }

    /// Waits until all pairs of shards of different nodes are connected.
    pub(crate) async fn connected(&mut self) {
        self.until("all connections", |world| {
            let ids: Vec<Endpoint> = world.shards.iter().map(|shard| shard.id).collect();
            let all = world.shards.iter().all(|shard| {
                let others = ids.iter().filter(|id| id.node != shard.id.node);
                others.into_iter().all(|id| shard.epoch(*id).is_some())
            });
            all.then_some(())
        })
        .await;
    }

    pub(crate) async fn finish(mut self) {
        for mut shard in self.shards.drain(..) {
            shard.net.shutdown().await;
        }
        for door in self.doors.drain(..) {
            door.listener.shutdown().await;
        }
    }
}
