//! The directory that a run writes to.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::disk;

/// Marks a directory as this program's, and is locked while a run uses it.
const MARKER: &str = "ringleader-bench.lock";
/// What the marker of a directory says that is removed at the end.
const TEMPORARY: &[u8] = b"temporary\n";
const PREFIX: &str = "ringleader-bench-";

/// A locked directory; removed when dropped, if it is a temporary one.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    temporary: bool,
    _lock: File,
}

impl DataDir {
    /// The directory of a run: the one that the user named, or a new one.
    pub(crate) fn of_run(named: Option<&Path>, keep: bool) -> anyhow::Result<Self> {
        named.map_or_else(|| Self::temporary(keep), Self::named)
    }

    /// The directory that the user named. Data of an earlier run is deleted, anything else is
    /// refused.
    fn named(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        fs::create_dir_all(path).with_context(|| format!("creating the data directory {shown}"))?;
        let marker = path.join(MARKER);
        let mut entries =
            fs::read_dir(path).with_context(|| format!("reading the data directory {shown}"))?;
        if entries.next().is_some() && !marker.exists() {
            bail!(
                "the data directory {shown} is not empty and not of an earlier run of \
                 ringleader-bench; name another, or empty it"
            );
        }
        let directory = Self::lock(path.to_owned(), b"kept\n", false)?;
        directory.clear()?;
        Ok(directory)
    }

    /// A new directory on a disk if there is one; removed at the end unless it is to be kept.
    fn temporary(keep: bool) -> anyhow::Result<Self> {
        let temporary = std::env::temp_dir();
        let parent = match std::env::current_dir() {
            Ok(current) if disk::in_memory(&temporary) => current,
            _ => temporary,
        };
        sweep(&parent);
        for attempt in 0.. {
            let path = parent.join(format!("{PREFIX}{}-{attempt}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {
                    let marker = if keep { b"kept\n" } else { TEMPORARY };
                    return Self::lock(path, marker, !keep);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let shown = path.display();
                    return Err(error).context(format!("creating the data directory {shown}"));
                }
            }
        }
        unreachable!("the numbers do not end")
    }

    fn lock(path: PathBuf, says: &[u8], temporary: bool) -> anyhow::Result<Self> {
        let shown = path.display();
        let marker = path.join(MARKER);
        let lock = File::options().create(true).truncate(false).write(true).open(marker);
        let mut lock = lock.with_context(|| format!("writing to the data directory {shown}"))?;
        if lock.try_lock().is_err() {
            bail!("the data directory {shown} is in use by another run");
        }
        lock.set_len(0)?;
        lock.write_all(says).with_context(|| format!("writing to the data directory {shown}"))?;
        Ok(Self { path, temporary, _lock: lock })
    }

    /// Deletes everything but the marker.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let path = entry.path();
            let removed = match entry.file_type()? {
                _ if entry.file_name() == MARKER => Ok(()),
                kind if kind.is_dir() => fs::remove_dir_all(&path),
                _ => fs::remove_file(&path),
            };
            removed.with_context(|| format!("deleting {}", path.display()))?;
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is removed at the end.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("{} could not be removed: {error}", self.path.display());
        }
    }
}

/// Removes what runs left behind that were killed and had no chance to. They hold gigabytes.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && abandoned(&path) {
            // Another run may sweep at the same time, or it may belong to another user.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn abandoned(path: &Path) -> bool {
    let marker = path.join(MARKER);
    fs::read(&marker).is_ok_and(|says| says == TEMPORARY)
        && File::options().write(true).open(&marker).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("rlb-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_foreign_directory_is_refused_and_left_alone() {
        let path = scratch("foreign");
        fs::create_dir(&path).expect("a new directory");
        fs::write(path.join("thesis.tex"), "precious").expect("a file");
        let error = DataDir::named(&path).expect_err("it is not empty");
        assert!(error.to_string().contains("not empty"), "{error}");
        assert!(path.join("thesis.tex").exists());
        fs::remove_dir_all(&path).expect("it is ours");
    }

    #[test]
    fn a_named_directory_serves_again_but_not_twice_at_once() {
        let path = scratch("named");
        let first = DataDir::named(&path).expect("a new directory");
        fs::create_dir(path.join("node-1")).expect("a directory in it");
        let error = DataDir::named(&path).expect_err("it is in use");
        assert!(error.to_string().contains("in use"), "{error}");
        drop(first);
        assert!(path.join("node-1").exists(), "what the user named is not removed");
        let again = DataDir::named(&path).expect("our own directory");
        assert!(!path.join("node-1").exists());
        drop(again);
        fs::remove_dir_all(&path).expect("it is ours");
    }

    #[test]
    fn what_a_killed_run_left_is_swept_and_what_is_used_is_not() {
        let parent = scratch("sweep");
        let (dead, alive) =
            (parent.join("ringleader-bench-1-0"), parent.join("ringleader-bench-2-0"));
        for path in [&dead, &alive] {
            fs::create_dir_all(path).expect("a new directory");
            fs::write(path.join(MARKER), TEMPORARY).expect("a file");
        }
        let used = DataDir::lock(alive.clone(), TEMPORARY, true).expect("nobody uses it");
        sweep(&parent);
        assert!(!dead.exists() && alive.exists());
        drop(used);
        assert!(!alive.exists());
        fs::remove_dir_all(&parent).expect("it is ours");
    }
}
