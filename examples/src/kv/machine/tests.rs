use proptest::prelude::*;

use super::*;
use crate::kv::operation::{Condition, Expiry, List, Operation};

fn machine() -> (KvMachine, Rc<Replica>, Account) {
    let account = Account::default();
    let replica = Replica::new(account.clone());
    (KvMachine::new(Rc::clone(&replica), Box::new(|_| {})), replica, account)
}

fn apply(machine: &mut KvMachine, now: u64, operation: Operation<'_>) -> String {
    let (mut entry, mut out) = (Vec::new(), Vec::new());
    LogEntry { now, operation }.encode(&mut entry);
    machine.apply_one(&entry, true, &mut out);
    String::from_utf8(out).unwrap()
}

fn set<'a>(key: &'a [u8], value: &'a [u8], expiry: Expiry) -> Operation<'a> {
    Operation::Set { key, value, condition: Condition::Always, expiry, get: false }
}

/// A snapshot in chunks of `chunk` bytes; `between` is called before each.
fn chunks(
    source: &mut dyn SnapshotSource,
    chunk: usize,
    mut between: impl FnMut(),
) -> Vec<bytes::Bytes> {
    std::iter::from_fn(|| {
        between();
        source.next_chunk(chunk).unwrap()
    })
    .collect()
}

fn restored(chunks: &[bytes::Bytes]) -> (KvMachine, Rc<Replica>) {
    let (mut machine, replica, _) = machine();
    chunks.iter().for_each(|chunk| machine.restore(chunk).unwrap());
    machine.restored().unwrap();
    (machine, replica)
}

fn dump(replica: &Replica) -> Vec<(Vec<u8>, String)> {
    replica.with(|keys| {
        let records = keys.from_place(0);
        let mut all: Vec<_> =
            records.map(|(_, record)| (record.key.to_vec(), format!("{record:?}"))).collect();
        all.sort();
        all
    })
}

#[test]
fn time_is_in_the_log_and_never_goes_back() {
    let (mut machine, replica, _) = machine();
    let get = || Operation::Get { key: b"k" };
    apply(&mut machine, 1_000, set(b"k", b"v", Expiry::In(500)));
    assert_eq!(apply(&mut machine, 1_499, get()), "$1\r\nv\r\n");
    // Another leader, whose clock is behind.
    assert_eq!(apply(&mut machine, 10, get()), "$1\r\nv\r\n");
    assert_eq!(replica.with(Keyspace::clock), 1_499);
    assert_eq!(apply(&mut machine, 1_500, Operation::Tick), "+OK\r\n");
    assert_eq!(apply(&mut machine, 1_400, get()), "_\r\n");
    assert_eq!(replica.with(Keyspace::keys), 0);
}

#[test]
fn what_nobody_waits_for_changes_the_clock_and_nothing_else() {
    let (mut machine, replica, _) = machine();
    let (mut entry, mut out) = (Vec::new(), Vec::new());
    LogEntry { now: 7, operation: Operation::Get { key: b"k" } }.encode(&mut entry);
    machine.apply_one(&entry, false, &mut out);
    assert_eq!((replica.with(Keyspace::clock), out.len()), (7, 0));
}

#[test]
fn nonsense_in_the_log_changes_nothing() {
    let (mut machine, replica, _) = machine();
    let mut entry = Vec::new();
    LogEntry { now: 9, operation: set(b"k", b"v", Expiry::Never) }.encode(&mut entry);
    for length in 0..entry.len() {
        let mut out = Vec::new();
        machine.apply_one(&entry[..length], true, &mut out);
        assert!(out.starts_with(b"-ERR"), "{length}");
    }
    entry.push(0);
    machine.apply_one(&entry, true, &mut Vec::new());
    assert_eq!(replica.with(|keys| (keys.clock(), keys.keys())), (0, 0));
}

#[test]
fn a_snapshot_shows_the_moment_at_which_it_began() {
    let (mut machine, replica, account) = machine();
    for number in 0..500_u32 {
        let key = number.to_be_bytes();
        apply(&mut machine, 1, set(&key, &key, Expiry::In(u64::from(number) + 1_000)));
    }
    apply(&mut machine, 2, Operation::Acquire { key: b"lock", owner: b"me", lease: 9_000 });
    apply(&mut machine, 2, Operation::Next { key: b"sequence", count: 5 });
    let before = dump(&replica);
    let mut source = machine.snapshot().unwrap();
    let mut number = 0_u32;
    let chunks = chunks(&mut *source, 40, || {
        // Changed, deleted and new keys, ahead of the snapshot and behind it.
        number += 1;
        let (changed, deleted) = (number.to_be_bytes(), (500 - number.min(400)).to_be_bytes());
        apply(&mut machine, 3, set(&changed, b"changed", Expiry::Never));
        apply(&mut machine, 3, Operation::Delete { keys: List::from_slice(&[&deleted]) });
        apply(&mut machine, 3, set(&(number + 10_000).to_be_bytes(), b"new", Expiry::Never));
        if number == 100 {
            apply(&mut machine, 3, Operation::Clear);
        }
    });
    assert!(number > 100, "{number}");
    assert_ne!(dump(&replica), before);
    let (_, copy) = restored(&chunks);
    assert_eq!(dump(&copy), before);
    assert_eq!(copy.with(Keyspace::clock), 2);
    drop(source);
    assert_eq!(account.used(), replica.with(Keyspace::used));
}

#[test]
fn tokens_go_on_after_a_snapshot() {
    let (mut machine, _, _) = machine();
    let acquire = || Operation::Acquire { key: b"lock", owner: b"me", lease: 10 };
    assert_eq!(apply(&mut machine, 1, acquire()), ":1\r\n");
    assert_eq!(apply(&mut machine, 2, Operation::Release { key: b"lock", token: 1 }), ":1\r\n");
    let chunks = chunks(&mut *machine.snapshot().unwrap(), 1000, || {});
    let (mut copy, _) = restored(&chunks);
    assert_eq!(apply(&mut copy, 3, acquire()), ":2\r\n");
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let (mut machine, _, _) = machine();
    apply(&mut machine, 1, set(b"k", b"v", Expiry::Never));
    let whole = chunks(&mut *machine.snapshot().unwrap(), 1000, || {}).concat();
    let refused = |bytes: &[u8]| {
        let (mut machine, _, _) = self::machine();
        machine.restore(bytes).and_then(|()| machine.restored()).is_err()
    };
    assert!(!refused(&whole));
    assert!((0..whole.len()).all(|length| refused(&whole[..length])));
    assert!(refused(&[&whole[..], b"x"].concat()));
    assert!(refused(&[&[9], &whole[1..]].concat()));
    let count = whole.len() - 1;
    assert!(refused(&[&whole[..count], &[whole[count] + 1]].concat()));
}

#[test]
fn a_machine_that_restores_is_not_shown_before_it_is_complete() {
    let (mut old, replica, _) = machine();
    apply(&mut old, 1, set(b"k", b"old", Expiry::Never));
    let (mut other, _, _) = machine();
    apply(&mut other, 1, set(b"k", b"new", Expiry::Never));
    let chunks = chunks(&mut *other.snapshot().unwrap(), 1000, || {});
    let mut new = KvMachine::new(Rc::clone(&replica), Box::new(|_| {}));
    let shown = || dump(&replica)[0].1.contains("\"new\"") || dump(&replica)[0].1.contains("110");
    chunks.iter().for_each(|chunk| new.restore(chunk).unwrap());
    assert!(!shown());
    new.restored().unwrap();
    assert!(shown());
}

#[test]
fn nothing_is_left_of_a_machine_that_did_not_get_to_the_end_of_its_snapshot() {
    let (mut old, replica, _) = machine();
    apply(&mut old, 1, set(b"k", b"v", Expiry::Never));
    let chunks = chunks(&mut *old.snapshot().unwrap(), 10, || {});
    drop(old);
    let mut failed = KvMachine::new(Rc::clone(&replica), Box::new(|_| {}));
    failed.restore(&chunks[0]).unwrap();
    drop(failed);
    let _fresh = KvMachine::new(Rc::clone(&replica), Box::new(|_| {}));
    assert_eq!(replica.with(|keys| (keys.clock(), keys.keys())), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_it_panic(entry in proptest::collection::vec(any::<u8>(), 0..64)) {
        let (mut machine, _, _) = machine();
        let mut out = Vec::new();
        machine.apply_one(&entry, true, &mut out);
        prop_assert!(!out.is_empty());
        let mut again = Vec::new();
        if let Some(decoded) = LogEntry::decode(&entry) {
            decoded.encode(&mut again);
            prop_assert_eq!(LogEntry::decode(&again), Some(decoded));
        }
        let _ = machine.restore(&entry);
    }
}
