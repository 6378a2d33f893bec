//! `INFO`, and what else tells people about the server.

use std::fmt::Write as _;

use super::session::Session;
use super::shard::Shard;
use super::stats::Stats;
use crate::kv::keyspace::Keyspace;

/// The version of Redis whose commands these are. Client libraries decide by it what they may ask.
pub(crate) const REDIS_VERSION: &str = "7.4.0";

/// A section's name and what it says.
type Section = (&'static str, fn(&Session) -> String);

const SECTIONS: [Section; 6] = [
    ("server", server),
    ("clients", clients),
    ("memory", memory),
    ("stats", stats),
    ("cluster", cluster),
    ("keyspace", keyspace),
];

/// What a client may take the server for: a cluster, or one server that has it all.
pub(crate) fn mode(plain: bool) -> &'static str {
    if plain { "standalone" } else { "cluster" }
}

/// The sections that are wanted; all of them if none is named.
pub(crate) fn text(session: &Session, wanted: &[&[u8]]) -> String {
    let all = ["all", "everything", "default"];
    let is = |name: &str| wanted.iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let every = wanted.is_empty() || all.iter().any(|name| is(name));
    let mut text = String::new();
    for (name, section) in SECTIONS.iter().filter(|(name, _)| every || is(name)) {
        let title = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        // Writing to a string does not fail.
        let _ = write!(text, "# {title}\r\n{}\r\n", section(session));
    }
    text
}

/// `name:value` lines.
fn lines(pairs: &[(&str, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect()
}

/// A counter's sum over all shards of the node.
fn sum(shard: &Shard, counter: fn(&Stats) -> u64) -> String {
    shard.node.stats.iter().map(counter).sum::<u64>().to_string()
}

fn server(session: &Session) -> String {
    let shard = &session.shard;
    let seat = shard.seat();
    lines(&[
        ("redis_version", REDIS_VERSION.into()),
        ("redis_mode", mode(session.plain).into()),
        ("ringleader_version", env!("CARGO_PKG_VERSION").into()),
        ("ringleader_node", seat.node.to_string()),
        ("ringleader_shard", seat.shard.to_string()),
        ("process_id", std::process::id().to_string()),
        ("uptime_in_seconds", shard.node.clock.uptime().as_secs().to_string()),
        ("run_id", seat.id()),
    ])
}

fn clients(session: &Session) -> String {
    let shard = &session.shard;
    lines(&[
        ("connected_clients", sum(shard, |stats| stats.clients.get())),
        ("evicted_clients", sum(shard, |stats| stats.clients_evicted.get())),
        ("maxclients", shard.node.settings.max_clients.to_string()),
    ])
}

fn memory(session: &Session) -> String {
    let shard = &session.shard;
    lines(&[
        ("used_memory", sum(shard, |stats| stats.memory.get())),
        ("maxmemory", shard.node.settings.memory_limit.to_string()),
        ("maxmemory_policy", "noeviction".into()),
    ])
}

fn stats(session: &Session) -> String {
    let shard = &session.shard;
    lines(&[
        ("total_connections_received", sum(shard, |stats| stats.connections.get())),
        ("total_commands_processed", sum(shard, |stats| stats.commands.get())),
        ("total_net_input_bytes", sum(shard, |stats| stats.bytes_in.get())),
        ("total_net_output_bytes", sum(shard, |stats| stats.bytes_out.get())),
        ("rejected_connections", sum(shard, |stats| stats.connections_refused.get())),
        ("ringleader_logged", sum(shard, |stats| stats.logged.get())),
        ("ringleader_reads", sum(shard, |stats| stats.reads.get())),
        ("ringleader_forwarded", sum(shard, |stats| stats.forwarded.get())),
        ("ringleader_moved", sum(shard, |stats| stats.moved.get())),
        ("ringleader_unknown", sum(shard, |stats| stats.unknown.get())),
    ])
}

fn cluster(session: &Session) -> String {
    lines(&[("cluster_enabled", if session.plain { "0" } else { "1" }.into())])
}

/// Of the groups of this shard, whoever leads them.
fn keyspace(session: &Session) -> String {
    let shard = &session.shard;
    let count = |count: fn(&Keyspace) -> usize| {
        shard.groups().map(|(_, group)| group.replica.with(count)).sum::<usize>()
    };
    let (keys, expires) = (count(Keyspace::keys), count(Keyspace::mortal_keys));
    format!("db0:keys={keys},expires={expires},avg_ttl=0\r\n")
}

/// A line about a client.
pub(crate) fn client(session: &Session) -> String {
    format!(
        "id={} name={} age={} db=0 resp={} flags=N\n",
        session.id,
        String::from_utf8_lossy(&session.name),
        session.began.elapsed().as_secs(),
        if session.client.speaks_resp3() { 3 } else { 2 },
    )
}
