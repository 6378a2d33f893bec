//! Commands to a running node, over the admin socket in its data directory.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ringleader::admin::{Outcome, Request, Response, SOCKET, VERSION};
use ringleader::report::{GroupReport, Table, group_table, peer_table};
use serde_json::Value;

use crate::failure::Failure;

/// A node that answers later is as good as not there.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// List what a running node knows of its peers: connections, and the progress in groups it leads
    Peers(Node),
    /// Show what a running node has counted and measured
    Metrics(Node),
    /// Show everything about a running node, for a problem report
    Dump(Node),
}

/// How a command's answer is shown to people.
type Show = fn(&Value) -> Result<String, serde_json::Error>;

pub(crate) fn run(command: &Command, json: bool) -> Result<(), Failure> {
    let (node, name, show): (&Node, &str, Show) = match command {
        Command::Status(node) => (node, "status", status),
        Command::Groups(node) => (node, "groups", groups),
        Command::Peers(node) => (node, "peers", peers),
        Command::Metrics(node) => (node, "metrics", metrics),
        Command::Dump(node) => (node, "dump", dump),
    };
    let path = node.data_dir.join(SOCKET);
    let nonsense = |cause: String| Failure::Nonsense { path: path.clone(), cause };
    let line = ask(&path, name)?;
    let response: Response =
        serde_json::from_str(&line).map_err(|error| nonsense(error.to_string()))?;
    let value = match response.outcome {
        Outcome::Ok(value) => value,
        Outcome::Error { code, message } => return Err(Failure::Refused { code, message }),
    };
    let text = if json {
        format!("{value:#}\n")
    } else {
        show(&value).map_err(|error| nonsense(error.to_string()))?
    };
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(Failure::Output)
}

fn ask(path: &PathBuf, command: &str) -> Result<String, Failure> {
    let failed = |cause| Failure::NoNode { path: path.clone(), cause };
    let mut stream = UnixStream::connect(path).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let request = Request { version: VERSION, command: command.to_owned() };
    let mut line = serde_json::to_string(&request).expect("a request is JSON");
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(failed)?;
    Ok(answer)
}

/// A value's text, without quotation marks.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn status(value: &Value) -> Result<String, serde_json::Error> {
    let field = |name: &str| plain(&value[name]);
    let mut text = format!(
        "node {} of cluster {}, ringleader {}, up {} s\n{} groups: leads {}, {} without a leader\n",
        field("node"),
        field("cluster"),
        field("version"),
        field("uptime_seconds"),
        field("groups"),
        field("leads"),
        field("leaderless")
    );
    let mut table = Table::new(&["shard", "state", "groups", "connected", "space"]);
    for shard in value["shards"].as_array().into_iter().flatten() {
        let cause = shard["health"]["cause"].as_str().map(|cause| format!(": {cause}"));
        table.row([
            plain(&shard["shard"]),
            plain(&shard["health"]["state"]) + &cause.unwrap_or_default(),
            plain(&shard["groups"]),
            format!("{} of {}", shard["connected"], shard["connections"]),
            if shard["has_space"] == true { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    let _ = write!(text, "\n{table}");
    Ok(text)
}

fn groups(value: &Value) -> Result<String, serde_json::Error> {
    let groups: Vec<GroupReport> = serde_json::from_value(value.clone())?;
    Ok(group_table(&groups).to_string())
}

fn peers(value: &Value) -> Result<String, serde_json::Error> {
    let mut table = Table::new(&["shard", "peer", "peer shard", "state", "connections", "outbox"]);
    for shard in value["connections"].as_array().into_iter().flatten() {
        for link in shard["links"].as_array().into_iter().flatten() {
            table.row([
                plain(&shard["shard"]),
                plain(&link["node"]),
                plain(&link["shard"]),
                if link["connected"] == true { "up" } else { "DOWN" }.to_owned(),
                plain(&link["connections"]),
                plain(&link["outbox_bytes"]),
            ]);
        }
    }
    let groups: Vec<GroupReport> = serde_json::from_value(value["groups"].clone())?;
    Ok(format!("connections\n{table}\npeers of led groups\n{}", peer_table(&groups)))
}

/// Every number with the path to it.
fn metrics(value: &Value) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    for shard in value.as_array().into_iter().flatten() {
        flatten(&mut text, &format!("shard {}", shard["shard"]), shard);
    }
    Ok(text)
}

fn flatten(text: &mut String, path: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| flatten(text, &format!("{path} {name}"), value));
        }
        Value::Array(values) => {
            let numbered = values.iter().enumerate();
            numbered.for_each(|(at, value)| flatten(text, &format!("{path} {at}"), value));
        }
        _ => {
            let _ = writeln!(text, "{path} {}", plain(value));
        }
    }
}

fn dump(value: &Value) -> Result<String, serde_json::Error> {
    Ok(plain(&value["text"]))
}
