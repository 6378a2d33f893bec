//! What happens to connections: made, lost, blocked, and written to.

use std::collections::VecDeque;

use bytes::Bytes;
use ringleader::shard::{Lane, OutFrame};
use ringleader_net::{Frame, FrameKind};

use crate::inputs::Input;
use crate::network::{End, Purpose};
use crate::plan::MS;
use crate::world::{Event, World};

/// What an end's outbox has room for, and holds.
pub(crate) struct Room {
    pub(crate) peer: usize,
    pub(crate) purpose: Purpose,
    pub(crate) free: usize,
    pub(crate) held: usize,
}

impl World {
    /// Somebody will try to connect the pair, if nothing connects it. For bulk data, that is when
    /// somebody says that there is some.
    pub(crate) fn redial(&mut self, pair: usize) {
        if !self.network.is_bulk(pair) {
            self.dial_later(pair);
        }
    }

    /// A seat has bulk data for a peer.
    pub(crate) fn want_bulk(&mut self, seat: usize, to: usize) {
        self.dial_later(self.network.bulk_of(seat, to));
    }

    fn dial_later(&mut self, pair: usize) {
        if self.network.working(pair).is_none() && !self.network.pairs[pair].dialing {
            self.network.pairs[pair].dialing = true;
            let backoff = self.network.pairs[pair].rng.between(MS, 50 * MS);
            self.after(backoff, Event::Dial { pair });
        }
    }

    pub(crate) fn dial(&mut self, pair: usize) {
        self.network.pairs[pair].dialing = false;
        let seats = self.network.dialing(pair);
        let [from, to] = seats.map(|seat| self.plan.seats.node(seat));
        let listener = self.addresses.listener(from, to);
        let runs = |node: usize| self.seats[self.plan.seats.of(node).start].process.is_some();
        let reached = listener.filter(|there| runs(from) && runs(*there));
        let apart = !self.healed && self.plan.net.are_apart(from, to);
        let cut = reached == Some(to) && (apart || self.network.is_cut(pair));
        let working = self.network.working(pair).is_some();
        let bulk = self.network.is_bulk(pair);
        let meets = |world: &mut Self| reached.is_some_and(|at| world.shake_hands(seats, at, bulk));
        if working || cut || !meets(self) {
            self.redial(pair);
            return;
        }
        let [a, b] = self.network.pairs[pair].seats;
        let ends = [(a, b), (b, a)].map(|(seat, other)| {
            self.seats[seat].epoch += 1;
            (self.seats[seat].epoch, self.nodes[self.plan.seats.node(other)].data)
        });
        let connection = self.network.connect(pair, ends);
        self.counts.add("connections made", 1);
        for side in 0..2 {
            let latency = self.latency(pair);
            self.after(latency, Event::Up(End { pair, connection, side }));
        }
    }

    fn latency(&mut self, pair: usize) -> u64 {
        let net = self.plan.net;
        let rng = &mut self.network.pairs[pair].rng;
        let slow = rng.chance(net.slow_ppm);
        let (shortest, longest) = if slow { net.slow } else { net.latency };
        rng.between(shortest, longest)
    }

    /// The seat of an end, and that of the other.
    fn seats_of(&self, end: End) -> (usize, usize) {
        (self.network.seat(end), self.network.seat(end.other()))
    }

    /// An end is told that the connection is there; it gives up an earlier one for it.
    pub(crate) fn up(&mut self, end: End) {
        let working = self.network.connection(end.pair, end.connection);
        if working.is_none_or(|connection| connection.broken) {
            return;
        }
        let (seat, peer) = self.seats_of(end);
        while let Some(earlier) = self.network.current(end.pair, seat) {
            self.down(earlier);
        }
        let side = self.network.side(end).expect("it works");
        side.open();
        let (epoch, data) = (side.epoch, side.shown);
        if !self.network.is_bulk(end.pair) {
            if let Some(process) = &mut self.seats[seat].process {
                process.epochs.insert(peer, epoch);
            }
            self.feed(seat, Input::Up { peer, epoch, data });
        } else if self.network.sends_bulk(end) {
            self.feed(seat, Input::BulkUp { peer, epoch });
        }
    }

    /// An end is told that the connection is gone.
    pub(crate) fn down(&mut self, end: End) {
        let Some(side) = self.network.side(end).filter(|side| side.up) else { return };
        side.up = false;
        side.outbox.close();
        let (seat, peer) = self.seats_of(end);
        if !self.network.is_bulk(end.pair) {
            if let Some(process) = &mut self.seats[seat].process {
                process.epochs.remove(&peer);
            }
            self.feed(seat, Input::Down { peer });
        } else if self.network.sends_bulk(end) {
            self.feed(seat, Input::BulkDown { peer });
        }
        self.network.forget(end.pair);
    }

    /// The pair's connection breaks. Bytes on their way arrive in part, and each end learns of it
    /// in its own time.
    pub(crate) fn break_connection(&mut self, pair: usize) {
        let Some(connection) = self.network.working(pair) else { return };
        self.network.connection(pair, connection).expect("it works").broken = true;
        self.counts.add("connections lost", 1);
        for side in 0..2 {
            let end = End { pair, connection, side };
            self.lose_inbound(end);
            let patience = self.patience(pair);
            self.after(patience, Event::Down(end));
        }
        self.redial(pair);
    }

    fn patience(&mut self, pair: usize) -> u64 {
        let rng = &mut self.network.pairs[pair].rng;
        let longest = if rng.coin() { 2 * MS } else { self.plan.net.dead_after };
        rng.between(0, longest)
    }

    fn lose_inbound(&mut self, end: End) {
        let (seat, _) = self.seats_of(end);
        let (life, ghosts) = (self.life(seat), self.plan.net.ghost_ppm);
        let side = self.network.side(end).expect("the end exists");
        let inbound = side.inbound() as u64;
        let kept = self.network.pairs[end.pair].rng.below(inbound + 1) as usize;
        let side = self.network.side(end).expect("the end exists");
        let (epoch, lost) = (side.epoch, side.lose(kept));
        self.counts.add("frames lost", lost.len() as u64);
        for frame in lost {
            let rng = &mut self.network.pairs[end.pair].rng;
            if rng.chance(ghosts) {
                let delay = rng.between(MS, 4 * self.plan.net.dead_after);
                self.haunt(delay, Event::Ghost { end, life, epoch, frame });
            }
        }
    }

    pub(crate) fn haunt(&mut self, delay: u64, ghost: Event) {
        self.ghosts_until = self.ghosts_until.max(self.now() + delay);
        self.after(delay, ghost);
    }

    /// A frame arrives on a connection that its receiver no longer has.
    pub(crate) fn ghost(&mut self, end: End, life: u32, epoch: u64, frame: Frame) {
        let (seat, peer) = self.seats_of(end);
        let Some(process) = &self.seats[seat].process else { return };
        let of_this = !self.network.is_bulk(end.pair) && process.epochs.get(&peer) == Some(&epoch);
        if self.life(seat) == life && !of_this {
            self.counts.add("frames of an earlier connection", 1);
            let names = [seat, peer].map(|seat| self.plan.seats.name(seat));
            self.trace.line(|| {
                format!("node {} gets a frame of an earlier connection from {}", names[0], names[1])
            });
            self.deliver(end, epoch, frame);
        }
    }

    /// Hands a frame to its receiver.
    fn deliver(&mut self, end: End, epoch: u64, frame: Frame) {
        let (seat, peer) = self.seats_of(end);
        if self.network.is_bulk(end.pair) {
            self.feed(seat, Input::BulkFrame { peer, epoch, frame });
        } else {
            self.feed(seat, Input::Frame { peer, epoch, frame });
        }
    }

    /// The seat's process is gone: so are its ends of its connections.
    pub(crate) fn drop_connections(&mut self, seat: usize) {
        for &pair in self.network.pairs_of(seat).iter() {
            let side = usize::from(self.network.pairs[pair].seats[1] == seat);
            let ids: Vec<(u64, bool)> =
                self.network.pairs[pair].connections.iter().map(|c| (c.id, c.broken)).collect();
            for (connection, broken) in ids {
                let end = End { pair, connection, side };
                let own = self.network.side(end).expect("the end exists");
                own.up = false;
                own.outbox.close();
                if !broken {
                    self.network.connection(pair, connection).expect("it exists").broken = true;
                    self.lose_inbound(end.other());
                    let patience = self.patience(pair);
                    self.after(patience, Event::Down(end.other()));
                }
            }
            self.network.forget(pair);
            self.redial(pair);
        }
    }

    pub(crate) fn give_up(&mut self, pair: usize, connection: u64) {
        if self.network.working(pair) == Some(connection) && self.network.is_cut(pair) {
            self.break_connection(pair);
        }
    }

    /// What a seat has room for to each of its peers.
    pub(crate) fn rooms(&mut self, seat: usize) -> Vec<Room> {
        let mut rooms = Vec::new();
        for &pair in self.network.pairs_of(seat).iter() {
            let Some(end) = self.network.current(pair, seat) else { continue };
            let (_, peer) = self.seats_of(end);
            let purpose = self.network.pairs[pair].purpose;
            if self.network.is_bulk(pair) && !self.network.sends_bulk(end) {
                continue;
            }
            let full = self.mishap_of_outbox();
            let outbox = &self.network.side(end).expect("it is current").outbox;
            let room = match purpose {
                Purpose::Consensus if full => 0,
                Purpose::Consensus => self.plan.net.room.saturating_sub(outbox.held_bytes()),
                Purpose::BulkFrom(_) => usize::MAX,
            };
            let (free, held) = (room.min(outbox.free_bytes()), outbox.held_bytes());
            rooms.push(Room { peer, purpose, free, held });
        }
        rooms
    }

    /// Queues a frame for a peer, as the runtime does.
    pub(crate) fn push(&mut self, seat: usize, to: usize, frame: OutFrame) {
        let (pair, kind) = match frame.lane {
            Lane::Consensus => (self.network.pair_of(seat, to), FrameKind::Consensus),
            Lane::Bulk => (self.network.bulk_of(seat, to), FrameKind::Snapshot),
        };
        let Some(end) = self.network.current(pair, seat) else { return };
        let outbox = &mut self.network.side(end).expect("it is current").outbox;
        if outbox.epoch().is_none_or(|epoch| epoch.0 != frame.epoch) {
            return;
        }
        let pushed = outbox.push(kind, &frame.envelope, frame.blocks);
        if pushed.is_err() {
            self.counts.add("outboxes overrun", 1);
            self.break_connection(pair);
            return;
        }
        self.flush(end);
    }

    fn flush(&mut self, end: End) {
        let most = self.network.pairs[end.pair].rng.between(1, self.plan.net.write_bytes) as usize;
        let clogged = self.now() < self.network.pairs[end.pair].clogged_until;
        let (shortest, longest) = self.plan.net.clogged;
        let latency = if clogged {
            self.network.pairs[end.pair].rng.between(shortest, longest)
        } else {
            self.latency(end.pair)
        };
        let arrival = self.now() + latency;
        let Some(connection) = self.network.connection(end.pair, end.connection) else { return };
        let broken = connection.broken;
        let side = &mut connection.sides[end.side];
        if side.writing > 0 || side.outbox.queued_bytes() == 0 {
            return;
        }
        let mut chunks = VecDeque::new();
        side.writing = side.outbox.take(most, &mut chunks);
        if !broken && !connection.sides[1 - end.side].deaf {
            let arrival = connection.sides[1 - end.side].send(&chunks, arrival);
            self.after(arrival - self.now(), Event::Arrive(end.other()));
        }
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        let accepted = match self.plan.net.bulk_bytes_per_second {
            Some(rate) if self.network.is_bulk(end.pair) => bytes as u64 * 1_000_000_000 / rate,
            _ => self.network.pairs[end.pair].rng.between(0, MS / 20),
        };
        self.after(accepted, Event::Written(end));
    }

    pub(crate) fn written(&mut self, end: End) {
        if let Some(side) = self.network.side(end).filter(|side| side.up) {
            let written = std::mem::take(&mut side.writing);
            side.outbox.written(written);
            self.flush(end);
        }
    }

    pub(crate) fn arrive(&mut self, end: End) {
        let (seat, peer) = self.seats_of(end);
        let blocked = self.network.is_blocked(peer, seat);
        let Some(connection) = self.network.connection(end.pair, end.connection) else { return };
        let broken = connection.broken;
        let side = &mut connection.sides[end.side];
        if !side.up && broken {
            return;
        }
        // Held back by the network, or by a node that does not know of the connection yet.
        if blocked || !side.up {
            self.after(MS, Event::Arrive(end));
            return;
        }
        let epoch = side.epoch;
        let (frames, fed) = side.arrive();
        self.deliver_again_later(end, epoch, &frames);
        for frame in frames {
            let seats = &self.plan.seats;
            self.trace.line(|| {
                format!("node {} gets a frame from {}", seats.name(seat), seats.name(peer))
            });
            self.deliver(end, epoch, frame);
        }
        if fed.is_err() {
            self.counts.add("connections closed over their bytes", 1);
            self.hang_up(end.pair, end.connection);
        }
    }
}
