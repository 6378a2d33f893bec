//! The state of a store's machine as the checker looks at it, and its snapshot: the store's own, behind
//! a header that says what it must come to.

use bytes::Bytes;
use ringleader::{LogIndex, LogPosition, MachineError, SnapshotSource, StateMachine as _, Term};
use ringleader_examples::kv::account::Account;
use ringleader_examples::kv::keyspace::{Keyspace, Value};
use ringleader_examples::kv::machine::{KvMachine, Replica};
use ringleader_examples::kv::operation::Expiry;

use crate::answer::Output;
use crate::command::{If, Input, Keys, Wish, encode, slot};
use crate::panics::Fuse;
use crate::rng::{Rng, chain, chain_bytes, mix};

/// A time that clocks show, in milliseconds since the epoch: that at which a run begins.
pub(crate) const BEGINNING: u64 = 1_750_000_000_000;

/// What a machine is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    /// The last operation that was applied.
    pub(crate) last: LogPosition,
    /// A hash over all that was applied, and the keys after each.
    pub(crate) state: u64,
    /// A hash over the keys.
    pub(crate) keys: u64,
    /// What the group was founded with, if that is all.
    founded: Option<u64>,
}

impl Image {
    pub(crate) fn new(last: LogPosition, state: u64, keys: u64) -> Self {
        Self { last, state, keys, founded: None }
    }

    /// Something that a group may begin with, as if it were the effect of the entry `last`.
    pub(crate) fn draw(rng: &mut Rng, last: LogPosition) -> Self {
        let (seed, state) = (rng.next(), rng.next());
        let (_, replica) = founded_machine(seed);
        Self { last, state, keys: digest(&replica), founded: Some(seed) }
    }

    /// The operation whose effect the keys are, and its answer; none if there is no such.
    pub(crate) fn origin(&self, _object: u8) -> Option<(Input, Output)> {
        let wish = Wish::Found(self.founded?);
        Some((Input { now: 0, wish }, Output::Ok))
    }
}

/// What is done to found a group.
pub(crate) fn founding(seed: u64) -> impl Iterator<Item = Input> {
    let mut rng = Rng::new(seed);
    let lasting = rng.magnitude(1, 60_000);
    let wishes = [
        Wish::SetMany { keys: Keys { first: 0, count: 4 }, value: seed % 1_000, absent: false },
        Wish::Set {
            key: 1,
            value: mix(seed) % 1_000,
            condition: If::Always,
            expiry: Expiry::In(lasting),
            get: false,
        },
        Wish::Acquire { key: crate::wishes::LOCKS, owner: 0, lease: lasting },
        Wish::Next { key: crate::wishes::SEQUENCES, count: 1 + seed % 9 },
    ];
    wishes.into_iter().map(|wish| Input { now: BEGINNING, wish })
}

fn founded_machine(seed: u64) -> (KvMachine, std::rc::Rc<Replica>) {
    let replica = Replica::new(Account::default());
    let mut machine = KvMachine::new(std::rc::Rc::clone(&replica), Box::new(|_| {}));
    for input in founding(seed) {
        let (mut entry, mut reply) = (Vec::new(), Vec::new());
        encode(&input, &mut entry);
        machine.apply_one(&entry, true, &mut reply);
    }
    (machine, replica)
}

/// A hash over all that can be seen of a replica's keys: what is there, with deadlines, locks and
/// sequences, by either index; what is still to be removed; and what time it is.
pub(crate) fn digest(replica: &Replica) -> u64 {
    replica.with(|keys| {
        let mut hash = chain(keys.clock(), keys.keys() as u64);
        hash = chain(hash, keys.mortal_keys() as u64);
        hash = chain(hash, keys.next_deadline().unwrap_or_default());
        let mut alive = 0;
        for (place, record) in keys.from_place(0) {
            alive += 1;
            hash = chain(chain_bytes(chain(hash, place), &record.key), record.deadline);
            hash = match &record.value {
                Value::String(bytes) => chain_bytes(chain(hash, 1), bytes),
                Value::Sequence(next) => chain(chain(hash, 2), *next),
                Value::Lock(lock) => chain_bytes(chain(chain(hash, 3), lock.token), &lock.owner),
            };
        }
        assert_eq!(in_order(keys), alive, "keyspace: its indices hold the same keys");
        hash
    })
}

/// Keys of all slots, which must be in order.
fn in_order(keys: &Keyspace) -> usize {
    use std::ops::Bound::Unbounded;
    let of_slot = |odd| {
        let names = keys.range(slot(odd), Unbounded, Unbounded).map(|record| &record.key);
        let names: Vec<_> = names.collect();
        assert!(names.is_sorted(), "keyspace: the keys of a slot are in order");
        names.len()
    };
    of_slot(false) + of_slot(true)
}

/// Bytes of a header.
pub(crate) const HEADER: usize = 32;

/// What a snapshot says of itself.
pub(crate) fn header(image: &Image) -> [u8; HEADER] {
    let words = [image.last.index.0, image.last.term.0, image.state, image.keys];
    let mut bytes = [0; HEADER];
    let slots = bytes.chunks_exact_mut(8);
    slots.zip(words).for_each(|(slot, word)| slot.copy_from_slice(&word.to_le_bytes()));
    bytes
}

pub(crate) fn read_header(bytes: &[u8; HEADER]) -> Image {
    let word = |at: usize| {
        u64::from_le_bytes(*bytes[8 * at..].first_chunk().expect("a header has four words"))
    };
    let last = LogPosition { index: LogIndex(word(0)), term: Term(word(1)) };
    Image::new(last, word(2), word(3))
}

/// A snapshot, given out piece by piece.
pub(crate) struct Pieces {
    header: Option<[u8; HEADER]>,
    keys: Box<dyn SnapshotSource>,
    fuse: Fuse,
    given: u64,
}

impl Pieces {
    /// Of a group that is founded; nothing goes wrong with it.
    pub(crate) fn of(image: &Image) -> Self {
        let seed = image.founded.expect("only what was drawn is founded");
        let (mut machine, _) = founded_machine(seed);
        let keys = machine.snapshot().expect("the store gives snapshots");
        Self::with(image, keys, Fuse::default())
    }

    pub(crate) fn with(image: &Image, keys: Box<dyn SnapshotSource>, fuse: Fuse) -> Self {
        Self { header: Some(header(image)), keys, fuse, given: 0 }
    }
}

impl SnapshotSource for Pieces {
    fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>, MachineError> {
        assert!(max_bytes >= HEADER, "no run has smaller chunks");
        self.given += 1;
        self.fuse.burn_in_snapshot(self.given.is_multiple_of(2))?;
        match self.header.take() {
            Some(header) => Ok(Some(Bytes::copy_from_slice(&header))),
            None => self.keys.next_chunk(max_bytes),
        }
    }
}
