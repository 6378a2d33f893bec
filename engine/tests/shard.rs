//! One shard under the test's hand: what it asks of its disk, and when, where a peer or a slow disk
//! decides.

#[allow(dead_code, unreachable_pub, reason = "a copy of a library module, to make frames with")]
#[path = "../src/codec.rs"]
mod codec;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringleader::raft;
use ringleader::raft::message::{Blocks, Message, SnapshotId};
use ringleader::shard::{Effects, LinkId, Shard, ShardConfig, SnapshotAnswer};
use ringleader::time::Time;
use ringleader::{
    Configuration, Entries, GroupConfig, GroupId, Limits, LogIndex, LogPosition, MachineError,
    NodeId, RaftConfig, Replies, SnapshotConfig, SnapshotSource, StateMachine, Term, WalConfig,
};
use ringleader_net::DataId;
use ringleader_wal::disk::{DiskOp, DiskOutput, FileName, OpId};
use ringleader_wal::{Block, BlockKind, Identity, Run, Wal};

const GROUP: GroupId = GroupId(5);
const THIS: NodeId = NodeId(1);
const LEADER: NodeId = NodeId(2);

/// Has nothing, and says so in a snapshot.
struct Empty;

impl StateMachine for Empty {
    fn apply(&mut self, _: &Entries<'_>, _: &mut Replies) {}

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        Some(Box::new(Self))
    }

    fn restore(&mut self, _: &[u8]) -> Result<(), MachineError> {
        Ok(())
    }
}

impl SnapshotSource for Empty {
    fn next_chunk(&mut self, _: usize) -> Result<Option<Bytes>, MachineError> {
        Ok(None)
    }
}

/// A shard without groups, on a disk that holds nothing, beside two other nodes.
struct Bench {
    shard: Shard,
    now: Time,
    /// What the disk was asked for and has not done.
    disk: VecDeque<(OpId, DiskOp)>,
    effects: Effects,
    /// What became of requests: groups created, snapshots taken.
    created: Vec<u64>,
    taken: Vec<u64>,
    /// Of the messages that left for the leader: pieces of a snapshot that were answered.
    answered: usize,
}

impl Bench {
    fn new() -> Self {
        let config = ShardConfig {
            node: THIS,
            data: DataId(1),
            groups: Vec::new(),
            nodes: vec![(LEADER, 1), (NodeId(3), 1)],
            raft: Arc::new(RaftConfig::default()),
            limits: Limits::default(),
            snapshots: SnapshotConfig::default(),
            priorities: HashMap::new(),
            factory: Box::new(|_| Box::new(Empty)),
            seed: 0,
        };
        let identity = Identity { cluster: 1, node: THIS, shard: 0 };
        let mut bench = Self {
            shard: Shard::new(config, Wal::open(WalConfig::default(), identity)),
            now: Time(0),
            disk: VecDeque::new(),
            effects: Effects::default(),
            created: Vec::new(),
            taken: Vec::new(),
            answered: 0,
        };
        bench.run();
        assert!(bench.shard.takes_part(), "it has nothing to recover");
        bench
    }

    fn turn(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        self.shard.tick(self.now);
        let links = self.shard.links().len();
        for link in 0..links {
            self.shard.set_room(LinkId(link as u32), 1 << 20);
        }
        self.shard.turn(&mut self.effects);
        self.disk.extend(self.effects.disk.drain(..));
        self.created.extend(self.effects.created.drain(..).filter(|c| c.1.is_ok()).map(|c| c.0));
        for SnapshotAnswer { ticket, result } in self.effects.snapshots.drain(..) {
            result.expect("it is taken");
            self.taken.push(ticket);
        }
        for frame in self.effects.frames.drain(..) {
            let body = frame.blocks.concat().into();
            let count = |_, message| {
                self.answered += usize::from(matches!(message, Message::SnapshotAnswer { .. }));
            };
            codec::decode(&frame.envelope, body, count).expect("it can be decoded");
        }
    }

    /// The disk does its oldest operation.
    fn do_one(&mut self) -> bool {
        let Some((id, op)) = self.disk.pop_front() else { return false };
        let done = match op {
            DiskOp::List => DiskOutput::Listed(Vec::new()),
            DiskOp::Read { .. } => panic!("there is nothing to be read"),
            _ => DiskOutput::Done,
        };
        self.shard.disk_completed(self.now, id, Ok(done));
        true
    }

    /// Until the disk has nothing to do.
    fn run(&mut self) {
        self.turn();
        while self.do_one() {
            self.turn();
        }
    }

    fn create(&mut self, voters: &[NodeId]) {
        let config = GroupConfig { group: GROUP, voters: voters.to_vec() };
        self.shard.create_group(self.now, 1, config);
        self.turn();
        let links = self.shard.links().len();
        for (link, epoch) in (0..links).zip(1..) {
            self.shard.link_up(self.now, LinkId(link as u32), epoch, DataId(2 + link as u128));
        }
    }

    /// The leader says something, on the connection that this is for.
    fn hear(&mut self, message: &Message) {
        let mut encoder = codec::Encoder::default();
        encoder.push(GROUP, message);
        let (envelope, blocks) = encoder.finish().expect("one message");
        let body = blocks.concat().into();
        let link = self.shard.links().position(|peer| peer.node == LEADER).expect("it has a link");
        let link = LinkId(link as u32);
        let heard = match message {
            Message::SnapshotPiece { .. } => self.shard.bulk_frame(self.now, link, &envelope, body),
            _ => self.shard.frame(self.now, link, u64::from(link.0) + 1, &envelope, body),
        };
        heard.expect("it is well-formed");
        self.turn();
    }

    /// Whether the disk was asked to make a snapshot's file.
    fn writes_snapshot(&self) -> bool {
        let is_one = |op: &DiskOp| matches!(op, DiskOp::Create { file: FileName::Partial(..), .. });
        self.disk.iter().any(|(_, op)| is_one(op))
    }
}

fn entry(index: u64, kind: BlockKind, payload: &[u8]) -> Block {
    let first = LogPosition { index: LogIndex(index), term: Term(2) };
    let run = Run { payload, ends: &[payload.len() as u32], base: 0 };
    Block::encode(GROUP, first, kind, [run])
}

/// A crash may still undo that the group is there, and its snapshot would stay: a group that no log
/// knows, which keeps a node from starting.
#[test]
fn no_snapshot_is_taken_of_a_group_whose_creation_is_not_durable() {
    let mut bench = Bench::new();
    bench.create(&[THIS, LEADER, NodeId(3)]);
    // The other two commit it without this one's slow disk.
    let (prev, commit) = (raft::found::FOUNDED_AT, LogIndex(2));
    let blocks = Blocks::One(entry(2, BlockKind::Operations, b"x"));
    bench.hear(&Message::AppendRequest { term: Term(2), prev, commit, blocks });
    assert_eq!(bench.shard.status(GROUP).map(|status| status.applied), Some(commit));
    bench.shard.request_snapshot(GROUP, 7);
    for _ in 0..10 {
        bench.turn();
        assert!(!bench.writes_snapshot(), "{:?}", bench.disk);
    }
    assert_eq!((&bench.created[..], &bench.taken[..]), (&[][..], &[][..]));

    while bench.created.is_empty() {
        assert!(!bench.writes_snapshot(), "before it is durable: {:?}", bench.disk);
        assert!(bench.do_one(), "it becomes durable");
        bench.turn();
    }
    bench.run();
    assert_eq!(bench.taken, [7], "whoever asked meanwhile is answered");
}

/// The same where the leader sends one.
#[test]
fn no_snapshot_is_received_of_a_group_whose_creation_is_not_durable() {
    let mut bench = Bench::new();
    bench.create(&[]);
    let at = LogPosition { index: LogIndex(9), term: Term(2) };
    let members = Configuration::new(&[LEADER, NodeId(3)], &[]).encode();
    let piece = Message::SnapshotPiece {
        term: Term(2),
        id: SnapshotId { at, stamp: 1 },
        last: false,
        piece: entry(1, BlockKind::Operations, &members),
    };
    for _ in 0..3 {
        bench.hear(&piece);
        assert!(!bench.writes_snapshot() && bench.answered == 0, "{:?}", bench.disk);
    }
    while bench.created.is_empty() {
        assert!(bench.do_one(), "it becomes durable");
        bench.turn();
    }
    bench.hear(&piece);
    assert!(bench.writes_snapshot(), "{:?}", bench.disk);
    bench.run();
    assert!(bench.answered > 0, "the leader may send the next");
}
