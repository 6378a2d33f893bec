//! What was acknowledged to the callers of a cluster, and when.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Shared by the readers of all nodes' output.
#[derive(Default)]
pub struct Ledger {
    account: Mutex<Account>,
    more: Condvar,
}

#[derive(Default)]
struct Account {
    acked: BTreeSet<u64>,
    latest: Option<Instant>,
    longest_pause: Duration,
}

impl Ledger {
    /// These were acknowledged just now.
    ///
    /// # Panics
    /// When one of them was before.
    pub fn ack(&self, numbers: impl Iterator<Item = u64>) {
        let mut account = self.account.lock().expect("nobody panics with it");
        let now = Instant::now();
        let pause = account.latest.map_or(Duration::ZERO, |latest| now - latest);
        account.longest_pause = account.longest_pause.max(pause);
        account.latest = Some(now);
        for number in numbers {
            assert!(account.acked.insert(number), "{number} was acknowledged twice");
        }
        drop(account);
        self.more.notify_all();
    }

    /// Waits until `count` more were acknowledged.
    ///
    /// # Panics
    /// When none is for longer than `bound`.
    pub fn wait_for(&self, count: usize, bound: Duration) {
        let mut account = self.account.lock().expect("nobody panics with it");
        let enough = account.acked.len() + count;
        while account.acked.len() < enough {
            let before = account.acked.len();
            let result = self
                .more
                .wait_timeout_while(account, bound, |account| account.acked.len() == before);
            let (guard, timeout) = result.expect("nobody panics with it");
            assert!(!timeout.timed_out(), "nothing was acknowledged for {bound:?}");
            account = guard;
        }
    }

    /// The longest time between two acknowledgements since this was last asked.
    pub fn longest_pause(&self) -> Duration {
        let mut account = self.account.lock().expect("nobody panics with it");
        std::mem::take(&mut account.longest_pause)
    }

    /// All that was acknowledged.
    pub fn acked(&self) -> BTreeSet<u64> {
        self.account.lock().expect("nobody panics with it").acked.clone()
    }
}
