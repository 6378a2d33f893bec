//! The least that three processes can do to make something durable on two of three: the leader
//! writes a page to its disk and sends a message to both followers, which write a page and answer.
//! One at a time, on glommio as the engine is, with no terms, no indices, no checks and no state
//! machine. How far the engine's latency is above this one's is what the engine itself costs; the
//! rest is the machine's.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures_lite::io::split;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::io::{DmaFile, OpenOptions};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

use crate::children::Children;
use crate::clock;
use crate::control::{FromChild, NullRole, Outlet, ToChild};
use crate::histogram::Latencies;
use crate::pages::{MESSAGE, PAGE, write_before};

/// Pages of each file.
const PAGES: u64 = 1024;
const ROUNDS: u64 = 2_000;
/// A slow disk gets fewer rounds than that.
const TIME: u64 = 1_000_000_000;
const FOLLOWERS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures, in about a second. Uses and removes files in `directory`.
pub(crate) fn measure(directory: &Path) -> anyhow::Result<Latencies> {
    let mut children = Children::new();
    let file = |at: usize| directory.join(format!("null-{at}"));
    for at in 0..FOLLOWERS {
        let follower = children.spawn("null-raft follower", "null-raft")?;
        let role = NullRole { file: file(at), followers: Vec::new() };
        children.send(follower, &ToChild::Null(role))?;
    }
    let followers = children.collect(0..FOLLOWERS, PATIENCE, |message| match message {
        FromChild::Ready { clients } => Some(clients),
        _ => None,
    })?;
    let leader = children.spawn("null-raft leader", "null-raft")?;
    children.send(leader, &ToChild::Null(NullRole { file: file(FOLLOWERS), followers }))?;
    let latencies = children.collect(leader..leader + 1, PATIENCE, |message| match message {
        FromChild::NullLatencies(latencies) => Some(latencies),
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
    write_before(&role.file, PAGES)?;
    let part = move || async move {
        match &role.followers[..] {
            [] => follow(&role.file, &out).await,
            followers => lead(&role.file, followers, &out).await,
        }
    };
    let executor = LocalExecutorBuilder::new(Placement::Unbound).spawn(part);
    executor.map_err(failed)?.join().map_err(failed)?
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("null-raft: {error}")
}

/// A file that is written a page at a time.
struct Log {
    file: DmaFile,
    next: Cell<u64>,
}

impl Log {
    async fn open(path: &Path) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_DSYNC);
        let file = options.dma_open(path).await.map_err(failed)?;
        Ok(Self { file, next: Cell::new(0) })
    }

    async fn append(&self) -> anyhow::Result<()> {
        let at = self.next.replace((self.next.get() + 1) % PAGES);
        let mut buffer = self.file.alloc_dma_buffer(PAGE);
        buffer.as_bytes_mut().fill(0x5a);
        let written = self.file.write_at(buffer, at * PAGE as u64).await.map_err(failed)?;
        if written == PAGE { Ok(()) } else { Err(anyhow!("wrote {written} bytes of {PAGE}")) }
    }
}

async fn follow(file: &Path, out: &Outlet) -> anyhow::Result<()> {
    let log = Log::open(file).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    out.send(&FromChild::Ready { clients: listener.local_addr().map_err(failed)? });
    let mut leader = listener.accept().await.map_err(failed)?;
    leader.set_nodelay(true).map_err(failed)?;
    let mut message = [0; MESSAGE];
    while leader.read_exact(&mut message).await.is_ok() {
        log.append().await?;
        leader.write_all(&message).await?;
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

async fn lead(file: &Path, followers: &[SocketAddr], out: &Outlet) -> anyhow::Result<()> {
    let log = Rc::new(Log::open(file).await?);
    let tally = Rc::new(Tally::default());
    let mut writers = Vec::new();
    for (place, follower) in followers.iter().enumerate() {
        let stream = TcpStream::connect(follower).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
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
    let mut latencies = Latencies::default();
    let end = clock::now() + TIME;
    for round in 1..=ROUNDS {
        let start = clock::now();
        for writer in &mut writers {
            writer.write_all(&[0x5a; MESSAGE]).await?;
        }
        let (log, own) = (Rc::clone(&log), Rc::clone(&tally));
        glommio::spawn_local(async move {
            // A write that fails is never counted, and the run ends for want of a majority's time.
            if log.append().await.is_ok() {
                own.count(FOLLOWERS);
            }
        })
        .detach();
        tally.majority(round).await;
        latencies.record(clock::now() - start, 1);
        if clock::now() >= end {
            break;
        }
    }
    out.send(&FromChild::NullLatencies(latencies));
    Ok(())
}
