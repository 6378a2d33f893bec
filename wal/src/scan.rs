//! Looking for batches in bytes read from a segment. Recovery, reads and relocation all walk
//! segments with this.

use bytes::Bytes;

use crate::block::{Block, BlockError};
use crate::disk::PAGE;
use crate::format::{BATCH_HEADER_LEN, BatchHeader, LogKey, RECORD_LEN, Record};

/// A stretch of one file in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    start: u64,
    data: Bytes,
}

impl Window {
    pub(crate) fn new(start: u64, data: Bytes) -> Self {
        Self { start, data }
    }

    /// The bytes of the file from `offset` on, if all `len` are at hand.
    pub(crate) fn slice(&self, offset: u64, len: usize) -> Option<Bytes> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let to = from.checked_add(len)?;
        (to <= self.data.len()).then(|| self.data.slice(from..to))
    }

    fn peek(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.data.get(from..from.checked_add(len)?)
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }
}

/// What there is at an offset.
#[derive(Debug)]
pub(crate) enum Look {
    /// The window must hold this many bytes from the offset on first.
    Need(usize),
    /// No batch, and why not.
    Nothing(&'static str),
    /// A batch whose header and table are intact.
    Batch(Batch),
}

/// A batch whose header and table are intact.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) header: BatchHeader,
    pub(crate) crc: u32,
    pub(crate) offset: u64,
    bytes: Bytes,
}

/// Looks for a batch at `offset` of a file whose batches end by `end`. With `whole`, the batch
/// comes with its bodies and padding, otherwise with its table alone.
pub(crate) fn look(window: &Window, key: LogKey, offset: u64, end: u64, whole: bool) -> Look {
    let room = end.saturating_sub(offset);
    if room < PAGE as u64 {
        return Look::Nothing("the segment ends");
    }
    let Some(head) = window.peek(offset, BATCH_HEADER_LEN) else {
        return Look::Need(PAGE);
    };
    let Some(header) = BatchHeader::peek(head, room) else {
        return Look::Nothing("no batch header");
    };
    if header.offset != offset {
        return Look::Nothing("a batch of another place");
    }
    let meta_len = header.meta_len();
    let Some(meta) = window.peek(offset, meta_len) else {
        return Look::Need(meta_len.next_multiple_of(PAGE));
    };
    let Some(crc) = BatchHeader::verify(key, meta) else {
        return Look::Nothing("batch checksum does not match");
    };
    let len = if whole { header.length as usize } else { meta_len };
    match window.slice(offset, len) {
        Some(bytes) => Look::Batch(Batch { header, crc, offset, bytes }),
        None => Look::Need(len.next_multiple_of(PAGE)),
    }
}

/// A record and its place in the batch: its number, and where its body is.
pub(crate) struct Item {
    pub(crate) number: u32,
    pub(crate) record: Record,
    body: usize,
}

impl Batch {
    /// The first byte after the batch.
    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.header.length)
    }

    /// The records in order.
    ///
    /// # Errors
    /// At a record that this version does not know, or whose body lies outside the batch.
    pub(crate) fn items(&self) -> impl Iterator<Item = Result<Item, &'static str>> + '_ {
        let meta = self.header.meta_len();
        let limit = meta + self.header.bodies as usize;
        let mut at = meta;
        let table = self.bytes[BATCH_HEADER_LEN..meta].chunks_exact(RECORD_LEN);
        table.enumerate().map(move |(number, entry)| {
            let record = Record::decode(entry).ok_or("unknown kind of record")?;
            let body = at;
            if let Record::Block { first, count, len, .. } = record {
                at = at.checked_add(len as usize).ok_or("bodies longer than the batch")?;
                if at > limit || first.0 == 0 || count == 0 {
                    return Err("impossible block record");
                }
                first.0.checked_add(u64::from(count)).ok_or("index overflows")?;
            }
            Ok(Item { number: number as u32, record, body })
        })
    }

    /// The block of a record of a batch that was looked at as a whole, checked.
    ///
    /// # Errors
    /// When the bytes are not the block that the table names.
    pub(crate) fn block(&self, item: &Item) -> Result<Block, &'static str> {
        let Record::Block { group, first, count, len, crc, .. } = item.record else {
            return Err("record has no block");
        };
        let to = item.body + len as usize;
        if to > self.bytes.len() {
            return Err("block is cut short");
        }
        let block = Block::parse(self.bytes.slice(item.body..to)).map_err(|e| reason(&e))?;
        let same = block.crc() == crc
            && block.group() == group
            && block.first_index() == first
            && block.count() == count;
        if same { Ok(block) } else { Err("block is not the one in the table") }
    }

    /// Checks that the bodies fill their room and that zeros follow.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(crate) fn check_padding(&self) -> Result<(), &'static str> {
        let used = self.header.meta_len() + self.header.bodies as usize;
        // Whole pieces at once: a loop that may end at any byte is done byte by byte.
        let is_zero = |piece: &[u8]| piece.iter().fold(0, |all, byte| all | byte) == 0;
        if !self.bytes[used..].chunks(64).all(is_zero) {
            return Err("padding is not zero");
        }
        Ok(())
    }
}

fn reason(error: &BlockError) -> &'static str {
    match error {
        BlockError::Short { .. } => "block is cut short",
        BlockError::Checksum { .. } => "block checksum does not match",
        BlockError::Malformed(what) => what,
    }
}
