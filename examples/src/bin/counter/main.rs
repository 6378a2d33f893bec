//! A replicated counter: the smallest complete program on Ringleader.
//!
//! Three servers keep one number. Any of them may die, and nothing that was answered is lost.
//!
//! # The counter on three terminals
//!
//! A server on each of three terminals (here `counter` stands for
//! `cargo run --release -p ringleader-examples --bin counter --`):
//!
//! ```text
//! PEERS=127.0.0.1:8081,127.0.0.1:8082,127.0.0.1:8083
//! counter server --data-dir /tmp/counter1 --group counter --listen 127.0.0.1:8081 --peers $PEERS
//! counter server --data-dir /tmp/counter2 --group counter --listen 127.0.0.1:8082 --peers $PEERS
//! counter server --data-dir /tmp/counter3 --group counter --listen 127.0.0.1:8083 --peers $PEERS
//! ```
//!
//! On a fourth, a client; it finds the leader by itself:
//!
//! ```text
//! $ counter client --group counter --peers $PEERS add 5
//! 5
//! $ counter client --group counter --peers $PEERS add 5 --count 2
//! 10
//! 15
//! $ counter client --group counter --peers $PEERS get
//! 15
//! ```
//!
//! Kill any server (`kill -9`, or Ctrl-C), add more, start it again on its directory: it catches
//! up, and the sum is right. Kill two, and the client waits: one of three is no majority.
//!
//! # Addresses
//!
//! A node's number is its position in `--peers`, from 1, so the list must be the same, in the same
//! order, on every server. Clients talk to the listed addresses. The servers talk Raft to each
//! other on the same addresses with 10000 added to the port: 18081, 18082 and 18083 above.
//!
//! # Reading on
//!
//! `machine` is what is replicated, `server` embeds the engine, `protocol` is what client and
//! server say to each other, and `client` is careful about one thing: an `add` whose answer was
//! lost may have been applied, so it is reported and not sent again.

mod client;
mod machine;
mod protocol;
mod server;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  error: nothing more was applied than what was printed
  2  usage
  3  unknown: the answer was lost, and the last add may or may not have been applied

RUST_LOG sets what is logged to stderr, for example RUST_LOG=debug.";

/// A replicated counter.
#[derive(Parser)]
#[command(name = "counter", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one of the servers that keep the counter.
    Server(server::Args),
    /// Add to the counter, or read it.
    #[command(after_help = EXIT_CODES)]
    Client(client::Args),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,counter=info,ringleader::runtime=info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match command {
        Command::Client(args) => client::run(&args),
        Command::Server(args) => {
            let config = server::config(&args).unwrap_or_else(|why| wrong_server_arguments(why));
            match server::run(&args, config) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("error: {error:#}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn wrong_server_arguments(why: String) -> ! {
    let mut command = Cli::command();
    // Completes the name of the subcommand for the usage.
    command.build();
    let server = command.find_subcommand_mut("server").expect("it is derived above");
    server.error(ErrorKind::ValueValidation, why).exit()
}
