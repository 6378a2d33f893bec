//! Frames: whatever is encoded comes out again however it is split, and nothing else does.

use bytes::Bytes;
use proptest::prelude::*;
use ringleader_net::decoder::FrameDecoder;
use ringleader_net::envelope;
use ringleader_net::frame::{Frame, FrameError, FrameKind, HEADER_LEN, encode};

const CHUNK: usize = 4096;
const MAX: usize = 64 * 1024;

fn kinds() -> impl Strategy<Value = FrameKind> {
    (1u16..=5).prop_map(|number| FrameKind::from_wire(number).expect("a known kind"))
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..64),
        1 => (0..most, any::<u8>()).prop_map(|(len, seed)| {
            (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect()
        }),
    ]
}

/// Feeds `stream` in pieces of the given sizes, the last one again and again.
fn decode(stream: &[u8], pieces: &[usize]) -> (Vec<Frame>, Result<(), FrameError>, usize) {
    let mut decoder = FrameDecoder::new(MAX, CHUNK);
    let (mut frames, mut rest, mut largest) = (Vec::new(), stream, 0);
    let mut sizes = pieces.iter().copied().chain(std::iter::repeat(*pieces.last().unwrap_or(&7)));
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
        rest = after;
        let fed = decoder.feed(piece, |frame| frames.push(frame));
        largest = largest.max(decoder.allocated_bytes());
        if fed.is_err() {
            assert_eq!(decoder.next_frame(), Err(fed.clone().unwrap_err()), "errors stay");
            return (frames, fed, largest);
        }
    }
    (frames, Ok(()), largest)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn frames_survive_any_split(
        parts in prop::collection::vec((kinds(), bytes(3000), bytes(40_000)), 1..8),
        pieces in prop::collection::vec(1usize..9000, 1..20),
    ) {
        let stream: Vec<u8> =
            parts.iter().flat_map(|(kind, envelope, body)| encode(*kind, envelope, body)).collect();
        let (frames, result, largest) = decode(&stream, &pieces);
        prop_assert_eq!(result, Ok(()));
        prop_assert!(largest <= 4 * MAX.max(CHUNK), "the one in use and three that are kept");
        prop_assert_eq!(frames.len(), parts.len());
        for (frame, (kind, envelope, body)) in frames.iter().zip(&parts) {
            prop_assert_eq!(frame.kind, *kind);
            prop_assert_eq!(&frame.envelope[..], &envelope[..]);
            prop_assert_eq!(&frame.body[..], &body[..]);
        }
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_allocate(
        noise in bytes(20_000),
        pieces in prop::collection::vec(1usize..9000, 1..8),
        lengths in any::<(u32, u32)>(),
    ) {
        let (_, _, largest) = decode(&noise, &pieces);
        prop_assert!(largest <= CHUNK, "noise has no lengths to believe");

        // A well-formed header may claim anything.
        let mut header = encode(FrameKind::Consensus, &[], &[]).to_vec();
        header[8..12].copy_from_slice(&lengths.0.to_le_bytes());
        header[12..16].copy_from_slice(&lengths.1.to_le_bytes());
        let checksum = crc32fast::hash(&header[..20]);
        header[20..24].copy_from_slice(&checksum.to_le_bytes());
        header.extend(&noise);
        let (_, _, largest) = decode(&header, &pieces);
        prop_assert!(largest <= MAX);
    }

    #[test]
    fn every_flipped_bit_of_the_head_is_refused(
        envelope in bytes(300),
        body in bytes(300),
        choice in any::<prop::sample::Index>(),
    ) {
        let mut stream = encode(FrameKind::Consensus, &envelope, &body).to_vec();
        let bit = choice.index((HEADER_LEN + envelope.len()) * 8);
        stream[bit / 8] ^= 1 << (bit % 8);
        // No bytes beyond the head are needed to find out.
        let (frames, result, _) = decode(&stream[..HEADER_LEN + envelope.len()], &[13]);
        prop_assert!(frames.is_empty());
        prop_assert!(result.is_err());
    }
}

#[test]
fn each_kind_of_damage_has_its_error() {
    let good = encode(FrameKind::Consensus, b"envelope", b"body").to_vec();
    let damaged = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        decode(&bytes, &[bytes.len()]).1.unwrap_err()
    };
    assert!(matches!(damaged(0, b'X'), FrameError::BadMagic { found: [b'X', ..] }));
    assert_eq!(damaged(4, 9), FrameError::Version { found: 9 });
    assert!(matches!(damaged(8, 200), FrameError::HeaderChecksum { .. }));
    assert!(matches!(damaged(HEADER_LEN, b'X'), FrameError::EnvelopeChecksum { .. }));

    let mut unknown = good.clone();
    unknown[6] = 77;
    let checksum = crc32fast::hash(&unknown[..20]);
    unknown[20..24].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(decode(&unknown, &[5]).1, Err(FrameError::UnknownKind { found: 77 }));

    let large = encode(FrameKind::Consensus, &[], &vec![0; MAX]);
    let (bytes, limit) = ((HEADER_LEN + MAX) as u64, MAX as u64);
    assert_eq!(decode(&large, &[HEADER_LEN]).1, Err(FrameError::TooLarge { bytes, limit }));
    assert_eq!(decode(&large, &[HEADER_LEN]).2, CHUNK, "nothing was reserved for it");
}

#[test]
fn the_body_is_left_to_its_own_checksums() {
    let mut stream = encode(FrameKind::Consensus, b"e", b"body").to_vec();
    *stream.last_mut().unwrap() ^= 1;
    assert_eq!(decode(&stream, &[100]).0[0].body, Bytes::from_static(b"bodx"));
}

#[test]
fn what_comes_before_an_error_is_given_out() {
    let mut stream = encode(FrameKind::Consensus, b"first", &[]).to_vec();
    stream.extend([0xff; 64]);
    let (frames, result, _) = decode(&stream, &[1000]);
    assert_eq!(frames.len(), 1);
    assert!(result.is_err());
}

#[test]
fn large_parts_are_slices_and_small_bodies_are_not() {
    let mut decoder = FrameDecoder::new(1 << 20, 64 * 1024);
    let mut frames = Vec::new();
    for body in [4000, 100] {
        let frame = encode(FrameKind::Consensus, b"envelope", &vec![7; body]);
        let space = decoder.space();
        let start = space.as_ptr() as usize;
        let chunk = start..start + space.len();
        space[..frame.len()].copy_from_slice(&frame);
        decoder.advance(frame.len());
        frames.push((chunk, decoder.next_frame().unwrap().unwrap()));
    }
    let inside =
        |part: &Bytes, chunk: &std::ops::Range<usize>| chunk.contains(&(part.as_ptr() as usize));
    let (chunk, large) = &frames[0];
    assert!(inside(&large.envelope, chunk) && inside(&large.body, chunk));
    let (chunk, small) = &frames[1];
    assert!(inside(&small.envelope, chunk) && !inside(&small.body, chunk));
}

#[test]
fn a_chunk_is_used_again_once_nobody_holds_it() {
    let frame = encode(FrameKind::Consensus, b"envelope", &[1; 1500]);
    let mut decoder = FrameDecoder::new(MAX, CHUNK);
    let mut starts = Vec::new();
    for _ in 0..50 {
        starts.push(decoder.space().as_ptr() as usize);
        decoder.feed(&frame, drop).unwrap();
    }
    let (least, most) = (starts.iter().min().unwrap(), starts.iter().max().unwrap());
    assert!(most - least <= CHUNK, "all frames were received into one allocation");
}

#[test]
fn buffers_whose_frames_are_held_for_a_while_are_used_again() {
    for body in [3000, 40_000] {
        let mut decoder = FrameDecoder::new(MAX, CHUNK);
        let mut held = std::collections::VecDeque::new();
        let mut places = std::collections::BTreeSet::new();
        for round in 0..50u8 {
            let frame = encode(FrameKind::Consensus, b"envelope", &vec![round; body]);
            decoder.feed(&frame, |frame| held.push_back((round, frame))).unwrap();
            if held.len() > 2 {
                let (round, frame) = held.pop_front().unwrap();
                assert_eq!(frame.body.len(), body);
                assert_eq!(frame.body[body - 1], round, "what is held stays as it is");
                places.insert(frame.body.as_ptr() as usize / 64);
            }
        }
        assert!(places.len() <= 4, "{} places for bodies of {body} B", places.len());
        assert!(decoder.allocated_bytes() <= 4 * (body + CHUNK));
        for _ in 0..200 {
            let small = encode(FrameKind::Consensus, b"envelope", &[7; 2000]);
            decoder.feed(&small, drop).unwrap();
        }
        assert!(decoder.allocated_bytes() <= 4 * CHUNK, "no large frame came any more");
    }
}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Note {
    term: u64,
    text: String,
}

#[test]
fn an_envelope_is_read_in_place_at_any_address() {
    let note = Note { term: 7, text: "a vote, longer than what fits inline".into() };
    let archive = rkyv::to_bytes::<rkyv::rancor::Error>(&note).unwrap();
    for shift in 0..8 {
        let mut bytes = vec![0; shift];
        bytes.extend_from_slice(&archive);
        let read = envelope::read::<Note>(&bytes[shift..]).unwrap();
        assert_eq!((read.term.to_native(), read.text.as_str()), (7, note.text.as_str()));
    }
    let error = envelope::read::<Note>(&archive[..5]).err().unwrap();
    assert!(error.to_string().contains("an envelope of 5 bytes is not a valid"), "{error}");
}

proptest! {
    #[test]
    fn an_invalid_envelope_is_an_error_or_a_valid_note(noise in bytes(200)) {
        if let Ok(note) = envelope::read::<Note>(&noise) {
            prop_assert!(note.text.as_str().len() <= noise.len());
        }
    }
}
