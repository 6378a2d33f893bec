//! Log writes in flight, in the order of the log, and what of them is durable.
//!
//! Segment headers and batches go through one queue. What is durable is its completed prefix: a
//! batch behind one that is still being written must not be acknowledged, because recovery could
//! not reach it. With `CoalescedSync` a completed prefix still waits for a sync that was submitted
//! after it completed; one sync at a time, file by file.

use std::collections::VecDeque;

use crate::types::Seq;

/// A batch's part in the accounts, to be settled when it is durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    pub(crate) seq: Seq,
    pub(crate) segment: u64,
    /// The first byte after the batch.
    pub(crate) end: u64,
    pub(crate) bytes: usize,
    /// The oldest live segment after this batch.
    pub(crate) needed: u64,
    /// The `oldest_needed` that the batch carries.
    pub(crate) published: u64,
}

#[derive(Debug)]
struct Write {
    file: u32,
    done: bool,
    /// `None` for a segment header.
    batch: Option<Settled>,
}

/// The queue of writes.
#[derive(Debug)]
pub(crate) struct Flight {
    writes: VecDeque<Write>,
    /// Number of the first in `writes`.
    first: u64,
    /// Writes submitted and not completed.
    pub(crate) running: usize,
    /// Writes from the front that wait only for a sync, and whether that one is under way.
    unsynced: usize,
    syncing: Option<(u32, usize)>,
    coalesce: bool,
    pub(crate) bytes: usize,
}

impl Flight {
    pub(crate) fn new(coalesce: bool) -> Self {
        Self {
            writes: VecDeque::new(),
            first: 0,
            running: 0,
            unsynced: 0,
            syncing: None,
            coalesce,
            bytes: 0,
        }
    }

    /// A write was submitted; returns its number for [`Flight::written`].
    pub(crate) fn submitted(&mut self, file: u32, batch: Option<Settled>) -> u64 {
        self.running += 1;
        self.bytes += batch.map_or(0, |batch| batch.bytes);
        self.writes.push_back(Write { file, done: false, batch });
        self.first + self.writes.len() as u64 - 1
    }

    /// A write completed. The batches that became durable by it go to `durable`.
    pub(crate) fn written(&mut self, number: u64, durable: &mut Vec<Settled>) {
        self.running -= 1;
        self.writes[(number - self.first) as usize].done = true;
        if self.coalesce {
            while self.writes.get(self.unsynced).is_some_and(|write| write.done) {
                self.unsynced += 1;
            }
        } else {
            while self.writes.front().is_some_and(|write| write.done) {
                self.settle(durable);
            }
        }
    }

    fn settle(&mut self, durable: &mut Vec<Settled>) {
        let write = self.writes.pop_front().expect("a completed write");
        self.first += 1;
        if let Some(batch) = write.batch {
            self.bytes -= batch.bytes;
            durable.push(batch);
        }
    }

    /// The file to sync next, if a sync is due and none is under way.
    pub(crate) fn start_sync(&mut self) -> Option<u32> {
        if self.syncing.is_some() || self.unsynced == 0 {
            return None;
        }
        let file = self.writes[0].file;
        let covered =
            self.writes.iter().take(self.unsynced).take_while(|write| write.file == file).count();
        self.syncing = Some((file, covered));
        Some(file)
    }

    /// The sync completed.
    pub(crate) fn synced(&mut self, durable: &mut Vec<Settled>) {
        let (_, covered) = self.syncing.take().expect("a sync was under way");
        self.unsynced -= covered;
        for _ in 0..covered {
            self.settle(durable);
        }
    }

    /// The file being synced.
    pub(crate) fn syncing(&self) -> Option<u32> {
        self.syncing.map(|(file, _)| file)
    }

    /// The file of a write.
    pub(crate) fn file(&self, number: u64) -> u32 {
        self.writes[(number - self.first) as usize].file
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}
