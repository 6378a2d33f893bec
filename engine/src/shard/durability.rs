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
    /// Groups that staged something, by batch.
    watching: VecDeque<(Seq, Vec<u32>)>,
    /// Memory for the list of another batch.
    spare: Vec<u32>,
}

impl Durability {
    /// Holds a message until batch `seq` is durable.
    pub(super) fn hold(&mut self, seq: Seq, held: Held) {
        self.held.entry(seq).or_default().push(held);
    }

    /// Notes that `slot` staged something in batch `seq`, the newest there is.
    pub(super) fn watch(&mut self, seq: Seq, slot: u32) {
        debug_assert!(self.watching.back().is_none_or(|(last, _)| *last <= seq));
        match self.watching.back_mut() {
            Some((last, slots)) if *last == seq => {
                if slots.last() != Some(&slot) {
                    slots.push(slot);
                }
            }
            _ => {
                let mut slots = std::mem::take(&mut self.spare);
                slots.push(slot);
                self.watching.push_back((seq, slots));
            }
        }
    }

    /// The groups that staged something in the next batch, if that is one up to `durable`.
    pub(super) fn next_durable(&mut self, durable: Seq) -> Option<Vec<u32>> {
        let (seq, _) = self.watching.front()?;
        if *seq <= durable { self.watching.pop_front().map(|(_, slots)| slots) } else { None }
    }

    /// Keeps the memory of a list that was worked off.
    pub(super) fn keep(&mut self, mut slots: Vec<u32>) {
        slots.clear();
        self.spare = slots;
    }

    /// Forgets a group that is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        for (_, slots) in &mut self.watching {
            slots.retain(|watching| *watching != slot);
        }
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
