//! What an operation costs the CPU, without any IO: the shards of three replicas in one thread,
//! disks that complete at once, a network that copies. Load generation and answers are included.
//!
//! ```text
//! cargo bench -p ringleader --bench path                          a table of typical shapes
//! cargo bench -p ringleader --bench path -- GROUPS PER_GROUP ROUNDS      one shape
//! ```
//!
//! Each round proposes `PER_GROUP` operations of 16 bytes to each group and lets all replicas apply
//! them. On a shared machine the time varies; the number of instructions does not. Count those of
//! two runs, so that starting up cancels:
//!
//! ```text
//! export GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=1000000000
//! for rounds in 20 60; do
//!   valgrind --tool=callgrind target/release/deps/path-* 1000 1 $rounds
//! done
//! ```
//!
//! The difference, divided by 40 rounds x 1000 groups x 1 operation, is the cost of one of them.
//! (Without the tunable, every byte of a large copy counts as an instruction.) With
//! `--tool=cachegrind --cache-sim=yes`, the same difference tells the cache misses.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ringleader::shard::{ClientId, Effects, LinkId, Shard, ShardConfig, Submission};
use ringleader::time::Time;
use ringleader::{
    Entries, GroupConfig, GroupId, Limits, NodeId, RaftConfig, Replies, RoleName, SnapshotConfig,
    StateMachine, WalConfig,
};
use ringleader_net::DataId;
use ringleader_wal::disk::{DiskOp, DiskOutput};
use ringleader_wal::{Identity, Wal};

const NODES: [u64; 3] = [1, 2, 3];
const PAYLOAD: [u8; 16] = [7; 16];
/// Proposed, replicated, answered, applied on the followers too.
const TURNS_PER_ROUND: usize = 4;
const SHAPES: [(usize, usize, usize); 3] = [(1000, 1, 300), (1000, 16, 100), (1, 1000, 20_000)];

struct Hash(u64);

impl StateMachine for Hash {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        let step = |entry: ringleader::Entry<'_>| {
            self.0 = self.0.wrapping_mul(31) ^ u64::from(entry.payload[0]);
        };
        entries.iter().for_each(step);
    }
}

struct Node {
    shard: Shard,
    effects: Effects,
    /// Frames that arrived: the link, the envelope, the body.
    arrived: Vec<(LinkId, Bytes, Bytes)>,
    answered: usize,
}

impl Node {
    fn new(number: u64, groups: usize) -> Self {
        let node = NodeId(number);
        let voters = NODES.map(NodeId).to_vec();
        let group = |group| GroupConfig { group: GroupId(group), voters: voters.clone() };
        let others = voters.iter().filter(|voter| **voter != node);
        let config = ShardConfig {
            node,
            data: DataId(node.0.into()),
            groups: (1..=groups as u64).map(group).collect(),
            nodes: others.map(|&node| (node, 1)).collect(),
            raft: std::sync::Arc::new(RaftConfig::default()),
            priorities: std::collections::HashMap::new(),
            limits: Limits::default(),
            snapshots: SnapshotConfig::default(),
            factory: Box::new(|_| Box::new(Hash(0))),
            seed: number,
        };
        let settings = WalConfig { segment_bytes: 64 << 20, ..WalConfig::default() };
        let wal = Wal::open(settings, Identity { cluster: 1, node, shard: 0 });
        let mut shard = Shard::new(config, wal);
        let peers: Vec<_> = shard.links().collect();
        for (peer, link) in peers.into_iter().zip(0..) {
            shard.link_up(Time(1), LinkId(link), 1, DataId(peer.node.0.into()));
        }
        Self { shard, effects: Effects::default(), arrived: Vec::new(), answered: 0 }
    }

    fn turn(&mut self, now: Time) {
        (0..2).for_each(|link| self.shard.set_room(LinkId(link), 32 << 20));
        for (link, envelope, body) in self.arrived.drain(..) {
            self.shard.frame(now, link, 1, &envelope, body).expect("well-formed frames");
        }
        self.shard.turn(&mut self.effects);
        for run in self.effects.answers.drain(..) {
            run.for_each(|answer| assert!(answer.result.is_ok()));
            self.answered += run.len();
        }
        for (id, op) in self.effects.disk.drain(..) {
            let output = match op {
                DiskOp::List => DiskOutput::Listed(Vec::new()),
                DiskOp::Read { len, .. } => DiskOutput::Read(Bytes::from(vec![0; len as usize])),
                _ => DiskOutput::Done,
            };
            self.shard.disk_completed(now, id, Ok(output));
        }
    }
}

/// One turn of every node, and the frames that came of it carried over.
fn turn(nodes: &mut [Node; 3], now: Time) {
    for from in 0..nodes.len() {
        nodes[from].turn(now);
        for frame in std::mem::take(&mut nodes[from].effects.frames) {
            // Links are numbered in the order of the nodes, without the own one.
            let link = frame.link.0 as usize;
            let (to, back) = (link + usize::from(link >= from), from - usize::from(from > link));
            let mut body = BytesMut::new();
            frame.blocks.iter().for_each(|block| body.extend_from_slice(block));
            let envelope = Bytes::copy_from_slice(&frame.envelope);
            nodes[to].arrived.push((LinkId(back as u32), envelope, body.freeze()));
        }
    }
}

/// Operations, and the time they took.
fn run(groups: usize, per_group: usize, rounds: usize) -> (usize, Duration) {
    let mut nodes = NODES.map(|number| Node::new(number, groups));
    let mut now = Time(1);
    for _ in 0..2000 {
        now = now + Duration::from_millis(5);
        nodes.iter_mut().for_each(|node| node.shard.tick(now));
        turn(&mut nodes, now);
    }
    let leads = |node: &Node, group| {
        node.shard.status(group).is_some_and(|status| status.role == RoleName::Leader)
    };
    let leader = |group| nodes.iter().position(|node| leads(node, group)).expect("a leader");
    let leaders: Vec<_> = (1..=groups as u64).map(|g| (GroupId(g), leader(GroupId(g)))).collect();
    let start = Instant::now();
    for _ in 0..rounds {
        now = now + Duration::from_micros(100);
        let mut submissions: [Submission; 3] = Default::default();
        for &(group, leader) in &leaders {
            (0..per_group as u64).for_each(|i| submissions[leader].push(group, i, &PAYLOAD));
        }
        for (node, submission) in nodes.iter_mut().zip(submissions) {
            node.shard.submit(ClientId(1), submission);
        }
        (0..TURNS_PER_ROUND).for_each(|_| turn(&mut nodes, now));
    }
    let took = start.elapsed();
    let answered = nodes.iter().map(|node| node.answered).sum();
    assert_eq!(answered, groups * per_group * rounds, "everything is committed");
    (answered, took)
}

fn main() {
    // cargo bench adds `--bench`.
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let shapes = match given[..] {
        [groups, per_group, rounds] => vec![(groups, per_group, rounds)],
        _ => SHAPES.to_vec(),
    };
    println!("{:>8} {:>10} {:>12} {:>8}", "groups", "per group", "operations", "ns/op");
    for (groups, per_group, rounds) in shapes {
        let (operations, took) = run(groups, per_group, rounds);
        let each = took.as_nanos() as f64 / operations as f64;
        println!("{groups:>8} {per_group:>10} {operations:>12} {each:>8.1}");
    }
}
