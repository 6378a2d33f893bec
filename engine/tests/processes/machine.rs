//! What the nodes replicate: numbers, in the order in which they were applied.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ringleader::{Entries, MachineError, NodeId, Replies, SnapshotSource, StateMachine, Term};

/// What a machine was told of leaders: `+node@term` when one begins, `-node@term` when it ends.
pub type Told = Arc<Mutex<Vec<String>>>;

/// See the [module documentation](self).
pub struct Numbers {
    pub order: Vec<u64>,
    node: NodeId,
    told: Told,
}

impl Numbers {
    pub fn new(node: NodeId, told: Told) -> Self {
        Self { order: Vec::new(), node, told }
    }

    /// The number that an operation brings.
    pub fn of(payload: &[u8]) -> u64 {
        u64::from_le_bytes(payload[..8].try_into().expect("a number"))
    }

    fn note(&self, what: char, leader: NodeId, term: Term) {
        let line = format!("{what}{leader}@{term}");
        self.told.lock().expect("no panic under this lock").push(line);
    }
}

impl StateMachine for Numbers {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        self.order.extend(entries.iter().map(|entry| Self::of(entry.payload)));
    }

    fn leader_start(&mut self, term: Term) {
        self.note('+', self.node, term);
    }

    fn leader_stop(&mut self, term: Term) {
        self.note('-', self.node, term);
    }

    fn follow_start(&mut self, leader: NodeId, term: Term) {
        self.note('+', leader, term);
    }

    fn follow_stop(&mut self, leader: NodeId, term: Term) {
        self.note('-', leader, term);
    }

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        Some(Box::new(View::of(&self.order)))
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        self.order.extend(chunk.chunks(8).map(Self::of));
        Ok(())
    }
}

/// Numbers that go into a snapshot.
pub struct View(Bytes);

impl View {
    pub fn of(numbers: &[u64]) -> Self {
        Self(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }
}

impl SnapshotSource for View {
    fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>, MachineError> {
        let whole = self.0.len().min(max_bytes / 8 * 8);
        Ok((whole > 0).then(|| self.0.split_to(whole)))
    }
}
