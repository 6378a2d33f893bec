//! The key-value store's state machine in the engine's simulator: the production code of
//! `examples/src/kv`, but for its server, on whole clusters in one thread, with simulated disks,
//! networks and clocks. `engine/tests/sim/README.md` says what is simulated, how to run it, and how to
//! read a failure; its section on subjects says what is checked here.
//!
//! ```text
//! cargo test -p ringleader-examples --test sim                                    a fixed set of seeds
//! cargo test --release -p ringleader-examples --test sim -- --seeds N --start S   N seeds from S
//! cargo test --release -p ringleader-examples --test sim -- --seed X [--trace]    one, readably
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `machine` | the store's machine with what the simulator wants of it beside, and the wall clocks |
//! | `image` | the store's state as a hash, and the snapshot that says what it must come to |
//! | `command` | what callers ask for, and how that is written as the store's operations |
//! | `wishes` | what they ask for next |
//! | `answer` | what they are told |
//! | `model` | what the store should do, written anew |
//! | `fences` | what must hold of locks and sequences, whatever the model says |

use std::process::ExitCode;

// The codec is private to the engine; its paths find the protocol here as they do there.
use ringleader::raft;

#[path = "../../engine/tests/sim/mod.rs"]
mod simulator;
use simulator::*;

#[path = "sim/answer.rs"]
mod answer;
#[path = "sim/command.rs"]
mod command;
#[path = "sim/fences.rs"]
mod fences;
#[path = "sim/fixed.rs"]
mod fixed;
#[path = "sim/image.rs"]
mod image;
#[allow(dead_code, reason = "its registers are another subject's")]
#[path = "../../engine/tests/linearizability/mod.rs"]
mod linearizability;
#[path = "sim/machine.rs"]
mod machine;
#[path = "sim/model.rs"]
mod model;
#[path = "sim/wishes.rs"]
mod wishes;

fn main() -> ExitCode {
    runner::main()
}
