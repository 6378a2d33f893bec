//! How operations stand in the log.

use super::{Condition, ExpireCondition, Expiry, Interval, List, Operation, ScanStep};
use crate::kv::slot::SLOTS;
use crate::kv::wire::{Malformed, Reader, put_bytes, put_number, put_signed};

/// Codes below are reads.
pub(super) const FIRST_WRITE: u8 = 64;

/// The codes, in the order of the operations. They are in the logs of clusters that run, so one is
/// never used for another operation.
mod code {
    pub(super) const GET: u8 = 1;
    pub(super) const LENGTH: u8 = 2;
    pub(super) const GET_RANGE: u8 = 3;
    pub(super) const EXISTS: u8 = 4;
    pub(super) const GET_MANY: u8 = 5;
    pub(super) const TIME_TO_LIVE: u8 = 6;
    pub(super) const TYPE: u8 = 7;
    pub(super) const RANGE: u8 = 8;
    pub(super) const SCAN: u8 = 9;
    // 10 and 12 were reads that looked at any number of keys at once.
    pub(super) const COUNT: u8 = 11;
    pub(super) const RANDOM: u8 = 13;
    pub(super) const LOCK_STATE: u8 = 14;
    pub(super) const SEQUENCE_STATE: u8 = 15;
    pub(super) const SET: u8 = 64;
    pub(super) const SET_IF_ABSENT: u8 = 65;
    pub(super) const SET_MANY: u8 = 66;
    pub(super) const COMPARE_AND_SET: u8 = 67;
    pub(super) const GET_DELETE: u8 = 68;
    pub(super) const GET_EXPIRE: u8 = 69;
    pub(super) const APPEND: u8 = 70;
    pub(super) const ADD: u8 = 71;
    pub(super) const DELETE: u8 = 72;
    pub(super) const DELETE_IF_EQUAL: u8 = 73;
    pub(super) const EXPIRE: u8 = 74;
    pub(super) const PERSIST: u8 = 75;
    pub(super) const DELETE_RANGE: u8 = 76;
    pub(super) const ACQUIRE: u8 = 77;
    pub(super) const RENEW: u8 = 78;
    pub(super) const RELEASE: u8 = 79;
    pub(super) const NEXT: u8 = 80;
    pub(super) const CLEAR: u8 = 81;
    pub(super) const TICK: u8 = 82;
}

impl<'a> Operation<'a> {
    /// Appends the operation to `out`, without a clock.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut fields = Fields(out);
        match self {
            Self::Get { key } => fields.keyed(code::GET, key),
            Self::Length { key } => fields.keyed(code::LENGTH, key),
            Self::GetRange { key, start, end } => {
                fields.keyed(code::GET_RANGE, key).signed(*start).signed(*end)
            }
            Self::Exists { keys } => fields.code(code::EXISTS).list(keys),
            Self::GetMany { keys } => fields.code(code::GET_MANY).list(keys),
            Self::TimeToLive { key, seconds } => {
                fields.keyed(code::TIME_TO_LIVE, key).flag(*seconds)
            }
            Self::Type { key } => fields.keyed(code::TYPE, key),
            Self::Range { interval, reverse, values } => {
                fields.code(code::RANGE).interval(interval).flag(*reverse).flag(*values)
            }
            Self::Scan(ScanStep { place, count, pattern, kind }) => {
                fields.code(code::SCAN).number(*place).number(*count).bytes(pattern).bytes(kind)
            }
            Self::Count => fields.code(code::COUNT),
            Self::Random { place } => fields.code(code::RANDOM).number(*place),
            Self::LockState { key } => fields.keyed(code::LOCK_STATE, key),
            Self::SequenceState { key } => fields.keyed(code::SEQUENCE_STATE, key),
            Self::Set { key, value, condition, expiry, get } => {
                let fields = fields.keyed(code::SET, key).bytes(value);
                fields.condition(*condition).expiry(*expiry).flag(*get)
            }
            Self::SetIfAbsent { key, value } => fields.keyed(code::SET_IF_ABSENT, key).bytes(value),
            Self::SetMany { pairs, absent } => {
                fields.code(code::SET_MANY).flag(*absent).list(pairs)
            }
            Self::CompareAndSet { triples } => fields.code(code::COMPARE_AND_SET).list(triples),
            Self::GetDelete { key } => fields.keyed(code::GET_DELETE, key),
            Self::GetExpire { key, expiry } => fields.keyed(code::GET_EXPIRE, key).expiry(*expiry),
            Self::Append { key, value } => fields.keyed(code::APPEND, key).bytes(value),
            Self::Add { key, delta } => fields.keyed(code::ADD, key).signed(*delta),
            Self::Delete { keys } => fields.code(code::DELETE).list(keys),
            Self::DeleteIfEqual { key, value } => {
                fields.keyed(code::DELETE_IF_EQUAL, key).bytes(value)
            }
            Self::Expire { key, millis, condition } => {
                fields.keyed(code::EXPIRE, key).signed(*millis).expire_condition(*condition)
            }
            Self::Persist { key } => fields.keyed(code::PERSIST, key),
            Self::DeleteRange { interval } => fields.code(code::DELETE_RANGE).interval(interval),
            Self::Acquire { key, owner, lease } => {
                fields.keyed(code::ACQUIRE, key).bytes(owner).number(*lease)
            }
            Self::Renew { key, token, lease } => {
                fields.keyed(code::RENEW, key).number(*token).number(*lease)
            }
            Self::Release { key, token } => fields.keyed(code::RELEASE, key).number(*token),
            Self::Next { key, count } => fields.keyed(code::NEXT, key).number(*count),
            Self::Clear => fields.code(code::CLEAR),
            Self::Tick => fields.code(code::TICK),
        };
    }

    /// What [`encode`](Self::encode) wrote; `None` if it was something else.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let operation = Self::read(&mut reader).ok()?;
        reader.end().ok()?;
        Some(operation)
    }

    pub(super) fn read(from: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match from.byte()? {
            code::GET => Self::Get { key: from.bytes()? },
            code::LENGTH => Self::Length { key: from.bytes()? },
            code::GET_RANGE => {
                Self::GetRange { key: from.bytes()?, start: from.signed()?, end: from.signed()? }
            }
            code::EXISTS => Self::Exists { keys: list(from)? },
            code::GET_MANY => Self::GetMany { keys: list(from)? },
            code::TIME_TO_LIVE => Self::TimeToLive { key: from.bytes()?, seconds: flag(from)? },
            code::TYPE => Self::Type { key: from.bytes()? },
            code::RANGE => {
                Self::Range { interval: interval(from)?, reverse: flag(from)?, values: flag(from)? }
            }
            code::SCAN => Self::Scan(ScanStep {
                place: from.number()?,
                count: from.number()?,
                pattern: from.bytes()?,
                kind: from.bytes()?,
            }),
            code::COUNT => Self::Count,
            code::RANDOM => Self::Random { place: from.number()? },
            code::LOCK_STATE => Self::LockState { key: from.bytes()? },
            code::SEQUENCE_STATE => Self::SequenceState { key: from.bytes()? },
            code => return Self::read_write(code, from),
        })
    }

    fn read_write(code: u8, from: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match code {
            code::SET => Self::Set {
                key: from.bytes()?,
                value: from.bytes()?,
                condition: condition(from)?,
                expiry: expiry(from)?,
                get: flag(from)?,
            },
            code::SET_IF_ABSENT => Self::SetIfAbsent { key: from.bytes()?, value: from.bytes()? },
            code::SET_MANY => Self::SetMany { absent: flag(from)?, pairs: tuples(from, 2)? },
            code::COMPARE_AND_SET => Self::CompareAndSet { triples: tuples(from, 3)? },
            code::GET_DELETE => Self::GetDelete { key: from.bytes()? },
            code::GET_EXPIRE => Self::GetExpire { key: from.bytes()?, expiry: expiry(from)? },
            code::APPEND => Self::Append { key: from.bytes()?, value: from.bytes()? },
            code::ADD => Self::Add { key: from.bytes()?, delta: from.signed()? },
            code::DELETE => Self::Delete { keys: list(from)? },
            code::DELETE_IF_EQUAL => {
                Self::DeleteIfEqual { key: from.bytes()?, value: from.bytes()? }
            }
            code::EXPIRE => Self::Expire {
                key: from.bytes()?,
                millis: from.signed()?,
                condition: expire_condition(from)?,
            },
            code::PERSIST => Self::Persist { key: from.bytes()? },
            code::DELETE_RANGE => Self::DeleteRange { interval: interval(from)? },
            code::ACQUIRE => {
                Self::Acquire { key: from.bytes()?, owner: from.bytes()?, lease: from.number()? }
            }
            code::RENEW => {
                Self::Renew { key: from.bytes()?, token: from.number()?, lease: from.number()? }
            }
            code::RELEASE => Self::Release { key: from.bytes()?, token: from.number()? },
            code::NEXT => Self::Next { key: from.bytes()?, count: from.number()? },
            code::CLEAR => Self::Clear,
            code::TICK => Self::Tick,
            _ => return Err(Malformed),
        })
    }
}

/// Appends one field after the other.
struct Fields<'o>(&'o mut Vec<u8>);

impl Fields<'_> {
    fn code(&mut self, code: u8) -> &mut Self {
        self.0.push(code);
        self
    }

    fn keyed(&mut self, code: u8, key: &[u8]) -> &mut Self {
        self.code(code).bytes(key)
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        put_bytes(self.0, bytes);
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        put_number(self.0, number);
        self
    }

    fn signed(&mut self, number: i64) -> &mut Self {
        put_signed(self.0, number);
        self
    }

    fn flag(&mut self, flag: bool) -> &mut Self {
        self.code(flag.into())
    }

    fn list(&mut self, list: &[&[u8]]) -> &mut Self {
        list.iter().for_each(|bytes| put_bytes(self.0, bytes));
        self
    }

    fn interval(&mut self, interval: &Interval<'_>) -> &mut Self {
        let Interval { slot, start, end, limit } = interval;
        self.number((*slot).into()).bytes(start).bytes(end).number(*limit)
    }

    fn condition(&mut self, condition: Condition<'_>) -> &mut Self {
        match condition {
            Condition::Always => self.code(0),
            Condition::Absent => self.code(1),
            Condition::Present => self.code(2),
            Condition::Equal(value) => self.code(3).bytes(value),
        }
    }

    fn expiry(&mut self, expiry: Expiry) -> &mut Self {
        match expiry {
            Expiry::Never => self.code(0),
            Expiry::Keep => self.code(1),
            Expiry::In(millis) => self.code(2).number(millis),
        }
    }

    fn expire_condition(&mut self, condition: ExpireCondition) -> &mut Self {
        self.code(match condition {
            ExpireCondition::Always => 0,
            ExpireCondition::Mortal(false) => 1,
            ExpireCondition::Mortal(true) => 2,
            ExpireCondition::Later(true) => 3,
            ExpireCondition::Later(false) => 4,
        })
    }
}

fn flag(from: &mut Reader<'_>) -> Result<bool, Malformed> {
    match from.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

fn slot(from: &mut Reader<'_>) -> Result<u16, Malformed> {
    u16::try_from(from.number()?).ok().filter(|slot| *slot < SLOTS).ok_or(Malformed)
}

/// All that is left; at least one.
fn list<'a>(from: &mut Reader<'a>) -> Result<List<'a>, Malformed> {
    tuples(from, 1)
}

/// Likewise, in groups of so many.
fn tuples<'a>(from: &mut Reader<'a>, size: usize) -> Result<List<'a>, Malformed> {
    let mut list = List::new();
    while !from.0.is_empty() {
        list.push(from.bytes()?);
    }
    if list.is_empty() || !list.len().is_multiple_of(size) {
        return Err(Malformed);
    }
    Ok(list)
}

fn interval<'a>(from: &mut Reader<'a>) -> Result<Interval<'a>, Malformed> {
    Ok(Interval {
        slot: slot(from)?,
        start: from.bytes()?,
        end: from.bytes()?,
        limit: from.number()?,
    })
}

fn condition<'a>(from: &mut Reader<'a>) -> Result<Condition<'a>, Malformed> {
    Ok(match from.byte()? {
        0 => Condition::Always,
        1 => Condition::Absent,
        2 => Condition::Present,
        3 => Condition::Equal(from.bytes()?),
        _ => return Err(Malformed),
    })
}

fn expiry(from: &mut Reader<'_>) -> Result<Expiry, Malformed> {
    Ok(match from.byte()? {
        0 => Expiry::Never,
        1 => Expiry::Keep,
        2 => Expiry::In(from.number()?),
        _ => return Err(Malformed),
    })
}

fn expire_condition(from: &mut Reader<'_>) -> Result<ExpireCondition, Malformed> {
    Ok(match from.byte()? {
        0 => ExpireCondition::Always,
        1 => ExpireCondition::Mortal(false),
        2 => ExpireCondition::Mortal(true),
        3 => ExpireCondition::Later(true),
        4 => ExpireCondition::Later(false),
        _ => return Err(Malformed),
    })
}
