//! Commands that look at the node.

use serde_json::{Value, json};

use super::{Call, Refusal};
use crate::raft::RoleName;
use crate::report::Report;

pub(super) fn status(call: &Call<'_>) -> Result<Value, Refusal> {
    Ok(status_of(&call.report()?))
}

pub(super) fn groups(call: &Call<'_>) -> Result<Value, Refusal> {
    Ok(json!(call.report()?.groups))
}

pub(super) fn peers(call: &Call<'_>) -> Result<Value, Refusal> {
    let report = call.report()?;
    let links = report.shards.iter().map(|s| json!({ "shard": s.shard, "links": s.links }));
    let groups = || report.groups.iter();
    let led = groups().filter(|group| !group.status.peers.is_empty());
    let followed = groups().filter(|group| group.status.role != RoleName::Leader);
    Ok(json!({
        "connections": links.collect::<Value>(),
        "groups": led.collect::<Vec<_>>(),
        "followed": followed.collect::<Vec<_>>(),
    }))
}

pub(super) fn metrics(call: &Call<'_>) -> Result<Value, Refusal> {
    Ok(json!(call.report()?.shards))
}

pub(super) fn dump(call: &Call<'_>) -> Result<Value, Refusal> {
    let report = call.report()?;
    Ok(json!({ "text": report.to_string(), "report": report }))
}

fn status_of(report: &Report) -> Value {
    let leads = report.groups.iter().filter(|g| g.status.leader == Some(report.node)).count();
    let leaderless = report.groups.iter().filter(|g| g.status.leader.is_none()).count();
    let shards = report.shards.iter().map(|shard| {
        let connected = shard.links.iter().filter(|link| link.connected).count();
        json!({
            "shard": shard.shard, "health": shard.health, "groups": shard.groups,
            "has_space": shard.log.has_space, "connected": connected,
            "connections": shard.links.len(),
        })
    });
    json!({
        "node": report.node, "cluster": report.cluster.to_string(), "version": report.version,
        "uptime_seconds": report.uptime.as_secs(), "groups": report.groups.len(),
        "leads": leads, "leaderless": leaderless, "shards": shards.collect::<Value>(),
    })
}
