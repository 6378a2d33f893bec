//! The state machine of a group: log entries in, replies out.
//!
//! Connections of the group's shard read the very same keyspace, through its [`Replica`]: both live
//! on one thread. When they may is the engine's business (`Queue::push_read`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ringleader::{
    Entries, Entry, MachineError, NodeId, Replies, SnapshotSource, StateMachine, Term,
};
use smallvec::SmallVec;

use super::account::Account;
use super::execute::execute;
use super::keyspace::{Keyspace, Restoration, SnapshotView};
use super::operation::{LogEntry, TOGETHER, is_read};
use super::resp::reply;

/// A group's keyspace as the connections of its shard see it. It outlives the state machines: a
/// snapshot from the leader comes into a new one, which takes the old one's place at the end.
#[derive(Debug)]
pub struct Replica {
    account: Account,
    current: RefCell<Rc<RefCell<Keyspace>>>,
    /// Somebody else leads.
    follows: Cell<bool>,
    /// Something came while somebody else led.
    has_followed: Cell<bool>,
}

impl Replica {
    /// Without any keys yet; what they will take is counted in `account`.
    #[must_use]
    pub fn new(account: Account) -> Rc<Self> {
        let keyspace = Rc::new(RefCell::new(Keyspace::new(account.clone())));
        let current = RefCell::new(keyspace);
        Rc::new(Self { account, current, follows: Cell::default(), has_followed: Cell::default() })
    }

    /// Whether this process has had something of the group while another node led it, and so knows
    /// the group's clock from one that went on.
    #[must_use]
    pub fn has_followed(&self) -> bool {
        self.has_followed.get()
    }

    fn note(&self) {
        self.has_followed.set(self.has_followed.get() || self.follows.get());
    }

    /// Looks at the keys.
    pub fn with<T>(&self, look: impl FnOnce(&Keyspace) -> T) -> T {
        look(&self.current.borrow().borrow())
    }
}

/// This node's office in a group, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Office {
    /// It leads in this term.
    Leads(Term),
    /// It follows this node.
    Follows(NodeId),
    /// It knows no leader.
    Vacant,
}

/// What is replicated: the keys of one group.
pub struct KvMachine {
    replica: Rc<Replica>,
    keyspace: Rc<RefCell<Keyspace>>,
    restoration: Option<Restoration>,
    on_office: Box<dyn Fn(Office)>,
    reply: Vec<u8>,
}

impl KvMachine {
    /// A machine in its initial state. `replica` shows its keys, unless it is a machine that restores
    /// a snapshot while another one serves: from the end of that on. `on_office` is told of every
    /// change of this node's office in the group.
    #[must_use]
    pub fn new(replica: Rc<Replica>, on_office: Box<dyn Fn(Office)>) -> Self {
        let keyspace = Rc::new(RefCell::new(Keyspace::new(replica.account.clone())));
        // A machine that serves holds the keyspace that is shown.
        let serves = Rc::strong_count(&replica.current.borrow()) > 1;
        if !serves {
            replica.current.replace(Rc::clone(&keyspace));
        }
        Self { replica, keyspace, restoration: None, on_office, reply: Vec::new() }
    }

    /// Applies one entry of the log and leaves the answer in `out`. Without `wanted`, what changes
    /// nothing is not done, but for its clock.
    pub fn apply_one(&mut self, entry: &[u8], wanted: bool, out: &mut Vec<u8>) {
        self.apply_decoded(entry, LogEntry::decode(entry).as_ref(), wanted, out);
    }

    fn apply_decoded(
        &mut self,
        entry: &[u8],
        decoded: Option<&LogEntry<'_>>,
        wanted: bool,
        out: &mut Vec<u8>,
    ) {
        let mut keys = self.keyspace.borrow_mut();
        let Some(LogEntry { now, operation }) = decoded else {
            reply::error(out, "ERR an operation that this server does not know");
            return;
        };
        keys.advance(*now);
        self.replica.note();
        if wanted || !is_read(entry) {
            execute(&mut keys, operation, out);
        }
    }
}

impl StateMachine for KvMachine {
    fn apply(&mut self, entries: &Entries<'_>, replies: &mut Replies) {
        let wanted = replies.wanted();
        let mut reply = std::mem::take(&mut self.reply);
        let mut batch = SmallVec::<[_; TOGETHER]>::new();
        let mut apply = |batch: &mut SmallVec<[(Entry<'_>, Option<LogEntry<'_>>); TOGETHER]>| {
            let operations = batch.iter().filter_map(|(_, decoded)| decoded.as_ref());
            let names = operations.filter_map(|decoded| decoded.operation.key());
            self.keyspace.borrow().prefetch(names);
            for (entry, decoded) in batch.drain(..) {
                reply.clear();
                self.apply_decoded(entry.payload, decoded.as_ref(), wanted, &mut reply);
                replies.push(entry.index, &reply);
            }
        };
        entries.iter().for_each(|entry| {
            batch.push((entry, LogEntry::decode(entry.payload)));
            if batch.len() == TOGETHER {
                apply(&mut batch);
            }
        });
        apply(&mut batch);
        self.reply = reply;
        // One reply of many megabytes must not stay for ever.
        if self.reply.capacity() > 1 << 20 {
            self.reply = Vec::new();
        }
    }

    fn leader_start(&mut self, term: Term) {
        (self.on_office)(Office::Leads(term));
    }

    fn leader_stop(&mut self, _term: Term) {
        (self.on_office)(Office::Vacant);
    }

    fn follow_start(&mut self, leader: NodeId, _term: Term) {
        self.replica.follows.set(true);
        (self.on_office)(Office::Follows(leader));
    }

    fn follow_stop(&mut self, _leader: NodeId, _term: Term) {
        self.replica.follows.set(false);
        (self.on_office)(Office::Vacant);
    }

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        Some(Box::new(SnapshotView::of(&self.keyspace)))
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        let restoration = self.restoration.get_or_insert_default();
        restoration.take(&mut self.keyspace.borrow_mut(), chunk)
    }

    fn restored(&mut self) -> Result<(), MachineError> {
        let missing = || MachineError("a snapshot without chunks".into());
        self.restoration.take().ok_or_else(missing)?.finish()?;
        self.replica.current.replace(Rc::clone(&self.keyspace));
        self.replica.note();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
