//! A shard's disk. It outlives the node's crashes, and forgets what it was never told to keep.
//!
//! What a file holds is kept per sector: the content that is on stable storage, and every later
//! content that is not. A [`DiskOp::Sync`] settles the writes that had completed when it was
//! submitted, a durable write settles itself. Creations, renames and removals are a log of their
//! own that [`DiskOp::SyncDir`] settles. When the power fails, chance decides for each sector on its
//! own which of its contents survives, and for the directory which of its changes. When only the
//! process is killed, all of that stays as it is: written, and not settled.
//!
//! What a disk does to settled data is in [`crate::damage`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringleader_wal::disk::{DiskError, DiskOp, DiskOutput, FileName, OpId};

use crate::file::{Content, File, contents};
use crate::rng::{Rng, SURE};

/// Writes that are remembered, to be undone by a disk that loses them.
const REMEMBERED: usize = 24;

/// A change of the directory.
#[derive(Clone, Copy, Debug)]
enum Change {
    Add(FileName, u64),
    Rename(FileName, FileName, u64),
    Remove(FileName),
}

#[derive(Clone, Debug)]
struct Running {
    op: DiskOp,
    /// The moment of its submission.
    since: u64,
}

/// A write that completed: what it replaced, and what it put there.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) file: u64,
    pub(crate) first: u64,
    pub(crate) before: Vec<Content>,
    pub(crate) after: Vec<Content>,
}

/// How an operation is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// EIO, after any part of it was done. A sync that fails may lose what it was to settle, and
    /// the next one succeeds.
    Io,
    /// ENOSPC, if the operation allocates.
    NoSpace,
    /// Only the first part is done; the driver reports a write or zeroing like that as an error.
    Short,
    /// A read that brings the bytes of another place.
    Misread,
}

/// See the [module documentation](self).
#[derive(Clone, Debug)]
pub(crate) struct SimDisk {
    pub(crate) sector: u64,
    pub(crate) files: BTreeMap<u64, File>,
    names: BTreeMap<FileName, u64>,
    pub(crate) stable_names: BTreeMap<FileName, u64>,
    changes: Vec<(u64, Change)>,
    running: BTreeMap<OpId, Running>,
    pub(crate) written: VecDeque<Written>,
    /// The segment of which the log that runs has written the header, and nothing since.
    begun: Option<FileName>,
    next_file: u64,
    /// Counts completed and submitted operations: the disk's own time.
    moment: u64,
}

impl SimDisk {
    pub(crate) fn new(sector: u64) -> Self {
        Self {
            sector,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            stable_names: BTreeMap::new(),
            changes: Vec::new(),
            running: BTreeMap::new(),
            written: VecDeque::new(),
            begun: None,
            next_file: 0,
            moment: 0,
        }
    }

    /// An operation begins.
    pub(crate) fn submit(&mut self, id: OpId, op: DiskOp) {
        self.moment += 1;
        if let DiskOp::Write { file: file @ FileName::Segment(_), offset, .. } = op {
            self.begun = (offset == 0).then_some(file);
        }
        let running = Running { op, since: self.moment };
        assert!(self.running.insert(id, running).is_none(), "{id:?} is used twice");
    }

    /// Whether an operation was submitted and has not ended.
    pub(crate) fn is_running(&self, id: OpId) -> bool {
        self.running.contains_key(&id)
    }

    /// The reads of snapshots that have not ended.
    pub(crate) fn reads_of_snapshots(&self) -> Vec<OpId> {
        let is_one = |op: &DiskOp| matches!(op, DiskOp::Read { file: FileName::Snapshot(..), .. });
        self.running.iter().filter(|(_, of)| is_one(&of.op)).map(|(id, _)| *id).collect()
    }

    /// An operation that was submitted and has not ended.
    pub(crate) fn operation(&self, id: OpId) -> &DiskOp {
        &self.running[&id].op
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
        match fault {
            Some(Fault::Io) => {
                match op {
                    DiskOp::Sync { file } => self.fail_sync(file, since, rng),
                    // A file system's journal that fails keeps what it has not written, or lets
                    // nothing more be written: no later sync succeeds over a loss.
                    DiskOp::SyncDir => {}
                    _ => self.do_partly(&op, SURE / 2, rng),
                }
                Err(DiskError::Io("simulated".into()))
            }
            Some(Fault::NoSpace) => self.refuse(op, since, rng),
            Some(Fault::Short) => self.cut_short(op, since, rng),
            Some(Fault::Misread) => self.misread(op, since, rng),
            None => self.perform(op, since),
        }
    }

    fn perform(&mut self, op: DiskOp, since: u64) -> Result<DiskOutput, DiskError> {
        let (moment, sector) = (self.moment, self.sector);
        match op {
            DiskOp::List => {
                let listed = self.names.iter().map(|(name, id)| (*name, self.files[id].len));
                return Ok(DiskOutput::Listed(listed.collect()));
            }
            DiskOp::Read { file, offset, len } => {
                let read = self.file(file)?.read(offset, len);
                let unreadable = || DiskError::Io(format!("reading {file} at {offset}: EIO"));
                return read.map(DiskOutput::Read).ok_or_else(unreadable);
            }
            DiskOp::Create { file, len } => self.create(file, len)?,
            DiskOp::Zero { file, offset, len } => {
                self.file(file)?.zero(offset, len, moment);
            }
            DiskOp::Write { file, offset, parts, len, durable } => {
                let after = contents(&parts, len, sector);
                let id = *self.names.get(&file).ok_or_else(|| missing(file))?;
                self.write(id, offset / sector, after, durable);
            }
            DiskOp::Sync { file } => self.file(file)?.settle(since),
            DiskOp::Rename { from, to } => {
                let id = *self.names.get(&from).ok_or_else(|| missing(from))?;
                let replaces = self.names.contains_key(&to);
                let may = matches!(to, FileName::Snapshot(..));
                assert!(may || !replaces, "{to} is replaced by a rename");
                self.change(Change::Rename(from, to, id));
            }
            DiskOp::Remove { file } => {
                self.file(file)?;
                self.change(Change::Remove(file));
            }
            DiskOp::SyncDir => {
                for change in self.take_changes(since) {
                    apply(&mut self.stable_names, change);
                }
                self.forget_removed();
            }
        }
        Ok(DiskOutput::Done)
    }

    fn write(&mut self, id: u64, first: u64, after: Vec<Content>, durable: bool) {
        let file = self.files.get_mut(&id).expect("a name has a file");
        let before = file.write(first, &after, self.moment, durable);
        if self.written.len() == REMEMBERED {
            self.written.pop_front();
        }
        self.written.push_back(Written { file: id, first, before, after });
    }

    fn create(&mut self, name: FileName, len: u64) -> Result<(), DiskError> {
        if self.names.contains_key(&name) {
            return Err(DiskError::Io(format!("creating {name}: it exists")));
        }
        self.next_file += 1;
        self.files.insert(self.next_file, File::new(len, self.sector));
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

    /// The changes made up to a moment; they are pending no longer.
    fn take_changes(&mut self, moment: u64) -> Vec<Change> {
        let settled = self.changes.partition_point(|(made, _)| *made <= moment);
        self.changes.drain(..settled).map(|(_, change)| change).collect()
    }

    /// What it was to settle is gone, or still waits to be settled. It can't be that it shows, a
    /// later sync succeeds, and it is gone after a power failure: that is what a page cache does
    /// (Rebello et al., ATC '20), and the log's reads and writes are direct.
    fn fail_sync(&mut self, name: FileName, since: u64, rng: &mut Rng) {
        let gone = rng.coin();
        if let Ok(file) = self.file(name)
            && gone
        {
            file.drop_unsettled(since);
        }
    }

    /// The disk is full. A file that was created before its space was asked for stays, empty.
    fn refuse(&mut self, op: DiskOp, since: u64, rng: &mut Rng) -> Result<DiskOutput, DiskError> {
        match op {
            DiskOp::Create { file, .. } => {
                if rng.coin() {
                    self.create(file, 0)?;
                }
            }
            DiskOp::Zero { .. } | DiskOp::Write { .. } => self.do_partly(&op, SURE / 2, rng),
            _ => return self.perform(op, since),
        }
        Err(DiskError::NoSpace("simulated".into()))
    }

    fn cut_short(
        &mut self,
        op: DiskOp,
        since: u64,
        rng: &mut Rng,
    ) -> Result<DiskOutput, DiskError> {
        let (moment, sector) = (self.moment, self.sector);
        let (file, done, len) = match op {
            DiskOp::Write { file, offset, parts, len, durable } => {
                let mut after = contents(&parts, len, sector);
                after.truncate(rng.below(after.len() as u64) as usize);
                let done = after.len() as u64 * sector;
                self.file(file)?.write(offset / sector, &after, moment, durable);
                (file, done, len)
            }
            DiskOp::Zero { file, offset, len } => {
                let done = rng.below(len / sector) * sector;
                self.file(file)?.zero(offset, done, moment);
                (file, done, len)
            }
            DiskOp::Read { len, .. } => {
                let whole = self.perform(op, since)?;
                let DiskOutput::Read(bytes) = whole else { unreachable!("a read reads") };
                let done = bytes.len().min(rng.below(len) as usize);
                return Ok(DiskOutput::Read(bytes.slice(..done)));
            }
            other => return self.perform(other, since),
        };
        Err(DiskError::Io(format!("simulated, {file}: {done} of {len} B")))
    }

    fn misread(&mut self, op: DiskOp, since: u64, rng: &mut Rng) -> Result<DiskOutput, DiskError> {
        let DiskOp::Read { file, offset, len } = op else { return self.perform(op, since) };
        let others: Vec<FileName> = self.names.keys().copied().collect();
        let elsewhere = if rng.chance(SURE / 3) { file } else { rng.pick(&others) };
        let pages = self.file(elsewhere)?.len.saturating_sub(len) / 4096;
        // In another file what is at the same place looks most like what was asked for.
        let moves = elsewhere == file || rng.coin();
        let offset = if moves { rng.below(pages + 1) * 4096 } else { offset };
        self.perform(DiskOp::Read { file: elsewhere, offset, len }, since)
    }

    /// Does what may have happened of an operation that did not end well.
    fn do_partly(&mut self, op: &DiskOp, ppm: u32, rng: &mut Rng) {
        let (moment, sector) = (self.moment, self.sector);
        match op {
            DiskOp::Write { file, offset, parts, len, .. } => {
                let Ok(file) = self.file(*file) else { return };
                let contents = contents(parts, *len, sector);
                let torn = rng.coin().then(|| rng.below(contents.len() as u64 + 1) as usize);
                for (at, content) in contents.into_iter().enumerate() {
                    // In order up to a point, or any subset.
                    if torn.map_or_else(|| rng.chance(ppm), |torn| at < torn) {
                        file.put(offset / sector + at as u64, content, moment);
                    }
                }
            }
            DiskOp::Zero { file, offset, len } => {
                let Ok(file) = self.file(*file) else { return };
                for at in offset / sector..(offset + len) / sector {
                    if rng.chance(ppm) {
                        file.put(at, None, moment);
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

    /// The process is killed: what was running was done, wholly or in part; what was written and
    /// not settled is still there, and still not settled.
    pub(crate) fn kill(&mut self, rng: &mut Rng) {
        self.moment += 1;
        self.begun = None;
        for (_, Running { op, since }) in std::mem::take(&mut self.running) {
            if rng.coin() {
                // Nobody hears how it ended.
                let _ = self.perform(op, since);
            } else {
                self.do_partly(&op, SURE / 2, rng);
            }
        }
    }

    /// The power fails: what was running was done in part, and of what is not settled any subset
    /// survives.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let survives = rng.pick(&[0, SURE / 8, SURE / 2, SURE * 7 / 8, SURE]);
        self.moment += 1;
        self.begun = None;
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
        self.forget_nameless();
        self.files.values_mut().for_each(|file| file.crash(survives, rng));
    }

    /// Forgets the files that no crash brings back.
    fn forget_removed(&mut self) {
        let named = self.names.values().chain(self.stable_names.values()).copied();
        let changed = self.changes.iter().filter_map(|(_, change)| match change {
            Change::Add(_, id) | Change::Rename(_, _, id) => Some(*id),
            Change::Remove(_) => None,
        });
        let known: BTreeSet<u64> = named.chain(changed).collect();
        self.files.retain(|id, _| known.contains(id));
    }

    fn forget_nameless(&mut self) {
        let names = &self.names;
        self.files.retain(|id, _| names.values().any(|named| named == id));
    }

    /// What is left when the power fails and nothing survives that need not.
    pub(crate) fn settled(&self) -> Self {
        let mut disk = Self::new(self.sector);
        let file = |id: &u64| Some((*id, self.files.get(id)?.settled()));
        disk.files = self.stable_names.values().filter_map(file).collect();
        let held = self.stable_names.iter().filter(|(_, id)| disk.files.contains_key(id));
        disk.stable_names = held.map(|(name, id)| (*name, *id)).collect();
        disk.names = disk.stable_names.clone();
        disk.next_file = self.next_file;
        disk
    }

    /// What is there once everything that is under way has been done, and settled.
    pub(crate) fn flushed(&self) -> Self {
        let mut disk = self.clone();
        disk.moment += 1;
        for (_, Running { op, since }) in std::mem::take(&mut disk.running) {
            // Whoever removes what is not there fails here as well.
            let _ = disk.perform(op, since);
        }
        disk.stable_names = disk.names.clone();
        let moment = disk.moment;
        disk.files.values_mut().for_each(|file| file.settle(moment));
        disk
    }

    /// Whether the header differs on the two that the next batch of the log that runs will rest on.
    pub(crate) fn begun_differs(&self, other: &Self) -> bool {
        let file = |disk: &Self| disk.files.get(disk.names.get(&self.begun?)?).map(File::header);
        file(self) != file(other)
    }

    /// Whether what is settled of some snapshot differs on the two, be it whole or not.
    pub(crate) fn snapshots_differ(&self, other: &Self) -> bool {
        let is_snapshot = |(name, _): &(&FileName, &u64)| {
            matches!(name, FileName::Snapshot(..) | FileName::Partial(..))
        };
        let names = self.names.iter().chain(&self.stable_names).filter(is_snapshot);
        names.map(|(_, id)| id).any(|id| match (self.files.get(id), other.files.get(id)) {
            (Some(one), Some(other)) => !one.same_settled(other),
            (one, other) => one.is_some() != other.is_some(),
        })
    }

    /// Operations that have not ended.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether a segment is in use that was in use before, as something else.
    pub(crate) fn has_recycled(&self) -> bool {
        self.files.values().any(|file| file.headers > 1)
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
