//! The disk as the log's logic sees it: operations submitted, operations completed. A driver
//! carries them out, with glommio in production ([`crate::driver`]) and with a simulated disk in
//! tests. Operations in flight together may complete in any order.

use bytes::Bytes;

use crate::types::{GroupId, LogIndex, LogPosition, Term};

/// Unit of every offset and length that is written: O_DIRECT needs 512 or 4096, ext4's and xfs's
/// blocks and most devices' physical sectors are 4096.
pub const PAGE: usize = 4096;

/// Names an operation between its submission and its completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// A file in the shard's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// A segment in use or ready for use: `00000001.wal`. A file keeps its name when it is
    /// recycled; the header inside says which segment of the log it holds at present.
    Segment(u32),
    /// A segment being prepared: `00000001.new`. Left over by a crash, it is removed at the next
    /// start.
    Preparing(u32),
    /// A group's snapshot, whole, named by the group and the last entry that it covers:
    /// `7-1200-3.snap` is group 7's up to entry 1200 of term 3. The log itself knows nothing of
    /// snapshots and leaves these files alone.
    Snapshot(GroupId, LogPosition),
    /// A snapshot being written: `7-1200-3.part`.
    Partial(GroupId, LogPosition),
}

/// One operation on the shard's directory or a file in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Lists the directory. Names that are not a [`FileName`] are left out.
    List,
    /// Creates an empty file, failing if it exists, and allocates `len` bytes for it.
    Create {
        /// The new file.
        file: FileName,
        /// Bytes to allocate.
        len: u64,
    },
    /// Writes zeros.
    Zero {
        /// The file.
        file: FileName,
        /// First byte; a multiple of [`PAGE`].
        offset: u64,
        /// Bytes; a multiple of [`PAGE`].
        len: u64,
    },
    /// Writes `parts` back to back, then zeros up to `len`.
    Write {
        /// The file.
        file: FileName,
        /// First byte; a multiple of [`PAGE`].
        offset: u64,
        /// What to write, in order.
        parts: Vec<Bytes>,
        /// Bytes in all, padding included; a multiple of [`PAGE`].
        len: u64,
        /// Whether the data must be on stable storage when the operation completes
        /// (`O_DIRECT|O_DSYNC`); otherwise a [`DiskOp::Sync`] has to follow.
        durable: bool,
    },
    /// Puts every write to the file that completed before this was submitted on stable storage,
    /// with the metadata needed to read it back (`fdatasync`).
    Sync {
        /// The file.
        file: FileName,
    },
    /// Reads up to `len` bytes; fewer only at the file's end.
    Read {
        /// The file.
        file: FileName,
        /// First byte; a multiple of [`PAGE`].
        offset: u64,
        /// Bytes; a multiple of [`PAGE`].
        len: u64,
    },
    /// Renames a file. One that has the new name is replaced, in one step; the log never asks for
    /// that.
    Rename {
        /// The old name.
        from: FileName,
        /// The new name.
        to: FileName,
    },
    /// Removes a file.
    Remove {
        /// The file.
        file: FileName,
    },
    /// Puts the directory's entries (creations, renames, removals) on stable storage.
    SyncDir,
}

/// What an operation that succeeded brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOutput {
    /// [`DiskOp::List`]: the files and their lengths in bytes, in any order.
    Listed(Vec<(FileName, u64)>),
    /// [`DiskOp::Read`]: the bytes.
    Read(Bytes),
    /// Every other operation.
    Done,
}

/// Why an operation failed. Nothing may be assumed about what it left on the disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// No space (ENOSPC, EDQUOT).
    #[error("no space left: {0}")]
    NoSpace(String),
    /// Everything else, with the operation and the cause in words.
    #[error("{0}")]
    Io(String),
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Segment(number) => write!(f, "{number:08}.wal"),
            Self::Preparing(number) => write!(f, "{number:08}.new"),
            Self::Snapshot(group, at) => write!(f, "{group}-{}-{}.snap", at.index, at.term),
            Self::Partial(group, at) => write!(f, "{group}-{}-{}.part", at.index, at.term),
        }
    }
}

impl std::str::FromStr for FileName {
    type Err = ();

    /// The file that `name` names; anything that [`FileName`]'s `Display` does not give is
    /// refused.
    fn from_str(name: &str) -> Result<Self, ()> {
        let number = |stem: &str| stem.parse().map_err(|_| ());
        let file = match name.rsplit_once('.').ok_or(())? {
            (stem, "wal") => Self::Segment(number(stem)?),
            (stem, "new") => Self::Preparing(number(stem)?),
            (stem, "snap") => covered(stem).map(|(group, at)| Self::Snapshot(group, at))?,
            (stem, "part") => covered(stem).map(|(group, at)| Self::Partial(group, at))?,
            _ => return Err(()),
        };
        if file.to_string() == name { Ok(file) } else { Err(()) }
    }
}

/// The group and position that a snapshot is named by.
fn covered(stem: &str) -> Result<(GroupId, LogPosition), ()> {
    let mut numbers = stem.split('-').map(|number| number.parse().map_err(|_| ()));
    let mut next = || numbers.next().unwrap_or(Err(()));
    let (group, index, term) = (next()?, next()?, next()?);
    Ok((GroupId(group), LogPosition { index: LogIndex(index), term: Term(term) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_no_other_way() {
        let at = LogPosition { index: LogIndex(1200), term: Term(3) };
        let names = [
            (FileName::Segment(1), "00000001.wal"),
            (FileName::Preparing(23), "00000023.new"),
            (FileName::Snapshot(GroupId(7), at), "7-1200-3.snap"),
            (FileName::Partial(GroupId(u64::MAX), at), "18446744073709551615-1200-3.part"),
        ];
        for (file, name) in names {
            assert_eq!(file.to_string(), name);
            assert_eq!(name.parse(), Ok(file));
        }
        let wrong = ["1.wal", "lock", "7-1200.snap", "07-1200-3.snap", "7-1200-3-4.part", "-.snap"];
        for name in wrong {
            assert_eq!(name.parse::<FileName>(), Err(()), "{name}");
        }
    }
}
