//! What a log writes, in the order in which it is to be done: read from the bytes that go to the
//! disk, as `wal/src/format.rs` describes them.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use ringleader::raft::Raft;
use ringleader::{GroupId, Term};
use ringleader_wal::Block;
use ringleader_wal::disk::{DiskOp, FileName};

const HEADER_LEN: usize = 64;
const RECORD_LEN: usize = 32;
/// Kinds of records.
const BLOCK: u32 = 1;
const MOVED: u32 = 2;
const HARD_STATE: u32 = 4;

/// The terms of a shard's groups, as far as they are on their way to its disk.
#[derive(Debug, Default)]
pub(crate) struct WrittenTerms(BTreeMap<GroupId, Term>);

impl WrittenTerms {
    /// What a group starts with is on the disk.
    pub(crate) fn recovered(&mut self, group: GroupId, raft: &Raft) {
        self.0.insert(group, raft.term());
    }

    /// A write begins. No entry is ahead of its group's term, wherever a power failure cuts the
    /// order of records off: a log like that can't be opened.
    pub(crate) fn written(&mut self, op: &DiskOp) {
        let DiskOp::Write { file: FileName::Segment(_), offset: 1.., parts, .. } = op else {
            return;
        };
        let mut bytes: Bytes = match &parts[..] {
            [whole] => whole.clone(),
            parts => parts.concat().into(),
        };
        let records = bytes.slice(44..).get_u32_le() as usize;
        bytes.advance(HEADER_LEN);
        let mut table = bytes.split_to(records * RECORD_LEN);
        for _ in 0..records {
            let mut record = table.split_to(RECORD_LEN);
            let (group, a, b) = (record.get_u64_le(), record.get_u64_le(), record.get_u64_le());
            let (group, kind) = (GroupId(group), record.get_u32_le());
            match kind {
                HARD_STATE => drop(self.0.insert(group, Term(a))),
                // It was written before.
                MOVED => bytes.advance(b as u32 as usize),
                BLOCK => {
                    let body = bytes.split_to(b as u32 as usize);
                    let block = Block::parse(body).expect("what is written can be read");
                    let term = self.0.get(&group).copied().unwrap_or_default();
                    assert!(
                        block.term() <= term,
                        "log order: an entry of term {} of group {group} is written before the \
                         term, which is {term} on the disk",
                        block.term()
                    );
                }
                _ => {}
            }
        }
    }
}
