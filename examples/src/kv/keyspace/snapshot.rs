//! Snapshots that stop nothing: what changes before it was written is kept as it was.
//!
//! A snapshot walks the places in order, a chunk at a time, while operations go on. Before an
//! operation changes a place that the walk has not come to, the records there are put aside for it;
//! so the walk sees the keyspace of the moment at which it began, and costs memory only for what is
//! changed meanwhile.
//!
//! Format: one byte of version, the clock, the last token; then for each record its type, key,
//! deadline and value; then an end mark and the number of records. It is a stream: chunks end
//! anywhere.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use ringleader::{MachineError, SnapshotSource};

use super::table::Table;
use super::{Blob, Keyspace, Lock, Record, Value};
use crate::kv::account::Charge;
use crate::kv::wire::{Malformed, Reader, put_bytes, put_number};

const VERSION: u8 = 1;

const STRING: u8 = 1;
const SEQUENCE: u8 = 2;
const LOCK: u8 = 3;
const END: u8 = 0xff;

/// How far a snapshot is, and what it must not lose.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Places from here on are not written yet.
    next: u64,
    /// What was at these places when the snapshot began.
    saved: BTreeMap<u64, Vec<Record>>,
    charge: Charge,
    /// All records that there were when the keyspace was cleared; what is there now is of no interest.
    cleared: Option<Table>,
}

impl View {
    pub(super) fn preserve<'r>(&mut self, place: u64, records: impl Iterator<Item = &'r Record>) {
        if self.cleared.is_none() && place >= self.next && !self.saved.contains_key(&place) {
            let records: Vec<Record> = records.cloned().collect();
            self.charge.exchange(0, weight(&records));
            self.saved.insert(place, records);
        }
    }

    /// The keyspace was cleared of all its records. What it gives back is to be freed.
    pub(super) fn take_over(&mut self, records: Table) -> Table {
        if self.cleared.is_some() {
            return records;
        }
        self.cleared = Some(records);
        Table::default()
    }

    /// The next place that had records, from the saved and the live ones.
    fn next(&mut self, keyspace: &Keyspace) -> Option<Vec<Record>> {
        loop {
            let records = self.cleared.as_ref().unwrap_or(&keyspace.records);
            let live = records.next_place(self.next);
            let saved = self.saved.first_key_value().map(|(place, _)| *place);
            let place = live.into_iter().chain(saved).min()?;
            self.next = place + 1;
            if saved != Some(place) {
                return Some(records.at(place).cloned().collect());
            }
            let records = self.saved.remove(&place).unwrap_or_default();
            self.charge.exchange(weight(&records), 0);
            if !records.is_empty() {
                return Some(records);
            }
        }
    }
}

/// A keyspace as it was at one moment.
#[derive(Debug)]
pub struct SnapshotView {
    keyspace: Rc<RefCell<Keyspace>>,
    view: Rc<RefCell<View>>,
    written: Vec<u8>,
    records: u64,
    ended: bool,
}

impl SnapshotView {
    /// A view of the present moment.
    #[must_use]
    pub fn of(keyspace: &Rc<RefCell<Keyspace>>) -> Self {
        let mut now = keyspace.borrow_mut();
        let charge = Charge::to(now.charge.account().clone());
        let view = View { charge, ..View::default() };
        let view = Rc::new(RefCell::new(view));
        now.views.push(Rc::downgrade(&view));
        let mut written = vec![VERSION];
        put_number(&mut written, now.clock);
        put_number(&mut written, now.token);
        Self { keyspace: Rc::clone(keyspace), view, written, records: 0, ended: false }
    }

    fn write_next(&mut self) {
        let next = self.view.borrow_mut().next(&self.keyspace.borrow());
        let Some(records) = next else {
            self.written.push(END);
            put_number(&mut self.written, self.records);
            self.ended = true;
            return;
        };
        self.records += records.len() as u64;
        records.iter().for_each(|record| put_record(&mut self.written, record));
    }
}

impl SnapshotSource for SnapshotView {
    fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>, MachineError> {
        while self.written.len() < max_bytes && !self.ended {
            self.write_next();
        }
        if self.written.is_empty() {
            return Ok(None);
        }
        let rest = self.written.split_off(max_bytes.min(self.written.len()));
        Ok(Some(std::mem::replace(&mut self.written, rest).into()))
    }
}

/// Bytes that records take.
fn weight(records: &[Record]) -> usize {
    records.iter().map(Record::weight).sum()
}

fn put_record(out: &mut Vec<u8>, record: &Record) {
    let kind = match &record.value {
        Value::String(_) => STRING,
        Value::Sequence(_) => SEQUENCE,
        Value::Lock(_) => LOCK,
    };
    out.push(kind);
    put_bytes(out, &record.key);
    put_number(out, record.deadline);
    match &record.value {
        Value::String(bytes) => put_bytes(out, bytes),
        Value::Sequence(next) => put_number(out, *next),
        Value::Lock(lock) => {
            put_number(out, lock.token);
            put_bytes(out, &lock.owner);
        }
    }
}

/// A record, or the end with the number of records before it.
enum Item {
    Record(Record),
    End(u64),
}

fn item(reader: &mut Reader<'_>) -> Result<Item, Malformed> {
    let kind = reader.byte()?;
    if kind == END {
        return reader.number().map(Item::End);
    }
    let key = Blob::from_slice(reader.bytes()?);
    let deadline = reader.number()?;
    let value = match kind {
        STRING => Value::String(Blob::from_slice(reader.bytes()?)),
        SEQUENCE => Value::Sequence(reader.number()?),
        LOCK => {
            let token = reader.number()?;
            Value::Lock(Lock { owner: Blob::from_slice(reader.bytes()?), token })
        }
        _ => return Err(Malformed),
    };
    Ok(Item::Record(Record { key, value, deadline }))
}

/// More than a record can take: what does not make sense by then never will.
const LONGEST_RECORD: usize = 64 << 20;

/// A keyspace that is made from a snapshot's chunks.
#[derive(Debug, Default)]
pub struct Restoration {
    pending: Vec<u8>,
    begun: bool,
    ended: bool,
}

impl Restoration {
    /// Takes the next chunk.
    ///
    /// # Errors
    /// It is not what [`SnapshotView`] writes.
    pub fn take(&mut self, keyspace: &mut Keyspace, chunk: &[u8]) -> Result<(), MachineError> {
        self.pending.extend_from_slice(chunk);
        let pending = std::mem::take(&mut self.pending);
        let mut rest = Reader(&pending);
        loop {
            // A record that is not complete yet looks malformed, too.
            let mut reader = rest;
            if self.step(keyspace, &mut reader)?.is_err() {
                break;
            }
            rest = reader;
        }
        if rest.0.len() > LONGEST_RECORD || self.ended && !rest.0.is_empty() {
            return Err(damaged("a record that makes no sense"));
        }
        self.pending = rest.0.to_vec();
        Ok(())
    }

    fn step(
        &mut self,
        keyspace: &mut Keyspace,
        reader: &mut Reader<'_>,
    ) -> Result<Result<(), Malformed>, MachineError> {
        if self.ended {
            return Ok(Err(Malformed));
        }
        if !self.begun {
            let Ok((version, clock, token)) = header(reader) else { return Ok(Err(Malformed)) };
            if version != VERSION {
                return Err(damaged(&format!(
                    "version {version}, and only {VERSION} is known here"
                )));
            }
            (keyspace.clock, keyspace.token) = (clock, token);
            self.begun = true;
            return Ok(Ok(()));
        }
        match item(reader) {
            Ok(Item::Record(Record { key, value, deadline })) => {
                keyspace.insert(&key, value, deadline);
            }
            Ok(Item::End(records)) if records == keyspace.keys as u64 => self.ended = true,
            Ok(Item::End(records)) => {
                let found = keyspace.keys;
                return Err(damaged(&format!("{found} records, and the end says {records}")));
            }
            Err(malformed) => return Ok(Err(malformed)),
        }
        Ok(Ok(()))
    }

    /// Whether everything was there.
    ///
    /// # Errors
    /// The end is missing.
    pub fn finish(&self) -> Result<(), MachineError> {
        if self.ended { Ok(()) } else { Err(damaged("its end is missing")) }
    }
}

fn header(reader: &mut Reader<'_>) -> Result<(u8, u64, u64), Malformed> {
    Ok((reader.byte()?, reader.number()?, reader.number()?))
}

fn damaged(what: &str) -> MachineError {
    MachineError(format!("the snapshot of a keyspace: {what}"))
}
