//! `ringleader`: the operator's tool.
//!
//! | module | what it does |
//! |---|---|
//! | `log` | reads the logs of a node that does not run |
//! | `node` | asks a running node, over its admin socket |
//! | `failure` | errors and exit codes |

mod failure;
mod log;
mod node;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, and nothing is wrong
  1  a log is damaged
  2  usage
  3  it could not be done: no such directory, not readable, in use, not answering";

/// Looks at Ringleader's nodes and their logs.
#[derive(Parser)]
#[command(name = "ringleader", version, after_help = EXIT_CODES)]
struct Cli {
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read the logs of a node that does not run; nothing is written
    #[command(subcommand, after_help = EXIT_CODES)]
    Log(log::Command),
    #[command(flatten)]
    Node(node::Command),
}

fn main() -> ExitCode {
    let Cli { json, command } = Cli::parse();
    let done = match command {
        Command::Log(command) => log::run(&command, json),
        Command::Node(command) => node::run(&command, json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
