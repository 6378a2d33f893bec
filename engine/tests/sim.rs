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
//! | `clients`, `callers`, `machine` | callers, their operations, and the registers these are for |
//! | `image`, `stores` | the registers' snapshot, and what is kept of them on stable storage |
//! | `founding` | groups that begin with a state |
//! | `panics` | state machines that panic |
//! | `resets`, `eras` | groups that lose their majority, and what stays of them |
//! | `checker`, `messages`, `rounds`, `history`, `line` | what must hold after every step |
//! | `streams` | what of a log each peer was sent |
//! | `audit`, `records`, `outcome` | what must hold of the disks, of what is written, and at the end |
//! | `runner`, `options`, `shrink`, `trace`, `traces` | runs, reports, and the way to a failure |

use std::process::ExitCode;

// The codec is private to the engine; the checker reads with it what a node says. Its paths find
// the protocol here as they do there.
use ringleader::raft;

#[path = "sim/addresses.rs"]
mod addresses;
#[path = "sim/atlas.rs"]
mod atlas;
#[path = "sim/callers.rs"]
mod callers;
#[path = "sim/checker.rs"]
mod checker;
#[path = "sim/clients.rs"]
mod clients;
#[path = "sim/clock.rs"]
mod clock;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a copy of a library module, of which the decoder is used"
)]
#[path = "../src/codec.rs"]
mod codec;
#[path = "sim/damage.rs"]
mod damage;
#[path = "sim/disk.rs"]
mod disk;
#[path = "sim/disk_faults.rs"]
mod disk_faults;
#[path = "sim/disturbed.rs"]
mod disturbed;
#[path = "sim/effects.rs"]
mod effects;
#[path = "sim/existence.rs"]
mod existence;
#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/file.rs"]
mod file;
#[path = "sim/founding.rs"]
mod founding;
#[path = "sim/history.rs"]
mod history;
#[path = "sim/image.rs"]
mod image;
#[path = "sim/inputs.rs"]
mod inputs;
#[path = "sim/line.rs"]
mod line;
mod linearizability;
#[path = "sim/links.rs"]
mod links;
#[path = "sim/log_reads.rs"]
mod log_reads;
#[path = "sim/machine.rs"]
mod machine;
#[path = "sim/members.rs"]
mod members;
#[path = "sim/mishaps.rs"]
mod mishaps;
#[path = "sim/net_faults.rs"]
mod net_faults;
#[path = "sim/network.rs"]
mod network;
#[path = "sim/operator.rs"]
mod operator;
#[path = "sim/options.rs"]
mod options;
#[path = "sim/panics.rs"]
mod panics;
#[path = "sim/peace.rs"]
mod peace;
#[path = "sim/peers.rs"]
mod peers;
#[path = "sim/plan.rs"]
mod plan;
#[path = "sim/prevotes.rs"]
mod prevotes;
#[path = "sim/process.rs"]
mod process;
#[path = "sim/queue.rs"]
mod queue;
#[path = "sim/reads.rs"]
mod reads;
#[path = "sim/records.rs"]
mod records;
#[path = "sim/resets.rs"]
mod resets;
#[path = "sim/resting.rs"]
mod resting;
#[path = "sim/rng.rs"]
mod rng;
#[path = "sim/runner.rs"]
mod runner;
#[path = "sim/schedule.rs"]
mod schedule;
#[path = "sim/seats.rs"]
mod seats;
#[path = "sim/shrink.rs"]
mod shrink;
#[path = "sim/standing_in.rs"]
mod standing_in;
#[path = "sim/stores.rs"]
mod stores;
#[path = "sim/trace.rs"]
mod trace;
#[path = "sim/traces.rs"]
mod traces;
#[path = "sim/transfers.rs"]
mod transfers;
#[path = "sim/world.rs"]
mod world;

use options::{Job, Options};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    runner::catch_violations();
    match &options.job {
        Job::List => {
            println!("sim: test");
            ExitCode::SUCCESS
        }
        Job::Nothing => {
            println!("0 passed, 0 failed");
            ExitCode::SUCCESS
        }
        Job::Hashes => {
            traces::print();
            ExitCode::SUCCESS
        }
        Job::One { seed, lines, part } => runner::replay(*seed, *lines, part, &options),
        Job::Many { start, count } => runner::run_many(*start, *count, &options),
    }
}
