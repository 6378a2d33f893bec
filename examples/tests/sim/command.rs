//! What callers ask for, small enough to be kept for a whole run, and how it is written as an operation
//! of the store.

use ringleader_examples::kv::operation::{
    Condition, ExpireCondition, Expiry, Interval, List, LogEntry, Operation, ScanStep,
};
use ringleader_examples::kv::slot::slot_of;

use crate::rng::mix;

/// The number of a key. Odd and even ones are in two slots.
pub(crate) type Key = u8;

/// The number of a value.
pub(crate) type Value = u64;

/// Hash tags, by the last bit of a key's number.
const TAGS: [char; 2] = ['a', 'b'];

/// A key as the store has it; within a slot in the order of the numbers.
pub(crate) fn key_bytes(key: Key) -> Vec<u8> {
    // Some are longer than what is kept in place.
    let rest = if key % 5 == 4 { "-which-is-a-rather-long-name" } else { "" };
    format!("{{{}}}{key:03}{rest}", TAGS[usize::from(key % 2)]).into_bytes()
}

/// The slot of the keys whose numbers end with this bit.
pub(crate) fn slot(odd: bool) -> u16 {
    slot_of(&key_bytes(odd.into()))
}

/// A value as the store has it: a number one time in three, for who adds to it.
pub(crate) fn value_bytes(value: Value) -> Vec<u8> {
    match value % 3 {
        0 => value.to_string().into_bytes(),
        _ => format!("v{value}{}", ".".repeat((mix(value) % 40) as usize)).into_bytes(),
    }
}

/// Who asks for a lock.
pub(crate) fn owner_bytes(owner: u32) -> Vec<u8> {
    let rest = if owner % 3 == 2 { "-on-a-machine-with-a-long-name" } else { "" };
    format!("caller-{owner}{rest}").into_bytes()
}

/// Some keys of one slot: `count` of them, from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Keys {
    pub(crate) first: Key,
    pub(crate) count: u8,
}

impl Keys {
    pub(crate) fn iter(self) -> impl Iterator<Item = Key> {
        (0..self.count).map(move |at| self.first + 2 * at)
    }
}

/// The keys of a slot from a first one to before an end, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    pub(crate) odd: bool,
    pub(crate) start: Key,
    pub(crate) end: Option<Key>,
    pub(crate) limit: u8,
}

impl Span {
    pub(crate) fn holds(self, key: Key) -> bool {
        let odd = key % 2 == 1;
        odd == self.odd && self.start <= key && self.end.is_none_or(|end| key < end)
    }
}

/// What must hold for a value to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum If {
    Always,
    Absent,
    Present,
    Equal(Value),
}

/// Names of types, as scans ask for them.
pub(crate) const KINDS: [&str; 4] = ["", "string", "lock", "sequence"];

/// What is asked for. As the store's operations have it, but for scans that go step by step, and for
/// keys that the store picks: what these answer depends on its hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Get(Key),
    Length(Key),
    GetRange(Key, i64, i64),
    Exists(Keys),
    GetMany(Keys),
    TimeToLive {
        key: Key,
        seconds: bool,
    },
    Type(Key),
    Range {
        span: Span,
        reverse: bool,
        values: bool,
    },
    /// By the place in [`KINDS`].
    Scan(usize),
    Count,
    LockState(Key),
    SequenceState(Key),
    Set {
        key: Key,
        value: Value,
        condition: If,
        expiry: Expiry,
        get: bool,
    },
    SetIfAbsent(Key, Value),
    SetMany {
        keys: Keys,
        value: Value,
        absent: bool,
    },
    CompareAndSet {
        keys: Keys,
        expected: Value,
        value: Value,
    },
    GetDelete(Key),
    GetExpire(Key, Expiry),
    Append(Key, Value),
    Add(Key, i64),
    Delete(Keys),
    DeleteIfEqual(Key, Value),
    Expire {
        key: Key,
        millis: i64,
        condition: ExpireCondition,
    },
    Persist(Key),
    DeleteRange(Span),
    Acquire {
        key: Key,
        owner: u32,
        lease: u64,
    },
    Renew {
        key: Key,
        token: u64,
        lease: u64,
    },
    Release {
        key: Key,
        token: u64,
    },
    Next {
        key: Key,
        count: u64,
    },
    Clear,
    Tick,
    /// No operation, but what a group was founded with: see [`founding`].
    Found(u64),
}

/// What the log's entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Input {
    /// The proposer's clock, in milliseconds; zero where the log has no part in it.
    pub(crate) now: u64,
    pub(crate) wish: Wish,
}

/// One operation of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) input: Input,
}

impl Command {
    /// What tells whether a group serves reads.
    pub(crate) const PROBE: Self = Self::of(Wish::Get(0));

    pub(crate) const fn of(wish: Wish) -> Self {
        Self { input: Input { now: 0, wish } }
    }

    /// What reads the effect of this one.
    pub(crate) fn read_back(&self) -> Self {
        Self::of(self.input.wish.key().map_or(Wish::Scan(0), Wish::Get))
    }

    /// The group's keys share its clock and its tokens, and some operations are for several: one
    /// history tells of all.
    pub(crate) fn object(&self) -> u8 {
        0
    }
}

impl Wish {
    /// The key that it is for, or the first of these.
    fn key(&self) -> Option<Key> {
        match *self {
            Self::Set { key, .. }
            | Self::SetIfAbsent(key, _)
            | Self::GetDelete(key)
            | Self::GetExpire(key, _)
            | Self::Append(key, _)
            | Self::Add(key, _)
            | Self::DeleteIfEqual(key, _)
            | Self::Expire { key, .. }
            | Self::Persist(key)
            | Self::Acquire { key, .. }
            | Self::Renew { key, .. }
            | Self::Release { key, .. }
            | Self::Next { key, .. } => Some(key),
            Self::SetMany { keys, .. } | Self::CompareAndSet { keys, .. } | Self::Delete(keys) => {
                Some(keys.first)
            }
            _ => None,
        }
    }

    /// Whether its answer is a list in no order that could be told beforehand.
    pub(crate) fn is_unordered(&self) -> bool {
        matches!(self, Self::Scan(_))
    }

    /// Whether it may take this key away, whatever it holds.
    pub(crate) fn removes(&self, key: Key) -> bool {
        match *self {
            Self::Delete(keys) => keys.iter().any(|deleted| deleted == key),
            Self::DeleteRange(span) => span.holds(key),
            Self::Expire { key: expires, .. } => expires == key,
            Self::Clear => true,
            _ => false,
        }
    }
}

/// Byte strings that an operation is made of.
#[derive(Debug, Default)]
struct Parts(Vec<Vec<u8>>);

impl Parts {
    fn of(keys: Keys, values: &[Value]) -> Self {
        let values: Vec<Vec<u8>> = values.iter().map(|value| value_bytes(*value)).collect();
        let group = |key| std::iter::once(key_bytes(key)).chain(values.iter().cloned());
        Self(keys.iter().flat_map(group).collect())
    }

    fn list(&self) -> List<'_> {
        self.0.iter().map(Vec::as_slice).collect()
    }
}

/// Appends the log's entry for a wish, or what stands for it where no log has a part in it.
pub(crate) fn encode(input: &Input, out: &mut Vec<u8>) {
    with_operation(&input.wish, |operation| {
        LogEntry { now: input.now, operation }.encode(out);
    });
}

/// The wish as the store's operation.
pub(crate) fn with_operation<T>(wish: &Wish, act: impl FnOnce(Operation<'_>) -> T) -> T {
    match *wish {
        Wish::Set { .. }
        | Wish::SetIfAbsent(..)
        | Wish::GetDelete(_)
        | Wish::GetExpire(..)
        | Wish::Append(..)
        | Wish::Add(..)
        | Wish::DeleteIfEqual(..)
        | Wish::Expire { .. }
        | Wish::Persist(_) => with_write(wish, act),
        Wish::Acquire { .. } | Wish::Renew { .. } | Wish::Release { .. } | Wish::Next { .. } => {
            with_service(wish, act)
        }
        Wish::SetMany { keys, value, absent } => {
            act(Operation::SetMany { pairs: Parts::of(keys, &[value]).list(), absent })
        }
        Wish::CompareAndSet { keys, expected, value } => {
            act(Operation::CompareAndSet { triples: Parts::of(keys, &[expected, value]).list() })
        }
        Wish::Delete(keys) => act(Operation::Delete { keys: Parts::of(keys, &[]).list() }),
        Wish::DeleteRange(span) => {
            with_interval(span, |interval| act(Operation::DeleteRange { interval }))
        }
        Wish::Clear => act(Operation::Clear),
        Wish::Tick => act(Operation::Tick),
        Wish::Found(_) => unreachable!("nobody asks for a founding"),
        _ => with_read(wish, act),
    }
}

fn with_read<T>(wish: &Wish, act: impl FnOnce(Operation<'_>) -> T) -> T {
    let one = |key: Key| key_bytes(key);
    match *wish {
        Wish::Get(key) => act(Operation::Get { key: &one(key) }),
        Wish::Length(key) => act(Operation::Length { key: &one(key) }),
        Wish::GetRange(key, start, end) => act(Operation::GetRange { key: &one(key), start, end }),
        Wish::Exists(keys) => act(Operation::Exists { keys: Parts::of(keys, &[]).list() }),
        Wish::GetMany(keys) => act(Operation::GetMany { keys: Parts::of(keys, &[]).list() }),
        Wish::TimeToLive { key, seconds } => act(Operation::TimeToLive { key: &one(key), seconds }),
        Wish::Type(key) => act(Operation::Type { key: &one(key) }),
        Wish::Range { span, reverse, values } => {
            with_interval(span, |interval| act(Operation::Range { interval, reverse, values }))
        }
        Wish::Scan(kind) => {
            let kind = KINDS[kind].as_bytes();
            act(Operation::Scan(ScanStep { place: 0, count: 10_000, pattern: b"*", kind }))
        }
        Wish::Count => act(Operation::Count),
        Wish::LockState(key) => act(Operation::LockState { key: &one(key) }),
        Wish::SequenceState(key) => act(Operation::SequenceState { key: &one(key) }),
        _ => unreachable!("{wish:?} is no read"),
    }
}

fn with_write<T>(wish: &Wish, act: impl FnOnce(Operation<'_>) -> T) -> T {
    let key = key_bytes(wish.key().unwrap_or_default());
    let key = key.as_slice();
    match *wish {
        Wish::Set { value, condition, expiry, get, .. } => {
            let expected;
            let condition = match condition {
                If::Always => Condition::Always,
                If::Absent => Condition::Absent,
                If::Present => Condition::Present,
                If::Equal(value) => {
                    expected = value_bytes(value);
                    Condition::Equal(&expected)
                }
            };
            act(Operation::Set { key, value: &value_bytes(value), condition, expiry, get })
        }
        Wish::SetIfAbsent(_, value) => {
            act(Operation::SetIfAbsent { key, value: &value_bytes(value) })
        }
        Wish::GetDelete(_) => act(Operation::GetDelete { key }),
        Wish::GetExpire(_, expiry) => act(Operation::GetExpire { key, expiry }),
        Wish::Append(_, value) => act(Operation::Append { key, value: &value_bytes(value) }),
        Wish::Add(_, delta) => act(Operation::Add { key, delta }),
        Wish::DeleteIfEqual(_, value) => {
            act(Operation::DeleteIfEqual { key, value: &value_bytes(value) })
        }
        Wish::Expire { millis, condition, .. } => act(Operation::Expire { key, millis, condition }),
        Wish::Persist(_) => act(Operation::Persist { key }),
        _ => unreachable!("{wish:?} is no write of a key"),
    }
}

fn with_service<T>(wish: &Wish, act: impl FnOnce(Operation<'_>) -> T) -> T {
    let key = key_bytes(wish.key().unwrap_or_default());
    let key = key.as_slice();
    match *wish {
        Wish::Acquire { owner, lease, .. } => {
            act(Operation::Acquire { key, owner: &owner_bytes(owner), lease })
        }
        Wish::Renew { token, lease, .. } => act(Operation::Renew { key, token, lease }),
        Wish::Release { token, .. } => act(Operation::Release { key, token }),
        Wish::Next { count, .. } => act(Operation::Next { key, count }),
        _ => unreachable!("{wish:?} is for no lock or sequence"),
    }
}

fn with_interval<T>(span: Span, act: impl FnOnce(Interval<'_>) -> T) -> T {
    let start = key_bytes(span.start);
    // What the other slot's keys begin with is behind or before all of this one.
    let tag = |key: Vec<u8>| {
        let mut bytes = key_bytes(span.odd.into());
        bytes.truncate(3);
        bytes.extend_from_slice(&key[3..]);
        bytes
    };
    let end = span.end.map_or(Vec::new(), |end| tag(key_bytes(end)));
    let (start, limit) = (tag(start), span.limit.into());
    act(Interval { slot: slot(span.odd), start: &start, end: &end, limit })
}
