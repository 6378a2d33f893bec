//! Four nodes on loopback in this process, and the tool as a process of its own.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::block_on;
use ringleader::{
    Engine, EngineConfig, Entries, GroupConfig, GroupId, Handle, MachineError, Member, NodeId,
    Replies, RoleName, SnapshotSource, StateMachine,
};
use serde_json::Value;

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
pub struct Count(pub u64);

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

/// Nodes 1 to 3 found the groups, node 4 waits.
pub struct Cluster {
    dir: tempfile::TempDir,
    pub addresses: Vec<SocketAddr>,
    engines: Vec<Option<Engine>>,
    groups: Vec<GroupId>,
}

impl Cluster {
    pub fn new(groups: &[GroupId]) -> Self {
        let listeners: Vec<_> =
            (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let addresses = listeners.iter().map(|l| l.local_addr().expect("bound")).collect();
        drop(listeners);
        let dir = tempfile::tempdir().expect("a directory");
        let engines = (0..NODES).map(|_| None).collect();
        let mut cluster = Self { dir, addresses, engines, groups: groups.to_vec() };
        (1..=NODES).for_each(|node| cluster.start(node));
        cluster
    }

    pub fn start(&mut self, node: usize) {
        let member = |(address, node)| Member { node: NodeId(node), address, shards: 1 };
        let members = self.addresses.iter().copied().zip(1..).map(member).collect();
        let mut config = EngineConfig::new(7, NodeId(node as u64), members, self.node_dir(node));
        config.raft.election_timeout = Duration::from_millis(400);
        config.raft.heartbeat_interval = Duration::from_millis(50);
        config.wal.segment_bytes = 4 << 20;
        config.admin = true;
        let voters = if node < NODES { (1..NODES as u64).map(NodeId).collect() } else { vec![] };
        let group = |group: &GroupId| GroupConfig { group: *group, voters: voters.clone() };
        config.groups = self.groups.iter().map(group).collect();
        let named = GroupId::from_name(NAME);
        let machine = move |group| -> Box<dyn StateMachine> {
            if group == named { Box::new(Count::default()) } else { Box::new(Null) }
        };
        self.engines[node - 1] = Some(Engine::start(config, machine).expect("the node starts"));
    }

    pub fn stop(&mut self, node: usize) {
        drop(self.engines[node - 1].take());
    }

    pub fn node_dir(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    pub fn handle(&self, node: usize) -> Handle {
        self.engines[node - 1].as_ref().expect("it runs").handle()
    }

    /// The node that leads, as it says itself.
    pub fn leader(&self, group: GroupId) -> usize {
        eventually("a leader that serves", || {
            let running = (1..=NODES).filter(|node| self.engines[node - 1].is_some());
            running.into_iter().find(|node| {
                let handle = self.handle(*node);
                let leads = block_on(handle.status(group))
                    .is_ok_and(|status| status.role == RoleName::Leader);
                leads && block_on(handle.propose(group, b"x")).is_ok()
            })
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

pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::yield_now();
    }
}
