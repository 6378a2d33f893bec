//! The command line.

use std::path::PathBuf;

use clap::Args;

use crate::args::Output;

/// Three nodes of this engine and of each peer in turn, embedded load, one machine: throughput,
/// latency, processor time and flushes. The peers' programs are in the repository's `bench/peers`,
/// and are built first, each with its own language's tools; one whose tools are missing is left out,
/// and said to be. Exits with 1 if any run of any engine failed.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// Peers, separated by commas. Default: all.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) peers: Vec<String>,

    /// The folder of the peers.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/peers"))]
    pub(crate) peers_dir: PathBuf,

    /// Passed on to the peers' nodes, as each of them understands it; may be given several times.
    #[arg(long = "peer-option", value_name = "NAME=VALUE")]
    pub(crate) peer_options: Vec<String>,

    /// Bytes of an operation's payload, separated by commas.
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',', default_value = "16", value_parser = clap::value_parser!(u64).range(8..=1 << 20))]
    pub(crate) payload: Vec<u64>,

    /// Operations in flight, separated by commas; each is a run.
    #[arg(long, value_name = "OPERATIONS,...", value_delimiter = ',', default_value = "1,64,1024,16384", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) inflight: Vec<u64>,

    /// Raft groups, spread over the nodes. Peers with one group alone refuse others.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) groups: u64,

    /// Shards of this engine's nodes.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) shards: u32,

    /// Open loops: percents of each engine's maximum, separated by commas. This engine runs at the
    /// peers' rates too.
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) shares: Vec<u64>,

    /// Open loops: operations in flight at least, if the maximum was reached with fewer.
    #[arg(long, value_name = "OPERATIONS", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) room: u64,

    /// How often each point is run.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    pub(crate) rounds: u64,

    /// Length of each measured part, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) seconds: u64,

    /// Load before each measured part, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub(crate) warmup: u64,

    #[command(flatten)]
    pub(crate) output: Output,
}
