//! A group's log as raft reads it: the newest entries in memory, all of them in raft-engine.

use std::collections::VecDeque;
use std::sync::Arc;

use protobuf::Message as _;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use raft_engine::{Engine, MessageExt};

/// The log begins after a snapshot of nothing at this index and term: raft takes a log that has
/// voters and no such snapshot for one that is not initialized.
const ORIGIN: u64 = 1;
/// Where raft-engine has a group's term and vote.
const HARD_STATE: &[u8] = b"hard state";
/// A cache of entries that some follower lacks may grow to this. Beyond, they are read from disk.
const MAX_CACHE_BYTES: usize = 64 << 20;

/// How raft-engine reads an entry's index.
pub(crate) struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// raft-engine's name for a group.
pub(crate) fn region(group: usize) -> u64 {
    group as u64 + 1
}

pub(crate) fn hard_state_record(state: &HardState) -> raft_engine::Result<(Vec<u8>, Vec<u8>)> {
    Ok((HARD_STATE.to_vec(), state.write_to_bytes()?))
}

pub(crate) struct Log {
    engine: Arc<Engine>,
    region: u64,
    initial: RaftState,
    /// The log's end, without gaps; what is not here is in the engine.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    /// Index and term.
    last: (u64, u64),
}

impl Log {
    pub(crate) fn open(
        engine: Arc<Engine>,
        group: usize,
        voters: Vec<u64>,
    ) -> raft_engine::Result<Self> {
        let region = region(group);
        let origin = HardState { term: ORIGIN, commit: ORIGIN, ..HardState::default() };
        let hard_state = engine.get_message(region, HARD_STATE)?.unwrap_or(origin);
        let conf_state = ConfState { voters, ..ConfState::default() };
        let last = match engine.last_index(region) {
            Some(index) => engine.get_entry::<Entries>(region, index)?,
            None => None,
        };
        Ok(Self {
            engine,
            region,
            initial: RaftState { hard_state, conf_state },
            cache: VecDeque::new(),
            cache_bytes: 0,
            last: last.map_or((ORIGIN, ORIGIN), |entry| (entry.index, entry.term)),
        })
    }

    /// Appends entries, which take the place of others from the first one's index on.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        while self.cache.back().is_some_and(|entry| entry.index >= first.index) {
            self.cache_bytes -= self.cache.pop_back().map_or(0, |entry| entry.data.len());
        }
        self.cache.extend(entries.iter().cloned());
        self.cache_bytes += entries.iter().map(|entry| entry.data.len()).sum::<usize>();
        self.last = (last.index, last.term);
    }

    /// Forgets entries up to `everywhere`, which all replicas have; and up to `applied` when too
    /// many are kept for a follower that lags. Both are in the engine.
    pub(crate) fn trim(&mut self, everywhere: u64, applied: u64) {
        while let Some(entry) = self.cache.front()
            && (entry.index <= everywhere
                || (entry.index <= applied && self.cache_bytes > MAX_CACHE_BYTES))
        {
            self.cache_bytes -= entry.data.len();
            self.cache.pop_front();
        }
    }

    fn cache_begin(&self) -> u64 {
        self.cache.front().map_or(self.last.0 + 1, |entry| entry.index)
    }
}

fn storage_error(error: raft_engine::Error) -> raft::Error {
    raft::Error::Store(StorageError::Other(Box::new(error)))
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    /// May return less than asked for, which raft asks for again.
    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let max_size = max_size.into();
        let mut entries = Vec::new();
        let begin = self.cache_begin();
        if low < begin {
            let most = max_size.map(|size| size as usize);
            self.engine
                .fetch_entries_to::<Entries>(self.region, low, high.min(begin), most, &mut entries)
                .map_err(storage_error)?;
            return Ok(entries);
        }
        let mut left = max_size.unwrap_or(u64::MAX);
        for entry in self.cache.range((low - begin) as usize..(high - begin) as usize) {
            let size = u64::from(entry.compute_size());
            if size > left && !entries.is_empty() {
                break;
            }
            left = left.saturating_sub(size);
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let begin = self.cache_begin();
        if index == ORIGIN {
            Ok(ORIGIN)
        } else if index == self.last.0 {
            Ok(self.last.1)
        } else if index >= begin {
            let entry = self.cache.get((index - begin) as usize);
            entry.map(|entry| entry.term).ok_or(StorageError::Unavailable.into())
        } else {
            let entry = self.engine.get_entry::<Entries>(self.region, index);
            let entry = entry.map_err(storage_error)?.ok_or(StorageError::Unavailable)?;
            Ok(entry.term)
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(ORIGIN + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last.0)
    }

    /// The whole log is kept, so raft never needs one.
    fn snapshot(&self, _: u64, _: u64) -> raft::Result<Snapshot> {
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}
