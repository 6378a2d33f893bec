//! TCP sockets: binding, options, and a stream that two tasks share.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use glommio::timer::Timer;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::config::NetConfig;

/// Most entries of one vectored write. What doesn't fit goes with the next one.
const MAX_SLICES: usize = 64;

/// Connections that the kernel keeps for the listener until it accepts them.
const BACKLOG: i32 = 1024;

/// The node's address can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there: usually an earlier life of this node that still runs.
    #[error("cannot listen on {address}: the address is in use by another socket")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The kernel refused for another reason.
    #[error("cannot listen on {address}: {reason}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// The kernel's reason.
        reason: io::Error,
    },
}

/// A socket that listens and that nobody accepts from yet. `Send`, and made without an executor,
/// so that a node can fail before it starts anything.
#[derive(Debug)]
pub struct BoundListener {
    pub(crate) socket: Socket,
    pub(crate) address: SocketAddr,
}

impl BoundListener {
    /// Listens on `address`. Port 0 lets the kernel choose, see [`address`](Self::address).
    ///
    /// With `SO_REUSEADDR`, so that a restarted node isn't kept waiting by connections in
    /// `TIME_WAIT`; without `SO_REUSEPORT` (which glommio's own `bind` sets), by which two
    /// processes would share the port and each get half of the connections.
    ///
    /// # Errors
    ///
    /// [`BindError`].
    pub fn bind(address: SocketAddr, config: &NetConfig) -> Result<Self, BindError> {
        Self::listen(address, config).map_err(|reason| match reason.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address },
            _ => BindError::Io { address, reason },
        })
    }

    /// The address that others can dial.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn listen(address: SocketAddr, config: &NetConfig) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit the sizes; set later, they would miss the window scaling that
        // is agreed on while connecting.
        set_buffers(&socket, config)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self { socket, address })
    }
}

fn set_buffers(socket: &Socket, config: &NetConfig) -> io::Result<()> {
    if let Some(bytes) = config.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = config.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(())
}

/// Options of an established connection.
pub(crate) fn tune(socket: &Socket, config: &NetConfig) -> io::Result<()> {
    set_buffers(socket, config)?;
    let socket = SockRef::from(socket);
    // A turn's frames leave in one write; nothing is gained by waiting for an acknowledgement.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(config.dead_after))?;
    // Probes only find what the user timeout can't: a peer that vanished while nothing was sent.
    // Their unit is the second.
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time((config.dead_after / 2).max(second))
        .with_interval((config.dead_after / 4).max(second));
    socket.set_tcp_keepalive(&keepalive)
}

/// Takes the socket out of a stream, and with it out of this executor.
pub(crate) fn release(stream: TcpStream) -> Socket {
    // SAFETY: `into_raw_fd` gives up the descriptor, so nobody else owns or closes it.
    unsafe { Socket::from_raw_fd(stream.into_raw_fd()) }
}

/// Puts a listening socket under this executor.
pub(crate) fn adopt_listener(socket: Socket) -> glommio::net::TcpListener {
    // SAFETY: `into_raw_fd` gives up the descriptor, so the listener is its only owner.
    unsafe { glommio::net::TcpListener::from_raw_fd(socket.into_raw_fd()) }
}

/// A connected socket that one task reads while another one writes.
pub(crate) struct Stream {
    inner: RefCell<TcpStream>,
}

impl Stream {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { inner: RefCell::new(stream) }
    }

    pub(crate) fn into_socket(self) -> Socket {
        release(self.inner.into_inner())
    }

    /// Receives up to `space.len()` bytes; 0 is the end of the stream.
    pub(crate) async fn read(&self, space: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut *self.inner.borrow_mut()).poll_read(cx, space)).await
    }

    /// Writes from the front of `chunks` with one system call; gives the number of bytes taken.
    pub(crate) async fn write_chunks(&self, chunks: &VecDeque<Bytes>) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = chunks.len().min(MAX_SLICES);
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
        }
        let written = poll_fn(|cx| {
            Pin::new(&mut *self.inner.borrow_mut()).poll_write_vectored(cx, &slices[..count])
        })
        .await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(written)
    }

    pub(crate) async fn write_all(&self, bytes: Bytes) -> io::Result<()> {
        let mut chunks = VecDeque::from([bytes]);
        while chunks.front().is_some_and(|chunk| !chunk.is_empty()) {
            let written = self.write_chunks(&chunks).await?;
            crate::outbox::advance_chunks(&mut chunks, written);
        }
        Ok(())
    }

    /// Ends the connection in both directions at once. Both tasks find out: reads give 0, writes
    /// fail. Without it the peer would learn of a dropped stream only after the reactor has
    /// cancelled the polls that keep the socket open.
    pub(crate) fn shut(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        // Fails only for sockets that aren't connected any more. It never pends.
        let _ = self.inner.borrow().poll_shutdown(&mut cx, Shutdown::Both);
    }
}

/// The outcome of `future`, or `None` once `limit` has passed.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let late = async {
        Timer::new(limit).await;
        None
    };
    or(async { Some(future.await) }, late).await
}
