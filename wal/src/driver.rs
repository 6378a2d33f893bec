//! Carries the log's disk operations out with glommio: direct IO on the executor's ring.
//!
//! Reads and writes run side by side, as many as the log submits; they complete in any order.
//! Everything else (creating and filling segments, syncs, renames, removals) runs in the order of
//! submission on a task of its own, so that preparing a segment never stands before an append;
//! syncs of segments that hold the log have a task of their own too.
//!
//! An operation above [`IO_BYTES`] is cut: larger direct requests hung on some kernels.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::{Bytes, BytesMut};
use glommio::GlommioError;
use glommio::io::{Directory, DmaBuffer, DmaFile, OpenOptions};

use crate::config::{SyncMode, WalConfig};
use crate::disk::{DiskError, DiskOp, DiskOutput, FileName, OpId};

/// Bytes of one request to the kernel, at most.
const IO_BYTES: usize = 512 << 10;

type Completion = (OpId, Result<DiskOutput, DiskError>);

/// A shard's directory. Lives on the shard's executor.
pub struct Disk {
    state: Rc<State>,
    /// Reads and writes.
    data: Rc<Lane>,
    /// Syncs of segments.
    syncs: Rc<Lane>,
    /// Everything else.
    files: Rc<Lane>,
    workers: Vec<glommio::Task<()>>,
}

struct State {
    directory: PathBuf,
    /// Whether segments are opened with `O_DSYNC`.
    durable_writes: bool,
    open: RefCell<BTreeMap<FileName, Rc<DmaFile>>>,
    completions: RefCell<Vec<Completion>>,
    notify: Rc<dyn Fn()>,
}

/// A queue of operations for some workers.
#[derive(Default)]
struct Lane {
    queue: RefCell<VecDeque<(OpId, DiskOp)>>,
    idle: RefCell<Vec<Waker>>,
    closed: std::cell::Cell<bool>,
}

impl Lane {
    fn push(&self, id: OpId, op: DiskOp) {
        self.queue.borrow_mut().push_back((id, op));
        if let Some(worker) = self.idle.borrow_mut().pop() {
            worker.wake();
        }
    }

    fn close(&self) {
        self.closed.set(true);
        self.idle.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// The next operation; `None` when the lane is closed and empty.
    async fn next(&self) -> Option<(OpId, DiskOp)> {
        std::future::poll_fn(|context| {
            if let Some(next) = self.queue.borrow_mut().pop_front() {
                return Poll::Ready(Some(next));
            }
            if self.closed.get() {
                return Poll::Ready(None);
            }
            let mut idle = self.idle.borrow_mut();
            if !idle.iter().any(|waker| waker.will_wake(context.waker())) {
                idle.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Disk {
    /// Takes over `directory`, which must exist. `notify` is called when
    /// [`completions`](Self::completions) has something; it should set a flag and wake the shard,
    /// not act.
    ///
    /// # Errors
    /// When the directory cannot be opened or its path not be made absolute.
    pub async fn open(
        directory: &Path,
        config: &WalConfig,
        notify: Rc<dyn Fn()>,
    ) -> Result<Self, DiskError> {
        let context = |error: io::Error| failure("opening", &directory.display(), &error);
        // glommio opens by absolute path only.
        let directory = directory.canonicalize().map_err(context)?;
        let state = Rc::new(State {
            durable_writes: config.sync == SyncMode::DurableWrites,
            directory,
            open: RefCell::default(),
            completions: RefCell::default(),
            notify,
        });
        let lanes: [Rc<Lane>; 3] = Default::default();
        let mut workers = Vec::new();
        for (lane, count) in lanes.iter().zip([config.depth + 2, 1, 1]) {
            for _ in 0..count {
                workers.push(glommio::spawn_local(work(Rc::clone(&state), Rc::clone(lane))));
            }
        }
        let [data, syncs, files] = lanes;
        Ok(Self { state, data, syncs, files, workers })
    }

    /// Starts an operation. It ends in [`completions`](Self::completions).
    pub fn submit(&self, id: OpId, op: DiskOp) {
        let lane = match &op {
            DiskOp::Read { .. } | DiskOp::Write { .. } => &self.data,
            DiskOp::Sync { file: FileName::Segment(_) } => &self.syncs,
            _ => &self.files,
        };
        lane.push(id, op);
    }

    /// Appends what has ended since the last call.
    pub fn completions(&self, out: &mut Vec<Completion>) {
        out.append(&mut self.state.completions.borrow_mut());
    }

    /// Waits for what was submitted and closes the files.
    pub async fn close(self) {
        [&self.data, &self.syncs, &self.files].iter().for_each(|lane| lane.close());
        for worker in self.workers {
            worker.await;
        }
        let open = std::mem::take(&mut *self.state.open.borrow_mut());
        for file in open.into_values() {
            // Everything that matters was synced; a descriptor that fails to close is lost.
            let _ = file.close_rc().await;
        }
    }
}

async fn work(state: Rc<State>, lane: Rc<Lane>) {
    while let Some((id, op)) = lane.next().await {
        let result = state.carry_out(op).await;
        let mut completions = state.completions.borrow_mut();
        completions.push((id, result));
        let first = completions.len() == 1;
        drop(completions);
        if first {
            (state.notify)();
        }
    }
}

impl State {
    async fn carry_out(&self, op: DiskOp) -> Result<DiskOutput, DiskError> {
        match op {
            DiskOp::List => return self.list().map(DiskOutput::Listed),
            DiskOp::Read { file, offset, len } => {
                return self.read(file, offset, len as usize).await.map(DiskOutput::Read);
            }
            DiskOp::Create { file, len } => self.create(file, len).await?,
            DiskOp::Zero { file, offset, len } => self.zero(file, offset, len as usize).await?,
            DiskOp::Write { file, offset, parts, len, durable } => {
                debug_assert!(!durable || self.durable_writes, "the mode is the log's own");
                self.write(file, offset, &parts, len as usize).await?;
            }
            DiskOp::Sync { file } => {
                let sync = self.file(file).await?.fdatasync().await;
                sync.map_err(|error| refused("fdatasync of", &file, error))?;
            }
            DiskOp::Rename { from, to } => {
                self.forget(from).await;
                let renamed = glommio::io::rename(self.path(from), self.path(to)).await;
                renamed.map_err(|error| refused("renaming", &from, error))?;
            }
            DiskOp::Remove { file } => {
                self.forget(file).await;
                let removed = glommio::io::remove(self.path(file)).await;
                removed.map_err(|error| refused("removing", &file, error))?;
            }
            DiskOp::SyncDir => self.sync_directory().await?,
        }
        Ok(DiskOutput::Done)
    }

    fn path(&self, file: FileName) -> PathBuf {
        self.directory.join(file.to_string())
    }

    /// Runs before anything else is in flight, so it may block.
    fn list(&self) -> Result<Vec<(FileName, u64)>, DiskError> {
        let place = self.directory.display();
        let context = |error: io::Error| failure("listing", &place, &error);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(context)? {
            let entry = entry.map_err(context)?;
            if let Some(file) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                files.push((file, entry.metadata().map_err(context)?.len()));
            }
        }
        Ok(files)
    }

    fn options(&self, file: FileName) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if self.durable_writes && matches!(file, FileName::Segment(_)) {
            options.custom_flags(libc::O_DSYNC);
        }
        options
    }

    async fn file(&self, file: FileName) -> Result<Rc<DmaFile>, DiskError> {
        if let Some(open) = self.open.borrow().get(&file) {
            return Ok(Rc::clone(open));
        }
        let opened = self.options(file).dma_open(self.path(file)).await;
        let opened = opened.map_err(|error| refused("opening", &file, error))?;
        // Another worker may have opened it meanwhile: one descriptor serves all.
        let mut open = self.open.borrow_mut();
        Ok(Rc::clone(open.entry(file).or_insert_with(|| Rc::new(opened))))
    }

    async fn forget(&self, file: FileName) {
        let open = self.open.borrow_mut().remove(&file);
        if let Some(open) = open {
            // What was written through it is synced or no longer wanted.
            let _ = open.close_rc().await;
        }
    }

    async fn create(&self, file: FileName, len: u64) -> Result<(), DiskError> {
        let created = self.options(file).create_new(true).dma_open(self.path(file)).await;
        let created = Rc::new(created.map_err(|error| refused("creating", &file, error))?);
        self.open.borrow_mut().insert(file, Rc::clone(&created));
        let allocated = created.pre_allocate(len, false).await;
        allocated.map_err(|error| refused("allocating", &file, error))
    }

    async fn zero(&self, file: FileName, offset: u64, len: usize) -> Result<(), DiskError> {
        let handle = self.file(file).await?;
        let mut zeros = handle.alloc_dma_buffer(len.min(IO_BYTES));
        zeros.as_bytes_mut().fill(0);
        let zeros = Rc::new(zeros);
        for start in (0..len).step_by(IO_BYTES) {
            let (at, want) = (offset + start as u64, IO_BYTES.min(len - start));
            let buffer = if want == zeros.len() {
                Rc::clone(&zeros)
            } else {
                let mut rest = handle.alloc_dma_buffer(want);
                rest.as_bytes_mut().fill(0);
                Rc::new(rest)
            };
            let written = handle.write_rc_at(buffer, at).await;
            check_whole(file, at, want, written)?;
        }
        Ok(())
    }

    /// Gathers the parts into DMA buffers: the one copy of what is appended.
    async fn write(
        &self,
        file: FileName,
        offset: u64,
        parts: &[Bytes],
        len: usize,
    ) -> Result<(), DiskError> {
        let handle = self.file(file).await?;
        let mut parts = parts.iter().map(|part| &part[..]);
        let mut part: &[u8] = &[];
        let mut pieces = Vec::with_capacity(len.div_ceil(IO_BYTES));
        for start in (0..len).step_by(IO_BYTES) {
            let mut buffer = handle.alloc_dma_buffer(IO_BYTES.min(len - start));
            fill(&mut buffer, &mut part, &mut parts);
            let handle = Rc::clone(&handle);
            let at = offset + start as u64;
            pieces.push(async move {
                let want = buffer.len();
                let written = handle.write_at(buffer, at).await;
                check_whole(file, at, want, written)
            });
        }
        if let [_] = pieces[..] {
            return pieces.remove(0).await;
        }
        let tasks: Vec<_> = pieces.into_iter().map(glommio::spawn_local).collect();
        let mut result = Ok(());
        for task in tasks {
            result = result.and(task.await);
        }
        result
    }

    async fn read(&self, file: FileName, offset: u64, len: usize) -> Result<Bytes, DiskError> {
        let handle = self.file(file).await?;
        let mut bytes = BytesMut::with_capacity(len);
        while bytes.len() < len {
            let want = IO_BYTES.min(len - bytes.len());
            // Unaligned reads near the end of a file bring garbage in glommio; ours are aligned.
            let read = handle.read_at_aligned(offset + bytes.len() as u64, want).await;
            let read = read.map_err(|error| refused("reading", &file, error))?;
            bytes.extend_from_slice(&read);
            if read.len() < want {
                break;
            }
        }
        Ok(bytes.freeze())
    }

    async fn sync_directory(&self) -> Result<(), DiskError> {
        let place = self.directory.display();
        let context = |error: GlommioError<()>| refused("syncing", &place, error);
        let directory = Directory::open(&self.directory).await.map_err(context)?;
        let synced = directory.sync().await.map_err(context);
        directory.close().await.map_err(context)?;
        synced
    }
}

/// Fills `buffer` from where `part` and `parts` stand, and with zeros after their end: the memory
/// comes uninitialised.
fn fill<'a>(
    buffer: &mut DmaBuffer,
    part: &mut &'a [u8],
    parts: &mut impl Iterator<Item = &'a [u8]>,
) {
    let mut room = buffer.as_bytes_mut();
    while !room.is_empty() {
        if part.is_empty() {
            let Some(next) = parts.next() else { break };
            *part = next;
        }
        let count = room.len().min(part.len());
        let (now, rest) = part.split_at(count);
        let (here, after) = room.split_at_mut(count);
        here.copy_from_slice(now);
        (*part, room) = (rest, after);
    }
    room.fill(0);
}

fn check_whole(
    file: FileName,
    offset: u64,
    want: usize,
    written: Result<usize, GlommioError<()>>,
) -> Result<(), DiskError> {
    match written {
        Ok(count) if count == want => Ok(()),
        Ok(count) => Err(DiskError::Io(format!(
            "writing {file} at {offset}: the kernel took {count} of {want} bytes"
        ))),
        Err(error) => Err(refused(&format!("writing {want} bytes at {offset} of"), &file, error)),
    }
}

fn refused(what: &str, place: &dyn std::fmt::Display, error: GlommioError<()>) -> DiskError {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => {
            failure(what, place, &source)
        }
        other => DiskError::Io(format!("{what} {place}: {other}")),
    }
}

fn failure(what: &str, place: &dyn std::fmt::Display, error: &io::Error) -> DiskError {
    let text = format!("{what} {place}: {error}");
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => DiskError::NoSpace(text),
        _ => DiskError::Io(text),
    }
}
