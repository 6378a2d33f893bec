//! Reads of old entries.
//!
//! The index says where to start; from there batches are scanned, their checksums verified, until
//! enough is found. Entries that are staged or being written are not served from memory: a read
//! that reaches them gives out what it has, and one that has nothing yet goes on when the next
//! batch is durable. A truncation under way makes a read start again, so it never gives out what
//! was dropped before its answer; a segment that is being read is not used again before.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::block::Block;
use crate::disk::{DiskError, DiskOp, DiskOutput, FileName};
use crate::event::{ReadError, ReadId, WalEvent};
use crate::format::Record;
use crate::index::Place;
use crate::scan::{Batch, Look, Window, look};
use crate::spans::Span;
use crate::types::{GroupId, LogIndex};
use crate::wal::{Phase, Purpose, Wal};

/// Where a read is.
#[derive(Clone, Copy, Debug)]
struct Position {
    segment: u64,
    file: u32,
    offset: u64,
    /// The first record of interest in the batch at `offset`.
    record: u32,
}

/// A read under way.
#[derive(Debug)]
pub(crate) struct ReadJob {
    group: GroupId,
    from: LogIndex,
    max_bytes: usize,
    /// The next index to be found.
    next: LogIndex,
    blocks: Vec<Block>,
    bytes: usize,
    epoch: u32,
    /// Set while the segment is pinned.
    at: Option<Position>,
    /// The stretch read last, and its segment.
    window: (u64, Window),
    /// Offset and length of the disk read under way.
    running: Option<(u64, u64)>,
}

type Answer = Result<Vec<Block>, ReadError>;

/// Where a read ended in the middle of a span, so that the next portion goes on there instead of
/// scanning the span from its beginning.
#[derive(Clone, Copy, Debug)]
struct Resume {
    group: GroupId,
    /// The next index to be found.
    next: LogIndex,
    epoch: u32,
    segment: u64,
    moved: bool,
    /// The batch that holds `next`, or one before it.
    offset: u64,
}

/// Reads that may go on: those of so many readers are remembered, and a forgotten one costs a scan.
const RESUMES: usize = 64;

/// Where the latest reads ended, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Resumes(VecDeque<Resume>);

impl Resumes {
    fn note(&mut self, resume: Resume) {
        if self.0.len() == RESUMES {
            self.0.pop_front();
        }
        self.0.push_back(resume);
    }

    /// Where in `span` the read may begin, its place unless an earlier read came further.
    fn begin(&mut self, job: &ReadJob, span: &Span) -> Place {
        let ended_there = |resume: &Resume| resume.group == job.group && resume.next == job.next;
        let found = self.0.iter().position(ended_there).and_then(|at| self.0.remove(at));
        // Truncations change the epoch, relocations the segment or the kind of record.
        let valid = found.filter(|resume| {
            resume.epoch == job.epoch
                && resume.segment == span.place.segment
                && resume.moved == span.moved
                && resume.offset > u64::from(span.place.offset)
        });
        valid.map_or(span.place, |resume| Place {
            offset: resume.offset as u32,
            record: 0,
            ..span.place
        })
    }
}

enum Found {
    /// The read goes on.
    More,
    /// Everything wanted of this span was found.
    SpanEnds,
    /// Enough bytes were found.
    Enough,
}

impl Wal {
    /// Bytes of the group's blocks after `index`, or a little more: the index knows whole runs of
    /// blocks.
    #[must_use]
    pub fn bytes_after(&self, group: GroupId, index: LogIndex) -> u64 {
        self.groups.get(group).map_or(0, |group| group.bytes_after(index))
    }

    /// The lowest entry after which the group's blocks up to `through` take at most `bytes`, whole
    /// runs of blocks at a time.
    #[must_use]
    pub fn tail(&self, group: GroupId, through: LogIndex, bytes: u64) -> LogIndex {
        self.groups.get(group).map_or(through, |group| group.tail(through, bytes))
    }

    /// The last of the group's entries that was appended before the newest `bytes` of the log, whole
    /// segments at a time; the entry before its first one if none was. Entries that were moved
    /// forward are as old as ever.
    #[must_use]
    pub fn appended_before(&self, group: GroupId, bytes: u64) -> LogIndex {
        let segments = bytes.div_ceil(self.config.segment_bytes).max(1);
        let since = self.segments.newest(usize::try_from(segments).unwrap_or(usize::MAX));
        self.groups.get(group).map_or(LogIndex(0), |group| group.appended_before(since))
    }

    /// Reads the group's entries from `from` on: contiguous blocks, the first one beginning
    /// exactly at `from`, at least one entry, about `max_bytes` (the block that passes it is the
    /// last). [`WalEvent::Loaded`] answers. Reads and writes do not wait for each other, except
    /// that an entry can be read only when it is durable.
    ///
    /// # Panics
    /// Before the log is recovered.
    pub fn read(&mut self, group: GroupId, from: LogIndex, max_bytes: usize) -> ReadId {
        assert!(!matches!(self.phase, Phase::Recovering(_)), "read before the log was recovered");
        let id = self.next_read;
        self.next_read += 1;
        let job = ReadJob {
            group,
            from,
            max_bytes,
            next: from,
            blocks: Vec::new(),
            bytes: 0,
            epoch: self.groups.get(group).map_or(0, |group| group.epoch),
            at: None,
            window: (0, Window::default()),
            running: None,
        };
        self.run_read(id, job);
        ReadId(id)
    }

    /// Runs a read until it waits or ends.
    fn run_read(&mut self, id: u64, mut job: ReadJob) {
        let answer = self.advance_read(id, &mut job);
        if answer.is_some() || job.running.is_none() {
            self.unpin(&mut job);
        }
        match answer {
            Some(result) => {
                self.events.push_back(WalEvent::Loaded { id: ReadId(id), result });
            }
            None => {
                self.reads.insert(id, job);
            }
        }
    }

    fn unpin(&mut self, job: &mut ReadJob) {
        if let Some(at) = job.at.take() {
            self.segments.at(at.segment).pins -= 1;
            self.free_segments();
        }
    }

    /// Lets reads that waited for a durable batch go on.
    pub(crate) fn wake_reads(&mut self) {
        let waiting = self.reads.iter().filter(|(_, job)| job.running.is_none());
        let waiting: Vec<u64> = waiting.map(|(&id, _)| id).collect();
        for id in waiting {
            if let Some(job) = self.reads.remove(&id) {
                self.run_read(id, job);
            }
        }
    }

    pub(crate) fn fail_waiting_reads(&mut self, error: &ReadError) {
        let waiting: Vec<u64> = self.reads.keys().copied().collect();
        for id in waiting {
            if self.reads[&id].running.is_none() {
                self.reads.remove(&id);
                let result = Err(error.clone());
                self.events.push_back(WalEvent::Loaded { id: ReadId(id), result });
            }
        }
    }

    pub(crate) fn read_done(&mut self, id: u64, result: Result<DiskOutput, DiskError>) {
        let Some(mut job) = self.reads.remove(&id) else {
            return;
        };
        let (offset, len) = job.running.take().expect("a disk read was under way");
        let segment = job.at.map_or(0, |at| at.segment);
        match chunk(result, len) {
            Ok(data) => {
                job.window = (segment, Window::new(offset, data));
                self.run_read(id, job);
            }
            Err(error) => {
                self.unpin(&mut job);
                let result = Err(error.into());
                self.events.push_back(WalEvent::Loaded { id: ReadId(id), result });
            }
        }
    }

    /// Goes on as far as the bytes at hand allow. `None` when the read has to wait, for a disk
    /// read (`running` is set) or for a batch to become durable.
    fn advance_read(&mut self, id: u64, job: &mut ReadJob) -> Option<Answer> {
        loop {
            let Some(group) = self.groups.get(job.group) else {
                let last = LogIndex(0);
                return Some(Err(ReadError::Beyond { index: job.from, last }));
            };
            let epoch = group.epoch;
            if epoch != job.epoch {
                self.unpin(job);
                job.restart(epoch);
                continue;
            }
            let (base, last) = (group.base.index, group.last.index);
            if job.from <= base {
                return Some(Err(ReadError::Released { index: job.from, base }));
            }
            if job.next > last {
                return Some(job.take().ok_or(ReadError::Beyond { index: job.from, last }));
            }
            let span = *group.locate(job.next)?;
            if !job.at.is_some_and(|at| at.is_in(&span)) && !self.enter(job, &span) {
                return self.not_durable(job);
            }
            let at = job.at.expect("just set");
            let end = self.segments.at(at.segment).durable_end;
            if at.offset >= end {
                return self.not_durable(job);
            }
            let empty = Window::default();
            let window = if job.window.0 == at.segment { &job.window.1 } else { &empty };
            match look(window, self.key, at.offset, end, true) {
                Look::Need(need) => {
                    self.read_from(id, job, at, need, end);
                    return None;
                }
                Look::Nothing(reason) => return Some(Err(corrupt(at, reason))),
                Look::Batch(batch) => match job.collect(&batch, at, span.last, span.moved) {
                    Err(reason) => return Some(Err(corrupt(at, reason))),
                    Ok(Found::Enough) => {
                        if job.next <= span.last {
                            self.resumes.note(job.resume(at, span.moved));
                        }
                        return job.take().map(Ok);
                    }
                    Ok(Found::SpanEnds) => self.unpin(job),
                    Ok(Found::More) => {
                        job.at = Some(Position { offset: batch.end(), record: 0, ..at });
                    }
                },
            }
        }
    }

    /// Goes to where the span's blocks are, and pins the segment. False if nothing is durable there.
    fn enter(&mut self, job: &mut ReadJob, span: &Span) -> bool {
        self.unpin(job);
        let Place { segment: id, offset, record } = self.resumes.begin(job, span);
        let segment = self.segments.at(id);
        let durable = u64::from(offset) < segment.durable_end;
        let Some(file) = segment.file.filter(|_| durable) else {
            return false;
        };
        segment.pins += 1;
        job.at = Some(Position { segment: id, file, offset: u64::from(offset), record });
        true
    }

    /// The next entry is not durable yet: gives out what was found, or waits.
    fn not_durable(&self, job: &mut ReadJob) -> Option<Answer> {
        let failed = matches!(self.phase, Phase::Failed);
        job.take().map(Ok).or_else(|| failed.then_some(Err(ReadError::Poisoned)))
    }

    fn read_from(&mut self, id: u64, job: &mut ReadJob, at: Position, need: usize, end: u64) {
        let len = (self.config.read_bytes.max(need) as u64).min(end - at.offset);
        job.running = Some((at.offset, len));
        self.stats.reads += 1;
        self.stats.read_bytes += len;
        let op = DiskOp::Read { file: FileName::Segment(at.file), offset: at.offset, len };
        self.submit(Purpose::Read(id), op);
    }
}

impl Position {
    fn is_in(&self, span: &Span) -> bool {
        self.segment == span.place.segment && self.offset >= u64::from(span.place.offset)
    }
}

impl ReadJob {
    fn resume(&self, at: Position, moved: bool) -> Resume {
        let Self { group, next, epoch, .. } = *self;
        Resume { group, next, epoch, segment: at.segment, moved, offset: at.offset }
    }

    /// Begins anew: the group's log changed.
    fn restart(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.next = self.from;
        self.blocks.clear();
        self.bytes = 0;
    }

    fn take(&mut self) -> Option<Vec<Block>> {
        (!self.blocks.is_empty()).then(|| std::mem::take(&mut self.blocks))
    }

    /// Takes what is wanted out of a batch.
    fn collect(
        &mut self,
        batch: &Batch,
        at: Position,
        span_last: LogIndex,
        span_moved: bool,
    ) -> Result<Found, &'static str> {
        if batch.header.segment != at.segment {
            return Err("a batch of another segment");
        }
        for item in batch.items() {
            let item = item?;
            let Record::Block { group, first, count, len, moved, .. } = item.record else {
                continue;
            };
            let last = LogIndex(first.0 + u64::from(count) - 1);
            let wanted = group == self.group && moved == span_moved && item.number >= at.record;
            if !wanted || last < self.next {
                continue;
            }
            if first > self.next {
                return Err("an entry is missing");
            }
            let block = batch.block(&item)?;
            let block = block.slice(self.next, last.min(span_last));
            self.next = block.last_index().next();
            self.bytes += len as usize;
            self.blocks.push(detach(block, self.window.1.len()));
            if self.bytes >= self.max_bytes {
                return Ok(Found::Enough);
            }
            if self.next > span_last {
                return Ok(Found::SpanEnds);
            }
        }
        Ok(Found::More)
    }
}

/// A small block must not keep a large read buffer in memory.
fn detach(block: Block, window: usize) -> Block {
    if block.len() >= window / 4 { block } else { block.detached() }
}

fn corrupt(at: Position, reason: &'static str) -> ReadError {
    ReadError::Corrupt { file: FileName::Segment(at.file), offset: at.offset, reason }
}

/// The bytes of a read that must not be short.
pub(crate) fn chunk(result: Result<DiskOutput, DiskError>, len: u64) -> Result<Bytes, DiskError> {
    match result? {
        DiskOutput::Read(data) if data.len() as u64 >= len => Ok(data),
        DiskOutput::Read(data) => {
            Err(DiskError::Io(format!("short read: {} of {len} B", data.len())))
        }
        other => Err(DiskError::Io(format!("a read was answered with {other:?}"))),
    }
}
