//! Commands to a running node, over the admin socket in its data directory.
//!
//! | module | what it does |
//! |---|---|
//! | `ask` | one request and its answer |
//! | `look` | shows what a node says of itself |
//! | `act` | commands that change something, and what came of them |

mod act;
mod ask;
mod look;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Node {
    /// The node's data directory
    #[arg(long, short, value_name = "DIR", env = "RINGLEADER_DATA_DIR")]
    data_dir: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Say whether a running node is well: its shards, connections, groups without a leader
    Status(Node),
    /// List a running node's groups: role, term, leader, indices
    Groups(Node),
    /// List what a running node knows of its peers: connections, who is alive, and the progress in
    /// groups that it leads
    Peers(Node),
    /// Show what a running node has counted and measured
    Metrics(Node),
    /// Show everything about a running node, for a problem report
    Dump(Node),
    #[command(flatten)]
    Act(act::Command),
}

/// What the node whose data directory this is says to a command that changes nothing.
pub(crate) fn ask_at(dir: &Path, command: &str) -> Result<Value, Failure> {
    ask::look(&Node { data_dir: dir.into() }, command)
}

/// How a command's answer is shown to people.
type Show = fn(&Value) -> Result<String, serde_json::Error>;

pub(crate) fn run(command: &Command, json: bool) -> Result<(), Failure> {
    let (node, name, show): (&Node, &str, Show) = match command {
        Command::Status(node) => (node, "status", look::status),
        Command::Groups(node) => (node, "groups", look::groups),
        Command::Peers(node) => (node, "peers", look::peers),
        Command::Metrics(node) => (node, "metrics", look::metrics),
        Command::Dump(node) => (node, "dump", look::dump),
        Command::Act(command) => return act::run(command, json),
    };
    let value = ask::look(node, name)?;
    print(node, &value, json, show)
}

fn print(node: &Node, value: &Value, json: bool, show: Show) -> Result<(), Failure> {
    let text = if json {
        format!("{value:#}\n")
    } else {
        show(value).map_err(|error| ask::nonsense(node, &error))?
    };
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(Failure::Output)
}

/// A value's text, without quotation marks.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
