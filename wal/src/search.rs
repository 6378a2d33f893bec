//! The search behind the log's end: was what is missing ever durable?

use crate::disk::{FileName, PAGE};
use crate::event::{RecoveryError, TornTail};
use crate::format::{BatchHeader, LogKey};
use crate::recovery::{Cursor, Found};
use crate::scan::{Look, Window, look};
use crate::types::Seq;

/// Where the log ends and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Break {
    /// File and offset; `None` when there is no log at all.
    pub(crate) at: Option<(u32, u64)>,
    pub(crate) reason: &'static str,
    /// The batch that should follow.
    pub(crate) expected: Seq,
    /// The chain value it should carry.
    pub(crate) chain: u32,
}

impl Break {
    pub(crate) const EARLIER_LIFE: &'static str = "a batch of the file's earlier life";
}

#[derive(Clone, Copy, Debug)]
struct Witness {
    file: u32,
    offset: u64,
    seq: Seq,
    durable: Seq,
}

/// The search under way.
pub(crate) struct Search {
    stop: Break,
    /// Set when the oldest needed segment was not found: the file that says it is needed.
    missing: Option<FileName>,
    oldest_needed: u64,
    todo: Vec<(Cursor, bool)>,
    /// The first batch or header that says the missing batch was durable.
    witness: Option<Witness>,
    /// A file without a header that holds the missing batch, or the missing segment.
    headless: Option<u32>,
    /// Whether a later batch was found, durable or not.
    later: bool,
    pub(crate) newest_segment: u64,
}

impl Search {
    pub(crate) fn new(stop: Break, missing: Option<FileName>, oldest_needed: u64) -> Self {
        Self {
            stop,
            missing,
            oldest_needed,
            todo: Vec::new(),
            witness: None,
            headless: None,
            later: false,
            newest_segment: 0,
        }
    }

    /// Adds a file to be searched from `offset` on.
    pub(crate) fn add(&mut self, file: u32, found: &Found, offset: u64) {
        self.todo.push((Cursor::new(file, offset, found.len), found.header.is_some()));
        // The header of the segment at whose end the chain broke was written before the batches
        // in it: it says nothing about what comes after them.
        if let Some(header) = found.header.filter(|_| offset == PAGE as u64) {
            let (seq, durable) = (header.first_seq, header.durable);
            self.testify(Witness { file, offset: 0, seq, durable });
        }
    }

    fn testify(&mut self, witness: Witness) {
        self.later |= witness.seq > self.stop.expected;
        if witness.durable >= self.stop.expected && self.witness.is_none() {
            self.witness = Some(witness);
        }
    }

    /// Goes on until bytes are needed: file, offset and how many. `None` when all was searched.
    /// The bytes come with [`Search::feed`].
    pub(crate) fn walk(&mut self, key: LogKey) -> Option<(u32, u64, usize)> {
        while let Some((mut cursor, has_header)) = self.todo.pop() {
            while cursor.offset < cursor.end {
                match look(&cursor.window, key, cursor.offset, cursor.end, false) {
                    Look::Need(need) => {
                        let need = (cursor.file, cursor.offset, need);
                        self.todo.push((cursor, has_header));
                        return Some(need);
                    }
                    Look::Nothing(_) => {}
                    Look::Batch(batch) => {
                        self.hear(cursor.file, cursor.offset, &batch.header, has_header);
                    }
                }
                cursor.offset += PAGE as u64;
            }
        }
        None
    }

    /// Hands over the bytes that [`Search::walk`] asked for.
    pub(crate) fn feed(&mut self, window: Window) {
        if let Some((cursor, _)) = self.todo.last_mut() {
            cursor.window = window;
        }
    }

    /// The end of the file being searched.
    pub(crate) fn end(&self) -> u64 {
        self.todo.last().map_or(0, |(cursor, _)| cursor.end)
    }

    fn hear(&mut self, file: u32, offset: u64, header: &BatchHeader, has_header: bool) {
        self.newest_segment = self.newest_segment.max(header.segment);
        if !has_header {
            let continues = match (self.missing, self.stop.at) {
                (Some(_), _) => header.segment == self.oldest_needed,
                (None, Some(_)) => {
                    header.seq == self.stop.expected && header.prev_crc == self.stop.chain
                }
                (None, None) => true,
            };
            if continues {
                self.headless.get_or_insert(file);
            }
        }
        self.testify(Witness { file, offset, seq: header.seq, durable: header.durable });
    }

    /// Whether the log may be opened, and which torn tail is dropped then.
    pub(crate) fn verdict(&self) -> Result<Option<TornTail>, RecoveryError> {
        // Where nothing was ever durable, the very first segment need not be there either.
        if let Some(witness) = self.missing.filter(|_| self.witness.is_some()) {
            let file = self.headless.map(FileName::Segment);
            return Err(RecoveryError::MissingSegment {
                segment: self.oldest_needed,
                file,
                witness,
            });
        }
        let Break { at, reason, expected, .. } = self.stop;
        if let Some(witness) = self.witness {
            let headless = self.headless.map(|file| (file, 0, "the segment's header is damaged"));
            let (file, offset, reason) = headless.unwrap_or_else(|| {
                let (file, offset) = at.unwrap_or((witness.file, 0));
                (file, offset, reason)
            });
            return Err(RecoveryError::Corrupt {
                file: FileName::Segment(file),
                offset,
                expected,
                reason,
                witness_file: FileName::Segment(witness.file),
                witness_offset: witness.offset,
                witness_seq: witness.seq,
                witness_durable: witness.durable,
            });
        }
        let quiet = [Break::EARLIER_LIFE, "no batch header", "the segment ends"];
        let torn = at.filter(|_| self.later || !quiet.contains(&reason));
        Ok(torn.map(|(file, offset)| TornTail {
            file: FileName::Segment(file),
            offset,
            expected,
            reason,
        }))
    }
}
