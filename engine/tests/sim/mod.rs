//! The simulator, but for what callers ask for: the state machine with its operations, answers and
//! model is the *subject*, and belongs to the test that includes this.
//!
//! | module of the subject | what it holds |
//! |---|---|
//! | `machine` | the state machine, its operations as they stand in the log, their model |
//! | `image` | what a machine is at one moment |
//! | `wishes` | what callers ask for next |
//! | `fixed` | the seeds of a plain run, their traces, and what must come about in them |
//!
//! The subject of `engine/tests/sim.rs` are registers, that of `examples/tests/sim.rs` is the
//! key-value store. Each is compiled together with the simulator: the one costs the other nothing.

pub(crate) mod addresses;
pub(crate) mod applied;
pub(crate) mod atlas;
pub(crate) mod callers;
pub(crate) mod checker;
pub(crate) mod clients;
pub(crate) mod clock;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a copy of a library module, of which the decoder is used"
)]
#[path = "../../src/codec.rs"]
pub(crate) mod codec;
pub(crate) mod damage;
pub(crate) mod disk;
pub(crate) mod disk_faults;
pub(crate) mod disturbed;
pub(crate) mod effects;
pub(crate) mod existence;
pub(crate) mod faults;
pub(crate) mod file;
pub(crate) mod founding;
pub(crate) mod history;
pub(crate) mod inputs;
pub(crate) mod line;
pub(crate) mod links;
pub(crate) mod log_reads;
pub(crate) mod members;
pub(crate) mod mishaps;
pub(crate) mod net_faults;
pub(crate) mod network;
pub(crate) mod offices;
pub(crate) mod operator;
pub(crate) mod options;
pub(crate) mod panics;
pub(crate) mod peace;
pub(crate) mod peers;
pub(crate) mod plan;
pub(crate) mod prevotes;
pub(crate) mod process;
pub(crate) mod queue;
pub(crate) mod reads;
pub(crate) mod records;
pub(crate) mod resets;
pub(crate) mod resting;
pub(crate) mod rng;
pub(crate) mod runner;
pub(crate) mod schedule;
pub(crate) mod seats;
pub(crate) mod shrink;
pub(crate) mod standing_in;
#[allow(dead_code, reason = "a subject need not keep its state itself")]
pub(crate) mod stores;
pub(crate) mod trace;
pub(crate) mod traces;
pub(crate) mod transfers;
pub(crate) mod world;
