//! Starts, kills and restarts the nodes of a cluster.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::children::{child, free_port, wait_for};
use crate::network::{Network, enter, host};
use crate::resp::{Client, Value};

/// A node's addresses.
struct Node {
    cluster: SocketAddr,
    plain: SocketAddr,
    http: SocketAddr,
    child: Option<Child>,
}

impl Node {
    /// On ports of loopback that are free.
    fn local(shards: u32) -> Self {
        let cluster = local(free_ports(shards));
        Self { cluster, plain: local(free_port()), http: local(free_port()), child: None }
    }

    /// At a place in a network of the cluster's own.
    fn at(place: u64) -> Self {
        let [cluster, plain, http] = [7000, 7100, 7200].map(|port| (host(place), port).into());
        Self { cluster, plain, http, child: None }
    }
}

/// The nodes of one cluster with their directories. They end with it.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    /// So many of them were there from the beginning.
    first: usize,
    network: Option<Network>,
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
        Self::with((0..size).map(|_| Node::local(shards)).collect(), None, shards, settings)
    }

    /// Likewise in a network of its own, which has room for `more` nodes. The calling thread goes there.
    #[cfg(feature = "namespaces")]
    pub(crate) fn on_network(size: usize, more: usize, settings: &str) -> Self {
        // The last place is the clients'.
        let network = Network::new(size + more + 1);
        enter(&network.namespace((size + more + 1) as u64)).unwrap();
        let nodes = (1..=size as u64).map(Node::at).collect();
        Self::with(nodes, Some(network), 1, settings)
    }

    fn with(nodes: Vec<Node>, network: Option<Network>, shards: u32, settings: &str) -> Self {
        let (first, settings, dir) = (nodes.len(), settings.into(), tempfile::tempdir().unwrap());
        let mut nodes = Self { nodes, first, network, shards, settings, dir };
        (0..first).for_each(|node| nodes.start(node));
        nodes.wait_until_served();
        nodes
    }

    /// Starts another node, which is in no group yet, and which the others don't know; its place.
    pub(crate) fn start_another(&mut self) -> usize {
        let node = self.nodes.len();
        self.nodes.push(match self.network {
            None => Node::local(self.shards),
            Some(_) => Node::at(node as u64 + 1),
        });
        self.start(node);
        node
    }

    /// Has a node lead a group, by its number.
    pub(crate) fn transfer(&self, group: i64, to: usize) {
        wait_for("a leadership to move", || {
            let mut client = Client::connect(self.nodes[to].plain).ok()?;
            let moved = client.try_say(&format!("KV.CLUSTER TRANSFER {group} {}", to + 1));
            moved.ok()?.is_ok().then_some(())
        });
    }

    /// How nodes hear each other.
    #[cfg(feature = "namespaces")]
    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().expect("the cluster has a network of its own")
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

    pub(crate) fn all_plain(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.plain).collect()
    }

    pub(crate) fn all_cluster(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.cluster).collect()
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
            let joined = id > self.first;
            text += &format!(
                "[[nodes]]\nid = {id}\naddress = \"{address}\"\nshards = {shards}\njoined = {joined}\n"
            );
        }
        text
    }

    pub(crate) fn start(&mut self, node: usize) {
        let config = self.file(node, "toml");
        fs::write(&config, self.config(node)).unwrap();
        let log = File::options().create(true).append(true).open(self.file(node, "log")).unwrap();
        let mut command = child(env!("CARGO_BIN_EXE_kv"));
        command.arg("server").arg("--config").arg(config);
        if let Some(network) = &self.network {
            let namespace = network.namespace(node as u64 + 1);
            // SAFETY: a system call that is allowed between fork and exec.
            unsafe { command.pre_exec(move || enter(&namespace)) };
        }
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
        let bus = SocketAddr::new(cluster.ip(), cluster.port() + 10_000);
        let free = |port| TcpListener::bind(port).is_ok();
        self.where_it_is(node, || {
            wait_for("the ports to be free again", || {
                [cluster, plain, bus].into_iter().all(free).then_some(())
            });
        });
    }

    /// Does something in a node's network namespace.
    fn where_it_is<T: Send>(&self, node: usize, what: impl FnOnce() -> T + Send) -> T {
        let namespace = self.network.as_ref().map(|network| network.namespace(node as u64 + 1));
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                namespace.iter().for_each(|namespace| enter(namespace).unwrap());
                what()
            });
            there.join().unwrap()
        })
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
