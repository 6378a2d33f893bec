//! Which nodes a process knows, how it names them to its shards, and whom it lets in: as the runtime
//! does it, a node is known from the start or told of later, links are numbered by the shard, and
//! the handshake is judged by the production code, with a book on each node's disks.

use ringleader::NodeId;
use ringleader::shard::{LinkId, LinkPeer};
use ringleader_net::handshake::{self, Hello, Local, PROTOCOL_MAX, PROTOCOL_MIN, RefusalCode};
use ringleader_net::{DataId, DataReplaced, Endpoint, Identity, Lane, PeerBook};

use crate::disk::SimDisk;
use crate::inputs::Input;
use crate::plan::MS;
use crate::process::{Node, Process};
use crate::rng::Rng;
use crate::stores::Stores;
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

    /// The handshake of two seats, of which the first dials and reaches node `to`: true if each lets the
    /// other in, and has it in its book.
    pub(crate) fn shake_hands(&mut self, seats: [usize; 2], to: usize, bulk: bool) -> bool {
        let [from, wanted] = seats.map(|seat| self.plan.seats.node(seat));
        if !self.nodes[from].knows[wanted] {
            return false;
        }
        let local = Local {
            identity: self.identity(to),
            members: self.known_nodes(to).into_iter().map(|(node, n)| (node.0, n)).collect(),
        };
        let lane = if bulk { Lane::BulkOut } else { Lane::Consensus };
        let hello = self.hello(seats, lane);
        let known = self.nodes[to].book.known(hello.from.node);
        let meet = |world: &mut Self, own: usize, other: usize| {
            let data = world.nodes[other].data;
            let at = &mut world.nodes[own];
            let first = at.book.meet(own as u64 + 1, other as u64 + 1, data)?;
            if first {
                at.saved = at.book.clone();
            }
            Ok::<bool, DataReplaced>(first)
        };
        let met = handshake::check(&hello, &local, known)
            .and_then(|_| Ok(meet(self, to, from)?))
            .and_then(|_| Ok(meet(self, from, to)?));
        if let Err(refusal) = &met {
            self.trace.line(|| format!("node {} refuses node {}: {refusal}", to + 1, from + 1));
            let replaced = refusal.code() == RefusalCode::DATA_REPLACED;
            let what =
                if replaced { "nodes refused without their data" } else { "strangers refused" };
            self.counts.add(what, 1);
        }
        let let_in = met.is_ok();
        self.counts.add("dials to where another node is", u64::from(to != wanted));
        if let_in {
            let [from, to, wanted] = [from, to, wanted].map(|node| node + 1);
            assert_eq!(
                to, wanted,
                "identity: node {from} looks for another, and node {to} lets it in"
            );
        }
        if let_in {
            self.check_meeting(to, from);
            self.check_meeting(from, to);
        }
        let_in
    }

    /// A node lets another in: one that has what it had when they met.
    fn check_meeting(&mut self, node: usize, other: usize) {
        let data = self.nodes[other].data;
        let met = *self.nodes[node].met.entry(other).or_insert(data);
        let [node, other] = [node + 1, other + 1];
        assert_eq!(met, data, "identity: node {node} lets in node {other}, whose data is gone");
    }

    fn hello(&self, seats: [usize; 2], lane: Lane) -> Hello {
        let end = |seat| Endpoint {
            node: self.plan.seats.node_id(seat).0,
            shard: self.plan.seats.shard(seat),
        };
        let [from, to] = seats.map(end);
        let node = self.plan.seats.node(seats[0]);
        let Identity { cluster, shards, data, fingerprint, incarnation, .. } = self.identity(node);
        Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            cluster,
            from,
            from_shards: shards,
            to,
            lane: Some(lane),
            data,
            expects: self.nodes[node].book.known(to.node),
            fingerprint,
            incarnation,
            attempt: 1,
        }
    }

    fn identity(&self, node: usize) -> Identity {
        let Node { life, data, .. } = self.nodes[node];
        Identity {
            cluster: 1,
            node: node as u64 + 1,
            shards: self.plan.seats.shards(node),
            data,
            fingerprint: 0,
            incarnation: u64::from(life),
        }
    }

    /// A shard says what a log says of a node: the node's book has it, and all its connections are
    /// looked at.
    pub(crate) fn is_told(&mut self, seat: usize, of: NodeId, data: DataId) {
        let node = self.plan.seats.node(seat);
        self.trace.line(|| format!("node {} is told that {of} has {data}", node + 1));
        if !self.nodes[node].book.tell(of.0, data) {
            return;
        }
        self.counts.add("data known from logs alone", 1);
        let (life, delay) = (self.nodes[node].life, self.nodes[node].rng.between(MS, 50 * MS));
        self.after(delay, Event::SaveBook { node, life });
        for seat in self.plan.seats.of(node) {
            for pair in self.network.pairs_of(seat).to_vec() {
                let Some(end) = self.network.current(pair, seat) else { continue };
                let other = self.plan.seats.node_id(self.network.seat(end.other()));
                let shown = self.network.side(end).expect("it is current").shown;
                if self.nodes[node].book.check(node as u64 + 1, other.0, shown).is_err() {
                    self.hang_up(pair, end.connection);
                }
            }
        }
    }

    pub(crate) fn save_book(&mut self, node: usize, life: u32) {
        let at = &mut self.nodes[node];
        if at.life == life {
            at.saved = at.book.clone();
        }
    }

    /// A shard does not talk to whom it is connected to.
    pub(crate) fn refuse_stranger(&mut self, seat: usize, link: LinkId, replaced: &DataReplaced) {
        let process = self.seats[seat].process.as_ref().expect("it is alive");
        let peer = process.links[link.0 as usize];
        let name = self.plan.seats.name(seat);
        self.trace.line(|| format!("node {name} refuses a connection: {replaced}"));
        self.counts.add("connections refused by shards", 1);
        let pair = self.network.pair_of(seat, peer);
        if let Some(end) = self.network.current(pair, seat) {
            self.hang_up(pair, end.connection);
        }
    }

    /// A shard talks to nodes that have what they had when this node met them, or what its logs say.
    pub(crate) fn check_identities(&self, seat: usize) {
        let node = self.plan.seats.node(seat);
        let process = self.seats[seat].process.as_ref().expect("it is running");
        if !process.shard.takes_part() {
            return;
        }
        let groups = self.plan.groups.iter().filter_map(|group| process.shard.raft(*group));
        let named: Vec<_> = groups.flat_map(|raft| raft.configuration().identities()).collect();
        for (peer, shown) in &process.shown {
            let up = process.link(*peer).is_some_and(|link| process.shard.is_linked(link));
            let other = self.plan.seats.node(*peer);
            let met = self.nodes[node].met.get(&other);
            let named = named.iter().filter(|(id, _)| id.0 == other as u64 + 1);
            let mut known = met.into_iter().chain(named.map(|(_, data)| data));
            assert!(
                !up || known.all(|known| known == shown),
                "identity: node {} talks to node {}, whose data is gone",
                node + 1,
                other + 1
            );
        }
    }

    /// A node gets empty disks and starts over under its old number, if the run bears it: all others
    /// have met it or know it from their logs, but for those that lost everything themselves.
    pub(crate) fn wipe(&mut self, node: usize) {
        let data = self.nodes[node].data;
        let others = (0..self.plan.nodes)
            .filter(|other| *other != node && !self.atlas.is_wiped(*other))
            .map(|other| (other, self.nodes[other].met.get(&node) == Some(&data)));
        let others: Vec<_> = others.collect();
        let mut known = others.iter().all(|(_, met)| *met);
        if !known {
            known = others.iter().all(|(other, met)| *met || self.logs_name(*other, node));
            self.counts.add("nodes to be wiped that some never met", 1);
        }
        let by_logs = others.iter().filter(|(_, met)| !met).count() as u64;
        if !known
            || !self.groups_bear_wiping(node)
            || self.nodes[node].gone
            || !self.atlas.lose(node)
        {
            return;
        }
        self.counts.add("nodes wiped that some know from logs alone", u64::from(by_logs > 0));
        if self.plan.changing {
            self.counts.add("nodes wiped where members change", 1);
            self.retire(node);
        }
        self.crash(node);
        self.nodes[node].data = DataId(data.0 + (1 << 64));
        self.nodes[node].book = PeerBook::default();
        self.nodes[node].saved = PeerBook::default();
        self.nodes[node].met.clear();
        for seat in self.plan.seats.of(node) {
            self.seats[seat].disk = SimDisk::new(self.plan.disk.sector);
            self.seats[seat].stores = Stores::default();
        }
        self.checker.wiped(node);
        self.existence.wiped(node);
        self.counts.add("nodes wiped", 1);
    }

    /// Whether each group that is not on all nodes bears it, and does not begin anew on empty disks as
    /// the configuration says: where this node founded it alone, or with others that were wiped.
    fn groups_bear_wiping(&self, node: usize) -> bool {
        let first = !(0..self.plan.nodes).any(|other| self.atlas.is_wiped(other));
        let bears = |at: usize| {
            let founders = self.plan.founders[at].voters();
            founders != [NodeId(node as u64 + 1)] && self.bears_loss(at, node)
        };
        !self.plan.changing || first && (0..self.plan.groups.len()).all(bears)
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
                process.shard.link_up(now, link, epoch, process.shown[&peer]);
            }
        }
    }
}
