//! Clusters of real processes under continuous load, for tests that kill them or cut them off.
//!
//! A test runs its own executable again for each node (see [`node::serve`]); commands and answers go
//! through pipes (see [`process`]). Every node tries to propose numbers of its own all the time, and succeeds while
//! it leads. What became of each number is kept by the [`ledger`].
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod child;
pub mod ledger;
pub mod load;
pub mod machine;
pub mod network;
pub mod node;
pub mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringleader::NodeId;
use tempfile::TempDir;

use crate::nodes::{addresses, eventually};
use child::{Child, Status};
use ledger::Ledger;
use network::Network;
use node::{Place, Settings};

/// The election timeout of all nodes.
pub const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// How long no operation may be acknowledged while a majority is well. Elections succeed within a
/// few timeouts; a machine that has much else to do gets some more.
pub const BOUND: Duration = Duration::from_secs(10);

/// A cluster with one group, whose nodes are numbered from 1.
pub struct Cluster {
    /// They end before their directories go.
    children: BTreeMap<u64, Child>,
    dir: TempDir,
    pub addresses: Vec<SocketAddr>,
    /// What nodes get that are started from now on.
    pub settings: Settings,
    /// The nodes that vote from the beginning.
    first_voters: usize,
    network: Option<Network>,
    ledger: Arc<Ledger>,
    /// How many processes there were.
    lives: u64,
    loading: bool,
}

impl Cluster {
    /// A cluster on loopback, the first `voters` of whose nodes make up the group. All are running.
    pub fn on_loopback(nodes: usize, voters: usize) -> Self {
        Self::with(nodes, voters, Settings::default())
    }

    /// Likewise, with settings of the test's own.
    pub fn with(nodes: usize, voters: usize, settings: Settings) -> Self {
        let mut cluster = Self::new(nodes, voters, settings);
        cluster.start();
        cluster
    }

    /// A cluster whose nodes have a network namespace each.
    pub fn on_network(nodes: usize) -> Self {
        let network = Network::new(nodes);
        let mut cluster = Self::new(0, nodes, Settings::default());
        (cluster.addresses, cluster.network) = (network.addresses(), Some(network));
        cluster.start();
        cluster
    }

    /// A cluster on loopback of which no node runs yet.
    pub fn new(nodes: usize, first_voters: usize, settings: Settings) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            addresses: addresses(nodes),
            settings,
            first_voters,
            network: None,
            children: BTreeMap::new(),
            ledger: Arc::default(),
            lives: 0,
            loading: false,
        }
    }

    /// Starts all nodes.
    pub fn start(&mut self) {
        (1..=self.addresses.len() as u64).for_each(|node| self.launch(node));
        self.children.values().for_each(|child| child.ready());
    }

    /// What a node is started with.
    pub fn place(&self, node: u64) -> Place {
        Place {
            node,
            dir: self.dir.path().to_owned(),
            voters: self.first_voters,
            addresses: self.addresses.clone(),
            settings: self.settings.clone(),
        }
    }

    fn launch(&mut self, node: u64) {
        let namespace = self.network.as_ref().map(|network| network.namespace(node));
        let child = Child::spawn(&self.place(node), namespace, Arc::clone(&self.ledger));
        self.children.insert(node, child);
        self.lives += 1;
        if self.loading {
            self.load_on(node);
        }
    }

    /// Starts a node that does not run.
    pub fn restart(&mut self, node: u64) {
        self.launch(node);
        self.children[&node].ready();
    }

    /// SIGKILL.
    pub fn kill(&mut self, node: u64) {
        self.children.remove(&node).expect("it runs").kill();
    }

    /// Has a node stop in order; what its machine was told of leaders.
    pub fn stop(&mut self, node: u64) -> String {
        self.children.remove(&node).expect("it runs").stop()
    }

    /// SIGKILL for all at once.
    pub fn kill_all(&mut self) {
        self.children.values_mut().for_each(Child::signal_kill);
        std::mem::take(&mut self.children).into_values().for_each(Child::kill);
    }

    /// From now on every node proposes, those that start later included.
    pub fn load(&mut self) {
        self.loading = true;
        let nodes: Vec<u64> = self.children.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.load_on(node));
    }

    fn load_on(&mut self, node: u64) {
        // No two lives of a node propose the same numbers.
        self.children[&node].say(&format!("load {}", self.lives << 40 | node << 32));
    }

    /// Waits until `count` more operations were acknowledged.
    ///
    /// # Panics
    /// When none is acknowledged for longer than [`BOUND`].
    pub fn goes_on(&self, count: usize) {
        self.ledger.wait_for(count, BOUND);
    }

    /// The longest time without an acknowledgement since this was last asked.
    pub fn longest_pause(&self) -> Duration {
        self.ledger.longest_pause()
    }

    /// Tells for how long nobody was served; `--nocapture` shows it.
    pub fn report(&self, what: &str) {
        println!("{what}: no acknowledgement for {:?} at most", self.longest_pause());
    }

    /// Who leads, by the newest term that any node of these knows.
    pub fn leader_among(&self, nodes: &[u64]) -> u64 {
        eventually("a leader", || {
            let statuses = nodes.iter().map(|node| (*node, self.children[node].status()));
            let newest = statuses.max_by_key(|(_, status)| (status.term, status.leads))?;
            newest.1.leads.then_some(newest.0)
        })
    }

    /// Who leads.
    pub fn leader(&self) -> u64 {
        let running: Vec<u64> = self.children.keys().copied().collect();
        self.leader_among(&running)
    }

    /// What a node says of itself.
    pub fn status(&self, node: u64) -> Status {
        self.children[&node].status()
    }

    /// A node's process.
    pub fn node(&self, node: u64) -> &Child {
        &self.children[&node]
    }

    /// Waits until a node has applied what those that run have now.
    pub fn catches_up(&self, node: u64) {
        let most = self.children.values().map(|child| child.status().applied).max();
        eventually("it to catch up", || (Some(self.status(node).applied) >= most).then_some(()));
    }

    /// How many operations were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.ledger.acked().len()
    }

    /// Makes exactly these nodes the voters.
    pub fn change(&self, voters: &[u64]) {
        let wanted: BTreeSet<NodeId> = voters.iter().copied().map(NodeId).collect();
        eventually("the members to change", || {
            self.children[&self.leader()].change(&wanted).then_some(())
        });
    }

    /// How nodes hear each other.
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("the cluster has a network of its own")
    }

    /// Ends the load and checks on these nodes that every number that was acknowledged is there,
    /// that none is there twice, and that all have the same numbers in the same order. A number that
    /// was refused was proposed again, so one that took effect nevertheless would be there twice.
    pub fn check(&mut self, nodes: &[u64]) {
        self.loading = false;
        self.children.values().for_each(Child::quiet);
        let acked = self.ledger.acked();
        assert!(!acked.is_empty(), "nothing was acknowledged");
        let orders: Vec<Vec<u64>> = nodes.iter().map(|node| self.complete(*node, &acked)).collect();
        for (node, order) in nodes.iter().zip(&orders) {
            let common = order.len().min(orders[0].len());
            assert!(order[..common] == orders[0][..common], "node {node} has another order");
        }
    }

    /// What a node applied, once that has all that was acknowledged. A node that was restarted
    /// learns from its leader what is committed.
    fn complete(&self, node: u64, acked: &BTreeSet<u64>) -> Vec<u64> {
        eventually("a replica to have all that was acknowledged", || {
            let order = self.children[&node].dump();
            let applied: BTreeSet<u64> = order.iter().copied().collect();
            assert_eq!(applied.len(), order.len(), "node {node} applied a number twice");
            let lost = acked.difference(&applied).count();
            (lost == 0).then_some(order)
        })
    }
}
