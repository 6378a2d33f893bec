//! Committed entries on their way back to callers.

use ringleader_wal::{Block, GroupId, LogIndex, ReadError};

use super::apply::ReadFor;
use super::{Death, Shard, State};
use crate::error::ReadLogError;
use crate::read_log::LogPortion;

/// The answer to [`Shard::read_log`]: the caller's number, and what was read.
pub type LogAnswer = (u64, Result<LogPortion, ReadLogError>);

/// Reads under way at a time; each holds its portion in memory.
const READS: usize = 16;
/// Bytes of a portion, at most, but for its last block.
const PORTION_BYTES: usize = 4 << 20;

/// A read that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogRead {
    pub(super) name: u64,
    pub(super) group: GroupId,
    from: LogIndex,
    /// What was committed and durable when it was asked for.
    through: LogIndex,
}

impl Shard {
    /// Begins to read committed entries back from the log. The answer comes with the effects of a
    /// turn, under `name`.
    pub fn read_log(&mut self, name: u64, group: GroupId, from: LogIndex, max_bytes: usize) {
        match self.begin_log_read(name, group, from) {
            Ok(read) => {
                let id = self.wal.read(group, from, max_bytes.clamp(1, PORTION_BYTES));
                self.log_reads += 1;
                self.reads.insert(id, ReadFor::Caller(read));
            }
            Err(error) => self.effects.log_reads.push((name, Err(error))),
        }
    }

    fn begin_log_read(
        &self,
        name: u64,
        group: GroupId,
        from: LogIndex,
    ) -> Result<LogRead, ReadLogError> {
        self.check_runs(ReadLogError::Busy, ReadLogError::Stopped, ReadLogError::StorageFailed)?;
        let raft = self.raft(group).ok_or(ReadLogError::UnknownGroup(group))?;
        let status = raft.status();
        let (base, through) = (raft.base().index, status.commit.min(status.durable));
        if from <= base {
            return Err(ReadLogError::Compacted { first: base.next() });
        }
        if from > through {
            return Err(ReadLogError::Beyond { committed: through });
        }
        if self.log_reads >= READS {
            return Err(ReadLogError::Busy);
        }
        Ok(LogRead { name, group, from, through })
    }

    /// A caller's entries were read, or could not be.
    pub(super) fn on_log_read(&mut self, read: LogRead, result: Result<Vec<Block>, ReadError>) {
        let LogRead { name, group, from, through } = read;
        self.log_reads -= 1;
        let answer = match result {
            Ok(blocks) => portion(blocks, from, through),
            // A snapshot made the log shorter meanwhile.
            Err(ReadError::Released { .. } | ReadError::Beyond { .. }) => {
                let base = self.raft(group).map(|raft| raft.base().index);
                base.map(|base| base.next())
                    .ok_or(ReadLogError::UnknownGroup(group))
                    .and_then(|first| Err(ReadLogError::Compacted { first }))
            }
            Err(error) => {
                self.effects
                    .log_reads
                    .push((name, Err(ReadLogError::StorageFailed(error.to_string()))));
                return self.fail(error.to_string());
            }
        };
        self.effects.log_reads.push((name, answer));
    }

    /// Nobody gets entries any more.
    pub(super) fn give_up_log_reads(&mut self) {
        let error = match &self.state {
            State::Dead(Death::Storage(cause)) => ReadLogError::StorageFailed(cause.clone()),
            _ => ReadLogError::Stopped,
        };
        self.log_reads = 0;
        let effects = &mut self.effects;
        self.reads.retain(|_, read| {
            let ReadFor::Caller(LogRead { name, .. }) = *read else { return true };
            effects.log_reads.push((name, Err(error.clone())));
            false
        });
    }
}

fn portion(
    mut blocks: Vec<Block>,
    from: LogIndex,
    through: LogIndex,
) -> Result<LogPortion, ReadLogError> {
    blocks.retain(|block| block.last_index() >= from && block.first_index() <= through);
    let last = blocks.last().map(|block| block.last_index().min(through));
    match last {
        Some(last) => Ok(LogPortion::new(blocks, from, last)),
        None => Err(ReadLogError::Beyond { committed: through }),
    }
}
