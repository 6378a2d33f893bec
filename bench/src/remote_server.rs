//! A node's side of the remote load: one connection is one queue pair to one shard.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_lite::future;
use ringleader::{GroupId, Handle, Queue, SubmitError};

use crate::embedded::drain_runs;
use crate::load::{Completed, Outcome};
use crate::wire::{self, FrameWriter};

/// Frames that are read ahead of the queue.
const FRAMES_AHEAD: usize = 64;

/// Serves clients on a loopback port of the system's choice, with at most `depth` operations in
/// flight per connection, until the process ends.
pub(crate) fn serve(handle: Handle, depth: usize) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening for clients")?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("clients".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = handle.clone();
            let client = std::thread::Builder::new().name("client".into());
            let spawned = client.spawn(move || {
                if let Err(error) = serve_client(stream, &handle, depth) {
                    eprintln!("a client's connection: {error:#}");
                }
            });
            if let Err(error) = spawned {
                eprintln!("no thread for a client: {error}");
            }
        }
    })?;
    Ok(address)
}

fn serve_client(mut stream: TcpStream, handle: &Handle, depth: usize) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting)?;
    let (magic, shard) = greeting.split_at(4);
    let shard = u32::from_le_bytes(shard.try_into().expect("four bytes"));
    if magic != wire::GREETING || shard >= handle.shards() {
        bail!("a greeting that is not this protocol's, or of shard {shard}");
    }
    let (sender, frames) = flume::bounded(FRAMES_AHEAD);
    let reader = stream.try_clone()?;
    let reading = std::thread::Builder::new().name("client-reader".into());
    reading.spawn(move || read_frames(reader, &sender))?;
    Client { queue: handle.queue(shard, depth), stream, out: FrameWriter::default() }.run(&frames)
}

/// Sends every frame's body on, until the connection ends.
fn read_frames(mut stream: TcpStream, bodies: &flume::Sender<Vec<u8>>) {
    let mut header = [0; 4];
    while stream.read_exact(&mut header).is_ok() {
        let Ok(length) = wire::body_len(header) else { return };
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() || bodies.send(body).is_err() {
            return;
        }
    }
}

struct Client {
    queue: Queue,
    stream: TcpStream,
    out: FrameWriter,
}

impl Client {
    fn run(mut self, frames: &flume::Receiver<Vec<u8>>) -> anyhow::Result<()> {
        let mut completed = Vec::new();
        loop {
            frames.try_iter().try_for_each(|body| self.push_all(&body, &mut completed))?;
            let busy = match self.queue.submit() {
                Ok(_) => false,
                Err(SubmitError::Busy) => true,
                Err(error) => bail!(error),
            };
            drain_runs(&mut self.queue, &mut completed);
            if !completed.is_empty() {
                completed.drain(..).for_each(|run| self.out.answer(&run));
                self.stream.write_all(self.out.finish())?;
                self.out.clear();
            } else if busy {
                self.queue.wait(Duration::from_millis(1));
            } else if let Some(body) = self.next(frames)? {
                self.push_all(&body, &mut completed)?;
            }
        }
    }

    /// Waits for a frame or for completions.
    fn next(&mut self, frames: &flume::Receiver<Vec<u8>>) -> anyhow::Result<Option<Vec<u8>>> {
        let frame = async { Some(frames.recv_async().await) };
        let ready = async {
            // Without a queue that answers, only the client's leaving ends the connection.
            if !self.queue.ready().await {
                future::pending::<()>().await;
            }
            None
        };
        future::block_on(future::or(frame, ready)).transpose().context("the client left")
    }

    fn push_all(&mut self, mut body: &[u8], completed: &mut Vec<Completed>) -> anyhow::Result<()> {
        while !body.is_empty() {
            let run = wire::take_operations(&mut body).map_err(anyhow::Error::msg)?;
            for at in 0..run.count {
                let (user_data, payload) = (run.first + at, run.payload(at));
                if let Err(error) = self.queue.push(GroupId(run.group), user_data, payload) {
                    let outcome = Outcome::Failed(error.to_string());
                    completed.push(Completed { first: user_data, count: run.count - at, outcome });
                    break;
                }
            }
        }
        Ok(())
    }
}
