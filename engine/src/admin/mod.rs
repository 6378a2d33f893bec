//! The operator's way in: a Unix socket in the data directory, `admin.sock`, which only the
//! process's user may open. The tool `ringleader` speaks it; so can anything that writes lines.
//!
//! One JSON object a line, in each direction, as many as the caller likes:
//!
//! ```text
//! -> {"version": 1, "command": "status"}
//! <- {"version": 1, "ok": {"node": 1, ...}}
//! -> {"version": 1, "command": "transfer", "args": {"group": "7", "to": 2}, "wait_seconds": 5}
//! <- {"version": 1, "error": {"code": "not-leader", "message": "...", "effect": "none",
//!                             "leader": {"node": 3, "address": "10.0.0.3:7000"}}}
//! ```
//!
//! Fields are added within a version; a version changes when one is taken away or means something
//! else.
//!
//! | command | args | what it is |
//! |---|---|---|
//! | `status`, `groups`, `peers`, `metrics`, `dump` | | what the node is and has counted |
//! | `add`, `learner`, `promote`, `demote`, `remove` | [`Nodes`] | other roles for some nodes |
//! | `change` | [`Members`] | these members and no others |
//! | `transfer` | [`Transfer`] | another leader |
//! | `rebalance` | [`Rebalance`] | leaders spread evenly; see [`Handle::rebalance`](crate::Handle::rebalance) |
//! | `snapshot` | [`Group`] | a snapshot on this node |
//! | `create`, `destroy` | [`Create`], [`Destroy`] | a group on this node, or none any more: **loses data** |
//! | `reset-peers` | [`ResetPeers`] | other members without a majority: **loses data** |
//! | `nodes`, `set-node`, `forget-node` | none, [`Node`], [`Forget`] | whom this node connects to |
//!
//! `peers` answers with `connections` (each with `alive`), `groups` (those that this node leads, each
//! with its `peers`) and `followed` (the others, each with its `members`); whoever is listed there has
//! `alive` too.
//!
//! A node carries out what it can itself: a change of a group or a transfer is the leader's to do,
//! and the others name it. Nothing is passed on to other nodes.

mod change;
mod existence;
mod look;
mod patience;
mod reset;
mod socket;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use ringleader_wal::{GroupId, NodeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::handle::Handle;
use crate::report::Report;

pub(crate) use socket::Admin;

/// The socket's name in the data directory.
pub const SOCKET: &str = "admin.sock";

/// The protocol's version.
pub const VERSION: u32 = 1;

/// How long a request is waited for if it does not say, in seconds.
pub const WAIT_SECONDS: u64 = 60;

/// The longest wait that a request may ask for, in seconds.
const MAX_WAIT_SECONDS: u64 = 24 * 3600;

/// What a caller asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// A command's name.
    pub command: String,
    /// What it is about; the table above says which.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub args: Value,
    /// How long the node waits for the outcome of what it was asked for, in seconds; by default
    /// [`WAIT_SECONDS`]. What has not ended by then goes on, and its outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u64>,
}

/// A group, and nodes that are to have another role in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Nodes {
    /// The group.
    pub group: GroupId,
    /// The nodes.
    pub nodes: Vec<NodeId>,
}

/// A group, and who its members are to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Members {
    /// The group.
    pub group: GroupId,
    /// Its voters.
    pub voters: Vec<NodeId>,
    /// Its learners.
    #[serde(default)]
    pub learners: Vec<NodeId>,
}

/// A group, and who is to lead it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// The group.
    pub group: GroupId,
    /// The new leader; without it, the voter that can take over the soonest.
    #[serde(default)]
    pub to: Option<NodeId>,
}

/// A group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    /// The group.
    pub group: GroupId,
}

/// How to spread leaders.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rebalance {
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// A group that this node is to have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Create {
    /// The group.
    pub group: GroupId,
    /// The voters that it begins with, the node that is asked among them; none on a node that is
    /// to be added to it.
    #[serde(default)]
    pub voters: Vec<NodeId>,
}

/// A group that this node is not to have any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Destroy {
    /// The group.
    pub group: GroupId,
    /// Also when this node is a member of it.
    #[serde(default)]
    pub accept_data_loss: bool,
}

/// Members to go on with where a majority is lost; see
/// [`Handle::reset_peers`](crate::Handle::reset_peers).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResetPeers {
    /// The group.
    pub group: GroupId,
    /// Its voters, the node that is asked among them.
    pub voters: Vec<NodeId>,
    /// Its learners.
    #[serde(default)]
    pub learners: Vec<NodeId>,
    /// Do it. Without this, the node only says what it would come to.
    #[serde(default)]
    pub accept_data_loss: bool,
}

/// A node of the cluster and where it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// The node.
    pub node: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
    /// How many shards it has.
    pub shards: u32,
}

/// A node that this one is not to know any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Forget {
    /// The node.
    pub node: NodeId,
}

/// What it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Response {
    /// [`VERSION`].
    pub version: u32,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// See [`Response`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done; the command says what this is.
    Ok(Value),
    /// It was not, or that is unknown.
    Error(Refusal),
}

/// Why something was not done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs. Of the request itself: `malformed`, `version`, `unknown-command`, `arguments`,
    /// `busy`, `stopped`. Of what was asked for: `not-leader`, `unknown-group`, `unknown-node`,
    /// `in-progress`, `not-ready`, `transferring`, `impossible`, `too-slow`, `no-space`,
    /// `storage-failed`, `has-leader`, `exists`, `destroyed`, `member`, `refused`, `not-taken`, `elected`, `unsupported`, `failed`, `unknown`.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether it may have happened all the same.
    #[serde(default)]
    pub effect: Effect,
    /// With `not-leader` and `has-leader`: whom to ask instead, if this node knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Leader>,
}

/// Whether a request that was not answered with success may have taken effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It has not and will not.
    #[default]
    None,
    /// It may have, or may yet.
    Unknown,
}

/// A group's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// The node.
    pub node: NodeId,
    /// Where other nodes reach it, if this one knows.
    pub address: Option<SocketAddr>,
}

impl Refusal {
    fn new(code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self { code, message, effect: Effect::None, leader: None }
    }

    fn unknown(code: &str, message: impl Into<String>) -> Self {
        Self { effect: Effect::Unknown, ..Self::new(code, message) }
    }
}

/// A request that is carried out.
struct Call<'a> {
    handle: &'a Handle,
    args: &'a Value,
    deadline: Instant,
}

type Command = (&'static str, fn(&Call<'_>) -> Result<Value, Refusal>);

const COMMANDS: &[Command] = &[
    ("status", look::status),
    ("groups", look::groups),
    ("peers", look::peers),
    ("metrics", look::metrics),
    ("dump", look::dump),
    ("add", change::add),
    ("learner", change::learner),
    ("promote", change::promote),
    ("demote", change::demote),
    ("remove", change::remove),
    ("change", change::change),
    ("transfer", change::transfer),
    ("rebalance", change::rebalance),
    ("snapshot", change::snapshot),
    ("create", existence::create),
    ("destroy", existence::destroy),
    ("reset-peers", reset::reset_peers),
    ("nodes", change::nodes),
    ("set-node", change::set_node),
    ("forget-node", change::forget_node),
];

impl Call<'_> {
    fn report(&self) -> Result<Report, Refusal> {
        block_on(self.handle.report()).map_err(|error| Refusal::new("stopped", error.to_string()))
    }

    fn args<A: DeserializeOwned>(&self) -> Result<A, Refusal> {
        A::deserialize(self.args).map_err(|error| Refusal::new("arguments", error.to_string()))
    }

    /// The future's result, or that it is unknown.
    fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Refusal> {
        patience::block_until(self.deadline, future)
            .ok_or_else(|| Refusal::unknown("unknown", "it has not ended yet, and goes on"))
    }

    /// With whom to try instead.
    fn not_leader(&self, leader: Option<NodeId>) -> Refusal {
        let leader = leader.map(|node| {
            let members = self.handle.members();
            let member = members.iter().find(|member| member.node == node);
            Leader { node, address: member.map(|member| member.address) }
        });
        let message = match leader {
            None => "this node does not lead the group, and knows of no leader".into(),
            Some(Leader { node, address: None }) => {
                format!("this node does not lead the group: node {node} does; ask there")
            }
            Some(Leader { node, address: Some(address) }) => {
                format!(
                    "this node does not lead the group: node {node} at {address} does; ask there"
                )
            }
        };
        Refusal { leader, ..Refusal::new("not-leader", message) }
    }
}

fn answer(line: &[u8], handle: &Handle) -> Result<Value, Refusal> {
    let request: Request = serde_json::from_slice(line)
        .map_err(|error| Refusal::new("malformed", error.to_string()))?;
    if request.version != VERSION {
        let message = format!("this node speaks version {VERSION}, not {}", request.version);
        return Err(Refusal::new("version", message));
    }
    let known = COMMANDS.iter().find(|(name, _)| *name == request.command);
    let Some((_, run)) = known else {
        let names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
        let message = format!("no command {:?}; there are {}", request.command, names.join(", "));
        return Err(Refusal::new("unknown-command", message));
    };
    let wait = request.wait_seconds.unwrap_or(WAIT_SECONDS).min(MAX_WAIT_SECONDS);
    let deadline = Instant::now() + Duration::from_secs(wait);
    run(&Call { handle, args: &request.args, deadline })
}
