//! Commands that change something, and what came of them.

use std::fmt::Write as _;
use std::net::SocketAddr;

use clap::{Args, Subcommand};
use ringleader::admin::{self, WAIT_SECONDS};
use ringleader::report::Table;
use ringleader::{Configuration, GroupId, NodeId};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Node, Show, ask, plain, print};
use crate::failure::Failure;
use crate::members::{list, who};

#[derive(Args)]
pub(crate) struct Target {
    #[command(flatten)]
    node: Node,
    /// How long to wait for the outcome; what has not ended by then goes on
    #[arg(long, value_name = "SECONDS", default_value_t = WAIT_SECONDS)]
    wait: u64,
}

#[derive(Args)]
pub(crate) struct OfGroup {
    #[command(flatten)]
    target: Target,
    /// The group: its number, or its name
    #[arg(value_parser = group)]
    group: GroupId,
}

#[derive(Args)]
pub(crate) struct Roles {
    #[command(flatten)]
    of: OfGroup,
    /// The nodes
    #[arg(value_name = "NODE", required = true, value_parser = node_id)]
    nodes: Vec<NodeId>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make nodes voters of a group, once they have caught up (ask the group's leader)
    Add(Roles),
    /// Make nodes learners of a group: they get the log and have no vote (ask the leader)
    Learner(Roles),
    /// Give members of a group a vote (ask the leader)
    Promote(Roles),
    /// Take members' votes: they are learners then (ask the leader)
    Demote(Roles),
    /// Take nodes out of a group (ask the leader)
    Remove(Roles),
    /// Make these the members of a group and nobody else, in one step (ask the leader)
    Change {
        #[command(flatten)]
        of: OfGroup,
        /// All voters
        #[arg(long, value_name = "NODE,...", value_delimiter = ',', required = true, value_parser = node_id)]
        voters: Vec<NodeId>,
        /// All learners
        #[arg(long, value_name = "NODE,...", value_delimiter = ',', value_parser = node_id)]
        learners: Vec<NodeId>,
    },
    /// Hand the leadership of a group to another voter (ask the leader)
    Transfer {
        #[command(flatten)]
        of: OfGroup,
        /// To whom; without it, to the voter that can take over the soonest
        #[arg(long, value_name = "NODE", value_parser = node_id)]
        to: Option<NodeId>,
    },
    /// Spread leaders evenly: hand on what this node leads too much (ask every node)
    Rebalance {
        #[command(flatten)]
        target: Target,
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Have a running node take a snapshot of a group
    Snapshot(OfGroup),
    /// Create a group on a running node (on each of its voters, with the same voters)
    ///
    /// It is here again after every restart. The voters elect a leader as soon as a majority has
    /// the group. On a node that is to be added to a group that exists, name no voters; then `add`.
    Create {
        #[command(flatten)]
        of: OfGroup,
        /// The voters that the group begins with, the node that is asked among them
        #[arg(long, value_name = "NODE,...", value_delimiter = ',', value_parser = node_id)]
        voters: Vec<NodeId>,
    },
    /// LOSES DATA: destroy a node's replica of a group, after the node was removed from the group
    ///
    /// The log, the snapshots and the state are gone for good, and the group can't be created on
    /// this node again.
    Destroy {
        #[command(flatten)]
        of: OfGroup,
        /// Do it on a member, too: for a group that is to end, on each of its nodes
        #[arg(long)]
        accept_data_loss: bool,
    },
    /// LOSES DATA: go on with other members, on this node, when a majority of the voters is lost
    ///
    /// Ask one node only, of those that are left, the one with the most: `ringleader survey` says
    /// which. All of its log stays. What others had beyond it is lost, acknowledged operations
    /// too. Lost nodes that come back and meet a new member lead nobody any more; a majority of
    /// them that comes back and meets only itself, be it for a moment, goes on by itself. So start
    /// them one by one, each when `groups` on the one before it says `superseded`. Without
    /// --accept-data-loss nothing is done, and shown what would be.
    ResetPeers {
        #[command(flatten)]
        of: OfGroup,
        /// All voters from now on, the node that is asked among them
        #[arg(long, value_name = "NODE,...", value_delimiter = ',', required = true, value_parser = node_id)]
        voters: Vec<NodeId>,
        /// All learners from now on
        #[arg(long, value_name = "NODE,...", value_delimiter = ',', value_parser = node_id)]
        learners: Vec<NodeId>,
        /// Do it
        #[arg(long)]
        accept_data_loss: bool,
    },
    /// List the nodes that a running node knows, and where they are
    Nodes(Node),
    /// Tell a running node of another, or of its new address (tell every node)
    SetNode {
        #[command(flatten)]
        node: Node,
        /// The node's number
        #[arg(value_name = "NODE", value_parser = node_id)]
        number: NodeId,
        /// Where it listens
        #[arg(value_name = "IP:PORT")]
        address: SocketAddr,
        /// How many shards it has
        #[arg(long, default_value_t = 1)]
        shards: u32,
    },
    /// Have a running node forget another and refuse it (after that was removed from its groups)
    ForgetNode {
        #[command(flatten)]
        node: Node,
        /// The node's number
        #[arg(value_name = "NODE", value_parser = node_id)]
        number: NodeId,
    },
}

fn group(text: &str) -> Result<GroupId, String> {
    if text.is_empty() {
        return Err("a group has a number or a name".into());
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(GroupId::from_name(text));
    }
    text.parse().map(GroupId).map_err(|_| "the number is too large".into())
}

fn node_id(text: &str) -> Result<NodeId, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(NodeId(number)),
        _ => Err("nodes are numbered from 1".into()),
    }
}

pub(super) fn run(command: &Command, json: bool) -> Result<(), Failure> {
    match command {
        Command::Add(roles) => set_roles("add", roles, json),
        Command::Learner(roles) => set_roles("learner", roles, json),
        Command::Promote(roles) => set_roles("promote", roles, json),
        Command::Demote(roles) => set_roles("demote", roles, json),
        Command::Remove(roles) => set_roles("remove", roles, json),
        Command::Change { of: OfGroup { target, group }, voters, learners } => {
            let (voters, learners) = (voters.clone(), learners.clone());
            let args = admin::Members { group: *group, voters, learners };
            done(target, "change", &args, json, members)
        }
        Command::Transfer { of: OfGroup { target, group }, to } => {
            let args = admin::Transfer { group: *group, to: *to };
            done(target, "transfer", &args, json, |value| {
                let (leader, term) = (&value["leader"], &value["term"]);
                let group = plain(&value["group"]);
                Ok(format!("group {group}: node {leader} leads, in term {term}\n"))
            })
        }
        Command::Rebalance { target, dry_run } => rebalance(target, *dry_run, json),
        Command::Snapshot(OfGroup { target, group }) => {
            let args = admin::Group { group: *group };
            done(target, "snapshot", &args, json, |value| {
                let (index, term) = (&value["index"], &value["term"]);
                let group = plain(&value["group"]);
                Ok(match index.as_u64() {
                    Some(0) => format!("group {group}: nothing is applied here yet\n"),
                    _ => format!("group {group}: a snapshot covers entry {index} of term {term}\n"),
                })
            })
        }
        Command::Create { of: OfGroup { target, group }, voters } => {
            let args = admin::Create { group: *group, voters: voters.clone() };
            done(target, "create", &args, json, |value| {
                let (group, node) = (plain(&value["group"]), &value["node"]);
                Ok(format!("group {group}: created on node {node}\n"))
            })
        }
        Command::Destroy { of: OfGroup { target, group }, accept_data_loss } => {
            let args = admin::Destroy { group: *group, accept_data_loss: *accept_data_loss };
            done(target, "destroy", &args, json, |value| {
                let (group, node) = (plain(&value["group"]), &value["node"]);
                Ok(format!("group {group}: destroyed on node {node}\n"))
            })
        }
        Command::ResetPeers {
            of: OfGroup { target, group },
            voters,
            learners,
            accept_data_loss,
        } => {
            let args = admin::ResetPeers {
                group: *group,
                voters: voters.clone(),
                learners: learners.clone(),
                accept_data_loss: *accept_data_loss,
            };
            done(target, "reset-peers", &args, json, reset)?;
            if *accept_data_loss {
                return Ok(());
            }
            let message = "nothing was done; with --accept-data-loss it is".to_owned();
            Err(Failure::refused("not-confirmed", message))
        }
        Command::Nodes(node) => print(node, &ask::look(node, "nodes")?, json, nodes),
        Command::SetNode { node, number, address, shards } => {
            let args = admin::Node { node: *number, address: *address, shards: *shards };
            let value = ask::act(node, "set-node", json!(args), WAIT_SECONDS)?;
            print(node, &value, json, nodes)
        }
        Command::ForgetNode { node, number } => {
            let args = admin::Forget { node: *number };
            let value = ask::act(node, "forget-node", json!(args), WAIT_SECONDS)?;
            print(node, &value, json, nodes)
        }
    }
}

fn done(
    target: &Target,
    command: &str,
    args: &impl Serialize,
    json: bool,
    show: Show,
) -> Result<(), Failure> {
    let value = ask::act(&target.node, command, json!(args), target.wait)?;
    print(&target.node, &value, json, show)
}

fn set_roles(command: &str, roles: &Roles, json: bool) -> Result<(), Failure> {
    let Roles { of: OfGroup { target, group }, nodes } = roles;
    let args = admin::Nodes { group: *group, nodes: nodes.clone() };
    done(target, command, &args, json, members)
}

fn members(value: &Value) -> Result<String, serde_json::Error> {
    let members: Configuration = serde_json::from_value(value["members"].clone())?;
    let mut text = format!("group {}: ", plain(&value["group"]));
    text += if value["changed"] == true { "changed" } else { "is so already" };
    let _ = writeln!(text, ", by entry {}; {}", value["index"], who(&members));
    Ok(text)
}

fn reset(value: &Value) -> Result<String, serde_json::Error> {
    let [before, members]: [Configuration; 2] = [
        serde_json::from_value(value["before"].clone())?,
        serde_json::from_value(value["members"].clone())?,
    ];
    let without: Vec<NodeId> = serde_json::from_value(value["without"].clone())?;
    let field = |name: &str| plain(&value[name]);
    let (is_done, last) = (value["done"] == true, &value["last"]);
    let mut text = format!("group {} on node {}\n", field("group"), field("node"));
    let _ = writeln!(text, "  members before  {}", who(&before));
    let _ = writeln!(
        text,
        "  members {}  {}",
        if is_done { "now   " } else { "after " },
        who(&members)
    );
    let _ = writeln!(
        text,
        "  kept            all of this node's log, to entry {} of term {}; {} was known committed",
        last["index"],
        last["term"],
        field("commit")
    );
    let _ = writeln!(
        text,
        "  LOST            what node {} had beyond that or instead of it, ACKNOWLEDGED OPERATIONS TOO",
        list(&without)
    );
    let _ = writeln!(
        text,
        "  see to it       that a majority of {} never runs again without meeting node {}",
        list(before.voters()),
        list(members.voters())
    );
    Ok(text)
}

fn rebalance(target: &Target, dry_run: bool, json: bool) -> Result<(), Failure> {
    let args = json!(admin::Rebalance { dry_run });
    let value = ask::act(&target.node, "rebalance", args, target.wait)?;
    print(&target.node, &value, json, moves)?;
    let outcomes = value["moves"].as_array().into_iter().flatten().map(|step| &step["outcome"]);
    let failed: Vec<&Value> = outcomes.filter(|outcome| outcome.get("error").is_some()).collect();
    let message = format!("{} of the leaderships were not moved", failed.len());
    if failed.iter().any(|outcome| outcome["error"]["effect"] == "unknown") {
        return Err(Failure::unknown(message));
    }
    match failed.first() {
        Some(_) => Err(Failure::refused("refused", message)),
        None => Ok(()),
    }
}

fn moves(value: &Value) -> Result<String, serde_json::Error> {
    let mut table = Table::new(&["group", "from", "to", "outcome"]);
    for step in value["moves"].as_array().into_iter().flatten() {
        let outcome = &step["outcome"];
        let error = outcome["error"]["message"].as_str();
        let outcome = error.map_or_else(|| plain(outcome), |error| format!("NOT DONE: {error}"));
        table.row([plain(&step["group"]), plain(&step["from"]), plain(&step["to"]), outcome]);
    }
    let mut text = if table.is_empty() {
        "nothing that this node leads is to move\n".to_owned()
    } else {
        table.to_string()
    };
    let elsewhere = value["elsewhere"].as_array().map_or(&[][..], Vec::as_slice);
    let mut nodes: Vec<u64> = elsewhere.iter().filter_map(|step| step["from"].as_u64()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    if !nodes.is_empty() {
        let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        let (count, nodes) = (elsewhere.len(), nodes.join(", "));
        let _ = writeln!(text, "{count} more are for others to move: ask node {nodes} too");
    }
    Ok(text)
}

fn nodes(value: &Value) -> Result<String, serde_json::Error> {
    let mut table = Table::new(&["node", "address", "shards", ""]);
    for node in value.as_array().into_iter().flatten() {
        let this = if node["this"] == true { "this node" } else { "" };
        let cells = ["node", "address", "shards"].map(|name| plain(&node[name]));
        table.row(cells.into_iter().chain([this.to_owned()]));
    }
    Ok(table.to_string())
}
