//! What is on the disk.
//!
//! A **segment** is a file of a fixed size that keeps its name for life and is used again and
//! again. Its first page says which segment of the log it holds at present:
//!
//! ```text
//! 0        8     12        16        24     32      36      40   48     56          64        72
//! +--------+-----+---------+---------+------+-------+-------+----+------+-----------+---------+---------------+
//! | magic  | crc | version | cluster | node | shard | chain | id | prev | first_seq | durable | oldest_needed |
//! +--------+-----+---------+---------+------+-------+-------+----+------+-----------+---------+---------------+
//! ```
//!
//! The rest of the page is zero, and `crc` covers all of it from `version` on. `id` grows with
//! every segment and is never used twice; `prev` is the id of the segment before (gaps come from
//! restarts). `first_seq` and `chain` continue the log: the number of the first batch here, and
//! the CRC of the batch before it.
//!
//! A **batch** is the unit of a durable write: a page-aligned header, a table of records, the
//! bodies of those records that have one, and zeros up to the next page.
//!
//! ```text
//! 0       4     8         16    24        32              40         44        48       52       56       64
//! +-------+-----+---------+-----+---------+---------------+----------+---------+--------+--------+--------+
//! | magic | crc | segment | seq | durable | oldest_needed | prev_crc | records | length | bodies | offset |
//! +-------+-----+---------+-----+---------+---------------+----------+---------+--------+--------+--------+
//! | records x 32 bytes: group u64, a u64, b u64, kind u32, c u32                                       |
//! |   Block, Moved: a = first index, b = body length | body crc << 32, c = entries                     |
//! |   Truncate: a = first index dropped     HardState: a = term, b = vote     Release: a = index, b = term |
//! |   Create     Destroy                                                                              |
//! +----------------------------------------------------------------------------------------------------+
//! | bodies (encoded blocks), back to back | zeros                                                      |
//! +----------------------------------------------------------------------------------------------------+
//! ```
//!
//! Numbers are little-endian. The batch's `crc` covers header and table from byte 8 on and starts
//! from a CRC of the shard's [`Identity`], so that no other shard's batch passes for one of ours.
//! A body is covered by the block's own CRC, which the table repeats: each byte is summed once.
//! `prev_crc` chains the batch to the one before; `segment` and the chain together keep bytes of a
//! file's earlier life from passing for its present one. `offset` is where in the file the batch
//! stands: one that the disk wrote to or reads from another place passes for none.
//!
//! `durable` is the highest batch known durable when this one was submitted. It is what tells a
//! torn tail from damage: after a batch that can't be read, any later one that says it had been
//! durable proves damage. `oldest_needed` is the oldest segment that the log needs, as of a state
//! that was durable when the batch was submitted, so it is true whatever happens to the batches
//! between. A segment is used again only after a batch whose `oldest_needed` lies beyond it is
//! durable.
//!
//! What remains open: a flipped bit in the very last batch, or in the header of a segment that holds
//! no other, before another batch or the idle mark (an empty batch written when the log falls quiet,
//! and at close) says that it was durable, looks like a torn write and is dropped like one.

use crc32fast::Hasher;

use crate::config::Identity;
use crate::disk::PAGE;
use crate::types::{GroupId, HardState, LogIndex, LogPosition, NodeId, Seq, Term};

const SEGMENT_MAGIC: [u8; 8] = *b"RLWALSEG";
const BATCH_MAGIC: [u8; 4] = *b"RLB\x01";
pub(crate) const FORMAT_VERSION: u32 = 2;
pub(crate) const BATCH_HEADER_LEN: usize = 64;
pub(crate) const RECORD_LEN: usize = 32;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// `len` rounded up to whole pages.
pub(crate) const fn pages(len: usize) -> usize {
    len.next_multiple_of(PAGE)
}

/// The start value of every batch's CRC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogKey(u32);

impl LogKey {
    pub(crate) fn new(identity: &Identity) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&identity.cluster.to_le_bytes());
        hasher.update(&identity.node.0.to_le_bytes());
        hasher.update(&identity.shard.to_le_bytes());
        Self(hasher.finalize())
    }

    fn crc(self, meta: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.0);
        hasher.update(&meta[8..]);
        hasher.finalize()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: Identity,
    pub(crate) chain: u32,
    pub(crate) id: u64,
    pub(crate) prev: u64,
    pub(crate) first_seq: Seq,
    pub(crate) durable: Seq,
    pub(crate) oldest_needed: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        put(&mut page, 0, &SEGMENT_MAGIC);
        put(&mut page, 12, &FORMAT_VERSION.to_le_bytes());
        put(&mut page, 16, &self.identity.cluster.to_le_bytes());
        put(&mut page, 24, &self.identity.node.0.to_le_bytes());
        put(&mut page, 32, &self.identity.shard.to_le_bytes());
        put(&mut page, 36, &self.chain.to_le_bytes());
        put(&mut page, 40, &self.id.to_le_bytes());
        put(&mut page, 48, &self.prev.to_le_bytes());
        put(&mut page, 56, &self.first_seq.0.to_le_bytes());
        put(&mut page, 64, &self.durable.0.to_le_bytes());
        put(&mut page, 72, &self.oldest_needed.to_le_bytes());
        let crc = crc32fast::hash(&page[12..]);
        put(&mut page, 8, &crc.to_le_bytes());
        page
    }

    /// The header in `page`, with the format version that it claims; `None` when there is none.
    /// Of another version only the version is meaningful.
    pub(crate) fn decode(page: &[u8]) -> Option<(u32, Self)> {
        let page = page.get(..PAGE)?;
        if page[..8] != SEGMENT_MAGIC || u32_at(page, 8) != crc32fast::hash(&page[12..]) {
            return None;
        }
        let identity = Identity {
            cluster: u64_at(page, 16),
            node: NodeId(u64_at(page, 24)),
            shard: u32_at(page, 32),
        };
        let header = Self {
            identity,
            chain: u32_at(page, 36),
            id: u64_at(page, 40),
            prev: u64_at(page, 48),
            first_seq: Seq(u64_at(page, 56)),
            durable: Seq(u64_at(page, 64)),
            oldest_needed: u64_at(page, 72),
        };
        Some((u32_at(page, 12), header))
    }
}

/// A batch's header without its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) segment: u64,
    pub(crate) seq: Seq,
    pub(crate) durable: Seq,
    pub(crate) oldest_needed: u64,
    pub(crate) prev_crc: u32,
    pub(crate) records: u32,
    /// Bytes on the disk, padding included.
    pub(crate) length: u32,
    pub(crate) bodies: u32,
    /// Where in its file it stands.
    pub(crate) offset: u64,
}

impl BatchHeader {
    /// Bytes of header and table.
    pub(crate) fn meta_len(&self) -> usize {
        BATCH_HEADER_LEN + RECORD_LEN * self.records as usize
    }

    /// Fills in the header before the table in `meta`, and returns the CRC, the chain's next value.
    pub(crate) fn seal(&self, key: LogKey, meta: &mut [u8]) -> u32 {
        debug_assert_eq!(meta.len(), self.meta_len());
        put(meta, 0, &BATCH_MAGIC);
        put(meta, 8, &self.segment.to_le_bytes());
        put(meta, 16, &self.seq.0.to_le_bytes());
        put(meta, 24, &self.durable.0.to_le_bytes());
        put(meta, 32, &self.oldest_needed.to_le_bytes());
        put(meta, 40, &self.prev_crc.to_le_bytes());
        put(meta, 44, &self.records.to_le_bytes());
        put(meta, 48, &self.length.to_le_bytes());
        put(meta, 52, &self.bodies.to_le_bytes());
        put(meta, 56, &self.offset.to_le_bytes());
        let crc = key.crc(meta);
        put(meta, 4, &crc.to_le_bytes());
        crc
    }

    /// What the first bytes say, lengths bounded but not checked by any CRC yet.
    pub(crate) fn peek(bytes: &[u8], room: u64) -> Option<Self> {
        let bytes = bytes.get(..BATCH_HEADER_LEN)?;
        if bytes[..4] != BATCH_MAGIC {
            return None;
        }
        let header = Self {
            segment: u64_at(bytes, 8),
            seq: Seq(u64_at(bytes, 16)),
            durable: Seq(u64_at(bytes, 24)),
            oldest_needed: u64_at(bytes, 32),
            prev_crc: u32_at(bytes, 40),
            records: u32_at(bytes, 44),
            length: u32_at(bytes, 48),
            bodies: u32_at(bytes, 52),
            offset: u64_at(bytes, 56),
        };
        let used = (header.records as usize)
            .checked_mul(RECORD_LEN)?
            .checked_add(BATCH_HEADER_LEN)?
            .checked_add(header.bodies as usize)?;
        let fits = u64::from(header.length) <= room && pages(used) == header.length as usize;
        fits.then_some(header)
    }

    /// The CRC of header and table, if it is the stored one.
    pub(crate) fn verify(key: LogKey, meta: &[u8]) -> Option<u32> {
        let crc = key.crc(meta);
        (u32_at(meta, 4) == crc).then_some(crc)
    }
}

/// One entry of a batch's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Block { group: GroupId, first: LogIndex, count: u32, len: u32, crc: u32, moved: bool },
    Truncate { group: GroupId, from: LogIndex },
    HardState { group: GroupId, state: HardState },
    Release { group: GroupId, through: LogPosition },
    Create { group: GroupId },
    Destroy { group: GroupId },
}

impl Record {
    pub(crate) fn group(&self) -> GroupId {
        match *self {
            Self::Block { group, .. }
            | Self::Truncate { group, .. }
            | Self::HardState { group, .. }
            | Self::Release { group, .. }
            | Self::Create { group }
            | Self::Destroy { group } => group,
        }
    }

    #[inline]
    pub(crate) fn encode(&self) -> [u8; RECORD_LEN] {
        let (group, a, b, kind, c) = match *self {
            Self::Block { group, first, count, len, crc, moved } => {
                let body = u64::from(len) | u64::from(crc) << 32;
                (group, first.0, body, if moved { 2 } else { 1u32 }, count)
            }
            Self::Truncate { group, from } => (group, from.0, 0, 3, 0),
            Self::HardState { group, state } => {
                (group, state.term.0, state.voted_for.map_or(0, |node| node.0), 4, 0)
            }
            Self::Release { group, through } => (group, through.index.0, through.term.0, 5, 0),
            Self::Create { group } => (group, 0, 0, 6, 0),
            Self::Destroy { group } => (group, 0, 0, 7, 0),
        };
        let mut bytes = [0; RECORD_LEN];
        put(&mut bytes, 0, &group.0.to_le_bytes());
        put(&mut bytes, 8, &a.to_le_bytes());
        put(&mut bytes, 16, &b.to_le_bytes());
        put(&mut bytes, 24, &kind.to_le_bytes());
        put(&mut bytes, 28, &c.to_le_bytes());
        bytes
    }

    #[inline]
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let group = GroupId(u64_at(bytes, 0));
        let (a, b) = (u64_at(bytes, 8), u64_at(bytes, 16));
        let (kind, c) = (u32_at(bytes, 24), u32_at(bytes, 28));
        Some(match kind {
            1 | 2 => Self::Block {
                group,
                first: LogIndex(a),
                count: c,
                len: b as u32,
                crc: (b >> 32) as u32,
                moved: kind == 2,
            },
            3 => Self::Truncate { group, from: LogIndex(a) },
            4 => {
                let voted_for = (b != 0).then_some(NodeId(b));
                Self::HardState { group, state: HardState { term: Term(a), voted_for } }
            }
            5 => {
                Self::Release { group, through: LogPosition { index: LogIndex(a), term: Term(b) } }
            }
            6 => Self::Create { group },
            7 => Self::Destroy { group },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Identity = Identity { cluster: 7, node: NodeId(2), shard: 1 };

    #[test]
    fn header_survives_and_every_flip_is_seen() {
        let header = SegmentHeader {
            identity: ME,
            chain: 9,
            id: 4,
            prev: 3,
            first_seq: Seq(77),
            durable: Seq(70),
            oldest_needed: 2,
        };
        let page = header.encode();
        assert_eq!(SegmentHeader::decode(&page), Some((FORMAT_VERSION, header)));
        for bit in 0..PAGE * 8 {
            let mut page = page.clone();
            page[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&page), None, "bit {bit}");
        }
        assert_eq!(SegmentHeader::decode(&page[..PAGE - 1]), None);
    }

    #[test]
    fn records_survive() {
        let group = GroupId(3);
        let state = HardState { term: Term(5), voted_for: Some(NodeId(9)) };
        let through = LogPosition { index: LogIndex(6), term: Term(2) };
        let block = |moved| Record::Block {
            group,
            first: LogIndex(1),
            count: 2,
            len: u32::MAX,
            crc: 0xdead_beef,
            moved,
        };
        let records = [
            block(true),
            block(false),
            Record::Truncate { group, from: LogIndex(4) },
            Record::HardState { group, state },
            Record::HardState { group, state: HardState::default() },
            Record::Release { group, through },
            Record::Create { group },
            Record::Destroy { group },
        ];
        for record in records {
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
        assert_eq!(Record::decode(&[0; RECORD_LEN]), None);
    }

    #[test]
    fn batch_of_another_log_or_with_wild_lengths_is_refused() {
        let header = BatchHeader {
            segment: 1,
            seq: Seq(2),
            durable: Seq(1),
            oldest_needed: 1,
            prev_crc: 3,
            records: 0,
            length: PAGE as u32,
            bodies: 0,
            offset: 3 * PAGE as u64,
        };
        let key = LogKey::new(&ME);
        let mut meta = vec![0; header.meta_len()];
        let crc = header.seal(key, &mut meta);
        assert_eq!(BatchHeader::peek(&meta, PAGE as u64), Some(header));
        assert_eq!(BatchHeader::verify(key, &meta), Some(crc));
        let other = LogKey::new(&Identity { shard: 2, ..ME });
        assert_eq!(BatchHeader::verify(other, &meta), None);
        assert_eq!(BatchHeader::peek(&meta, PAGE as u64 - 1), None, "longer than the segment");
        for at in [44, 48, 52] {
            let mut meta = meta.clone();
            put(&mut meta, at, &u32::MAX.to_le_bytes());
            assert_eq!(BatchHeader::peek(&meta, 1 << 31), None, "field at {at}");
        }
    }
}
