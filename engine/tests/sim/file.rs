//! One file of a simulated disk: its sectors, each with what is settled and what is not.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;

use crate::rng::Rng;

/// What a read of nothing but zeros brings, up to the largest segment that is drawn.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What a sector holds; `None` is zeros.
pub(crate) type Content = Option<Rc<[u8]>>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Sector {
    pub(crate) stable: Content,
    /// Later contents, each with the moment of its write, in order.
    volatile: Vec<(u64, Content)>,
}

#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) len: u64,
    stable_len: u64,
    size: u64,
    pub(crate) sectors: Vec<Sector>,
    /// Sectors with something in `volatile`.
    dirty: BTreeSet<u64>,
    /// Sectors that can't be read until they are written.
    pub(crate) bad: BTreeSet<u64>,
    /// How often its beginning was written with something: a segment's header.
    pub(crate) headers: u32,
}

impl File {
    /// `size` is the size of a sector.
    pub(crate) fn new(len: u64, size: u64) -> Self {
        Self {
            len,
            stable_len: 0,
            size,
            sectors: vec![Sector::default(); len.div_ceil(size) as usize],
            dirty: BTreeSet::new(),
            bad: BTreeSet::new(),
            headers: 0,
        }
    }

    fn sector(&mut self, at: u64) -> &mut Sector {
        if self.sectors.len() as u64 <= at {
            self.sectors.resize(at as usize + 1, Sector::default());
        }
        &mut self.sectors[at as usize]
    }

    pub(crate) fn put(&mut self, at: u64, content: Content, moment: u64) {
        self.len = self.len.max((at + 1) * self.size);
        let sector = self.sector(at);
        sector.volatile.push((moment, content));
        self.dirty.insert(at);
        self.bad.remove(&at);
    }

    /// Writes from sector `first` on; what was there before.
    pub(crate) fn write(
        &mut self,
        first: u64,
        contents: &[Content],
        moment: u64,
        durable: bool,
    ) -> Vec<Content> {
        self.headers += u32::from(first == 0 && contents.first().is_some_and(Option::is_some));
        let mut before = Vec::with_capacity(contents.len());
        for (at, content) in (first..).zip(contents) {
            before.push(self.sector(at).newest().cloned());
            self.put(at, content.clone(), moment);
            if durable {
                self.settle_sector(at, moment);
            }
        }
        if durable {
            self.stable_len = self.len;
        }
        before
    }

    pub(crate) fn zero(&mut self, offset: u64, len: u64, moment: u64) {
        for at in offset / self.size..(offset + len) / self.size {
            self.put(at, None, moment);
        }
    }

    /// The bytes, as far as the file goes; `None` when a sector can't be read.
    pub(crate) fn read(&self, offset: u64, len: u64) -> Option<Bytes> {
        let end = (offset + len).min(self.len);
        if self.bad.range(offset / self.size..end.div_ceil(self.size)).next().is_some() {
            return None;
        }
        let len = end.saturating_sub(offset) as usize;
        let sectors = self.sectors.iter().skip((offset / self.size) as usize);
        let sectors = sectors.take(len.div_ceil(self.size as usize)).map(Sector::newest);
        // Most of what is read was never written.
        if len <= ZEROS.len() && sectors.clone().all(|content| content.is_none()) {
            return Some(Bytes::from_static(&ZEROS[..len]));
        }
        let mut bytes = Vec::with_capacity(len);
        for content in sectors {
            let size = (len - bytes.len()).min(self.size as usize);
            match content {
                Some(content) => bytes.extend_from_slice(&content[..size]),
                None => bytes.resize(bytes.len() + size, 0),
            }
        }
        bytes.resize(len, 0);
        Some(bytes.into())
    }

    fn settle_sector(&mut self, at: u64, moment: u64) {
        let sector = &mut self.sectors[at as usize];
        let settled = sector.volatile.partition_point(|(written, _)| *written <= moment);
        if let Some((_, content)) = sector.volatile.drain(..settled).next_back() {
            sector.stable = content;
        }
        if sector.volatile.is_empty() {
            self.dirty.remove(&at);
        }
    }

    /// Everything written up to `moment` is on stable storage.
    pub(crate) fn settle(&mut self, moment: u64) {
        self.stable_len = self.len;
        for at in self.dirty.clone() {
            self.settle_sector(at, moment);
        }
    }

    /// What was written up to `moment` is gone.
    pub(crate) fn drop_unsettled(&mut self, moment: u64) {
        for at in self.dirty.clone() {
            let sector = &mut self.sectors[at as usize];
            let settled = sector.volatile.partition_point(|(written, _)| *written <= moment);
            sector.volatile.drain(..settled);
            if sector.volatile.is_empty() {
                self.dirty.remove(&at);
            }
        }
    }

    pub(crate) fn crash(&mut self, survives: u32, rng: &mut Rng) {
        for at in std::mem::take(&mut self.dirty) {
            let sector = &mut self.sectors[at as usize];
            if rng.chance(survives) {
                let kept = rng.below(sector.volatile.len() as u64) as usize;
                sector.stable = sector.volatile[kept].1.take();
            }
            sector.volatile.clear();
        }
        if !rng.chance(survives) {
            self.len = self.stable_len;
            self.sectors.truncate((self.len / self.size) as usize);
        }
        self.stable_len = self.len;
    }

    /// What is left when nothing survives that need not.
    pub(crate) fn settled(&self) -> Self {
        let mut file = Self::new(self.stable_len, self.size);
        for (into, from) in file.sectors.iter_mut().zip(&self.sectors) {
            into.stable.clone_from(&from.stable);
        }
        file.bad.clone_from(&self.bad);
        file
    }

    /// Whether both hold the same on stable storage.
    pub(crate) fn same_settled(&self, other: &Self) -> bool {
        let same = |(one, other): (&Sector, &Sector)| one.stable == other.stable;
        self.bad == other.bad
            && self.sectors.len() == other.sectors.len()
            && self.sectors.iter().zip(&other.sectors).all(same)
    }

    /// What is settled of its first page: a segment's header.
    pub(crate) fn header(&self) -> Vec<Content> {
        let sectors = self.sectors.iter().take((4096 / self.size) as usize);
        sectors.map(|sector| sector.stable.clone()).collect()
    }

    /// Whether all that the sector holds is settled.
    pub(crate) fn is_settled(&self, at: u64) -> bool {
        (at as usize) < self.sectors.len()
            && !self.dirty.contains(&at)
            && (at + 1) * self.size <= self.stable_len
    }
}

impl Sector {
    fn newest(&self) -> Option<&Rc<[u8]>> {
        self.volatile.last().map_or(self.stable.as_ref(), |(_, content)| content.as_ref())
    }
}

/// The sectors that a write of `parts`, padded with zeros to `len`, consists of.
pub(crate) fn contents(parts: &[Bytes], len: u64, size: u64) -> Vec<Content> {
    let mut bytes = Vec::with_capacity(len as usize);
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    assert!(bytes.len() as u64 <= len && len.is_multiple_of(4096), "a write is whole pages");
    bytes.resize(len as usize, 0);
    let sector = |bytes: &[u8]| bytes.iter().any(|byte| *byte != 0).then(|| Rc::from(bytes));
    bytes.chunks(size as usize).map(sector).collect()
}
