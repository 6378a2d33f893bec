//! Commands that change something.

use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use ringleader_wal::{GroupId, NodeId};
use serde_json::{Value, json};

use super::{Call, Forget, Group, Members, Node, Nodes, Rebalance, Refusal, Transfer};
use crate::config::Member;
use crate::error::{MemberError, MembershipError, QueryError, SnapshotError, TransferError};
use crate::raft::transfer::TransferRefused;
use crate::raft::{Configuration, MembershipChange, RoleName};
use crate::shard::GroupStatus;

/// A leader that has only just been elected is asked again after this.
const NOT_READY: Duration = Duration::from_millis(20);

/// What a change of some nodes' roles comes to, from the members as they are.
type Wish = fn(&Configuration, NodeId) -> Result<(), &'static str>;

pub(super) fn add(call: &Call<'_>) -> Result<Value, Refusal> {
    let Nodes { group, nodes } = call.args()?;
    change_roles(
        call,
        group,
        &nodes,
        |_, _| Ok(()),
        |nodes| MembershipChange { voters: nodes, ..MembershipChange::default() },
    )
}

pub(super) fn learner(call: &Call<'_>) -> Result<Value, Refusal> {
    let Nodes { group, nodes } = call.args()?;
    let no_voter: Wish = |now, node| match now.has_vote(node) {
        true => Err("is a voter; demote takes its vote"),
        false => Ok(()),
    };
    change_roles(call, group, &nodes, no_voter, |nodes| MembershipChange {
        learners: nodes,
        ..MembershipChange::default()
    })
}

pub(super) fn promote(call: &Call<'_>) -> Result<Value, Refusal> {
    let Nodes { group, nodes } = call.args()?;
    change_roles(call, group, &nodes, member, |nodes| MembershipChange {
        voters: nodes,
        ..MembershipChange::default()
    })
}

pub(super) fn demote(call: &Call<'_>) -> Result<Value, Refusal> {
    let Nodes { group, nodes } = call.args()?;
    change_roles(call, group, &nodes, member, |nodes| MembershipChange {
        learners: nodes,
        ..MembershipChange::default()
    })
}

pub(super) fn remove(call: &Call<'_>) -> Result<Value, Refusal> {
    let Nodes { group, nodes } = call.args()?;
    change_roles(
        call,
        group,
        &nodes,
        |_, _| Ok(()),
        |nodes| MembershipChange { removed: nodes, ..MembershipChange::default() },
    )
}

pub(super) fn change(call: &Call<'_>) -> Result<Value, Refusal> {
    let Members { group, voters, learners } = call.args()?;
    let before = led(call, group)?;
    carry_out(call, group, &before, &MembershipChange::exactly(&voters, &learners))
}

fn member(now: &Configuration, node: NodeId) -> Result<(), &'static str> {
    if now.contains(node) { Ok(()) } else { Err("is no member of the group") }
}

fn change_roles(
    call: &Call<'_>,
    group: GroupId,
    nodes: &[NodeId],
    wish: Wish,
    change: impl FnOnce(Vec<NodeId>) -> MembershipChange,
) -> Result<Value, Refusal> {
    let before = led(call, group)?;
    if nodes.is_empty() {
        return Err(Refusal::new("arguments", "no node is named"));
    }
    for node in nodes {
        let refused = |what| Refusal::new("refused", format!("node {node} {what}"));
        wish(&before, *node).map_err(refused)?;
    }
    carry_out(call, group, &before, &change(nodes.to_vec()))
}

fn carry_out(
    call: &Call<'_>,
    group: GroupId,
    before: &Configuration,
    change: &MembershipChange,
) -> Result<Value, Refusal> {
    let at = loop {
        let outcome = call.wait(call.handle.change_members(group, change.clone()))?;
        match outcome {
            Err(MembershipError::NotReady) if Instant::now() < call.deadline => {
                thread::sleep(NOT_READY);
            }
            outcome => break outcome.map_err(|error| membership_refusal(call, error))?,
        }
    };
    let after = status(call, group)?.configuration;
    let changed = after != *before;
    Ok(json!({ "group": group, "changed": changed, "index": at, "members": after }))
}

/// The group's members, if this node leads it.
fn led(call: &Call<'_>, group: GroupId) -> Result<Configuration, Refusal> {
    let status = status(call, group)?;
    match status.role {
        RoleName::Leader => Ok(status.configuration),
        _ => Err(call.not_leader(status.leader)),
    }
}

fn status(call: &Call<'_>, group: GroupId) -> Result<GroupStatus, Refusal> {
    block_on(call.handle.status(group)).map_err(|error| match error {
        QueryError::UnknownGroup(_) => Refusal::new("unknown-group", error.to_string()),
        _ => Refusal::new("stopped", error.to_string()),
    })
}

fn membership_refusal(call: &Call<'_>, error: MembershipError) -> Refusal {
    let code = match &error {
        MembershipError::NotLeader { leader } => return call.not_leader(*leader),
        MembershipError::Unknown(_) => return Refusal::unknown("unknown", error.to_string()),
        MembershipError::NotReady => "not-ready",
        MembershipError::InProgress => "in-progress",
        MembershipError::Transferring => "transferring",
        MembershipError::Impossible(_) => "impossible",
        MembershipError::UnknownNode(_) => "unknown-node",
        MembershipError::TooSlow(_) => "too-slow",
        MembershipError::NoSpace => "no-space",
        MembershipError::UnknownGroup(_) => "unknown-group",
        MembershipError::StorageFailed(_) => "storage-failed",
        MembershipError::Stopped => "stopped",
    };
    Refusal::new(code, error.to_string())
}

pub(super) fn transfer(call: &Call<'_>) -> Result<Value, Refusal> {
    let Transfer { group, to } = call.args()?;
    let done = call.wait(call.handle.transfer_leadership(group, to))?;
    let done = done.map_err(|error| transfer_refusal(call, error))?;
    Ok(json!({ "group": group, "leader": done.leader, "term": done.term }))
}

fn transfer_refusal(call: &Call<'_>, error: TransferError) -> Refusal {
    let message = error.to_string();
    match error {
        TransferError::Refused(TransferRefused::NotLeader { leader }) => call.not_leader(leader),
        TransferError::Refused(_) => Refusal::new("refused", message),
        TransferError::UnknownGroup(_) => Refusal::new("unknown-group", message),
        TransferError::Elected { .. } => Refusal::new("elected", message),
        // The target may still take over, late.
        TransferError::NotTaken { .. } => Refusal::unknown("not-taken", message),
        TransferError::Unsettled { .. } => Refusal::unknown("unknown", message),
        TransferError::StorageFailed(_) => Refusal::unknown("storage-failed", message),
        TransferError::Stopped => Refusal::unknown("stopped", message),
    }
}

pub(super) fn rebalance(call: &Call<'_>) -> Result<Value, Refusal> {
    let Rebalance { dry_run } = call.args()?;
    let stopped = |error: QueryError| Refusal::new("stopped", error.to_string());
    let plan = block_on(call.handle.plan_rebalance()).map_err(stopped)?;
    let this = call.handle.shared.node;
    let (mut moves, mut elsewhere) = (Vec::new(), Vec::new());
    for step in plan {
        if step.from != this {
            elsewhere.push(json!(step));
            continue;
        }
        let outcome = match dry_run {
            true => json!("planned"),
            // What was not begun in time is left for the next time.
            false if Instant::now() >= call.deadline => json!("not begun"),
            false => match call.wait(call.handle.transfer_leadership(step.group, Some(step.to))) {
                Ok(Ok(_)) => json!("done"),
                Ok(Err(error)) => json!({ "error": transfer_refusal(call, error) }),
                Err(unknown) => json!({ "error": unknown }),
            },
        };
        moves.push(json!({
            "group": step.group, "from": step.from, "to": step.to, "outcome": outcome,
        }));
    }
    Ok(json!({ "moves": moves, "elsewhere": elsewhere }))
}

pub(super) fn snapshot(call: &Call<'_>) -> Result<Value, Refusal> {
    let Group { group } = call.args()?;
    let taken = call.wait(call.handle.snapshot(group))?.map_err(|error| {
        let code = match &error {
            SnapshotError::UnknownGroup(_) => "unknown-group",
            SnapshotError::Unsupported => "unsupported",
            SnapshotError::Failed(_) => "failed",
            SnapshotError::Stopped => "stopped",
        };
        Refusal::new(code, error.to_string())
    })?;
    Ok(json!({ "group": group, "index": taken.index, "term": taken.term }))
}

pub(super) fn nodes(call: &Call<'_>) -> Result<Value, Refusal> {
    let this = call.handle.shared.node;
    let members = call.handle.members();
    let nodes = members.iter().map(|member| {
        let Member { node, address, shards } = member;
        json!({ "node": node, "address": address, "shards": shards, "this": *node == this })
    });
    Ok(nodes.collect())
}

pub(super) fn set_node(call: &Call<'_>) -> Result<Value, Refusal> {
    let Node { node, address, shards } = call.args()?;
    call.handle.set_member(Member { node, address, shards }).map_err(|error| known(&error))?;
    nodes(call)
}

pub(super) fn forget_node(call: &Call<'_>) -> Result<Value, Refusal> {
    let Forget { node } = call.args()?;
    call.handle.remove_member(node).map_err(|error| known(&error))?;
    nodes(call)
}

fn known(error: &MemberError) -> Refusal {
    let code = match error {
        MemberError::ThisNode | MemberError::Invalid(_) => "refused",
        MemberError::Stopped => "stopped",
    };
    Refusal::new(code, error.to_string())
}
