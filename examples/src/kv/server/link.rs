//! Commands forwarded to another shard or node, for clients that know no cluster.
//!
//! A link is a connection like any client's: pipelined, its replies in the order of its commands. One
//! link for each shard that commands are forwarded from, and each that they are forwarded to.
//!
//! When a link breaks, what was asked through it and not answered is sorted out (`Link::leftovers`):
//! what certainly was not done, because it was not wholly sent or changes nothing, is sent again to
//! whoever leads then ([`held`](super::held)); of the others nobody knows, and their clients are told
//! so.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _};
use glommio::net::TcpStream;

use super::held::Held;
use super::outcome;
use super::shard::Shard;
use super::topology::{Seat, Topology};
use crate::kv::command::Args;
use crate::kv::resp::reply::{self, Framing};

/// Bytes of requests that are not answered yet, beyond which nobody adds to them.
const BACKLOG: usize = 4 << 20;

/// Bytes of answered requests that may stay in front of the others.
const ANSWERED: usize = 64 << 10;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Whoever waits longer for a reply is told that it will not come. The link ends with that.
const PATIENCE: Duration = Duration::from_secs(10);

/// Likewise, where somebody else is known to lead by now.
const PATIENCE_WITH_FORMER: Duration = Duration::from_secs(2);

/// Whose command it is: the client, and the command's number there.
pub(crate) type Ticket = (usize, u32);

/// A command that is to be forwarded, or was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarded {
    pub(crate) ticket: Ticket,
    /// Its group.
    pub(crate) place: usize,
    pub(crate) write: bool,
    /// When it came.
    pub(crate) since: Instant,
}

/// A command that is not answered, and where its request ends among all that were ever sent.
struct Asked {
    command: Forwarded,
    end: u64,
}

#[derive(Default)]
struct State {
    /// Requests, from `base` on: answered ones, sent ones, those that are still to be sent.
    requests: Vec<u8>,
    /// Where among all requests that begins.
    base: u64,
    /// Everything before was answered.
    answered: u64,
    /// Everything before was given to the socket.
    sent: u64,
    asked: VecDeque<Asked>,
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
        self.links.borrow().iter().for_each(|(seat, link)| link.check(*seat, self.topology()));
    }
}

impl State {
    fn at(&self, position: u64) -> usize {
        (position - self.base) as usize
    }

    fn unanswered(&self) -> usize {
        self.requests.len() - self.at(self.answered)
    }

    /// The oldest command that is not answered, and its request.
    fn take_oldest(&mut self) -> Option<(Forwarded, &[u8])> {
        let Asked { command, end } = self.asked.pop_front()?;
        let start = std::mem::replace(&mut self.answered, end);
        Some((command, &self.requests[self.at(start)..self.at(end)]))
    }

    fn forget_answered(&mut self) {
        let answered = self.at(self.answered);
        if answered == self.requests.len() || answered >= ANSWERED.max(self.requests.len() / 2) {
            self.requests.drain(..answered);
            self.base = self.answered;
        }
        if self.unanswered() < BACKLOG {
            self.blocked.drain(..).for_each(Waker::wake);
        }
    }
}

/// What becomes of a command whose link broke before it was answered.
enum Fate {
    /// It may have been done.
    Unknown,
    /// It was not, and must not be now: a later command of its client may have been.
    Refused,
    /// It was not.
    Again(Box<[u8]>),
}

impl Link {
    /// Whether another command may be sent; if not, `waker` is woken when one may.
    pub(crate) fn has_room(&self, waker: &Waker) -> bool {
        let mut state = self.state.borrow_mut();
        let room = state.unanswered() < BACKLOG;
        if !room {
            state.blocked.push(waker.clone());
        }
        room
    }

    /// Sends a command of a client, whose reply is the client's.
    pub(crate) fn send(&self, command: Forwarded, args: Args<'_, '_>) {
        self.push(command, |requests| encode(args, requests));
    }

    /// Sends a command that was held back.
    pub(crate) fn send_held(&self, held: &Held) {
        self.push(held.command, |requests| requests.extend_from_slice(&held.request));
    }

    fn push(&self, command: Forwarded, append: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.borrow_mut();
        append(&mut state.requests);
        let end = state.base + state.requests.len() as u64;
        state.asked.push_back(Asked { command, end });
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn check(&self, seat: Seat, topology: &Topology) {
        let mut state = self.state.borrow_mut();
        let Some(oldest) = state.asked.front() else { return };
        let waited = oldest.command.since.elapsed();
        let former = |asked: &Asked| {
            topology.leader(asked.command.place).is_some_and(|leader| leader != seat.node)
        };
        let replaced = waited > PATIENCE_WITH_FORMER && state.asked.iter().all(former);
        if waited > PATIENCE || replaced {
            self.killed.set(true);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }

    /// What was not answered, in the order of the commands, and what becomes of it.
    fn leftovers(&self) -> Vec<(Forwarded, Fate)> {
        let mut state = self.state.take();
        let sent = state.sent;
        let mut left = Vec::new();
        while let Some(end) = state.asked.front().map(|asked| asked.end)
            && let Some((command, request)) = state.take_oldest()
        {
            // Half a request is not done.
            let may_be_done = command.write && end <= sent;
            let fate = if may_be_done { Fate::Unknown } else { Fate::Again(request.into()) };
            left.push((command, fate));
        }
        state.blocked.into_iter().for_each(Waker::wake);
        let mut followed = HashSet::new();
        for (command, fate) in left.iter_mut().rev() {
            let (client, _) = command.ticket;
            if matches!(fate, Fate::Unknown) {
                followed.insert((client, command.place));
            } else if followed.contains(&(client, command.place)) {
                *fate = Fate::Refused;
            }
        }
        left
    }
}

/// Appends a request.
pub(crate) fn encode(args: Args<'_, '_>, out: &mut Vec<u8>) {
    reply::array(out, args.len());
    args.iter().for_each(|arg| reply::bulk(out, arg));
}

async fn run(shard: Rc<Shard>, seat: Seat, link: Rc<Link>) {
    futures_lite::future::yield_now().await;
    let ended = match begin(&shard, seat).await {
        Ok(socket) => {
            let (input, framing) = (Vec::new(), Framing::default());
            let mut run =
                Run { shard: &shard, link: &link, socket, input, framing, greeted: false };
            poll_fn(|cx| run.poll(cx)).await
        }
        Err(error) => error,
    };
    tracing::debug!(node = %seat.node, shard = seat.shard, error = %ended, "a link ended");
    shard.links.borrow_mut().remove(&seat);
    for (command, fate) in link.leftovers() {
        let text = match fate {
            Fate::Again(request) => {
                shard.hold(Held { command, request });
                continue;
            }
            Fate::Refused => outcome::UNREACHABLE,
            Fate::Unknown => {
                shard.stats().unknown.add(1);
                outcome::LINK_LOST
            }
        };
        shard.complete(command.ticket, |out| reply::error(out, text));
    }
}

async fn begin(shard: &Shard, seat: Seat) -> io::Result<TcpStream> {
    let mut socket = connect(shard, seat).await?;
    let mut greeting = Vec::new();
    greet(shard.node.settings.password.as_deref(), &mut greeting);
    socket.write_all(&greeting).await?;
    Ok(socket)
}

pub(crate) async fn connect(shard: &Shard, seat: Seat) -> io::Result<TcpStream> {
    let address: Option<SocketAddr> = shard.topology().address(seat);
    let address = address.ok_or_else(|| io::Error::other("the node is not known"))?;
    let socket = TcpStream::connect_timeout(address, CONNECT_TIMEOUT).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Appends what a node says first to another. It has one reply.
pub(crate) fn greet(password: Option<&str>, out: &mut Vec<u8>) {
    let hello: &[&[u8]] = &[b"HELLO", b"3"];
    match password {
        Some(password) => {
            encode(&[hello, &[b"AUTH", b"default", password.as_bytes()]].concat(), out);
        }
        None => encode(hello, out),
    }
}

struct Run<'a> {
    shard: &'a Shard,
    link: &'a Link,
    socket: TcpStream,
    input: Vec<u8>,
    framing: Framing,
    /// The reply to the greeting has come.
    greeted: bool,
}

impl Run<'_> {
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
        let mut state = self.link.state.borrow_mut();
        let unsent = &state.requests[state.at(state.sent)..];
        if unsent.is_empty() {
            return Ok(false);
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, unsent)?;
        let Poll::Ready(count) = written else { return Ok(false) };
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        state.sent += count as u64;
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
            if self.greeted {
                self.pass_on(reply)?;
            } else if reply.starts_with(b"-") {
                return Err(io::Error::other(String::from_utf8_lossy(reply).into_owned()));
            }
            self.greeted = true;
        }
        self.input.drain(..start);
        self.link.state.borrow_mut().forget_answered();
        Ok(())
    }

    fn pass_on(&self, reply: &[u8]) -> io::Result<()> {
        let mut state = self.link.state.borrow_mut();
        let Some((command, request)) = state.take_oldest() else {
            return Err(io::Error::other("a reply to nothing"));
        };
        if outcome::was_not_done(reply) && self.shard.may_retry(&command) {
            let request = request.into();
            self.shard.hold(Held { command, request });
            return Ok(());
        }
        drop(state);
        // Its leader has changed, and this node will know in a moment.
        let moved = reply.starts_with(b"-MOVED ");
        self.shard.complete(command.ticket, |out| match moved {
            true => reply::error(out, outcome::LEADER_CHANGED),
            false => out.extend_from_slice(reply),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::server::held::forwarded;

    /// What becomes of commands (client, place, write) of which `sent` bytes had gone.
    fn fates(commands: &[(usize, usize, bool)], sent: impl Fn(&[u64]) -> u64) -> String {
        let link = Link::default();
        for (number, (client, place, write)) in (0..).zip(commands) {
            link.send(forwarded((*client, number), *place, *write), &[b"PING"]);
        }
        let ends: Vec<u64> = link.state.borrow().asked.iter().map(|asked| asked.end).collect();
        link.state.borrow_mut().sent = sent(&ends);
        let left = link.leftovers();
        assert!(left.iter().zip(0..).all(|((command, _), number)| command.ticket.1 == number));
        let letter = |fate: &Fate| match fate {
            Fate::Unknown => 'u',
            Fate::Refused => 'r',
            Fate::Again(request) => {
                assert_eq!(**request, b"*1\r\n$4\r\nPING\r\n"[..]);
                'a'
            }
        };
        left.iter().map(|(_, fate)| letter(fate)).collect()
    }

    #[test]
    fn only_what_was_certainly_not_done_is_sent_again() {
        let (read, write) = ((1, 0, false), (1, 0, true));
        let whole = |ends: &[u64]| *ends.last().unwrap();
        assert_eq!(fates(&[write, write], |_| 0), "aa");
        assert_eq!(fates(&[write, write], whole), "uu");
        // Half of the second was sent.
        assert_eq!(fates(&[write, write], |ends| ends[1] - 1), "ua");
        assert_eq!(fates(&[read, read], whole), "aa");
        // A read would come after the write that follows it.
        assert_eq!(fates(&[read, write, read], whole), "rua");
        // Other groups' and other clients' reads don't care.
        assert_eq!(fates(&[(1, 1, false), (2, 0, false), read, write], whole), "aaru");
    }

    #[test]
    fn requests_are_kept_until_they_are_answered() {
        let link = Link::default();
        for number in 0..100_000 {
            link.send(forwarded((1, number), 0, true), &[b"PING"]);
            let mut state = link.state.borrow_mut();
            state.sent = state.base + state.requests.len() as u64;
            if number >= 10 {
                let (command, request) = state.take_oldest().unwrap();
                assert_eq!(
                    (command.ticket.1, request),
                    (number - 10, &b"*1\r\n$4\r\nPING\r\n"[..])
                );
                state.forget_answered();
            }
            assert!(state.requests.len() < 2 * ANSWERED);
        }
        assert_eq!(link.leftovers().len(), 10);
    }
}
