//! The load process of `--client remote`: no engine, one connection and one thread for each shard
//! of each node.

use std::io::BufRead;
use std::sync::Arc;

use anyhow::Context;

use crate::control::{FromChild, LoadPlan, Outlet, RemotePlan, ToChild};
use crate::load::{Loader, Progress};
use crate::remote_client::{NodeRoutes, Routes, TcpPort};
use crate::worker::{self, Loaders};

/// Marks the sessions of remote loaders.
const REMOTE_SESSION: u16 = 0x8000;

/// Runs until the orchestrator says so, or is gone.
pub(crate) fn run() -> anyhow::Result<()> {
    let out = Outlet::new();
    for line in std::io::stdin().lock().lines() {
        match serde_json::from_str(&line?)? {
            ToChild::Load(plan) => {
                let loaders = start(&plan)?;
                worker::watch(plan.window, Some(loaders), Vec::new, out.clone());
            }
            ToChild::Shutdown => {
                out.send(&FromChild::Stopped);
                break;
            }
            other => anyhow::bail!("a load process was sent {other:?}"),
        }
    }
    Ok(())
}

fn start(plan: &LoadPlan) -> anyhow::Result<Loaders> {
    let remote = plan.remote.as_ref().context("a load process needs addresses")?;
    let routes = Routes::new(remote);
    let progress = Arc::new(Progress::default());
    let mut reports = Vec::new();
    for node in 1..=remote.nodes.len() as u64 {
        for shard in 0..remote.shards {
            let routing = NodeRoutes { routes: Arc::clone(&routes), node };
            reports.push(connect(plan, remote, (node, shard), routing, &progress)?);
        }
    }
    Ok(Loaders { reports, progress, groups: plan.groups })
}

fn connect(
    plan: &LoadPlan,
    remote: &RemotePlan,
    (node, shard): (u64, u32),
    routing: NodeRoutes,
    progress: &Arc<Progress>,
) -> anyhow::Result<worker::Pending> {
    let address = remote.nodes[node as usize - 1];
    let port = TcpPort::connect(node, address, shard)
        .with_context(|| format!("connecting to node {node} at {address}"))?;
    let groups = remote.groups.iter().zip(0..);
    let indices = groups.filter(|((of, _), _)| *of == shard).map(|(_, index)| index);
    let session = REMOTE_SESSION + ((node - 1) as u16 * remote.shards as u16 + shard as u16);
    let loader = Loader::new(plan, indices, session, (port, routing), Arc::clone(progress));
    worker::on_thread(format!("load-{node}-{shard}"), move || loader.run_here())
}
