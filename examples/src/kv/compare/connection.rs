//! A connection under load: a pipeline of commands, and the next when all replies have come.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};

use super::caller::Caller;
use super::load::{Load, Target};
use super::tally::Tally;
use crate::kv::resp::reply::{self, Framing};

/// Bytes that are read at once.
const READ: usize = 64 << 10;
/// Length of a key.
const KEY: usize = 16;

/// The key of a number, as redis-benchmark makes them: `key:000000000042`.
pub(crate) fn key(mut number: u32) -> [u8; KEY] {
    let mut key = *b"key:000000000000";
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    key
}

/// Appends a SET.
pub(crate) fn set(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$16\r\n");
    out.extend_from_slice(&key(number));
    out.extend_from_slice(b"\r\n");
    reply::bulk(out, value);
}

fn get(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$16\r\n");
    out.extend_from_slice(&key(number));
    out.extend_from_slice(b"\r\n");
}

/// It never blocks, and is told when its socket is ready for more, once for each change.
pub(crate) struct Connection {
    stream: TcpStream,
    keys: Arc<[u32]>,
    value: Vec<u8>,
    pipeline: usize,
    writes: u32,
    random: fastrand::Rng,
    /// The requests of the pipeline, of which `sent` bytes are gone.
    output: Vec<u8>,
    sent: usize,
    /// When the pipeline was sent, and how many of its replies are missing.
    since: Instant,
    missing: usize,
    /// Reads that were not understood yet begin here.
    input: Vec<u8>,
    framing: Framing,
}

impl Connection {
    pub(crate) fn open(target: &Target, load: &Load) -> anyhow::Result<Self> {
        let stream = Caller::connect(target.address)?.into_stream();
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            keys: target.keys.clone(),
            value: vec![b'x'; load.payload],
            pipeline: load.pipeline,
            writes: load.writes,
            random: fastrand::Rng::new(),
            output: Vec::new(),
            sent: 0,
            since: Instant::now(),
            missing: 0,
            input: Vec::new(),
            framing: Framing::default(),
        })
    }

    /// Sends a pipeline of commands.
    pub(crate) fn begin(&mut self) -> anyhow::Result<()> {
        self.output.clear();
        self.sent = 0;
        for _ in 0..self.pipeline {
            let number = self.keys[self.random.usize(..self.keys.len())];
            match self.random.u32(..100) < self.writes {
                true => set(&mut self.output, number, &self.value),
                false => get(&mut self.output, number),
            }
        }
        self.missing = self.pipeline;
        self.since = Instant::now();
        self.send()
    }

    /// Goes on after the socket became ready: takes replies, and begins anew when they are all there.
    pub(crate) fn turn(&mut self, scratch: &mut Scratch, tally: &mut Tally) -> anyhow::Result<()> {
        self.send()?;
        loop {
            let count = match self.stream.read(&mut scratch.0) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("receiving replies"),
            };
            self.take(&scratch.0[..count], tally)?;
            if self.missing == 0 {
                return self.begin();
            }
            // Less than there was room for: the socket is empty, and will say when it is not.
            if count < scratch.0.len() {
                return Ok(());
            }
        }
    }

    fn send(&mut self) -> anyhow::Result<()> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending commands"),
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], tally: &mut Tally) -> anyhow::Result<()> {
        let partial = !self.input.is_empty();
        if partial {
            self.input.extend_from_slice(bytes);
        }
        let input = if partial { &self.input[..] } else { bytes };
        let latency = self.since.elapsed();
        let (mut at, mut counted) = (0, 0);
        while let Some(length) = self.framing.next(&input[at..])? {
            let reply = &input[at..at + length];
            match reply[0] {
                b'+' | b'$' => counted += 1,
                b'_' => tally.fail("a key that was written is not there"),
                _ => tally.fail(String::from_utf8_lossy(reply).trim_end()),
            }
            at += length;
            let Some(missing) = self.missing.checked_sub(1) else { bail!("a reply to nothing") };
            self.missing = missing;
        }
        tally.record(latency, counted);
        match partial {
            true => drop(self.input.drain(..at)),
            false => self.input.extend_from_slice(&bytes[at..]),
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Where connections read to, one at a time.
pub(crate) struct Scratch(Box<[u8]>);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(vec![0; READ].into())
    }
}
