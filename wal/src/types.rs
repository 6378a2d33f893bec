//! The log's nouns. Everything that a record on disk or a message on the wire names is defined
//! here once, and every other crate uses these types.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! number {
    ($(#[$attribute:meta])* $name:ident) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

number! {
    /// A member of the cluster. Zero is reserved: on disk it means "nobody".
    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    NodeId
}
number! {
    /// One Raft group. The same number names the group on every node of the cluster.
    GroupId
}
number! {
    /// A Raft term. Zero is the term before the first election; no entry carries it.
    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    Term
}
number! {
    /// The position of an entry in its group's log, counted from 1. Zero stands before the first.
    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    LogIndex
}
number! {
    /// A WAL batch's number. Batches become durable in the order of their numbers, so one number
    /// says which records survive a crash: all those staged in batches up to it.
    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    Seq
}

/// As a string: a number made from a name has all 64 bits, and many readers of JSON keep 53.
impl Serialize for GroupId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GroupId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

impl LogIndex {
    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The index before this one; zero stays zero.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Term {
    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl GroupId {
    /// The number of a group that is known by its name: FNV-1a (64 bit) of the name's bytes, so
    /// that every node and client computes the same number.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self(hash)
    }
}

/// A place in a log: an index and the term of the entry there.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogPosition {
    /// Index of the entry.
    pub index: LogIndex,
    /// Term of the entry.
    pub term: Term,
}

/// What a voter must not forget (Raft thesis, figure 3.1): durable before any message leaves that
/// depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term this node has seen.
    pub term: Term,
    /// The candidate that got this node's vote in `term`.
    pub voted_for: Option<NodeId>,
}

/// Fibonacci hashing of one number: group ids are numbers or FNV hashes already, and the default
/// hasher's protection against crafted keys costs more than the rest of a record's staging.
#[derive(Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// A map from numbers, without randomness: its order is the same in every run.
pub type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;
