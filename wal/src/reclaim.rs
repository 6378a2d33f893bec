//! Giving segments back.
//!
//! Segments leave the log oldest first, when nothing in them is live: no entry in its group's
//! `(base, last]`, no group's latest hard state, base or end. Two things would let one quiet group pin
//! the whole log, and both are rewritten forward:
//!
//! - hard states, bases and ends of groups, when they alone keep the oldest segment: 32 bytes each;
//! - live blocks, when the log has more than `relocate_beyond` segments and at most
//!   `relocate_percent` of the oldest is live (as `Moved` records, which take the old record's
//!   place in the index and truncate nothing). While space is short, any number of segments is
//!   enough. The segment is read once from front to back, no faster than the log writes.
//!
//! Rewriting takes credit, which only the owner's own batches give: at most as much is rewritten
//! as is written, and a log at rest stays at rest however badly its live records pack.

use crate::disk::{DiskError, DiskOp, DiskOutput, FileName, PAGE};
use crate::format::{RECORD_LEN, Record};
use crate::index::Place;
use crate::reader::chunk;
use crate::scan::{Batch, Look, Window, look};
use crate::types::LogIndex;
use crate::wal::{Purpose, Wal};

/// The oldest segment being emptied.
#[derive(Debug)]
pub(crate) struct Relocation {
    segment: u64,
    file: u32,
    offset: u64,
    end: u64,
    window: Window,
    /// Offset and length of the disk read under way.
    running: Option<(u64, u64)>,
}

impl Wal {
    /// Does what can be done now to free the oldest segment.
    pub(crate) fn reclaim(&mut self) {
        if self.relocation.is_some() {
            return self.relocate();
        }
        let Some(oldest) = self.segments.oldest_live() else {
            return;
        };
        // Only a segment that is full and durable is worth it, and safe to read.
        if oldest.id >= self.durable_segment {
            return;
        }
        let states = u64::from(oldest.states) * RECORD_LEN as u64;
        let cost = (oldest.bytes + states).max(PAGE as u64);
        if cost > self.credit {
            return;
        }
        if oldest.spans == 0 {
            let id = oldest.id;
            self.credit -= cost;
            return (0..self.groups.len()).for_each(|slot| self.restate(slot, id));
        }
        let beyond = if self.has_space() { self.config.relocate_beyond } else { 1 };
        let limit = self.config.segment_bytes * u64::from(self.config.relocate_percent) / 100;
        let worth = self.segments.len() > beyond && oldest.bytes <= limit && !oldest.unreadable;
        if let Some(file) = oldest.file.filter(|_| worth) {
            let (segment, end) = (oldest.id, oldest.durable_end);
            self.segments.at(segment).pins += 1;
            self.credit -= cost;
            let offset = PAGE as u64;
            let window = Window::default();
            self.relocation =
                Some(Relocation { segment, file, offset, end, window, running: None });
            self.relocate();
        }
    }

    fn relocate(&mut self) {
        let Some(mut job) = self.relocation.take_if(|job| job.running.is_none()) else {
            return;
        };
        loop {
            // The log's own records come first.
            if self.staged_bytes() >= self.config.max_batch_bytes {
                self.relocation = Some(job);
                return;
            }
            if job.offset >= job.end {
                return self.end_relocation(&job, None);
            }
            match look(&job.window, self.key, job.offset, job.end, true) {
                Look::Need(need) => {
                    self.read_ahead(&mut job, need);
                    self.relocation = Some(job);
                    return;
                }
                Look::Nothing(reason) => return self.end_relocation(&job, Some(reason)),
                Look::Batch(batch) => {
                    if let Err(reason) = self.relocate_batch(&batch, job.segment) {
                        return self.end_relocation(&job, Some(reason));
                    }
                    job.offset = batch.end();
                }
            }
        }
    }

    fn read_ahead(&mut self, job: &mut Relocation, need: usize) {
        let len = (self.config.read_bytes.max(need) as u64).min(job.end - job.offset);
        job.running = Some((job.offset, len));
        let file = FileName::Segment(job.file);
        self.submit(Purpose::Relocate, DiskOp::Read { file, offset: job.offset, len });
    }

    pub(crate) fn relocation_read(&mut self, result: Result<DiskOutput, DiskError>) {
        let Some(mut job) = self.relocation.take() else {
            return;
        };
        let (offset, len) = job.running.take().expect("a disk read was under way");
        match chunk(result, len) {
            Ok(data) => {
                job.window = Window::new(offset, data);
                self.relocation = Some(job);
            }
            Err(error) => {
                tracing::warn!(%error, file = %FileName::Segment(job.file), "relocation failed");
                self.end_relocation(&job, Some("the disk failed"));
            }
        }
    }

    fn relocate_batch(&mut self, batch: &Batch, segment: u64) -> Result<(), &'static str> {
        // The disk may have read another file, where it held what was truncated since.
        if batch.header.segment != segment {
            return Err("a batch of another segment");
        }
        for item in batch.items() {
            let item = item?;
            let Record::Block { group, first, count, moved, .. } = item.record else {
                continue;
            };
            let place = Place { segment, offset: batch.offset as u32, record: item.number };
            let last = LogIndex(first.0 + u64::from(count) - 1);
            let mut from = first;
            while from <= last {
                let group = self.groups.get(group);
                let Some((live, to)) =
                    group.and_then(|group| group.live_part(from, last, place, moved))
                else {
                    break;
                };
                let block = batch.block(&item)?.slice(live, to);
                self.append_moved(&block);
                from = to.next();
            }
        }
        Ok(())
    }

    fn end_relocation(&mut self, job: &Relocation, failure: Option<&'static str>) {
        let segment = self.segments.at(job.segment);
        segment.pins -= 1;
        // Not to be tried for ever; recovery would meet the damage as well and name it.
        if segment.spans > 0 {
            segment.unreadable = true;
            self.stats.relocations_failed += 1;
            let reason = failure.unwrap_or("live entries were not found");
            let file = FileName::Segment(job.file);
            tracing::warn!(%file, offset = job.offset, reason, "a segment can't be emptied");
        }
        self.free_segments();
    }
}
