//! Who leads which group, and where its clients find it.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use ringleader::{Handle, Member, NodeId, place};

use crate::kv::machine::Office;
use crate::kv::slot::Layout;

/// Nodes talk to each other on their clients' port plus this, as Redis Cluster's do.
pub(crate) const BUS_PORT_OFFSET: u16 = 10_000;

/// Where a client finds a group: one shard of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Seat {
    pub(crate) node: NodeId,
    pub(crate) shard: u32,
}

impl Seat {
    /// The 40 hexadecimal digits by which Redis Cluster's clients know a node.
    pub(crate) fn id(self) -> String {
        format!("{:032x}{:08x}", self.node.0, self.shard)
    }
}

/// What all shards of a node know of the cluster.
pub(crate) struct Topology {
    pub(crate) node: NodeId,
    pub(crate) layout: Layout,
    /// The node that leads each group, as this one's replica of it knows; zero if nobody does.
    leaders: Vec<AtomicU64>,
    handle: OnceLock<Handle>,
}

impl Topology {
    pub(crate) fn new(node: NodeId, layout: Layout) -> Self {
        let leaders = (0..layout.groups()).map(|_| AtomicU64::new(0)).collect();
        Self { node, layout, leaders, handle: OnceLock::new() }
    }

    /// The engine runs.
    pub(crate) fn connect(&self, handle: Handle) {
        // It starts once.
        let _ = self.handle.set(handle);
    }

    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.handle.get()
    }

    /// This node's office in a group has changed.
    pub(crate) fn note(&self, group: usize, office: Office) {
        let leader = match office {
            Office::Leads(_) => self.node.0,
            Office::Follows(leader) => leader.0,
            Office::Vacant => 0,
        };
        self.leaders[group].store(leader, Ordering::Relaxed);
    }

    pub(crate) fn leader(&self, group: usize) -> Option<NodeId> {
        Some(self.leaders[group].load(Ordering::Relaxed)).filter(|node| *node != 0).map(NodeId)
    }

    pub(crate) fn leads(&self, group: usize) -> bool {
        self.leader(group) == Some(self.node)
    }

    /// The nodes, in the order of their numbers.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.handle().map(Handle::members).unwrap_or_default()
    }

    fn member(&self, node: NodeId) -> Option<Member> {
        self.members().into_iter().find(|member| member.node == node)
    }

    /// Where a group's leader serves clients.
    pub(crate) fn seat_of(&self, group: usize) -> Option<Seat> {
        let node = self.leader(group)?;
        let shards = self.member(node)?.shards;
        Some(Seat { node, shard: place(self.layout.id(group), shards) })
    }

    /// The address of a seat.
    pub(crate) fn address(&self, seat: Seat) -> Option<SocketAddr> {
        self.member(seat.node).map(|member| address_of(&member, seat.shard))
    }
}

/// Where a shard of a node serves clients: each has a port of its own, from the node's on.
pub(crate) fn address_of(member: &Member, shard: u32) -> SocketAddr {
    let bus = member.address;
    let port = bus.port().wrapping_sub(BUS_PORT_OFFSET).wrapping_add(shard as u16);
    SocketAddr::new(bus.ip(), port)
}
