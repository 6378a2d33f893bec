//! A node of the cluster: one process, one engine.

use std::io::BufRead;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_lite::future::block_on;
use ringleader::report::Exporter;
use ringleader::{
    Engine, EngineConfig, GroupConfig, GroupId, Handle, Member, NodeId, RoleName, StartError,
    StateMachine, SyncMode,
};

use crate::clock;
use crate::control::{
    Costs, Failure, FromChild, GroupRole, LoadPlan, NodeSetup, Outlet, SnapshotSetup, SyncChoice,
    ToChild,
};
use crate::cpu;
use crate::embedded::{CorePort, ThreadPort};
use crate::ledger::Summary;
use crate::load::{Loader, Port, Progress};
use crate::machine_state::{Machine, Roles};
use crate::remote_server;
use crate::worker::{self, Loaders, Pending, StageTimes};

/// Bytes that the engine charges for an operation in flight, besides its payload, rounded up.
const OPERATION_WEIGHT: usize = 64;

/// How far clocks may drift apart in a lease.
const DRIFT: Duration = Duration::from_millis(100);

/// More groups than this are added up in the metrics.
const LISTED_GROUPS: usize = 100;

/// Runs until the orchestrator says so, or is gone.
pub(crate) fn run() -> anyhow::Result<()> {
    let out = Outlet::new();
    let mut lines = std::io::stdin().lock().lines();
    let first = lines.next().context("no setup on standard input")??;
    let ToChild::Start(setup) = serde_json::from_str(&first)? else {
        anyhow::bail!("a node starts with its setup");
    };
    setup.tuning.apply()?;
    let node = match Node::start(*setup) {
        Ok(node) => node,
        Err((reason, error)) => {
            out.send(&FromChild::Failed { reason, message: format!("{error:#}") });
            return Err(error);
        }
    };
    let _exporter = node.setup.metrics.map(|address| node.export(address)).transpose()?;
    let depth = node.setup.inflight as usize;
    out.send(&FromChild::Ready { clients: remote_server::serve(node.handle.clone(), depth)? });
    for line in lines {
        match serde_json::from_str(&line?)? {
            ToChild::Start(_) | ToChild::Null(_) | ToChild::Writer(_) | ToChild::Go => {
                anyhow::bail!("this node runs already")
            }
            ToChild::Roles => out.send(&FromChild::Roles(node.roles()?)),
            ToChild::Measure(window) => {
                worker::watch(window, None, node.stage_times(), out.clone());
            }
            ToChild::Load(plan) => {
                let loaders = Some(node.load(&plan)?);
                worker::watch(plan.window, loaders, node.stage_times(), out.clone());
            }
            ToChild::Costs => out.send(&FromChild::Costs(node.costs()?)),
            ToChild::Summaries => out.send(&FromChild::Summaries(node.summaries()?)),
            ToChild::Snapshot => {
                let taken = block_on(node.handle.snapshot(GroupId(1)));
                let taken = taken.map(|at| at.index.0).map_err(|error| error.to_string());
                out.send(&FromChild::Snapshot(taken));
            }
            ToChild::Shutdown => break,
        }
    }
    node.engine.shutdown();
    out.send(&FromChild::Stopped);
    Ok(())
}

struct Node {
    setup: NodeSetup,
    engine: Engine,
    handle: Handle,
    roles: Arc<Roles>,
}

impl Node {
    fn start(setup: NodeSetup) -> Result<Self, (Failure, anyhow::Error)> {
        let roles = Arc::new(Roles::new(setup.groups as usize));
        let factory = {
            let roles = Arc::clone(&roles);
            let bytes = setup.snapshots.map_or(0, |snapshots| snapshots.bytes);
            move |group: GroupId| -> Box<dyn StateMachine> {
                Box::new(Machine::new(group.0 as usize - 1, bytes, Arc::clone(&roles)))
            }
        };
        match Engine::start(engine_config(&setup), factory) {
            Ok(engine) => Ok(Self { handle: engine.handle(), setup, engine, roles }),
            Err(error @ StartError::Listen { .. }) => Err((Failure::Listen, error.into())),
            Err(error) => Err((Failure::Other, error.into())),
        }
    }

    fn export(&self, address: SocketAddr) -> anyhow::Result<Exporter> {
        Exporter::start(address, self.handle.clone(), LISTED_GROUPS)
            .with_context(|| format!("serving metrics at {address}"))
    }

    fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (1..=self.setup.groups).map(GroupId)
    }

    fn roles(&self) -> anyhow::Result<Vec<GroupRole>> {
        let role = |group: GroupId| {
            let status = block_on(self.handle.status(group))?;
            let shard = self.handle.shard_of(group).ok_or_else(|| anyhow!("no group {group}"))?;
            Ok(GroupRole {
                group: group.0,
                shard,
                leads: status.role == RoleName::Leader,
                leader: status.leader.map_or(0, |leader| leader.0),
                commit: status.commit.0,
                applied: status.applied.0,
            })
        };
        self.groups().map(role).collect()
    }

    fn costs(&self) -> anyhow::Result<Costs> {
        let shards = block_on(self.handle.shard_reports())?;
        let links = shards.iter().flat_map(|shard| &shard.links);
        Ok(Costs {
            resting: shards.iter().map(|shard| shard.resting as u64).sum(),
            at: clock::now(),
            cpu_ns: cpu::time(),
            bytes_sent: links.map(|link| link.bytes_sent).sum(),
            rss: cpu::memory().0,
        })
    }

    /// What the node's shards have spent, by stage; nothing unless that is counted.
    fn stage_times(&self) -> impl Fn() -> StageTimes + Send + use<> {
        let (handle, counts) = (self.handle.clone(), self.setup.stages);
        move || {
            let shards = counts.then(|| block_on(handle.shard_reports()).unwrap_or_default());
            let mut sum: StageTimes = Vec::new();
            for shard in shards.unwrap_or_default() {
                for (at, (name, time)) in shard.stages.named().into_iter().enumerate() {
                    if sum.len() == at {
                        sum.push((name.to_owned(), 0));
                    }
                    sum[at].1 += time.as_nanos() as u64;
                }
            }
            sum
        }
    }

    fn summaries(&self) -> anyhow::Result<Vec<Summary>> {
        let summary = |group: GroupId| {
            let inspect = move |machine: &mut Machine| machine.ledger.summary(group.0);
            Ok(block_on(self.handle.inspect(group, inspect))?)
        };
        self.groups().map(summary).collect()
    }

    /// One loader per shard; which of its groups it loads follows their leaders. A closed loop runs
    /// on the shard's core. An open loop keeps to a timetable, and for that it needs a thread.
    fn load(&self, plan: &LoadPlan) -> anyhow::Result<Loaders> {
        let progress = Arc::new(Progress::default());
        let mut reports = Vec::new();
        for shard in 0..self.handle.shards() {
            let load = ShardLoad {
                plan: plan.clone(),
                session: u16::try_from(self.setup.node)?,
                indices: self
                    .groups_on(shard)
                    .map(|g| g.0 - 1)
                    .filter(|at| *at < plan.groups)
                    .collect(),
                roles: Arc::clone(&self.roles),
                progress: Arc::clone(&progress),
            };
            reports.push(if plan.rate.is_some() {
                let queue = self.handle.queue(shard, plan.inflight as usize);
                let loader = load.with(ThreadPort::new(queue, plan.read_by));
                worker::on_thread(format!("load-{shard}"), move || loader.run_here())?
            } else {
                load.on_core(&self.handle, shard)?
            });
        }
        Ok(Loaders { reports, progress, groups: plan.groups })
    }

    fn groups_on(&self, shard: u32) -> impl Iterator<Item = GroupId> {
        self.groups().filter(move |group| self.handle.shard_of(*group) == Some(shard))
    }
}

/// What a shard's loader is made from.
struct ShardLoad {
    plan: LoadPlan,
    session: u16,
    indices: Vec<u64>,
    roles: Arc<Roles>,
    progress: Arc<Progress>,
}

impl ShardLoad {
    fn with<P: Port>(self, port: P) -> Loader<P, Arc<Roles>> {
        let ways = (port, self.roles);
        Loader::new(&self.plan, self.indices.into_iter(), self.session, ways, self.progress)
    }

    fn on_core(self, handle: &Handle, shard: u32) -> anyhow::Result<Pending> {
        let (done, report) = flume::bounded(1);
        handle.spawn_on(shard, move |local| async move {
            let wait = self.plan.begin.saturating_sub(clock::now());
            local.sleep(Duration::from_nanos(wait)).await;
            let depth = self.plan.inflight as usize;
            // Nobody waits for the report any more when the run was given up.
            let port = CorePort::new(local, depth, self.plan.read_by);
            let _ = done.send(self.with(port).run().await);
        })?;
        Ok(report)
    }
}

fn engine_config(setup: &NodeSetup) -> EngineConfig {
    let nodes = || (1..=setup.addresses.len() as u64).map(NodeId);
    let members = nodes().zip(&setup.addresses);
    let members =
        members.map(|(node, address)| Member { node, address: *address, shards: setup.shards });
    let (node, members) = (NodeId(setup.node), members.collect());
    let mut config = EngineConfig::new(setup.cluster, node, members, setup.data_dir.clone());
    let voters: Vec<_> = nodes().collect();
    let group = |number| GroupConfig { group: GroupId(number), voters: voters.clone() };
    config.groups = (1..=setup.groups).map(group).collect();
    if let Some(sync) = setup.sync {
        config.wal.sync = match sync {
            SyncChoice::DurableWrites => SyncMode::DurableWrites,
            SyncChoice::Coalesced => SyncMode::CoalescedSync,
        };
    }
    if let Some(depth) = setup.wal_depth {
        config.wal.depth = depth;
    }
    if let Some(timeout) = setup.election_timeout_ms {
        config.raft.election_timeout = Duration::from_millis(timeout);
        config.raft.heartbeat_interval = config.raft.election_timeout / 10;
    }
    // Clocks of one machine go alike; the bound is the usual one for those of several.
    config.raft.lease_reads = setup.leases.then_some(DRIFT);
    setup.tuning.configure(setup.node, setup.shards, &mut config);
    config.stage_times = setup.stages;
    // By bytes alone: a million entries, the default, come many times a second here.
    config.snapshots.entries = None;
    if let Some(SnapshotSetup { send_rate, .. }) = setup.snapshots {
        (config.snapshots.bytes, config.snapshots.keep_entries) = (None, 0);
        config.net.bulk.bytes_per_second = send_rate;
    }
    // What was asked to be in flight must fit, all on one shard and in one group if need be.
    let bytes = setup.inflight as usize * (setup.payload + OPERATION_WEIGHT);
    let limits = &mut config.limits;
    limits.shard_bytes = limits.shard_bytes.max(bytes);
    limits.group_bytes = limits.group_bytes.max(bytes);
    config
}
