//! The least that three processes can do to make something durable on two of three: the leader
//! writes a block to its disk and sends it to both followers, which write it and answer. On glommio
//! as the engine is, with no terms, no indices, no checks and no state machine; a block after the
//! other, or several at once, each on connections of its own. How far the engine is from this is
//! what the engine itself costs; the rest is the machine's.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures_lite::io::split;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::io::{DmaBuffer, DmaFile, OpenOptions};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use serde::{Deserialize, Serialize};

use super::pages::{MESSAGE, PAGE, write_before};
use crate::children::Children;
use crate::clock;
use crate::control::{FromChild, Outlet, ToChild};
use crate::histogram::Latencies;
use crate::latency::LatencyReport;
use crate::report::round;

/// Blocks of the stretch of a file that one block after the other is written to.
const BLOCKS: u64 = 16;
/// The largest block: 4 MiB.
const LARGEST: u64 = 4 << 20;
/// Blocks at once that are tried: the best counts.
const DEPTHS: [u64; 4] = [1, 2, 4, 8];
/// For this long each is measured: 0.6 s.
const TIME: u64 = 600_000_000;
const FOLLOWERS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct NullRaft {
    pub(crate) block_bytes: u64,
    /// Blocks at once, of those that were tried the number that does most.
    pub(crate) depth: u64,
    pub(crate) ops_per_sec: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// The engine's p50, p99 and throughput, divided by these.
    pub(crate) ratio_p50: Option<f64>,
    pub(crate) ratio_p99: Option<f64>,
    pub(crate) ratio_ops_per_sec: Option<f64>,
}

/// A process's part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NullRole {
    /// The file to write to.
    file: PathBuf,
    /// The followers of the leader; a follower has none.
    followers: Vec<SocketAddr>,
    /// Bytes of a block.
    block: usize,
    /// Blocks at once.
    depth: u64,
}

impl NullRaft {
    pub(super) fn under(self, latency: &LatencyReport, ops_per_sec: f64) -> Self {
        Self {
            ratio_p50: Some(round(latency.p50 / self.p50_us)),
            ratio_p99: Some(round(latency.p99 / self.p99_us)),
            ratio_ops_per_sec: Some(round(ops_per_sec / self.ops_per_sec)),
            ..self
        }
    }
}

/// Measures so many operations in flight of so many bytes, in one block or divided into several. Uses
/// and removes files in `directory`.
pub(super) fn measure(directory: &Path, inflight: u64, payload: u64) -> anyhow::Result<NullRaft> {
    let mut best: Option<NullRaft> = None;
    for depth in DEPTHS.into_iter().filter(|depth| *depth <= inflight) {
        let ops = (inflight / depth).min((LARGEST / payload).max(1));
        let block_bytes = (ops * payload).max(MESSAGE as u64);
        let latencies = replicate(directory, block_bytes as usize, depth)?;
        let ops_per_sec = round((ops * latencies.len()) as f64 / (TIME as f64 / 1e9));
        if best.is_none_or(|best| best.ops_per_sec < ops_per_sec) {
            best = Some(NullRaft {
                block_bytes,
                depth,
                ops_per_sec,
                p50_us: latencies.quantile_us(0.5),
                p99_us: latencies.quantile_us(0.99),
                ratio_p50: None,
                ratio_p99: None,
                ratio_ops_per_sec: None,
            });
        }
    }
    best.context("at least one operation is in flight")
}

/// Latencies of blocks that became durable on two of three.
fn replicate(directory: &Path, block: usize, depth: u64) -> anyhow::Result<Latencies> {
    let mut children = Children::new();
    let file = |at: usize| directory.join(format!("null-{at}"));
    for at in 0..FOLLOWERS {
        let follower = children.spawn("null-raft follower", "null-raft")?;
        let role = NullRole { file: file(at), followers: Vec::new(), block, depth };
        children.send(follower, &ToChild::Null(role))?;
    }
    let followers = children.collect(0..FOLLOWERS, PATIENCE, |message| match message {
        FromChild::Ready { clients } => Some(clients),
        _ => None,
    })?;
    let leader = children.spawn("null-raft leader", "null-raft")?;
    let role = NullRole { file: file(FOLLOWERS), followers, block, depth };
    children.send(leader, &ToChild::Null(role))?;
    let latencies = children.collect(leader..leader + 1, PATIENCE, |message| match message {
        FromChild::Latencies(latencies) => Some(latencies),
        _ => None,
    })?;
    drop(children);
    (0..=FOLLOWERS).try_for_each(|at| std::fs::remove_file(file(at)))?;
    latencies.into_iter().next().context("one leader, one answer")
}

/// A child's part: a follower, or the leader of those that it is told.
pub(crate) fn run() -> anyhow::Result<()> {
    let out = Outlet::new();
    let mut lines = std::io::stdin().lock().lines();
    let first = lines.next().context("no role on standard input")??;
    let ToChild::Null(role) = serde_json::from_str(&first)? else { bail!("not a role") };
    let pages = role.block.div_ceil(PAGE) as u64 * BLOCKS * role.depth;
    write_before(&role.file, pages)?;
    let part = move || async move {
        let log = Rc::new(Log::open(&role).await?);
        if role.followers.is_empty() {
            follow(log, &role, &out).await
        } else {
            lead(&log, &role, &out).await
        }
    };
    let executor = LocalExecutorBuilder::new(Placement::Unbound).spawn(part);
    executor.map_err(failed)?.join().map_err(failed)?
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("null-raft: {error}")
}

/// A file that is written a block at a time, in a stretch for each of those that write at once.
struct Log {
    file: DmaFile,
    /// Bytes that a block takes.
    room: usize,
}

impl Log {
    async fn open(role: &NullRole) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_DSYNC);
        let file = options.dma_open(&role.file).await.map_err(failed)?;
        Ok(Self { file, room: role.block.div_ceil(PAGE) * PAGE })
    }

    fn buffer(&self) -> DmaBuffer {
        self.file.alloc_dma_buffer(self.room)
    }

    async fn write(&self, buffer: DmaBuffer, slot: u64, round: u64) -> anyhow::Result<()> {
        let at = (slot * BLOCKS + round % BLOCKS) * self.room as u64;
        let written = self.file.write_at(buffer, at).await.map_err(failed)?;
        if written == self.room { Ok(()) } else { Err(anyhow!("wrote {written} bytes of a block")) }
    }
}

async fn follow(log: Rc<Log>, role: &NullRole, out: &Outlet) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    out.send(&FromChild::Ready { clients: listener.local_addr().map_err(failed)? });
    let mut serving = Vec::new();
    for slot in 0..role.depth {
        let leader = listener.accept().await.map_err(failed)?;
        leader.set_nodelay(true).map_err(failed)?;
        let (log, block) = (Rc::clone(&log), role.block);
        serving.push(glommio::spawn_local(serve(log, leader, block, slot)));
    }
    for serving in serving {
        serving.await?;
    }
    Ok(())
}

/// Writes what comes on one connection, until that ends.
async fn serve(log: Rc<Log>, mut leader: TcpStream, block: usize, slot: u64) -> anyhow::Result<()> {
    for round in 0.. {
        let mut buffer = log.buffer();
        if leader.read_exact(&mut buffer.as_bytes_mut()[..block]).await.is_err() {
            break;
        }
        log.write(buffer, slot, round).await?;
        leader.write_all(&[0x5a; MESSAGE]).await?;
    }
    Ok(())
}

/// How many rounds are durable at each place, and who waits for that.
#[derive(Default)]
struct Tally {
    places: [Cell<u64>; FOLLOWERS + 1],
    waker: Cell<Option<Waker>>,
}

impl Tally {
    fn count(&self, place: usize) {
        self.places[place].set(self.places[place].get() + 1);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits until `round` is durable at two places.
    async fn majority(&self, round: u64) {
        poll_fn(|context| {
            let durable = self.places.iter().filter(|place| place.get() >= round).count();
            if durable > FOLLOWERS.div_ceil(2) {
                return Poll::Ready(());
            }
            self.waker.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

async fn lead(log: &Rc<Log>, role: &NullRole, out: &Outlet) -> anyhow::Result<()> {
    let mut slots = Vec::new();
    for slot in 0..role.depth {
        let mut streams = Vec::new();
        for follower in &role.followers {
            let stream = TcpStream::connect(follower).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            streams.push(stream);
        }
        slots.push((slot, streams));
    }
    let end = clock::now() + TIME;
    let start = |(slot, streams)| {
        glommio::spawn_local(replicate_in(Rc::clone(log), streams, role.block, slot, end))
    };
    let slots: Vec<_> = slots.into_iter().map(start).collect();
    let mut latencies = Latencies::default();
    for slot in slots {
        latencies.merge(&slot.await?);
    }
    out.send(&FromChild::Latencies(latencies));
    Ok(())
}

/// One block after the other, until the end of the time.
async fn replicate_in(
    log: Rc<Log>,
    streams: Vec<TcpStream>,
    block: usize,
    slot: u64,
    end: u64,
) -> anyhow::Result<Latencies> {
    let tally = Rc::new(Tally::default());
    let mut writers = Vec::new();
    for (place, stream) in streams.into_iter().enumerate() {
        let (mut reader, writer) = split(stream);
        writers.push(writer);
        let tally = Rc::clone(&tally);
        glommio::spawn_local(async move {
            let mut message = [0; MESSAGE];
            while reader.read_exact(&mut message).await.is_ok() {
                tally.count(place);
            }
        })
        .detach();
    }
    let bytes = vec![0x5a; block];
    let mut latencies = Latencies::default();
    for round in 1.. {
        let start = clock::now();
        if start >= end {
            break;
        }
        for writer in &mut writers {
            writer.write_all(&bytes).await?;
        }
        let mut buffer = log.buffer();
        buffer.as_bytes_mut()[..block].copy_from_slice(&bytes);
        let (log, own) = (Rc::clone(&log), Rc::clone(&tally));
        glommio::spawn_local(async move {
            // A write that fails is never counted, and the run ends for want of a majority's time.
            if log.write(buffer, slot, round).await.is_ok() {
                own.count(FOLLOWERS);
            }
        })
        .detach();
        tally.majority(round).await;
        latencies.record(clock::now() - start, 1);
    }
    Ok(latencies)
}
