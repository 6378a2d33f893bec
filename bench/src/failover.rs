//! How long nobody serves when the leader dies, or stands still.
//!
//! Of a killed process the kernel closes the connections, and the others know at once. A halted one
//! keeps them: only its silence tells.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use crate::args::{FailoverArgs, SteadyArgs};
use crate::clock;
use crate::control::NodeSetup;
use crate::data_dir::DataDir;
use crate::machine::Machine;
use crate::nodes::Nodes;
use crate::report::{RunReport, failed, round, thousands};
use crate::steady::{Pace, Steady};
use crate::verify::Verification;

const NODES: u64 = 3;
/// How long nobody may serve before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a well group is left alone before the next strike, and at most how much longer, so that
/// strikes come at any moment between two heartbeats.
const PEACE: u64 = 300_000_000;
const JITTER: u64 = 200_000_000;

/// What is done to the leader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strike {
    Kill,
    Stop,
}

/// Runs the benchmark.
pub(crate) fn run(args: &FailoverArgs) -> anyhow::Result<Report> {
    let SteadyArgs { rate, payload, output } = &args.steady;
    let directory = DataDir::of_run(output.data_dir(), false)?;
    let pace = Pace { rate: *rate, payload: *payload as usize };
    let election_timeout_ms = Some(args.election_timeout);
    let setup = NodeSetup { election_timeout_ms, ..Nodes::setup(pace.payload) };
    let nodes = Nodes::start(NODES, &directory, &setup)?;
    let load = nodes.under_load(pace, 1)?;
    let mut run = Run { nodes, load, kills: Vec::new(), stops: Vec::new() };
    for strike in strikes(args) {
        run.strike(strike)?;
    }
    let Run { nodes, load, kills, stops } = run;
    let (tale, found) = nodes.conclude(load)?;
    let timeout = args.election_timeout as f64;
    let machine = Machine::describe(directory.path());
    Ok(Report {
        workload: Workload::new(args),
        kills: Outages::of(kills, timeout),
        stops: Outages::of(stops, timeout),
        unknown: tale.outcome.unknown.len(),
        passed: found.passed(),
        verification: found,
        machine,
    })
}

/// Kills and stops in turn, as long as there are both.
fn strikes(args: &FailoverArgs) -> impl Iterator<Item = Strike> {
    let (kills, stops) = (args.kills, args.stops);
    let turn = move |at| {
        let kill = (at < kills).then_some(Strike::Kill);
        kill.into_iter().chain((at < stops).then_some(Strike::Stop))
    };
    (0..kills.max(stops)).flat_map(turn)
}

struct Run {
    nodes: Nodes,
    load: Steady,
    /// Outages, in milliseconds.
    kills: Vec<f64>,
    stops: Vec<f64>,
}

impl Run {
    fn strike(&mut self, strike: Strike) -> anyhow::Result<()> {
        self.nodes.settle()?;
        let moment = PEACE + clock::now() / 1_000 * 7_919 % JITTER;
        self.nodes.idle(Duration::from_nanos(moment))?;
        let leader = self.nodes.settle()?;
        self.load.watch(leader);
        let signal = if strike == Strike::Kill { libc::SIGKILL } else { libc::SIGSTOP };
        let struck = self.nodes.signal(leader, signal)?;
        let deadline = Instant::now() + PATIENCE;
        let answered = loop {
            if let Some(at) = self.load.answered() {
                break at;
            }
            if Instant::now() > deadline {
                bail!("nobody served within {PATIENCE:?} after node {leader} was gone");
            }
            self.nodes.idle(Duration::from_millis(1))?;
        };
        let outage = answered.saturating_sub(struck) as f64 / 1e6;
        match strike {
            Strike::Kill => {
                self.kills.push(outage);
                let client = self.nodes.restart(leader)?;
                self.load.serves(leader, client);
            }
            Strike::Stop => {
                self.stops.push(outage);
                self.nodes.signal(leader, libc::SIGCONT)?;
            }
        }
        Ok(())
    }
}

/// The result. The fields' names are the JSON object's.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    workload: Workload,
    kills: Outages,
    stops: Outages,
    /// Operations whose outcome their caller never learned.
    unknown: u64,
    verification: Verification,
    machine: Machine,
    passed: bool,
}

#[derive(Debug, Serialize)]
struct Workload {
    nodes: u64,
    election_timeout_ms: u64,
    rate: u64,
    payload_bytes: u64,
}

impl Workload {
    fn new(args: &FailoverArgs) -> Self {
        Self {
            nodes: NODES,
            election_timeout_ms: args.election_timeout,
            rate: args.steady.rate,
            payload_bytes: args.steady.payload,
        }
    }
}

/// Times without service, of one kind.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Outages {
    /// In milliseconds, and as a multiple of the election timeout.
    median: [f64; 2],
    p90: [f64; 2],
    worst: [f64; 2],
    /// All of them, in milliseconds, sorted.
    all: Vec<f64>,
}

impl Outages {
    fn of(mut all: Vec<f64>, timeout: f64) -> Self {
        all.sort_by(f64::total_cmp);
        // The smallest that so large a share stays within.
        let at = |share: f64| {
            let rank = (all.len() as f64 * share).ceil() as usize;
            let outage = all.get(rank.saturating_sub(1)).copied().unwrap_or_default();
            [round(outage), round(outage / timeout)]
        };
        let (median, p90, worst) = (at(0.5), at(0.9), at(1.0));
        Self { median, p90, worst, all: all.into_iter().map(round).collect() }
    }
}

impl RunReport for Report {
    fn passed(&self) -> bool {
        self.passed
    }

    fn table(&self) -> String {
        let Workload { nodes, election_timeout_ms, rate, payload_bytes } = &self.workload;
        let mut table = format!(
            "\n{nodes} nodes, election timeout {election_timeout_ms} ms, {} op/s of \
             {payload_bytes} B\n{}\n\n  time without service after the leader {:>14}{:>20}{:>20}\n",
            thousands(*rate),
            self.machine.summary(),
            "median",
            "p90",
            "worst",
        );
        for (what, outages) in [("was killed", &self.kills), ("was halted", &self.stops)] {
            let cell = |[ms, timeouts]: [f64; 2]| format!("{ms:>10.0} ms {timeouts:>4.2} T");
            let cells = [outages.median, outages.p90, outages.worst].map(cell);
            let times = outages.all.len();
            writeln!(table, "  {what:<12}{times:>4} times           {}", cells.concat())
                .expect("strings take all");
        }
        let (found, unknown) = (&self.verification, thousands(self.unknown));
        writeln!(
            table,
            "  T is the election timeout\n\n  verified: {}; {unknown} of unknown outcome",
            found.summary(*nodes),
        )
        .expect("strings take all");
        table + &failed(&found.findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_are_ranked() {
        let outages = Outages::of(vec![300.0, 100.0, 200.0, 1000.0], 100.0);
        assert_eq!(outages.median, [200.0, 2.0]);
        assert_eq!((outages.p90, outages.worst), ([1000.0, 10.0], [1000.0, 10.0]));
        assert_eq!(Outages::of(Vec::new(), 100.0), Outages::default());
    }
}
