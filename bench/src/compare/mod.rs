//! Ringleader and its peers under the same load, in turn, on one machine.
//!
//! Every round runs every engine on every point of the grid (payload by operations in flight), the
//! engines in another order each time. Then, with `--shares`, each peer is run at shares of its own
//! maximum, and Ringleader at the same rate beside it. `peer` finds and builds them, `nodes` speaks
//! with their processes, and `result` is what came out.

mod args;
mod nodes;
mod peer;
mod result;

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::args::ClusterArgs;
use crate::cluster::{self, free_addresses_apart};
use crate::data_dir::DataDir;
use crate::disk::{self, Device};
use crate::histogram::Latencies;
use crate::machine::Machine;
use crate::signals;

use nodes::{Nodes, Setup};
use peer::{Peer, PeerMeasured};
use result::{Comparison, Engine, Run, RunCost, Workload};

pub(crate) use args::CompareArgs;

/// Nodes of every cluster.
const NODES: usize = 3;
/// Ports that a peer's node may use, from its first on.
const PORTS: u16 = 10;
/// The name of this engine among the others.
pub(crate) const RINGLEADER: &str = "ringleader";
/// Between two runs, so that what the disk still does for the last one is over.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs the comparison.
pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<Comparison> {
    let directory = DataDir::of_run(args.output.data_dir(), false)?;
    let peers = Peer::find(&args.peers_dir, &args.peers)?;
    let result = Comparison::new(Machine::describe(directory.path()), args.rounds);
    let mut field = Field { args, directory, peers: Vec::new(), result };
    field.result.engines.push(Engine::ringleader());
    for peer in peers {
        match peer.build() {
            Ok(()) => {
                field.result.engines.push(Engine::new(&peer.name));
                field.peers.push(peer);
            }
            Err(reason) => {
                eprintln!("{} is left out: {reason}", peer.name);
                field.result.engines.push(Engine::skipped(&peer.name, reason));
            }
        }
    }
    field.closed_loops()?;
    field.open_loops()?;
    Ok(field.result)
}

struct Field<'a> {
    args: &'a CompareArgs,
    directory: DataDir,
    peers: Vec<Peer>,
    result: Comparison,
}

impl Field<'_> {
    /// This engine, and those that could be built.
    fn names(&self) -> Vec<String> {
        let peers = self.peers.iter().map(|peer| peer.name.clone());
        std::iter::once(RINGLEADER.to_owned()).chain(peers).collect()
    }

    fn closed_loops(&mut self) -> anyhow::Result<()> {
        for round in 0..self.args.rounds as usize {
            for payload in self.args.payload.clone() {
                for inflight in self.args.inflight.clone() {
                    let mut names = self.names();
                    let turn = round % names.len();
                    names.rotate_left(turn);
                    for name in names {
                        self.run_one(&name, self.workload(payload, inflight, None))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Each peer at shares of what it did at most, and this engine at the same rates.
    fn open_loops(&mut self) -> anyhow::Result<()> {
        for round in 0..self.args.rounds {
            for payload in self.args.payload.clone() {
                for name in self.names() {
                    let Some((inflight, most)) = self.result.most(&name, payload) else { continue };
                    for share in self.args.shares.clone() {
                        let rate = (most * share as f64 / 100.0).max(1.0) as u64;
                        let workload = Workload {
                            share: Some(share),
                            peer: Some(name.clone()),
                            ..self.workload(payload, inflight.max(self.args.room), Some(rate))
                        };
                        let mut pair = vec![name.clone(), RINGLEADER.to_owned()];
                        pair.dedup();
                        if round % 2 == 1 {
                            pair.reverse();
                        }
                        for engine in pair {
                            self.run_one(&engine, workload.clone())?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn workload(&self, payload: u64, inflight: u64, rate: Option<u64>) -> Workload {
        Workload {
            nodes: NODES as u64,
            groups: self.args.groups,
            payload_bytes: payload,
            inflight,
            rate,
            share: None,
            peer: None,
            seconds: self.args.seconds,
            warmup_seconds: self.args.warmup,
        }
    }

    /// One engine, once. That it fails is a result; only an interrupt ends the comparison.
    fn run_one(&mut self, name: &str, workload: Workload) -> anyhow::Result<()> {
        signals::check()?;
        self.directory.clear()?;
        disk::settle(PAUSE);
        let peer = self.peers.iter().find(|peer| peer.name == name).cloned();
        let ran = match peer {
            Some(peer) => self.run_peer(&peer, &workload),
            None => self.run_ringleader(&workload),
        };
        signals::check()?;
        let run = ran.unwrap_or_else(|error| Run::failed(format!("{error:#}")));
        eprintln!("{}", run.line(name, &workload));
        self.result.add(name, workload, run);
        Ok(())
    }

    fn run_ringleader(&self, workload: &Workload) -> anyhow::Result<Run> {
        let args = ClusterArgs {
            nodes: workload.nodes,
            shards: self.args.shards,
            groups: workload.groups,
            payload: workload.payload_bytes,
            inflight: workload.inflight,
            rate: workload.rate,
            seconds: workload.seconds,
            warmup: workload.warmup_seconds,
            ..ClusterArgs::plain()
        };
        Ok(cluster::run_in(&args, &self.directory, None)?.into())
    }

    fn run_peer(&mut self, peer: &Peer, workload: &Workload) -> anyhow::Result<Run> {
        let setup = Setup {
            directory: self.directory.path(),
            addresses: free_addresses_apart(NODES, PORTS)?,
            groups: workload.groups,
            payload: workload.payload_bytes,
            inflight: workload.inflight,
            rate: workload.rate,
            options: &self.args.peer_options,
        };
        let mut nodes = Nodes::start(peer, &setup)?;
        let ready = nodes.ready()?;
        nodes.await_leaders(workload.groups)?;
        nodes.load()?;
        wait(workload.warmup_seconds)?;
        let device = Device::under(self.directory.path());
        let look = |nodes: &Nodes| {
            (nodes.cpu_ns(), device.as_ref().and_then(Device::counters), nodes.rss_peak())
        };
        nodes.measure()?;
        let (cpu_start, disk_start, _) = look(&nodes);
        wait(workload.seconds)?;
        let ((cpu_end, disk_end, rss_peak), measured) = nodes.end(look)?;
        let acknowledged = measured.iter().map(|node| node.acknowledged).sum();
        let agreed = nodes.agree(acknowledged)?;
        nodes.stop()?;
        let disk = disk_end.zip(disk_start).map(|(end, start)| end.since(&start));
        let cost = RunCost { cpu_ns: cpu_end.saturating_sub(cpu_start), disk, rss_peak };
        let mut failures = failures(&measured, &agreed);
        let flushed = disk.is_none_or(|disk| disk.flushes > 0);
        let flushes = device.as_ref().is_some_and(Device::needs_flushes);
        if ready.durable && flushes && !flushed {
            failures.push("it says that it is durable, and the device was never flushed".into());
        }
        self.result.describe(&peer.name, ready);
        let (latencies, tally) = merged(&measured)?;
        Ok(Run::new(tally, &latencies, cost, failures))
    }
}

/// Lets time pass, but not against an interrupt.
fn wait(seconds: u64) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        signals::check()?;
        let left = until.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
    Ok(())
}

fn merged(measured: &[PeerMeasured]) -> anyhow::Result<(Latencies, result::Tally)> {
    let mut latencies = Latencies::default();
    let mut tally = result::Tally::default();
    for node in measured {
        for (nanoseconds, count) in &node.histogram {
            latencies.record(*nanoseconds, *count);
        }
        latencies.reached(node.max_ns);
        tally.ops += node.ops;
        tally.errors += node.errors;
        tally.unknown += node.unknown;
        tally.busy += node.busy;
        tally.seconds = tally.seconds.max(node.seconds);
    }
    (tally.seconds > 0.0).then_some(()).context("no node measured any time")?;
    Ok((latencies, tally))
}

/// Everything that makes a peer's run fail.
fn failures(measured: &[PeerMeasured], agreed: &Result<u64, String>) -> Vec<String> {
    let sum = |of: fn(&PeerMeasured) -> u64| measured.iter().map(of).sum::<u64>();
    let mut failures = Vec::new();
    if sum(|node| node.ops) == 0 {
        failures.push("no operation was acknowledged in the measured part".to_owned());
    }
    let (errors, unknown) = (sum(|node| node.errors), sum(|node| node.unknown));
    if errors + unknown > 0 {
        let messages: Vec<_> = measured.iter().flat_map(|node| node.messages.clone()).collect();
        failures.push(format!(
            "{errors} operations failed and {unknown} have an unknown outcome: {}",
            messages.join("; ")
        ));
    }
    match agreed {
        Err(reason) => failures.push(reason.clone()),
        Ok(count) if *count > sum(|node| node.proposed) => failures.push(format!(
            "{count} operations were applied, and only {} proposed",
            sum(|node| node.proposed)
        )),
        Ok(_) => {}
    }
    failures
}
