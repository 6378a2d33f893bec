//! Four nodes on loopback, each a process of its own, and the tool as another. A test asks the nodes
//! what an operator would, through the tool; beside it, it has them propose, and say what they
//! applied.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

#[path = "../../../tests/nodes/mod.rs"]
mod nodes;
#[path = "../../../tests/processes/process.rs"]
mod process;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::block_on;
use ringleader::report::GroupReport;
use ringleader::{
    Consistency, Engine, Entries, GroupConfig, GroupId, GroupStatus, MachineError, NodeId, Replies,
    SnapshotSource, StateMachine,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use nodes::eventually;
pub use process::Process;

pub const DONE: i32 = 0;
pub const USAGE: i32 = 2;
pub const NOBODY: i32 = 3;
pub const REFUSED: i32 = 4;
pub const UNKNOWN: i32 = 5;
pub const NOT_LEADER: i32 = 6;

/// By name, so that the number has all 64 bits.
pub const NAME: &str = "orders";
pub const NODES: usize = 4;

/// Counts entries.
#[derive(Default)]
struct Count(u64);

impl StateMachine for Count {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        self.0 += entries.iter().count() as u64;
    }

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        Some(Box::new(View(Some(self.0))))
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        let bytes = chunk.try_into().map_err(|_| MachineError("not a number".into()))?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
}

struct View(Option<u64>);

impl SnapshotSource for View {
    fn next_chunk(&mut self, _: usize) -> Result<Option<Bytes>, MachineError> {
        Ok(self.0.take().map(|count| Bytes::copy_from_slice(&count.to_le_bytes())))
    }
}

/// Takes no snapshots.
struct Null;

impl StateMachine for Null {
    fn apply(&mut self, _: &Entries<'_>, _: &mut Replies) {}
}

/// Which node a child process is.
#[derive(Serialize, Deserialize)]
struct Place {
    node: u64,
    addresses: Vec<SocketAddr>,
    dir: PathBuf,
    groups: Vec<GroupId>,
    /// The first so many nodes found the groups.
    voters: u64,
    admin: bool,
}

impl Place {
    fn start(&self) -> Engine {
        let mut config = nodes::config(&self.addresses, self.node, 0, &self.dir);
        config.admin = self.admin;
        // Leaders stay in office where many processes share few cores, and yet what does not catch
        // up is given up before a test gets long.
        config.raft.election_timeout = Duration::from_secs(2);
        config.raft.catch_up_patience = 2;
        let founders = if self.node <= self.voters { self.voters } else { 0 };
        let voters: Vec<NodeId> = (1..=founders).map(NodeId).collect();
        let group = |group: &GroupId| GroupConfig { group: *group, voters: voters.clone() };
        config.groups = self.groups.iter().map(group).collect();
        let named = GroupId::from_name(NAME);
        let machine = move |group| -> Box<dyn StateMachine> {
            if group == named { Box::new(Count::default()) } else { Box::new(Null) }
        };
        Engine::start(config, machine).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Runs a node, if this process was started as one.
pub fn serve() {
    let Some(place) = process::place::<Place>() else { return };
    let engine = place.start();
    let handle = engine.handle();
    process::serve(|word, group| {
        let group = GroupId(group.parse().expect("a group"));
        Some(match word {
            "propose" => match block_on(handle.propose(group, b"operation")) {
                Ok(_) => "done".to_owned(),
                Err(error) => error.to_string(),
            },
            "count" => {
                let count = block_on(handle.inspect(group, |count: &mut Count| count.0));
                count.expect("it is here").to_string()
            }
            "read" => {
                let read = handle.read(group, Consistency::Linearizable, |count: &Count| count.0);
                match block_on(read) {
                    Ok(count) => count.to_string(),
                    Err(error) => error.to_string(),
                }
            }
            other => panic!("unknown command {other}"),
        })
    });
    engine.shutdown();
}

/// A node that is alone, with its directory in `dir`; it has applied an operation.
pub fn alone(dir: &Path, group: GroupId, admin: bool) -> Process {
    let (addresses, groups) = (nodes::addresses(1), vec![group]);
    let place = Place { node: 1, addresses, dir: dir.into(), groups, voters: 1, admin };
    let node = Process::spawn(&place, None, |_| false);
    node.ready();
    eventually("it to serve", || proposes(&node, group).then_some(()));
    node
}

/// Where the only node in `dir`, or one of several, has its data.
pub fn data_dir(dir: &Path, node: usize) -> PathBuf {
    dir.join(format!("node-{node}"))
}

fn proposes(node: &Process, group: GroupId) -> bool {
    node.ask("propose", &group.to_string()) == "done"
}

/// Nodes 1 to 3 found the groups, node 4 waits.
pub struct Cluster {
    /// They end before their directories go.
    nodes: Vec<Option<Process>>,
    dir: tempfile::TempDir,
    pub addresses: Vec<SocketAddr>,
    groups: Vec<GroupId>,
}

impl Cluster {
    pub fn new(groups: &[GroupId]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let nodes = (0..NODES).map(|_| None).collect();
        let groups = groups.to_vec();
        let mut cluster = Self { dir, addresses: nodes::addresses(NODES), nodes, groups };
        (1..=NODES).for_each(|node| cluster.spawn(node));
        (1..=NODES).for_each(|node| cluster.node(node).ready());
        cluster
    }

    fn spawn(&mut self, node: usize) {
        let place = Place {
            node: node as u64,
            addresses: self.addresses.clone(),
            dir: self.dir.path().into(),
            groups: self.groups.clone(),
            voters: NODES as u64 - 1,
            admin: true,
        };
        self.nodes[node - 1] = Some(Process::spawn(&place, None, |_| false));
    }

    fn node(&self, node: usize) -> &Process {
        self.nodes[node - 1].as_ref().expect("it runs")
    }

    pub fn start(&mut self, node: usize) {
        self.spawn(node);
        self.node(node).ready();
    }

    pub fn stop(&mut self, node: usize) {
        self.nodes[node - 1].take().expect("it runs").stop();
    }

    pub fn kill(&mut self, node: usize) {
        self.nodes[node - 1].take().expect("it runs").kill();
    }

    pub fn node_dir(&self, node: usize) -> PathBuf {
        data_dir(self.dir.path(), node)
    }

    /// A group as a node shows it to operators.
    pub fn status(&self, node: usize, group: GroupId) -> GroupStatus {
        let groups = serde_json::from_value::<Vec<GroupReport>>(self.json(node, &["groups"]));
        let groups = groups.expect("a list of groups").into_iter().map(|report| report.status);
        groups.into_iter().find(|status| status.group == group).expect("it is here")
    }

    /// How many operations a node has applied in the group with a name.
    pub fn count(&self, node: usize) -> u64 {
        let count = self.node(node).ask("count", &GroupId::from_name(NAME).to_string());
        count.parse().expect("a count")
    }

    /// The same as a linearizable read sees it, or why it sees nothing.
    pub fn read(&self, node: usize) -> Result<u64, String> {
        let read = self.node(node).ask("read", &GroupId::from_name(NAME).to_string());
        read.parse().map_err(|_| read)
    }

    /// The node that leads: an operation was applied there.
    pub fn leader(&self, group: GroupId) -> usize {
        eventually("a leader that serves", || {
            let mut running = (1..=NODES).filter(|node| self.nodes[node - 1].is_some());
            running.find(|node| proposes(self.node(*node), group))
        })
    }

    pub fn run(&self, node: usize, args: &[&str]) -> Output {
        run(&self.node_dir(node), args)
    }

    /// Runs a command that succeeds; what it says as JSON.
    pub fn json(&self, node: usize, args: &[&str]) -> Value {
        let output = self.run(node, &[args, &["--json"]].concat());
        assert_eq!(code(&output), DONE, "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    pub fn fails(&self, node: usize, args: &[&str], with: i32, why: &str) {
        let output = self.run(node, args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), with, "{args:?}: {output:?}");
        assert!(error.contains(why), "{args:?}: no {why:?} in {error}");
    }

    /// Some node of 1 to 3 but `node`.
    pub fn other_than(&self, node: usize) -> usize {
        node % (NODES - 1) + 1
    }
}

pub fn run(dir: &Path, args: &[&str]) -> Output {
    let dir = dir.display().to_string();
    tool(&[args, &["--data-dir", &dir]].concat())
}

pub fn tool(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringleader")).args(args).output().expect("it runs")
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

pub fn text(output: &Output) -> String {
    assert_eq!(code(output), DONE, "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}
