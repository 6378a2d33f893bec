//! raft-rs with raft-engine, put together as TiKV does, as a peer of `ringleader-bench compare`.

mod driver;
mod log;
mod transport;
mod writer;

use std::error::Error;
use std::process::exit;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use peer_common::{Args, Node, Ready};
use raft_engine::ReadableSize;

use crate::driver::{Driver, Proposer, TICK};
use crate::log::Log;
use crate::transport::Transport;

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args = Args::parse(true);
    let raft_config = raft_config(args.id);
    let engine_config = engine_config(&args);
    let settings = settings(&raft_config, &engine_config);
    let engine = Arc::new(raft_engine::Engine::open(engine_config)?);

    let voters: Vec<u64> = (1..=args.addresses.len() as u64).collect();
    let open = |group| Log::open(engine.clone(), group, voters.clone());
    let logs = (0..args.groups).map(open).collect::<Result<Vec<Log>, _>>()?;

    let (inputs, taken) = channel();
    let (tasks, to_write) = channel();
    let transport = Transport::start(&args, &inputs)?;
    let node = Node::new(args);
    let driver = Driver::new(node.clone(), (&raft_config, logs), transport.clone(), tasks)?;
    let written = inputs.clone();
    thread::Builder::new()
        .name("write".into())
        .spawn(move || writer::run(&engine, &to_write, &transport, &written))?;
    thread::Builder::new().name("raft".into()).spawn(move || driver.run(&taken))?;

    let version = "raft 0.7.0, raft-engine 0.4.2";
    node.serve(&Ready { name: "raft-rs", version, settings: &settings }, Proposer(inputs))
}

/// What TiKV sets, but for the clock: its tick is a second.
fn raft_config(id: u64) -> raft::Config {
    raft::Config {
        id,
        heartbeat_tick: 2,
        election_tick: 15,
        max_size_per_msg: 1 << 20,
        max_inflight_msgs: 256,
        max_committed_size_per_ready: 16 << 20,
        check_quorum: true,
        pre_vote: true,
        skip_bcast_commit: true,
        batch_append: true,
        ..raft::Config::default()
    }
}

fn engine_config(args: &Args) -> raft_engine::Config {
    raft_engine::Config {
        dir: args.data_dir.to_string_lossy().into_owned(),
        batch_compression_threshold: ReadableSize(0),
        ..raft_engine::Config::default()
    }
}

fn settings(raft: &raft::Config, engine: &raft_engine::Config) -> [(&'static str, String); 10] {
    let milliseconds = |ticks: usize| format!("{} ms", ticks * TICK.as_millis() as usize);
    [
        ("raft.heartbeat", milliseconds(raft.heartbeat_tick)),
        ("raft.election_timeout", milliseconds(raft.election_tick)),
        ("raft.max_size_per_msg", raft.max_size_per_msg.to_string()),
        ("raft.max_committed_size_per_ready", raft.max_committed_size_per_ready.to_string()),
        ("raft.check_quorum", raft.check_quorum.to_string()),
        ("raft.pre_vote", raft.pre_vote.to_string()),
        ("raft.skip_bcast_commit", raft.skip_bcast_commit.to_string()),
        ("raft.batch_append", raft.batch_append.to_string()),
        ("raft-engine.sync", "every write".into()),
        ("raft-engine.batch_compression", engine.batch_compression_threshold.to_string()),
    ]
}
