//! `ringleader-bench`: replicates operations on a cluster of processes and says how fast, at what
//! cost, and whether all of it was true.
//!
//! # How a run goes
//! `cluster` is the orchestrator. It measures the `floor` of the machine (also a command of its
//! own), starts the nodes as `children` of its own (`node`: an engine each), and speaks JSON lines
//! with them (`control`). When the groups have leaders, the load begins: in the leaders' processes
//! (`embedded`), or from a process of its own (`generator`, over `wire` between `remote_client` and
//! `remote_server`). `load` is the same for both; it keeps account of every operation in a `ledger`.
//! `measure` watches it, `verify` compares its account with every replica's (`machine_state`), and
//! `report` prints what came out.
//!
//! `failover` kills and halts leaders instead, of `nodes` that come and go, under a `steady` load;
//! `snapshot` takes snapshots (`image`), and has followers catch up, under the same; `followers` halts
//! them, slows them down and starts them again. `idle` looks at
//! nodes that have nothing to do. `compare` runs other engines (`bench/peers`) under the same
//! load, and `tune` this one with other settings. `page` makes a page of charts from the results.

mod args;
mod children;
mod clock;
mod cluster;
mod compare;
mod control;
mod cpu;
mod data_dir;
mod disk;
mod embedded;
mod failover;
mod floor;
mod followers;
mod generator;
mod histogram;
mod idle;
mod image;
mod latency;
mod ledger;
mod load;
mod machine;
mod machine_state;
mod measure;
mod node;
mod nodes;
mod page;
mod remote_client;
mod remote_server;
mod report;
mod signals;
mod snapshot;
mod steady;
mod tune;
mod tuning;
mod verify;
mod wire;
mod worker;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, error::ErrorKind};

use crate::args::{Cli, ClusterArgs, Command};
use crate::report::RunReport;
use crate::signals::Interrupted;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => run_cluster(&cli.cluster),
        Some(Command::Cluster(args)) => run_cluster(&args),
        Some(Command::Failover(args)) => show(args.steady.output.json(), || failover::run(&args)),
        Some(Command::Followers(args)) => show(args.steady.output.json(), || followers::run(&args)),
        Some(Command::Snapshot(args)) => show(args.steady.output.json(), || snapshot::run(&args)),
        Some(Command::Idle(args)) => show(args.json.as_deref(), || idle::run(&args)),
        Some(Command::Compare(args)) => show(args.output.json(), || compare::run(&args)),
        Some(Command::Floor(args)) => show(args.output.json(), || floor::measure_whole(&args)),
        Some(Command::Tune(args)) => show(args.output.json(), || tune::run(&args)),
        Some(Command::Report(args)) => page::run(&args),
        Some(Command::Node) => child(node::run),
        Some(Command::Generator) => child(generator::run),
        Some(Command::NullRaft) => child(floor::run_null_raft),
        Some(Command::FloorWriter) => child(floor::run_writer),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Interrupted>() { 130 } else { 1 })
        }
    }
}

fn run_cluster(args: &ClusterArgs) -> anyhow::Result<bool> {
    if let Err(message) = args.check() {
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    show(args.json.as_deref(), || cluster::run(args))
}

/// Runs a benchmark and tells its result.
fn show<R: RunReport>(
    json_to: Option<&Path>,
    run: impl FnOnce() -> anyhow::Result<R>,
) -> anyhow::Result<bool> {
    if cfg!(debug_assertions) {
        eprintln!("note: this is a debug build; its numbers say little");
    }
    signals::install();
    tell(json_to, &run()?)
}

/// Writes a result to where it was asked for, and says whether all went well. Standard output belongs
/// to the JSON object if that is wanted there, and to the table otherwise.
fn tell(json_to: Option<&Path>, report: &impl RunReport) -> anyhow::Result<bool> {
    let (table, json) = (report.table(), report.json());
    let mut stdout = std::io::stdout();
    if json_to.is_some_and(|path| path.as_os_str() == "-") {
        eprint!("{table}");
        stdout.write_all(json.as_bytes())?;
    } else {
        stdout.write_all(table.as_bytes())?;
        if let Some(path) = json_to {
            let written = std::fs::write(path, json);
            written.with_context(|| format!("writing {}", path.display()))?;
        }
    }
    stdout.flush()?;
    Ok(report.passed())
}

/// Runs a child process's part. Standard output is the orchestrator's; events go to standard error.
fn child(run: fn() -> anyhow::Result<()>) -> anyhow::Result<bool> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let events = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    events.with_writer(std::io::stderr).init();
    run()?;
    Ok(true)
}
