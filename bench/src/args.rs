//! The command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::compare::CompareArgs;
use crate::control::{ReadBy, SyncChoice};
use crate::tune::TuneArgs;
use crate::tuning::Tuning;

/// Measures Ringleader, an io_uring thread-per-core Raft replication engine. Without a command it
/// runs `cluster`.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a cluster of node processes on this machine, loads it, and checks what it did.
    Cluster(Box<ClusterArgs>),
    /// Kills and halts the leader again and again under load, and says how long nobody served.
    Failover(Box<FailoverArgs>),
    /// Takes snapshots and has a follower catch up, and says what callers feel of it.
    Snapshot(Box<SnapshotArgs>),
    /// Halts, slows down and restarts a follower, and says what callers feel of it.
    Followers(Box<FollowersArgs>),
    /// Says what groups cost that nobody uses, and what they cost one that is busy.
    Idle(IdleArgs),
    /// Says what this machine allows: round trips, durable writes, and three processes without a
    /// protocol.
    Floor(FloorArgs),
    /// Says what settings are worth on this machine: each against the default, in turn.
    Tune(TuneArgs),
    /// Runs other engines under the same load, in turn.
    Compare(Box<CompareArgs>),
    /// Makes a page of charts from results.
    Report(ReportArgs),
    /// A node of the cluster; speaks JSON lines with the process that started it.
    #[command(hide = true)]
    Node,
    /// A load process; speaks JSON lines with the process that started it.
    #[command(hide = true)]
    Generator,
    /// A process of the least that is replicated; speaks JSON lines with the one that started it.
    #[command(hide = true)]
    NullRaft,
    /// A process that writes durably; speaks JSON lines with the one that started it.
    #[command(hide = true)]
    FloorWriter,
}

/// Where the load comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientKind {
    /// Each group is loaded from inside the process that leads it, as a library is used.
    Embedded,
    /// All groups are loaded from a process of its own, over TCP.
    Remote,
}

/// Replicates operations on nodes that are processes of their own, with real logs on disk and
/// loopback connections. The run ends with a check that every acknowledged operation is in every
/// replica's state machine, in the same order. Exits with 0 when all went well, 1 when an operation
/// or the check failed, 2 for a wrong command line, 130 when interrupted.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Nodes (processes) of the cluster; each holds a replica of every group.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub(crate) nodes: u64,

    /// Shards (threads with a log of their own) per node.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) shards: u32,

    /// Raft groups, spread over the shards.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) groups: u64,

    /// Bytes of an operation's payload; the first 8 carry its number.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u64).range(8..=1 << 20))]
    pub(crate) payload: u64,

    /// Operations in flight, of all groups together, divided evenly among them.
    #[arg(long, value_name = "OPERATIONS", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=4 << 20))]
    pub(crate) inflight: u64,

    /// Open loop: this many operations per second are due, at fixed intervals, and latency counts
    /// from when an operation was due. Without it, an operation starts when another has completed.
    #[arg(long, value_name = "OPS_PER_SECOND", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) rate: Option<u64>,

    /// Of a hundred operations, so many are linearizable reads of the state machine on the leader.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) reads: u64,

    /// What reads rest on.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) read_by: ReadBy,

    /// Length of the measured part, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,

    /// Load before the measured part, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub(crate) warmup: u64,

    /// Where the load comes from.
    #[arg(long, value_enum, default_value_t = ClientKind::Embedded)]
    pub(crate) client: ClientKind,

    /// Directory for the nodes' logs: new, empty, or of an earlier run, whose data is then
    /// deleted. What this run writes stays there. Default: a directory in the system's temporary
    /// directory (in the current directory if that is kept in memory), removed at the end.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Leave the data where it is when the run ends.
    #[arg(long)]
    pub(crate) keep: bool,

    /// Write the result as one JSON object to this file; `-` is standard output, on which nothing
    /// else is written then.
    #[arg(long, value_name = "FILE|-")]
    pub(crate) json: Option<PathBuf>,

    /// How the logs' writes are made durable. Default: the engine's.
    #[arg(long, value_enum)]
    pub(crate) sync: Option<SyncChoice>,

    /// Account for the processor time of the nodes' shards by the stages of their turns, which costs
    /// some microseconds per turn.
    #[arg(long)]
    pub(crate) stages: bool,

    /// Serve each node's metrics over HTTP (`GET /metrics`), the first node's at this address, the
    /// next ones' on the ports after it.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<SocketAddr>,

    /// Log writes in flight per shard. Default: the engine's.
    #[arg(long, value_name = "WRITES", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) wal_depth: Option<u64>,

    /// What an experiment changes.
    #[arg(skip)]
    pub(crate) tuning: Tuning,

    /// Environment variables of the nodes.
    #[arg(skip)]
    pub(crate) environment: Vec<(String, String)>,
}

/// Runs two clusters of node processes on this machine, one with many groups and one with a single
/// one. When all groups rest it reports what a node costs: processor time, bytes on the wire, memory
/// per group. Then a group of each cluster is loaded in turn, several times, and their throughputs
/// are compared.
#[derive(Clone, Debug, Args)]
pub(crate) struct IdleArgs {
    /// Nodes (processes) of each cluster.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub(crate) nodes: u64,

    /// Groups of the cluster with many.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(2..=100_000))]
    pub(crate) groups: u64,

    /// Length of the idle part, and of each load's measured part, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) seconds: u64,

    /// How often each of the two groups is loaded.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) rounds: u64,

    /// Bytes of an operation's payload.
    #[arg(long, value_name = "BYTES", default_value_t = 16, value_parser = clap::value_parser!(u64).range(8..=1 << 20))]
    pub(crate) payload: u64,

    /// Operations in flight.
    #[arg(long, value_name = "OPERATIONS", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=4 << 20))]
    pub(crate) inflight: u64,

    /// Write the result as one JSON object to this file; `-` is standard output, on which nothing
    /// else is written then.
    #[arg(long, value_name = "FILE|-")]
    pub(crate) json: Option<PathBuf>,
}

impl IdleArgs {
    /// A cluster with so many groups, loaded as this says.
    pub(crate) fn cluster(&self, groups: u64) -> ClusterArgs {
        ClusterArgs {
            nodes: self.nodes,
            groups,
            payload: self.payload,
            inflight: self.inflight,
            seconds: self.seconds,
            warmup: 1,
            ..ClusterArgs::plain()
        }
    }
}

impl ClusterArgs {
    /// The defaults.
    pub(crate) fn plain() -> Self {
        Cli::parse_from(["ringleader-bench"]).cluster
    }

    /// What no single value's range says.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.rate.is_some() && self.inflight < self.groups {
            return Err(format!(
                "--rate needs at least one operation in flight per group: --inflight {} is less \
                 than --groups {}",
                self.inflight, self.groups
            ));
        }
        if self.reads > 0 && self.client == ClientKind::Remote {
            return Err("--reads are of embedded clients; --client remote writes".into());
        }
        if let Some(first) = self.metrics
            && (first.port() == 0 || u64::from(first.port()) + self.nodes > 1 << 16)
        {
            return Err(format!(
                "--metrics {first}: there must be {} ports from there on",
                self.nodes
            ));
        }
        if self.keep && self.data_dir.is_some() {
            return Err("--keep is for the default directory; what is in --data-dir stays".into());
        }
        Ok(())
    }
}

/// Where a benchmark writes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Output {
    /// Directory for what is written meanwhile, as for `cluster`.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Write the result as one JSON object to this file; `-` is standard output, on which nothing
    /// else is written then.
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
}

impl Output {
    pub(crate) fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    pub(crate) fn json(&self) -> Option<&Path> {
        self.json.as_deref()
    }
}

/// What benchmarks under a steady load have in common.
#[derive(Clone, Debug, Args)]
pub(crate) struct SteadyArgs {
    /// Operations that are due in a second.
    #[arg(long, value_name = "OPS_PER_SECOND", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) rate: u64,

    /// Bytes of an operation's payload.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u64).range(8..=1 << 16))]
    pub(crate) payload: u64,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// Three nodes that are processes of their own, one group, and a steady load from outside. In turn
/// the leader's process is killed (and started again when another serves) and halted (and continued
/// then). Counted is the time from the signal to the first write that another node acknowledges.
/// Ends with the check that `cluster` ends with, and exits alike.
#[derive(Clone, Debug, Args)]
pub(crate) struct FailoverArgs {
    /// How often the leader is killed (SIGKILL).
    #[arg(long, value_name = "COUNT", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub(crate) kills: u64,

    /// How often the leader is halted (SIGSTOP, later SIGCONT).
    #[arg(long, value_name = "COUNT", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub(crate) stops: u64,

    /// The election timeout; heartbeats come ten times as often.
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    pub(crate) election_timeout: u64,

    #[command(flatten)]
    pub(crate) steady: SteadyArgs,
}

/// Three nodes that are processes of their own, one group, and a steady load from outside. First
/// the leader takes snapshots, with pauses between them. Then a follower is killed
/// and started again when the log has grown by `--behind`: it catches up by the log, and another
/// time by a snapshot. Latencies of the load are told for each part. Ends with the check that
/// `cluster` ends with, and exits alike.
#[derive(Clone, Debug, Args)]
pub(crate) struct SnapshotArgs {
    /// MiB of a snapshot.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) state: u64,

    /// MiB of log that the follower lacks.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) behind: u64,

    /// Snapshots that the leader takes.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) rounds: u64,

    /// MiB of snapshots that a node sends in a second; 0 is as fast as it goes. Default: the
    /// engine's.
    #[arg(long, value_name = "MIB_PER_SECOND")]
    pub(crate) send_rate: Option<u64>,

    #[command(flatten)]
    pub(crate) steady: SteadyArgs,
}

/// Three nodes that are processes of their own, one group, and a steady load from outside. A follower
/// stands still for a while (SIGSTOP), then gets a tenth of the time, then is killed and started again
/// with a log of `--log` MiB, with quiet between. Latencies of the load are told for each part, and how
/// long the follower takes to catch up. Ends with the check that `cluster` ends with, and exits alike.
#[derive(Clone, Debug, Args)]
pub(crate) struct FollowersArgs {
    /// Length of each disturbance, and of the quiet before it, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) seconds: u64,

    /// MiB of log that the follower reads when it starts again.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) log: u64,

    #[command(flatten)]
    pub(crate) steady: SteadyArgs,
}

/// What the machine allows, in about half a minute: loopback round trips and wake-ups, durable
/// writes by each way of making them durable in one to three processes at once, durable bandwidth by
/// size and depth, checksums and copies, and what three processes do that make blocks durable on two
/// of three without any protocol.
#[derive(Clone, Debug, Args)]
pub(crate) struct FloorArgs {
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Results that `cluster`, `compare`, `floor` and `tune` wrote with `--json`, all together on one
/// page of HTML that needs nothing else.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// The results.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Write the page to this file; `-` is standard output.
    #[arg(long, value_name = "FILE|-", default_value = "report.html")]
    pub(crate) out: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_work_with_and_without_the_command() {
        let bare = Cli::parse_from(["ringleader-bench", "--payload", "16"]);
        assert!(bare.command.is_none() && bare.cluster.payload == 16);
        let full = Cli::parse_from(["ringleader-bench", "cluster", "--rate", "500"]);
        assert!(matches!(full.command, Some(Command::Cluster(args)) if args.rate == Some(500)));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["--nodes 0", "--payload 7", "--seconds x", "--what 1", "--client other"] {
            let arguments = ["ringleader-bench"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(arguments).is_err(), "{line}");
        }
        let line = ["b", "--groups", "10", "--inflight", "5", "--rate", "1"];
        assert!(Cli::parse_from(line).cluster.check().is_err());
        let metrics = |port| Cli::parse_from(["b", "--metrics", port]).cluster.check();
        assert!(metrics("127.0.0.1:65533").is_ok());
        assert!(metrics("127.0.0.1:65534").is_err() && metrics("127.0.0.1:0").is_err());
    }
}
