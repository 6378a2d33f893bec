//! The replicated state machine of the benchmark, and where its leaders are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringleader::{Entries, MachineError, Replies, SnapshotSource, StateMachine, Term};

use crate::image::{Image, Restoring};
use crate::ledger::Ledger;
use crate::load::Routing;

/// Keeps account of what one group applied on this node.
pub(crate) struct Machine {
    pub(crate) ledger: Ledger,
    restoring: Restoring,
    /// Bytes of a snapshot, at least.
    snapshot_bytes: u64,
    index: usize,
    roles: Arc<Roles>,
}

impl Machine {
    /// The state machine of the group at `index` (counted from zero).
    pub(crate) fn new(index: usize, snapshot_bytes: u64, roles: Arc<Roles>) -> Self {
        let (ledger, restoring) = (Ledger::default(), Restoring::default());
        Self { ledger, restoring, snapshot_bytes, index, roles }
    }
}

impl StateMachine for Machine {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        self.ledger.apply(entries.iter().map(|entry| (entry.index.0, entry.payload)));
    }

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        Some(Box::new(Image::of(&self.ledger, self.snapshot_bytes)))
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        self.restoring.take(chunk);
        Ok(())
    }

    fn restored(&mut self) -> Result<(), MachineError> {
        self.ledger = self.restoring.finish()?;
        Ok(())
    }

    fn leader_start(&mut self, _: Term) {
        self.roles.set(self.index, true);
    }

    fn leader_stop(&mut self, _: Term) {
        self.roles.set(self.index, false);
    }
}

/// Which groups this node leads, as the load generators in the same process see it.
pub(crate) struct Roles {
    leads: Vec<AtomicBool>,
    changes: AtomicU64,
}

impl Roles {
    /// A node that leads none of its groups.
    pub(crate) fn new(groups: usize) -> Self {
        let leads = (0..groups).map(|_| AtomicBool::new(false)).collect();
        Self { leads, changes: AtomicU64::new(1) }
    }

    fn set(&self, index: usize, leads: bool) {
        self.leads[index].store(leads, Ordering::Release);
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl Routing for Arc<Roles> {
    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    fn mine(&self, index: usize) -> bool {
        self.leads[index].load(Ordering::Acquire)
    }

    fn not_leader(&self, _: usize, _: Option<u64>) {
        // The state machine hears of the new leader, or of a new term of this one.
    }
}
