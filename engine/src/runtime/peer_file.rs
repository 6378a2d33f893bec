//! `PEERS`: whom this node knows, with which data directory: by having met it, or from the groups'
//! logs. The book-keeping and what it is good for are in [`ringleader_net::book`], as is the text; here
//! it is made durable.
//!
//! The file is written whole for each node that is new: of one that is met, before anything comes of
//! the meeting; of one that a log tells of, soon, for until then the log is durable. It is never changed
//! otherwise: a number that was removed from the cluster is not given to another node. It is written by
//! a thread for blocking calls, not by a shard's own.
//!
//! When the file is damaged or gone the node does not start: it would take a node that lost its
//! data for a good one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ringleader_net::{DataId, DataReplaced, IntroduceError, Introducer, Introduction, PeerBook};

use super::data_dir::{lost, refuse, write_whole};
use crate::error::StartError;

pub(super) const PEERS: &str = "PEERS";

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct PeerFile {
    dir: PathBuf,
    node: u64,
    /// What the file says. Held for a moment only.
    book: Mutex<PeerBook>,
    /// Rises with everything that a log tells.
    told: AtomicU64,
    /// Held while the file is written.
    writing: Mutex<()>,
}

impl PeerFile {
    /// The file of somebody who met nobody yet.
    pub(super) fn create(dir: &Path) -> io::Result<()> {
        write_whole(dir, PEERS, &PeerBook::default().to_text())
    }

    pub(super) fn open(dir: &Path, node: u64) -> Result<Self, StartError> {
        let path = dir.join(PEERS);
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => refuse(&path, lost()),
            _ => refuse(&path, error),
        })?;
        let book = PeerBook::from_text(&text).map_err(|why| {
            refuse(&path, format!("it is damaged: {why}; restore it, or {}", StartError::HEAL))
        })?;
        let (dir, book) = (dir.to_path_buf(), Mutex::new(book));
        Ok(Self { dir, node, book, told: AtomicU64::new(0), writing: Mutex::default() })
    }

    fn book(&self) -> MutexGuard<'_, PeerBook> {
        self.book.lock().expect("no panic under this lock")
    }

    /// Remembers a node that was met; durable when this returns. Blocks.
    fn record(&self, node: u64, data: DataId) -> Result<(), IntroduceError> {
        let _writing = self.writing.lock().expect("no panic under this lock");
        let mut book = self.book().clone();
        if book.meet(self.node, node, data)? {
            self.write(&book)
                .map_err(|error| IntroduceError::NotRecorded(format!("{PEERS}: {error}")))?;
            // It may have been told of another one meanwhile.
            self.book().meet(self.node, node, data)?;
            tracing::info!(node, %data, "met for the first time");
        }
        Ok(())
    }

    /// Knows from now on what a log says of a node. True if that is to be [saved](Self::save).
    pub(super) fn tell(&self, node: u64, data: DataId) -> bool {
        let news = self.book().tell(node, data);
        if news {
            self.told.fetch_add(1, Ordering::Release);
            tracing::info!(node, %data, "known from a group's log");
        }
        news
    }

    /// Makes durable what is known. Blocks.
    pub(super) fn save(&self) {
        let _writing = self.writing.lock().expect("no panic under this lock");
        let book = self.book().clone();
        if let Err(error) = self.write(&book) {
            // The logs say it again at the next start.
            tracing::warn!(%error, "writing {PEERS}");
        }
    }

    fn write(&self, book: &PeerBook) -> io::Result<()> {
        write_whole(&self.dir, PEERS, &book.to_text())
    }
}

/// A shard's, or the listener's, way to the node's file.
pub(super) struct Recorder(pub(super) Arc<PeerFile>);

impl Recorder {
    /// Whether a log told something since it was asked last, with the same `seen`.
    pub(super) fn has_news(&self, seen: &mut u64) -> bool {
        let told = self.0.told.load(Ordering::Acquire);
        std::mem::replace(seen, told) != told
    }

    /// What is wrong with a node that showed this.
    pub(super) fn check(&self, node: u64, data: DataId) -> Result<(), DataReplaced> {
        self.0.book().check(self.0.node, node, data)
    }

    /// A log says that a node has this data directory.
    pub(super) fn tell(&self, node: u64, data: DataId) {
        if self.0.tell(node, data) {
            let file = Arc::clone(&self.0);
            glommio::spawn_local(glommio::executor().spawn_blocking(move || file.save())).detach();
        }
    }
}

impl Introducer for Recorder {
    fn known(&self, node: u64) -> Option<DataId> {
        self.0.book().known(node)
    }

    fn introduce(&self, node: u64, data: DataId) -> Introduction {
        let file = Arc::clone(&self.0);
        Box::pin(glommio::executor().spawn_blocking(move || file.record(node, data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_there_after_a_restart_and_failures_leave_it_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        PeerFile::create(dir.path()).expect("written");
        let open = || PeerFile::open(dir.path(), 1);
        let file = open().expect("it is whole");
        assert_eq!(file.record(2, DataId(20)), Ok(()));
        assert_eq!(file.record(2, DataId(20)), Ok(()));
        assert!(matches!(file.record(2, DataId(21)), Err(IntroduceError::Replaced(_))));
        let file = open().expect("it is whole");
        assert_eq!(*file.book(), *open().expect("still").book());
        assert_eq!(file.book().known(2), Some(DataId(20)));

        // A directory in the way of the file that is written aside.
        fs::create_dir(dir.path().join("PEERS.new")).expect("made");
        assert!(matches!(file.record(3, DataId(30)), Err(IntroduceError::NotRecorded(_))));
        assert_eq!(file.book().known(3), None);
        fs::remove_dir(dir.path().join("PEERS.new")).expect("removed");
        assert_eq!(file.record(3, DataId(30)), Ok(()));

        // What a log says is known at once, and after a restart when it was saved.
        assert_eq!((file.tell(4, DataId(40)), file.tell(4, DataId(40))), (true, false));
        assert_eq!(open().expect("it is whole").book().known(4), None);
        assert!(matches!(file.record(4, DataId(41)), Err(IntroduceError::Replaced(_))));
        file.save();
        assert_eq!(*file.book(), *open().expect("it is whole").book());

        let path = dir.path().join(PEERS);
        let text = fs::read_to_string(&path).expect("there");
        fs::write(&path, text.replace("node 3", "node 4")).expect("written");
        assert!(open().expect_err("damaged").to_string().contains("its checksum is wrong"));
        fs::remove_file(&path).expect("removed");
        assert!(open().expect_err("gone").to_string().contains("add it again as a new node"));
    }
}
