//! A write-ahead log in one file: records of length, checksum and body, written and made durable by
//! a thread of its own, all that have come meanwhile with one `fdatasync`.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use bytes::{Buf, Bytes};
use openraft::storage::IOFlushed;
use rustix::fs::{FallocateFlags, fallocate};

use crate::types::Types;

/// Length and checksum, both of 32 bits.
const HEADER: usize = 8;
/// The file grows by this at a time, so that few writes change its size.
const GROWTH: u64 = 64 << 20;

/// One `fdatasync` is for no more batches beyond this size, so that of much to write the first is
/// acknowledged while the rest is written.
const FLUSH_BYTES: usize = 1 << 20;

pub(crate) struct Wal {
    file: File,
    waiting: Mutex<Waiting>,
    came: Condvar,
}

struct Waiting {
    /// Where the next record belongs in the file.
    end: u64,
    batches: VecDeque<(Batch, IOFlushed<Types>)>,
}

/// Records that are appended at once.
pub(crate) struct Batch {
    /// Where they begin in the file.
    begin: u64,
    bytes: Vec<u8>,
}

impl Batch {
    /// Appends a record, of which `body` appends the body. Returns its place in the file.
    pub(crate) fn record(&mut self, body: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER]);
        body(&mut self.bytes);
        let (header, body) = self.bytes[at..].split_at_mut(HEADER);
        header[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
        header[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        self.begin + at as u64
    }
}

impl Wal {
    /// Opens a log, or makes one; hands its records and their places to `replay`.
    pub(crate) fn open(path: &Path, mut replay: impl FnMut(u64, Bytes)) -> io::Result<Arc<Self>> {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let content = Bytes::from(std::fs::read(path)?);
        let mut left = content.clone();
        while let Some(body) = next(&mut left) {
            replay((content.len() - left.len() - body.len() - HEADER) as u64, body);
        }
        let begin = (content.len() - left.len()) as u64;
        // What is left of a write that was cut off must not be taken for records later.
        file.set_len(begin)?;
        fallocate(&file, FallocateFlags::empty(), begin, GROWTH)?;
        file.sync_all()?;
        let waiting = Waiting { end: begin, batches: VecDeque::new() };
        let wal = Arc::new(Self { file, waiting: Mutex::new(waiting), came: Condvar::new() });
        let flushing = wal.clone();
        thread::Builder::new()
            .name("flush".into())
            .spawn(move || flushing.run(begin, begin + GROWTH))?;
        Ok(wal)
    }

    /// Has `records` append some, and calls `flushed` when they are durable.
    pub(crate) fn append(&self, flushed: IOFlushed<Types>, records: impl FnOnce(&mut Batch)) {
        let mut waiting = self.waiting.lock().expect("a panic ends the process");
        let mut batch = Batch { begin: waiting.end, bytes: Vec::new() };
        records(&mut batch);
        waiting.end += batch.bytes.len() as u64;
        waiting.batches.push_back((batch, flushed));
        drop(waiting);
        self.came.notify_one();
    }

    /// The body of the record at a place, which is written.
    pub(crate) fn read(&self, place: u64) -> io::Result<Bytes> {
        let mut header = [0; HEADER];
        self.file.read_exact_at(&mut header, place)?;
        let mut record = header.to_vec();
        record.resize(HEADER + (&header[..]).get_u32_le() as usize, 0);
        self.file.read_exact_at(&mut record[HEADER..], place + HEADER as u64)?;
        next(&mut Bytes::from(record)).ok_or(io::ErrorKind::InvalidData.into())
    }

    /// # Panics
    /// When the log can't be written: a node that lost a write must not go on.
    fn run(&self, mut end: u64, mut allocated: u64) {
        let (mut bytes, mut callbacks) = (Vec::new(), Vec::new());
        loop {
            let mut waiting = self.waiting.lock().expect("a panic ends the process");
            while waiting.batches.is_empty() {
                waiting = self.came.wait(waiting).expect("a panic ends the process");
            }
            while bytes.len() < FLUSH_BYTES
                && let Some((batch, flushed)) = waiting.batches.pop_front()
            {
                bytes.extend_from_slice(&batch.bytes);
                callbacks.push(flushed);
            }
            drop(waiting);
            let begin = end;
            end += bytes.len() as u64;
            if end > allocated {
                let more = end - allocated + GROWTH;
                fallocate(&self.file, FallocateFlags::empty(), allocated, more)
                    .expect("the log can grow");
                allocated += more;
            }
            self.file.write_all_at(&bytes, begin).expect("the log can be written");
            self.file.sync_data().expect("the log can be made durable");
            bytes.clear();
            callbacks.drain(..).for_each(|flushed| flushed.io_completed(Ok(())));
        }
    }
}

/// Takes the body of the record that `from` begins with, if there is a whole one.
fn next(from: &mut Bytes) -> Option<Bytes> {
    let mut header = from.get(..HEADER)?;
    let (length, checksum) = (header.get_u32_le() as usize, header.get_u32_le());
    let body = from.get(HEADER..HEADER + length)?;
    if length == 0 || crc32fast::hash(body) != checksum {
        return None;
    }
    let record = from.split_to(HEADER + length);
    Some(record.slice(HEADER..))
}
