//! `kv compare`: this server, Redis and etcd under the same load, side by side.
//!
//! # How a run goes
//! `args` says which loads there are. Each round takes them one after the other, and each of the
//! `systems` in turn, so that what the machine does meanwhile meets all of them. Every run has servers
//! of its own (`processes`, `etcd`) with nothing in them. The client (`load`, `connection`) is the same
//! for Redis and for this server: a few threads that serve all connections, each with a pipeline in
//! flight. `meter` reads processor times and the disk's counters around the measured part, `tally`
//! has the latencies, `report` the medians.
//!
//! Before all that each system makes one write after the other, and the disk must have flushed at
//! least as often: what does not make its writes durable is no match, and is said to be none.

mod args;
mod caller;
mod connection;
mod etcd;
mod interrupt;
mod load;
mod meter;
mod processes;
mod report;
mod systems;
mod tally;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Serialize;

pub use args::CompareArgs;
use args::Kind;
use load::{Load, Measured};
use meter::Disk;
use report::{Figures, PointReport, Runs};

/// With fewer writes, one after the other, the flushes that others ask for say as much.
const LEAST_WRITES: u64 = 10;

/// What is shown in the end.
#[derive(Debug, Serialize)]
struct Report {
    rounds: u32,
    seconds: f64,
    warmup_seconds: f64,
    groups: u16,
    shards: u16,
    leases: bool,
    systems: Vec<System>,
    left_out: Vec<String>,
    points: Vec<PointReport>,
}

impl Report {
    /// All tables.
    fn show(&self) {
        for system in &self.systems {
            println!("{} {}, nodes: {}", system.name, system.version, system.nodes);
        }
        println!(
            "cpu is the servers' processor time, client the client's per operation in us; \
             flushes are the disk's; the last columns are kv's throughput and cpu by this system's\n"
        );
        self.points.iter().for_each(|point| println!("{}", point.table()));
    }
}

/// A system that can be run.
#[derive(Debug, Serialize)]
struct System {
    #[serde(skip)]
    kind: Kind,
    name: &'static str,
    version: String,
    nodes: usize,
    /// Whether each of several writes, one after the other, made the disk flush; none when the disk
    /// has no need of it, or does not tell, or there were too few.
    durable: Option<bool>,
}

/// Compares, and writes the result; false if a run failed, or something was not durable.
///
/// # Errors
/// The arguments do not fit each other, nothing can be run here, or the user interrupted it.
pub fn compare(args: &CompareArgs) -> anyhow::Result<bool> {
    args.check()?;
    interrupt::handle()?;
    let json = args.json.as_deref();
    let on_stdout = json == Some(Path::new("-"));
    // What takes long should not fail in the end for the want of a directory.
    let create = |path: &Path| File::create(path).with_context(|| format!("{}", path.display()));
    let file = json.filter(|_| !on_stdout).map(create).transpose()?;
    let place = Place::new(args)?;
    let points = args.points();
    let first = points.first().context("there is nothing to run")?;
    let (systems, left_out) = available(args, first, &place)?;
    let points = rounds(args, &systems, &points, &place)?;
    let durable = systems.iter().all(|system| system.durable != Some(false));
    let complete = durable && !points.iter().any(PointReport::failed);
    let report = Report {
        rounds: args.rounds,
        seconds: first.measured.as_secs_f64(),
        warmup_seconds: first.warmup.as_secs_f64(),
        groups: args.groups(),
        shards: args.shards,
        leases: args.leases,
        systems,
        left_out,
        points,
    };
    match on_stdout {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => report.show(),
    }
    if let Some(file) = file {
        serde_json::to_writer_pretty(file, &report).context("writing the result")?;
    }
    Ok(complete)
}

/// The directory of all runs, each of which has a new one in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new(args: &CompareArgs) -> anyhow::Result<Self> {
        let parent = args.parent();
        let shown = parent.display();
        let made = tempfile::Builder::new().prefix("ringleader-kv-compare-").tempdir_in(&parent);
        let made = made.with_context(|| format!("making a directory in {shown}"))?;
        ensure!(
            !in_memory(made.path())?,
            "{shown} is kept in memory, where nothing is durable: name a directory on a disk with \
             --data-dir"
        );
        Ok(Self(made))
    }

    fn run(&self, kind: Kind, args: &CompareArgs, load: &Load) -> anyhow::Result<Measured> {
        let directory = self.0.path().join(kind.name());
        fs::create_dir(&directory).context("making a directory for the servers' data")?;
        let measured = systems::run(kind, args, load, &directory);
        fs::remove_dir_all(&directory).context("removing the servers' data")?;
        measured
    }
}

/// Whether a file system has no disk.
fn in_memory(path: &Path) -> anyhow::Result<bool> {
    const RAMFS: i64 = 0x8584_58f6;
    let kind = rustix::fs::statfs(path)?.f_type;
    Ok(kind == libc::TMPFS_MAGIC || kind == RAMFS)
}

/// What can be run here, with whether it is durable; and why the rest can't.
fn available(
    args: &CompareArgs,
    load: &Load,
    place: &Place,
) -> anyhow::Result<(Vec<System>, Vec<String>)> {
    let (mut systems, mut left_out): (Vec<System>, Vec<String>) = Default::default();
    for kind in args.systems.iter().copied() {
        if systems.iter().any(|system| system.kind == kind) {
            continue;
        }
        let name = kind.name();
        match systems::version(kind, args) {
            Ok(version) => {
                let durable = flushes(kind, args, load, place)?;
                let nodes = if kind == Kind::Redis { 1 } else { args::NODES };
                systems.push(System { kind, name, version, nodes, durable });
            }
            Err(why) => {
                eprintln!("{name} is left out: {why}");
                left_out.push(format!("{name}: {why}"));
            }
        }
    }
    ensure!(!systems.is_empty(), "nothing of it can be run here");
    Ok((systems, left_out))
}

/// Whether one write after the other makes the disk flush at least as often.
fn flushes(
    kind: Kind,
    args: &CompareArgs,
    load: &Load,
    place: &Place,
) -> anyhow::Result<Option<bool>> {
    let name = kind.name();
    let measured = place.run(kind, args, &load.one_by_one());
    let measured = measured.with_context(|| format!("{name}, one write after the other"))?;
    if let Some(error) = &measured.tally.first_error {
        anyhow::bail!("{name}, one write after the other: {error}");
    }
    let writes = measured.tally.latencies.len();
    let needed = Disk::under(place.0.path()).is_some_and(|disk| disk.needs_flushes());
    let Some(flushes) = measured.cost.flushes.filter(|_| needed) else {
        eprintln!("{name}: the disk does not tell by its flushes whether writes are durable");
        return Ok(None);
    };
    if writes < LEAST_WRITES {
        eprintln!(
            "{name}: {writes} writes in a second are too few to tell whether they are durable"
        );
        return Ok(None);
    }
    // The last write may be under way when the counters are read.
    let durable = flushes + 1 >= writes;
    let judged = if durable { "durable" } else { "NOT DURABLE" };
    eprintln!("{name}: {writes} writes one after the other, {flushes} flushes: {judged}");
    Ok(Some(durable))
}

fn rounds(
    args: &CompareArgs,
    systems: &[System],
    points: &[Load],
    place: &Place,
) -> anyhow::Result<Vec<PointReport>> {
    let mut runs = vec![vec![Runs::default(); systems.len()]; points.len()];
    for round in 0..args.rounds as usize {
        for (point, load) in points.iter().enumerate() {
            for turn in 0..systems.len() {
                // Each goes first as often as any other.
                let at = (turn + round) % systems.len();
                let outcome = once(systems[at].kind, args, load, place);
                interrupt::check()?;
                let runs = &mut runs[point][at];
                let Load { payload, pipeline, writes, .. } = load;
                let (number, rounds, name) = (round + 1, args.rounds, systems[at].name);
                eprint!("round {number} of {rounds}, {payload} B, pipeline {pipeline}, ");
                eprint!("{writes} % writes, {name}: ");
                match outcome {
                    Ok(figures) => {
                        eprintln!("{:.0} ops/s", figures.ops_per_second);
                        runs.rounds.push(figures);
                    }
                    Err(error) => {
                        eprintln!("failed: {error:#}");
                        runs.failures.push(format!("{error:#}"));
                    }
                }
            }
        }
    }
    let report = |(load, runs): (&Load, Vec<Runs>)| {
        PointReport::new(load, systems.iter().map(|system| system.kind).zip(runs).collect())
    };
    Ok(points.iter().zip(runs).map(report).collect())
}

/// A run without errors: one in which leaders changed says nothing.
fn once(kind: Kind, args: &CompareArgs, load: &Load, place: &Place) -> anyhow::Result<Figures> {
    let measured = place.run(kind, args, load)?;
    let errors = measured.tally.errors;
    if let Some(error) = measured.tally.first_error {
        anyhow::bail!("{errors} errors, the first: {error}");
    }
    Ok(Figures::of(&measured))
}
