//! What each operation does and answers.
//!
//! Answers are RESP3, see [`reply`]. Nothing here depends on anything but the keyspace and the
//! operation, so that every replica does the same.

mod ranges;
mod services;

use super::keyspace::{Blob, Keyspace, Record, Value};
use super::operation::{Condition, ExpireCondition, Expiry, Operation};
use super::resp::reply;

const WRONG_TYPE: &str =
    "WRONGTYPE Operation against a key holding the wrong kind of value (a lock or a sequence)";
const NOT_A_NUMBER: &str = "ERR value is not an integer or out of range";
const OVERFLOW: &str = "ERR increment or decrement would overflow";
pub(crate) const TOO_MANY: &str =
    "ERR the values come to more bytes than a reply may have; ask for fewer at once";
const TOO_LONG: &str = "ERR string exceeds maximum allowed size";

/// Bytes of a value, at most. One that grows by `APPEND` ends here.
pub const MAX_VALUE_BYTES: usize = 16 << 20;

/// Bytes of the values of several keys in one reply, at most.
pub const REPLY_BYTES: usize = 32 << 20;

/// Why an operation was not done; nothing changed.
type Failure = &'static str;

/// Does an operation, appends its answer to `out`, and says nothing more: an error is an answer.
pub fn execute(keys: &mut Keyspace, operation: &Operation<'_>, out: &mut Vec<u8>) {
    if read(keys, operation, out) {
        return;
    }
    let before = out.len();
    if let Err(why) = write(keys, operation, out) {
        out.truncate(before);
        reply::error(out, why);
    }
}

/// Answers an operation that changes nothing; false if it is not one of these.
pub fn read(keys: &Keyspace, operation: &Operation<'_>, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    match try_read(keys, operation, out) {
        Ok(read) => read,
        Err(why) => {
            out.truncate(before);
            reply::error(out, why);
            true
        }
    }
}

fn try_read(
    keys: &Keyspace,
    operation: &Operation<'_>,
    out: &mut Vec<u8>,
) -> Result<bool, Failure> {
    match operation {
        Operation::Get { key } => optional(out, string(keys, key)?),
        Operation::Length { key } => {
            reply::integer(out, string(keys, key)?.map_or(0, <[u8]>::len) as i64);
        }
        Operation::GetRange { key, start, end } => {
            reply::bulk(out, part(string(keys, key)?.unwrap_or_default(), *start, *end));
        }
        Operation::Exists { keys: names } => {
            let there = names.iter().filter(|key| keys.get(key).is_some()).count();
            reply::integer(out, there as i64);
        }
        Operation::GetMany { keys: names } => {
            reply::array(out, names.len());
            // As in Redis, a key of another type is as good as absent here.
            let before = out.len();
            for key in names {
                optional(out, string(keys, key).unwrap_or_default());
                if out.len() - before > REPLY_BYTES {
                    return Err(TOO_MANY);
                }
            }
        }
        Operation::TimeToLive { key, seconds } => {
            let left = keys.get(key).map(|record| remaining(keys, record));
            let rounded = |left: i64| if *seconds && left > 0 { (left + 500) / 1000 } else { left };
            reply::integer(out, left.map_or(-2, rounded));
        }
        Operation::Type { key } => {
            reply::status(out, keys.get(key).map_or("none", |record| record.value.type_name()));
        }
        Operation::Range { interval, reverse, values } => {
            ranges::range(keys, interval, *reverse, *values, out);
        }
        Operation::Scan(step) => ranges::scan(keys, step, out),
        Operation::Count => reply::integer(out, keys.keys() as i64),
        Operation::Random { place } => ranges::random(keys, *place, out),
        Operation::LockState { key } => services::lock_state(keys, key, out)?,
        Operation::SequenceState { key } => services::sequence_state(keys, key, out)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn write(keys: &mut Keyspace, operation: &Operation<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    match operation {
        Operation::Set { key, value, condition, expiry, get } => {
            set(keys, (key, value), *condition, *expiry, *get, out)?;
        }
        Operation::SetIfAbsent { key, value } => {
            let absent = keys.get(key).is_none();
            if absent {
                keys.insert(key, text(value), 0);
            }
            reply::integer(out, absent.into());
        }
        Operation::SetMany { pairs, absent } => set_many(keys, pairs, *absent, out)?,
        Operation::CompareAndSet { triples } => compare_and_set(keys, triples, out)?,
        Operation::GetDelete { key } => {
            optional(out, string(keys, key)?);
            keys.remove(key);
        }
        Operation::GetExpire { key, expiry } => {
            optional(out, string(keys, key)?);
            let deadline = deadline(keys.clock(), keys.get(key), *expiry);
            keys.set_deadline(key, deadline);
        }
        Operation::Append { key, value } => append(keys, key, value, out)?,
        Operation::Add { key, delta } => add(keys, key, *delta, out)?,
        Operation::Delete { keys: names } => {
            let removed = names.iter().filter(|key| keys.remove(key).is_some()).count();
            reply::integer(out, removed as i64);
        }
        Operation::DeleteIfEqual { key, value } => {
            let equal = string(keys, key)?.is_some_and(|present| present == *value);
            if equal {
                keys.remove(key);
            }
            reply::integer(out, equal.into());
        }
        Operation::Expire { key, millis, condition } => {
            reply::integer(out, expire(keys, key, *millis, *condition).into());
        }
        Operation::Persist { key } => {
            let mortal =
                keys.get(key).is_some_and(|record| record.deadline > 0 && !is_lock(record));
            if mortal {
                keys.set_deadline(key, 0);
            }
            reply::integer(out, mortal.into());
        }
        Operation::DeleteRange { interval } => ranges::delete(keys, interval, out),
        Operation::Acquire { key, owner, lease } => {
            services::acquire(keys, key, owner, *lease, out)?;
        }
        Operation::Renew { key, token, lease } => services::renew(keys, key, *token, *lease, out)?,
        Operation::Release { key, token } => services::release(keys, key, *token, out)?,
        Operation::Next { key, count } => services::next(keys, key, *count, out)?,
        Operation::Clear => {
            keys.clear();
            reply::ok(out);
        }
        // All others are reads.
        _ => reply::ok(out),
    }
    Ok(())
}

/// About how many bytes the answer to an operation will have, as things are now.
#[must_use]
pub fn expected_bytes(keys: &Keyspace, operation: &Operation<'_>) -> usize {
    let length = |key: &[u8]| string(keys, key).ok().flatten().map_or(0, <[u8]>::len);
    let content = match operation {
        Operation::Get { key }
        | Operation::GetRange { key, .. }
        | Operation::GetDelete { key }
        | Operation::GetExpire { key, .. }
        | Operation::Set { key, get: true, .. } => length(key),
        Operation::GetMany { keys } => keys.iter().map(|key| length(key)).sum(),
        Operation::Range { interval, .. } => ranges::expected_bytes(interval),
        _ => 0,
    };
    content + 16
}

fn text(bytes: &[u8]) -> Value {
    Value::String(Blob::from_slice(bytes))
}

fn is_lock(record: &Record) -> bool {
    matches!(record.value, Value::Lock(_))
}

/// The bytes under a key.
fn string<'k>(keys: &'k Keyspace, key: &[u8]) -> Result<Option<&'k [u8]>, Failure> {
    content(keys.get(key))
}

/// The bytes of a record.
fn content(record: Option<&Record>) -> Result<Option<&[u8]>, Failure> {
    match record.map(|record| &record.value) {
        None => Ok(None),
        Some(Value::String(bytes)) => Ok(Some(bytes)),
        Some(_) => Err(WRONG_TYPE),
    }
}

fn optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => reply::bulk(out, bytes),
        None => reply::null(out),
    }
}

/// Milliseconds that a key has left, -1 if it has no deadline.
fn remaining(keys: &Keyspace, record: &Record) -> i64 {
    if record.deadline == 0 { -1 } else { (record.deadline - keys.clock()) as i64 }
}

/// From `start` to `end`, both included, both counted from the end if negative.
fn part(bytes: &[u8], start: i64, end: i64) -> &[u8] {
    let length = bytes.len() as i64;
    let from_start = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
    let start = from_start(start).clamp(0, length);
    let end = from_start(end).saturating_add(1).clamp(start, length);
    &bytes[start as usize..end as usize]
}

/// The deadline that a key is to have; zero is none.
fn deadline(clock: u64, record: Option<&Record>, expiry: Expiry) -> u64 {
    match expiry {
        Expiry::Never => 0,
        Expiry::Keep => record.map_or(0, |record| record.deadline),
        Expiry::In(millis) => clock.saturating_add(millis),
    }
}

/// A write that is meant for strings must not undo a lock or a sequence.
fn check_string(keys: &Keyspace, key: &[u8]) -> Result<(), Failure> {
    string(keys, key).map(drop)
}

fn set(
    keys: &mut Keyspace,
    (key, value): (&[u8], &[u8]),
    condition: Condition<'_>,
    expiry: Expiry,
    get: bool,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let clock = keys.clock();
    keys.update(key, |record| {
        let present = match content(record) {
            Ok(present) => present,
            Err(failure) => return (None, Err(failure)),
        };
        let done = match condition {
            Condition::Always => true,
            Condition::Absent => present.is_none(),
            Condition::Present => present.is_some(),
            Condition::Equal(expected) => present == Some(expected),
        };
        match (get, done) {
            (true, _) => optional(out, present),
            (false, true) => reply::ok(out),
            (false, false) => reply::null(out),
        }
        (done.then(|| (text(value), deadline(clock, record, expiry))), Ok(()))
    })
}

fn set_many(
    keys: &mut Keyspace,
    pairs: &[&[u8]],
    absent: bool,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let mut names = pairs.iter().step_by(2);
    if absent {
        let set = names.all(|key| keys.get(key).is_none());
        reply::integer(out, set.into());
        if !set {
            return Ok(());
        }
    } else {
        names.try_for_each(|key| check_string(keys, key))?;
        reply::ok(out);
    }
    pairs.chunks_exact(2).for_each(|pair| keys.insert(pair[0], text(pair[1]), 0));
    Ok(())
}

fn compare_and_set(
    keys: &mut Keyspace,
    triples: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let mut all = true;
    for triple in triples.chunks_exact(3) {
        all &= string(keys, triple[0])? == Some(triple[1]);
    }
    reply::integer(out, all.into());
    if all {
        for triple in triples.chunks_exact(3) {
            keys.modify(triple[0], |value| *value = text(triple[2]));
        }
    }
    Ok(())
}

fn append(keys: &mut Keyspace, key: &[u8], more: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
    let length = string(keys, key)?.map_or(0, <[u8]>::len) + more.len();
    if length > MAX_VALUE_BYTES {
        return Err(TOO_LONG);
    }
    let appended = keys.modify(key, |value| {
        if let Value::String(bytes) = value {
            bytes.extend_from_slice(more);
        }
    });
    if appended.is_none() {
        keys.insert(key, text(more), 0);
    }
    reply::integer(out, length as i64);
    Ok(())
}

fn add(keys: &mut Keyspace, key: &[u8], delta: i64, out: &mut Vec<u8>) -> Result<(), Failure> {
    let sum = |record: Option<&Record>| {
        let present = content(record)?.map(number).transpose()?;
        present.unwrap_or(0).checked_add(delta).ok_or(OVERFLOW)
    };
    keys.update(key, |record| match sum(record) {
        Ok(sum) => {
            reply::integer(out, sum);
            let bytes = text(itoa::Buffer::new().format(sum).as_bytes());
            (Some((bytes, record.map_or(0, |record| record.deadline))), Ok(()))
        }
        Err(failure) => (None, Err(failure)),
    })
}

/// A number as Redis takes it: digits, perhaps behind a minus, and nothing else.
fn number(bytes: &[u8]) -> Result<i64, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|_| NOT_A_NUMBER)?;
    let number: i64 = text.parse().map_err(|_| NOT_A_NUMBER)?;
    // No plus, no zeros in front.
    let canonical = itoa::Buffer::new().format(number) == text;
    canonical.then_some(number).ok_or(NOT_A_NUMBER)
}

fn expire(keys: &mut Keyspace, key: &[u8], millis: i64, condition: ExpireCondition) -> bool {
    let Some(record) = keys.get(key).filter(|record| !is_lock(record)) else { return false };
    let present = record.deadline;
    let clock = i64::try_from(keys.clock()).unwrap_or(i64::MAX);
    // Zero means none, so what is due is due from 1 on.
    let deadline = clock.saturating_add(millis).max(1) as u64;
    let never = present == 0;
    let done = match condition {
        ExpireCondition::Always => true,
        ExpireCondition::Mortal(mortal) => mortal != never,
        ExpireCondition::Later(true) => !never && deadline > present,
        ExpireCondition::Later(false) => never || deadline < present,
    };
    if done && deadline <= keys.clock() {
        keys.remove(key);
    } else if done {
        keys.set_deadline(key, deadline);
    }
    done
}

#[cfg(test)]
mod tests;
