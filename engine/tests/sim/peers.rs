//! Which nodes a process knows, and how it names them to its shards: as the runtime does it, a node
//! is known from the start or told of later, and links are numbered by the shard.

use ringleader::NodeId;
use ringleader::shard::{LinkId, LinkPeer};

use crate::process::{Input, Process};
use crate::rng::Rng;
use crate::world::{Event, World};

impl Process {
    /// The link to a peer, if the shard has one.
    pub(crate) fn link(&self, peer: usize) -> Option<LinkId> {
        let at = self.links.iter().position(|seat| *seat == peer)?;
        Some(LinkId(at as u32))
    }
}

impl World {
    /// A process begins with a configuration that may not have all the nodes in it.
    pub(crate) fn read_configuration(&mut self, node: usize) {
        let (life, late) = (self.nodes[node].life, self.plan.net.late_peers_ppm);
        for other in 0..self.plan.nodes {
            let rng = &mut self.nodes[node].rng;
            let later = !self.healed && late > 0 && rng.chance(late);
            let delay = rng.between(0, self.plan.net.late_peers);
            self.nodes[node].knows[other] = !later;
            if later {
                self.after(delay, Event::Learn { node, life, other });
            }
        }
    }

    /// A node is told of another.
    pub(crate) fn learn(&mut self, node: usize, life: u32, other: usize) {
        if self.nodes[node].life != life || self.nodes[node].knows[other] {
            return;
        }
        self.nodes[node].knows[other] = true;
        self.trace.line(|| format!("node {} is told of node {}", node + 1, other + 1));
        self.counts.add("nodes told of another", 1);
        for seat in self.plan.seats.of(node) {
            self.feed(seat, Input::Node(other));
        }
    }

    /// A node forgets another, for a while: connections are closed, and none is made or taken.
    pub(crate) fn forget_node(&mut self, node: usize, lasting: u64, rng: &mut Rng) {
        let other = rng.below(self.plan.nodes as u64) as usize;
        if other == node {
            return;
        }
        self.trace.line(|| format!("node {} forgets node {}", node + 1, other + 1));
        self.nodes[node].knows[other] = false;
        for pair in 0..self.network.pairs.len() {
            let nodes = self.network.pairs[pair].seats.map(|seat| self.plan.seats.node(seat));
            if nodes.contains(&node) && nodes.contains(&other) {
                self.break_connection(pair);
            }
        }
        let life = self.nodes[node].life;
        self.after(lasting, Event::Learn { node, life, other });
    }

    /// Everybody is told of everybody.
    pub(crate) fn acquaint_all(&mut self) {
        for node in 0..self.plan.nodes {
            let life = self.nodes[node].life;
            (0..self.plan.nodes).for_each(|other| self.learn(node, life, other));
        }
    }

    /// Whether two seats' nodes let each other in.
    pub(crate) fn are_acquainted(&self, seats: [usize; 2]) -> bool {
        let [a, b] = seats.map(|seat| self.plan.seats.node(seat));
        self.nodes[a].knows[b] && self.nodes[b].knows[a]
    }

    /// The nodes that a process knows when it starts, and how many shards each has.
    pub(crate) fn known_nodes(&self, node: usize) -> Vec<(NodeId, u32)> {
        let known = (0..self.plan.nodes).filter(|other| self.nodes[node].knows[*other]);
        let others = known.filter(|other| *other != node);
        others.map(|other| (NodeId(other as u64 + 1), self.plan.seats.shards(other))).collect()
    }

    /// Learns the links that a shard has made.
    pub(crate) fn number_links(&mut self, seat: usize) {
        let now = self.local_time(self.plan.seats.node(seat));
        let seats = &self.plan.seats;
        let process = self.seats[seat].process.as_mut().expect("a turn is of a running process");
        let added: Vec<LinkPeer> = process.shard.links().skip(process.links.len()).collect();
        for LinkPeer { node, shard } in added {
            let peer = seats.of(node.0 as usize - 1).start + shard as usize;
            let link = LinkId(process.links.len() as u32);
            process.links.push(peer);
            if let Some(&epoch) = process.known.get(&peer) {
                process.shard.link_up(now, link, epoch);
            }
        }
    }
}
