//! Applying what is committed: from memory as a rule, from the log after a restart.

use ringleader_wal::{Block, LogIndex, NodeId, ReadError, ReadId};

use super::group::Visit;
use super::log_reads::LogRead;
use super::{Shard, State};
use crate::time::Time;

/// Whom a read of the log is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReadFor {
    /// A peer that lags behind what is in memory.
    Peer { slot: u32, peer: NodeId, from: LogIndex },
    /// The state machine.
    Apply { slot: u32 },
    /// A caller.
    Caller(LogRead),
}

impl Shard {
    /// Applies what is committed, each group within its budget; true when some group has more.
    pub(super) fn apply_committed(&mut self) -> bool {
        if !matches!(self.state, State::Running) {
            return false;
        }
        let budget = self.config.limits.apply_bytes;
        let mut applying = std::mem::take(&mut self.applying);
        let mut applied = 0;
        for (at, &slot) in applying.iter().enumerate() {
            self.approach(Visit::Apply, |places| applying.get(at + places).copied());
            let group = &mut self.groups[slot as usize];
            group.apply_queued = false;
            let before = group.raft.applied_index();
            let load = group.apply_next(budget, &mut self.replies, &mut self.effects.answers);
            applied += group.raft.applied_index().0 - before.0;
            if let Some(from) = load {
                let id = self.wal.read(group.id, from, budget);
                self.reads.insert(id, ReadFor::Apply { slot });
                self.counters.apply_reads += 1;
            }
            self.queue_apply(slot);
        }
        self.counters.apply_calls += applying.len() as u64;
        self.counters.entries_applied += applied;
        applying.clear();
        let more = !self.applying.is_empty();
        applying.append(&mut self.applying);
        self.applying = applying;
        more
    }

    pub(super) fn queue_apply(&mut self, slot: u32) {
        let group = &mut self.groups[slot as usize];
        if group.wants_apply() {
            group.apply_queued = true;
            self.applying.push(slot);
        }
    }

    /// Entries were read from the log.
    pub(super) fn on_loaded(
        &mut self,
        now: Time,
        id: ReadId,
        result: Result<Vec<Block>, ReadError>,
    ) {
        let Some(read) = self.reads.remove(&id) else { return };
        if !matches!(self.state, State::Running) {
            return;
        }
        match (read, result) {
            (ReadFor::Peer { slot, peer, from }, Ok(blocks)) => {
                self.call(slot, |raft, out| raft.on_loaded(now, peer, from, blocks, out));
            }
            (ReadFor::Apply { slot }, Ok(blocks)) => {
                self.apply_loaded(slot, &blocks);
                self.queue_apply(slot);
            }
            (ReadFor::Caller(read), result) => self.on_log_read(read, result),
            // The entries were truncated or released while they were read: the protocol has moved
            // on, and asks again if it still wants something.
            (
                ReadFor::Peer { slot, peer, .. },
                Err(ReadError::Beyond { .. } | ReadError::Released { .. }),
            ) => self.groups[slot as usize].raft.on_load_failed(peer),
            // A snapshot was installed while they were read.
            (ReadFor::Apply { slot }, Err(ReadError::Released { .. })) => {
                self.apply_loaded(slot, &[]);
                self.queue_apply(slot);
            }
            // Entries that cannot be read back are lost to this node: it must not go on as if it
            // had them.
            (_, Err(error)) => self.fail(error.to_string()),
        }
    }

    fn apply_loaded(&mut self, slot: u32, blocks: &[Block]) {
        let group = &mut self.groups[slot as usize];
        let before = group.raft.applied_index();
        group.apply_loaded(blocks, &mut self.replies, &mut self.effects.answers);
        self.counters.apply_calls += 1;
        self.counters.entries_applied += group.raft.applied_index().0 - before.0;
    }
}
