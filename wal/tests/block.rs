//! The block's encoding: what goes in comes out, and nothing else is taken for a block.

use bytes::Bytes;
use proptest::prelude::*;
use ringleader_wal::block::announced_len;
use ringleader_wal::{
    BLOCK_HEADER_LEN, Block, BlockError, BlockKind, GroupId, LogIndex, LogPosition, Run, Term,
};

fn encode(first: u64, payloads: &[Vec<u8>]) -> Block {
    let payload = payloads.concat();
    let ends: Vec<u32> = payloads
        .iter()
        .scan(0, |end, payload| {
            *end += payload.len() as u32;
            Some(*end)
        })
        .collect();
    let run = Run { payload: &payload, ends: &ends, base: 0 };
    let at = LogPosition { index: LogIndex(first), term: Term(5) };
    Block::encode(GroupId(9), at, BlockKind::Operations, [run])
}

/// A block with a valid checksum whose bytes were changed by `change`.
fn forged(change: impl FnOnce(&mut Vec<u8>)) -> Result<Block, BlockError> {
    let mut bytes = encode(3, &[vec![1; 4], vec![2; 4]]).as_bytes().to_vec();
    change(&mut bytes);
    let crc = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    Block::parse(bytes.into())
}

#[test]
fn every_flipped_bit_is_refused() {
    let block = encode(7, &[b"some".to_vec(), vec![], b"payloads".to_vec()]);
    for bit in 0..block.len() * 8 {
        let mut bytes = block.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Block::parse(bytes.into()).is_err(), "bit {bit}");
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let block = encode(7, &[b"some".to_vec(), b"payloads".to_vec()]);
    for len in 0..block.len() {
        assert!(Block::parse(block.bytes().slice(..len)).is_err(), "{len} bytes");
    }
    let longer: Bytes = [block.as_bytes(), &[0]].concat().into();
    assert_eq!(Block::parse(longer), Err(BlockError::Malformed("bytes after the block's end")));
    assert_eq!(announced_len(&[0; 7]), Err(BlockError::Short { have: 7, need: 8 }));
    assert!(announced_len(&[0; 8]).is_err());
    assert_eq!(announced_len(block.as_bytes()), Ok(block.len()));
}

#[test]
fn contradictions_are_refused_although_the_checksum_holds() {
    let put = |at: usize, value: u32| {
        forged(move |bytes| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes()))
    };
    assert!(forged(|_| ()).is_ok());
    assert!(put(4, 12).is_err(), "length below the header's");
    assert!(put(4, 1 << 30).is_err(), "length beyond the bytes");
    assert!(put(32, 0).is_err(), "no entry");
    assert!(put(32, u32::MAX).is_err(), "table longer than the block");
    assert!(put(36, 2).is_err(), "unknown kind");
    assert!(put(40, 9).is_err(), "ends fall");
    assert!(put(44, 7).is_err(), "payload bytes left over");
    let zero = |at: usize| forged(move |bytes| bytes[at..at + 8].fill(0));
    assert!(zero(16).is_err(), "term zero");
    assert!(zero(24).is_err(), "index zero");
    assert!(forged(|bytes| bytes[24..32].fill(0xff)).is_err(), "index overflows");
}

#[test]
fn noop_has_one_empty_entry() {
    let at = LogPosition { index: LogIndex(4), term: Term(2) };
    let block = Block::noop(GroupId(1), at);
    assert_eq!((block.kind(), block.count(), block.last_position()), (BlockKind::Noop, 1, at));
    assert_eq!(block.payload(LogIndex(4)), b"");
    assert_eq!(block.len(), BLOCK_HEADER_LEN + 4);
    assert_eq!(Block::parse(block.bytes()), Ok(block));
}

fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn roundtrip(payloads in payloads(), first in 1..u64::MAX / 2) {
        let block = encode(first, &payloads);
        let parsed = Block::parse(block.bytes()).unwrap();
        prop_assert_eq!(&parsed, &block);
        prop_assert_eq!(parsed.group(), GroupId(9));
        prop_assert_eq!(parsed.term(), Term(5));
        prop_assert_eq!(parsed.count() as usize, payloads.len());
        prop_assert_eq!(parsed.crc(), block.crc());
        for (i, payload) in payloads.iter().enumerate() {
            prop_assert_eq!(parsed.payload(LogIndex(first + i as u64)), payload.as_slice());
        }
        let (bytes, ends) = parsed.payloads();
        prop_assert_eq!(bytes, payloads.concat());
        prop_assert_eq!(ends.len(), payloads.len());
    }

    #[test]
    fn runs_join_as_if_they_were_one(left in payloads(), right in payloads()) {
        let all: Vec<Vec<u8>> = left.iter().chain(&right).cloned().collect();
        // Both runs are cut out of one buffer, so the second has a base.
        let whole = encode(1, &all);
        let (payload, ends) = whole.payloads();
        let ends: Vec<u32> = ends.collect();
        let cut = ends[left.len() - 1];
        let runs = [
            Run { payload: &payload[..cut as usize], ends: &ends[..left.len()], base: 0 },
            Run { payload: &payload[cut as usize..], ends: &ends[left.len()..], base: cut },
        ];
        let at = LogPosition { index: LogIndex(1), term: Term(5) };
        let joined = Block::encode(GroupId(9), at, BlockKind::Operations, runs);
        prop_assert_eq!(joined, whole);
    }

    #[test]
    fn slice_is_the_same_entries(payloads in payloads(), a: prop::sample::Index, b: prop::sample::Index) {
        let (a, b) = (a.index(payloads.len()), b.index(payloads.len()));
        let (a, b) = (a.min(b), a.max(b));
        let block = encode(10, &payloads);
        let slice = block.slice(LogIndex(10 + a as u64), LogIndex(10 + b as u64));
        prop_assert_eq!(&slice, &encode(10 + a as u64, &payloads[a..=b]));
        prop_assert_eq!(Block::parse(slice.bytes()).unwrap(), slice);
    }

    #[test]
    fn noise_is_never_a_block(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Block::parse(bytes.into()).is_err());
    }
}

/// However a block's bytes are kept, which depends on its length, nothing of it shows.
#[test]
fn blocks_of_all_lengths_are_taken_off_a_body() {
    let header = BLOCK_HEADER_LEN + 4;
    let blocks: Vec<Block> = (0..1100).map(|len| encode(3, &[vec![len as u8; len]])).collect();
    let mut body: Bytes = blocks.iter().flat_map(|b| b.as_bytes().to_vec()).collect();
    for (len, block) in blocks.iter().enumerate() {
        let taken = Block::take(&mut body).expect("a valid block");
        assert_eq!((&taken, taken.len()), (block, header + len));
        assert_eq!((taken.group(), taken.term()), (block.group(), block.term()));
        assert_eq!((taken.kind(), taken.count()), (BlockKind::Operations, 1));
        assert_eq!((taken.first_index(), taken.crc()), (block.first_index(), block.crc()));
        assert_eq!(taken.payload(block.first_index()), vec![len as u8; len]);
        assert_eq!(Block::parse(taken.bytes()).as_ref(), Ok(block));
        assert_eq!(&taken.detached(), block);
    }
    assert!(body.is_empty());
}

#[test]
fn a_refused_block_stays_where_it_is() {
    let whole = encode(3, &[vec![1; 100]]).bytes();
    for (damaged, len) in [(60, whole.len()), (0, whole.len() - 1), (7, whole.len()), (0, 7)] {
        let mut bytes = whole[..len].to_vec();
        bytes[damaged] ^= u8::from(damaged > 0) << 7;
        let mut body = Bytes::from(bytes.clone());
        assert!(Block::take(&mut body).is_err(), "byte {damaged}, {len} bytes");
        assert_eq!(body, bytes);
    }
}
