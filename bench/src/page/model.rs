//! All files' results, sorted for the charts.

use super::input::{self, Cluster, Floor, Machine, Run, Tuning, Workload};
use super::load::{Content, Source};
use super::text::{bytes, plural};
use crate::compare::RINGLEADER;

/// Engines with a colour of their own, in every report the same. Others take one of the rest.
const KNOWN: [&str; 9] = [
    RINGLEADER,
    "sofajraft",
    "dragonboat",
    "etcd-raft",
    "hashicorp-raft",
    "aeron-cluster",
    "openraft",
    "raft-rs",
    "etcd",
];
/// Colours for engines that aren't known.
const SPARE: usize = 4;

/// What the page shows.
#[derive(Default)]
pub(super) struct Model {
    /// Names of the files, and the commands that wrote them.
    pub(super) files: Vec<(String, &'static str)>,
    pub(super) machines: Vec<Machine>,
    /// Ringleader first, the others as they came.
    pub(super) engines: Vec<Engine>,
    pub(super) points: Vec<Point>,
    pub(super) clusters: Vec<Cluster>,
    pub(super) floors: Vec<Floor>,
    pub(super) tunings: Vec<Tuning>,
    /// Points that several files have, of which the last counts.
    pub(super) replaced: usize,
}

pub(super) struct Engine {
    pub(super) name: String,
    /// Of its colour and its mark.
    pub(super) colour: usize,
    pub(super) described: input::Engine,
}

/// An engine under one workload.
pub(super) struct Point {
    /// Index of the engine.
    pub(super) engine: usize,
    pub(super) workload: Workload,
    pub(super) runs: Vec<Run>,
    median: Option<usize>,
}

/// What the panels of a row differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Load {
    pub(super) nodes: u64,
    pub(super) groups: u64,
    pub(super) payload_bytes: u64,
}

impl Engine {
    pub(super) fn is_own(&self) -> bool {
        self.colour == 0
    }

    pub(super) fn is_volatile(&self) -> bool {
        self.described.durable == Some(false)
    }

    /// Its name, marked if what it acknowledges is not durable.
    pub(super) fn label(&self) -> String {
        format!("{}{}", self.name, if self.is_volatile() { " †" } else { "" })
    }
}

impl Point {
    fn new(engine: usize, workload: Workload, runs: Vec<Run>, median: Option<usize>) -> Self {
        let stands = median.filter(|at| runs.get(*at).is_some_and(Run::passed));
        let median = stands.or_else(|| middle(&runs, workload.rate.is_some()));
        Self { engine, workload, runs, median }
    }

    /// The run that stands for all; none if all failed.
    pub(super) fn median(&self) -> Option<&Run> {
        self.median.map(|at| &self.runs[at])
    }

    /// The lowest and the highest of the runs that passed, if there are several.
    pub(super) fn spread(&self, of: impl Fn(&Run) -> Option<f64>) -> Option<(f64, f64)> {
        let values: Vec<f64> = self.runs.iter().filter(|run| run.passed()).filter_map(of).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(0.0, f64::max);
        (values.len() > 1).then_some((low, high))
    }

    pub(super) fn load(&self) -> Load {
        let Workload { nodes, groups, payload_bytes, .. } = self.workload;
        Load { nodes, groups, payload_bytes }
    }

    fn is_closed(&self) -> bool {
        self.workload.rate.is_none()
    }
}

/// The run with the median throughput, in an open loop the median p99, as `compare` chooses it.
fn middle(runs: &[Run], open: bool) -> Option<usize> {
    let key = |run: &Run| match open {
        true => run.latency_us.p99.unwrap_or(f64::INFINITY),
        false => run.ops_per_sec,
    };
    let passed = runs.iter().enumerate().filter(|(_, run)| run.passed());
    let mut order: Vec<_> = passed.map(|(at, run)| (key(run), at)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    order.get(order.len().saturating_sub(1) / 2).map(|(_, at)| *at)
}

impl Load {
    /// What distinguishes it in words.
    pub(super) fn title(&self) -> String {
        let groups = match self.groups {
            0 | 1 => String::new(),
            groups => format!(", {}", plural(groups as usize, "group")),
        };
        format!("{} payload{groups}", bytes(self.payload_bytes))
    }

    pub(super) fn nodes(&self) -> String {
        plural(self.nodes as usize, "node")
    }
}

impl Model {
    pub(super) fn new(sources: Vec<Source>) -> Self {
        let mut model = Self::default();
        for Source { name, content } in sources {
            let command = match content {
                Content::Cluster(cluster) => model.take_cluster(*cluster),
                Content::Compare(comparison) => model.take_comparison(comparison),
                Content::Floor(floor) => {
                    model.take_machine(&floor.machine);
                    model.floors.push(*floor);
                    "floor"
                }
                Content::Tune(tuning) => {
                    model.take_machine(&tuning.machine);
                    model.tunings.push(tuning);
                    "tune"
                }
            };
            model.files.push((name, command));
        }
        model.add_clusters_as_points();
        model.clusters.sort_by_key(|cluster| {
            let Workload { payload_bytes, inflight, rate, .. } = cluster.workload;
            (payload_bytes, inflight, rate)
        });
        model
    }

    fn take_cluster(&mut self, mut cluster: Cluster) -> &'static str {
        self.take_machine(&cluster.machine);
        let peaks = cluster.processes.iter().map(|process| process.rss_peak);
        cluster.run.rss_peak = peaks.max().unwrap_or(0);
        self.clusters.push(cluster);
        "cluster"
    }

    fn take_comparison(&mut self, comparison: input::Comparison) -> &'static str {
        comparison.machine.iter().for_each(|machine| self.take_machine(machine));
        for engine in comparison.engines {
            let at = self.engine(&engine.name);
            // Left out of this file, it may have been run for another.
            if engine.skipped.is_none() || self.engines[at].described.version.is_none() {
                self.engines[at].described = engine;
            }
        }
        for input::Point { engine, workload, median, runs } in comparison.points {
            let point = Point::new(self.engine(&engine), workload, runs, median);
            let before = self.points.len();
            self.points.retain(|old| !same_place(old, &point));
            self.replaced += before - self.points.len();
            self.points.push(point);
        }
        "compare"
    }

    fn take_machine(&mut self, machine: &Machine) {
        if *machine != Machine::default() && !self.machines.contains(machine) {
            self.machines.push(machine.clone());
        }
    }

    /// The index of an engine, which is entered if it is new.
    fn engine(&mut self, name: &str) -> usize {
        if let Some(at) = self.engines.iter().position(|engine| engine.name == name) {
            return at;
        }
        let unknown =
            self.engines.iter().filter(|engine| engine.colour >= KNOWN.len()).count() % SPARE;
        let known = KNOWN.iter().position(|known| *known == name);
        let described = input::Engine { name: name.to_owned(), ..input::Engine::default() };
        let colour = known.unwrap_or(KNOWN.len() + unknown);
        self.engines.push(Engine { name: name.to_owned(), colour, described });
        self.engines.len() - 1
    }

    /// Runs of `cluster` are points beside those of `compare`, unless that has them already. Those
    /// that differ in more than a comparison varies are an engine of their own.
    fn add_clusters_as_points(&mut self) {
        let compared = self.points.len();
        for at in 0..self.clusters.len() {
            let Cluster { workload, run, .. } = self.clusters[at].clone();
            let engine = self.engine(&variant(&workload));
            let Workload { nodes, groups, payload_bytes, inflight, rate, seconds, .. } = workload;
            let plain = Workload::default();
            let workload =
                Workload { nodes, groups, payload_bytes, inflight, rate, seconds, ..plain };
            let point = Point::new(engine, workload, vec![run], None);
            match self.points.iter().position(|old| same_place(old, &point)) {
                Some(old) if old < compared => {}
                Some(old) => {
                    let Point { engine, workload, mut runs, .. } = self.points.remove(old);
                    runs.extend(point.runs);
                    self.points.push(Point::new(engine, workload, runs, None));
                }
                None => self.points.push(point),
            }
        }
    }

    /// The loads of all points, by payload.
    pub(super) fn loads(&self) -> Vec<Load> {
        let mut loads: Vec<Load> = self.points.iter().map(Point::load).collect();
        loads.sort();
        loads.dedup();
        loads
    }

    pub(super) fn closed(&self, load: Load) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(move |point| point.load() == load && point.is_closed())
    }

    pub(super) fn open(&self, load: Load) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(move |point| point.load() == load && !point.is_closed())
    }

    /// Where each engine did most, the highest first.
    pub(super) fn best(&self, load: Load) -> Vec<&Point> {
        let rate = |point: &Point| point.median().map_or(0.0, |run| run.ops_per_sec);
        let of = |engine| self.closed(load).filter(move |point| point.engine == engine);
        let engines = 0..self.engines.len();
        let most = |engine| of(engine).max_by(|a, b| rate(a).total_cmp(&rate(b)));
        let mut best: Vec<&Point> =
            engines.filter_map(most).filter(|point| rate(point) > 0.0).collect();
        best.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
        best
    }

    pub(super) fn engine_of(&self, point: &Point) -> &Engine {
        &self.engines[point.engine]
    }
}

/// Whether two points are of one engine and one workload. The rate follows from the share.
fn same_place(a: &Point, b: &Point) -> bool {
    let rate = if a.workload.share.is_some() { b.workload.rate } else { a.workload.rate };
    // A longer run is a run of the same workload.
    let seconds = b.workload.seconds;
    a.engine == b.engine && Workload { rate, seconds, ..a.workload.clone() } == b.workload
}

/// A name for Ringleader with what a comparison doesn't vary.
fn variant(workload: &Workload) -> String {
    let mut parts = vec![RINGLEADER.to_owned()];
    parts.extend(workload.client.iter().filter(|client| *client != "embedded").cloned());
    parts.extend(workload.shards.filter(|shards| *shards > 1).map(|n| format!("{n} shards")));
    parts.extend(workload.sync.clone());
    parts.extend(workload.wal_depth.map(|depth| format!("depth {depth}")));
    parts.join(", ")
}

/// `median of 3 runs`, for the caption of a chart of these points.
pub(super) fn runs_of<'a>(points: impl IntoIterator<Item = &'a Point>) -> String {
    let counts = points.into_iter().map(|point| point.runs.len());
    let (least, most) =
        counts.fold((usize::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
    match most {
        0 => "no runs".into(),
        1 => "one run each".into(),
        _ if least == most => format!("median of {}", plural(most, "run")),
        _ => format!("median of {least} to {}", plural(most, "run")),
    }
}
