//! What concerns all nodes: whom to ask for which part, until all is done.

use std::time::{Duration, Instant};

use ringleader::{Member, NodeId};

use super::part::Part;
use super::{Why, Wish};
use crate::kv::resp::reply;
use crate::kv::server::ask::ask;
use crate::kv::server::outcome;
use crate::kv::server::shard::Shard;
use crate::kv::server::topology::{Seat, address_of};

/// How long a node is waited for. A change that takes longer goes on, and is asked for again.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a group may take, whatever happens there meanwhile.
const PATIENCE: Duration = Duration::from_secs(600);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn run(shard: &Shard, wish: &Wish, out: &mut Vec<u8>) -> Result<(), Why> {
    match wish {
        Wish::Nodes => nodes(shard, out).await?,
        Wish::Leaders => leaders(shard, out).await?,
        Wish::Add(member) => {
            let untold = tell(shard, &Part::Meet(member.clone()), member.node).await;
            let node = member.node;
            for place in 0..shard.topology().layout.groups() {
                of_leader(shard, place, &Part::Add { place, node }).await?;
            }
            done(&untold, "have it in their configuration before they start", out);
        }
        Wish::Remove(node) => {
            for place in 0..shard.topology().layout.groups() {
                // An election would take longer than a leadership that is handed on.
                if shard.topology().leader(place) == Some(*node) {
                    let _ = at(shard, *node, &Part::HandOver { place, to: None }).await;
                }
                of_leader(shard, place, &Part::Remove { place, node: *node }).await?;
            }
            let untold = tell(shard, &Part::Forget(*node), *node).await;
            done(&untold, "have it no more in their configuration before they start", out);
        }
        Wish::Transfer { place, to } => {
            let part = Part::HandOver { place: *place, to: Some(*to) };
            of_leader(shard, *place, &part).await?;
            reply::ok(out);
        }
        Wish::Balance => {
            let mut moved = 0;
            for Member { node, .. } in shard.topology().members() {
                moved += at(shard, node, &Part::Balance).await?;
            }
            reply::integer(out, moved as i64);
        }
        Wish::Here(part) => reply::integer(out, part.carry_out(shard).await? as i64),
    }
    Ok(())
}

/// "OK", and whom the operator has to tell himself.
fn done(untold: &[NodeId], what: &str, out: &mut Vec<u8>) {
    if untold.is_empty() {
        return reply::ok(out);
    }
    let nodes: Vec<String> = untold.iter().map(ToString::to_string).collect();
    reply::status(out, &format!("OK, but see to it that these nodes {what}: {}", nodes.join(" ")));
}

/// Has every node but one do something; those that were not reached.
async fn tell(shard: &Shard, part: &Part, except: NodeId) -> Vec<NodeId> {
    let mut untold = Vec::new();
    for Member { node, .. } in shard.topology().members() {
        if node != except && at(shard, node, part).await.is_err() {
            untold.push(node);
        }
    }
    untold
}

/// Has a group's leader do something, whoever that is and becomes.
async fn of_leader(shard: &Shard, place: usize, part: &Part) -> Result<(), Why> {
    let since = Instant::now();
    loop {
        let done = match shard.topology().leader(place) {
            Some(leader) => at(shard, leader, part).await,
            None => Err(outcome::NO_LEADER.into()),
        };
        let Err(why) = done else { return Ok(()) };
        let again = ["TRYAGAIN", "UNKNOWN", "CLUSTERDOWN"];
        if !again.iter().any(|code| why.starts_with(code)) || since.elapsed() > PATIENCE {
            let group = shard.topology().layout.id(place);
            return Err(format!(
                "ERR group {group}: {why} (what was done for other groups stays; say it again to go on)"
            ));
        }
        shard.local.sleep(PAUSE).await;
    }
}

/// Has a node do its part.
async fn at(shard: &Shard, node: NodeId, part: &Part) -> Result<u64, Why> {
    if node == shard.topology().node {
        return part.carry_out(shard).await;
    }
    let words = part.words(shard.topology());
    let answer = ask(shard, Seat { node, shard: 0 }, &words, ANSWER).await;
    let answer = answer.map_err(|error| format!("UNKNOWN node {node} did not answer: {error}"))?;
    let text = String::from_utf8_lossy(&answer);
    let text = text.trim_end();
    if let Some(count) = text.strip_prefix(':').and_then(|number| number.parse().ok()) {
        return Ok(count);
    }
    Err(text.strip_prefix('-').unwrap_or("ERR an answer that makes no sense").to_owned())
}

/// For each node its number, where clients find it, its shards, and of how many groups it is the
/// leader and a voter.
async fn nodes(shard: &Shard, out: &mut Vec<u8>) -> Result<(), Why> {
    let topology = shard.topology();
    let mut voters = Vec::new();
    for place in 0..topology.layout.groups() {
        voters.extend(voters_of(shard, place).await?);
    }
    let members = topology.members();
    reply::array(out, members.len());
    for member in members {
        let leads = |place: &usize| topology.leader(*place) == Some(member.node);
        let leads = (0..topology.layout.groups()).filter(leads).count();
        let votes = voters.iter().filter(|node| **node == member.node).count();
        reply::array(out, 5);
        reply::integer(out, member.node.0 as i64);
        reply::bulk(out, address_of(&member, 0).to_string().as_bytes());
        reply::integer(out, member.shards.into());
        reply::integer(out, leads as i64);
        reply::integer(out, votes as i64);
    }
    Ok(())
}

/// For each group its number, its first and last slot, its leader (or none) and its voters.
async fn leaders(shard: &Shard, out: &mut Vec<u8>) -> Result<(), Why> {
    let topology = shard.topology();
    let groups = topology.layout.groups();
    reply::array(out, groups);
    for place in 0..groups {
        let slots = topology.layout.slots_of(place);
        reply::array(out, 5);
        reply::integer(out, topology.layout.id(place).0 as i64);
        reply::integer(out, (*slots.start()).into());
        reply::integer(out, (*slots.end()).into());
        match topology.leader(place) {
            Some(leader) => reply::integer(out, leader.0 as i64),
            None => reply::null(out),
        }
        let voters = voters_of(shard, place).await?;
        reply::array(out, voters.len());
        voters.iter().for_each(|node| reply::integer(out, node.0 as i64));
    }
    Ok(())
}

/// The voters of a group, as this node knows them.
async fn voters_of(shard: &Shard, place: usize) -> Result<Vec<NodeId>, Why> {
    let id = shard.topology().layout.id(place);
    let status = shard.local.handle().status(id).await;
    let status = status.map_err(|error| format!("CLUSTERDOWN {error}"))?;
    Ok(status.configuration.voters().to_vec())
}
