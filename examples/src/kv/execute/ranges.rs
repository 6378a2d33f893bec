//! What concerns many keys: in order, by pattern, one step after the other.

use std::ops::Bound;

use crate::kv::glob;
use crate::kv::keyspace::{Blob, Keyspace, Record, Value};
use crate::kv::operation::{Interval, ScanStep};
use crate::kv::resp::reply;

/// Keys that one operation looks at, at most: nothing else of the shard goes on meanwhile.
const LOOKED_AT: usize = 10_000;

/// Bytes of keys and values that one range answers with, more or less.
const RANGE_BYTES: usize = 1 << 20;

/// Bytes that a range may answer with.
pub(super) fn expected_bytes(interval: &Interval<'_>) -> usize {
    RANGE_BYTES.min(limit(interval) * 1024)
}

fn records<'k>(
    keys: &'k Keyspace,
    interval: &Interval<'_>,
) -> impl DoubleEndedIterator<Item = &'k Record> + use<'k> {
    let end =
        if interval.end.is_empty() { Bound::Unbounded } else { Bound::Excluded(interval.end) };
    keys.range(interval.slot, Bound::Included(interval.start), end)
}

fn limit(interval: &Interval<'_>) -> usize {
    usize::try_from(interval.limit).unwrap_or(LOOKED_AT).min(LOOKED_AT)
}

/// Keys in order, and if wanted each followed by its value. Fewer than the limit are not all there
/// is only if they come to [`RANGE_BYTES`], or to [`LOOKED_AT`].
pub(super) fn range(
    keys: &Keyspace,
    interval: &Interval<'_>,
    reverse: bool,
    values: bool,
    out: &mut Vec<u8>,
) {
    let all = records(keys, interval);
    let found = if reverse {
        some(all.rev(), limit(interval), values)
    } else {
        some(all, limit(interval), values)
    };
    reply::array(out, found.len() * if values { 2 } else { 1 });
    for record in found {
        reply::bulk(out, &record.key);
        if values {
            value(out, record);
        }
    }
}

/// The first of them, until they are enough.
fn some<'k>(all: impl Iterator<Item = &'k Record>, limit: usize, values: bool) -> Vec<&'k Record> {
    let mut bytes = 0;
    let enough = |record: &&Record| {
        let before = bytes;
        bytes += record.key.len() + if values { value_length(record) } else { 0 };
        before < RANGE_BYTES
    };
    all.take(limit).take_while(enough).collect()
}

fn value_length(record: &Record) -> usize {
    if let Value::String(bytes) = &record.value { bytes.len() } else { 0 }
}

/// What has no bytes is answered with the number that it has.
fn value(out: &mut Vec<u8>, record: &Record) {
    match &record.value {
        Value::String(bytes) => reply::bulk(out, bytes),
        Value::Sequence(next) => reply::integer(out, *next as i64),
        Value::Lock(lock) => reply::integer(out, lock.token as i64),
    }
}

/// Deletes the keys of an interval, as many as one operation may; says how many.
pub(super) fn delete(keys: &mut Keyspace, interval: &Interval<'_>, out: &mut Vec<u8>) {
    let found = records(keys, interval).take(limit(interval));
    let found: Vec<Blob> = found.map(|record| record.key.clone()).collect();
    found.iter().for_each(|key| drop(keys.remove(key)));
    reply::integer(out, found.len() as i64);
}

/// The next place, and the keys that were found; the next place is zero at the end.
pub(super) fn scan(keys: &Keyspace, step: &ScanStep<'_>, out: &mut Vec<u8>) {
    let ScanStep { place, count, pattern, kind } = *step;
    let count = usize::try_from(count).unwrap_or(LOOKED_AT).clamp(1, LOOKED_AT);
    let mut found: Vec<&Record> = Vec::new();
    let (mut looked_at, mut last) = (0, place);
    let mut next = 0;
    for (place, record) in keys.from_place(place) {
        // All keys of one place come together.
        if looked_at >= count && place != last {
            next = place;
            break;
        }
        (looked_at, last) = (looked_at + 1, place);
        let of_kind = kind.is_empty() || record.value.type_name().as_bytes() == kind;
        if of_kind && glob::matches(pattern, &record.key) {
            found.push(record);
        }
    }
    reply::array(out, 2);
    reply::bulk(out, itoa::Buffer::new().format(next).as_bytes());
    reply::array(out, found.len());
    found.iter().for_each(|record| reply::bulk(out, &record.key));
}

/// The key at a place, or the next one.
pub(super) fn random(keys: &Keyspace, place: u64, out: &mut Vec<u8>) {
    let found = keys.from_place(place).next().or_else(|| keys.from_place(0).next());
    match found {
        Some((_, record)) => reply::bulk(out, &record.key),
        None => reply::null(out),
    }
}
