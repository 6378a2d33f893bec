//! From arguments to operations.

use super::Refusal::{self, NotANumber, OutOfRange, Syntax};
use crate::kv::operation::{
    Condition, ExpireCondition, Expiry, Interval, List, Operation, ScanStep,
};
use crate::kv::slot::slot_of;

type Args<'a, 'b> = super::Args<'a, 'b>;
type Parsed<'a> = Result<Operation<'a>, Refusal>;

/// The longest time to live: a thousand years. Nothing overflows from there.
const LONGEST_MILLIS: i64 = 1_000 * 365 * 86_400_000;
/// The longest lease: a day.
const LONGEST_LEASE: i64 = 86_400_000;
/// Keys that a step of `SCAN` looks at where it is not told.
const SCAN_COUNT: u64 = 10;

fn number(bytes: &[u8]) -> Result<i64, Refusal> {
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or(NotANumber)
}

fn unsigned(bytes: &[u8]) -> Result<u64, Refusal> {
    u64::try_from(number(bytes)?).map_err(|_| NotANumber)
}

fn is(word: &[u8], upper: &str) -> bool {
    word.eq_ignore_ascii_case(upper.as_bytes())
}

/// A time to live in units of so many milliseconds.
fn time_to_live(bytes: &[u8], unit: i64, command: &'static str) -> Result<Expiry, Refusal> {
    let millis = number(bytes)?.checked_mul(unit);
    let millis = millis.filter(|millis| (1..=LONGEST_MILLIS).contains(millis));
    millis.map(|millis| Expiry::In(millis as u64)).ok_or(Refusal::ExpireTime(command))
}

/// What follows an option.
fn next<'a>(rest: &mut std::slice::Iter<'_, &'a [u8]>) -> Result<&'a [u8], Refusal> {
    rest.next().copied().ok_or(Syntax)
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Refusal> {
    if place.replace(value).is_some() { Err(Syntax) } else { Ok(()) }
}

pub(super) fn get<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Get { key: args[1] })
}

pub(super) fn strlen<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Length { key: args[1] })
}

pub(super) fn getrange<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::GetRange { key: args[1], start: number(args[2])?, end: number(args[3])? })
}

pub(super) fn exists<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Exists { keys: List::from_slice(&args[1..]) })
}

pub(super) fn mget<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::GetMany { keys: List::from_slice(&args[1..]) })
}

pub(super) fn ttl<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::TimeToLive { key: args[1], seconds: true })
}

pub(super) fn pttl<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::TimeToLive { key: args[1], seconds: false })
}

pub(super) fn kind<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Type { key: args[1] })
}

pub(super) fn set<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    let (mut condition, mut expiry, mut get) = (None, None, None);
    let mut rest = args[3..].iter();
    while let Some(word) = rest.next() {
        match word {
            word if is(word, "NX") => once(&mut condition, Condition::Absent)?,
            word if is(word, "XX") => once(&mut condition, Condition::Present)?,
            word if is(word, "IFEQ") => once(&mut condition, Condition::Equal(next(&mut rest)?))?,
            word if is(word, "GET") => once(&mut get, ())?,
            word if is(word, "KEEPTTL") => once(&mut expiry, Expiry::Keep)?,
            word if is(word, "EX") => {
                once(&mut expiry, time_to_live(next(&mut rest)?, 1000, "set")?)?;
            }
            word if is(word, "PX") => once(&mut expiry, time_to_live(next(&mut rest)?, 1, "set")?)?,
            _ => return Err(Syntax),
        }
    }
    Ok(Operation::Set {
        key: args[1],
        value: args[2],
        condition: condition.unwrap_or(Condition::Always),
        expiry: expiry.unwrap_or(Expiry::Never),
        get: get.is_some(),
    })
}

fn plain_set<'a>(key: &'a [u8], value: &'a [u8], expiry: Expiry, get: bool) -> Operation<'a> {
    Operation::Set { key, value, condition: Condition::Always, expiry, get }
}

pub(super) fn setex<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(plain_set(args[1], args[3], time_to_live(args[2], 1000, "setex")?, false))
}

pub(super) fn psetex<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(plain_set(args[1], args[3], time_to_live(args[2], 1, "psetex")?, false))
}

pub(super) fn getset<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(plain_set(args[1], args[2], Expiry::Never, true))
}

pub(super) fn setnx<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::SetIfAbsent { key: args[1], value: args[2] })
}

fn pairs<'a>(args: Args<'a, '_>, absent: bool, name: &'static str) -> Parsed<'a> {
    if args.len().is_multiple_of(2) {
        return Err(Refusal::Arity(name));
    }
    Ok(Operation::SetMany { pairs: List::from_slice(&args[1..]), absent })
}

pub(super) fn mset<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    pairs(args, false, "mset")
}

pub(super) fn msetnx<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    pairs(args, true, "msetnx")
}

pub(super) fn compare_and_set<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    if args.len() % 3 != 1 {
        return Err(Refusal::Arity("kv.cas"));
    }
    Ok(Operation::CompareAndSet { triples: List::from_slice(&args[1..]) })
}

pub(super) fn compare_and_delete<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::DeleteIfEqual { key: args[1], value: args[2] })
}

pub(super) fn getdel<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::GetDelete { key: args[1] })
}

pub(super) fn getex<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    let expiry = match args[2..] {
        [] => Expiry::Keep,
        [word] if is(word, "PERSIST") => Expiry::Never,
        [word, time] if is(word, "EX") => time_to_live(time, 1000, "getex")?,
        [word, time] if is(word, "PX") => time_to_live(time, 1, "getex")?,
        _ => return Err(Syntax),
    };
    Ok(Operation::GetExpire { key: args[1], expiry })
}

pub(super) fn append<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Append { key: args[1], value: args[2] })
}

pub(super) fn incr<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Add { key: args[1], delta: 1 })
}

pub(super) fn decr<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Add { key: args[1], delta: -1 })
}

pub(super) fn incrby<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Add { key: args[1], delta: number(args[2])? })
}

pub(super) fn decrby<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    let delta = number(args[2])?.checked_neg().ok_or(OutOfRange("decrement would overflow"))?;
    Ok(Operation::Add { key: args[1], delta })
}

pub(super) fn del<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Delete { keys: List::from_slice(&args[1..]) })
}

fn expiring<'a>(args: Args<'a, '_>, unit: i64, name: &'static str) -> Parsed<'a> {
    let millis = number(args[2])?.checked_mul(unit);
    let millis = millis.filter(|millis| millis.abs() <= LONGEST_MILLIS);
    let millis = millis.ok_or(Refusal::ExpireTime(name))?;
    let condition = match args[3..] {
        [] => ExpireCondition::Always,
        [word] if is(word, "NX") => ExpireCondition::Mortal(false),
        [word] if is(word, "XX") => ExpireCondition::Mortal(true),
        [word] if is(word, "GT") => ExpireCondition::Later(true),
        [word] if is(word, "LT") => ExpireCondition::Later(false),
        _ => return Err(Syntax),
    };
    Ok(Operation::Expire { key: args[1], millis, condition })
}

pub(super) fn expire<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    expiring(args, 1000, "expire")
}

pub(super) fn pexpire<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    expiring(args, 1, "pexpire")
}

pub(super) fn persist<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Persist { key: args[1] })
}

/// `start end`, and the limit that follows them, if any: the keys of the slot of `start`, which is
/// that of `end` too, unless that is `+`, the end of the slot.
fn interval<'a>(args: Args<'a, '_>, limit: Option<&[u8]>) -> Result<Interval<'a>, Refusal> {
    let (start, end) = (args[1], args[2]);
    let end = if end == b"+" { &end[..0] } else { end };
    let slot = slot_of(start);
    if !end.is_empty() && slot_of(end) != slot {
        return Err(Refusal::CrossSlot);
    }
    let limit = limit.map_or(Ok(u64::MAX), unsigned)?;
    Ok(Interval { slot, start, end, limit })
}

fn ordered<'a>(args: Args<'a, '_>, reverse: bool) -> Parsed<'a> {
    let (mut limit, mut keys) = (None, None);
    let mut rest = args[3..].iter();
    while let Some(word) = rest.next() {
        match word {
            word if is(word, "LIMIT") => once(&mut limit, next(&mut rest)?)?,
            word if is(word, "KEYS") => once(&mut keys, ())?,
            _ => return Err(Syntax),
        }
    }
    Ok(Operation::Range { interval: interval(args, limit)?, reverse, values: keys.is_none() })
}

pub(super) fn range<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    ordered(args, false)
}

pub(super) fn reverse_range<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    ordered(args, true)
}

pub(super) fn delete_range<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    let limit = match args[3..] {
        [] => None,
        [word, limit] if is(word, "LIMIT") => Some(limit),
        _ => return Err(Syntax),
    };
    Ok(Operation::DeleteRange { interval: interval(args, limit)? })
}

fn lease(bytes: &[u8]) -> Result<u64, Refusal> {
    let lease = Some(number(bytes)?).filter(|lease| (1..=LONGEST_LEASE).contains(lease));
    let lease = lease.ok_or(OutOfRange("a lease must be 1 to 86400000 milliseconds"))?;
    Ok(lease as u64)
}

pub(super) fn lock<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Acquire { key: args[1], owner: args[2], lease: lease(args[3])? })
}

pub(super) fn renew<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Renew { key: args[1], token: unsigned(args[2])?, lease: lease(args[3])? })
}

pub(super) fn unlock<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Release { key: args[1], token: unsigned(args[2])? })
}

pub(super) fn lock_state<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::LockState { key: args[1] })
}

pub(super) fn sequence<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    let count = match args[2..] {
        [] => 1,
        [count] => unsigned(count)?,
        _ => return Err(Refusal::Arity("kv.seq")),
    };
    if count == 0 {
        return Err(OutOfRange("a count must be 1 or more"));
    }
    Ok(Operation::Next { key: args[1], count })
}

pub(super) fn sequence_state<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::SequenceState { key: args[1] })
}

pub(super) fn dbsize<'a>(_: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Count)
}

/// The first step of it.
pub(super) fn keys<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Scan(ScanStep { place: 0, count: SCAN_COUNT, pattern: args[1], kind: b"" }))
}

/// Where to begin is the caller's to say.
pub(super) fn randomkey<'a>(_: Args<'a, '_>) -> Parsed<'a> {
    Ok(Operation::Random { place: 0 })
}

pub(super) fn flushall<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    match args[1..] {
        [] => Ok(Operation::Clear),
        [word] if is(word, "SYNC") || is(word, "ASYNC") => Ok(Operation::Clear),
        _ => Err(Syntax),
    }
}

/// The cursor as it was given: the caller knows what is of which group.
pub(super) fn scan<'a>(args: Args<'a, '_>) -> Parsed<'a> {
    let cursor = std::str::from_utf8(args[1]).ok().and_then(|text| text.parse().ok());
    let place = cursor.ok_or(OutOfRange("invalid cursor"))?;
    let (mut count, mut pattern, mut kind) = (None, None, None);
    let mut rest = args[2..].iter();
    while let Some(word) = rest.next() {
        match word {
            word if is(word, "COUNT") => once(&mut count, unsigned(next(&mut rest)?)?)?,
            word if is(word, "MATCH") => once(&mut pattern, next(&mut rest)?)?,
            word if is(word, "TYPE") => once(&mut kind, next(&mut rest)?)?,
            _ => return Err(Syntax),
        }
    }
    let count = count.unwrap_or(SCAN_COUNT);
    if count == 0 {
        return Err(Syntax);
    }
    let step =
        ScanStep { place, count, pattern: pattern.unwrap_or(b"*"), kind: kind.unwrap_or_default() };
    Ok(Operation::Scan(step))
}
