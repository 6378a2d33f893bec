//! The load: connections that a few threads serve, and the clock that they go by.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::caller::{Caller, PATIENCE};
use super::connection::{Connection, Scratch, set};
use super::interrupt;
use super::meter::{Cost, Meter};
use super::tally::Tally;

/// Values that are written at once before a load that reads.
const FILL: usize = 1000;
/// How soon the end is noticed by a thread that hears nothing.
const SLICE: Duration = Duration::from_millis(50);

/// A load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// Commands that a connection sends at once.
    pub(crate) pipeline: usize,
    /// Bytes of a value.
    pub(crate) payload: usize,
    /// Of a hundred operations.
    pub(crate) writes: u32,
    pub(crate) threads: usize,
    pub(crate) keys: u32,
    pub(crate) warmup: Duration,
    pub(crate) measured: Duration,
}

impl Load {
    /// Operations in flight.
    pub(crate) fn inflight(&self) -> usize {
        self.connections * self.pipeline
    }

    /// One write after the other, for a second.
    pub(crate) fn one_by_one(&self) -> Self {
        let (warmup, measured) = (Duration::ZERO, Duration::from_secs(1));
        Self {
            connections: 1,
            pipeline: 1,
            writes: 100,
            threads: 1,
            warmup,
            measured,
            ..self.clone()
        }
    }
}

/// A server, and the keys that it is asked for.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) keys: Arc<[u32]>,
}

/// What a run measured.
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    pub(crate) cost: Cost,
}

const WARM: u8 = 0;
const MEASURE: u8 = 1;
const OVER: u8 = 2;

/// Runs a load; the connections are spread evenly over the targets.
pub(crate) fn run(targets: &[Target], load: &Load, meter: &Meter) -> anyhow::Result<Measured> {
    ensure!(targets.iter().all(|target| !target.keys.is_empty()), "too few keys for all servers");
    if load.writes < 100 {
        targets.iter().try_for_each(|target| fill(target, load))?;
    }
    let mut shares: Vec<Vec<Connection>> = (0..load.threads).map(|_| Vec::new()).collect();
    for (at, target) in targets.iter().cycle().take(load.connections).enumerate() {
        shares[at % load.threads].push(Connection::open(target, load)?);
    }
    let phase = AtomicU8::new(WARM);
    thread::scope(|scope| {
        let spawn = |share| scope.spawn(|| serve(share, &phase));
        let threads: Vec<_> = shares.into_iter().map(spawn).collect();
        // A thread ends before its time only with an error, which joining tells.
        let pass = |time| wait(time, || threads.iter().any(|thread| thread.is_finished()));
        let passed = pass(load.warmup).and_then(|()| {
            let before = meter.read();
            phase.store(MEASURE, Ordering::Relaxed);
            pass(load.measured)?;
            phase.store(OVER, Ordering::Relaxed);
            Ok(meter.read().since(&before))
        });
        phase.store(OVER, Ordering::Relaxed);
        let mut tally = Tally::new();
        for thread in threads {
            tally.merge(thread.join().map_err(|_| anyhow!("a thread of the client panicked"))??);
        }
        Ok(Measured { tally, cost: passed? })
    })
}

/// Lets time pass, unless it is over or the user has enough.
pub(crate) fn wait(time: Duration, over: impl Fn() -> bool) -> anyhow::Result<()> {
    let until = Instant::now() + time;
    loop {
        interrupt::check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || over() {
            return Ok(());
        }
        thread::sleep(left.min(SLICE));
    }
}

/// Gives every key a value.
fn fill(target: &Target, load: &Load) -> anyhow::Result<()> {
    let mut caller = Caller::connect(target.address)?;
    let value = vec![b'x'; load.payload];
    for numbers in target.keys.chunks(FILL) {
        let mut requests = Vec::new();
        numbers.iter().for_each(|number| set(&mut requests, *number, &value));
        caller.send(&requests)?;
        numbers.iter().try_for_each(|_| caller.reply().map(drop))?;
        interrupt::check()?;
    }
    Ok(())
}

/// A thread of the client.
fn serve(mut connections: Vec<Connection>, phase: &AtomicU8) -> anyhow::Result<Tally> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    let (mut tally, mut scratch) = (Tally::new(), Scratch::new());
    for (at, connection) in connections.iter_mut().enumerate() {
        epoll::add(&epoll, &*connection, EventData::new_u64(at as u64), flags)?;
        connection.begin()?;
    }
    let slice = Timespec { tv_sec: 0, tv_nsec: SLICE.as_nanos() as i64 };
    let mut events = Vec::with_capacity(connections.len());
    let mut heard = Instant::now();
    loop {
        events.clear();
        let buffer = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&epoll, buffer, Some(&slice)) {
            Ok(0) => {
                ensure!(heard.elapsed() < PATIENCE, "no reply came for {PATIENCE:?}");
            }
            Ok(_) => heard = Instant::now(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        match phase.load(Ordering::Relaxed) {
            OVER => return Ok(tally),
            now => tally.measuring = now == MEASURE,
        }
        for event in &events {
            connections[event.data.u64() as usize].turn(&mut scratch, &mut tally)?;
        }
    }
}
