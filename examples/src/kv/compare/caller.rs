//! One command after the other, each with its reply: what is asked of a server besides the load.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::kv::resp::reply::{self, Framing};

/// No server takes so long for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that speaks RESP3.
pub(crate) struct Caller {
    address: SocketAddr,
    stream: TcpStream,
    input: Vec<u8>,
    framing: Framing,
}

impl Caller {
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE);
        let stream = stream.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut caller = Self { address, stream, input: Vec::new(), framing: Framing::default() };
        caller.call(&["HELLO", "3"])?;
        Ok(caller)
    }

    /// The reply to a command, as it came.
    ///
    /// # Errors
    /// It is an error, or did not come.
    pub(crate) fn call(&mut self, words: &[&str]) -> anyhow::Result<Vec<u8>> {
        let mut request = Vec::new();
        reply::array(&mut request, words.len());
        words.iter().for_each(|word| reply::bulk(&mut request, word.as_bytes()));
        self.send(&request)?;
        self.reply().with_context(|| words.join(" "))
    }

    /// Sends requests, whose replies are to be taken.
    pub(crate) fn send(&mut self, requests: &[u8]) -> anyhow::Result<()> {
        let sent = self.stream.write_all(requests);
        sent.with_context(|| format!("sending to {}", self.address))
    }

    /// The next reply.
    pub(crate) fn reply(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some(length) = self.framing.next(&self.input)? {
                let reply: Vec<u8> = self.input.drain(..length).collect();
                if reply.starts_with(b"-") {
                    bail!("{} says {}", self.address, String::from_utf8_lossy(&reply).trim_end());
                }
                return Ok(reply);
            }
            let count = self.stream.read(&mut chunk);
            let count = count.with_context(|| format!("waiting for {}", self.address))?;
            ensure!(count > 0, "{} closed the connection", self.address);
            self.input.extend_from_slice(&chunk[..count]);
        }
    }

    /// The connection, with no reply outstanding.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

/// The text of a reply that is a string of whatever kind.
pub(crate) fn text_of(reply: &[u8]) -> String {
    let text = String::from_utf8_lossy(reply);
    let (first, rest) = text.split_once("\r\n").unwrap_or((&text, ""));
    match first.as_bytes().first() {
        Some(b'=') => rest.get(4..).unwrap_or("").to_owned(),
        Some(b'$') => rest.to_owned(),
        _ => first.get(1..).unwrap_or("").to_owned(),
    }
}
