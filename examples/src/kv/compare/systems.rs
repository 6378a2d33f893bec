//! What is compared: how each is started, found ready, and loaded.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use super::args::{CompareArgs, Kind, NODES};
use super::caller::{Caller, text_of};
use super::connection::key;
use super::etcd::Etcd;
use super::load::{self, Load, Measured, Target};
use super::meter::{Disk, Meter};
use super::processes::{Process, free_port, loopback, quiet};
use crate::kv::slot::{SLOTS, slot_of};

/// What a system is, or why it can't be run here.
pub(crate) fn version(kind: Kind, args: &CompareArgs) -> Result<String, String> {
    match kind {
        Kind::Kv => Ok(env!("CARGO_PKG_VERSION").to_owned()),
        Kind::Redis => {
            let output = Command::new("redis-server").arg("--version").output();
            let output = output.map_err(|error| {
                format!("redis-server can't be run: {error} (Debian's package redis-server has it)")
            })?;
            let text = String::from_utf8_lossy(&output.stdout);
            let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
            version.map(ToOwned::to_owned).ok_or_else(|| format!("redis-server says {text:?}"))
        }
        Kind::Etcd => Etcd::build(&args.etcd_dir),
    }
}

/// Starts a system with its data in this empty directory, loads it, and ends it.
pub(crate) fn run(
    kind: Kind,
    args: &CompareArgs,
    load: &Load,
    directory: &Path,
) -> anyhow::Result<Measured> {
    let disk = Disk::under(directory);
    match kind {
        Kind::Etcd => Etcd::start(&args.etcd_dir, load, directory)?.run(load, disk),
        Kind::Redis => {
            let (server, address) = redis(directory)?;
            let targets = [Target { address, keys: (0..load.keys).collect() }];
            let meter = Meter { servers: vec![server.child.id()], disk };
            load::run(&targets, load, &meter)
        }
        Kind::Kv => {
            let (servers, targets) = replicated(args, load, directory)?;
            let meter = Meter { servers: servers.children()?, disk };
            ensure!(meter.servers.len() == NODES, "{} nodes run", meter.servers.len());
            load::run(&targets, load, &meter)
        }
    }
}

fn redis(directory: &Path) -> anyhow::Result<(Process, SocketAddr)> {
    let port = free_port(&[])?;
    let mut command = quiet("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(directory);
    let mut server = Process::start("redis-server", command, directory)?;
    let address = loopback(port);
    server.until("it does not answer", || Caller::connect(address)?.call(&["PING"]))?;
    Ok((server, address))
}

/// Three nodes of this server, and the keys of each leader.
fn replicated(
    args: &CompareArgs,
    load: &Load,
    directory: &Path,
) -> anyhow::Result<(Process, Vec<Target>)> {
    let nodes = NODES as u16;
    let clusters = 0..nodes * args.shards;
    let others = (100..100 + nodes).chain(200..200 + nodes);
    let peers = clusters.clone().map(|port| port + 10_000);
    let above: Vec<u16> = clusters.chain(others).chain(peers).collect();
    let port = free_port(&above)?;
    let mut command = quiet(std::env::current_exe().context("this program")?);
    command.args(["cluster", "--port", &port.to_string()]);
    command.args(["--groups", &args.groups().to_string(), "--shards", &args.shards.to_string()]);
    command.arg("--data-dir").arg(directory).stdout(Stdio::null());
    if args.leases {
        command.arg("--leases");
    }
    let mut cluster = Process::start("kv", command, directory)?;
    let leaders = cluster.until("leaders are not spread over the nodes", || {
        let mut caller = Caller::connect(loopback(port))?;
        caller.call(&["KV.CLUSTER", "BALANCE"])?;
        let leaders = leaders(&text_of(&caller.call(&["CLUSTER", "NODES"])?));
        let led: usize = leaders.iter().flatten().count();
        ensure!(led == usize::from(SLOTS), "{led} of {SLOTS} slots have a leader");
        ensure!(spread(&leaders, port, args), "leaders are not spread evenly");
        Ok(leaders)
    })?;
    Ok((cluster, targets(&leaders, load.keys)))
}

/// The leader of each slot, by what `CLUSTER NODES` says.
fn leaders(nodes: &str) -> Vec<Option<SocketAddr>> {
    let mut leaders = vec![None; usize::from(SLOTS)];
    for line in nodes.lines() {
        let mut words = line.split_whitespace();
        let address = words.nth(1).and_then(|word| word.split('@').next()?.parse().ok());
        for range in words.skip(6) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else {
                continue;
            };
            leaders.iter_mut().take(last + 1).skip(first).for_each(|leader| *leader = address);
        }
    }
    leaders
}

/// Whether no node leads more groups than its share.
fn spread(leaders: &[Option<SocketAddr>], first: u16, args: &CompareArgs) -> bool {
    let groups = usize::from(args.groups());
    let share = groups.div_ceil(NODES) * usize::from(SLOTS).div_ceil(groups);
    let node = |leader: &SocketAddr| (leader.port() - first) / args.shards;
    let led = |wanted| leaders.iter().flatten().filter(|leader| node(leader) == wanted).count();
    (0..NODES as u16).all(|node| led(node) <= share)
}

/// What each leader is asked for.
fn targets(leaders: &[Option<SocketAddr>], keys: u32) -> Vec<Target> {
    let mut all: BTreeMap<SocketAddr, Vec<u32>> = BTreeMap::new();
    // A leader that none of the keys belong to is one, too.
    for leader in leaders.iter().flatten() {
        all.entry(*leader).or_default();
    }
    for number in 0..keys {
        if let Some(leader) = leaders[usize::from(slot_of(&key(number)))] {
            all.entry(leader).or_default().push(number);
        }
    }
    all.into_iter().map(|(address, keys)| Target { address, keys: keys.into() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_leader_is_asked_for_keys_of_its_slots() {
        let nodes = "a 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-8000 8002-9000\n\
                     b 127.0.0.1:7002@17002 master - 0 0 2 connected 8001 9001-16383\n\
                     c 127.0.0.1:7003@17003 master - 0 0 3 connected\n";
        let leaders = leaders(nodes);
        assert!(leaders.iter().all(Option::is_some));
        assert_eq!(leaders[8001], Some(loopback(7002)));
        let targets = targets(&leaders, 1000);
        assert_eq!(targets.iter().map(|target| target.keys.len()).sum::<usize>(), 1000);
        for target in &targets {
            let led = |number: &u32| leaders[usize::from(slot_of(&key(*number)))];
            assert!(target.keys.iter().all(|number| led(number) == Some(target.address)));
        }
        assert_eq!(targets.len(), 2);
    }
}
