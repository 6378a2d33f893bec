//! The command line.

use clap::Args;

use crate::args::Output;

/// Runs a cluster with and without a setting, in turn, for each of some 50 settings of the engine, its
/// processes and the kernel, and prints ratios. Those that this machine does not allow are said to be
/// so, with the reason.
#[derive(Clone, Debug, Args)]
pub(crate) struct TuneArgs {
    /// Experiments, by name, separated by commas. Default: all.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Allow experiments that change settings of the system (as root), each for the time of a run;
    /// then they are put back. If this program is killed with SIGKILL, one may stay changed.
    #[arg(long)]
    pub(crate) system: bool,

    /// How often each side is run.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    pub(crate) rounds: u64,

    /// Length of each measured part, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) seconds: u64,

    #[command(flatten)]
    pub(crate) output: Output,
}
