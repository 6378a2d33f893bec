//! Who uses how much memory.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes that several things of one thread take together.
#[derive(Clone, Debug, Default)]
pub struct Account(Rc<Cell<usize>>);

impl Account {
    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.get()
    }
}

/// What one of those who share an account uses. It is given back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    account: Account,
    bytes: usize,
}

impl Charge {
    pub(crate) fn to(account: Account) -> Self {
        Self { account, bytes: 0 }
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// It takes so many bytes now.
    pub(crate) fn set(&mut self, now: usize) {
        self.exchange(self.bytes, now);
    }

    /// What took so many bytes before takes so many now.
    pub(crate) fn exchange(&mut self, before: usize, now: usize) {
        self.bytes = self.bytes + now - before;
        self.account.0.set(self.account.0.get() + now - before);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}
