//! A client's connection: bytes in, commands, replies out. One task each.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_lite::{AsyncRead as _, AsyncWrite as _};
use glommio::net::TcpStream;
use smallvec::SmallVec;

use super::session::{Handled, Incoming, Later, Session};
use super::shard::Shard;
use crate::kv::resp::reply;
use crate::kv::resp::request::{Parser, Request};

/// Bytes that are read ahead of the commands that are looked at.
const AHEAD: usize = 64 << 10;

/// Rounds of reading and writing before the others have their turn.
const ROUNDS: usize = 8;

/// Memory that an idle connection may keep for its next request, and for its next reply.
const KEPT: usize = 4 << 10;

struct Connection {
    session: Session,
    socket: TcpStream,
    parser: Parser,
    input: Vec<u8>,
    /// Bytes of the input that were handled.
    handled: usize,
    /// A request that was found and could not be begun.
    blocked: Option<Request>,
    later: Option<Later>,
    /// What is being sent, and how much of it was.
    output: Vec<u8>,
    sent: usize,
    /// All requests that are there were handled.
    hungry: bool,
    /// Nothing more comes from the client.
    ended: bool,
    /// Nothing more is taken from it.
    closing: bool,
}

/// Serves a connection until one side ends it.
pub(crate) async fn serve(shard: Rc<Shard>, socket: TcpStream, plain: bool) {
    shard.stats().clients.add(1);
    let mut connection = Connection {
        session: Session::new(Rc::clone(&shard), plain),
        socket,
        parser: Parser::default(),
        input: Vec::new(),
        handled: 0,
        blocked: None,
        later: None,
        output: Vec::new(),
        sent: 0,
        hungry: true,
        ended: false,
        closing: false,
    };
    if let Err(error) = poll_fn(|cx| connection.poll(cx)).await {
        tracing::debug!(%error, "a connection ended");
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.session.shard.stats().clients.sub(1);
        self.session.shard.dismiss(self.session.id);
    }
}

impl Connection {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let client = Rc::clone(&self.session.client);
        client.listen(cx.waker());
        if client.killed.get() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let polled = self.take_turns(cx);
        let held = self.input.len() + self.output.len() + self.parser.bytes();
        client.set_in_connection(held);
        polled
    }

    /// Handles, writes and reads, as long as there is something to do and nobody waits too long.
    fn take_turns(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..ROUNDS {
            let mut moved = self.finish_later(cx);
            moved |= self.handle_requests(cx)?;
            moved |= self.write(cx)?;
            if self.is_over() {
                return Poll::Ready(Ok(()));
            }
            moved |= self.read(cx)?;
            if !moved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_over(&self) -> bool {
        let client = &self.session.client;
        let no_more = self.closing || self.ended && self.hungry;
        no_more && self.later.is_none() && client.is_idle() && !self.has_output()
    }

    fn has_output(&self) -> bool {
        self.sent < self.output.len() || self.session.client.has_output()
    }

    fn finish_later(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(later) = &mut self.later else { return false };
        let Poll::Ready(reply) = later.as_mut().poll(cx) else { return false };
        self.later = None;
        self.session.client.answer(|out| out.extend_from_slice(&reply));
        true
    }

    /// Handles what is there; true if any request was.
    fn handle_requests(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut any = false;
        while !self.closing && self.later.is_none() && self.session.client.has_room() {
            let request = match self.blocked.take() {
                Some(request) => request,
                None => match self.next_request() {
                    Some(request) => request,
                    None => break,
                },
            };
            match self.handle(request, cx) {
                Handled::Blocked => {
                    self.blocked = Some(request);
                    break;
                }
                Handled::Done => {}
                Handled::Later(later) => {
                    self.later = Some(later);
                    self.finish_later(cx);
                }
                Handled::Close => self.closing = true,
            }
            self.handled += request.length;
            any = true;
        }
        self.compact();
        Ok(any)
    }

    /// The next request that is complete. What makes no sense is answered, and ends the connection.
    fn next_request(&mut self) -> Option<Request> {
        let limits = self.session.limits();
        let found = self.parser.next(&self.input[self.handled..], &limits);
        self.hungry = matches!(found, Ok(None));
        found.unwrap_or_else(|error| {
            self.session.shard.stats().protocol_errors.add(1);
            self.session.client.answer(|out| reply::error(out, &error.to_string()));
            self.closing = true;
            None
        })
    }

    fn handle(&mut self, request: Request, cx: &Context<'_>) -> Handled {
        let bytes = &self.input[self.handled..];
        let parser = &self.parser;
        let args: SmallVec<[&[u8]; 8]> =
            (0..parser.args()).map(|number| parser.arg(bytes, number)).collect();
        let more = bytes.len() > request.length;
        let length = request.length;
        self.session.handle(Incoming { args: &args, length, more, waker: cx.waker() })
    }

    /// Forgets what was handled. A request that is blocked is found where it was: its arguments are
    /// ranges from its own beginning.
    fn compact(&mut self) {
        if self.handled == self.input.len() {
            self.input.clear();
            self.parser.forget();
            if self.input.capacity() > KEPT {
                self.input = Vec::new();
            }
        } else if self.handled >= AHEAD / 2 {
            self.input.drain(..self.handled);
        } else {
            return;
        }
        self.handled = 0;
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let client = &self.session.client;
        let mut any = false;
        loop {
            if self.sent == self.output.len() {
                self.output.clear();
                self.sent = 0;
                client.take_output(&mut self.output);
            }
            if self.output.is_empty() {
                if self.output.capacity() > KEPT {
                    self.output = Vec::new();
                }
                client.rest();
                client.stalled.set(None);
                return Ok(any);
            }
            let rest = &self.output[self.sent..];
            match Pin::new(&mut self.socket).poll_write(cx, rest)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    self.sent += count;
                    self.session.shard.stats().bytes_out.add(count as u64);
                    client.stalled.set(None);
                    any = true;
                }
                Poll::Pending => {
                    if client.stalled.get().is_none() {
                        client.stalled.set(Some(Instant::now()));
                    }
                    return Ok(any);
                }
            }
        }
    }

    /// Reads once, if there is use for more.
    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.ended || self.closing || !self.hungry || self.blocked.is_some() {
            return Ok(false);
        }
        let mut scratch = self.session.shard.scratch.borrow_mut();
        match Pin::new(&mut self.socket).poll_read(cx, &mut scratch)? {
            Poll::Pending => return Ok(false),
            Poll::Ready(0) => self.ended = true,
            Poll::Ready(count) => {
                self.input.extend_from_slice(&scratch[..count]);
                self.session.shard.stats().bytes_in.add(count as u64);
                self.hungry = false;
            }
        }
        Ok(true)
    }
}
