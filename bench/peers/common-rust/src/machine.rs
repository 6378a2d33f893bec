//! The state machine that all peers have: it counts operations and hashes their numbers.

use std::sync::Mutex;

/// One group's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Machine {
    count: u64,
    hash: u64,
}

impl Machine {
    fn apply(&mut self, number: u64) {
        self.count += 1;
        self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// Those of all groups, which count from 0 here.
#[derive(Debug)]
pub struct Machines(Vec<Mutex<Machine>>);

impl Machines {
    pub(crate) fn new(groups: usize) -> Self {
        Self((0..groups).map(|_| Mutex::default()).collect())
    }

    /// Applies operations of a group, in the order of its log.
    ///
    /// # Panics
    /// When an operation is shorter than a number: the log isn't ours.
    pub fn apply<'a>(&self, group: usize, payloads: impl Iterator<Item = &'a [u8]>) {
        let mut machine = self.0[group].lock().expect("a panic ends the process");
        for payload in payloads {
            let number = payload.first_chunk().expect("an operation begins with its number");
            machine.apply(u64::from_le_bytes(*number));
        }
    }

    /// The count and the combined hash of all groups.
    pub(crate) fn total(&self) -> (u64, u64) {
        let mut total = (0, 0);
        for (group, machine) in (1..).zip(&self.0) {
            let machine = *machine.lock().expect("a panic ends the process");
            total.0 += machine.count;
            total.1 ^= machine.hash.rotate_left(group % 64);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::Machines;

    #[test]
    fn hashes_as_the_contract_says() {
        let machines = Machines::new(2);
        let number = 5_u64.to_le_bytes();
        machines.apply(1, [&number[..], &number[..]].into_iter());
        let once = 5_u64.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let twice = (once.rotate_left(5) ^ 5).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        assert_eq!(machines.total(), (2, twice.rotate_left(2)));
    }
}
