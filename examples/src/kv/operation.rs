//! What can be done to a group's keys, and how it stands in the log.
//!
//! An entry is six bytes of the proposer's clock (milliseconds since the epoch, little-endian), a
//! code, and the operation's fields in order: numbers as LEB128, byte strings with their length.
//! Lists go to the end of the entry. What does not decode has no effect on any replica.

mod encoding;

use smallvec::SmallVec;

use super::wire::Reader;

/// Bytes before the code.
const CLOCK_BYTES: usize = 6;

/// Byte strings, most often one.
pub type List<'a> = SmallVec<[&'a [u8]; 4]>;

/// When a key that is set or changed is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// When it would have gone anyway.
    Keep,
    /// After so many milliseconds; not zero.
    In(u64),
}

/// What must hold for [`Operation::Set`] to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition<'a> {
    /// Nothing.
    Always,
    /// The key is not there.
    Absent,
    /// The key is there.
    Present,
    /// The key has this value.
    Equal(&'a [u8]),
}

/// What must hold for [`Operation::Expire`] to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpireCondition {
    /// Nothing.
    Always,
    /// It has no deadline.
    Mortal(bool),
    /// The new deadline is later (`true`) or earlier than the present one. None is the latest.
    Later(bool),
}

/// The keys of one slot between two bounds. An empty `end` is the end of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval<'a> {
    /// Whose slot it is.
    pub slot: u16,
    /// The first key.
    pub start: &'a [u8],
    /// Behind the last key.
    pub end: &'a [u8],
    /// Keys, at most.
    pub limit: u64,
}

/// One step of an iteration over a group's keys in the order of their hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanStep<'a> {
    /// The first place.
    pub place: u64,
    /// Keys to look at, about.
    pub count: u64,
    /// What keys must match.
    pub pattern: &'a [u8],
    /// What their type's name must be; empty for all.
    pub kind: &'a [u8],
}

/// What can be done to a group's keys. All keys of one operation are in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the commands in `command`")]
pub enum Operation<'a> {
    // Reads.
    Get {
        key: &'a [u8],
    },
    Length {
        key: &'a [u8],
    },
    GetRange {
        key: &'a [u8],
        start: i64,
        end: i64,
    },
    Exists {
        keys: List<'a>,
    },
    GetMany {
        keys: List<'a>,
    },
    TimeToLive {
        key: &'a [u8],
        seconds: bool,
    },
    Type {
        key: &'a [u8],
    },
    Range {
        interval: Interval<'a>,
        reverse: bool,
        values: bool,
    },
    Scan(ScanStep<'a>),
    Count,
    Random {
        place: u64,
    },
    LockState {
        key: &'a [u8],
    },
    SequenceState {
        key: &'a [u8],
    },
    // Writes.
    Set {
        key: &'a [u8],
        value: &'a [u8],
        condition: Condition<'a>,
        expiry: Expiry,
        get: bool,
    },
    /// Answers with an integer whether it was set.
    SetIfAbsent {
        key: &'a [u8],
        value: &'a [u8],
    },
    /// Keys and values, one after the other; all of them or, if one of the keys is there and
    /// `absent` is wanted, none.
    SetMany {
        pairs: List<'a>,
        absent: bool,
    },
    /// Keys, expected values and new ones, one after the other: all are set if all are as expected.
    CompareAndSet {
        triples: List<'a>,
    },
    GetDelete {
        key: &'a [u8],
    },
    GetExpire {
        key: &'a [u8],
        expiry: Expiry,
    },
    Append {
        key: &'a [u8],
        value: &'a [u8],
    },
    Add {
        key: &'a [u8],
        delta: i64,
    },
    Delete {
        keys: List<'a>,
    },
    /// Deletes the key if it has this value.
    DeleteIfEqual {
        key: &'a [u8],
        value: &'a [u8],
    },
    Expire {
        key: &'a [u8],
        millis: i64,
        condition: ExpireCondition,
    },
    Persist {
        key: &'a [u8],
    },
    DeleteRange {
        interval: Interval<'a>,
    },
    Acquire {
        key: &'a [u8],
        owner: &'a [u8],
        lease: u64,
    },
    Renew {
        key: &'a [u8],
        token: u64,
        lease: u64,
    },
    Release {
        key: &'a [u8],
        token: u64,
    },
    Next {
        key: &'a [u8],
        count: u64,
    },
    Clear,
    /// Nothing but the clock.
    Tick,
}

/// Operations whose keys' memory is asked for together, before the first of them is done.
pub(crate) const TOGETHER: usize = 16;

impl<'a> Operation<'a> {
    /// A key that it looks up, if it names one.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        match self {
            Self::Get { key }
            | Self::Length { key }
            | Self::GetRange { key, .. }
            | Self::TimeToLive { key, .. }
            | Self::Type { key }
            | Self::LockState { key }
            | Self::SequenceState { key }
            | Self::Set { key, .. }
            | Self::SetIfAbsent { key, .. }
            | Self::GetDelete { key }
            | Self::GetExpire { key, .. }
            | Self::Append { key, .. }
            | Self::Add { key, .. }
            | Self::DeleteIfEqual { key, .. }
            | Self::Expire { key, .. }
            | Self::Persist { key }
            | Self::Acquire { key, .. }
            | Self::Renew { key, .. }
            | Self::Release { key, .. }
            | Self::Next { key, .. } => Some(key),
            Self::Exists { keys: list }
            | Self::GetMany { keys: list }
            | Self::Delete { keys: list }
            | Self::SetMany { pairs: list, .. }
            | Self::CompareAndSet { triples: list } => list.first().copied(),
            Self::Range { .. }
            | Self::Scan(_)
            | Self::Count
            | Self::Random { .. }
            | Self::DeleteRange { .. }
            | Self::Clear
            | Self::Tick => None,
        }
    }
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry<'a> {
    /// The proposer's clock.
    pub now: u64,
    /// What is to be done.
    pub operation: Operation<'a>,
}

/// Whether an encoded operation changes nothing, whatever else it is: what nobody waits for need
/// not be done.
#[must_use]
pub(crate) fn is_read(entry: &[u8]) -> bool {
    entry.get(CLOCK_BYTES).is_some_and(|code| *code < encoding::FIRST_WRITE)
}

impl<'a> LogEntry<'a> {
    /// Appends the entry to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.now.to_le_bytes()[..CLOCK_BYTES]);
        self.operation.encode(out);
    }

    /// What [`encode`](Self::encode) wrote; `None` if it was something else.
    #[must_use]
    pub fn decode(entry: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(entry);
        let mut now = [0; 8];
        now[..CLOCK_BYTES].copy_from_slice(reader.take(CLOCK_BYTES).ok()?);
        let operation = Operation::read(&mut reader).ok()?;
        reader.end().ok()?;
        Some(Self { now: u64::from_le_bytes(now), operation })
    }
}
