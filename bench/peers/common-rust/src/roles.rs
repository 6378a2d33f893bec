//! Who leads which group, as this node knows it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Stands for no node.
const NOBODY: u64 = 0;

/// The leaders of all groups, which count from 0 here.
#[derive(Debug)]
pub struct Roles {
    id: u64,
    leaders: Vec<AtomicU64>,
    changes: AtomicU64,
}

impl Roles {
    pub(crate) fn new(id: u64, groups: usize) -> Self {
        let leaders = (0..groups).map(|_| AtomicU64::new(NOBODY)).collect();
        Self { id, leaders, changes: AtomicU64::new(0) }
    }

    /// Notes a group's leader. Cheap when nothing changed.
    pub fn set(&self, group: usize, leader: Option<u64>) {
        let leader = leader.unwrap_or(NOBODY);
        if self.leaders[group].swap(leader, Ordering::Relaxed) != leader {
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// Rises with every change.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The groups that this node leads.
    pub(crate) fn led(&self) -> Vec<usize> {
        let ours = |(group, leader): (usize, &AtomicU64)| {
            (leader.load(Ordering::Relaxed) == self.id).then_some(group)
        };
        self.leaders.iter().enumerate().filter_map(ours).collect()
    }

    /// How many groups have a leader.
    pub(crate) fn known(&self) -> usize {
        self.leaders.iter().filter(|leader| leader.load(Ordering::Relaxed) != NOBODY).count()
    }
}
