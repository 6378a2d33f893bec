//! What callers feel of a follower that stands still, is slow, or is started again, and how long it
//! takes to be well after that.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::args::{FollowersArgs, SteadyArgs};
use crate::control::{NodeSetup, SnapshotSetup};
use crate::data_dir::DataDir;
use crate::latency::Phases;
use crate::machine::Machine;
use crate::nodes::{BULK, Nodes};
use crate::report::{RunReport, failed, round, thousands};
use crate::steady::{Pace, Steady};
use crate::verify::Verification;

const NODES: u64 = 3;
/// Where latencies are counted.
const PHASES: [&str; 6] = [
    "all are well",
    "a follower stands still",
    "catching up after that",
    "a follower is slow",
    "catching up after that",
    "a follower starts again",
];
const WELL: usize = 0;
const STILL: usize = 1;
const AFTER_STILL: usize = 2;
const SLOW: usize = 3;
const AFTER_SLOW: usize = 4;
const RESTART: usize = 5;
/// What is counted nowhere else, the growing of the log above all.
const UNCOUNTED: usize = PHASES.len();
/// A slow follower runs for the first of these, and stands still for the second.
const RUNS: Duration = Duration::from_millis(2);
const STANDS: Duration = Duration::from_millis(18);
/// How long the load goes on by itself before anything is counted, and after the log has grown.
const CALM: Duration = Duration::from_secs(2);

/// Runs the benchmark.
pub(crate) fn run(args: &FollowersArgs) -> anyhow::Result<Report> {
    let SteadyArgs { rate, payload, output } = &args.steady;
    let directory = DataDir::of_run(output.data_dir(), false)?;
    // None is taken: the whole log is there to be caught up by, and to be read at a start.
    let snapshots = Some(SnapshotSetup { bytes: 0, send_rate: None });
    let setup = NodeSetup { snapshots, ..Nodes::setup(BULK.payload) };
    let nodes = Nodes::start(NODES, &directory, &setup)?;
    let foreground = Pace { rate: *rate, payload: *payload as usize };
    let load = nodes.under_load(foreground, UNCOUNTED + 1)?;
    let mut run = Run { nodes, load, foreground, time: Duration::from_secs(args.seconds) };
    run.nodes.settle()?;
    run.nodes.idle(CALM)?;
    let still = run.stand_still()?;
    let slow = run.slow_down()?;
    let restart = run.start_again(args.log << 20)?;
    let Run { nodes, load, .. } = run;
    let (tale, found) = nodes.conclude(load)?;
    let machine = Machine::describe(directory.path());
    let seconds = |took: Duration| round(took.as_secs_f64());
    Ok(Report {
        workload: Workload {
            nodes: NODES,
            seconds: args.seconds,
            log_mib: args.log,
            rate: *rate,
            payload_bytes: *payload,
        },
        catch_up_after_still_seconds: seconds(still),
        catch_up_after_slow_seconds: seconds(slow),
        restart: Restart {
            serves_seconds: seconds(restart.0),
            caught_up_seconds: seconds(restart.0 + restart.1),
            mb_per_second: round((args.log << 20) as f64 / 1e6 / restart.0.as_secs_f64()),
        },
        latency_us: Phases::new(&PHASES, &tale.latencies),
        unknown: tale.outcome.unknown.len(),
        passed: found.passed(),
        verification: found,
        machine,
    })
}

struct Run {
    nodes: Nodes,
    load: Steady,
    foreground: Pace,
    /// How long each disturbance lasts, and the quiet before it.
    time: Duration,
}

impl Run {
    /// Lets the load go on undisturbed for a while; the leader, and a follower to disturb.
    fn quiet(&mut self) -> anyhow::Result<(u64, u64)> {
        let leader = self.nodes.settle()?;
        self.load.enter(WELL);
        self.nodes.idle(self.time)?;
        Ok((leader, leader % NODES + 1))
    }

    /// How long the follower takes to catch up afterwards.
    fn stand_still(&mut self) -> anyhow::Result<Duration> {
        let (leader, follower) = self.quiet()?;
        self.load.enter(STILL);
        self.nodes.signal(follower, libc::SIGSTOP)?;
        self.nodes.idle(self.time)?;
        self.nodes.signal(follower, libc::SIGCONT)?;
        self.catch_up(leader, follower, AFTER_STILL)
    }

    /// Likewise, of a follower that gets a tenth of the time.
    fn slow_down(&mut self) -> anyhow::Result<Duration> {
        let (leader, follower) = self.quiet()?;
        self.load.enter(SLOW);
        let until = Instant::now() + self.time;
        while Instant::now() < until {
            self.nodes.signal(follower, libc::SIGSTOP)?;
            self.nodes.idle(STANDS)?;
            self.nodes.signal(follower, libc::SIGCONT)?;
            self.nodes.idle(RUNS)?;
        }
        self.catch_up(leader, follower, AFTER_SLOW)
    }

    fn catch_up(&mut self, leader: u64, follower: u64, phase: usize) -> anyhow::Result<Duration> {
        self.load.enter(phase);
        let took = self.nodes.await_follower(leader, follower)?;
        self.load.enter(UNCOUNTED);
        Ok(took)
    }

    /// A follower with a log of so many bytes is killed, and started again at once: how long it takes
    /// to serve, which is to read that log, and from there to have caught up.
    fn start_again(&mut self, bytes: u64) -> anyhow::Result<(Duration, Duration)> {
        self.nodes.grow(&self.load, bytes, self.foreground)?;
        self.nodes.settle()?;
        self.nodes.idle(CALM)?;
        let (leader, follower) = self.quiet()?;
        self.load.enter(RESTART);
        self.nodes.signal(follower, libc::SIGKILL)?;
        let began = Instant::now();
        let client = self.nodes.restart(follower)?;
        let serves = began.elapsed();
        self.load.serves(follower, client);
        let caught_up = self.catch_up(leader, follower, RESTART)?;
        Ok((serves, caught_up))
    }
}

/// The result. The fields' names are the JSON object's.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    workload: Workload,
    catch_up_after_still_seconds: f64,
    catch_up_after_slow_seconds: f64,
    restart: Restart,
    /// Of the load, by what went on.
    latency_us: Phases,
    /// Operations whose outcome their caller never learned.
    unknown: u64,
    verification: Verification,
    machine: Machine,
    passed: bool,
}

#[derive(Debug, Serialize)]
struct Workload {
    nodes: u64,
    seconds: u64,
    log_mib: u64,
    rate: u64,
    payload_bytes: u64,
}

/// From the kill of a follower's process.
#[derive(Debug, Serialize)]
struct Restart {
    /// Until its engine ran again.
    serves_seconds: f64,
    /// Until it had applied what the leader had when it ran.
    caught_up_seconds: f64,
    /// Of the log, until its engine ran.
    mb_per_second: f64,
}

impl Report {
    fn write(&self, table: &mut String) -> std::fmt::Result {
        let Workload { nodes, rate, payload_bytes, log_mib, seconds } = &self.workload;
        let rate = thousands(*rate);
        writeln!(table, "\n{nodes} nodes, {rate} op/s of {payload_bytes} B")?;
        writeln!(table, "{}\n", self.machine.summary())?;
        self.latency_us.write(table)?;
        let Restart { serves_seconds, caught_up_seconds, mb_per_second } = &self.restart;
        writeln!(
            table,
            "\n  caught up {:.2} s after standing still for {seconds} s\n  caught up {:.2} s after \
             {seconds} s at a tenth of the time\n  started again with a log of {log_mib} MiB: ran \
             after {serves_seconds:.2} s ({mb_per_second:.0} MB/s), had caught up after \
             {caught_up_seconds:.2} s",
            self.catch_up_after_still_seconds, self.catch_up_after_slow_seconds,
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
