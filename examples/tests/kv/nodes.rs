//! Starts, kills and restarts the nodes of a cluster.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::children::{child, free_port, wait_for};
use crate::resp::{Client, Value};

/// A node's addresses.
struct Node {
    cluster: SocketAddr,
    plain: SocketAddr,
    http: SocketAddr,
    child: Option<Child>,
}

/// The nodes of one cluster with their directories. They end with it.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    shards: u32,
    /// More lines of every node's configuration.
    settings: String,
    dir: TempDir,
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// As many ports, one behind the other.
fn free_ports(count: u32) -> u16 {
    loop {
        let first = free_port();
        if (1..count as u16).all(|more| TcpListener::bind(local(first + more)).is_ok()) {
            // The others are passed over by whoever looks next.
            for _ in 1..count {
                free_port();
            }
            return first;
        }
    }
}

impl Nodes {
    /// A cluster that serves, of this many nodes.
    pub(crate) fn started(size: usize, shards: u32, settings: &str) -> Self {
        let node = |_| Node {
            cluster: local(free_ports(shards)),
            plain: local(free_port()),
            http: local(free_port()),
            child: None,
        };
        let nodes = (0..size).map(node).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut nodes = Self { nodes, shards, settings: settings.into(), dir };
        (0..size).for_each(|node| nodes.start(node));
        nodes.wait_until_served();
        nodes
    }

    /// Three nodes of one shard, with four groups.
    pub(crate) fn three() -> Self {
        Self::started(3, 1, "groups = 4\n")
    }

    /// Where clients that know the cluster connect.
    pub(crate) fn cluster(&self, node: usize) -> SocketAddr {
        self.nodes[node].cluster
    }

    /// Where those connect that don't.
    pub(crate) fn plain(&self, node: usize) -> SocketAddr {
        self.nodes[node].plain
    }

    pub(crate) fn http(&self, node: usize) -> SocketAddr {
        self.nodes[node].http
    }

    fn file(&self, node: usize, kind: &str) -> PathBuf {
        self.dir.path().join(format!("node-{node}.{kind}"))
    }

    fn config(&self, node: usize) -> String {
        let Node { plain, http, .. } = &self.nodes[node];
        let mut text = format!(
            "cluster = \"test\"\nnode = {}\ndata_dir = {:?}\nplain_listen = \"{plain}\"\n\
             http_listen = \"{http}\"\n{}",
            node + 1,
            self.file(node, "data"),
            self.settings,
        );
        for (node, id) in self.nodes.iter().zip(1..) {
            let (address, shards) = (node.cluster, self.shards);
            text += &format!("[[nodes]]\nid = {id}\naddress = \"{address}\"\nshards = {shards}\n");
        }
        text
    }

    pub(crate) fn start(&mut self, node: usize) {
        let config = self.file(node, "toml");
        fs::write(&config, self.config(node)).unwrap();
        let log = File::options().create(true).append(true).open(self.file(node, "log")).unwrap();
        let mut command = child(env!("CARGO_BIN_EXE_kv"));
        command.arg("server").arg("--config").arg(config);
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        assert!(self.nodes[node].child.replace(child).is_none(), "node {node} runs already");
    }

    /// SIGKILL: the process has no say in it.
    pub(crate) fn kill(&mut self, node: usize) {
        let mut child = self.nodes[node].child.take().expect("the node was started");
        assert_eq!(child.try_wait().unwrap(), None, "node {node} ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        // The kernel lets go of what io_uring held some milliseconds after the process is gone.
        let Node { cluster, plain, .. } = self.nodes[node];
        let bus = local(cluster.port() + 10_000);
        let free = |port| TcpListener::bind(port).is_ok();
        wait_for("the ports to be free again", || {
            [cluster, plain, bus].into_iter().all(free).then_some(())
        });
    }

    pub(crate) fn pid(&self, node: usize) -> u32 {
        self.nodes[node].child.as_ref().expect("the node was started").id()
    }

    pub(crate) fn runs(&mut self, node: usize) -> bool {
        self.nodes[node].child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Waits until every group has a leader that serves, as every running node says.
    pub(crate) fn wait_until_served(&self) {
        for node in self.nodes.iter().filter(|node| node.child.is_some()) {
            wait_for("all groups to be served", || {
                let mut client = Client::connect(node.plain).ok()?;
                // Where no password is set, this is an error and does no harm.
                client.try_say("AUTH secret").ok()?;
                let Value::Bulk(info) = client.try_say("CLUSTER INFO").ok()? else { return None };
                let served = info.contains("cluster_state:ok");
                (served && matches!(client.try_say("DBSIZE"), Ok(Value::Int(_)))).then_some(())
            });
        }
    }

    /// The node (and the address of its shard) that serves a key's slot.
    pub(crate) fn leader_of(&self, key: &str) -> (usize, SocketAddr) {
        wait_for("a leader", || {
            (0..self.nodes.len()).find_map(|node| {
                let mut client = Client::connect(self.nodes[node].cluster).ok()?;
                match client.try_say(&format!("EXISTS {key}")).ok()? {
                    Value::Int(_) => Some((node, self.nodes[node].cluster)),
                    _ => None,
                }
            })
        })
        .0
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            // It may have ended, which is for the test to judge.
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            for node in 0..self.nodes.len() {
                let log = fs::read_to_string(self.file(node, "log")).unwrap_or_default();
                eprintln!("--- node {node}\n{log}");
            }
        }
    }
}
