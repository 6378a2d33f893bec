//! Nodes that come and go in the course of a run: killed, halted, started again with their data.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use crate::children::Children;
use crate::clock;
use crate::cluster::{agreed_leader, free_addresses, is_port_conflict, laggard};
use crate::control::{FromChild, GroupRole, NodeSetup, ToChild};
use crate::data_dir::DataDir;
use crate::ledger::Summary;
use crate::steady::{INFLIGHT, Pace, Steady, Tale};
use crate::tuning::Tuning;
use crate::verify::{Verification, verify};

/// How long a node may take to start, and to read its log before that.
const START: Duration = Duration::from_secs(60);
/// How long a node may take to answer a question.
const ANSWER: Duration = Duration::from_secs(30);
/// How long the group may take to be well again.
const RECOVERY: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// How often other ports are tried when some other process was faster.
const PORT_ATTEMPTS: usize = 5;

/// Operations by which the log grows fast.
pub(crate) const BULK: Pace = Pace { rate: 20_000, payload: 64 << 10 };
/// How long that, and catching up, may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// The nodes of a cluster with one group, numbered from 1. Dropping ends all.
pub(crate) struct Nodes {
    children: Children,
    setups: Vec<NodeSetup>,
    /// The process of each node, the last one it had.
    processes: Vec<usize>,
    /// Where each serves clients.
    clients: Vec<SocketAddr>,
}

impl Nodes {
    /// How nodes are set up for a steady load on one group, with operations of so many bytes at
    /// most. Their names and places are theirs.
    pub(crate) fn setup(payload: usize) -> NodeSetup {
        NodeSetup {
            cluster: 0,
            node: 0,
            addresses: Vec::new(),
            shards: 1,
            groups: 1,
            data_dir: PathBuf::new(),
            sync: None,
            wal_depth: None,
            inflight: INFLIGHT as u64,
            payload,
            election_timeout_ms: None,
            snapshots: None,
            tuning: Tuning::default(),
            stages: false,
            leases: false,
            metrics: None,
        }
    }

    /// Starts so many nodes, set up alike but for their names and places.
    pub(crate) fn start(
        count: u64,
        directory: &DataDir,
        setup: &NodeSetup,
    ) -> anyhow::Result<Self> {
        for attempt in 1.. {
            directory.clear()?;
            match Self::try_start(count, directory, setup) {
                Err(error) if attempt < PORT_ATTEMPTS && is_port_conflict(&error) => {}
                done => return done,
            }
        }
        unreachable!("the attempts do not end")
    }

    fn try_start(count: u64, directory: &DataDir, setup: &NodeSetup) -> anyhow::Result<Self> {
        let addresses = free_addresses(count as usize)?;
        let cluster = clock::now() ^ u64::from(std::process::id()) << 48;
        let place = |node| {
            let data_dir = directory.path().join(format!("node-{node}"));
            NodeSetup { cluster, node, addresses: addresses.clone(), data_dir, ..setup.clone() }
        };
        let setups: Vec<NodeSetup> = (1..=count).map(place).collect();
        let (processes, clients) = (Vec::new(), Vec::new());
        let mut nodes = Self { children: Children::new(), setups, processes, clients };
        for node in 1..=count {
            let data_dir = &nodes.setups[node as usize - 1].data_dir;
            std::fs::create_dir(data_dir).context("creating a node's directory")?;
            let process = nodes.spawn(node)?;
            nodes.processes.push(process);
        }
        nodes.clients = nodes.ready(0..count as usize)?;
        Ok(nodes)
    }

    fn spawn(&mut self, node: u64) -> anyhow::Result<usize> {
        let process = self.children.spawn(&format!("node {node}"), "node")?;
        let setup = self.setups[node as usize - 1].clone();
        self.children.send(process, &ToChild::Start(Box::new(setup)))?;
        Ok(process)
    }

    /// Waits until these processes serve; says where.
    fn ready(&mut self, processes: Range<usize>) -> anyhow::Result<Vec<SocketAddr>> {
        self.children.collect(processes, START, |message| match message {
            FromChild::Ready { clients } => Some(clients),
            _ => None,
        })
    }

    fn process(&self, node: u64) -> usize {
        self.processes[node as usize - 1]
    }

    /// Where a node serves clients.
    pub(crate) fn client(&self, node: u64) -> SocketAddr {
        self.clients[node as usize - 1]
    }

    /// Their numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> + use<> {
        1..=self.setups.len() as u64
    }

    /// Sends a signal to a node's process; says when.
    pub(crate) fn signal(&mut self, node: u64, signal: libc::c_int) -> anyhow::Result<u64> {
        let process = self.process(node);
        if signal == libc::SIGKILL {
            self.children.expect_end(process);
        }
        let at = clock::now();
        self.children.signal(process, signal)?;
        Ok(at)
    }

    /// Starts a node that was killed again, with its data; where it serves clients from then on.
    pub(crate) fn restart(&mut self, node: u64) -> anyhow::Result<SocketAddr> {
        self.children.wait_for_end(self.process(node))?;
        let process = self.spawn(node)?;
        let client = self.ready(process..process + 1)?[0];
        self.processes[node as usize - 1] = process;
        self.clients[node as usize - 1] = client;
        Ok(client)
    }

    fn ask<T>(
        &mut self,
        node: u64,
        message: &ToChild,
        patience: Duration,
        pick: impl Fn(FromChild) -> Option<T>,
    ) -> anyhow::Result<T> {
        let process = self.process(node);
        Ok(self.children.ask(process..process + 1, message, patience, pick)?.remove(0))
    }

    /// Has a node take a snapshot, and waits until it is durable.
    pub(crate) fn snapshot(&mut self, node: u64) -> anyhow::Result<()> {
        let taken = self.ask(node, &ToChild::Snapshot, RECOVERY, |message| match message {
            FromChild::Snapshot(taken) => Some(taken),
            _ => None,
        })?;
        taken.map(drop).map_err(|error| anyhow!("node {node} took no snapshot: {error}"))
    }

    /// The group as a node sees it.
    pub(crate) fn role(&mut self, node: u64) -> anyhow::Result<GroupRole> {
        let roles = self.ask(node, &ToChild::Roles, ANSWER, |message| match message {
            FromChild::Roles(roles) => Some(roles),
            _ => None,
        })?;
        roles.first().copied().context("a node without its group")
    }

    /// The group as each node sees it.
    fn roles(&mut self) -> anyhow::Result<Vec<Vec<GroupRole>>> {
        self.numbers().map(|node| Ok(vec![self.role(node)?])).collect()
    }

    /// Lets time pass, but not unwatched.
    pub(crate) fn idle(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        while self.children.next(until)?.is_some() {}
        Ok(())
    }

    /// Waits until all agree on a leader and have applied what that one had committed when they
    /// first did; gives the leader.
    pub(crate) fn settle(&mut self) -> anyhow::Result<u64> {
        let deadline = Instant::now() + RECOVERY;
        let mut committed = None;
        while Instant::now() < deadline {
            let roles = self.roles()?;
            if let Some((_, leader)) = agreed_leader(&roles, 0) {
                let target = *committed.get_or_insert(roles[leader as usize - 1][0].commit);
                if roles.iter().all(|role| role[0].applied >= target) {
                    return Ok(leader);
                }
            } else {
                committed = None;
            }
            self.idle(POLL)?;
        }
        bail!("the group is not well after {RECOVERY:?}")
    }

    /// Begins to load them; latencies count in the last of so many phases at first.
    pub(crate) fn under_load(&self, pace: Pace, phases: usize) -> anyhow::Result<Steady> {
        let load = Steady::start(pace, self.setups.len() as u64, phases)?;
        load.enter(phases - 1);
        self.numbers().for_each(|node| load.serves(node, self.client(node)));
        Ok(load)
    }

    /// Has the log grow by so many bytes; then the load goes on at the `foreground`'s pace.
    pub(crate) fn grow(
        &mut self,
        load: &Steady,
        bytes: u64,
        foreground: Pace,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let until = load.acknowledged() + bytes / BULK.payload as u64;
        load.set(BULK);
        while load.acknowledged() < until {
            if Instant::now() > deadline {
                bail!("the log did not grow by {bytes} bytes within {PATIENCE:?}");
            }
            self.idle(POLL / 2)?;
        }
        load.set(foreground);
        Ok(())
    }

    /// Waits until a follower has applied what the leader has by now; says how long that took.
    pub(crate) fn await_follower(
        &mut self,
        leader: u64,
        follower: u64,
    ) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let target = self.role(leader)?.applied;
        while self.role(follower)?.applied < target {
            if began.elapsed() > PATIENCE {
                bail!("node {follower} did not catch up within {PATIENCE:?}");
            }
            self.idle(POLL / 2)?;
        }
        Ok(began.elapsed())
    }

    /// What every replica applied, once they have all that is committed; and who has not in time.
    fn summaries(&mut self) -> anyhow::Result<(Vec<Vec<Summary>>, Option<String>)> {
        let deadline = Instant::now() + RECOVERY;
        let behind = loop {
            let behind = laggard(&self.roles()?);
            if behind.is_none() || Instant::now() > deadline {
                break behind;
            }
            self.idle(POLL)?;
        };
        let pick = |message| match message {
            FromChild::Summaries(summaries) => Some(summaries),
            _ => None,
        };
        let all = self.numbers().map(|node| self.ask(node, &ToChild::Summaries, ANSWER, pick));
        Ok((all.collect::<anyhow::Result<_>>()?, behind))
    }

    /// Ends the load, and all nodes in an orderly way: what became of it, and whether the replicas
    /// bear that out.
    pub(crate) fn conclude(mut self, load: Steady) -> anyhow::Result<(Tale, Verification)> {
        self.settle()?;
        let tale = load.stop();
        let (replicas, behind) = self.summaries()?;
        let mut found = verify(std::slice::from_ref(&tale.outcome), &replicas);
        if let Some(behind) = behind {
            found.find(|| behind);
        }
        self.children.shut_down(STOP)?;
        Ok((tale, found))
    }
}
