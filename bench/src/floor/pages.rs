//! What floors are measured with: a page, a message, and files that have their space already.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Bytes of a durable write, and its alignment.
pub(crate) const PAGE: usize = 4096;
/// Bytes of a round trip's message, either way.
pub(crate) const MESSAGE: usize = 64;

/// A file of `pages` zeroed pages on the disk, so that no durable write to it changes its size or
/// its extents.
pub(crate) fn write_before(path: &Path, pages: u64) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    (0..pages).try_for_each(|_| file.write_all(&[0; PAGE]))?;
    file.sync_all()
}

/// Has the file system set `bytes` of space aside, whose extents it has not written yet.
pub(crate) fn allocate(file: &File, bytes: u64) -> std::io::Result<()> {
    // SAFETY: no pointers; the descriptor is open.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes as libc::off_t) } {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(error)),
    }
}
