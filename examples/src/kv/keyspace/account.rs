//! Who uses how much memory.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes of the keys and values of a shard's groups, with what it takes to keep them.
#[derive(Clone, Debug, Default)]
pub struct Account(Rc<Cell<usize>>);

impl Account {
    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.get()
    }
}

/// What one of those who share an account uses. It is given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Charge {
    account: Account,
    bytes: usize,
}

impl Charge {
    pub(super) fn to(account: Account) -> Self {
        Self { account, bytes: 0 }
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What took so many bytes before takes so many now.
    pub(super) fn exchange(&mut self, before: usize, now: usize) {
        self.bytes = self.bytes + now - before;
        self.account.0.set(self.account.0.get() + now - before);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.exchange(self.bytes, 0);
    }
}
