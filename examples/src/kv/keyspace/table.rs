//! Records by the hash of their key, in the order of the hashes.
//!
//! Extendible hashing (Fagin, Nievergelt, Pippenger, Strong, 1979): the first bits of a hash choose a
//! page through a directory, and a page that is full is split by one more bit. A lookup touches the
//! same few cache lines whatever the number of records, where a tree's search touches some on each
//! level; and no insertion moves more than a page of them, where a hash table that grows moves all
//! and stops the shard meanwhile. Only the directory, four bytes for a page, is doubled now and then.

use ringleader::prefetch;
use smallvec::SmallVec;

use super::PLACE_BITS;
use super::record::Record;

/// Records of a page. It has more only where many hashes begin alike, as if somebody had looked for
/// such keys: the directory does not grow for these, and a page that is searched by tags can take it.
const PAGE: usize = 64;

/// Entries of the directory for each page, at most. Hashes that are spread evenly take a few.
const ENTRIES_PER_PAGE: usize = 64;

/// Bits that the directory goes by, at most.
const MAX_DEPTH: u32 = 30;

/// See the [module](self). A *place* is the hash of a key; several keys may have the same.
#[derive(Debug)]
pub(super) struct Table {
    pages: Vec<Page>,
    /// The page of all places that begin with the bits that an entry stands for.
    directory: Vec<u32>,
    /// Bits that the directory goes by.
    depth: u32,
}

/// All records whose places begin with the same `depth` bits, in any order.
#[derive(Debug, Default)]
struct Page {
    depth: u32,
    /// The last byte of each place: what is looked for is looked for here.
    tags: SmallVec<[u8; PAGE]>,
    records: Vec<(u64, Box<Record>)>,
}

fn tag(place: u64) -> u8 {
    place as u8
}

impl Page {
    fn push(&mut self, place: u64, record: Box<Record>) {
        self.tags.push(tag(place));
        self.records.push((place, record));
    }

    fn position(&self, place: u64, wanted: impl Fn(&Record) -> bool) -> Option<usize> {
        memchr::memchr_iter(tag(place), &self.tags).find(|at| {
            let (there, record) = &self.records[*at];
            *there == place && wanted(record)
        })
    }
}

impl Default for Table {
    fn default() -> Self {
        Self { pages: vec![Page::default()], directory: vec![0], depth: 0 }
    }
}

impl Table {
    /// Where the directory has a place's page.
    fn entry_of(&self, place: u64) -> usize {
        (place >> (PLACE_BITS - self.depth)) as usize
    }

    fn page(&self, place: u64) -> &Page {
        &self.pages[self.directory[self.entry_of(place)] as usize]
    }

    fn page_mut(&mut self, place: u64) -> &mut Page {
        let page = self.directory[self.entry_of(place)];
        &mut self.pages[page as usize]
    }

    /// Has the CPU fetch the records at these places: for all of them together what leads there, step
    /// by step.
    pub(super) fn prefetch(&self, places: &[u64]) {
        for place in places {
            prefetch(&self.directory[self.entry_of(*place)], size_of::<u32>());
        }
        for place in places {
            prefetch(self.page(*place), size_of::<Page>());
        }
        for place in places {
            let page = self.page(*place);
            if let Some(at) = memchr::memchr(tag(*place), &page.tags) {
                prefetch(&page.records[at], size_of::<(u64, Box<Record>)>());
            }
        }
        for place in places {
            if let Some(record) = self.at(*place).next() {
                prefetch(record, size_of::<Record>());
            }
        }
    }

    /// The records at a place.
    pub(super) fn at(&self, place: u64) -> impl Iterator<Item = &Record> {
        let page = self.page(place);
        let same_tag = memchr::memchr_iter(tag(place), &page.tags).map(|at| &page.records[at]);
        same_tag.filter(move |(there, _)| *there == place).map(|(_, record)| &**record)
    }

    pub(super) fn get(&self, place: u64, wanted: impl Fn(&Record) -> bool) -> Option<&Record> {
        self.at(place).find(|record| wanted(record))
    }

    pub(super) fn get_mut(
        &mut self,
        place: u64,
        wanted: impl Fn(&Record) -> bool,
    ) -> Option<&mut Record> {
        let page = self.page_mut(place);
        let at = page.position(place, wanted)?;
        Some(&mut page.records[at].1)
    }

    /// Adds a record, whose key is not there.
    pub(super) fn insert(&mut self, place: u64, record: Record) {
        loop {
            let page = self.page_mut(place);
            let (length, depth) = (page.records.len(), page.depth);
            if length < PAGE || !self.may_split(depth) {
                return self.page_mut(place).push(place, Box::new(record));
            }
            self.split(place);
        }
    }

    pub(super) fn remove(
        &mut self,
        place: u64,
        wanted: impl Fn(&Record) -> bool,
    ) -> Option<Record> {
        let page = self.page_mut(place);
        let at = page.position(place, wanted)?;
        page.tags.swap_remove(at);
        let (_, record) = page.records.swap_remove(at);
        if page.records.is_empty() {
            page.records = Vec::new();
        }
        Some(*record)
    }

    /// Whether a page of this depth may be split.
    fn may_split(&self, depth: u32) -> bool {
        let room = self.directory.len() < ENTRIES_PER_PAGE * self.pages.len();
        depth < self.depth || self.depth < MAX_DEPTH && room
    }

    /// Splits the page of a place by one more bit.
    fn split(&mut self, place: u64) {
        let page = self.page_mut(place);
        let before = page.depth;
        page.depth += 1;
        page.tags.clear();
        let records = std::mem::take(&mut page.records);
        let mut ones = Page { depth: page.depth, ..Page::default() };
        for (place, record) in records {
            let one = place >> (PLACE_BITS - before - 1) & 1 == 1;
            if one { ones.push(place, record) } else { page.push(place, record) }
        }
        if before == self.depth {
            self.directory = self.directory.iter().flat_map(|page| [*page, *page]).collect();
            self.depth += 1;
        }
        let new = u32::try_from(self.pages.len()).expect("fewer pages than the directory has bits");
        self.pages.push(ones);
        // The second half of the entries that were the page's.
        let entries = 1 << (self.depth - before);
        let first = (place >> (PLACE_BITS - before)) as usize * entries;
        self.directory[first + entries / 2..first + entries].fill(new);
    }

    /// The first place from this one on that has a record.
    pub(super) fn next_place(&self, from: u64) -> Option<u64> {
        let mut pages = self.pages_from(from);
        pages.find_map(|page| {
            let places = page.records.iter().map(|(place, _)| *place);
            places.filter(|place| *place >= from).min()
        })
    }

    /// The records from a place on, each with its place, in order.
    pub(super) fn from(&self, from: u64) -> impl Iterator<Item = (u64, &Record)> {
        self.pages_from(from).flat_map(move |page| {
            let records = page.records.iter().map(|(place, record)| (*place, &**record));
            let mut records: Vec<_> = records.filter(|(place, _)| *place >= from).collect();
            records.sort_unstable_by_key(|(place, _)| *place);
            records
        })
    }

    /// The pages from that of a place on, in order.
    fn pages_from(&self, place: u64) -> impl Iterator<Item = &Page> {
        let mut next = if place >> PLACE_BITS == 0 { self.entry_of(place) } else { usize::MAX };
        std::iter::from_fn(move || {
            let page = &self.pages[*self.directory.get(next)? as usize];
            // Behind all entries that are this page's.
            let shift = self.depth - page.depth;
            next = ((next >> shift) + 1) << shift;
            Some(page)
        })
    }

    /// Frees some of the records; false if none are left. There is nothing else that may be done with
    /// it from then on.
    pub(super) fn free_some(&mut self, pages: usize) -> bool {
        self.directory = Vec::new();
        self.pages.truncate(self.pages.len().saturating_sub(pages));
        !self.pages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kv::keyspace::{Blob, Value};

    fn record(number: u64) -> Record {
        let key = Blob::from_slice(&number.to_le_bytes());
        Record { key, value: Value::Sequence(number), deadline: 0 }
    }

    /// Spreads numbers over the places.
    fn place_of(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - PLACE_BITS)
    }

    fn check(table: &Table, model: &BTreeMap<u64, u64>) {
        let all: Vec<_> = table.from(0).map(|(place, found)| (place, found.clone())).collect();
        let expected: Vec<_> = model.iter().map(|(place, it)| (*place, record(*it))).collect();
        assert_eq!(all, expected);
        let longest = table.pages.iter().map(|page| page.records.len()).max();
        assert!(longest <= Some(PAGE));
    }

    #[test]
    fn records_are_found_and_come_in_order_as_pages_split() {
        let (mut table, mut model) = (Table::default(), BTreeMap::new());
        for number in 0..20_000 {
            table.insert(place_of(number), record(number));
            model.insert(place_of(number), number);
        }
        check(&table, &model);
        assert!((9..14).contains(&table.depth), "{}", table.depth);
        for number in (0..20_000).filter(|number| number % 3 > 0) {
            let wanted = |found: &Record| *found == record(number);
            assert!(table.get(place_of(number), wanted).is_some());
            assert_eq!(table.remove(place_of(number), wanted), Some(record(number)));
            assert!(table.get_mut(place_of(number), wanted).is_none());
            model.remove(&place_of(number));
        }
        check(&table, &model);
        for from in [0, 1, 1 << 20, 1 << 53, (1 << PLACE_BITS) - 1] {
            let expected = model.range(from..).next().map(|(place, _)| *place);
            assert_eq!(table.next_place(from), expected);
            assert_eq!(table.from(from).next().map(|(place, _)| place), expected);
        }
        assert_eq!(table.next_place(1 << PLACE_BITS), None);
        while table.free_some(100) {}
    }

    #[test]
    fn places_that_begin_alike_and_are_alike_are_told_apart() {
        let mut table = Table::default();
        // More than a page of the same first bits, two at each place.
        for number in 0..200 {
            table.insert(number / 2, record(number));
        }
        for number in 0..200 {
            assert_eq!(table.at(number / 2).count(), 2);
            assert!(table.get(number / 2, |found| *found == record(number)).is_some());
        }
        assert_eq!(table.from(50).count(), 100);
        assert!(table.directory.len() <= 2 * ENTRIES_PER_PAGE * table.pages.len());
    }
}
