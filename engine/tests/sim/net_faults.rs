//! What goes wrong with the network: who can't hear whom, and what becomes of single connections.

use ringleader_net::Frame;

use crate::faults::Fault;
use crate::network::End;
use crate::plan::MS;
use crate::rng::Rng;
use crate::world::{Event, World};

impl World {
    /// Blocks what the fault blocks; connections across it are given up after a while.
    pub(crate) fn partition(&mut self, fault: Fault, node: usize, rng: &mut Rng) {
        let nodes = self.plan.nodes;
        let mut order: Vec<usize> = (0..nodes).collect();
        rng.shuffle(&mut order);
        let cut = rng.between(1, nodes as u64 - 1) as usize;
        let (inwards, outwards) = rng.pick(&[(true, true), (true, false), (false, true)]);
        let place = |at: usize| order.iter().position(|node| *node == at).expect("a node");
        let side = |at: usize| place(at) < cut;
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                let blocked = match fault {
                    Fault::Split => side(from) != side(to),
                    Fault::OneWay => side(from) && !side(to),
                    Fault::Bridge => from != node && to != node && side(from) != side(to),
                    Fault::Ring => !hears_in_ring(place(from), place(to), nodes),
                    Fault::Chain => place(from).abs_diff(place(to)) > 1,
                    _ => (inwards && to == node) || (outwards && from == node),
                };
                if blocked {
                    self.network.block(from, to);
                }
            }
        }
        self.give_up_cut_connections(rng);
    }

    pub(crate) fn give_up_cut_connections(&mut self, rng: &mut Rng) {
        for pair in 0..self.network.pairs.len() {
            if let Some(connection) = self.network.working(pair)
                && self.network.is_cut(pair)
            {
                let patience = rng.between(MS, self.plan.net.dead_after);
                self.after(patience, Event::GiveUp { pair, connection });
            }
        }
    }

    /// Nothing is blocked any more.
    pub(crate) fn reunite(&mut self) {
        self.trace.line(|| "*** the network is whole");
        self.trace.step("reunite", 0, 0, 0);
        self.network.unblock_all();
    }

    /// Something happens to one connection.
    pub(crate) fn harm_connection(&mut self, fault: Fault, lasting: u64, rng: &mut Rng) {
        let Some(pair) = self.network.any_pair(rng) else { return };
        match fault {
            Fault::Flap => self.flap(pair, rng.between(2, 12)),
            Fault::Clog => self.network.pairs[pair].clogged_until = self.now() + lasting,
            Fault::HalfOpen => self.deafen(pair, rng),
            Fault::Garble => {
                if let Some(connection) = self.network.working(pair) {
                    let end = End { pair, connection, side: rng.below(2) as usize };
                    self.network.side(end).expect("it works").damage = Some(rng.next());
                }
            }
            _ => self.break_connection(pair),
        }
    }

    fn deafen(&mut self, pair: usize, rng: &mut Rng) {
        let Some(connection) = self.network.working(pair) else { return };
        let deaf = rng.pick(&[[true, true], [true, false], [false, true]]);
        let working = self.network.connection(pair, connection).expect("it works");
        for (side, deaf) in working.sides.iter_mut().zip(deaf) {
            side.deaf |= deaf;
        }
        // Whoever gets nothing gives up in the end; a hole in a stream is never passed over.
        let patience = rng.between(MS, 4 * self.plan.net.dead_after);
        self.after(patience, Event::HangUp { pair, connection });
    }

    /// The pair's connection breaks if it is still this one.
    pub(crate) fn hang_up(&mut self, pair: usize, connection: u64) {
        if self.network.working(pair) == Some(connection) {
            self.break_connection(pair);
        }
    }

    pub(crate) fn flap(&mut self, pair: usize, left: u64) {
        if self.healed {
            return;
        }
        self.break_connection(pair);
        if left > 0 {
            let pause = self.network.pairs[pair].rng.between(MS, 60 * MS);
            self.after(pause, Event::Flap { pair, left: left - 1 });
        }
    }

    /// Nothing is slow, silent or damaged any more.
    pub(crate) fn mend_connections(&mut self) {
        for pair in 0..self.network.pairs.len() {
            self.network.pairs[pair].clogged_until = 0;
            let Some(connection) = self.network.working(pair) else { continue };
            let working = self.network.connection(pair, connection).expect("it works");
            working.sides.iter_mut().for_each(|side| side.damage = None);
            if working.sides.iter().any(|side| side.deaf) {
                self.break_connection(pair);
            }
        }
    }

    /// Frames that came may come once more, when their connection is over.
    pub(crate) fn deliver_again_later(&mut self, end: End, epoch: u64, frames: &[Frame]) {
        let seat = self.network.seat(end);
        let (net, node) = (self.plan.net, self.plan.seats.node(seat));
        for frame in frames {
            let rng = &mut self.nodes[node].rng;
            if net.duplicate_ppm > 0 && rng.chance(net.duplicate_ppm) {
                let delay = rng.between(MS, 8 * net.dead_after);
                let (life, frame) = (self.life(seat), frame.clone());
                self.haunt(delay, Event::Ghost { end, life, epoch, frame });
            }
        }
    }

    /// A shard refused a frame: its owner closes the connection.
    pub(crate) fn refuse_frame(&mut self, seat: usize, pair: usize, epoch: u64, error: &str) {
        let side = usize::from(self.network.pairs[pair].seats[1] == seat);
        let its = self.network.pairs[pair].connections.iter();
        let its = its.filter(|connection| connection.sides[side].epoch == epoch);
        let found = its.map(|at| (at.id, at.sides[side].damaged)).next();
        let name = self.plan.seats.name(seat);
        self.trace.line(|| format!("node {name} refuses a frame: {error}"));
        self.counts.add("frames refused by shards", 1);
        // One that comes when its connection is forgotten was damaged on it, or never.
        if let Some((connection, damaged)) = found {
            assert!(damaged, "node {name} refused a frame that arrived as it was sent: {error}");
            self.hang_up(pair, connection);
        }
    }
}

/// A ring in which everybody hears the smallest majority around itself. Of three, where that is
/// everybody, each hears one of the others.
fn hears_in_ring(from: usize, to: usize, nodes: usize) -> bool {
    let ahead = (to + nodes - from) % nodes;
    let reach = nodes.div_ceil(4).min((nodes - 1) / 2);
    if nodes <= 4 { ahead == 1 } else { ahead <= reach || nodes - ahead <= reach }
}
