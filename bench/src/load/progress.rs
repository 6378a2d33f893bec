//! How far the loaders of a process are.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::control::Tally;

/// How far the loaders of a process are, for whoever watches.
#[derive(Default)]
pub(crate) struct Progress {
    acknowledged: AtomicU64,
    errors: AtomicU64,
    unknown: AtomicU64,
}

impl Progress {
    pub(super) fn publish(&self, now: &Tally, published: &mut Tally) {
        let add = |to: &AtomicU64, now, before| to.fetch_add(now - before, Ordering::Relaxed);
        add(&self.acknowledged, now.acknowledged, published.acknowledged);
        add(&self.errors, now.errors, published.errors);
        add(&self.unknown, now.unknown, published.unknown);
        *published = *now;
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            acknowledged: self.acknowledged.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            unknown: self.unknown.load(Ordering::Relaxed),
        }
    }
}
