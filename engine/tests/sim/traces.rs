//! The same seed gives the same trace: twice in one process, in either profile, on any machine.

use crate::fixed::{self, KNOWN};
use crate::runner::run;
use crate::schedule::Part;
use crate::trace::Lines;
use crate::world::Summary;

fn hash(seed: u64, lines: Lines) -> Option<u64> {
    Some(run(seed, lines, &Part::default()).ok()?.hash)
}

pub(crate) fn print() {
    for &(seed, _) in KNOWN {
        match hash(seed, Lines::Off) {
            Some(hash) => println!("    ({seed}, 0x{hash:016x}),"),
            None => println!("    seed {seed} fails"),
        }
    }
}

/// Seeds that passed are run again, once watched and once not, and compared with what is known.
pub(crate) fn are_known(passed: &[Summary]) -> bool {
    let mut alike = true;
    for &(seed, known) in KNOWN {
        let (first, second) = (hash(seed, Lines::Off), hash(seed, Lines::Keep));
        let again =
            first == second && first.is_some_and(|hash| passed.iter().any(|s| s.hash == hash));
        if !again {
            println!("seed {seed} does not do the same twice: {first:x?}, {second:x?}");
        } else if first != Some(known) {
            println!("seed {seed} has another trace than the one in {}", fixed::FILE);
        }
        alike &= again && first == Some(known);
    }
    if !alike {
        println!("new hashes: {} --hashes", fixed::COMMAND);
    }
    alike
}
