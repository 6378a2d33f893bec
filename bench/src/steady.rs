//! A steady load that finds the leader wherever it is: one connection to every node, each of which
//! is asked all the time whether it leads; the one that does gets so many operations a second.
//!
//! Processes may be killed, halted and started again meanwhile. What became of every operation is
//! known at the end, and latencies count from when an operation was due.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_lite::future::block_on;
use ringleader::GroupId;

use crate::clock;
use crate::control::GroupOutcome;
use crate::histogram::Latencies;
use crate::ledger::{self, NUMBER_LEN};
use crate::load::{Completed, Outcome, Port};
use crate::remote_client::TcpPort;

/// How often a node that does not lead is asked again, and a dead one dialed: 2 ms.
const PROBE: u64 = 2_000_000;
/// How late an operation may be sent: 1 ms.
const STEP: Duration = Duration::from_millis(1);
/// How long operations in flight at the end may take to be answered: 20 s.
const DRAIN: u64 = 20_000_000_000;
/// The group that is loaded.
const GROUP: GroupId = GroupId(1);
/// Operations in flight per connection.
pub(crate) const INFLIGHT: usize = 4096;
/// Bytes of them: 32 MiB.
const INFLIGHT_BYTES: usize = 32 << 20;

/// What is to be proposed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Operations per second.
    pub(crate) rate: u64,
    /// Bytes of each.
    pub(crate) payload: usize,
}

/// What all connections share.
#[derive(Default)]
struct Shared {
    /// Where each node serves, while it runs.
    clients: Vec<Mutex<Option<SocketAddr>>>,
    stops: AtomicBool,
    acknowledged: AtomicU64,
    /// The node whose acknowledgements are not waited for, and when another acknowledged first;
    /// zero before that.
    struck: AtomicU64,
    answered: AtomicU64,
    /// Where latencies are counted.
    phase: AtomicUsize,
    /// Nanoseconds between two operations, and bytes of each.
    interval: AtomicU64,
    payload: AtomicUsize,
}

/// What became of a load.
#[derive(Default)]
pub(crate) struct Tale {
    /// Of every operation.
    pub(crate) outcome: GroupOutcome,
    /// By phase, of operations that were answered in it.
    pub(crate) latencies: Vec<Latencies>,
}

/// A load that goes on. Dropping it ends nothing: see [`Steady::stop`].
pub(crate) struct Steady {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Tale>>,
}

impl Shared {
    fn set(&self, pace: Pace) {
        self.interval.store(1_000_000_000 / pace.rate, Ordering::Relaxed);
        self.payload.store(pace.payload.max(NUMBER_LEN), Ordering::Relaxed);
    }
}

impl Steady {
    /// Begins to load the group of so many nodes.
    pub(crate) fn start(pace: Pace, nodes: u64, phases: usize) -> std::io::Result<Self> {
        let clients = (0..nodes).map(|_| Mutex::default()).collect();
        let shared = Arc::new(Shared { clients, ..Shared::default() });
        shared.set(pace);
        let start = |node| {
            let client = Client::new(node, phases, Arc::clone(&shared));
            std::thread::Builder::new().name(format!("load-{node}")).spawn(|| client.run())
        };
        let clients = (1..=nodes).map(start).collect::<Result<_, _>>()?;
        Ok(Self { shared, clients })
    }

    /// Says where a node serves from now on.
    pub(crate) fn serves(&self, node: u64, address: SocketAddr) {
        let mut client = self.shared.clients[node as usize - 1].lock().expect("no panic with it");
        *client = Some(address);
    }

    /// Something is about to happen to a node: the next acknowledgement by any other is noted.
    pub(crate) fn watch(&self, struck: u64) {
        self.shared.struck.store(struck, Ordering::SeqCst);
        self.shared.answered.store(0, Ordering::SeqCst);
    }

    /// When another node acknowledged something, since [`Steady::watch`].
    pub(crate) fn answered(&self) -> Option<u64> {
        Some(self.shared.answered.load(Ordering::SeqCst)).filter(|at| *at > 0)
    }

    /// Operations acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Proposes at another pace from now on.
    pub(crate) fn set(&self, pace: Pace) {
        self.shared.set(pace);
    }

    /// Latencies count there from now on.
    pub(crate) fn enter(&self, phase: usize) {
        self.shared.phase.store(phase, Ordering::Relaxed);
    }

    /// Ends the load, when what is in flight is answered.
    pub(crate) fn stop(self) -> Tale {
        self.shared.stops.store(true, Ordering::Relaxed);
        let mut all = Tale::default();
        for client in self.clients {
            let tale = client.join().expect("a client does not panic");
            all.outcome.acknowledged.union(&tale.outcome.acknowledged);
            all.outcome.unknown.union(&tale.outcome.unknown);
            all.latencies.resize_with(tale.latencies.len(), Latencies::default);
            let phases = all.latencies.iter_mut().zip(&tale.latencies);
            phases.for_each(|(all, of_node)| all.merge(of_node));
        }
        all
    }
}

/// The load on one node.
struct Client {
    node: u64,
    shared: Arc<Shared>,
    payload: Vec<u8>,
    /// The next operation's number, and when it is due.
    next: u64,
    due: u64,
    /// Whether the last answer was one of a leader.
    leads: bool,
    /// Operations in flight, and when they were due.
    sent: BTreeMap<u64, u64>,
    completed: Vec<Completed>,
    tale: Tale,
}

impl Client {
    fn new(node: u64, phases: usize, shared: Arc<Shared>) -> Self {
        let latencies = (0..phases).map(|_| Latencies::default()).collect();
        Self {
            node,
            shared,
            payload: Vec::new(),
            next: 0,
            due: 0,
            leads: false,
            sent: BTreeMap::new(),
            completed: Vec::new(),
            tale: Tale { outcome: GroupOutcome::default(), latencies },
        }
    }

    fn run(mut self) -> Tale {
        clock::tighten_timers();
        while !self.stops() {
            let at = *self.shared.clients[self.node as usize - 1].lock().expect("no panic with it");
            let port = at.and_then(|address| TcpPort::connect(self.node, address, 0).ok());
            match port {
                // That it ends with an error is what happens to connections of killed processes.
                Some(port) => drop(self.serve(port)),
                None => std::thread::sleep(Duration::from_nanos(PROBE)),
            }
            self.give_up();
        }
        self.tale
    }

    fn stops(&self) -> bool {
        self.shared.stops.load(Ordering::Relaxed)
    }

    fn number(&self, sequence: u64) -> u64 {
        ledger::number(self.node as u16, sequence)
    }

    fn serve(&mut self, mut port: TcpPort) -> Result<(), String> {
        let mut ends = None;
        loop {
            let now = clock::now();
            if !self.stops() {
                self.push_due(&mut port, now)?;
            } else if self.sent.is_empty() || now > *ends.get_or_insert(now + DRAIN) {
                return Ok(());
            }
            port.submit()?;
            block_on(port.wait(STEP))?;
            let mut completed = std::mem::take(&mut self.completed);
            port.drain(&mut completed)?;
            let now = clock::now();
            completed.drain(..).for_each(|run| self.settle(run, now));
            self.completed = completed;
        }
    }

    /// One operation finds out whether the node leads; a leader gets all that are due.
    fn push_due(&mut self, port: &mut TcpPort, now: u64) -> Result<(), String> {
        let payload = self.shared.payload.load(Ordering::Relaxed);
        let interval = self.shared.interval.load(Ordering::Relaxed);
        self.payload.resize(payload, b'.');
        let most = if self.leads { INFLIGHT.min(INFLIGHT_BYTES / payload).max(1) } else { 1 };
        while self.due <= now && self.sent.len() < most {
            let number = self.number(self.next).to_le_bytes();
            self.payload[..NUMBER_LEN].copy_from_slice(&number);
            port.push(GROUP, self.next, &self.payload)?;
            self.sent.insert(self.next, self.due);
            self.next += 1;
            self.due += interval;
        }
        Ok(())
    }

    fn settle(&mut self, run: Completed, now: u64) {
        let (first, end) = (run.first, run.first + run.count);
        let due: Vec<u64> = (first..end).filter_map(|at| self.sent.remove(&at)).collect();
        let numbers = (self.number(first), self.number(end));
        match run.outcome {
            Outcome::Applied => {
                self.tale.outcome.acknowledged.insert(numbers.0, numbers.1);
                self.acknowledged(&due, now);
            }
            Outcome::Unknown(_) => {
                self.tale.outcome.unknown.insert(numbers.0, numbers.1);
                self.rest(now);
            }
            // Refused: nobody will do it.
            Outcome::NotLeader(_) | Outcome::Failed(_) => self.rest(now),
            Outcome::Busy => {}
        }
    }

    fn acknowledged(&mut self, due: &[u64], now: u64) {
        self.shared.acknowledged.fetch_add(due.len() as u64, Ordering::Relaxed);
        if self.shared.struck.load(Ordering::SeqCst) != self.node {
            let order = Ordering::SeqCst;
            // Somebody was first.
            let _ = self.shared.answered.compare_exchange(0, now, order, order);
        }
        if std::mem::replace(&mut self.leads, true) {
            let phase = self.shared.phase.load(Ordering::Relaxed);
            let latencies = &mut self.tale.latencies[phase];
            due.iter().for_each(|due| latencies.record(now.saturating_sub(*due), 1));
        } else {
            self.due = now;
        }
    }

    fn rest(&mut self, now: u64) {
        self.leads = false;
        self.due = now + PROBE;
    }

    /// The connection is gone, and with it the answers.
    fn give_up(&mut self) {
        for (sequence, _) in std::mem::take(&mut self.sent) {
            let number = self.number(sequence);
            self.tale.outcome.unknown.insert(number, number + 1);
        }
        self.rest(clock::now());
    }
}
