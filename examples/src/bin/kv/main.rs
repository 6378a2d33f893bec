//! A linearizable, durable key-value server for every Redis client; see `ringleader_examples::kv`.
//!
//! ```text
//! kv cluster                     three nodes on loopback; says how to connect
//! kv server --config kv.toml     one node
//! kv compare                     this server, Redis and etcd under the same load
//! ```

mod cluster;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use ringleader_examples::kv::compare::{CompareArgs, compare};
use ringleader_examples::kv::server::{Config, start};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

/// A replicated key-value server for Redis clients.
#[derive(Parser)]
#[command(name = "kv", version, after_help = "RUST_LOG sets what is logged to stderr.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a cluster of three nodes on this machine, each a process of its own.
    Cluster(cluster::Args),
    /// Run one node.
    Server {
        /// The node's configuration; examples/kv/kv.toml is one, with comments
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    Compare(Box<CompareArgs>),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,ringleader::runtime=info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let done = match command {
        Command::Cluster(args) => cluster::run(&args),
        Command::Server { config } => serve(&config),
        Command::Compare(args) => compared(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compared(args: &CompareArgs) -> anyhow::Result<()> {
    let complete = compare(args)?;
    anyhow::ensure!(complete, "a run failed, or writes were not durable: see above");
    Ok(())
}

/// Runs a node until SIGINT (Ctrl-C) or SIGTERM.
fn serve(path: &std::path::Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let config =
        Config::parse(&text).map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?;
    // From here on there may be clients who are owed an answer.
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("handling signals")?;
    let running = start(&config)?;
    tracing::info!(node = config.node, "serving clients");
    signals.forever().next();
    running.shutdown();
    Ok(())
}
