//! What the tests of whole nodes on loopback share.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use ringleader::{
    Engine, EngineConfig, Entries, GroupConfig, GroupId, Handle, Member, NodeId, ProposeError,
    Replies, RoleName, StateMachine,
};

/// Longer than anything takes that goes well, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// The only group of most tests.
pub const GROUP: GroupId = GroupId(1);

/// Ports that the kernel gives to nobody who does not ask for them by number: 10,000 to 31,999.
const PORTS: u32 = 22_000;

/// So many addresses on loopback, all different and free, and not handed out again in this process.
/// Processes look for them in different places.
pub fn addresses(count: usize) -> Vec<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut free = Vec::new();
    while free.len() < count {
        let nth =
            std::process::id().wrapping_mul(61) % PORTS + NEXT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from(([127, 0, 0, 1], (10_000 + nth % PORTS) as u16));
        if TcpListener::bind(address).is_ok() {
            free.push(address);
        }
    }
    free
}

/// Node `node`, with its data in `dir`, of the cluster that listens on `addresses`. Nodes are
/// numbered from 1, have one shard, and all vote in the groups 1 to `groups`.
///
/// An election timeout is short, so that tests are, and yet longer than a busy machine halts a node;
/// segments are small, so that there are several.
pub fn config(addresses: &[SocketAddr], node: u64, groups: u64, dir: &Path) -> EngineConfig {
    let member = |(&address, node)| Member { node: NodeId(node), address, shards: 1 };
    let members: Vec<Member> = addresses.iter().zip(1..).map(member).collect();
    let voters: Vec<NodeId> = members.iter().map(|member| member.node).collect();
    let path = dir.join(format!("node-{node}"));
    let mut config = EngineConfig::new(7, NodeId(node), members, path);
    config.raft.election_timeout = Duration::from_secs(1);
    config.raft.heartbeat_interval = Duration::from_millis(50);
    config.wal.segment_bytes = 4 << 20;
    config.net.backoff_max = Duration::from_millis(100);
    let group = |group| GroupConfig { group: GroupId(group), voters: voters.clone() };
    config.groups = (1..=groups).map(group).collect();
    config
}

/// What `probe` finds, once it finds something.
///
/// # Panics
/// When it does not in time.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        // Time for those who are waited for: who asks without a pause takes a core from them.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether this node leads the group.
pub fn leads(handle: &Handle, group: GroupId) -> bool {
    block_on(handle.status(group)).is_ok_and(|status| status.role == RoleName::Leader)
}

/// A node that leads the group, as soon as there is one.
pub fn leader<'a>(engines: impl IntoIterator<Item = &'a Engine> + Clone, group: GroupId) -> Handle {
    eventually("a leader", || {
        engines.clone().into_iter().map(Engine::handle).find(|handle| leads(handle, group))
    })
}

/// Counts what it was given.
#[derive(Default)]
pub struct Counter(pub u64);

impl StateMachine for Counter {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        self.0 += entries.iter().count() as u64;
    }
}

/// Starts a node whose groups count.
pub fn start_counting(config: EngineConfig) -> Engine {
    Engine::start(config, |_| Box::new(Counter::default())).expect("the node starts")
}

/// Whether each of these knows the others' data, as their files say.
pub fn know_each_other(dir: &Path, nodes: &[u64]) -> Option<()> {
    let knows = |node: &u64| {
        let peers = std::fs::read_to_string(dir.join(format!("node-{node}/PEERS")));
        let peers = peers.expect("every node has the file");
        nodes
            .iter()
            .filter(|other| *other != node)
            .all(|other| peers.contains(&format!("node {other} data ")))
    };
    nodes.iter().all(knows).then_some(())
}

/// Waits until nothing is to come in the group that nobody asked for: all have applied the same, the
/// leader's entry that names the members' data included.
pub fn settle(handles: &[Handle], group: GroupId) {
    eventually("nothing more to come", || {
        let status = |handle: &Handle| block_on(handle.status(group)).ok();
        let all: Vec<_> = handles.iter().map(status).collect::<Option<_>>()?;
        let settled = all.iter().all(|one| {
            let applied = one.applied == one.last.index && one.last == all[0].last;
            applied && one.configuration.is_identified()
        });
        settled.then_some(())
    });
}

/// Proposes on whichever of these leads.
pub fn propose(engines: &[&Engine]) {
    eventually("a proposal", || {
        let handles = engines.iter().map(|engine| engine.handle());
        handles.into_iter().find_map(|handle| match block_on(handle.propose(GROUP, b"x")) {
            Ok(_) => Some(()),
            Err(ProposeError::NotLeader { .. } | ProposeError::Unknown(_)) => None,
            Err(error) => panic!("{error}"),
        })
    });
}

/// What a node's [`Counter`] has counted.
pub fn count(handle: &Handle) -> u64 {
    block_on(handle.inspect(GROUP, |counter: &mut Counter| counter.0)).expect("the group is here")
}

/// Writes `count` operations of 4 KiB, many in flight.
pub fn write(handle: &Handle, count: u64) {
    write_to(handle, GROUP, count);
}

/// The same, to another group.
pub fn write_to(handle: &Handle, group: GroupId, count: u64) {
    let mut queue = handle.queue(0, 256);
    let (mut pushed, mut done) = (0_u64, 0);
    while done < count {
        while pushed < count && queue.outstanding() < 256 {
            let mut payload = vec![7; 4096];
            payload[..8].copy_from_slice(&pushed.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            queue.push(group, pushed, &payload).expect("there is room");
            pushed += 1;
        }
        queue.submit().expect("the engine runs");
        assert!(queue.wait(Duration::from_secs(20)), "completions come");
        queue.drain(|completion| {
            completion.result.as_ref().expect("it is applied");
            done += 1;
        });
    }
}

pub fn bytes_in(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a directory");
    entries
        .map(|entry| {
            let entry = entry.expect("readable");
            let kind = entry.file_type().expect("readable");
            if kind.is_dir() {
                bytes_in(&entry.path())
            } else {
                // A file may go between the listing and the look at it.
                entry.metadata().map_or(0, |metadata| metadata.len())
            }
        })
        .sum()
}
