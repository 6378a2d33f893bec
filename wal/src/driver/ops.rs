//! Each operation, carried out.

use std::path::PathBuf;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use glommio::GlommioError;
use glommio::io::{DmaFile, OpenOptions};

use super::{Inner, io_error};
use crate::disk::{DiskError, DiskOp, DiskOutput, FileName};

/// Bytes of one I/O at most.
const IO_BYTES: usize = 512 << 10;

type Outcome = Result<DiskOutput, DiskError>;

/// Sorts an error by its number.
pub(super) fn classify(text: String, errno: Option<i32>) -> DiskError {
    match errno {
        Some(libc::ENOSPC | libc::EDQUOT) => DiskError::NoSpace(text),
        _ => DiskError::Io(text),
    }
}

/// An error with the operation and the file in it.
pub(super) fn failed(
    what: &str,
    file: &dyn std::fmt::Display,
    error: &GlommioError<()>,
) -> DiskError {
    classify(format!("{what} {file}: {error}"), error.raw_os_error())
}

/// Whether a file's descriptor is kept. There may be a snapshot for each of thousands of groups, and
/// hardly any is ever read.
fn stays_open(name: FileName) -> bool {
    !matches!(name, FileName::Snapshot(..))
}

/// Why a write or read was short.
fn short(what: &str, name: FileName, at: u64, have: usize, want: usize) -> DiskError {
    DiskError::Io(format!("{what} {name} at {at}: {have} of {want} B"))
}

impl Inner {
    fn path(&self, name: FileName) -> PathBuf {
        self.dir.join(name.to_string())
    }

    pub(super) async fn carry_out(&self, op: DiskOp) -> Outcome {
        match op {
            DiskOp::List => return self.list(),
            DiskOp::Read { file, offset, len } => return self.read(file, offset, len).await,
            DiskOp::Create { file, len } => self.create(file, len).await?,
            DiskOp::Zero { file, offset, len } => self.zero(file, offset, len).await?,
            DiskOp::Write { file, offset, parts, len, durable } => {
                self.write(file, offset, &parts, len as usize, durable).await?;
            }
            DiskOp::Sync { file } => {
                let handle = self.handle(file, false).await?;
                handle.fdatasync().await.map_err(|e| failed("syncing", &file, &e))?;
            }
            DiskOp::Rename { from, to } => {
                let renamed = glommio::io::rename(self.path(from), self.path(to)).await;
                renamed.map_err(|e| failed("renaming", &from, &e))?;
                let mut files = self.files.borrow_mut();
                if let Some(handles) = files.remove(&from)
                    && stays_open(to)
                {
                    files.insert(to, handles);
                }
            }
            DiskOp::Remove { file } => {
                let handles = self.files.borrow_mut().remove(&file);
                let removed = glommio::io::remove(self.path(file)).await;
                drop(handles);
                removed.map_err(|e| failed("removing", &file, &e))?;
            }
            DiskOp::SyncDir => {
                let dir = self.dir.display();
                self.directory.sync().await.map_err(|e| failed("syncing", &dir, &e))?;
            }
        }
        Ok(DiskOutput::Done)
    }

    /// Only at a start, when nothing else runs that a blocking call could hold up.
    fn list(&self) -> Outcome {
        let fail = |e: std::io::Error| io_error("listing", &self.dir, &e);
        let mut list = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if let Some(name) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                list.push((name, entry.metadata().map_err(fail)?.len()));
            }
        }
        Ok(DiskOutput::Listed(list))
    }

    /// The open file, opened when it is not yet.
    async fn handle(&self, name: FileName, durable: bool) -> Result<Rc<DmaFile>, DiskError> {
        let known = |inner: &Self| {
            let files = inner.files.borrow();
            let handles = files.get(&name)?;
            if durable { handles.durable.clone() } else { handles.plain.clone() }
        };
        if let Some(file) = known(self) {
            return Ok(file);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        options.custom_flags(if durable { libc::O_DSYNC } else { 0 });
        let opened = options.dma_open(self.path(name)).await;
        let opened = Rc::new(opened.map_err(|e| failed("opening", &name, &e))?);
        if !stays_open(name) {
            return Ok(opened);
        }
        // Another task may have opened it meanwhile; one of the two is closed by its drop.
        Ok(known(self).unwrap_or_else(|| {
            let mut files = self.files.borrow_mut();
            let handles = files.entry(name).or_default();
            let place = if durable { &mut handles.durable } else { &mut handles.plain };
            Rc::clone(place.insert(opened))
        }))
    }

    async fn create(&self, name: FileName, len: u64) -> Result<(), DiskError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let created = options.dma_open(self.path(name)).await;
        let file = Rc::new(created.map_err(|e| failed("creating", &name, &e))?);
        self.files.borrow_mut().entry(name).or_default().plain = Some(Rc::clone(&file));
        if len == 0 {
            return Ok(());
        }
        match file.pre_allocate(len, false).await {
            // Not every file system can: the zeros that follow allocate as well.
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                file.truncate(len).await.map_err(|e| failed("sizing", &name, &e))
            }
            result => result.map_err(|e| failed("allocating", &name, &e)),
        }
    }

    async fn zero(&self, name: FileName, offset: u64, len: u64) -> Result<(), DiskError> {
        let file = self.handle(name, false).await?;
        let mut done = 0;
        while done < len as usize {
            let piece = IO_BYTES.min(len as usize - done);
            let cached = self.zeros.borrow().clone().filter(|zeros| zeros.len() == piece);
            let zeros = cached.unwrap_or_else(|| {
                let mut buffer = file.alloc_dma_buffer(piece);
                buffer.as_bytes_mut().fill(0);
                let zeros = Rc::new(buffer);
                *self.zeros.borrow_mut() = Some(Rc::clone(&zeros));
                zeros
            });
            let at = offset + done as u64;
            let wrote = file.write_rc_at(zeros, at).await;
            let wrote = wrote.map_err(|e| failed("zeroing", &name, &e))?;
            if wrote != piece {
                return Err(short("zeroing", name, at, wrote, piece));
            }
            done += piece;
        }
        Ok(())
    }

    /// The one copy of a payload on its way to the disk: into memory that the device reads.
    async fn write(
        &self,
        name: FileName,
        offset: u64,
        parts: &[Bytes],
        len: usize,
        durable: bool,
    ) -> Result<(), DiskError> {
        let file = self.handle(name, durable).await?;
        let mut source = Gather { parts, at: 0 };
        let mut done = 0;
        while done < len {
            let piece = IO_BYTES.min(len - done);
            let mut buffer = file.alloc_dma_buffer(piece);
            source.fill(buffer.as_bytes_mut());
            let at = offset + done as u64;
            let wrote = file.write_at(buffer, at).await;
            let wrote = wrote.map_err(|e| failed("writing", &name, &e))?;
            if wrote != piece {
                return Err(short("writing", name, at, wrote, piece));
            }
            done += piece;
        }
        Ok(())
    }

    async fn read(&self, name: FileName, offset: u64, len: u64) -> Outcome {
        let file = self.handle(name, false).await?;
        let len = len as usize;
        let mut data = BytesMut::with_capacity(len);
        while data.len() < len {
            let piece = IO_BYTES.min(len - data.len());
            let at = offset + data.len() as u64;
            let read = file.read_at_aligned(at, piece).await;
            let read = read.map_err(|e| failed("reading", &name, &e))?;
            data.extend_from_slice(&read);
            if read.len() < piece {
                break;
            }
        }
        Ok(DiskOutput::Read(data.freeze()))
    }
}

/// Parts back to back, then zeros.
struct Gather<'a> {
    parts: &'a [Bytes],
    /// Bytes of the first part that were taken.
    at: usize,
}

impl Gather<'_> {
    fn fill(&mut self, mut out: &mut [u8]) {
        while let Some(part) = self.parts.first() {
            let rest = &part[self.at..];
            let take = rest.len().min(out.len());
            out[..take].copy_from_slice(&rest[..take]);
            out = &mut out[take..];
            self.at += take;
            if self.at < part.len() {
                return;
            }
            self.parts = &self.parts[1..];
            self.at = 0;
        }
        out.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_gathered_across_pieces_and_padded() {
        let parts = [Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defgh")];
        let mut source = Gather { parts: &parts, at: 0 };
        let mut pieces = [[9u8; 4]; 3];
        pieces.iter_mut().for_each(|piece| source.fill(piece));
        assert_eq!(pieces.concat(), b"abcdefgh\0\0\0\0");
    }
}
