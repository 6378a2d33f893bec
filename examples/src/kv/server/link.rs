//! Commands forwarded to another shard or node, for clients that know no cluster.
//!
//! A link is a connection like any client's: pipelined, its replies in the order of its commands. One
//! link for each shard that commands are forwarded from, and each that they are forwarded to.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::{AsyncRead as _, AsyncWrite as _};
use glommio::net::TcpStream;

use super::outcome;
use super::shard::Shard;
use super::topology::Seat;
use crate::kv::command::Args;
use crate::kv::resp::reply::{self, Framing};

/// Bytes that wait to be sent, beyond which nobody adds to them.
const BACKLOG: usize = 4 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Whoever waits longer for a reply is told that it will not come. The link ends with that.
const PATIENCE: Duration = Duration::from_secs(10);

struct Forwarded {
    client: usize,
    number: u32,
    write: bool,
    since: Instant,
}

#[derive(Default)]
struct State {
    out: Vec<u8>,
    waiting: VecDeque<Forwarded>,
    /// Who found no room.
    blocked: Vec<Waker>,
    waker: Option<Waker>,
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Link {
    state: RefCell<State>,
    killed: Cell<bool>,
}

impl Shard {
    /// The link to a seat, made if there is none.
    pub(crate) fn link(self: &Rc<Self>, seat: Seat) -> Rc<Link> {
        let mut links = self.links.borrow_mut();
        let link = links.entry(seat).or_insert_with(|| {
            let link = Rc::new(Link::default());
            // Its task is polled for the first time with the map borrowed, and so begins later.
            self.local.spawn(run(Rc::clone(self), seat, Rc::clone(&link)));
            link
        });
        Rc::clone(link)
    }

    /// Gives up the links whose peers have not answered for too long.
    pub(crate) fn check_links(&self) {
        self.links.borrow().values().for_each(|link| link.check());
    }
}

impl Link {
    /// Whether another command may be sent; if not, `waker` is woken when one may.
    pub(crate) fn has_room(&self, waker: &Waker) -> bool {
        let mut state = self.state.borrow_mut();
        let room = state.out.len() < BACKLOG;
        if !room {
            state.blocked.push(waker.clone());
        }
        room
    }

    /// Sends a command of a client, whose reply is the client's.
    pub(crate) fn send(&self, (client, number): (usize, u32), write: bool, args: Args<'_, '_>) {
        let mut state = self.state.borrow_mut();
        reply::array(&mut state.out, args.len());
        args.iter().for_each(|arg| reply::bulk(&mut state.out, arg));
        state.waiting.push_back(Forwarded { client, number, write, since: Instant::now() });
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn check(&self) {
        let mut state = self.state.borrow_mut();
        if state.waiting.front().is_some_and(|oldest| oldest.since.elapsed() > PATIENCE) {
            self.killed.set(true);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }
}

async fn run(shard: Rc<Shard>, seat: Seat, link: Rc<Link>) {
    futures_lite::future::yield_now().await;
    let connected = connect(&shard, seat).await;
    let sent = connected.is_ok();
    let ended = match connected {
        Ok(socket) => {
            let mut run = Run::new(&shard, &link, socket);
            poll_fn(|cx| run.poll(cx)).await
        }
        Err(error) => error,
    };
    tracing::debug!(node = %seat.node, shard = seat.shard, error = %ended, "a link ended");
    shard.links.borrow_mut().remove(&seat);
    let State { waiting, blocked, .. } = link.state.take();
    for Forwarded { client, number, write, .. } in waiting {
        let text = if sent && write { outcome::LINK_LOST } else { outcome::UNREACHABLE };
        if sent && write {
            shard.stats().unknown.add(1);
        }
        shard.complete(client, number, |out| reply::error(out, text));
    }
    blocked.into_iter().for_each(Waker::wake);
}

async fn connect(shard: &Shard, seat: Seat) -> io::Result<TcpStream> {
    let address: Option<SocketAddr> = shard.topology().address(seat);
    let address = address.ok_or_else(|| io::Error::other("the node is not known"))?;
    let socket = TcpStream::connect_timeout(address, CONNECT_TIMEOUT).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

struct Run<'a> {
    shard: &'a Shard,
    link: &'a Link,
    socket: TcpStream,
    output: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    framing: Framing,
    /// Replies to what the link itself said.
    own: usize,
}

impl<'a> Run<'a> {
    fn new(shard: &'a Shard, link: &'a Link, socket: TcpStream) -> Self {
        let mut output = Vec::new();
        let password = shard.node.settings.password.as_deref();
        let hello: Vec<&[u8]> = match password {
            Some(password) => vec![b"HELLO", b"3", b"AUTH", b"default", password.as_bytes()],
            None => vec![b"HELLO", b"3"],
        };
        reply::array(&mut output, hello.len());
        hello.iter().for_each(|arg| reply::bulk(&mut output, arg));
        let (input, framing) = (Vec::new(), Framing::default());
        Self { shard, link, socket, output, sent: 0, input, framing, own: 1 }
    }

    /// Goes on until the link ends, and says why it did.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.link.state.borrow_mut().waker = Some(cx.waker().clone());
        if self.link.killed.get() {
            return Poll::Ready(io::ErrorKind::TimedOut.into());
        }
        loop {
            match self.write(cx).and_then(|wrote| Ok(self.read(cx)? || wrote)) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(error) => return Poll::Ready(error),
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
            let mut state = self.link.state.borrow_mut();
            std::mem::swap(&mut state.out, &mut self.output);
            state.blocked.drain(..).for_each(Waker::wake);
        }
        if self.output.is_empty() {
            return Ok(false);
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, &self.output[self.sent..])?;
        let Poll::Ready(count) = written else { return Ok(false) };
        self.sent += count;
        Ok(true)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut scratch = self.shard.scratch.borrow_mut();
        let Poll::Ready(count) = Pin::new(&mut self.socket).poll_read(cx, &mut scratch)? else {
            return Ok(false);
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.input.extend_from_slice(&scratch[..count]);
        drop(scratch);
        self.take_replies()?;
        Ok(true)
    }

    fn take_replies(&mut self) -> io::Result<()> {
        let mut start = 0;
        while let Some(length) =
            self.framing.next(&self.input[start..]).map_err(io::Error::other)?
        {
            let reply = &self.input[start..start + length];
            start += length;
            if self.own > 0 {
                self.own -= 1;
                if reply.starts_with(b"-") {
                    let refused = String::from_utf8_lossy(reply).into_owned();
                    return Err(io::Error::other(refused));
                }
                continue;
            }
            let next = self.link.state.borrow_mut().waiting.pop_front();
            let Some(Forwarded { client, number, .. }) = next else {
                return Err(io::Error::other("a reply to nothing"));
            };
            // Its leader has changed, and this node will know in a moment.
            let moved = reply.starts_with(b"-MOVED ");
            self.shard.complete(client, number, |out| match moved {
                true => reply::error(out, outcome::LEADER_CHANGED),
                false => out.extend_from_slice(reply),
            });
        }
        self.input.drain(..start);
        Ok(())
    }
}
