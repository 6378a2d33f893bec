//! Where nodes listen, and where others look for them. A node that moves listens elsewhere from its next
//! start on, also where another one was before; each other node is told at another moment, as by
//! `Handle::set_member`, and until then it dials where nobody is, or the wrong one. Now and then one is
//! told what is not so.

use crate::rng::{Rng, SURE};
use crate::world::{Event, World};

/// An address is a number.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// Where each node listens.
    own: Vec<usize>,
    /// Where it will from its next start on.
    next: Vec<Option<usize>>,
    /// `known[a][b]`: where `a` looks for `b`.
    known: Vec<Vec<usize>>,
    /// So many were ever used.
    used: usize,
}

impl Addresses {
    pub(crate) fn new(nodes: usize) -> Self {
        let own: Vec<usize> = (0..nodes).collect();
        Self { known: vec![own.clone(); nodes], next: vec![None; nodes], used: nodes, own }
    }

    /// Where the operator wants a node to be found.
    fn right(&self, node: usize) -> usize {
        self.next[node].unwrap_or(self.own[node])
    }

    /// One that nobody has or will have: as a rule one that somebody had.
    fn free(&mut self, rng: &mut Rng) -> usize {
        let taken = |address: &usize| {
            self.own.contains(address) || self.next.iter().flatten().any(|next| next == address)
        };
        let left: Vec<usize> = (0..self.used).filter(|address| !taken(address)).collect();
        if !left.is_empty() && rng.chance(SURE * 3 / 4) {
            return rng.pick(&left);
        }
        self.used += 1;
        self.used - 1
    }

    /// Whom one node reaches where it looks for another, if the one who is there runs.
    pub(crate) fn listener(&self, from: usize, to: usize) -> Option<usize> {
        self.own.iter().position(|address| *address == self.known[from][to])
    }

    /// A process starts: it listens where it was told to.
    pub(crate) fn start(&mut self, node: usize) -> bool {
        let moves = self.next[node].take();
        self.own[node] = moves.unwrap_or(self.own[node]);
        moves.is_some()
    }
}

impl World {
    /// The operator moves a node, or tells it something wrong of another.
    pub(crate) fn move_node(&mut self, node: usize, rng: &mut Rng) {
        let other = rng.below(self.plan.nodes as u64) as usize;
        let latest = 2 * self.plan.faults.lasting;
        if other != node && rng.chance(SURE / 4) {
            let wrong = rng.below(self.addresses.used as u64) as usize;
            self.look_for(node, other, wrong);
            self.after(rng.between(1, latest), Event::Readdress { node, other });
            self.counts.add("nodes told a wrong address", 1);
            return;
        }
        self.addresses.next[node] = Some(self.addresses.free(rng));
        self.stop(node);
        for teller in (0..self.plan.nodes).filter(|teller| *teller != node) {
            let delay = rng.between(0, latest);
            self.after(delay, Event::Readdress { node: teller, other: node });
        }
    }

    /// A node is told where another is, or is about to be.
    pub(crate) fn readdress(&mut self, node: usize, other: usize) {
        let right = self.addresses.right(other);
        self.look_for(node, other, right);
    }

    /// As the runtime does it: connections that this node dialed at the old address end.
    fn look_for(&mut self, node: usize, other: usize, address: usize) {
        if std::mem::replace(&mut self.addresses.known[node][other], address) == address {
            return;
        }
        self.trace.line(|| format!("node {} looks for node {} at {address}", node + 1, other + 1));
        for pair in 0..self.network.pairs.len() {
            let dials = self.network.dialing(pair).map(|seat| self.plan.seats.node(seat));
            if dials == [node, other] {
                self.break_connection(pair);
            }
        }
    }

    /// Nobody moves any more, and everybody knows where everybody is.
    pub(crate) fn settle_addresses(&mut self) {
        self.addresses.next.fill(None);
        for node in 0..self.plan.nodes {
            (0..self.plan.nodes).for_each(|other| self.readdress(node, other));
        }
    }
}
