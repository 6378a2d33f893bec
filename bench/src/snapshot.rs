//! What callers feel of snapshots: while the leader takes one, and while a follower catches up, by
//! the log or by a snapshot.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use ringleader::BulkConfig;
use serde::Serialize;

use crate::args::{SnapshotArgs, SteadyArgs};
use crate::control::{NodeSetup, SnapshotSetup};
use crate::data_dir::DataDir;
use crate::histogram::Latencies;
use crate::latency::Phases;
use crate::machine::Machine;
use crate::nodes::{BULK, Nodes};
use crate::report::{RunReport, failed, round, thousands};
use crate::steady::{Pace, Steady};
use crate::verify::Verification;

const NODES: u64 = 3;
/// Where latencies are counted.
const PHASES: [&str; 5] = [
    "no snapshot",
    "the leader takes one",
    "2 s after that",
    "catching up by log",
    "catching up by snapshot",
];
const QUIET: usize = 0;
const TAKING: usize = 1;
const AFTER: usize = 2;
const BY_LOG: usize = 3;
const BY_SNAPSHOT: usize = 4;
/// What is counted nowhere else, the growing of the log above all.
const UNCOUNTED: usize = PHASES.len();
/// How long the load goes on by itself before anything is counted, and after the log has grown.
const CALM: Duration = Duration::from_secs(2);

/// Runs the benchmark.
pub(crate) fn run(args: &SnapshotArgs) -> anyhow::Result<Report> {
    let SteadyArgs { rate, payload, output } = &args.steady;
    let directory = DataDir::of_run(output.data_dir(), false)?;
    let nodes = Nodes::start(NODES, &directory, &setup(args))?;
    let foreground = Pace { rate: *rate, payload: *payload as usize };
    let load = nodes.under_load(foreground, UNCOUNTED + 1)?;
    let mut run = Run { nodes, load, foreground };
    run.nodes.settle()?;
    run.nodes.idle(CALM)?;
    let snapshots = run.take_snapshots(args.rounds)?;
    let by_log = run.catch_up(args.behind, BY_LOG)?;
    let by_snapshot = run.catch_up(args.behind, BY_SNAPSHOT)?;
    run.load.enter(UNCOUNTED);
    let Run { nodes, load, .. } = run;
    let (tale, found) = nodes.conclude(load)?;
    let machine = Machine::describe(directory.path());
    Ok(Report::new(args, (snapshots, by_log, by_snapshot), &tale.latencies, found, machine))
}

fn setup(args: &SnapshotArgs) -> NodeSetup {
    let send_rate = match args.send_rate {
        None => BulkConfig::default().bytes_per_second,
        Some(rate) => Some(rate << 20).filter(|rate| *rate > 0),
    };
    let snapshots = Some(SnapshotSetup { bytes: args.state << 20, send_rate });
    NodeSetup { snapshots, ..Nodes::setup(BULK.payload) }
}

struct Run {
    nodes: Nodes,
    load: Steady,
    foreground: Pace,
}

impl Run {
    /// The leader takes one after the other, and rests for as long in between, and some more: there
    /// is something to be removed after each. Seconds of each.
    fn take_snapshots(&mut self, rounds: u64) -> anyhow::Result<Vec<f64>> {
        let mut seconds = Vec::new();
        let mut pause = CALM;
        for _ in 0..rounds {
            self.load.enter(QUIET);
            self.nodes.idle(pause)?;
            let leader = self.nodes.settle()?;
            self.load.enter(TAKING);
            let began = Instant::now();
            self.nodes.snapshot(leader)?;
            pause = began.elapsed();
            seconds.push(pause.as_secs_f64());
            self.load.enter(AFTER);
            self.nodes.idle(CALM)?;
        }
        self.load.enter(UNCOUNTED);
        Ok(seconds)
    }

    /// A follower is away while the log grows by so many MiB, and comes back; how long it takes then,
    /// in seconds. For the last phase the log is gone before it does.
    fn catch_up(&mut self, mib: u64, phase: usize) -> anyhow::Result<f64> {
        let leader = self.nodes.settle()?;
        let follower = leader % NODES + 1;
        self.nodes.signal(follower, libc::SIGKILL)?;
        self.nodes.grow(&self.load, mib << 20, self.foreground)?;
        if phase == BY_SNAPSHOT {
            self.nodes.snapshot(leader)?;
        }
        self.nodes.idle(CALM)?;
        self.load.enter(phase);
        let client = self.nodes.restart(follower)?;
        self.load.serves(follower, client);
        let took = self.nodes.await_follower(leader, follower)?;
        self.load.enter(UNCOUNTED);
        Ok(took.as_secs_f64())
    }
}

/// The result. The fields' names are the JSON object's.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    workload: Workload,
    /// Seconds of each snapshot that the leader took.
    snapshots_seconds: Vec<f64>,
    snapshot_mb_per_second: f64,
    catch_up_by_log: CatchUp,
    catch_up_by_snapshot: CatchUp,
    /// Of the load, by what went on.
    latency_us: Phases,
    verification: Verification,
    machine: Machine,
    passed: bool,
}

#[derive(Debug, Serialize)]
struct Workload {
    nodes: u64,
    state_mib: u64,
    behind_mib: u64,
    send_rate_mib: Option<u64>,
    rate: u64,
    payload_bytes: u64,
}

#[derive(Debug, Serialize)]
struct CatchUp {
    seconds: f64,
    mb_per_second: f64,
}

impl CatchUp {
    fn of(mib: u64, seconds: f64) -> Self {
        Self { seconds: round(seconds), mb_per_second: round(megabytes(mib) / seconds) }
    }
}

fn megabytes(mib: u64) -> f64 {
    (mib << 20) as f64 / 1e6
}

impl Report {
    fn new(
        args: &SnapshotArgs,
        (snapshots, by_log, by_snapshot): (Vec<f64>, f64, f64),
        latencies: &[Latencies],
        verification: Verification,
        machine: Machine,
    ) -> Self {
        let taken = snapshots.iter().sum::<f64>();
        Self {
            workload: Workload {
                nodes: NODES,
                state_mib: args.state,
                behind_mib: args.behind,
                send_rate_mib: args.send_rate,
                rate: args.steady.rate,
                payload_bytes: args.steady.payload,
            },
            snapshot_mb_per_second: round(megabytes(args.state) * args.rounds as f64 / taken),
            snapshots_seconds: snapshots.into_iter().map(round).collect(),
            catch_up_by_log: CatchUp::of(args.behind, by_log),
            catch_up_by_snapshot: CatchUp::of(args.state, by_snapshot),
            latency_us: Phases::new(&PHASES, latencies),
            passed: verification.passed(),
            verification,
            machine,
        }
    }

    fn write(&self, table: &mut String) -> std::fmt::Result {
        let Workload { nodes, state_mib, behind_mib, rate, payload_bytes, .. } = &self.workload;
        let rate = thousands(*rate);
        writeln!(
            table,
            "\n{nodes} nodes, {rate} op/s of {payload_bytes} B, state of {state_mib} MiB"
        )?;
        writeln!(table, "{}\n", self.machine.summary())?;
        self.latency_us.write(table)?;
        let (log, snapshot) = (&self.catch_up_by_log, &self.catch_up_by_snapshot);
        writeln!(
            table,
            "\n  taking a snapshot       {:.0} MB/s\n  catching up by log      {:.0} MB/s, {:.1} s \
             for {behind_mib} MiB\n  catching up by snapshot {:.0} MB/s, {:.1} s for {state_mib} MiB",
            self.snapshot_mb_per_second,
            log.mb_per_second,
            log.seconds,
            snapshot.mb_per_second,
            snapshot.seconds,
        )?;
        writeln!(table, "\n  verified: {}", self.verification.summary(*nodes))
    }
}

impl RunReport for Report {
    fn passed(&self) -> bool {
        self.passed
    }

    fn table(&self) -> String {
        let mut table = String::new();
        self.write(&mut table).expect("strings take all");
        table + &failed(&self.verification.findings)
    }
}
