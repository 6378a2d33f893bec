//! The command line, and the loads that it asks for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};

use super::load::Load;
use crate::kv::slot::Layout;

/// Bytes of requests that a connection sends at once, at most.
const BATCH_BYTES: usize = 16 << 20;
/// Operations in flight that etcd's node takes: beyond, it would queue them before the server.
const ETCD_INFLIGHT: usize = 4096;
/// What is compared has this many nodes, where it is replicated.
pub(crate) const NODES: usize = 3;

/// Loads this server (three nodes), Redis (one node, `appendonly yes`, `appendfsync always`) and etcd
/// (three nodes) in turn, all on loopback, started anew for each run, and compares throughput, latency
/// and processor time. Exits with 1 if a run failed, or if writes turned out not to be durable.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Redis is `redis-server` on the PATH; etcd is built from bench/peers/etcd, \
which takes the Go toolchain. What is missing is left out, and said to be.\n\n\
A connection sends a pipeline of commands, and the next when all replies have come, as \
redis-benchmark does. With this server each connection goes to one leader, and takes keys of its \
slots, as clients do that know Redis Cluster. etcd is loaded by its own \
Go clients, over as many connections to its leader and with as many operations in flight; they run in the \
leader's process, so that its processor time includes theirs."
)]
pub struct CompareArgs {
    /// What to compare, separated by commas
    #[arg(
        long,
        value_enum,
        value_name = "NAME,...",
        value_delimiter = ',',
        default_value = "kv,redis,etcd"
    )]
    pub(crate) systems: Vec<Kind>,

    /// Bytes of a value, separated by commas: 8 to 65536
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',', default_value = "16,128", value_parser = clap::value_parser!(u32).range(8..=65_536))]
    payloads: Vec<u32>,

    /// Commands that a connection sends at once, separated by commas: 1 to 1024
    #[arg(long, value_name = "COMMANDS,...", value_delimiter = ',', default_value = "1,16,64", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pipelines: Vec<u32>,

    /// Of a hundred operations so many are writes (SET), the others reads (GET), separated by commas
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', default_value = "100,90,10", value_parser = clap::value_parser!(u32).range(0..=100))]
    writes: Vec<u32>,

    /// Connections of the client, over all nodes: 1 to 1000
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,

    /// Threads of the client: 1 to 64
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,

    /// Keys, of which each operation takes one at random: 1 to 10000000
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    keys: u32,

    /// How often each point is run; medians are reported: 1 to 99
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,

    /// Length of each measured part, in seconds: 1 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,

    /// Load before each measured part, in seconds: 0 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3600))]
    warmup: u64,

    /// Raft groups of this server: 1 to 1024. Default: as many as it has shards, over all nodes
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=i64::from(Layout::MAX_GROUPS)))]
    groups: Option<u16>,

    /// Shards of each of this server's nodes: 1 to 16
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) shards: u16,

    /// This server reads by leases: without a round trip, as long as clocks keep pace
    #[arg(long)]
    pub(crate) leases: bool,

    /// The folder of etcd's node
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/peers/etcd"))]
    pub(crate) etcd_dir: PathBuf,

    /// Where a directory for the servers' data is made, and removed at the end: on a disk. Default:
    /// where the system keeps temporary files
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Write the result as one JSON object to this file; `-` is standard output, on which nothing
    /// else is written then
    #[arg(long, value_name = "FILE|-")]
    pub(crate) json: Option<PathBuf>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Kv,
    Redis,
    Etcd,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Redis => "redis",
            Self::Etcd => "etcd",
        }
    }
}

impl CompareArgs {
    /// Raft groups: by default each shard leads one.
    pub(crate) fn groups(&self) -> u16 {
        self.groups.unwrap_or(NODES as u16 * self.shards)
    }

    /// What no single value's range says.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let seats = NODES * usize::from(self.shards);
        let connections = self.connections as usize;
        ensure!(
            connections >= seats,
            "--connections {connections}: each of the {seats} shards of this server needs one"
        );
        ensure!(
            self.connections >= self.threads,
            "--threads {}: each needs one of the {connections} connections",
            self.threads
        );
        ensure!(
            usize::from(self.groups()) >= seats,
            "--groups {}: each of the {seats} shards of this server needs one to lead",
            self.groups()
        );
        for load in self.points() {
            let bytes = load.pipeline * load.payload;
            ensure!(
                bytes <= BATCH_BYTES,
                "--pipelines {} with --payloads {}: {bytes} bytes at once are more than {BATCH_BYTES}",
                load.pipeline,
                load.payload
            );
            let inflight = load.inflight();
            if inflight > ETCD_INFLIGHT && self.systems.contains(&Kind::Etcd) {
                bail!(
                    "--connections {connections} with --pipelines {} are {inflight} operations in \
                     flight, and etcd takes {ETCD_INFLIGHT}: choose fewer, or --systems without etcd",
                    load.pipeline
                );
            }
        }
        Ok(())
    }

    /// Every load, in the order in which they are run.
    pub(crate) fn points(&self) -> Vec<Load> {
        let mut points = Vec::new();
        for payload in &self.payloads {
            for pipeline in &self.pipelines {
                for writes in &self.writes {
                    points.push(Load {
                        connections: self.connections as usize,
                        pipeline: *pipeline as usize,
                        payload: *payload as usize,
                        writes: *writes,
                        threads: self.threads as usize,
                        keys: self.keys,
                        warmup: Duration::from_secs(self.warmup),
                        measured: Duration::from_secs(self.seconds),
                    });
                }
            }
        }
        points
    }

    /// Where the data goes.
    pub(crate) fn parent(&self) -> PathBuf {
        self.data_dir.as_deref().map_or_else(std::env::temp_dir, Path::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: CompareArgs,
    }

    fn parsed(line: &str) -> Result<CompareArgs, String> {
        let words = ["compare"].into_iter().chain(line.split_whitespace());
        let args = Cli::try_parse_from(words).map_err(|error| error.to_string())?.args;
        args.check().map_err(|error| error.to_string())?;
        Ok(args)
    }

    #[test]
    fn by_default_it_is_what_was_promised() {
        let args = parsed("").unwrap();
        assert_eq!(args.points().len(), 2 * 3 * 3);
        assert_eq!(args.rounds, 5);
        assert!(args.points().iter().any(|load| load.inflight() == 50 * 64));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--payloads 7",
            "--pipelines 0",
            "--writes 101",
            "--connections 2",
            "--threads 51",
            "--groups 2",
            "--pipelines 1024",
            "--pipelines 1024 --payloads 65536 --systems kv",
            "--systems oracle",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
