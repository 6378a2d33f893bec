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
    /// Groups that staged something in the newest batch that holds anything, and that batch.
    newest: (Seq, Vec<u32>),
    /// The same of the batches before it, in order.
    earlier: VecDeque<(Seq, Vec<u32>)>,
    /// Memory for the list of another batch.
    spare: Vec<u32>,
}

impl Durability {
    /// Holds a message until batch `seq` is durable.
    pub(super) fn hold(&mut self, seq: Seq, held: Held) {
        self.held.entry(seq).or_default().push(held);
    }

    /// Notes that `slot` staged something in batch `seq`, the newest there is.
    #[inline]
    pub(super) fn watch(&mut self, seq: Seq, slot: u32) {
        if self.newest.0 != seq {
            self.begin(seq);
        }
        let slots = &mut self.newest.1;
        if slots.last() != Some(&slot) {
            slots.push(slot);
        }
    }

    fn begin(&mut self, seq: Seq) {
        debug_assert!(self.newest.0 < seq);
        let next = (seq, std::mem::take(&mut self.spare));
        let before = std::mem::replace(&mut self.newest, next);
        if before.1.is_empty() {
            self.keep(before.1);
        } else {
            self.earlier.push_back(before);
        }
    }

    /// The groups that staged something in the next batch, if that is one up to `durable`.
    pub(super) fn next_durable(&mut self, durable: Seq) -> Option<Vec<u32>> {
        if let Some((seq, _)) = self.earlier.front() {
            let is_durable = *seq <= durable;
            return if is_durable {
                self.earlier.pop_front().map(|(_, slots)| slots)
            } else {
                None
            };
        }
        let (seq, slots) = &mut self.newest;
        (*seq <= durable && !slots.is_empty()).then(|| std::mem::take(slots))
    }

    /// Keeps the memory of a list that was worked off.
    pub(super) fn keep(&mut self, mut slots: Vec<u32>) {
        slots.clear();
        self.spare = slots;
    }

    /// Forgets a group that is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        for (_, slots) in self.earlier.iter_mut().chain([&mut self.newest]) {
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
