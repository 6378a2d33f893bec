//! `ringleader`: the operator's tool.
//!
//! | module | what it does |
//! |---|---|
//! | `log` | reads the logs of a node that does not run |
//! | `node` | talks to a running node, over its admin socket |
//! | `survey` | compares what several nodes have |
//! | `members` | members in words |
//! | `failure` | errors and exit codes |

mod failure;
mod log;
mod members;
mod node;
mod survey;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or it was so already, and nothing is wrong
  1  a log is damaged
  2  usage
  3  nobody could be asked: no such directory, not readable, in use, not answering, stopped
  4  refused, with the reason: nothing has changed
  5  UNKNOWN: it may have happened or may yet; look before you ask again
  6  this node does not lead the group, and a leader is needed; the message says who does

Why is said on standard error: in words, or with --json as one line with the object
  {\"error\": {\"code\", \"message\", \"effect\": \"none\" or \"unknown\", \"leader\" if known}, \"exit_code\"}";

/// Looks at Ringleader's nodes and their logs, and changes groups.
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
    /// Compare what several nodes have of their groups, to choose the one to go on with
    #[command(after_help = EXIT_CODES)]
    Survey(survey::Survey),
    #[command(flatten)]
    Node(node::Command),
}

fn main() -> ExitCode {
    let Cli { json, command } = Cli::parse();
    let done = match command {
        Command::Log(command) => log::run(&command, json),
        Command::Survey(survey) => survey::run(&survey, json),
        Command::Node(command) => node::run(&command, json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}
