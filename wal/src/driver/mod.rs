//! The disk in production: glommio, direct IO, one directory per shard.
//!
//! A [`Disk`] belongs to one glommio executor. A few long-lived tasks take operations from a local
//! queue, so that submitting one costs a push and a wake and no task is spawned per operation.
//! Everything glommio-specific that the log has to know about is in here:
//!
//! - one I/O is at most 512 KiB: larger direct I/O than a device's `max_sectors` has hung on some
//!   kernels (DataDog/glommio#633);
//! - reads go through `read_at_aligned`: `read_at` may return bytes beyond the file's end;
//! - the first file that an executor opens on a device decides whether glommio uses a polled ring
//!   there, and a fresh file opened for reading and writing makes it decide wrongly
//!   (DataDog/glommio#605). So a file opened for writing only comes first;
//! - a buffer's memory is not initialised: padding is zeroed here.

mod ops;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use glommio::io::{Directory, DmaBuffer, DmaFile};
use glommio::task::JoinHandle;

use crate::disk::{DiskError, DiskOp, DiskOutput, FileName, OpId};

/// An operation's result.
pub type Completion = (OpId, Result<DiskOutput, DiskError>);

/// A file's open descriptors: a durable write needs one with `O_DSYNC`, and zero-filling or
/// reading through that one would pay for syncs that nobody needs.
#[derive(Default)]
struct Handles {
    plain: Option<Rc<DmaFile>>,
    durable: Option<Rc<DmaFile>>,
}

struct Inner {
    dir: PathBuf,
    directory: Directory,
    /// Locked as long as the disk is open.
    _lock: File,
    files: RefCell<HashMap<FileName, Handles>>,
    zeros: RefCell<Option<Rc<DmaBuffer>>>,
    queue: RefCell<VecDeque<(OpId, DiskOp)>>,
    idle: RefCell<Vec<Waker>>,
    done: RefCell<Vec<Completion>>,
    closed: Cell<bool>,
    notify: Rc<dyn Fn()>,
}

/// A shard's directory, and the tasks that work on it.
pub struct Disk {
    inner: Rc<Inner>,
    workers: Vec<JoinHandle<()>>,
}

fn io_error(what: &str, path: &Path, error: &std::io::Error) -> DiskError {
    ops::classify(format!("{what} {}: {error}", path.display()), error.raw_os_error())
}

impl Disk {
    /// Opens a directory, made if need be, for this executor alone: it is locked. `workers` is the
    /// number of operations carried out at once; the log's `depth` and 6 more (zero-filling, reads
    /// and syncs beside the writes) is plenty. `notify` is called after each operation that
    /// completes; it must not call back into the disk or the log, only wake whoever does.
    ///
    /// # Errors
    /// When the directory can't be made or opened, or another process has it open.
    pub async fn open(dir: &Path, workers: usize, notify: Rc<dyn Fn()>) -> Result<Self, DiskError> {
        let fail = |what: &'static str| move |e: std::io::Error| io_error(what, dir, &e);
        std::fs::create_dir_all(dir).map_err(fail("creating"))?;
        // glommio opens relative paths against a descriptor that is not there.
        let dir = dir.canonicalize().map_err(fail("resolving"))?;
        if let Some(parent) = dir.parent() {
            let synced = File::open(parent).and_then(|parent| parent.sync_all());
            synced.map_err(|e| io_error("syncing", parent, &e))?;
        }
        let lock = File::create(dir.join("lock")).map_err(fail("opening the lock in"))?;
        lock.try_lock().map_err(|e| DiskError::Io(format!("locking {}: {e}", dir.display())))?;
        let probe = dir.join("probe");
        let glommio = |what: &'static str| {
            let dir = dir.display().to_string();
            move |e: glommio::GlommioError<()>| ops::failed(what, &dir, &e)
        };
        let file = DmaFile::create(&probe).await.map_err(glommio("probing"))?;
        file.close().await.map_err(glommio("probing"))?;
        std::fs::remove_file(&probe).map_err(|e| io_error("removing", &probe, &e))?;
        let directory = Directory::open(&dir).await.map_err(glommio("opening"))?;
        let inner = Rc::new(Inner {
            dir,
            directory,
            _lock: lock,
            files: RefCell::default(),
            zeros: RefCell::default(),
            queue: RefCell::default(),
            idle: RefCell::default(),
            done: RefCell::default(),
            closed: Cell::new(false),
            notify,
        });
        let spawn = |_| glommio::spawn_local(work(Rc::clone(&inner))).detach();
        let workers = (0..workers.max(1)).map(spawn).collect();
        Ok(Self { inner, workers })
    }

    /// Starts an operation. Its completion comes from [`Disk::completions`], after `notify`.
    pub fn submit(&self, id: OpId, op: DiskOp) {
        self.inner.queue.borrow_mut().push_back((id, op));
        if let Some(waker) = self.inner.idle.borrow_mut().pop() {
            waker.wake();
        }
    }

    /// Appends the operations completed since the last call to `out`.
    pub fn completions(&self, out: &mut Vec<Completion>) {
        out.append(&mut self.inner.done.borrow_mut());
    }

    /// Carries out what was submitted, then closes all files and gives the lock back.
    pub async fn close(mut self) {
        self.stop();
        for worker in std::mem::take(&mut self.workers) {
            let _ = worker.await;
        }
        let files = std::mem::take(&mut *self.inner.files.borrow_mut());
        for handles in files.into_values() {
            for file in [handles.plain, handles.durable].into_iter().flatten() {
                let _ = file.close_rc().await;
            }
        }
    }

    fn stop(&self) {
        self.inner.closed.set(true);
        let idle = std::mem::take(&mut *self.inner.idle.borrow_mut());
        idle.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The next operation; `None` when the disk was closed and nothing is left.
async fn next(inner: &Inner) -> Option<(OpId, DiskOp)> {
    poll_fn(|context| {
        if let Some(next) = inner.queue.borrow_mut().pop_front() {
            return Poll::Ready(Some(next));
        }
        if inner.closed.get() {
            return Poll::Ready(None);
        }
        inner.idle.borrow_mut().push(context.waker().clone());
        Poll::Pending
    })
    .await
}

/// An operation that panics, where panics unwind, is one that failed: what it left on the disk is not
/// known, and what it works on is its own.
async fn contained(
    task: impl Future<Output = Result<DiskOutput, DiskError>>,
) -> Result<DiskOutput, DiskError> {
    let mut task = pin!(task);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context)));
        polled.unwrap_or_else(|payload| {
            let literal = payload.downcast_ref::<&str>().copied();
            let text = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let text = text.unwrap_or("without a message");
            tracing::error!(text, "a disk operation panicked");
            Poll::Ready(Err(DiskError::Io(format!("a disk operation panicked: {text}"))))
        })
    })
    .await
}

async fn work(inner: Rc<Inner>) {
    while let Some((id, op)) = next(&inner).await {
        let result = contained(inner.carry_out(op)).await;
        inner.done.borrow_mut().push((id, result));
        (inner.notify)();
    }
}
