//! What waits for the log: messages that must not leave before the state that they speak of is
//! durable, and groups to be told when their entries are.

use std::collections::{BTreeMap, VecDeque};

use ringleader_wal::{NodeId, Seq};

use crate::raft::message::Message;

/// A message held back.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) slot: u32,
    pub(super) to: NodeId,
    pub(super) message: Message,
}

#[derive(Debug, Default)]
pub(super) struct Durability {
    held: BTreeMap<Seq, Vec<Held>>,
    /// Groups that staged something, in the order of the batches.
    watching: VecDeque<(Seq, u32)>,
}

impl Durability {
    /// Holds a message until batch `seq` is durable.
    pub(super) fn hold(&mut self, seq: Seq, held: Held) {
        self.held.entry(seq).or_default().push(held);
    }

    /// Notes that `slot` staged something in batch `seq`, the newest there is.
    pub(super) fn watch(&mut self, seq: Seq, slot: u32) {
        debug_assert!(self.watching.back().is_none_or(|(last, _)| *last <= seq));
        if self.watching.back() != Some(&(seq, slot)) {
            self.watching.push_back((seq, slot));
        }
    }

    /// The next group that staged something in a batch up to `durable`.
    pub(super) fn next_durable(&mut self, durable: Seq) -> Option<u32> {
        match self.watching.front() {
            Some(&(seq, slot)) if seq <= durable => {
                self.watching.pop_front();
                Some(slot)
            }
            _ => None,
        }
    }

    /// The group so many places behind the next one.
    pub(super) fn later(&self, places: usize) -> Option<u32> {
        self.watching.get(places - 1).map(|(_, slot)| *slot)
    }

    /// Forgets a group that is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        self.watching.retain(|(_, watching)| *watching != slot);
        self.held.values_mut().for_each(|held| held.retain(|held| held.slot != slot));
    }

    /// The messages that may leave now that `durable` is.
    pub(super) fn release(&mut self, durable: Seq) -> Vec<Held> {
        let mut released = Vec::new();
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() > durable {
                break;
            }
            released.append(&mut entry.remove());
        }
        released
    }
}
