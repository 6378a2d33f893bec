//! What groups cost that nobody uses: two clusters side by side, one with many groups and one with
//! a single one, which says what a node costs without the others.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use crate::args::IdleArgs;
use crate::cluster::Cluster;
use crate::control::{Costs, FromChild, ToChild};
use crate::data_dir::DataDir;
use crate::report::RunReport;

/// How long all groups may take to find rest.
const PATIENCE: Duration = Duration::from_secs(120);
const ANSWER: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(500);

/// One node that does nothing.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct IdleNode {
    /// Of one core.
    cpu_percent: f64,
    bytes_sent_per_second: f64,
    rss: u64,
}

/// The result. The fields' names are the JSON object's.
#[derive(Debug, Serialize)]
pub(crate) struct IdleReport {
    nodes: u64,
    groups: u64,
    seconds: u64,
    /// The nodes with many groups, and those with one.
    idle: Vec<IdleNode>,
    idle_alone: Vec<IdleNode>,
    /// Resident memory that a group adds, its state machine included; the mean of the nodes.
    rss_bytes_per_group: f64,
    /// Operations per second of one busy group among many, and of one alone, round by round.
    ops_among_many: Vec<f64>,
    ops_alone: Vec<f64>,
    /// The medians' ratio.
    ratio: Option<f64>,
}

/// Measures.
pub(crate) fn run(args: &IdleArgs) -> anyhow::Result<IdleReport> {
    let directories = [DataDir::of_run(None, false)?, DataDir::of_run(None, false)?];
    let (many_args, one_args) = (args.cluster(args.groups), args.cluster(1));
    let mut many = Cluster::start(&many_args, &directories[0])?;
    let mut one = Cluster::start(&one_args, &directories[1])?;
    // One group's leader is all that is asked for: asking for each would leave its traces in memory.
    await_rest(&mut many, args.groups)?;
    await_rest(&mut one, 1)?;
    let before = [costs(&mut many)?, costs(&mut one)?];
    many.idle(Duration::from_secs(args.seconds))?;
    let after = [costs(&mut many)?, costs(&mut one)?];
    let [idle, idle_alone] = [0, 1].map(|at| {
        let pairs = before[at].iter().zip(&after[at]);
        pairs.map(|(before, after)| IdleNode::between(before, after)).collect::<Vec<_>>()
    });
    let (mut ops_among_many, mut ops_alone) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        for (cluster, ops) in [(&mut many, &mut ops_among_many), (&mut one, &mut ops_alone)] {
            let roles = cluster.await_leaders()?;
            let measured = cluster.load(&roles[..1])?;
            ops.push(measured.load.ops as f64 / args.seconds as f64);
        }
    }
    let memory = |nodes: &[IdleNode]| {
        nodes.iter().map(|node| node.rss as f64).sum::<f64>() / nodes.len() as f64
    };
    let added = memory(&idle) - memory(&idle_alone);
    let ratio = median(&ops_among_many).zip(median(&ops_alone)).map(|(many, one)| many / one);
    many.children.shut_down(PATIENCE)?;
    one.children.shut_down(PATIENCE)?;
    Ok(IdleReport {
        nodes: args.nodes,
        groups: args.groups,
        seconds: args.seconds,
        rss_bytes_per_group: added / (args.groups - 1) as f64,
        idle,
        idle_alone,
        ops_among_many,
        ops_alone,
        ratio,
    })
}

fn costs(cluster: &mut Cluster<'_>) -> anyhow::Result<Vec<Costs>> {
    let nodes = cluster.nodes();
    cluster.children.ask(nodes, &ToChild::Costs, ANSWER, |message| match message {
        FromChild::Costs(costs) => Some(costs),
        _ => None,
    })
}

/// Waits until all groups rest on all nodes.
fn await_rest(cluster: &mut Cluster<'_>, groups: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let resting: Vec<u64> = costs(cluster)?.iter().map(|costs| costs.resting).collect();
        if resting.iter().all(|resting| *resting == groups) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{resting:?} of {groups} groups rest after {PATIENCE:?}");
        }
        cluster.idle(POLL)?;
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get((sorted.len().max(1) - 1) / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

impl IdleNode {
    fn between(before: &Costs, after: &Costs) -> Self {
        let seconds = (after.at - before.at) as f64 / 1e9;
        Self {
            cpu_percent: (after.cpu_ns - before.cpu_ns) as f64 / 1e7 / seconds,
            bytes_sent_per_second: (after.bytes_sent - before.bytes_sent) as f64 / seconds,
            rss: after.rss,
        }
    }
}

impl RunReport for IdleReport {
    fn passed(&self) -> bool {
        true
    }

    fn table(&self) -> String {
        let Self { nodes, groups, seconds, .. } = self;
        let mut table = format!("\n{nodes} nodes, {groups} groups at rest, {seconds} s\n\n");
        let mut rows = |what: &str, nodes: &[IdleNode]| {
            for (node, at) in nodes.iter().zip(1..) {
                let IdleNode { cpu_percent, bytes_sent_per_second, rss } = node;
                let memory = *rss as f64 / 1e6;
                let line = format!(
                    "{cpu_percent:>8.2} % of a core {bytes_sent_per_second:>10.0} B/s sent \
                     {memory:>8.1} MB"
                );
                writeln!(table, "  {what}, node {at}{line}").expect("strings take all");
            }
        };
        rows("many groups", &self.idle);
        rows("one group  ", &self.idle_alone);
        let memory = self.rss_bytes_per_group;
        writeln!(table, "\n  {memory:.0} B of memory per group").expect("strings take all");
        if let Some(ratio) = self.ratio {
            let (many, one) = (&self.ops_among_many, &self.ops_alone);
            let line = format!("{many:.0?} op/s among many, {one:.0?} alone: {ratio:.3}");
            writeln!(table, "  one busy group: {line}").expect("strings take all");
        }
        table
    }
}
