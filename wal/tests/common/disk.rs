//! A disk in memory that forgets what it may forget.
//!
//! Data is volatile by the 512-byte sector until a durable write completes or a sync covers it;
//! names are volatile until the directory is synced, a file's length until the file is. Operations
//! complete in the order that the random source picks. A crash keeps any subset of the volatile
//! sectors, of writes in flight too, and any prefix of the volatile changes of names.

use std::collections::BTreeMap;

use ringleader_wal::disk::{DiskError, DiskOp, DiskOutput, FileName, OpId};

use super::Rng;

const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
struct File {
    /// What a read sees.
    current: Vec<u8>,
    /// What survives a crash for certain.
    durable: Vec<u8>,
    durable_len: bool,
    /// Completed writes that are not durable: when, where, what.
    pending: Vec<(u64, usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(FileName, usize),
    Rename(FileName, FileName),
    Remove(FileName),
}

#[derive(Clone, Debug)]
struct Submitted {
    id: OpId,
    op: DiskOp,
    at: u64,
}

/// The disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    files: Vec<File>,
    names: BTreeMap<FileName, usize>,
    durable_names: BTreeMap<FileName, usize>,
    changes: Vec<(u64, NameChange)>,
    queue: Vec<Submitted>,
    clock: u64,
    /// Bytes that fit.
    pub capacity: u64,
    /// Fails the next log write or sync that completes.
    pub fail_write: bool,
    pub fail_sync: bool,
    pub fail_reads: bool,
    /// Log writes in the order of their submission: file, offset and length.
    pub written: Vec<(FileName, u64, u64)>,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            queue: Vec::new(),
            clock: 0,
            capacity: u64::MAX,
            fail_write: false,
            fail_sync: false,
            fail_reads: false,
            written: Vec::new(),
        }
    }
}

fn apply(names: &mut BTreeMap<FileName, usize>, change: &NameChange) {
    match change {
        NameChange::Create(name, file) => {
            names.insert(*name, *file);
        }
        NameChange::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(*to, file);
            }
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
    }
}

fn no_file(name: FileName) -> DiskError {
    DiskError::Io(format!("no such file: {name}"))
}

impl SimDisk {
    pub fn submit(&mut self, id: OpId, op: DiskOp) {
        self.clock += 1;
        if let DiskOp::Write { file, offset, len, .. } = &op {
            self.written.push((*file, *offset, *len));
        }
        self.queue.push(Submitted { id, op, at: self.clock });
    }

    pub fn in_flight(&self) -> usize {
        self.queue.len()
    }

    pub fn used(&self) -> u64 {
        self.names.values().map(|&file| self.files[file].current.len() as u64).sum()
    }

    pub fn segment_files(&self) -> Vec<FileName> {
        self.names.keys().copied().filter(|name| matches!(name, FileName::Segment(_))).collect()
    }

    /// Completes one operation, picked at random.
    pub fn complete_one(&mut self, rng: &mut Rng) -> Option<(OpId, Result<DiskOutput, DiskError>)> {
        if self.queue.is_empty() {
            return None;
        }
        let picked = rng.below(self.queue.len() as u64) as usize;
        let Submitted { id, op, at } = self.queue.swap_remove(picked);
        self.clock += 1;
        Some((id, self.carry_out(op, at)))
    }

    fn carry_out(&mut self, op: DiskOp, at: u64) -> Result<DiskOutput, DiskError> {
        match op {
            DiskOp::List => {
                let list = self.names.iter();
                let list = list.map(|(&name, &file)| (name, self.files[file].current.len() as u64));
                return Ok(DiskOutput::Listed(list.collect()));
            }
            DiskOp::Read { file, offset, len } => return self.read(file, offset, len),
            DiskOp::Create { file, len } => self.create(file, len)?,
            DiskOp::Zero { file, offset, len } => {
                self.write(file, offset, vec![0; len as usize], false)?;
            }
            DiskOp::Write { file, offset, parts, len, durable } => {
                if std::mem::take(&mut self.fail_write) {
                    return Err(DiskError::Io("injected write error".into()));
                }
                let mut data = parts.concat();
                assert!(data.len() <= len as usize, "parts fit");
                data.resize(len as usize, 0);
                self.write(file, offset, data, durable)?;
            }
            DiskOp::Sync { file } => {
                if std::mem::take(&mut self.fail_sync) {
                    return Err(DiskError::Io("injected sync error".into()));
                }
                self.sync(file, at)?;
            }
            DiskOp::Rename { from, to } => {
                assert!(!self.names.contains_key(&to), "a rename replaces nothing");
                if !self.names.contains_key(&from) {
                    return Err(no_file(from));
                }
                self.change(NameChange::Rename(from, to));
            }
            DiskOp::Remove { file } => {
                if !self.names.contains_key(&file) {
                    return Err(no_file(file));
                }
                self.change(NameChange::Remove(file));
            }
            DiskOp::SyncDir => {
                let later = self.changes.iter().position(|(when, _)| *when >= at);
                let covered = later.unwrap_or(self.changes.len());
                for (_, change) in self.changes.drain(..covered) {
                    apply(&mut self.durable_names, &change);
                }
            }
        }
        Ok(DiskOutput::Done)
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.changes.push((self.clock, change));
    }

    fn create(&mut self, name: FileName, len: u64) -> Result<(), DiskError> {
        if self.names.contains_key(&name) {
            return Err(DiskError::Io(format!("{name} exists")));
        }
        if self.used() + len > self.capacity {
            // An empty file is left behind, as a failed fallocate leaves one.
            self.files.push(File::default());
            self.change(NameChange::Create(name, self.files.len() - 1));
            return Err(DiskError::NoSpace(format!("allocating {name}")));
        }
        self.files.push(File { current: vec![0xee; len as usize], ..File::default() });
        self.change(NameChange::Create(name, self.files.len() - 1));
        Ok(())
    }

    fn file(&mut self, name: FileName) -> Result<&mut File, DiskError> {
        let file = *self.names.get(&name).ok_or_else(|| no_file(name))?;
        Ok(&mut self.files[file])
    }

    fn read(&mut self, name: FileName, offset: u64, len: u64) -> Result<DiskOutput, DiskError> {
        if self.fail_reads {
            return Err(DiskError::Io("injected read error".into()));
        }
        let file = self.file(name)?;
        let from = (offset as usize).min(file.current.len());
        let to = (from + len as usize).min(file.current.len());
        Ok(DiskOutput::Read(file.current[from..to].to_vec().into()))
    }

    fn write(
        &mut self,
        name: FileName,
        offset: u64,
        data: Vec<u8>,
        durable: bool,
    ) -> Result<(), DiskError> {
        let clock = self.clock;
        let file = self.file(name)?;
        let at = offset as usize;
        assert_eq!(at % 4096, 0, "aligned offset");
        assert_eq!(data.len() % 4096, 0, "aligned length");
        assert!(at + data.len() <= file.current.len(), "inside the allocated file");
        file.current[at..at + data.len()].copy_from_slice(&data);
        if durable {
            assert!(file.durable_len, "a prepared file");
            file.durable[at..at + data.len()].copy_from_slice(&data);
        } else {
            file.pending.push((clock, at, data));
        }
        Ok(())
    }

    fn sync(&mut self, name: FileName, at: u64) -> Result<(), DiskError> {
        let file = self.file(name)?;
        let len = file.current.len();
        file.durable.resize(len, 0xdd);
        file.durable_len = true;
        let pending = std::mem::take(&mut file.pending);
        for (when, offset, data) in pending {
            if when < at {
                file.durable[offset..offset + data.len()].copy_from_slice(&data);
            } else {
                file.pending.push((when, offset, data));
            }
        }
        Ok(())
    }

    /// The power fails.
    pub fn crash(&mut self, rng: &mut Rng) {
        // How much is lost varies from image to image: all, nothing, or anything between.
        let keep = [0, 10, 50, 90, 100][rng.below(5) as usize];
        let queue = std::mem::take(&mut self.queue);
        for submitted in queue {
            let (name, at, data) = match submitted.op {
                DiskOp::Write { file, offset, parts, len, .. } => {
                    let mut data = parts.concat();
                    data.resize(len as usize, 0);
                    (file, offset, data)
                }
                DiskOp::Zero { file, offset, len } => (file, offset, vec![0; len as usize]),
                _ => continue,
            };
            let clock = self.clock;
            if let Ok(file) = self.file(name) {
                file.pending.push((clock, at as usize, data));
            }
        }
        let kept = rng.below(self.changes.len() as u64 + 1) as usize;
        let changes = std::mem::take(&mut self.changes);
        changes.iter().take(kept).for_each(|(_, change)| apply(&mut self.durable_names, change));
        self.names = self.durable_names.clone();
        for file in &mut self.files {
            if !file.durable_len {
                let keep_len = rng.chance(50);
                file.durable = if keep_len { vec![0xdd; file.current.len()] } else { Vec::new() };
                file.durable_len = true;
            }
            for (_, offset, data) in std::mem::take(&mut file.pending) {
                for (i, sector) in data.chunks(SECTOR).enumerate() {
                    let at = offset + i * SECTOR;
                    if at + sector.len() <= file.durable.len() && rng.chance(keep) {
                        file.durable[at..at + sector.len()].copy_from_slice(sector);
                    }
                }
            }
            file.current = file.durable.clone();
        }
    }

    /// The process ends, the kernel and the disk go on: what was written stays readable but
    /// volatile; operations in flight happen or not.
    pub fn kill(&mut self, rng: &mut Rng) {
        let queue = std::mem::take(&mut self.queue);
        for submitted in queue {
            if let DiskOp::Write { file, offset, parts, len, .. } = submitted.op {
                let mut data = parts.concat();
                data.resize(len as usize, 0);
                if rng.chance(50) {
                    let _ = self.write(file, offset, data, false);
                }
            }
        }
    }

    /// Flips one bit at rest.
    pub fn flip(&mut self, name: FileName, byte: u64, bit: u32) {
        let file = self.names[&name];
        self.files[file].current[byte as usize] ^= 1 << bit;
        self.files[file].durable[byte as usize] ^= 1 << bit;
    }

    pub fn bytes(&self, name: FileName) -> &[u8] {
        &self.files[self.names[&name]].current
    }
}
