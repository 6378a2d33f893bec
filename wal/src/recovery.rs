//! Opening a log: find its segments, replay its batches, and tell a torn tail from damage.
//!
//! 1. **Settle.** Segments that were being prepared are removed; every segment file and the
//!    directory are synced, because what a crashed process had written may sit in a volatile cache
//!    only, and recovery must not build on what a power failure can still take away.
//! 2. **Headers** of all files are read. A header of another shard or version ends recovery.
//! 3. **Claims.** The newest segment is searched for the highest `oldest_needed`. It is true even
//!    if batches before it were lost (see [`crate::format`]), and a segment can have been used
//!    again only after a durable batch said so, which is in the newest segment or before its
//!    header. So every segment from there on must be intact, and older ones do not matter.
//! 4. **Chain.** Batches are replayed from that segment on while number, chain value, checksums
//!    and padding are right. Where they end, the segment whose header continues the chain
//!    follows; of several (a restart leaves empty ones behind) the newest.
//! 5. **Search.** Where nothing continues the chain, all bytes outside it are searched, page by
//!    page, for batches and headers of this log. One that says the missing batch had been durable
//!    proves damage, and the log is refused. Otherwise the tail was torn and is dropped. (So a
//!    start reads the segments in use once, the newest twice, and the spare ones once.)
//!
//! Writing goes on in a fresh segment, so the torn tail needs no repair. Its id is higher than any
//! seen anywhere, so no byte left over can pass for part of it. Recovery changes nothing that a
//! second recovery would need: it can be cut short and repeated at will.

use std::collections::BTreeMap;

use crate::config::{Identity, WalConfig};
use crate::configurations::Configurations;
use crate::disk::{DiskError, DiskOp, DiskOutput, FileName, PAGE};
use crate::event::RecoveryError;
use crate::format::{FORMAT_VERSION, LogKey, SegmentHeader};
use crate::index::Groups;
use crate::opened::Opened;
use crate::replay::{self, Checked, Refused};
use crate::scan::{Batch, Look, Window, look};
use crate::search::{Break, Search};
use crate::segments::{Segment, Segments};
use crate::types::Seq;

/// What an operation of recovery was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    List,
    Settle,
    SyncDir,
    Header(u32),
    Chunk { offset: u64, len: u64 },
}

/// A segment file as found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Bytes, whole pages.
    pub(crate) len: u64,
    pub(crate) header: Option<SegmentHeader>,
}

/// Where a walk through a file is.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) file: u32,
    pub(crate) offset: u64,
    pub(crate) end: u64,
    pub(crate) window: Window,
}

impl Cursor {
    pub(crate) fn new(file: u32, offset: u64, end: u64) -> Self {
        Self { file, offset, end, window: Window::default() }
    }
}

pub(crate) enum Stage {
    Settle,
    Headers,
    Claims,
    Chain,
    Search(Box<Search>),
}

enum Progress {
    /// More is to be read, or operations are under way.
    Wait,
    Done(Box<Opened>),
}

/// Recovery under way.
pub(crate) struct Recovery {
    identity: Identity,
    key: LogKey,
    pub(crate) segment_bytes: u64,
    read_bytes: u64,
    pub(crate) stage: Stage,
    ops: Vec<(Tag, DiskOp)>,
    running: usize,
    pub(crate) files: BTreeMap<u32, Found>,
    pub(crate) next_file: u32,
    cursor: Option<Cursor>,
    /// Segment ids and files of the chain.
    pub(crate) chain_files: Vec<(u64, u32)>,
    pub(crate) oldest_needed: u64,
    pub(crate) expected: Seq,
    pub(crate) chain: u32,
    pub(crate) batches: u64,
    pub(crate) marked: bool,
    /// Segments at the chain's end that hold no batch.
    pub(crate) empty_tail: usize,
    pub(crate) groups: Groups,
    pub(crate) segments: Segments,
    pub(crate) configurations: Configurations,
    scratch: Vec<Checked>,
}

impl Recovery {
    pub(crate) fn new(config: &WalConfig, identity: Identity) -> Self {
        Self {
            identity,
            key: LogKey::new(&identity),
            segment_bytes: config.segment_bytes,
            read_bytes: config.read_bytes.max(PAGE) as u64,
            stage: Stage::Settle,
            ops: vec![(Tag::List, DiskOp::List)],
            running: 1,
            files: BTreeMap::new(),
            next_file: 1,
            cursor: None,
            chain_files: Vec::new(),
            oldest_needed: 0,
            expected: Seq(1),
            chain: 0,
            batches: 0,
            marked: true,
            empty_tail: 0,
            groups: Groups::default(),
            segments: Segments::default(),
            configurations: Configurations::default(),
            scratch: Vec::new(),
        }
    }

    /// The operations to be submitted now.
    pub(crate) fn take_ops(&mut self) -> Vec<(Tag, DiskOp)> {
        std::mem::take(&mut self.ops)
    }

    fn submit(&mut self, tag: Tag, op: DiskOp) {
        self.running += 1;
        self.ops.push((tag, op));
    }

    /// An operation completed. `Some` ends recovery.
    pub(crate) fn complete(
        &mut self,
        tag: Tag,
        result: Result<DiskOutput, DiskError>,
    ) -> Option<Result<Box<Opened>, RecoveryError>> {
        self.running -= 1;
        match result.map_err(RecoveryError::Disk).and_then(|output| self.step(tag, output)) {
            Ok(Progress::Wait) => None,
            Ok(Progress::Done(opened)) => Some(Ok(opened)),
            Err(error) => Some(Err(error)),
        }
    }

    fn step(&mut self, tag: Tag, output: DiskOutput) -> Result<Progress, RecoveryError> {
        match (tag, output) {
            (Tag::List, DiskOutput::Listed(list)) => self.settle(list),
            (Tag::Settle, DiskOutput::Done) => {}
            (Tag::SyncDir, DiskOutput::Done) => self.read_headers(),
            (Tag::Header(file), DiskOutput::Read(page)) => self.take_header(file, &page)?,
            (Tag::Chunk { offset, len }, DiskOutput::Read(data)) => {
                let cursor = self.cursor.as_mut().expect("a chunk was asked for");
                if (data.len() as u64) < len {
                    let file = FileName::Segment(cursor.file);
                    let what = format!("short read of {file} at {offset}: {} B", data.len());
                    return Err(DiskError::Io(what).into());
                }
                cursor.window = Window::new(offset, data);
            }
            (tag, output) => {
                let what = format!("{tag:?} was answered with {output:?}");
                return Err(DiskError::Io(what).into());
            }
        }
        if self.running > 0 {
            return Ok(Progress::Wait);
        }
        self.advance()
    }

    fn settle(&mut self, list: Vec<(FileName, u64)>) {
        for (name, len) in list {
            let (FileName::Segment(number) | FileName::Preparing(number)) = name else {
                continue;
            };
            self.next_file = self.next_file.max(number.saturating_add(1));
            if let FileName::Segment(number) = name {
                let len = len - len % PAGE as u64;
                self.files.insert(number, Found { len, header: None });
                self.submit(Tag::Settle, DiskOp::Sync { file: name });
            } else {
                self.submit(Tag::Settle, DiskOp::Remove { file: name });
            }
        }
    }

    fn read_headers(&mut self) {
        self.stage = Stage::Headers;
        let readable = |(&file, found): (&u32, &Found)| (found.len > 0).then_some(file);
        let files: Vec<u32> = self.files.iter().filter_map(readable).collect();
        for file in files {
            let op = DiskOp::Read { file: FileName::Segment(file), offset: 0, len: PAGE as u64 };
            self.submit(Tag::Header(file), op);
        }
    }

    fn take_header(&mut self, number: u32, page: &[u8]) -> Result<(), RecoveryError> {
        let file = FileName::Segment(number);
        if page.len() < PAGE {
            let what = format!("short read of the header of {file}: {} B", page.len());
            return Err(DiskError::Io(what).into());
        }
        let Some((version, header)) = SegmentHeader::decode(page) else {
            return Ok(());
        };
        if version != FORMAT_VERSION {
            return Err(RecoveryError::Version { file, version, supported: FORMAT_VERSION });
        }
        if header.identity != self.identity {
            let (found, expected) = (header.identity, self.identity);
            return Err(RecoveryError::Foreign { file, found, expected });
        }
        if let Some(found) = self.files.get_mut(&number) {
            found.header = Some(header);
        }
        Ok(())
    }

    /// Goes on until something has to be read.
    fn advance(&mut self) -> Result<Progress, RecoveryError> {
        loop {
            let wait = match &mut self.stage {
                Stage::Settle => {
                    self.submit(Tag::SyncDir, DiskOp::SyncDir);
                    true
                }
                Stage::Headers => {
                    self.start_claims();
                    false
                }
                Stage::Claims => self.walk_claims(),
                Stage::Chain => self.walk_chain()?,
                Stage::Search(search) => {
                    if let Some(cursor) = self.cursor.take() {
                        search.feed(cursor.window);
                    }
                    let Some((file, offset, need)) = search.walk(self.key) else {
                        return self.finish().map(|opened| Progress::Done(Box::new(opened)));
                    };
                    self.cursor = Some(Cursor::new(file, offset, search.end()));
                    self.read_chunk(offset, need);
                    true
                }
            };
            if wait {
                return Ok(Progress::Wait);
            }
        }
    }

    /// Asks for `need` bytes or more of the cursor's file.
    fn read_chunk(&mut self, offset: u64, need: usize) {
        let cursor = self.cursor.as_ref().expect("a file is being walked");
        let file = FileName::Segment(cursor.file);
        let len = self.read_bytes.max(need as u64).min(cursor.end - offset);
        self.submit(Tag::Chunk { offset, len }, DiskOp::Read { file, offset, len });
    }

    /// The file with the header that `test` accepts; the newest of several.
    fn find(&self, test: impl Fn(&SegmentHeader) -> bool) -> Option<(u32, SegmentHeader)> {
        self.files
            .iter()
            .filter_map(|(&file, found)| found.header.map(|header| (file, header)))
            .filter(|(_, header)| test(header))
            .max_by_key(|(_, header)| header.id)
    }

    fn start_claims(&mut self) {
        let Some((file, header)) = self.find(|_| true) else {
            return self.start_search("no segment header", None);
        };
        self.oldest_needed = header.oldest_needed;
        self.cursor = Some(Cursor::new(file, PAGE as u64, self.files[&file].len));
        self.stage = Stage::Claims;
    }

    fn walk_claims(&mut self) -> bool {
        let cursor = self.cursor.as_mut().expect("a file is being walked");
        let id = self.files[&cursor.file].header.map_or(0, |header| header.id);
        while cursor.offset < cursor.end {
            match look(&cursor.window, self.key, cursor.offset, cursor.end, false) {
                Look::Need(need) => {
                    let offset = cursor.offset;
                    self.read_chunk(offset, need);
                    return true;
                }
                Look::Batch(batch) if batch.header.segment == id => {
                    self.oldest_needed = self.oldest_needed.max(batch.header.oldest_needed);
                }
                _ => {}
            }
            cursor.offset += PAGE as u64;
        }
        let witness = FileName::Segment(cursor.file);
        match self.find(|header| header.id == self.oldest_needed) {
            Some((file, header)) => {
                self.expected = header.first_seq;
                self.chain = header.chain;
                self.enter_segment(file, &header);
                self.stage = Stage::Chain;
            }
            None => self.start_search("a segment is missing", Some(witness)),
        }
        false
    }

    fn enter_segment(&mut self, file: u32, header: &SegmentHeader) {
        let len = self.files[&file].len;
        let mut segment = Segment::new(header.id, header.prev, len);
        segment.file = Some(file);
        segment.durable_end = PAGE as u64;
        self.segments.push(segment);
        self.chain_files.push((header.id, file));
        self.empty_tail += 1;
        self.cursor = Some(Cursor::new(file, PAGE as u64, len));
    }

    fn walk_chain(&mut self) -> Result<bool, RecoveryError> {
        loop {
            let cursor = self.cursor.as_ref().expect("a file is being walked");
            let reason = match look(&cursor.window, self.key, cursor.offset, cursor.end, true) {
                Look::Need(need) => {
                    let offset = cursor.offset;
                    self.read_chunk(offset, need);
                    return Ok(true);
                }
                Look::Nothing(reason) => reason,
                Look::Batch(batch) => match self.take_batch(&batch)? {
                    None => continue,
                    Some(reason) => reason,
                },
            };
            let id = self.chain_files.last().map_or(0, |&(id, _)| id);
            let next = self.find(|header| {
                header.prev == id
                    && header.id > id
                    && header.first_seq == self.expected
                    && header.chain == self.chain
            });
            match next {
                Some((file, header)) => self.enter_segment(file, &header),
                None => {
                    self.start_search(reason, None);
                    return Ok(false);
                }
            }
        }
    }

    /// Replays a batch, or says why it does not continue the log.
    fn take_batch(&mut self, batch: &Batch) -> Result<Option<&'static str>, RecoveryError> {
        let header = &batch.header;
        let &(id, file) = self.chain_files.last().expect("a segment is being walked");
        if header.segment != id {
            return Ok(Some(Break::EARLIER_LIFE));
        }
        if header.seq != self.expected || header.prev_crc != self.chain {
            return Ok(Some("a batch that does not continue the chain"));
        }
        let malformed = |reason| RecoveryError::Malformed {
            file: FileName::Segment(file),
            offset: batch.offset,
            seq: header.seq,
            reason,
        };
        match replay::check(batch, &mut self.scratch) {
            Ok(()) => {}
            Err(Refused::Damaged(reason)) => return Ok(Some(reason)),
            Err(Refused::Malformed(reason)) => return Err(malformed(reason)),
        }
        for checked in &self.scratch {
            let Self { groups, segments, configurations, .. } = self;
            replay::apply(checked, id, batch.offset, groups, segments, configurations)
                .map_err(malformed)?;
        }
        self.expected.0 += 1;
        self.chain = batch.crc;
        self.batches += 1;
        self.marked = header.records == 0;
        self.empty_tail = 0;
        self.segments.at(id).durable_end = batch.end();
        self.cursor.as_mut().expect("a file is being walked").offset = batch.end();
        Ok(None)
    }

    fn start_search(&mut self, reason: &'static str, missing: Option<FileName>) {
        let at = self.cursor.take().map(|cursor| (cursor.file, cursor.offset));
        let at = at.filter(|_| missing.is_none());
        let stop = Break { at, reason, expected: self.expected, chain: self.chain };
        let in_chain = |file: u32| self.chain_files.iter().any(|&(_, other)| other == file);
        let mut search = Search::new(stop, missing, self.oldest_needed);
        for (&file, found) in &self.files {
            if !in_chain(file) {
                search.add(file, found, PAGE as u64);
            } else if let Some((_, offset)) = at.filter(|&(other, _)| other == file) {
                search.add(file, found, offset);
            }
        }
        self.stage = Stage::Search(Box::new(search));
    }
}
