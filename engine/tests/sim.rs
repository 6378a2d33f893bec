//! Seeded simulation of whole clusters: one to five nodes of one to three shards, each the
//! production shard with its protocol, log and codec, in one thread on simulated disks, network and
//! clocks. `sim/README.md` says what is simulated and what is not, how to read a failure, and how to
//! add a fault or an invariant.
//!
//! ```text
//! cargo test -p ringleader --test sim                                    a fixed set of seeds
//! cargo test --release -p ringleader --test sim -- --seeds N --start S   N seeds from S, all cores
//! cargo test --release -p ringleader --test sim -- --seed X [--trace]    one, readably
//! cargo test --release -p ringleader --test sim -- --hashes              hashes of known traces
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `plan`, `schedule` | what a seed decides beforehand: cluster, settings, rates; faults and calls |
//! | `world`, `queue`, `peace` | the queue of events; a run from trouble to peace, and what peace is |
//! | `seats`, `process`, `inputs`, `effects` | nodes and their shards, driven as the runtime drives them |
//! | `disk`, `file`, `disk_faults`, `damage`, `atlas` | disks, and what they do to what they hold |
//! | `network`, `links`, `net_faults` | connections made of bytes, and what happens to them |
//! | `peers`, `addresses` | which nodes a node knows and lets in, and where it looks for them |
//! | `clock` | clocks at speeds of their own, late ticks, processes that stand still |
//! | `faults` | which faults there are, and how each comes about |
//! | `mishaps` | faults that wait for the moment at which they tell most |
//! | `operator`, `transfers`, `log_reads`, `existence` | what the operator does, and what it is told |
//! | `clients`, `callers`, `applied`, `offices` | callers, their operations, and what machines are told |
//! | `machine`, `wishes`, `image` | registers: the state machine, what is asked of it, its snapshot |
//! | `stores` | what state machines keep on stable storage |
//! | `founding` | groups that begin with a state |
//! | `panics` | state machines that panic |
//! | `resets`, `eras` | groups that lose their majority, and what stays of them |
//! | `checker`, `messages`, `rounds`, `history`, `line` | what must hold after every step |
//! | `streams` | what of a log each peer was sent |
//! | `audit`, `records`, `outcome` | what must hold of the disks, of what is written, and at the end |
//! | `runner`, `options`, `shrink`, `trace`, `traces` | runs, reports, and the way to a failure |
//! | `fixed` | the fixed set of seeds |
//!
//! Registers are one *subject*; `examples/tests/sim.rs` has the key-value store in their place.

use std::process::ExitCode;

// The codec is private to the engine; the checker reads with it what a node says. Its paths find
// the protocol here as they do there.
use ringleader::raft;

#[path = "sim/mod.rs"]
mod simulator;
use simulator::*;

#[path = "sim/fixed.rs"]
mod fixed;
#[path = "sim/image.rs"]
mod image;
mod linearizability;
#[path = "sim/machine.rs"]
mod machine;
#[path = "sim/wishes.rs"]
mod wishes;

fn main() -> ExitCode {
    runner::main()
}
