//! Where shards sit. A node runs one process with one or more shards; each shard has a log and
//! connections of its own, and a number, its seat, that is unique in the whole cluster.

use std::fmt;
use std::ops::Range;

use ringleader::{GroupId, NodeId, place};
use ringleader_wal::Identity;

/// See the [module documentation](self).
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    /// Per seat: its node, and which of the node's shards it is.
    seats: Vec<(usize, u32)>,
    /// Per node: its first seat, and how many it has.
    nodes: Vec<(usize, u32)>,
    /// Per seat: the seats that it may have links to.
    links: Vec<Vec<usize>>,
}

/// A seat as its reader knows it: the node, and the shard where the node has several.
pub(crate) struct Name {
    node: usize,
    shard: Option<u32>,
}

impl Seats {
    /// `shards` is how many each node has.
    pub(crate) fn new(shards: &[u32], groups: &[GroupId]) -> Self {
        let (mut seats, mut nodes) = (Vec::new(), Vec::new());
        for (node, &count) in shards.iter().enumerate() {
            nodes.push((seats.len(), count));
            seats.extend((0..count).map(|shard| (node, shard)));
        }
        let links = vec![Vec::new(); seats.len()];
        let mut made = Self { seats, nodes, links };
        for seat in 0..made.count() {
            made.links[seat] = made.peers(seat, groups);
        }
        made
    }

    /// As the runtime does it: a link to each shard elsewhere that holds one of the seat's groups.
    fn peers(&self, seat: usize, groups: &[GroupId]) -> Vec<usize> {
        let node = self.node(seat);
        let mut peers = Vec::new();
        for &group in groups.iter().filter(|group| self.of_group(**group, node) == seat) {
            let others = (0..self.nodes.len()).filter(|other| *other != node);
            peers.extend(others.map(|other| self.of_group(group, other)));
        }
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    pub(crate) fn count(&self) -> usize {
        self.seats.len()
    }

    pub(crate) fn node(&self, seat: usize) -> usize {
        self.seats[seat].0
    }

    /// Which of its node's shards it is.
    pub(crate) fn shard(&self, seat: usize) -> u32 {
        self.seats[seat].1
    }

    /// The seats of a node.
    pub(crate) fn of(&self, node: usize) -> Range<usize> {
        let (first, count) = self.nodes[node];
        first..first + count as usize
    }

    /// How many shards a node has.
    pub(crate) fn shards(&self, node: usize) -> u32 {
        self.nodes[node].1
    }

    /// Where a node keeps a group.
    pub(crate) fn of_group(&self, group: GroupId, node: usize) -> usize {
        let (first, count) = self.nodes[node];
        first + place(group, count) as usize
    }

    /// The seats that a seat may have links to.
    pub(crate) fn links(&self, seat: usize) -> &[usize] {
        &self.links[seat]
    }

    pub(crate) fn name(&self, seat: usize) -> Name {
        let (node, shard) = self.seats[seat];
        Name { node, shard: (self.nodes[node].1 > 1).then_some(shard) }
    }

    /// Whose log it keeps.
    pub(crate) fn identity(&self, seat: usize) -> Identity {
        Identity { cluster: 1, node: self.node_id(seat), shard: self.shard(seat) }
    }

    pub(crate) fn node_id(&self, seat: usize) -> NodeId {
        NodeId(self.node(seat) as u64 + 1)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.node + 1)?;
        self.shard.map_or(Ok(()), |shard| write!(f, ".{shard}"))
    }
}
