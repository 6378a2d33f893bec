//! What a snapshot is on the disk.
//!
//! A snapshot is a file of its own in the shard's directory, named by its group and the last entry
//! that it covers ([`FileName::Snapshot`]). It is a sequence of **records**, each at the next page:
//!
//! ```text
//! 0       4            8          12     16     20     24       32       40        44         64
//! +-------+------------+----------+------+------+------+--------+--------+---------+----------+------+-------+
//! | magic | header crc | body crc | kind | len  | prev | number | offset | version | reserved | body | zeros |
//! +-------+------------+----------+------+------+------+--------+--------+---------+----------+------+-------+
//! | kind 1, the head: what the snapshot is of                                                                |
//! |   group u64, index u64, term u64, stamp u64, configuration (the rest, as `raft` encodes it)              |
//! | kind 2, a chunk: what the state machine gave, chunk by chunk                                             |
//! | kind 3, the end: chunks u64, bytes u64                                                                   |
//! +----------------------------------------------------------------------------------------------------------+
//! ```
//!
//! Numbers are little-endian. The header's CRC covers the header from byte 8 on, and so the body's,
//! and starts from a CRC of the shard's [`Identity`], the group and the position: no other file's
//! record passes for one of this. `prev` is the header CRC of the record before, `number` counts the
//! records from 0 and `offset` is where this one stands, so that one that the disk lost, or wrote or
//! reads elsewhere, is noticed. A file without its end, or with anything else amiss, is damaged:
//! it got its name only after all of it was on stable storage.
//!
//! `stamp` tells two snapshots of one position on one node apart, whose chunks may differ: one that
//! can't be read is taken anew.

use bytes::Bytes;
use crc32fast::Hasher;
use ringleader_wal::disk::{FileName, PAGE};
use ringleader_wal::{GroupId, Identity, LogIndex, LogPosition, Term};

const MAGIC: [u8; 4] = *b"RLS\x01";
const VERSION: u32 = 1;
pub(super) const HEADER_LEN: usize = 64;
const HEAD: u32 = 1;
const CHUNK: u32 = 2;
const END: u32 = 3;

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) group: GroupId,
    /// The last entry that it covers.
    pub(crate) at: LogPosition,
    pub(crate) stamp: u64,
    /// Who decides, as of that entry; see [`crate::raft::quorum`].
    pub(crate) configuration: Bytes,
}

/// A record as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Head(Head),
    Chunk(Bytes),
    End { chunks: u64, bytes: u64 },
}

/// Where the sequence of records is: what the next one has to continue.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    key: u32,
    prev: u32,
    number: u64,
    pub(super) offset: u64,
}

/// Why there is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// So many bytes from the chain's offset on are needed to tell.
    More(usize),
    Damaged(&'static str),
}

impl Chain {
    pub(super) fn new(identity: &Identity, group: GroupId, at: LogPosition) -> Self {
        let mut hasher = Hasher::new();
        let named = [identity.cluster, identity.node.0, u64::from(identity.shard)];
        for number in named.into_iter().chain([group.0, at.index.0, at.term.0]) {
            hasher.update(&number.to_le_bytes());
        }
        Self { key: hasher.finalize(), prev: 0, number: 0, offset: 0 }
    }

    /// The record's header, for a body that is written behind it. The chain goes on behind both.
    fn seal(&mut self, kind: u32, body: &[u8]) -> Bytes {
        let mut header = [0; HEADER_LEN];
        let mut put = |at: usize, value: &[u8]| header[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC);
        put(8, &crc32fast::hash(body).to_le_bytes());
        put(12, &kind.to_le_bytes());
        put(16, &(body.len() as u32).to_le_bytes());
        put(20, &self.prev.to_le_bytes());
        put(24, &self.number.to_le_bytes());
        put(32, &self.offset.to_le_bytes());
        put(40, &VERSION.to_le_bytes());
        let crc = self.crc(&header);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        self.pass(crc, body.len());
        Bytes::copy_from_slice(&header)
    }

    fn crc(&self, header: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.key);
        hasher.update(&header[8..HEADER_LEN]);
        hasher.finalize()
    }

    fn pass(&mut self, crc: u32, body: usize) {
        self.prev = crc;
        self.number += 1;
        self.offset += record_len(body) as u64;
    }

    pub(super) fn head(&mut self, head: &Head) -> [Bytes; 2] {
        let mut body = Vec::with_capacity(32 + head.configuration.len());
        for number in [head.group.0, head.at.index.0, head.at.term.0, head.stamp] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&head.configuration);
        [self.seal(HEAD, &body), body.into()]
    }

    pub(super) fn chunk(&mut self, chunk: Bytes) -> [Bytes; 2] {
        [self.seal(CHUNK, &chunk), chunk]
    }

    pub(super) fn end(&mut self, chunks: u64, bytes: u64) -> [Bytes; 2] {
        let body = [chunks.to_le_bytes(), bytes.to_le_bytes()].concat();
        [self.seal(END, &body), body.into()]
    }

    /// The next record at the beginning of `bytes`, of which the file has `room` in all from there.
    pub(super) fn open(&mut self, bytes: &Bytes, room: u64) -> Result<Record, Missing> {
        if room < HEADER_LEN as u64 {
            return Err(Missing::Damaged("the file ends too soon"));
        }
        let Some(header) = bytes.get(..HEADER_LEN) else { return Err(Missing::More(HEADER_LEN)) };
        let crc = self.crc(header);
        if header[..4] != MAGIC || u32_at(header, 4) != crc {
            return Err(Missing::Damaged("no record of this snapshot"));
        }
        if u32_at(header, 40) != VERSION {
            return Err(Missing::Damaged("a format version that this program doesn't know"));
        }
        let (number, offset) = (u64_at(header, 24), u64_at(header, 32));
        if (u32_at(header, 20), number, offset) != (self.prev, self.number, self.offset) {
            return Err(Missing::Damaged("a record that doesn't belong here"));
        }
        let len = u32_at(header, 16) as usize;
        if record_len(len) as u64 > room {
            return Err(Missing::Damaged("the file ends too soon"));
        }
        if bytes.len() < HEADER_LEN + len {
            return Err(Missing::More(HEADER_LEN + len));
        }
        let body = bytes.slice(HEADER_LEN..HEADER_LEN + len);
        if u32_at(header, 8) != crc32fast::hash(&body) {
            return Err(Missing::Damaged("the checksum is wrong"));
        }
        let record = parse(u32_at(header, 12), body).ok_or(Missing::Damaged("malformed"))?;
        if matches!(record, Record::Head(_)) != (self.number == 0) {
            return Err(Missing::Damaged("the head comes first, and once"));
        }
        self.pass(crc, len);
        Ok(record)
    }
}

fn parse(kind: u32, body: Bytes) -> Option<Record> {
    match kind {
        HEAD if body.len() >= 32 => {
            let (index, term) = (LogIndex(u64_at(&body, 8)), Term(u64_at(&body, 16)));
            Some(Record::Head(Head {
                group: GroupId(u64_at(&body, 0)),
                at: LogPosition { index, term },
                stamp: u64_at(&body, 24),
                configuration: body.slice(32..),
            }))
        }
        CHUNK => Some(Record::Chunk(body)),
        END if body.len() == 16 => {
            Some(Record::End { chunks: u64_at(&body, 0), bytes: u64_at(&body, 8) })
        }
        _ => None,
    }
}

/// Bytes that a record takes in the file.
pub(super) fn record_len(body: usize) -> usize {
    (HEADER_LEN + body).next_multiple_of(PAGE)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The names of a snapshot: while it is written, and once it is whole.
pub(super) fn names(group: GroupId, at: LogPosition) -> (FileName, FileName) {
    (FileName::Partial(group, at), FileName::Snapshot(group, at))
}

#[cfg(test)]
mod tests {
    use ringleader_wal::NodeId;

    use super::*;

    const ME: Identity = Identity { cluster: 7, node: NodeId(2), shard: 1 };
    const AT: LogPosition = LogPosition { index: LogIndex(12), term: Term(3) };

    fn file() -> (Vec<u8>, Head) {
        let configuration = Bytes::from_static(b"voters");
        let head = Head { group: GroupId(5), at: AT, stamp: 9, configuration };
        let mut chain = Chain::new(&ME, GroupId(5), AT);
        let mut file = Vec::new();
        let mut put = |parts: [Bytes; 2]| {
            parts.iter().for_each(|part| file.extend_from_slice(part));
            file.resize(file.len().next_multiple_of(PAGE), 0);
        };
        put(chain.head(&head));
        put(chain.chunk(Bytes::from(vec![1; 5000])));
        put(chain.chunk(Bytes::new()));
        put(chain.end(2, 5000));
        (file, head)
    }

    fn read(file: &[u8], mut chain: Chain) -> Result<Vec<Record>, Missing> {
        let (file, mut records) = (Bytes::copy_from_slice(file), Vec::new());
        while !matches!(records.last(), Some(Record::End { .. })) {
            let rest = file.slice(chain.offset as usize..);
            records.push(chain.open(&rest, rest.len() as u64)?);
        }
        Ok(records)
    }

    #[test]
    fn what_was_written_is_read_and_every_flip_is_seen() {
        let (file, head) = file();
        let chain = Chain::new(&ME, GroupId(5), AT);
        let chunks = [Record::Chunk(vec![1; 5000].into()), Record::Chunk(Bytes::new())];
        let end = Record::End { chunks: 2, bytes: 5000 };
        let all: Vec<_> = [Record::Head(head)].into_iter().chain(chunks).chain([end]).collect();
        assert_eq!(read(&file, chain.clone()), Ok(all));
        for used in [0..HEADER_LEN + 38, PAGE..PAGE + HEADER_LEN + 5000] {
            for bit in used.start * 8..used.end * 8 {
                let mut file = file.clone();
                file[bit / 8] ^= 1 << (bit % 8);
                assert!(read(&file, chain.clone()).is_err(), "bit {bit}");
            }
        }
        for len in (0..file.len()).step_by(512) {
            assert!(read(&file[..len], chain.clone()).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn another_files_record_and_one_that_moved_are_refused() {
        let (mut file, _) = file();
        let other = LogPosition { index: LogIndex(13), ..AT };
        assert!(read(&file, Chain::new(&ME, GroupId(5), other)).is_err());
        assert!(read(&file, Chain::new(&ME, GroupId(6), AT)).is_err());
        assert!(read(&file, Chain::new(&Identity { shard: 2, ..ME }, GroupId(5), AT)).is_err());
        file.copy_within(3 * PAGE..4 * PAGE, PAGE);
        assert!(read(&file, Chain::new(&ME, GroupId(5), AT)).is_err());
    }
}
