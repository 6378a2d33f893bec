//! The outbox: order, bounds, and how bytes are grouped for a write.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;
use ringleader_net::decoder::FrameDecoder;
use ringleader_net::frame::{FrameKind, HEADER_LEN};
use ringleader_net::outbox::{INLINE_BLOCK_BYTES, Outbox, PushError, advance_chunks};
use ringleader_net::{Epoch, Frame};

const MAX_FRAME: usize = 64 * 1024;

fn open(limit: usize) -> Outbox {
    let mut outbox = Outbox::new(limit, MAX_FRAME);
    outbox.open(Epoch(1));
    outbox
}

fn push(outbox: &mut Outbox, blocks: &[Bytes]) -> Result<(), PushError> {
    outbox.push(FrameKind::Consensus, b"envelope", blocks.iter().cloned())
}

#[test]
fn a_closed_outbox_takes_nothing_and_forgets_what_it_had() {
    let mut outbox = Outbox::new(1000, 1000);
    assert_eq!(push(&mut outbox, &[]), Err(PushError::Closed));
    assert_eq!(outbox.free_bytes(), 0);
    outbox.open(Epoch(4));
    push(&mut outbox, &[]).unwrap();
    outbox.open(Epoch(5));
    assert_eq!((outbox.held_bytes(), outbox.epoch()), (0, Some(Epoch(5))));
    assert_eq!(outbox.take(1000, &mut VecDeque::new()), 0);
}

#[test]
fn what_is_taken_counts_until_it_is_written() {
    let frame = HEADER_LEN + 8 + 50_000;
    let block = Bytes::from(vec![1; 50_000]);
    let mut outbox = open(2 * frame);
    let mut chunks = VecDeque::new();
    push(&mut outbox, std::slice::from_ref(&block)).unwrap();
    push(&mut outbox, std::slice::from_ref(&block)).unwrap();
    assert_eq!(outbox.take(usize::MAX, &mut chunks), 2 * frame);
    assert_eq!((outbox.queued_bytes(), outbox.held_bytes()), (0, 2 * frame));
    let full = PushError::Full { held: 2 * frame, limit: 2 * frame, frame };
    assert_eq!(push(&mut outbox, std::slice::from_ref(&block)), Err(full));
    outbox.written(frame - 1);
    assert!(push(&mut outbox, std::slice::from_ref(&block)).is_err());
    outbox.written(1);
    push(&mut outbox, &[block]).unwrap();
}

#[test]
fn a_frame_that_no_peer_takes_is_never_queued() {
    let mut outbox = open(10 * MAX_FRAME);
    let frame = HEADER_LEN + 8 + MAX_FRAME;
    let refused = push(&mut outbox, &[Bytes::from(vec![0; MAX_FRAME])]);
    assert_eq!(refused, Err(PushError::TooLarge { frame, limit: MAX_FRAME }));
    assert_eq!(outbox.held_bytes(), 0);
}

#[test]
fn large_blocks_are_passed_on_and_small_ones_gathered() {
    let mut outbox = open(1 << 20);
    let small = Bytes::from(vec![1; INLINE_BLOCK_BYTES]);
    let large = Bytes::from(vec![2; INLINE_BLOCK_BYTES + 1]);
    for _ in 0..10 {
        push(&mut outbox, std::slice::from_ref(&small)).unwrap();
    }
    push(&mut outbox, &[small, large.clone()]).unwrap();
    push(&mut outbox, &[]).unwrap();
    let mut chunks = VecDeque::new();
    outbox.take(usize::MAX, &mut chunks);
    assert_eq!(chunks.len(), 3, "gathered, the large block, gathered");
    assert_eq!(chunks[1].as_ptr(), large.as_ptr(), "a large block isn't copied");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_leave_in_order_and_within_bounds(
        frames in prop::collection::vec(
            prop::collection::vec(prop_oneof![0usize..100, 2000usize..9000], 0..5), 1..20),
        writes in prop::collection::vec((1usize..20_000, 1usize..20_000), 1..10),
        limit in MAX_FRAME..200_000,
    ) {
        let mut outbox = open(limit);
        let mut decoder = FrameDecoder::new(MAX_FRAME, 8192);
        let (mut sent, mut received) = (Vec::new(), Vec::<Frame>::new());
        let mut chunks = VecDeque::new();
        let mut frames = frames.into_iter().enumerate().peekable();
        let mut writes = writes.into_iter().cycle();
        while frames.peek().is_some() || outbox.held_bytes() > 0 {
            while let Some((number, sizes)) = frames.peek() {
                let blocks: Vec<Bytes> =
                    sizes.iter().map(|size| vec![*number as u8; *size].into()).collect();
                match push(&mut outbox, &blocks) {
                    Ok(()) => sent.push(blocks.concat()),
                    Err(PushError::Full { .. }) => break,
                    Err(other) => panic!("{other}"),
                }
                frames.next();
            }
            prop_assert!(outbox.held_bytes() <= limit);
            let (take, accept) = writes.next().expect("a cycle");
            prop_assert!(outbox.take(take, &mut chunks) <= take);
            // The socket takes a part, possibly in the middle of a chunk.
            let bytes = chunks.iter().flatten().copied().collect::<Vec<u8>>();
            let accepted = accept.min(bytes.len());
            decoder.feed(&bytes[..accepted], |frame| received.push(frame)).unwrap();
            advance_chunks(&mut chunks, accepted);
            outbox.written(accepted);
        }
        prop_assert_eq!(sent.len(), received.len());
        for (body, frame) in sent.iter().zip(&received) {
            prop_assert_eq!(&body[..], &frame.body[..]);
            prop_assert_eq!(&frame.envelope[..], b"envelope");
        }
    }
}
