//! What frames of many small blocks cost on their way out of one shard and into another, without a
//! socket between: one frame per turn, queued, taken, received and cut.
//!
//! ```text
//! cargo bench -p ringleader-net --bench frames [-- [BLOCKS [BYTES [TURNS]]]]
//! ```
//!
//! `single` queues every block as a part of its own, `gathered` all of them as one part. The
//! stages' instructions: `valgrind --tool=callgrind target/release/deps/frames-HASH 1000 60 100`,
//! then `callgrind_annotate --inclusive=yes` says each `_stage` function's.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringleader_net::decoder::FrameDecoder;
use ringleader_net::frame::FrameKind;
use ringleader_net::outbox::Outbox;
use ringleader_net::{Epoch, NetConfig};

/// Bytes of one message in an envelope, about.
const MESSAGE: usize = 48;

#[inline(never)]
fn push_stage(outbox: &mut Outbox, envelope: &Bytes, parts: Vec<Bytes>) {
    outbox.push(FrameKind::Consensus, envelope, parts).expect("room");
}

#[inline(never)]
fn take_stage(outbox: &mut Outbox, limit: usize, chunks: &mut VecDeque<Bytes>) {
    let taken = outbox.take(limit, chunks);
    outbox.written(taken);
}

#[inline(never)]
fn receive_stage(decoder: &mut FrameDecoder, chunks: &mut VecDeque<Bytes>) -> usize {
    let mut frames = 0;
    for chunk in chunks.drain(..) {
        let each = |frame| drop(black_box((frame, frames += 1)));
        decoder.feed(&chunk, each).expect("valid frames");
    }
    frames
}

fn run(name: &str, blocks: usize, bytes: usize, turns: usize, gathered: bool) {
    let config = NetConfig::default();
    let mut outbox = Outbox::new(config.outbox_bytes, config.max_frame_bytes);
    outbox.open(Epoch(1));
    let mut decoder = FrameDecoder::new(config.max_frame_bytes, config.read_chunk_bytes);
    let envelope = Bytes::from(vec![1; MESSAGE * blocks]);
    let (block, whole) = (Bytes::from(vec![2; bytes]), Bytes::from(vec![2; bytes * blocks]));
    let mut chunks = VecDeque::new();
    let (mut out, mut inward, mut iovecs) = (Duration::ZERO, Duration::ZERO, 0);
    for _ in 0..turns {
        let parts = if gathered { vec![whole.clone()] } else { vec![block.clone(); blocks] };
        let start = Instant::now();
        push_stage(&mut outbox, &envelope, parts);
        take_stage(&mut outbox, config.write_bytes, &mut chunks);
        iovecs += chunks.len();
        out += start.elapsed();
        let start = Instant::now();
        assert_eq!(receive_stage(&mut decoder, &mut chunks), 1);
        inward += start.elapsed();
    }
    let each = |spent: Duration| spent.as_nanos() as f64 / (blocks * turns) as f64;
    println!(
        "{name}: out {:.1} ns, in {:.1} ns a block of {bytes} B, {blocks} in a frame of {} pieces",
        each(out),
        each(inward),
        iovecs / turns
    );
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |at: usize, default: usize| {
        args.get(at).map_or(default, |arg| arg.parse().expect("a number"))
    };
    let (blocks, bytes, turns) = (number(0, 1000), number(1, 60), number(2, 2000));
    run("single", blocks, bytes, turns, false);
    run("gathered", blocks, bytes, turns, true);
}
