//! The simulator's only source of randomness: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).

/// A stream of numbers that follows from its seed alone, the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

/// One million: [`Rng::chance`] counts in parts of it.
pub(crate) const SURE: u32 = 1_000_000;

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Self(seed);
        // Neighbouring seeds are neighbouring states: one step tears them apart.
        Self(rng.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A stream of its own, so that one more draw in one place does not change all others.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A number from `low` to `high`, each order of magnitude as likely as the others.
    pub(crate) fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        let octaves = u64::from((high / low.max(1)).max(1).ilog2()) + 1;
        let floor = low << self.below(octaves);
        self.between(floor.min(high), (floor * 2).min(high))
    }

    /// True in `ppm` of a million cases.
    pub(crate) fn chance(&mut self, ppm: u32) -> bool {
        self.below(u64::from(SURE)) < u64::from(ppm)
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// Spreads every bit of `z` over the whole result.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Continues a hash with one more number.
pub(crate) fn chain(hash: u64, next: u64) -> u64 {
    mix(hash.rotate_left(7) ^ mix(next.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// Continues a hash with bytes.
pub(crate) fn chain_bytes(hash: u64, bytes: &[u8]) -> u64 {
    let start = chain(hash, bytes.len() as u64);
    bytes.chunks(8).fold(start, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        chain(hash, u64::from_le_bytes(word))
    })
}
