//! What a server is started with.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ringleader::{EngineConfig, GroupConfig, GroupId, Member, NodeId};
use serde::Deserialize;

use super::topology::BUS_PORT_OFFSET;
use crate::kv::execute::REPLY_BYTES;
use crate::kv::resp::request::Limits;
use crate::kv::slot::Layout;

/// A node's configuration, as it stands in its file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster's name. Nodes refuse peers and data of another.
    pub cluster: String,
    /// This node's number.
    pub node: u64,
    /// All nodes, this one included; the same on all of them.
    pub nodes: Vec<NodeAddress>,
    /// Where the log and the snapshots live; created if missing.
    pub data_dir: PathBuf,
    /// Raft groups that the slots are spread over; the same on all nodes, for ever.
    #[serde(default = "default_groups")]
    pub groups: u16,
    /// The IP address to listen on, where it is another than the one that the others connect to:
    /// `0.0.0.0`, say.
    #[serde(default)]
    pub listen: Option<IpAddr>,
    /// Where clients are served that know no cluster: their commands are forwarded.
    #[serde(default)]
    pub plain_listen: Option<SocketAddr>,
    /// Where the status page and the metrics are.
    #[serde(default)]
    pub http_listen: Option<SocketAddr>,
    /// What clients must say first (`AUTH`). The nodes' ports for each other are not protected by it.
    #[serde(default)]
    pub password: Option<String>,
    /// Bytes of keys and values, with what it takes to keep them, at which writes that take more are
    /// refused.
    #[serde(default = "default_memory")]
    pub memory_limit: usize,
    /// Clients at once.
    #[serde(default = "default_clients")]
    pub max_clients: usize,
    /// Bytes of requests and replies that the clients of one shard have in memory. When they take
    /// more, the client that takes the most is disconnected.
    #[serde(default = "default_client_memory")]
    pub client_memory_limit: usize,
    /// With this, reads rest on the leader's lease and need no round trip, as long as clocks drift
    /// apart by no more than this many milliseconds within an election timeout. The same on all
    /// nodes.
    #[serde(default)]
    pub lease_drift_ms: Option<u64>,
    /// Seconds between two looks at how leaders are spread over the nodes. Zero: they stay where
    /// elections put them.
    #[serde(default = "default_rebalance")]
    pub rebalance_seconds: u64,
    /// The core of each shard; without it, the scheduler's to choose.
    #[serde(default)]
    pub pin: Option<Vec<usize>>,
}

/// Where a node is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct NodeAddress {
    /// Its number, from 1; never used again for another node.
    pub id: u64,
    /// Where its first shard serves clients. Each further shard has the next port, and the nodes talk
    /// to each other on this port plus 10000.
    pub address: SocketAddr,
    /// Its shards: cores that it uses. Never changed once there is data.
    #[serde(default = "default_shards")]
    pub shards: u32,
    /// Whether it was added to a cluster that ran already (`KV.CLUSTER ADD`).
    #[serde(default)]
    pub joined: bool,
}

impl NodeAddress {
    /// The ports that it listens on: for clients, and for the other nodes.
    fn ports(&self) -> impl Iterator<Item = u16> + use<> {
        let first = self.address.port();
        (first..first + self.shards as u16).chain([first + BUS_PORT_OFFSET])
    }
}

fn default_groups() -> u16 {
    16
}

fn default_memory() -> usize {
    1 << 30
}

fn default_clients() -> usize {
    10_000
}

fn default_client_memory() -> usize {
    256 << 20
}

fn default_rebalance() -> u64 {
    30
}

fn default_shards() -> u32 {
    1
}

/// What the connections go by.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) password: Option<String>,
    pub(crate) memory_limit: usize,
    pub(crate) max_clients: usize,
    pub(crate) client_memory_limit: usize,
    pub(crate) lease_reads: bool,
    pub(crate) limits: Limits,
    /// How long a command may wait for a leader, where it is forwarded.
    pub(crate) patience: Duration,
    /// How long a client may take none of its replies.
    pub(crate) stalled: Duration,
}

/// A request is one entry of the log at most, and takes no more bytes there.
const REQUEST_BYTES: usize = (1 << 20) - 1024;

impl Config {
    /// Reads a configuration file's text.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    /// Checks what can be said without trying.
    ///
    /// # Errors
    /// Names the setting and says what is allowed.
    pub fn check(&self) -> Result<(), String> {
        Layout::new(self.groups)?;
        if self.cluster.is_empty() {
            return Err("cluster must have a name".into());
        }
        let mut taken = HashSet::new();
        for node in &self.nodes {
            let NodeAddress { id, address, shards, .. } = node;
            let last =
                u16::try_from(*shards).ok().and_then(|shards| address.port().checked_add(shards));
            if address.port() == 0 || last.is_none_or(|last| last > u16::MAX - BUS_PORT_OFFSET) {
                return Err(format!(
                    "nodes: the ports of node {id} must be 1 to {}: {BUS_PORT_OFFSET} above them is \
                     for the other nodes",
                    u16::MAX - BUS_PORT_OFFSET
                ));
            }
            for port in node.ports() {
                if !taken.insert((address.ip(), port)) {
                    return Err(format!("nodes: {}:{port} is taken twice", address.ip()));
                }
            }
        }
        let this = self.this()?;
        let mut own: HashSet<u16> = this.ports().collect();
        for address in [self.plain_listen, self.http_listen].into_iter().flatten() {
            if address.port() > 0 && !own.insert(address.port()) {
                return Err(format!("the port of {address} is taken twice"));
            }
        }
        if self.nodes.iter().all(|node| node.joined) {
            return Err("nodes: all of them joined, and none was there before".into());
        }
        if self.memory_limit < 1 << 20 {
            return Err("memory_limit must be at least 1048576 bytes".into());
        }
        let least = 2 * REPLY_BYTES;
        if self.client_memory_limit < least {
            return Err(format!(
                "client_memory_limit must be at least {least} bytes: two long replies"
            ));
        }
        if self.max_clients == 0 {
            return Err("max_clients must not be zero".into());
        }
        if self.password.as_ref().is_some_and(String::is_empty) {
            return Err("password must not be empty; leave it out for none".into());
        }
        Ok(())
    }

    /// This node among the nodes.
    pub(crate) fn this(&self) -> Result<NodeAddress, String> {
        let this = self.nodes.iter().find(|node| node.id == self.node).copied();
        this.ok_or_else(|| format!("node {} is not among the nodes", self.node))
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            password: self.password.clone(),
            memory_limit: self.memory_limit,
            max_clients: self.max_clients,
            client_memory_limit: self.client_memory_limit,
            lease_reads: self.lease_drift_ms.is_some(),
            limits: Limits { args: 1 << 17, bulk: REQUEST_BYTES, request: REQUEST_BYTES },
            patience: Duration::from_secs(5),
            stalled: Duration::from_secs(60),
        }
    }

    /// The engine's part of it.
    pub(crate) fn engine(&self) -> EngineConfig {
        let member = |node: &NodeAddress| {
            let (ip, port) = (node.address.ip(), node.address.port() + BUS_PORT_OFFSET);
            let address = SocketAddr::new(ip, port);
            Member { node: NodeId(node.id), address, shards: node.shards }
        };
        let members: Vec<Member> = self.nodes.iter().map(member).collect();
        // Those that the groups began with. A node that joins has none to name: it is added to them.
        let joins = self.this().is_ok_and(|this| this.joined);
        let first = self.nodes.iter().filter(|node| !node.joined && !joins);
        let voters: Vec<NodeId> = first.map(|node| NodeId(node.id)).collect();
        // With another number of groups the same keys would be elsewhere, so that is another cluster.
        let cluster = GroupId::from_name(&format!("{}/{}", self.cluster, self.groups)).0;
        let mut config =
            EngineConfig::new(cluster, NodeId(self.node), members, self.data_dir.clone());
        let group = |id| GroupConfig { group: GroupId(id), voters: voters.clone() };
        config.groups = (1..=u64::from(self.groups)).map(group).collect();
        config.raft.lease_reads = self.lease_drift_ms.map(Duration::from_millis);
        config.pin.clone_from(&self.pin);
        config.admin = true;
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: &str = include_str!("../../../kv/kv.toml");

    #[test]
    fn the_example_is_one_and_says_the_defaults() {
        let config = Config::parse(COMPLETE).unwrap();
        assert!(config.engine().validate().is_ok());
        let least: String = COMPLETE
            .lines()
            .filter(|line| {
                ["cluster", "node ", "data_dir", "[[", "id", "address"]
                    .iter()
                    .any(|key| line.starts_with(key))
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let least = Config::parse(&least).unwrap();
        assert_eq!(
            (least.groups, least.memory_limit, least.max_clients, least.client_memory_limit),
            (config.groups, config.memory_limit, config.max_clients, config.client_memory_limit)
        );
    }

    #[test]
    fn what_can_not_be_is_refused_with_the_reason() {
        let refused = |from: &str, to: &str, says: &str| {
            assert!(COMPLETE.contains(from), "{from}");
            let error = Config::parse(&COMPLETE.replace(from, to)).unwrap_err();
            assert!(error.contains(says), "{to}: {error}");
        };
        refused("groups = 16", "groups = 0", "groups must be 1 to 1024");
        refused("groups = 16", "group = 16", "unknown field `group`");
        refused("\nnode = 1", "\nnode = 9", "node 9 is not among the nodes");
        refused("10.0.0.2:7000", "10.0.0.1:7000", "taken twice");
        refused("127.0.0.1:9121", "127.0.0.1:7000", "taken twice");
        refused("10.0.0.2:7000", "10.0.0.2:60000", "must be 1 to 55535");
        refused("\nmemory_limit = 1073741824", "\nmemory_limit = 5", "memory_limit");
        refused("memory_limit = 268435456", "memory_limit = 5", "client_memory_limit");
    }
}
