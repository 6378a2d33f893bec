//! Applying what is committed: from memory as a rule, from the log after a restart.

use ringleader_wal::{Block, LogIndex, NodeId, ReadError, ReadId};

use super::{Shard, State};
use crate::raft::Committed;
use crate::state_machine::Portion;
use crate::time::Time;

/// Whom a read of the log is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReadFor {
    /// A peer that lags behind what is in memory.
    Peer { slot: u32, peer: NodeId, from: LogIndex },
    /// The state machine.
    Apply { slot: u32 },
}

impl Shard {
    /// Applies what is committed, each group within its budget; true when some group has more.
    pub(super) fn apply_committed(&mut self) -> bool {
        if !matches!(self.state, State::Running) {
            return false;
        }
        let mut portions = Vec::new();
        for slot in std::mem::take(&mut self.applying) {
            let budget = self.config.limits.apply_bytes;
            let group = &mut self.groups[slot as usize];
            group.apply_queued = false;
            match group.raft.next_committed(budget) {
                Committed::Nothing => {}
                Committed::Blocks(blocks) => {
                    portions.extend(blocks.map(|(block, first, last)| Portion {
                        block: block.clone(),
                        first,
                        last,
                    }));
                    group.apply(&mut portions, &mut self.replies, &mut self.effects.answers);
                }
                Committed::Load { from, .. } => {
                    group.loading = true;
                    let id = self.wal.read(group.id, from, budget);
                    self.reads.insert(id, ReadFor::Apply { slot });
                }
            }
            self.queue_apply(slot);
        }
        !self.applying.is_empty()
    }

    fn queue_apply(&mut self, slot: u32) {
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
                let raft = &mut self.groups[slot as usize].raft;
                raft.on_loaded(now, peer, from, &blocks, &mut self.output);
                self.absorb(slot);
            }
            (ReadFor::Apply { slot }, Ok(blocks)) => {
                self.apply_loaded(slot, blocks);
                self.queue_apply(slot);
            }
            // Entries that cannot be read back are lost to this node: it must not go on as if it
            // had them.
            (_, Err(error)) => self.fail(error.to_string()),
        }
    }

    fn apply_loaded(&mut self, slot: u32, blocks: Vec<Block>) {
        let group = &mut self.groups[slot as usize];
        group.loading = false;
        let commit = group.raft.commit_index();
        let applied = group.raft.applied_index();
        let portion = |block: Block| {
            let first = block.first_index().max(applied.next());
            let last = block.last_index().min(commit);
            (first <= last).then_some(Portion { block, first, last })
        };
        let mut portions: Vec<Portion> = blocks.into_iter().filter_map(portion).collect();
        group.apply(&mut portions, &mut self.replies, &mut self.effects.answers);
    }
}
