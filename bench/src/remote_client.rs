//! The load process's side of the remote load.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringleader::GroupId;

use crate::control::RemotePlan;
use crate::load::{Completed, Port, Routing};
use crate::wire::{self, FrameWriter};

/// Bytes that are read at once.
const READ: usize = 64 << 10;

/// A connection to one shard of one node.
pub(crate) struct TcpPort {
    node: u64,
    stream: TcpStream,
    out: FrameWriter,
    received: Vec<u8>,
}

impl TcpPort {
    /// Connects to a node's shard.
    pub(crate) fn connect(node: u64, address: SocketAddr, shard: u32) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.write_all(&wire::GREETING)?;
        stream.write_all(&shard.to_le_bytes())?;
        stream.set_nonblocking(true)?;
        Ok(Self { node, stream, out: FrameWriter::default(), received: Vec::new() })
    }

    fn lost(&self, error: &std::io::Error) -> String {
        format!("the connection to node {}: {error}", self.node)
    }

    /// Reads what has arrived.
    fn receive(&mut self) -> Result<(), String> {
        loop {
            let length = self.received.len();
            self.received.resize(length + READ, 0);
            let read = self.stream.read(&mut self.received[length..]);
            self.received.truncate(length + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(self.lost(&ErrorKind::UnexpectedEof.into())),
                Ok(read) if read < READ => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }

    fn poll(&self, events: libc::c_short, timeout: Duration) {
        let mut poll = libc::pollfd { fd: self.stream.as_raw_fd(), events, revents: 0 };
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: both structures outlive the call, and there is one pollfd. A failure is an
        // interruption; the caller looks at the socket anyway.
        unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
    }

    fn send(&mut self, frames: &[u8]) -> Result<(), String> {
        let mut left = frames;
        while !left.is_empty() {
            match self.stream.write(left) {
                Ok(written) => left = &left[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // The node may be waiting for us to read before it reads on.
                    self.poll(libc::POLLIN | libc::POLLOUT, Duration::from_millis(100));
                    self.receive()?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(&error)),
            }
        }
        Ok(())
    }
}

impl Port for TcpPort {
    fn push(&mut self, group: GroupId, user_data: u64, payload: &[u8]) -> Result<(), String> {
        self.out.operation(group.0, user_data, payload);
        Ok(())
    }

    fn submit(&mut self) -> Result<bool, String> {
        let mut out = std::mem::take(&mut self.out);
        self.send(out.finish())?;
        out.clear();
        self.out = out;
        Ok(true)
    }

    fn drain(&mut self, completed: &mut Vec<Completed>) -> Result<(), String> {
        let mut rest = &self.received[..];
        while let Some((header, after)) = rest.split_first_chunk::<4>() {
            let length = wire::body_len(*header)?;
            let Some((mut body, after)) = after.split_at_checked(length) else { break };
            while !body.is_empty() {
                completed.push(wire::take_answer(&mut body)?);
            }
            rest = after;
        }
        let taken = self.received.len() - rest.len();
        self.received.drain(..taken);
        Ok(())
    }

    async fn wait(&mut self, timeout: Duration) -> Result<(), String> {
        self.poll(libc::POLLIN, timeout);
        self.receive()
    }
}

/// Which node is asked for each group; shared by all connections.
pub(crate) struct Routes {
    nodes: u64,
    leaders: Vec<AtomicU64>,
    changes: AtomicU64,
}

impl Routes {
    pub(crate) fn new(plan: &RemotePlan) -> Arc<Self> {
        let leaders = plan.groups.iter().map(|(_, leader)| AtomicU64::new(*leader)).collect();
        Arc::new(Self { nodes: plan.nodes.len() as u64, leaders, changes: AtomicU64::new(1) })
    }
}

/// The groups that one node is asked for.
pub(crate) struct NodeRoutes {
    pub(crate) routes: Arc<Routes>,
    pub(crate) node: u64,
}

impl Routing for NodeRoutes {
    fn changes(&self) -> u64 {
        self.routes.changes.load(Ordering::Acquire)
    }

    fn mine(&self, index: usize) -> bool {
        self.routes.leaders[index].load(Ordering::Acquire) == self.node
    }

    /// Follows the redirect, or tries the next node when nobody knows.
    fn not_leader(&self, index: usize, leader: Option<u64>) {
        let known = leader.filter(|leader| (1..=self.routes.nodes).contains(leader));
        let next = known.unwrap_or(self.node % self.routes.nodes + 1);
        let order = Ordering::AcqRel;
        let leader = &self.routes.leaders[index];
        if leader.compare_exchange(self.node, next, order, Ordering::Relaxed).is_ok() {
            self.routes.changes.fetch_add(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_followed_and_guesses_go_round() {
        let nodes = vec![SocketAddr::from(([127, 0, 0, 1], 1)); 3];
        let plan = RemotePlan { nodes, shards: 1, groups: vec![(0, 1), (0, 2)] };
        let routes = Routes::new(&plan);
        let of = |node| NodeRoutes { routes: Arc::clone(&routes), node };
        assert!(of(1).mine(0) && of(2).mine(1) && !of(1).mine(1));
        of(1).not_leader(0, Some(3));
        assert!(of(3).mine(0) && !of(1).mine(0));
        of(1).not_leader(0, Some(2));
        assert!(of(3).mine(0), "a late refusal of an earlier node changes nothing");
        of(3).not_leader(0, None);
        assert!(of(1).mine(0));
        assert_eq!(of(1).changes(), 3);
    }
}
