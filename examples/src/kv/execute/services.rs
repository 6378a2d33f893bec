//! Fenced locks with leases, and sequences.
//!
//! A lock is a key whose deadline is the end of the lease: who holds it renews in time, or somebody
//! else may have it. The lease ends by the group's clock, which no holder can read, so holding a lock
//! is no proof of holding it alone: that is what the **fencing token** is for. It rises with every
//! new holder, and what the lock protects refuses a token below the highest it has seen.

use super::{Failure, WRONG_TYPE};
use crate::kv::keyspace::{Blob, Keyspace, Lock, Record, Value};
use crate::kv::resp::reply;

const EXHAUSTED: &str = "ERR the sequence has no more numbers";

fn lock<'k>(keys: &'k Keyspace, key: &[u8]) -> Result<Option<(&'k Record, &'k Lock)>, Failure> {
    match keys.get(key) {
        None => Ok(None),
        Some(record) => match &record.value {
            Value::Lock(lock) => Ok(Some((record, lock))),
            _ => Err(WRONG_TYPE),
        },
    }
}

/// The token, if `owner` has the lock now; none if somebody else has. Who has it already has its
/// lease begin anew, with the token of before.
pub(super) fn acquire(
    keys: &mut Keyspace,
    key: &[u8],
    owner: &[u8],
    lease: u64,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let held = lock(keys, key)?.map(|(_, lock)| (lock.owner.as_slice() == owner, lock.token));
    let token = match held {
        Some((false, _)) => {
            reply::null(out);
            return Ok(());
        }
        Some((true, token)) => token,
        None => keys.next_token(),
    };
    let deadline = keys.clock().saturating_add(lease);
    let lock = Lock { owner: Blob::from_slice(owner), token };
    keys.insert(key, Value::Lock(lock), deadline);
    reply::integer(out, token as i64);
    Ok(())
}

fn holds(keys: &Keyspace, key: &[u8], token: u64) -> Result<bool, Failure> {
    Ok(lock(keys, key)?.is_some_and(|(_, lock)| lock.token == token))
}

/// Whether the holder's lease begins anew; if not, it has lost the lock.
pub(super) fn renew(
    keys: &mut Keyspace,
    key: &[u8],
    token: u64,
    lease: u64,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let holds = holds(keys, key, token)?;
    if holds {
        keys.set_deadline(key, keys.clock().saturating_add(lease));
    }
    reply::integer(out, holds.into());
    Ok(())
}

/// Whether the lock was held with this token, and is free now.
pub(super) fn release(
    keys: &mut Keyspace,
    key: &[u8],
    token: u64,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let holds = holds(keys, key, token)?;
    if holds {
        keys.remove(key);
    }
    reply::integer(out, holds.into());
    Ok(())
}

/// Owner, token and milliseconds left; none if nobody has it.
pub(super) fn lock_state(keys: &Keyspace, key: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
    let Some((record, lock)) = lock(keys, key)? else {
        reply::null(out);
        return Ok(());
    };
    reply::array(out, 3);
    reply::bulk(out, &lock.owner);
    reply::integer(out, lock.token as i64);
    reply::integer(out, (record.deadline - keys.clock()) as i64);
    Ok(())
}

fn sequence(keys: &Keyspace, key: &[u8]) -> Result<Option<u64>, Failure> {
    match keys.get(key).map(|record| &record.value) {
        None => Ok(None),
        Some(Value::Sequence(next)) => Ok(Some(*next)),
        Some(_) => Err(WRONG_TYPE),
    }
}

/// The first of `count` numbers that nobody else gets. They are without gaps, from 1 on.
pub(super) fn next(
    keys: &mut Keyspace,
    key: &[u8],
    count: u64,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let first = sequence(keys, key)?.unwrap_or(1);
    let next = first.checked_add(count).filter(|next| i64::try_from(*next).is_ok());
    let next = next.ok_or(EXHAUSTED)?;
    let deadline = keys.get(key).map_or(0, |record| record.deadline);
    keys.insert(key, Value::Sequence(next), deadline);
    reply::integer(out, first as i64);
    Ok(())
}

/// The last number that was given out; zero if there was none.
pub(super) fn sequence_state(
    keys: &Keyspace,
    key: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    reply::integer(out, sequence(keys, key)?.map_or(0, |next| next as i64 - 1));
    Ok(())
}
