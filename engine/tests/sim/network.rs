//! The network: one ordered connection per pair of shards that share a group, made of bytes, and one
//! more in each direction for bulk data, made when it is wanted.
//!
//! Frames go through the production outbox and decoder, and between them they are a stream that is
//! cut anywhere. Nothing is lost from a stream but its end: frames vanish only with their
//! connection. Each end learns on its own, sooner or later, that a connection is made or lost, and
//! a blocked direction holds bytes back until somebody gives the connection up.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use ringleader_net::decoder::FrameDecoder;
use ringleader_net::outbox::Outbox;
use ringleader_net::{DataId, Epoch, Frame};

use crate::rng::Rng;
use crate::seats::Seats;

/// Largest frame. The simulated turns are far below it.
pub(crate) const MAX_FRAME: usize = 1 << 20;

/// Which connection of a pair, and which end of it. End 0 is the seat with the lower number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) pair: usize,
    pub(crate) connection: u64,
    pub(crate) side: usize,
}

/// One end's view of a connection.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) epoch: u64,
    /// The data directory that the other end showed.
    pub(crate) shown: DataId,
    /// Whether the node was told that the connection is there.
    pub(crate) up: bool,
    pub(crate) outbox: Outbox,
    /// Bytes with the kernel, which are not accepted yet.
    pub(crate) writing: usize,
    decoder: FrameDecoder,
    /// Bytes on their way to this end.
    inbound: VecDeque<Bytes>,
    /// When the last of them arrive.
    arrival: u64,
    /// What is sent to this end vanishes.
    pub(crate) deaf: bool,
    /// The next bytes to arrive are damaged, in a way that follows from this.
    pub(crate) damage: Option<u64>,
    /// Bytes were damaged.
    pub(crate) damaged: bool,
}

/// The bytes on a connection are not frames.
#[derive(Debug)]
pub(crate) struct Damaged;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) broken: bool,
    pub(crate) sides: [Side; 2],
}

/// What a pair's connections are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Consensus,
    /// From the seat on this side to the other.
    BulkFrom(usize),
}

/// Two seats, and the connections between them for one purpose: the present one, and those that an
/// end still believes in.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) purpose: Purpose,
    /// Decides what happens between these two alone.
    pub(crate) rng: Rng,
    pub(crate) seats: [usize; 2],
    pub(crate) connections: Vec<Connection>,
    /// An attempt to connect is scheduled.
    pub(crate) dialing: bool,
    pub(crate) clogged_until: u64,
}

#[derive(Debug)]
pub(crate) struct Network {
    /// Those for consensus first, then two for bulk data for each of them.
    pub(crate) pairs: Vec<Pair>,
    /// How many are for consensus.
    links: usize,
    /// `blocked[from][to]`: nothing passes that way between two nodes.
    blocked: Vec<Vec<bool>>,
    /// The pairs of each seat.
    of_seat: Vec<Rc<[usize]>>,
    next_connection: u64,
    /// The node of each seat.
    nodes: Vec<usize>,
}

impl Side {
    fn new(epoch: u64, shown: DataId) -> Self {
        Self {
            epoch,
            shown,
            up: false,
            outbox: Outbox::new(MAX_FRAME, MAX_FRAME),
            writing: 0,
            decoder: FrameDecoder::new(MAX_FRAME, 4096),
            inbound: VecDeque::new(),
            arrival: 0,
            deaf: false,
            damage: None,
            damaged: false,
        }
    }

    /// The node is told that the connection is there.
    pub(crate) fn open(&mut self) {
        self.up = true;
        self.outbox.open(Epoch(self.epoch));
    }

    /// Puts bytes on their way to this end; they arrive at `arrival`, after those before them.
    pub(crate) fn send(&mut self, chunks: &VecDeque<Bytes>, arrival: u64) -> u64 {
        let mut bytes = Vec::with_capacity(chunks.iter().map(Bytes::len).sum());
        chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        self.inbound.push_back(bytes.into());
        self.arrival = self.arrival.max(arrival);
        self.arrival
    }

    /// The next bytes arrive; the frames that they complete.
    pub(crate) fn arrive(&mut self) -> (Vec<Frame>, Result<(), Damaged>) {
        let mut frames = Vec::new();
        let Some(mut bytes) = self.inbound.pop_front() else { return (frames, Ok(())) };
        let mut cut = false;
        if let Some(seed) = self.damage.take() {
            let whole = bytes.len();
            bytes = damage(&bytes, &mut Rng::new(seed));
            self.damaged = true;
            cut = bytes.len() < whole;
        }
        let fed = self.decoder.feed(&bytes, |frame| frames.push(frame));
        assert!(fed.is_ok() || self.damaged, "what was encoded can be decoded");
        // A stream has no holes: what lacks something ends there.
        (frames, if fed.is_ok() && !cut { Ok(()) } else { Err(Damaged) })
    }

    /// Loses all but the first `kept` chunks on their way to this end. Gives the frames that would
    /// have come.
    pub(crate) fn lose(&mut self, kept: usize) -> Vec<Frame> {
        let mut lost = Vec::new();
        // The decoder's state lies before the chunks that are kept: decode those as well, aside.
        let mut decoder = FrameDecoder::new(MAX_FRAME, 4096);
        std::mem::swap(&mut decoder, &mut self.decoder);
        let mut complete = Vec::new();
        for (at, bytes) in self.inbound.drain(..).enumerate() {
            let into = if at < kept { &mut complete } else { &mut lost };
            let fed = decoder.feed(&bytes, |frame| into.push(frame));
            assert!(fed.is_ok() || self.damaged, "what was encoded can be decoded");
        }
        for Frame { kind, envelope, body } in complete {
            self.inbound.push_back(ringleader_net::frame::encode(kind, &envelope, &body));
        }
        lost
    }

    /// Chunks on their way to this end.
    pub(crate) fn inbound(&self) -> usize {
        self.inbound.len()
    }
}

impl Network {
    pub(crate) fn new(nodes: usize, seats: &Seats, rng: &mut Rng) -> Self {
        let later = |a: usize| seats.links(a).iter().filter(move |b| **b > a);
        let links: Vec<[usize; 2]> =
            (0..seats.count()).flat_map(|a| later(a).map(move |b| [a, *b])).collect();
        let lanes =
            links.iter().flat_map(|seats| [0, 1].map(|side| (*seats, Purpose::BulkFrom(side))));
        let pairs = links.iter().map(|seats| (*seats, Purpose::Consensus)).chain(lanes);
        let pair = |(seats, purpose)| Pair {
            purpose,
            rng: rng.fork(),
            seats,
            connections: Vec::new(),
            dialing: false,
            clogged_until: 0,
        };
        let pairs: Vec<Pair> = pairs.map(pair).collect();
        Self {
            of_seat: (0..seats.count())
                .map(|seat| {
                    (0..pairs.len()).filter(|at| pairs[*at].seats.contains(&seat)).collect()
                })
                .collect(),
            pairs,
            links: links.len(),
            blocked: vec![vec![false; nodes]; nodes],
            next_connection: 0,
            nodes: (0..seats.count()).map(|seat| seats.node(seat)).collect(),
        }
    }

    pub(crate) fn pair_of(&self, a: usize, b: usize) -> usize {
        let seats = [a.min(b), a.max(b)];
        self.pairs.iter().position(|pair| pair.seats == seats).expect("two seats with a link")
    }

    /// The pair for bulk data from one seat to another.
    pub(crate) fn bulk_of(&self, from: usize, to: usize) -> usize {
        self.links + 2 * self.pair_of(from, to) + usize::from(from > to)
    }

    /// Any pair, most often one for consensus.
    pub(crate) fn any_pair(&self, rng: &mut Rng) -> Option<usize> {
        if self.links == 0 {
            return None;
        }
        let link = rng.below(self.links as u64) as usize;
        let lane = rng.below(8) as usize;
        Some(if lane < 2 { self.links + 2 * link + lane } else { link })
    }

    /// Who dials, and who is dialed.
    pub(crate) fn dialing(&self, pair: usize) -> [usize; 2] {
        let Pair { seats: [first, second], purpose, .. } = self.pairs[pair];
        if purpose == Purpose::BulkFrom(1) { [second, first] } else { [first, second] }
    }

    /// Whether an end sends bulk data to the other.
    pub(crate) fn sends_bulk(&self, end: End) -> bool {
        self.pairs[end.pair].purpose == Purpose::BulkFrom(end.side)
    }

    pub(crate) fn is_bulk(&self, pair: usize) -> bool {
        self.pairs[pair].purpose != Purpose::Consensus
    }

    /// Makes a connection with an epoch for each end.
    /// The epoch that each end gives it, and what the other end showed it.
    pub(crate) fn connect(&mut self, pair: usize, ends: [(u64, DataId); 2]) -> u64 {
        self.next_connection += 1;
        let sides = ends.map(|(epoch, shown)| Side::new(epoch, shown));
        let id = self.next_connection;
        self.pairs[pair].connections.push(Connection { id, broken: false, sides });
        id
    }

    pub(crate) fn connection(&mut self, pair: usize, id: u64) -> Option<&mut Connection> {
        self.pairs[pair].connections.iter_mut().find(|connection| connection.id == id)
    }

    pub(crate) fn side(&mut self, end: End) -> Option<&mut Side> {
        Some(&mut self.connection(end.pair, end.connection)?.sides[end.side])
    }

    /// The end of the connection that `seat` was told of last and still believes in.
    pub(crate) fn current(&self, pair: usize, seat: usize) -> Option<End> {
        let at = &self.pairs[pair];
        let side = usize::from(at.seats[1] == seat);
        let connection = at.connections.iter().rev().find(|c| c.sides[side].up)?;
        Some(End { pair, connection: connection.id, side })
    }

    /// The connection that works, if there is one.
    pub(crate) fn working(&self, pair: usize) -> Option<u64> {
        let connection = self.pairs[pair].connections.last()?;
        (!connection.broken).then_some(connection.id)
    }

    /// Forgets broken connections that no end believes in.
    pub(crate) fn forget(&mut self, pair: usize) {
        self.pairs[pair].connections.retain(|c| !c.broken || c.sides.iter().any(|side| side.up));
    }

    pub(crate) fn seat(&self, end: End) -> usize {
        self.pairs[end.pair].seats[end.side]
    }

    pub(crate) fn block(&mut self, from: usize, to: usize) {
        self.blocked[from][to] = true;
    }

    pub(crate) fn unblock_all(&mut self) {
        self.blocked.iter_mut().flatten().for_each(|blocked| *blocked = false);
    }

    /// Whether something between the pair's nodes is held back, in either direction.
    pub(crate) fn is_cut(&self, pair: usize) -> bool {
        let [a, b] = self.pairs[pair].seats;
        self.is_blocked(a, b) || self.is_blocked(b, a)
    }

    /// Whether nothing passes from one seat to another.
    pub(crate) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked[self.nodes[from]][self.nodes[to]]
    }

    /// The pairs that a seat belongs to.
    pub(crate) fn pairs_of(&self, seat: usize) -> Rc<[usize]> {
        Rc::clone(&self.of_seat[seat])
    }
}

/// Bits that are others, or bytes that are missing.
fn damage(bytes: &[u8], rng: &mut Rng) -> Bytes {
    let mut bytes = bytes.to_vec();
    let at = rng.below(bytes.len() as u64) as usize;
    match rng.below(3) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes.truncate(at),
        _ => {
            let end = bytes.len().min(at + rng.between(1, 16) as usize);
            bytes[at..end].iter_mut().for_each(|byte| *byte = rng.next() as u8);
        }
    }
    bytes.into()
}

impl End {
    pub(crate) fn other(self) -> Self {
        Self { side: 1 - self.side, ..self }
    }
}
