//! The log as openraft stores and reads it: the newest entries in memory, all of them in the
//! write-ahead log, and the vote in both.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Buf, BufMut, Bytes};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{LogState, OptionalSend, RaftLogReader};

use crate::codec;
use crate::types::{Entry, LogId, Payload, Types, Vote};
use crate::wal::Wal;

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
/// The log ends before an index.
const TRUNCATE: u8 = 3;

/// Entries in memory may take this; older ones are read from the file. It is more than the load has
/// in flight, so those are written.
const CACHE_BYTES: usize = 128 << 20;
/// What an entry takes in memory besides its payload, roughly.
const ENTRY_BYTES: usize = 100;
/// Most bytes of one message of entries.
const MESSAGE_BYTES: usize = 1 << 20;

#[derive(Clone)]
pub(crate) struct LogStore {
    log: Arc<Mutex<Log>>,
    wal: Arc<Wal>,
}

#[derive(Default)]
struct Log {
    vote: Option<Vote>,
    /// Where entries are in the file, by index.
    places: Vec<u64>,
    /// The log's end.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    last: Option<LogId>,
}

impl Log {
    fn push(&mut self, entry: Entry, place: u64) {
        self.last = Some(entry.log_id);
        self.places.push(place);
        self.cache_bytes += size(&entry);
        self.cache.push_back(entry);
        while self.cache_bytes > CACHE_BYTES
            && let Some(entry) = self.cache.pop_front()
        {
            self.cache_bytes -= size(&entry);
        }
    }

    fn cache_begin(&self) -> u64 {
        (self.places.len() - self.cache.len()) as u64
    }

    /// Takes away entries from `end` on; `last` is then the last one.
    fn truncate(&mut self, end: u64, last: Option<LogId>) {
        self.places.truncate(end as usize);
        while self.cache.back().is_some_and(|entry| entry.log_id.index >= end) {
            self.cache_bytes -= self.cache.pop_back().as_ref().map_or(0, size);
        }
        self.last = last;
    }

    fn replay(&mut self, place: u64, mut body: Bytes) {
        match body.get_u8() {
            ENTRY => self.push(codec::entry(&mut body), place),
            VOTE => self.vote = Some(codec::vote(&mut body)),
            TRUNCATE => self.truncate(body.get_u64_le(), codec::last(&mut body)),
            kind => panic!("no record of the log is of kind {kind}"),
        }
    }
}

fn size(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        Payload::Normal(data) => data.0.len(),
        _ => 0,
    };
    ENTRY_BYTES + payload
}

impl LogStore {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut log = Log::default();
        let wal = Wal::open(path, |place, body| log.replay(place, body))?;
        Ok(Self { log: Arc::new(Mutex::new(log)), wal })
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("a panic ends the process")
    }

    fn read(&self, begin: u64, end: u64, most_bytes: usize) -> io::Result<Vec<Entry>> {
        let log = self.log();
        let end = end.min(log.places.len() as u64);
        let cache_begin = log.cache_begin();
        let mut entries = Vec::with_capacity(end.saturating_sub(begin) as usize);
        let mut bytes = 0;
        for index in begin..end {
            let entry = match index.checked_sub(cache_begin) {
                Some(at) => log.cache[at as usize].clone(),
                None => {
                    let mut body = self.wal.read(log.places[index as usize])?;
                    body.advance(1);
                    codec::entry(&mut body)
                }
            };
            bytes += size(&entry);
            if bytes > most_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let begin = match range.start_bound() {
            Bound::Included(&index) => index,
            Bound::Excluded(&index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&index) => index + 1,
            Bound::Excluded(&index) => index,
            Bound::Unbounded => u64::MAX,
        };
        self.read(begin, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, begin: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(begin, end, MESSAGE_BYTES)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log().vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        Ok(LogState { last_purged_log_id: None, last_log_id: self.log().last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    /// Returns when the vote is durable.
    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (flushed, durable) = Types::oneshot();
        self.wal.append(IOFlushed::signal(flushed), |batch| {
            batch.record(|body| {
                body.put_u8(VOTE);
                codec::put_vote(body, vote);
            });
        });
        self.log().vote = Some(*vote);
        durable.await.expect("the flushing thread lives as long as the process")
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut log = self.log();
        self.wal.append(flushed, |batch| {
            for entry in entries {
                let place = batch.record(|body| {
                    body.put_u8(ENTRY);
                    codec::put_entry(body, &entry);
                });
                log.push(entry, place);
            }
        });
        Ok(())
    }

    /// Durable with what is appended next, which is all that depends on it.
    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let end = last.map_or(0, |id| id.index + 1);
        let mut log = self.log();
        self.wal.append(IOFlushed::noop(), |batch| {
            batch.record(|body| {
                body.put_u8(TRUNCATE);
                body.put_u64_le(end);
                codec::put_last(body, last);
            });
        });
        log.truncate(end, last);
        Ok(())
    }

    async fn purge(&mut self, _: LogId) -> io::Result<()> {
        Err(io::Error::other("without snapshots nothing is purged"))
    }
}
