use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u8, u8),
    Modify(u8, u8),
    Deadline(u8, u8),
    Remove(u8),
    Advance(u8),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..20_u8, any::<u8>(), 0..20_u8).prop_map(|(k, v, d)| Step::Insert(k, v, d)),
        2 => (0..20_u8, any::<u8>()).prop_map(|(k, v)| Step::Modify(k, v)),
        2 => (0..20_u8, 0..20_u8).prop_map(|(k, d)| Step::Deadline(k, d)),
        4 => (0..20_u8).prop_map(Step::Remove),
        2 => (1..3_u8).prop_map(Step::Advance),
        1 => Just(Step::Clear),
    ]
}

/// Some keys are in place, some are not; all are in one slot.
fn key(number: u8) -> Vec<u8> {
    let tail = if number.is_multiple_of(2) { "" } else { "-and a long tail that needs the heap" };
    format!("{{slot}}{number:02}{tail}").into_bytes()
}

fn string(value: u8) -> Value {
    Value::String(Blob::from_slice(&vec![value; usize::from(value)]))
}

/// What it should do, in the plainest way.
#[derive(Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, (Value, u64)>,
    clock: u64,
}

impl Model {
    fn alive(&self, key: &[u8]) -> Option<&(Value, u64)> {
        self.keys.get(key).filter(|(_, deadline)| *deadline == 0 || *deadline > self.clock)
    }

    fn all(&self) -> Vec<(&[u8], &Value, u64)> {
        let alive = self.keys.keys().filter(|key| self.alive(key).is_some());
        alive.map(|key| (&key[..], &self.keys[key].0, self.keys[key].1)).collect()
    }
}

fn run(steps: Vec<Step>) {
    let account = Account::default();
    let mut keys = Keyspace::new(account.clone());
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Insert(k, v, d) => {
                // A deadline in the past is the caller's to avoid.
                let deadline = if d == 0 { 0 } else { model.clock + u64::from(d) };
                keys.insert(&key(k), string(v), deadline);
                model.keys.insert(key(k), (string(v), deadline));
            }
            Step::Modify(k, v) => {
                let done = keys.modify(&key(k), |value| *value = string(v)).is_some();
                assert_eq!(done, model.alive(&key(k)).is_some());
                if done {
                    model.keys.get_mut(&key(k)).unwrap().0 = string(v);
                }
            }
            Step::Deadline(k, d) => {
                let deadline = if d == 0 { 0 } else { model.clock + u64::from(d) };
                keys.set_deadline(&key(k), deadline);
                if model.alive(&key(k)).is_some() {
                    model.keys.get_mut(&key(k)).unwrap().1 = deadline;
                }
            }
            Step::Remove(k) => {
                let removed = keys.remove(&key(k)).map(|record| record.value);
                assert_eq!(removed.as_ref(), model.alive(&key(k)).map(|(value, _)| value));
                model.keys.remove(&key(k));
            }
            Step::Advance(by) => {
                model.clock += u64::from(by);
                keys.advance(model.clock);
            }
            Step::Clear => {
                keys.clear();
                model.keys.clear();
            }
        }
        check(&keys, &model, &account);
    }
}

fn check(keys: &Keyspace, model: &Model, account: &Account) {
    let slot = slot_of(b"slot");
    let ordered = keys.range(slot, Bound::Unbounded, Bound::Unbounded);
    let as_model =
        |record: &'_ Record| (record.key.to_vec(), record.value.clone(), record.deadline);
    let ordered: Vec<_> = ordered.map(as_model).collect();
    let expected: Vec<_> =
        model.all().into_iter().map(|(k, v, d)| (k.to_vec(), v.clone(), d)).collect();
    assert_eq!(ordered, expected);
    let mut hashed: Vec<_> = keys.from_place(0).map(|(_, record)| as_model(record)).collect();
    hashed.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(hashed, expected);
    let records = || keys.records.from(0).map(|(_, record)| record);
    assert_eq!(keys.keys(), records().count());
    assert_eq!(keys.order.len(), keys.keys());
    assert_eq!(keys.keys_in_slot(slot), keys.keys());
    assert_eq!(keys.used(), records().map(Record::weight).sum::<usize>());
    assert_eq!(account.used(), keys.used());
    let mortal = records().filter(|record| record.deadline > 0);
    let deadlines: BTreeSet<_> =
        mortal.map(|record| (record.deadline, place_of(&record.key))).collect();
    assert_eq!(keys.deadlines, deadlines);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn both_indices_and_the_account_agree_with_the_model(
        steps in proptest::collection::vec(step(), 0..120)
    ) {
        run(steps);
    }
}

#[test]
fn ranges_keep_to_their_bounds_and_their_slot() {
    let mut keys = Keyspace::default();
    for name in ["{a}1", "{a}2", "{a}3", "{b}1", "{b}2"] {
        keys.insert(name.as_bytes(), string(1), 0);
    }
    let range = |start: Bound<&str>, end: Bound<&str>| {
        let bytes = |bound: Bound<&'static str>| bound.map(str::as_bytes);
        // The test's own bounds are all literals.
        let (start, end) = (leak(start), leak(end));
        let found = keys.range(slot_of(b"a"), bytes(start), bytes(end));
        found.map(|record| String::from_utf8(record.key.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    use Bound::{Excluded, Included, Unbounded};
    assert_eq!(range(Unbounded, Unbounded), ["{a}1", "{a}2", "{a}3"]);
    assert_eq!(range(Included("{a}2"), Unbounded), ["{a}2", "{a}3"]);
    assert_eq!(range(Excluded("{a}1"), Included("{a}2")), ["{a}2"]);
    assert!(range(Included("{a}3"), Excluded("{a}1")).is_empty());
    assert!(range(Excluded("{a}1"), Excluded("{a}1")).is_empty());
}

fn leak(bound: Bound<&str>) -> Bound<&'static str> {
    bound.map(|text| &*text.to_owned().leak())
}

#[test]
fn many_keys_that_expire_at_once_go_a_few_at_a_time() {
    let mut keys = Keyspace::default();
    for number in 0..1000_u32 {
        keys.insert(&number.to_be_bytes(), string(1), 10);
    }
    keys.advance(10);
    assert_eq!(keys.keys(), 1000 - EXPIRED_AT_ONCE);
    assert_eq!(keys.from_place(0).count(), 0);
    (0..1000 / EXPIRED_AT_ONCE).for_each(|_| keys.advance(10));
    assert_eq!((keys.keys(), keys.used()), (0, 0));
}

#[test]
fn what_was_cleared_is_freed_a_little_at_a_time() {
    let mut keys = Keyspace::default();
    for number in 0..2_500_u32 {
        keys.insert(&number.to_be_bytes(), string(1), 10);
    }
    keys.clear();
    keys.insert(b"new", string(1), 0);
    let steps = (0..100).take_while(|_| {
        keys.advance(1);
        keys.is_untidy()
    });
    assert!((2..10).contains(&steps.count()));
    assert_eq!((keys.keys(), keys.from_place(0).count()), (1, 1));
}
