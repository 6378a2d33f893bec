//! A run from its beginning to its end: start the nodes, find the leaders, load, verify, report.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::args::{ClientKind, ClusterArgs};
use crate::children::{ChildFailed, Children};
use crate::clock;
use crate::control::{
    Failure, FromChild, GroupRole, LoadPlan, LoadReport, NodeSetup, ReadBy, RemotePlan, ToChild,
    Window,
};
use crate::data_dir::DataDir;
use crate::disk::{self, Device};
use crate::floor::Floor;
use crate::machine::Machine;
use crate::measure;
use crate::report::{Measured, Report, Startup};
use crate::verify::{Verification, verify};

/// How long the nodes may take to start, and to agree on leaders.
const START: Duration = Duration::from_secs(60);
/// How long a node may take to answer a question.
const ANSWER: Duration = Duration::from_secs(30);
/// How long the followers may take to apply what is committed.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How long a shutdown may take.
const STOP: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// From the plan to the first operation: time for all processes to read it.
const LEAD_TIME: u64 = 200_000_000;
const SECOND: u64 = 1_000_000_000;
/// How often other ports are tried when some other process was faster.
const PORT_ATTEMPTS: usize = 5;

/// Runs the benchmark.
pub(crate) fn run(args: &ClusterArgs) -> anyhow::Result<Report> {
    let directory = DataDir::of_run(args.data_dir.as_deref(), args.keep)?;
    if disk::in_memory(directory.path()) {
        eprintln!("note: {} is in memory, nothing here is durable", directory.path().display());
    }
    let load = (args.inflight, args.payload);
    let written = args.rate.is_none() && args.reads == 0;
    let floor = Floor::measure(directory.path(), written.then_some(load));
    let floor = floor.inspect_err(|error| eprintln!("note: no floor: {error:#}")).ok();
    run_in(args, &directory, floor)
}

/// Runs the benchmark in a directory that is ready.
pub(crate) fn run_in(
    args: &ClusterArgs,
    directory: &DataDir,
    floor: Option<Floor>,
) -> anyhow::Result<Report> {
    let begin = Instant::now();
    let mut cluster = Cluster::start(args, directory)?;
    let nodes_seconds = begin.elapsed().as_secs_f64();
    let roles = cluster.await_leaders()?;
    let startup = Startup { nodes_seconds, leaders_seconds: begin.elapsed().as_secs_f64() };
    let measured = Measured { startup, ..cluster.load(&roles)? };
    let verification = cluster.verify(&measured.load)?;
    cluster.children.shut_down(STOP)?;
    if !directory.is_temporary() {
        eprintln!("the data is in {}", directory.path().display());
    }
    let machine = Machine::describe(directory.path());
    Ok(Report::new(args, measured, verification, floor, machine))
}

/// The nodes of a run.
pub(crate) struct Cluster<'a> {
    args: &'a ClusterArgs,
    pub(crate) children: Children,
    /// Where the nodes serve remote clients.
    clients: Vec<SocketAddr>,
    device: Option<Device>,
}

impl<'a> Cluster<'a> {
    pub(crate) fn start(args: &'a ClusterArgs, directory: &DataDir) -> anyhow::Result<Self> {
        for attempt in 1.. {
            directory.clear()?;
            match Self::try_start(args, directory) {
                Err(error) if attempt < PORT_ATTEMPTS && is_port_conflict(&error) => {}
                done => return done,
            }
        }
        unreachable!("the attempts do not end")
    }

    fn try_start(args: &'a ClusterArgs, directory: &DataDir) -> anyhow::Result<Self> {
        let mut children = Children::with_environment(&args.environment);
        let addresses = free_addresses(args.nodes as usize)?;
        let cluster = clock::now() ^ u64::from(std::process::id()) << 48;
        for node in 1..=args.nodes {
            let data_dir = directory.path().join(format!("node-{node}"));
            std::fs::create_dir(&data_dir).context("creating a node's directory")?;
            let setup = NodeSetup {
                cluster,
                node,
                addresses: addresses.clone(),
                shards: args.shards,
                groups: args.groups,
                data_dir,
                sync: args.sync,
                wal_depth: args.wal_depth.map(|depth| depth as usize),
                inflight: args.inflight,
                payload: args.payload as usize,
                election_timeout_ms: None,
                snapshots: None,
                tuning: args.tuning.clone(),
                stages: args.stages,
                leases: args.read_by == ReadBy::Lease,
                metrics: args
                    .metrics
                    .map(|first| SocketAddr::new(first.ip(), first.port() + node as u16 - 1)),
            };
            let child = children.spawn(&format!("node {node}"), "node")?;
            children.send(child, &ToChild::Start(Box::new(setup)))?;
        }
        let nodes = 0..args.nodes as usize;
        let clients = children.collect(nodes, START, |message| match message {
            FromChild::Ready { clients } => Some(clients),
            _ => None,
        })?;
        Ok(Self { args, children, clients, device: Device::under(directory.path()) })
    }

    pub(crate) fn nodes(&self) -> std::ops::Range<usize> {
        0..self.args.nodes as usize
    }

    fn roles(&mut self) -> anyhow::Result<Vec<Vec<GroupRole>>> {
        let nodes = self.nodes();
        self.children.ask(nodes, &ToChild::Roles, ANSWER, |message| match message {
            FromChild::Roles(roles) => Some(roles),
            _ => None,
        })
    }

    /// Waits until every node agrees on a leader of every group; gives shard and leader of each.
    pub(crate) fn await_leaders(&mut self) -> anyhow::Result<Vec<(u32, u64)>> {
        let deadline = Instant::now() + START;
        loop {
            let roles = self.roles()?;
            let groups = 0..self.args.groups as usize;
            let agreed: Vec<_> = groups.filter_map(|group| agreed_leader(&roles, group)).collect();
            if agreed.len() == self.args.groups as usize {
                return Ok(agreed);
            }
            if Instant::now() > deadline {
                let (have, all) = (agreed.len(), self.args.groups);
                bail!("{have} of {all} groups have a leader after {START:?}");
            }
            self.idle(POLL)?;
        }
    }

    /// Lets time pass, but not unwatched.
    pub(crate) fn idle(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        while self.children.next(until)?.is_some() {}
        Ok(())
    }

    /// Loads the first of the groups, as many as there are roles.
    pub(crate) fn load(&mut self, roles: &[(u32, u64)]) -> anyhow::Result<Measured> {
        let args = self.args;
        let loaders = match args.client {
            ClientKind::Embedded => self.nodes(),
            ClientKind::Remote => {
                let generator = self.children.spawn("the load process", "generator")?;
                generator..generator + 1
            }
        };
        let begin = clock::now() + LEAD_TIME;
        let start = begin + args.warmup * SECOND;
        let window = Window { start, end: start + args.seconds * SECOND };
        let plan = LoadPlan {
            groups: roles.len() as u64,
            inflight: args.inflight,
            payload: args.payload as usize,
            rate: args.rate,
            reads: args.reads,
            read_by: args.read_by,
            begin,
            window,
            remote: (args.client == ClientKind::Remote).then(|| RemotePlan {
                nodes: self.clients.clone(),
                shards: args.shards,
                groups: roles.to_vec(),
            }),
        };
        if args.client == ClientKind::Remote {
            let measure = ToChild::Measure(window);
            self.nodes().try_for_each(|node| self.children.send(node, &measure))?;
        }
        for child in loaders.clone() {
            self.children.send(child, &ToChild::Load(plan.clone()))?;
        }
        let mut leaders = vec![0; args.nodes as usize];
        roles.iter().for_each(|(_, leader)| leaders[*leader as usize - 1] += 1);
        let watched = measure::watch(&mut self.children, &plan, loaders, self.device.as_ref())?;
        Ok(Measured {
            leaders,
            flushes_expected: args.reads < 100 && self.flushes_expected(),
            ..watched
        })
    }

    fn flushes_expected(&self) -> bool {
        self.device.as_ref().is_some_and(Device::needs_flushes)
    }

    fn verify(&mut self, load: &LoadReport) -> anyhow::Result<Verification> {
        let behind = self.await_catch_up()?;
        let nodes = self.nodes();
        let pick = |message| match message {
            FromChild::Summaries(summaries) => Some(summaries),
            _ => None,
        };
        let replicas = self.children.ask(nodes, &ToChild::Summaries, ANSWER, pick)?;
        let mut found = verify(&load.groups, &replicas);
        if let Some(behind) = behind {
            found.find(|| behind);
        }
        Ok(found)
    }

    /// Waits until every replica has applied what any node knows to be committed; says who has not
    /// in good time.
    fn await_catch_up(&mut self) -> anyhow::Result<Option<String>> {
        let deadline = Instant::now() + CATCH_UP;
        loop {
            let roles = self.roles()?;
            let behind = laggard(&roles);
            if behind.is_none() || Instant::now() > deadline {
                return Ok(behind);
            }
            self.idle(POLL)?;
        }
    }
}

/// The group's shard and leader, if it says so itself and all others know it.
pub(crate) fn agreed_leader(roles: &[Vec<GroupRole>], group: usize) -> Option<(u32, u64)> {
    let of_group = || roles.iter().map(|node| node.get(group));
    let position = of_group().position(|role| role.is_some_and(|role| role.leads))?;
    let leader = position as u64 + 1;
    let agreed = of_group().enumerate().all(|(node, role)| {
        role.is_some_and(|role| role.leader == leader && role.leads == (node == position))
    });
    let shard = roles[position][group].shard;
    agreed.then_some((shard, leader))
}

/// The first replica that has not applied all that is committed.
pub(crate) fn laggard(roles: &[Vec<GroupRole>]) -> Option<String> {
    let groups = roles.first()?.len();
    (0..groups).find_map(|group| {
        let commit = roles.iter().filter_map(|node| Some(node.get(group)?.commit)).max()?;
        roles.iter().zip(1..).find_map(|(node, number)| {
            let role = node.get(group)?;
            (role.applied < commit).then(|| {
                format!(
                    "group {}: node {number} has applied {} of {commit} committed entries after \
                     {CATCH_UP:?}",
                    role.group, role.applied
                )
            })
        })
    })
}

pub(crate) fn is_port_conflict(error: &anyhow::Error) -> bool {
    let failed = error.downcast_ref::<ChildFailed>();
    failed.is_some_and(|failed| failed.reason == Failure::Listen)
}

/// Loopback addresses that nobody listens on, below the range that the kernel takes ports of
/// outgoing connections from: a port in that range could be gone before the node has it.
pub(crate) fn free_addresses(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    free_addresses_apart(count, 1)
}

/// The same, each with so many free ports from its own on.
pub(crate) fn free_addresses_apart(count: usize, ports: u16) -> anyhow::Result<Vec<SocketAddr>> {
    const LOWEST: u16 = 10_240;
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.unwrap_or_default();
    let end = range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768);
    let width = u64::from(end.max(LOWEST + 1024) - LOWEST);
    let seed = clock::now() / 1_000 + u64::from(std::process::id()) * 7_919;
    let mut held = Vec::new();
    for offset in 0..width {
        let port = LOWEST + ((seed + offset * u64::from(ports)) % width) as u16;
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listeners = (port..port + ports).map(|port| TcpListener::bind(address(port)));
        let listeners: std::io::Result<Vec<_>> = listeners.collect();
        held.extend(listeners.map(|listeners| (address(port), listeners)));
        if held.len() == count {
            return Ok(held.into_iter().map(|(address, _)| address).collect());
        }
    }
    bail!("there are no {count} free ports from {LOWEST} to {end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(leads: bool, leader: u64, commit: u64, applied: u64) -> Vec<GroupRole> {
        vec![GroupRole { group: 1, shard: 0, leads, leader, commit, applied }]
    }

    #[test]
    fn a_leader_counts_when_all_nodes_agree() {
        let (leads, follows) = (role(true, 1, 0, 0), role(false, 1, 0, 0));
        let agreed = [leads.clone(), follows.clone(), follows.clone()];
        assert_eq!(agreed_leader(&agreed, 0), Some((0, 1)));
        let unaware = [leads.clone(), follows.clone(), role(false, 0, 0, 0)];
        assert_eq!(agreed_leader(&unaware, 0), None);
        let two = [leads, follows, role(true, 3, 0, 0)];
        assert_eq!(agreed_leader(&two, 0), None);
    }

    #[test]
    fn a_replica_that_has_not_applied_everything_is_named() {
        let done = role(true, 1, 7, 7);
        assert_eq!(laggard(&[done.clone(), role(false, 1, 6, 7)]), None);
        let behind = laggard(&[done, role(false, 1, 6, 6)]);
        assert!(behind.is_some_and(|text| text.contains("node 2 has applied 6 of 7")));
    }

    #[test]
    fn free_addresses_are_distinct() {
        let addresses = free_addresses(5).expect("a machine has five free ports");
        let distinct: std::collections::HashSet<_> = addresses.iter().collect();
        assert_eq!(distinct.len(), 5);
    }
}
