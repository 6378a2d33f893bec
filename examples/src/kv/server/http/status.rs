//! What the status page shows.

use std::collections::BTreeMap;

use ringleader::{NodeId, Report};
use serde::Serialize;
use serde_json::json;

use crate::kv::server::shard::Node;
use crate::kv::server::topology::address_of;

#[derive(Serialize)]
struct Latency {
    p50: u64,
    p99: u64,
    p999: u64,
    count: u64,
}

/// JSON text.
pub(super) fn json(report: &Report, node: &Node) -> String {
    let topology = &node.topology;
    let mut leads: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut alive: BTreeMap<NodeId, bool> = BTreeMap::new();
    for status in report.groups.iter().map(|group| &group.status) {
        if let Some(leader) = status.leader {
            *leads.entry(leader).or_default() += 1;
        }
        for member in &status.members {
            *alive.entry(member.id).or_default() |= member.alive;
        }
    }
    let nodes = topology.members().into_iter().map(|member| {
        json!({
            "node": member.node.0,
            "address": address_of(&member, 0).to_string(),
            "shards": member.shards,
            "alive": member.node == topology.node || alive.get(&member.node).copied().unwrap_or(false),
            "leads": leads.get(&member.node).copied().unwrap_or_default(),
        })
    });
    let groups = report.groups.iter().map(|group| {
        let status = &group.status;
        let place = topology.layout.place_of(status.group);
        let slots = place.map(|place| topology.layout.slots_of(place));
        json!({
            "group": status.group.0,
            "slots": slots.map(|slots| format!("{}-{}", slots.start(), slots.end())),
            "shard": group.shard,
            "role": format!("{:?}", status.role),
            "leader": status.leader.map(|leader| leader.0),
            "term": status.term.0,
            "commit": status.commit.0,
            "apply_lag": group.apply_lag(),
            "peer_lag": group.peer_lag(),
            "snapshot": status.snapshot.map(|snapshot| snapshot.index.0),
        })
    });
    let shards = report.shards.iter().zip(&node.stats).map(|(shard, stats)| {
        let stats: serde_json::Map<_, _> = stats
            .all()
            .into_iter()
            .map(|(name, _, _, value)| (name.into(), value.into()))
            .collect();
        json!({
            "shard": shard.shard,
            "health": format!("{:?}", shard.health),
            "stats": stats,
            "write": latency(&shard.timings.commit),
            "read": latency(&shard.timings.linearizable),
            "disk": latency(&shard.timings.write),
        })
    });
    let status = json!({
        "node": topology.node.0,
        "version": report.version,
        "uptime": report.uptime.as_secs(),
        "memory_limit": node.settings.memory_limit,
        "nodes": nodes.collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
        "shards": shards.collect::<Vec<_>>(),
    });
    status.to_string()
}

/// In microseconds, since the start.
fn latency(times: &ringleader::report::Distribution) -> Latency {
    let micros = |share| times.quantile(share) / 1000;
    Latency { p50: micros(0.5), p99: micros(0.99), p999: micros(0.999), count: times.count() }
}
