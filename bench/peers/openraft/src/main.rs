//! openraft as a peer of `ringleader-bench compare`.

mod client;
mod codec;
mod log_store;
mod message;
mod server;
mod state_machine;
mod types;
mod wal;

use std::collections::BTreeSet;
use std::error::Error;
use std::process::exit;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Config, Raft, SnapshotPolicy};
use peer_common::{Args, Engine, Node, Proposal, Ready};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::client::Network;
use crate::log_store::LogStore;
use crate::state_machine::StateMachine;
use crate::types::{Applied, Data, Done, Types};

/// Threads that run openraft's tasks: three nodes share two cores.
const WORKERS: usize = 2;
/// Entries that openraft puts into one append or message at most, and their bytes. Larger ones would
/// be written and sent one after the other, not overlapping.
const BATCH_ENTRIES: usize = 4096;
const BATCH_BYTES: usize = 1 << 20;
/// How long after a failed attempt the first node looks for the others again.
const RETRY: Duration = Duration::from_millis(20);

/// Where the load proposes.
struct Proposer {
    runtime: Arc<Runtime>,
    raft: Raft<Types, StateMachine>,
    applied: Arc<Applied>,
}

impl Engine for Proposer {
    fn propose(&mut self, proposals: Vec<Proposal>) {
        self.runtime.block_on(async {
            for Proposal { operation, payload } in proposals {
                let done = Done::new(self.applied.clone(), operation);
                // When it fails, it drops what reports that.
                let _ = self.raft.client_write_ff(Data(payload), Some(done)).await;
            }
        });
    }
}

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args = Args::parse(false);
    let config = Arc::new(config(args.payload).validate()?);
    let settings = settings(&config);
    std::fs::create_dir_all(&args.data_dir)?;
    let log_store = LogStore::open(&args.data_dir.join("log"))?;
    let node = Node::new(args);
    let applied = Applied::new(node.clone());
    let runtime =
        Arc::new(Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?);
    let raft = runtime.block_on(start(&node, config, log_store, applied.clone()))?;
    let version = "0.10.0-alpha.37";
    let proposer = Proposer { runtime, raft, applied };
    node.serve(&Ready { name: "openraft", version, settings: &settings }, proposer)
}

async fn start(
    node: &Arc<Node>,
    config: Arc<Config>,
    log_store: LogStore,
    applied: Arc<Applied>,
) -> Result<Raft<Types, StateMachine>, Box<dyn Error>> {
    let listener = TcpListener::bind(node.args.address(node.args.id)).await?;
    let state_machine = StateMachine::new(node.clone(), applied);
    let network = Network(node.clone());
    let raft = Raft::new(node.args.id, config, network, log_store, state_machine).await?;
    tokio::spawn(server::serve(listener, raft.clone()));
    tokio::spawn(follow_role(node.clone(), raft.clone()));
    tokio::spawn(found(node.clone(), raft.clone()));
    Ok(raft)
}

async fn follow_role(node: Arc<Node>, raft: Raft<Types, StateMachine>) {
    let mut metrics = raft.server_metrics();
    loop {
        node.roles.set(0, metrics.borrow_watched().current_leader);
        if metrics.changed().await.is_err() {
            eprintln!("openraft has stopped");
            exit(1);
        }
    }
}

/// The first node founds a new cluster when all others listen, and so is its first leader.
async fn found(node: Arc<Node>, raft: Raft<Types, StateMachine>) {
    if node.args.id != 1 {
        return;
    }
    for id in node.args.others() {
        while TcpStream::connect(node.args.address(id)).await.is_err() {
            tokio::time::sleep(RETRY).await;
        }
    }
    let members: BTreeSet<u64> = (1..=node.args.addresses.len() as u64).collect();
    // Fails on a cluster that is founded already.
    let _ = raft.initialize(members).await;
}

fn config(payload: usize) -> Config {
    let batch = (BATCH_BYTES / payload).clamp(1, BATCH_ENTRIES) as u64;
    Config {
        heartbeat_interval: 300,
        election_timeout_min: 1500,
        election_timeout_max: 3000,
        max_payload_entries: batch,
        api_batch_capacity: batch,
        max_append_entries: Some(batch),
        snapshot_policy: SnapshotPolicy::Never,
        ..Config::default()
    }
}

fn settings(config: &Config) -> [(&'static str, String); 10] {
    let milliseconds = |number: u64| format!("{number} ms");
    [
        ("heartbeat_interval", milliseconds(config.heartbeat_interval)),
        ("election_timeout_min", milliseconds(config.election_timeout_min)),
        ("election_timeout_max", milliseconds(config.election_timeout_max)),
        ("max_payload_entries", config.max_payload_entries.to_string()),
        ("api_batch_capacity", config.api_batch_capacity.to_string()),
        ("max_append_entries", config.max_append_entries.unwrap_or_default().to_string()),
        ("snapshot_policy", "never".into()),
        ("stream_append", "pipelined".into()),
        ("log", "own, fdatasync before every callback".into()),
        ("tokio worker threads", WORKERS.to_string()),
    ]
}
