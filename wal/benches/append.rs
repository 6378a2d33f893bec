//! What a small block costs on its way through the log: one block of one operation for each of
//! many groups per turn, the writes completed at once.
//!
//! ```text
//! cargo bench -p ringleader-wal --bench append [-- [GROUPS [BYTES [TURNS]]]]
//! ```
//!
//! Before each stage the caches are emptied, as the rest of a shard's turn would do. The stages'
//! instructions: `valgrind --tool=callgrind target/release/deps/append-HASH 1000 16 100`, then
//! `callgrind_annotate --inclusive=yes` says each `_stage` function's; 100,000 blocks pass each.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringleader_wal::disk::DiskOutput;
use ringleader_wal::{
    Block, BlockKind, GroupId, Identity, LogIndex, LogPosition, NodeId, Run, Term, Wal, WalConfig,
};

const ME: Identity = Identity { cluster: 1, node: NodeId(1), shard: 0 };

/// Turns between two releases of what was appended.
const RELEASE_EVERY: u64 = 100;

struct Bench {
    wal: Wal,
    groups: u64,
    payload: Vec<u8>,
    evict: Vec<u64>,
    spent: [Duration; STAGES.len()],
}

const STAGES: [&str; 5] = ["encode", "append", "submit", "keep", "parse"];

#[inline(never)]
fn encode_stage(groups: u64, index: u64, payload: &[u8]) -> Vec<Block> {
    let at = LogPosition { index: LogIndex(index), term: Term(1) };
    let ends = [payload.len() as u32];
    let run = Run { payload, ends: &ends, base: 0 };
    (0..groups).map(|g| Block::encode(GroupId(g), at, BlockKind::Operations, [run])).collect()
}

#[inline(never)]
fn parse_stage(mut body: Bytes, len: usize) -> Vec<Block> {
    let mut blocks = Vec::with_capacity(body.len() / len);
    while !body.is_empty() {
        blocks.push(Block::take(&mut body).expect("a valid block"));
    }
    blocks
}

#[inline(never)]
fn append_stage(wal: &mut Wal, blocks: &[Block]) {
    for block in blocks {
        wal.append(block);
    }
}

/// The tail's copy and one on its way to the state machine, and the end of all.
#[inline(never)]
fn keep_stage(blocks: Vec<Block>) {
    let applied = black_box(blocks.clone());
    drop(applied);
}

/// Carries everything out at once, in memory that is never written.
#[inline(never)]
fn submit_stage(wal: &mut Wal) {
    let mut ops = Vec::new();
    loop {
        wal.take_ops(&mut ops);
        if ops.is_empty() {
            break;
        }
        for (id, op) in ops.drain(..) {
            let output = match op {
                ringleader_wal::disk::DiskOp::List => DiskOutput::Listed(Vec::new()),
                _ => DiskOutput::Done,
            };
            wal.complete(id, Ok(output));
        }
    }
    while wal.next_event().is_some() {}
}

impl Bench {
    fn new(groups: u64, bytes: usize) -> Self {
        let config = WalConfig { relocate_percent: 0, ..WalConfig::default() };
        let mut wal = Wal::open(config, ME);
        submit_stage(&mut wal);
        let payload = vec![1; bytes];
        Self {
            wal,
            groups,
            payload,
            evict: vec![0; 1 << 20],
            spent: [Duration::ZERO; STAGES.len()],
        }
    }

    fn time<T>(&mut self, stage: usize, run: impl FnOnce(&mut Self) -> T) -> T {
        self.evict.iter_mut().step_by(8).for_each(|line| *line += 1);
        let start = Instant::now();
        let result = black_box(run(self));
        self.spent[stage] += start.elapsed();
        result
    }

    fn turn(&mut self, index: u64) {
        let blocks = self.time(0, |b| encode_stage(b.groups, index, &b.payload));
        let len = blocks[0].len();
        let body: Vec<u8> = blocks.iter().flat_map(|block| block.as_bytes().to_vec()).collect();
        self.time(1, |b| append_stage(&mut b.wal, &blocks));
        self.time(2, |b| submit_stage(&mut b.wal));
        self.time(3, |_| keep_stage(blocks));
        self.time(4, |_| parse_stage(body.into(), len));
        if index.is_multiple_of(RELEASE_EVERY) {
            let through = LogPosition { index: LogIndex(index - RELEASE_EVERY / 2), term: Term(1) };
            (0..self.groups).for_each(|group| _ = self.wal.release(GroupId(group), through));
            submit_stage(&mut self.wal);
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |at: usize, default: u64| {
        args.get(at).map_or(default, |arg| arg.parse().expect("a number"))
    };
    let (groups, bytes, turns) = (number(0, 1000), number(1, 16), number(2, 1000));
    let mut bench = Bench::new(groups, bytes as usize);
    (1..=turns).for_each(|index| bench.turn(index));
    for (stage, spent) in STAGES.iter().zip(bench.spent) {
        let each = spent.as_nanos() as f64 / (turns * groups) as f64;
        println!("{stage}: {each:.1} ns a block of {bytes} B, {groups} groups");
    }
}
