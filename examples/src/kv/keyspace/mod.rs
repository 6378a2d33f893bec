//! A group's keys.
//!
//! Two indices: by a hash of the key (`table`), for everything that names a key, for `SCAN` (whose
//! cursor is a place in the order of the hashes, so it needs no state and survives anything) and for
//! snapshots; and by slot and key, a B-tree for ordered ranges. Neither ever moves all keys at once,
//! whatever their number.
//!
//! Keys with a deadline are in a third index. What is past its deadline is gone for whoever asks;
//! it is removed a few keys at a time as the group's clock advances, and the group's clock is in the
//! log: see [`Keyspace::advance`].

mod record;
mod snapshot;
mod table;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher as _};
use std::ops::Bound;
use std::rc::{Rc, Weak};

use smallvec::SmallVec;

pub use self::record::{Blob, Lock, Record, Value};
use self::snapshot::View;
pub use self::snapshot::{Restoration, SnapshotView};
use self::table::Table;
use super::account::{Account, Charge};
use super::operation::TOGETHER;
use super::slot::{SLOTS, slot_of};

/// Keys past their deadline that are removed whenever the clock advances, at most: an operation
/// never waits for a million keys that expire at once.
const EXPIRED_AT_ONCE: usize = 64;

/// Likewise of keys that were cleared, whose memory is still to be freed.
const FREED_AT_ONCE: usize = 1_000;
/// Likewise of pages of their table.
const PAGES_AT_ONCE: usize = 20;

/// Bits of a place in the order of the hashes; `SCAN`'s cursor needs the others for the group.
pub const PLACE_BITS: u32 = 54;

/// The keys of one group.
#[derive(Debug, Default)]
pub struct Keyspace {
    /// By [`place_of`] the key.
    records: Table,
    /// By slot and key.
    order: BTreeSet<(u16, Blob)>,
    /// By deadline and place.
    deadlines: BTreeSet<(u64, u64)>,
    /// Milliseconds since the epoch, as the log has it.
    clock: u64,
    /// The last fencing token that was given out.
    token: u64,
    keys: usize,
    /// Of each slot; none while there are none at all.
    per_slot: Vec<u32>,
    charge: Charge,
    /// What was cleared: freeing a million records at once would stop the shard.
    cleared: Vec<Indices>,
    /// Snapshots under way.
    views: Vec<Weak<RefCell<View>>>,
}

/// All that points to keys.
type Indices = (Table, BTreeSet<(u16, Blob)>, BTreeSet<(u64, u64)>);

/// Where a key stands in the order of the hashes. With SipHash nobody can make many keys share one.
fn place_of(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish() >> (u64::BITS - PLACE_BITS)
}

fn holds(key: &[u8]) -> impl Fn(&Record) -> bool + '_ {
    move |record| record.key.as_slice() == key
}

impl Keyspace {
    /// No keys; what they will take is counted in `account` too.
    #[must_use]
    pub fn new(account: Account) -> Self {
        Self { charge: Charge::to(account), ..Self::default() }
    }

    /// The group's clock: milliseconds since the epoch, as of the last entry. It never goes back.
    #[must_use]
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// Number of keys, with some that are past their deadline.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Number of keys of a slot, with some that are past their deadline.
    #[must_use]
    pub fn keys_in_slot(&self, slot: u16) -> usize {
        self.per_slot.get(usize::from(slot)).map_or(0, |keys| *keys as usize)
    }

    fn of_slot(&mut self, slot: u16) -> &mut u32 {
        if self.per_slot.is_empty() {
            self.per_slot = vec![0; usize::from(SLOTS)];
        }
        &mut self.per_slot[usize::from(slot)]
    }

    /// Number of keys that have a deadline, or nearly so.
    #[must_use]
    pub fn mortal_keys(&self) -> usize {
        self.deadlines.len()
    }

    /// Bytes that the keys and values take.
    #[must_use]
    pub fn used(&self) -> usize {
        self.charge.bytes()
    }

    /// When the next key is due to go.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The clock of the entry that is applied. A clock that went back, on this leader or the next,
    /// stands still here. Some of the keys whose time has come are removed.
    pub fn advance(&mut self, now: u64) {
        self.clock = self.clock.max(now);
        self.free_cleared();
        for _ in 0..EXPIRED_AT_ONCE {
            let due = self.deadlines.first().filter(|(deadline, _)| *deadline <= self.clock);
            let Some(&(deadline, place)) = due else { return };
            let expired = |record: &Record| record.deadline == deadline;
            if self.take(place, expired).is_none() {
                debug_assert!(false, "a deadline without a record");
                self.deadlines.pop_first();
            }
        }
    }

    fn free_cleared(&mut self) {
        let Some((records, order, deadlines)) = self.cleared.last_mut() else { return };
        let mut left = records.free_some(PAGES_AT_ONCE);
        for _ in 0..FREED_AT_ONCE {
            let freed = (order.pop_first(), deadlines.pop_first());
            if freed == (None, None) {
                break;
            }
            left = true;
        }
        if !left {
            self.cleared.pop();
        }
    }

    /// Whether it would like to be [advanced](Self::advance), whatever the time: there is memory to be
    /// freed.
    #[must_use]
    pub fn is_untidy(&self) -> bool {
        !self.cleared.is_empty()
    }

    /// Has the CPU fetch what operations on these keys will look at. Of many keys hardly any is in its
    /// cache, and one after the other each costs several waits for memory.
    pub fn prefetch<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        let places: SmallVec<[u64; TOGETHER]> = keys.map(place_of).collect();
        self.records.prefetch(&places);
    }

    /// A key that is there.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Record> {
        let record = self.records.get(place_of(key), holds(key));
        record.filter(|record| record.is_alive(self.clock))
    }

    /// Sets a key, whatever it was. A `deadline` of zero is none.
    pub fn insert(&mut self, key: &[u8], value: Value, deadline: u64) {
        self.update(key, |_| (Some((value, deadline)), ()));
    }

    /// Has `decide` see a key, if it is there, and say what it is to have, and until when; if that is
    /// nothing, all stays as it is.
    pub fn update<T>(
        &mut self,
        key: &[u8],
        decide: impl FnOnce(Option<&Record>) -> (Option<(Value, u64)>, T),
    ) -> T {
        let place = place_of(key);
        self.preserve(place);
        let clock = self.clock;
        let Some(record) = self.records.get_mut(place, holds(key)) else {
            let (change, result) = decide(None);
            if let Some((value, deadline)) = change {
                self.add(place, Record { key: Blob::from_slice(key), value, deadline });
            }
            return result;
        };
        let (change, result) = decide(Some(&*record).filter(|record| record.is_alive(clock)));
        if let Some((value, deadline)) = change {
            let (weight, before) = (record.weight(), record.deadline);
            (record.value, record.deadline) = (value, deadline);
            let now = record.weight();
            self.charge.exchange(weight, now);
            self.move_deadline(place, before, deadline);
        }
        result
    }

    fn add(&mut self, place: u64, record: Record) {
        self.charge.exchange(0, record.weight());
        let slot = slot_of(&record.key);
        self.order.insert((slot, record.key.clone()));
        self.keys += 1;
        *self.of_slot(slot) += 1;
        let deadline = record.deadline;
        self.records.insert(place, record);
        self.move_deadline(place, 0, deadline);
    }

    /// Changes the value of a key that is there; its deadline stays.
    pub fn modify<T>(&mut self, key: &[u8], change: impl FnOnce(&mut Value) -> T) -> Option<T> {
        let place = place_of(key);
        self.preserve(place);
        let clock = self.clock;
        let record = self.records.get_mut(place, holds(key))?;
        if !record.is_alive(clock) {
            return None;
        }
        let before = record.weight();
        let changed = change(&mut record.value);
        let after = record.weight();
        self.charge.exchange(before, after);
        Some(changed)
    }

    /// Sets or, with zero, clears the deadline of a key that is there.
    pub fn set_deadline(&mut self, key: &[u8], deadline: u64) {
        let place = place_of(key);
        self.preserve(place);
        let clock = self.clock;
        let record = self.records.get_mut(place, holds(key));
        let Some(record) = record.filter(|record| record.is_alive(clock)) else { return };
        let (weight, before) = (record.weight(), record.deadline);
        record.deadline = deadline;
        let now = record.weight();
        self.charge.exchange(weight, now);
        self.move_deadline(place, before, deadline);
    }

    /// Takes a key out. What is past its deadline goes too, but nobody is given it.
    pub fn remove(&mut self, key: &[u8]) -> Option<Record> {
        let record = self.take(place_of(key), holds(key))?;
        record.is_alive(self.clock).then_some(record)
    }

    fn take(&mut self, place: u64, wanted: impl Fn(&Record) -> bool) -> Option<Record> {
        self.preserve(place);
        let record = self.records.remove(place, wanted)?;
        self.move_deadline(place, record.deadline, 0);
        let slot = slot_of(&record.key);
        self.order.remove(&(slot, record.key.clone()));
        self.keys -= 1;
        *self.of_slot(slot) -= 1;
        self.charge.exchange(record.weight(), 0);
        Some(record)
    }

    /// Removes every key. Clock and tokens go on.
    pub fn clear(&mut self) {
        let mut records = std::mem::take(&mut self.records);
        for view in self.views() {
            records = view.borrow_mut().take_over(records);
        }
        let order = std::mem::take(&mut self.order);
        self.cleared.push((records, order, std::mem::take(&mut self.deadlines)));
        self.keys = 0;
        self.per_slot = Vec::new();
        self.charge.exchange(self.charge.bytes(), 0);
    }

    /// A number that is greater than all that were given out before, in this group.
    pub fn next_token(&mut self) -> u64 {
        self.token += 1;
        self.token
    }

    /// A record at a place had one deadline and has another now, where zero is none. Two records of
    /// one place may have had the same.
    fn move_deadline(&mut self, place: u64, before: u64, now: u64) {
        if before == now {
            return;
        }
        let has = |record: &Record| record.deadline == before;
        if before > 0 && !self.records.at(place).any(has) {
            self.deadlines.remove(&(before, place));
        }
        if now > 0 {
            self.deadlines.insert((now, place));
        }
    }

    /// The keys of a slot between two bounds, in order.
    pub fn range<'a>(
        &'a self,
        slot: u16,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = &'a Record> + use<'a> {
        let in_slot = |bound: Bound<&[u8]>| bound.map(|key| (slot, Blob::from_slice(key)));
        let start = match in_slot(start) {
            Bound::Unbounded => Bound::Included((slot, Blob::new())),
            bound => bound,
        };
        let end = match in_slot(end) {
            Bound::Unbounded => Bound::Excluded((slot + 1, Blob::new())),
            bound => bound,
        };
        // The tree panics where a range is upside down, and so does not get to see one.
        let empty = match (&start, &end) {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Included(end) | Bound::Excluded(end),
            ) => start >= end,
            _ => false,
        };
        let keys = (!empty).then(|| self.order.range((start, end)));
        keys.into_iter().flatten().filter_map(|(_, key)| self.get(key))
    }

    /// The keys from a place in the order of the hashes on, each with its place. One place may
    /// have several.
    pub fn from_place(&self, place: u64) -> impl Iterator<Item = (u64, &Record)> {
        self.records.from(place).filter(|(_, record)| record.is_alive(self.clock))
    }

    fn views(&mut self) -> SmallVec<[Rc<RefCell<View>>; 1]> {
        self.views.retain(|view| view.strong_count() > 0);
        self.views.iter().filter_map(Weak::upgrade).collect()
    }

    /// Keeps what is at a place for the snapshots that have not come there yet.
    fn preserve(&mut self, place: u64) {
        if self.views.is_empty() {
            return;
        }
        for view in self.views() {
            view.borrow_mut().preserve(place, self.records.at(place));
        }
    }
}

#[cfg(test)]
mod tests;
