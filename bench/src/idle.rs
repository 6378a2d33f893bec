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
use crate::report::{RunReport, median};

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
    /// One busy group among many, and one alone, round by round.
    busy_among_many: Vec<Busy>,
    busy_alone: Vec<Busy>,
    /// What the group among many reaches of the other's throughput, by the medians; and what an
    /// operation of the other costs of its processor time, which says more on a machine that has
    /// other things to do as well.
    throughput_ratio: Option<f64>,
    cpu_ratio: Option<f64>,
}

/// One busy group.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Busy {
    ops_per_second: f64,
    /// Of all processes.
    cpu_ns_per_op: f64,
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
    let (mut busy_among_many, mut busy_alone) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        for (cluster, all) in [(&mut many, &mut busy_among_many), (&mut one, &mut busy_alone)] {
            all.push(Busy::measure(cluster, args.seconds)?);
        }
    }
    let memory = |nodes: &[IdleNode]| {
        nodes.iter().map(|node| node.rss as f64).sum::<f64>() / nodes.len() as f64
    };
    let added = memory(&idle) - memory(&idle_alone);
    let medians = |part: fn(&Busy) -> f64| {
        let of = |all: &[Busy]| median(&all.iter().map(part).collect::<Vec<_>>());
        of(&busy_among_many).zip(of(&busy_alone))
    };
    let throughput_ratio = medians(|busy| busy.ops_per_second).map(|(many, one)| many / one);
    let cpu_ratio = medians(|busy| busy.cpu_ns_per_op).map(|(many, one)| one / many);
    many.children.shut_down(PATIENCE)?;
    one.children.shut_down(PATIENCE)?;
    Ok(IdleReport {
        nodes: args.nodes,
        groups: args.groups,
        seconds: args.seconds,
        rss_bytes_per_group: added / (args.groups - 1) as f64,
        idle,
        idle_alone,
        busy_among_many,
        busy_alone,
        throughput_ratio,
        cpu_ratio,
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

impl Busy {
    fn measure(cluster: &mut Cluster<'_>, seconds: u64) -> anyhow::Result<Self> {
        let roles = cluster.await_leaders()?;
        let measured = cluster.load(&roles[..1])?;
        let cpu_ns: u64 = measured.usages.iter().map(|(_, usage)| usage.cpu_ns).sum();
        let ops = measured.load.ops as f64;
        Ok(Self {
            ops_per_second: ops / seconds as f64,
            cpu_ns_per_op: cpu_ns as f64 / ops.max(1.0),
        })
    }
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
        let rounds = |busy: &[Busy]| {
            let round = |busy: &Busy| {
                let Busy { ops_per_second, cpu_ns_per_op } = busy;
                format!("{ops_per_second:>12.0} op/s {cpu_ns_per_op:>8.0} ns/op\n")
            };
            busy.iter().map(round).map(|round| format!("  {round}")).collect::<String>()
        };
        if let (Some(throughput), Some(cpu)) = (self.throughput_ratio, self.cpu_ratio) {
            let (many, alone) = (rounds(&self.busy_among_many), rounds(&self.busy_alone));
            write!(
                table,
                "\n  one busy group among many\n{many}  alone\n{alone}  {throughput:.3} of its \
                 throughput, {cpu:.3} by processor time\n"
            )
            .expect("strings take all");
        }
        table
    }
}
