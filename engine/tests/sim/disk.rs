//! A node's disk. It outlives the node's crashes, and forgets what it was never told to keep.
//!
//! What a file holds is kept per sector: the content that is on stable storage, and every later
//! content that is not. A [`DiskOp::Sync`] settles the writes that had completed when it was
//! submitted, a durable write settles itself. Creations, renames and removals are a log of their
//! own that [`DiskOp::SyncDir`] settles. A crash decides for each sector on its own which of its
//! contents survives, and for the directory which of its changes.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use ringleader_wal::disk::{DiskError, DiskOp, DiskOutput, FileName, OpId};

use crate::rng::{Rng, SURE};

/// What a disk writes whole or not at all.
const SECTOR: u64 = 512;

/// `None` is a sector of zeros.
type Content = Option<Rc<[u8]>>;

#[derive(Debug, Default)]
struct Sector {
    stable: Content,
    /// Later contents, each with the moment of its write, in order.
    volatile: Vec<(u64, Content)>,
}

#[derive(Debug)]
struct File {
    len: u64,
    stable_len: u64,
    sectors: BTreeMap<u64, Sector>,
}

/// A change of the directory.
#[derive(Clone, Copy, Debug)]
enum Change {
    Add(FileName, u64),
    Rename(FileName, FileName, u64),
    Remove(FileName),
}

#[derive(Debug)]
struct Running {
    op: DiskOp,
    /// The moment of its submission.
    since: u64,
}

/// How an operation is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// EIO, after any part of it was done.
    Io,
    /// ENOSPC, if the operation allocates.
    NoSpace,
}

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(crate) struct SimDisk {
    files: BTreeMap<u64, File>,
    names: BTreeMap<FileName, u64>,
    stable_names: BTreeMap<FileName, u64>,
    changes: Vec<(u64, Change)>,
    running: BTreeMap<OpId, Running>,
    next_file: u64,
    /// Counts completed and submitted operations: the disk's own time.
    moment: u64,
}

impl SimDisk {
    /// An operation begins.
    pub(crate) fn submit(&mut self, id: OpId, op: DiskOp) {
        self.moment += 1;
        let running = Running { op, since: self.moment };
        assert!(self.running.insert(id, running).is_none(), "{id:?} is used twice");
    }

    /// An operation ends.
    pub(crate) fn complete(
        &mut self,
        id: OpId,
        fault: Option<Fault>,
        rng: &mut Rng,
    ) -> Result<DiskOutput, DiskError> {
        let Running { op, since } = self.running.remove(&id).expect("the operation is running");
        self.moment += 1;
        match (fault, &op) {
            (Some(Fault::Io), _) => {
                self.do_partly(&op, SURE / 2, rng);
                return Err(DiskError::Io("simulated".into()));
            }
            (Some(Fault::NoSpace), DiskOp::Create { .. }) => {
                return Err(DiskError::NoSpace("simulated".into()));
            }
            _ => {}
        }
        self.perform(op, since)
    }

    fn perform(&mut self, op: DiskOp, since: u64) -> Result<DiskOutput, DiskError> {
        match op {
            DiskOp::List => {
                let listed = self.names.iter().map(|(name, id)| (*name, self.files[id].len));
                return Ok(DiskOutput::Listed(listed.collect()));
            }
            DiskOp::Read { file, offset, len } => {
                return Ok(DiskOutput::Read(self.file(file)?.read(offset, len)));
            }
            DiskOp::Create { file, len } => self.create(file, len)?,
            DiskOp::Zero { file, offset, len } => {
                let moment = self.moment;
                self.file(file)?.zero(offset, len, moment);
            }
            DiskOp::Write { file, offset, parts, len, durable } => {
                let moment = self.moment;
                let file = self.file(file)?;
                let contents = contents(&parts, len);
                file.write(offset, &contents, moment, durable);
            }
            DiskOp::Sync { file } => self.file(file)?.settle(since),
            DiskOp::Rename { from, to } => {
                let id = *self.names.get(&from).ok_or_else(|| missing(from))?;
                assert!(!self.names.contains_key(&to), "{to} is replaced by a rename");
                self.change(Change::Rename(from, to, id));
            }
            DiskOp::Remove { file } => {
                self.file(file)?;
                self.change(Change::Remove(file));
            }
            DiskOp::SyncDir => {
                let settled = self.changes.partition_point(|(moment, _)| *moment <= since);
                for (_, change) in self.changes.drain(..settled) {
                    apply(&mut self.stable_names, change);
                }
            }
        }
        Ok(DiskOutput::Done)
    }

    fn create(&mut self, name: FileName, len: u64) -> Result<(), DiskError> {
        if self.names.contains_key(&name) {
            return Err(DiskError::Io(format!("creating {name}: it exists")));
        }
        self.next_file += 1;
        let file = File { len, stable_len: 0, sectors: BTreeMap::new() };
        self.files.insert(self.next_file, file);
        self.change(Change::Add(name, self.next_file));
        Ok(())
    }

    fn file(&mut self, name: FileName) -> Result<&mut File, DiskError> {
        let id = self.names.get(&name).ok_or_else(|| missing(name))?;
        Ok(self.files.get_mut(id).expect("a name has a file"))
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, change);
        self.changes.push((self.moment, change));
    }

    /// Does what may have happened of an operation that did not end well.
    fn do_partly(&mut self, op: &DiskOp, ppm: u32, rng: &mut Rng) {
        let moment = self.moment;
        match op {
            DiskOp::Write { file, offset, parts, len, .. } => {
                let Ok(file) = self.file(*file) else { return };
                let first = offset / SECTOR;
                for (sector, content) in (first..).zip(contents(parts, *len)) {
                    if rng.chance(ppm) {
                        file.put(sector, content, moment);
                    }
                }
            }
            DiskOp::Zero { file, offset, len } => {
                let Ok(file) = self.file(*file) else { return };
                for sector in offset / SECTOR..(offset + len) / SECTOR {
                    if rng.chance(ppm) {
                        file.put(sector, None, moment);
                    }
                }
            }
            DiskOp::Create { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. } => {
                if rng.chance(ppm) {
                    // It fails the way the whole operation would.
                    let _ = self.perform(op.clone(), moment);
                }
            }
            // What these bring about is up to the crash, or nothing.
            DiskOp::Sync { .. } | DiskOp::SyncDir | DiskOp::List | DiskOp::Read { .. } => {}
        }
    }

    /// The power fails: what was running was done in part, and of what is not settled any subset
    /// survives.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let survives = rng.pick(&[0, SURE / 8, SURE / 2, SURE * 7 / 8, SURE]);
        self.moment += 1;
        for (_, Running { op, .. }) in std::mem::take(&mut self.running) {
            self.do_partly(&op, survives, rng);
        }
        let in_order = rng.coin();
        for (_, change) in std::mem::take(&mut self.changes) {
            if rng.chance(survives) {
                apply(&mut self.stable_names, change);
            } else if in_order {
                // A journal keeps a prefix.
                break;
            }
        }
        self.names = self.stable_names.clone();
        let names = &self.names;
        self.files.retain(|id, _| names.values().any(|named| named == id));
        self.files.values_mut().for_each(|file| file.crash(survives, rng));
    }

    /// Operations that have not ended.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }
}

impl File {
    fn put(&mut self, sector: u64, content: Content, moment: u64) {
        self.len = self.len.max((sector + 1) * SECTOR);
        self.sectors.entry(sector).or_default().volatile.push((moment, content));
    }

    fn write(&mut self, offset: u64, contents: &[Content], moment: u64, durable: bool) {
        for (sector, content) in (offset / SECTOR..).zip(contents) {
            self.put(sector, content.clone(), moment);
            if durable {
                self.sectors.entry(sector).or_default().settle(moment);
            }
        }
        if durable {
            self.stable_len = self.len;
        }
    }

    fn zero(&mut self, offset: u64, len: u64, moment: u64) {
        for sector in offset / SECTOR..(offset + len) / SECTOR {
            self.put(sector, None, moment);
        }
    }

    fn read(&self, offset: u64, len: u64) -> Bytes {
        let end = (offset + len).min(self.len);
        let mut bytes = vec![0; end.saturating_sub(offset) as usize];
        for (at, into) in (offset / SECTOR..).zip(bytes.chunks_mut(SECTOR as usize)) {
            if let Some(content) = self.sectors.get(&at).and_then(Sector::newest) {
                into.copy_from_slice(&content[..into.len()]);
            }
        }
        bytes.into()
    }

    /// Everything written up to `moment` is on stable storage.
    fn settle(&mut self, moment: u64) {
        self.stable_len = self.len;
        self.sectors.values_mut().for_each(|sector| sector.settle(moment));
    }

    fn crash(&mut self, survives: u32, rng: &mut Rng) {
        for sector in self.sectors.values_mut() {
            if !sector.volatile.is_empty() && rng.chance(survives) {
                let kept = rng.below(sector.volatile.len() as u64) as usize;
                sector.stable = sector.volatile[kept].1.take();
            }
            sector.volatile.clear();
        }
        if !rng.chance(survives) {
            self.len = self.stable_len;
            let sectors = self.len / SECTOR;
            self.sectors.retain(|at, _| *at < sectors);
        }
        self.stable_len = self.len;
    }
}

impl Sector {
    fn newest(&self) -> Option<&Rc<[u8]>> {
        self.volatile.last().map_or(self.stable.as_ref(), |(_, content)| content.as_ref())
    }

    fn settle(&mut self, moment: u64) {
        let settled = self.volatile.partition_point(|(written, _)| *written <= moment);
        if let Some((_, content)) = self.volatile.drain(..settled).next_back() {
            self.stable = content;
        }
    }
}

fn apply(names: &mut BTreeMap<FileName, u64>, change: Change) {
    match change {
        Change::Add(name, id) => drop(names.insert(name, id)),
        Change::Rename(from, to, id) => {
            names.remove(&from);
            names.insert(to, id);
        }
        Change::Remove(name) => drop(names.remove(&name)),
    }
}

fn missing(name: FileName) -> DiskError {
    DiskError::Io(format!("{name} does not exist"))
}

/// The sectors that a write of `parts`, padded with zeros to `len`, consists of.
fn contents(parts: &[Bytes], len: u64) -> Vec<Content> {
    let mut bytes = parts.concat();
    assert!(bytes.len() as u64 <= len && len.is_multiple_of(4096), "a write is whole pages");
    bytes.resize(len as usize, 0);
    let sector = |bytes: &[u8]| bytes.iter().any(|byte| *byte != 0).then(|| Rc::from(bytes));
    bytes.chunks(SECTOR as usize).map(sector).collect()
}
