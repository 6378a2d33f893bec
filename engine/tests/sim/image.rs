//! The snapshot of a machine with registers: its state as bytes, cut into chunks of any size, with
//! ballast that only this state can have.

use std::collections::BTreeMap;

use bytes::Bytes;
use ringleader::{LogIndex, LogPosition, MachineError, SnapshotSource, Term};

use crate::linearizability::register::Value;
use crate::machine::{Input, Output};
use crate::panics::Fuse;
use crate::rng::{Rng, mix};

/// Most words of ballast.
const BALLAST: u64 = 400;

/// Everything that a state machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    /// The last operation that was applied.
    pub(crate) last: LogPosition,
    pub(crate) state: u64,
    pub(crate) registers: BTreeMap<u8, Value>,
}

impl Image {
    /// Something that a group may begin with, as if it were the effect of the entry `last`.
    pub(crate) fn draw(rng: &mut Rng, last: LogPosition) -> Self {
        let drawn = [0, 1, 2, 3, 4].map(|key| (key, rng.next()));
        // A register of zero is one that holds nothing.
        let registers: BTreeMap<u8, u64> = drawn.into_iter().filter(|of| of.1 % 2 == 1).collect();
        Self { last, state: rng.next(), registers }
    }

    /// The operation whose effect the register's content could be, and its answer; none if that is
    /// nothing.
    pub(crate) fn origin(&self, object: u8) -> Option<(Input, Output)> {
        self.registers.get(&object).map(|value| (Input::Put(*value), Output::Done))
    }

    fn words(&self) -> Vec<u64> {
        let mut words = vec![self.last.index.0, self.last.term.0, self.state];
        words.push(self.registers.len() as u64);
        words.extend(self.registers.iter().flat_map(|(key, value)| [u64::from(*key), *value]));
        words.extend((0..self.state % BALLAST).map(|at| mix(self.state ^ at)));
        words
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        self.words().into_iter().flat_map(u64::to_le_bytes).collect()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, MachineError> {
        let words: Vec<u64> =
            bytes.chunks(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes)).collect();
        let image = Self::parse(&words).ok_or_else(|| MachineError("too short".into()))?;
        let whole = image.words() == words;
        if whole { Ok(image) } else { Err(MachineError("not what was written".into())) }
    }

    fn parse(words: &[u64]) -> Option<Self> {
        let (&[index, term, state, count], rest) = words.split_first_chunk::<4>()?;
        let pairs = rest.get(..2 * usize::try_from(count).ok()?)?.chunks(2);
        let registers = pairs.map(|pair| (pair[0] as u8, pair[1])).collect();
        let last = LogPosition { index: LogIndex(index), term: Term(term) };
        Some(Self { last, state, registers })
    }
}

/// An image, given out piece by piece.
pub(crate) struct Pieces {
    rest: Bytes,
    /// The last one was empty.
    empty: bool,
    fuse: Fuse,
}

impl Pieces {
    /// All that nothing goes wrong with.
    pub(crate) fn of(image: &Image) -> Self {
        Self::with(image, Fuse::default())
    }

    pub(crate) fn with(image: &Image, fuse: Fuse) -> Self {
        Self { rest: image.encode().into(), empty: false, fuse }
    }
}

impl SnapshotSource for Pieces {
    fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>, MachineError> {
        self.fuse.burn_in_snapshot(mix(self.rest.len() as u64).is_multiple_of(2))?;
        if self.rest.is_empty() {
            return Ok(None);
        }
        // Of any size, and now and then of none.
        let most = max_bytes.min(self.rest.len()) as u64;
        let drawn = mix(self.rest.len() as u64) % (most + 1);
        let len = if drawn == 0 && self.empty { most } else { drawn };
        self.empty = len == 0;
        Ok(Some(self.rest.split_to(len as usize)))
    }
}
