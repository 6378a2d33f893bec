//! What is kept under a key.

use smallvec::SmallVec;

/// Bytes, in place up to 24 of them.
pub type Blob = SmallVec<[u8; 24]>;

/// A key and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Blob,
    /// What it has.
    pub value: Value,
    /// When it goes: milliseconds of the group's clock, or zero if never.
    pub deadline: u64,
}

/// What a key may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Bytes; numbers too, as text.
    String(Blob),
    /// The number that a sequence gives out next.
    Sequence(u64),
    /// A lock that somebody holds. The record's deadline is the end of the lease.
    Lock(Lock),
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The name that the holder gave itself.
    pub owner: Blob,
    /// The fencing token: greater than that of every holder before.
    pub token: u64,
}

impl Value {
    /// The name of its type, as `TYPE` has it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Sequence(_) => "sequence",
            Self::Lock(_) => "lock",
        }
    }
}

/// What a record takes beside the bytes of its key and value: its share of the table's pages and of the
/// tree's nodes, which are two thirds full on average, and of the allocator's.
const RECORD_BYTES: usize = 224;
const DEADLINE_BYTES: usize = 32;

impl Record {
    /// Whether it is there for whoever looks at this time.
    pub(super) fn is_alive(&self, clock: u64) -> bool {
        self.deadline == 0 || self.deadline > clock
    }

    /// Bytes that it takes, or somewhat less than are counted.
    #[must_use]
    pub(super) fn weight(&self) -> usize {
        let value = match &self.value {
            Value::String(bytes) => heap(bytes),
            Value::Sequence(_) => 0,
            Value::Lock(lock) => heap(&lock.owner),
        };
        let deadline = if self.deadline > 0 { DEADLINE_BYTES } else { 0 };
        // The key stands in both indices.
        RECORD_BYTES + 2 * heap(&self.key) + value + deadline
    }
}

fn heap(blob: &Blob) -> usize {
    if blob.spilled() { blob.capacity() } else { 0 }
}
