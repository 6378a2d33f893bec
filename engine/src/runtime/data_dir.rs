//! The data directory: whose it is, which one it is, and that nobody else is using it.
//!
//! ```text
//! LOCK        locked (flock) while a process uses the directory
//! IDENTITY    "ringleader data 2", "cluster C", "node N", "shards S", "id D", and "crc X", a line each
//! PEERS       which directory each other node is known with, see `peer_file`
//! shard-0/    the log of shard 0
//! admin.sock  the operator's way in, if that is wanted
//! ```
//!
//! `D` is 128 random bits in hexadecimal, drawn when the directory is made and never changed: by it
//! the other nodes know that this node still has what it promised ([`ringleader_net::book`]). `X` is
//! the CRC-32 of the lines before it.
//!
//! `IDENTITY` is written last when a directory is made, and everything else is there then, durably.
//! So a part that is missing beside it was lost, with what this node had promised: such a directory
//! is refused. A directory of format 1, which had no id, is refused as well.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringleader_net::DataId;
use ringleader_net::book::{seal, unseal};

use super::peer_file::{PEERS, PeerFile};
use crate::config::EngineConfig;
use crate::error::StartError;

/// A directory that this process holds; dropping it lets go.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    id: DataId,
    peers: Arc<PeerFile>,
    _lock: File,
}

const LOCK: &str = "LOCK";
const IDENTITY: &str = "IDENTITY";
const TITLE: &str = "ringleader data 2";

pub(super) fn refuse(path: &Path, why: impl std::fmt::Display) -> StartError {
    StartError::DataDir(format!("{}: {why}", path.display()))
}

impl DataDir {
    /// Takes the directory, creating it if it is missing.
    ///
    /// # Errors
    /// When it cannot be written, another process holds it, it is not this node's, or a part of it
    /// is gone.
    pub(crate) fn open(config: &EngineConfig, shards: u32) -> Result<Self, StartError> {
        let given = &config.data_dir;
        fs::create_dir_all(given)
            .map_err(|error| refuse(given, format!("creating it: {error}")))?;
        // glommio opens files of a directory by absolute path only.
        let path = given.canonicalize().map_err(|error| refuse(given, error))?;
        let found = fs::read_to_string(path.join(IDENTITY));
        if found.is_err() {
            check_empty(&path)?;
        }
        let lock = take_lock(&path)?;
        let whose = whose(config, shards);
        let id = match found {
            Ok(found) => read_identity(&found, &whose).map_err(|why| refuse(&path, why))?,
            Err(error) if error.kind() == ErrorKind::NotFound => create(&path, &whose, shards)
                .map_err(|error| refuse(&path, format!("setting it up: {error}")))?,
            Err(error) => return Err(refuse(&path, format!("reading {IDENTITY}: {error}"))),
        };
        for shard in (0..shards).map(|shard| shard_dir(&path, shard)) {
            if !shard.is_dir() {
                return Err(refuse(&shard, lost()));
            }
        }
        let peers = Arc::new(PeerFile::open(&path, config.node.0)?);
        Ok(Self { path, id, peers, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a shard's log lives.
    pub(crate) fn shard(&self, shard: u32) -> PathBuf {
        shard_dir(&self.path, shard)
    }

    /// Which directory it is.
    pub(crate) fn id(&self) -> DataId {
        self.id
    }

    /// Whom this node knows.
    pub(crate) fn peers(&self) -> Arc<PeerFile> {
        Arc::clone(&self.peers)
    }
}

/// What to do about a directory that is not whole.
pub(super) fn lost() -> String {
    format!("it is missing, and with it what this node had promised; {}", StartError::HEAL)
}

fn shard_dir(path: &Path, shard: u32) -> PathBuf {
    path.join(format!("shard-{shard}"))
}

fn whose(config: &EngineConfig, shards: u32) -> String {
    format!("{TITLE}\ncluster {}\nnode {}\nshards {shards}\n", config.cluster, config.node)
}

fn read_identity(found: &str, whose: &str) -> Result<DataId, String> {
    if !found.starts_with(&format!("{TITLE}\n")) {
        let title = found.lines().next().unwrap_or_default();
        return Err(format!(
            "it is of another format: {IDENTITY} begins with {title:?}, and this version reads \
             {TITLE:?} alone; use an empty directory"
        ));
    }
    let text = unseal(found).map_err(|why| format!("{IDENTITY} is damaged: {why}"))?;
    let (head, id) = text.split_once("id ").unwrap_or((text, ""));
    if head != whose {
        return Err(format!(
            "it belongs to another node: it says\n{head}and the configuration says\n\
             {whose}use this node's own directory, or an empty one"
        ));
    }
    id.trim_end().parse().map_err(|why| format!("{IDENTITY} is damaged: {why}"))
}

/// Makes everything that belongs into a directory, `IDENTITY` last.
fn create(path: &Path, whose: &str, shards: u32) -> io::Result<DataId> {
    for shard in (0..shards).map(|shard| shard_dir(path, shard)) {
        fs::create_dir_all(&shard)?;
    }
    PeerFile::create(path)?;
    sync_parent(path)?;
    let id = random_id()?;
    write_whole(path, IDENTITY, &seal(&format!("{whose}id {id}\n")))?;
    Ok(id)
}

fn random_id() -> io::Result<DataId> {
    let mut bytes = [0; 16];
    while bytes == [0; 16] {
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    }
    Ok(DataId(u128::from_le_bytes(bytes)))
}

/// The directory itself may be new. One whose parent this process can't open was made by somebody
/// else, before.
fn sync_parent(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    match File::open(parent) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        parent => parent?.sync_all(),
    }
}

/// A directory without an identity must hold nothing but what a crash at the first start leaves.
fn check_empty(path: &Path) -> Result<(), StartError> {
    let entries = fs::read_dir(path).map_err(|error| refuse(path, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| refuse(path, error))?;
        let name = entry.file_name();
        let ours = [LOCK, "IDENTITY.new", PEERS, "PEERS.new", "lost+found"];
        let left_over = |dir: PathBuf| fs::read_dir(dir).is_ok_and(|mut dir| dir.next().is_none());
        let shard = name.to_str().is_some_and(|name| name.starts_with("shard-"));
        let known = ours.iter().any(|known| name == *known) || shard && left_over(entry.path());
        if !known {
            let why = format!(
                "it is not empty and not a Ringleader data directory (it holds {}); \
                 use an empty or a new directory",
                name.display()
            );
            return Err(refuse(path, why));
        }
    }
    Ok(())
}

fn take_lock(path: &Path) -> Result<File, StartError> {
    let file = path.join(LOCK);
    let lock = File::options().create(true).truncate(false).write(true).open(&file);
    let lock = lock.map_err(|error| refuse(&file, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(refuse(path, "another process is using it")),
        Err(TryLockError::Error(error)) => Err(refuse(&file, format!("locking it: {error}"))),
    }
}

/// Whole or not at all: written aside, synced, renamed, and the directory synced.
pub(super) fn write_whole(path: &Path, name: &str, text: &str) -> io::Result<()> {
    let aside = path.join(format!("{name}.new"));
    let mut file = File::create(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path.join(name))?;
    File::open(path)?.sync_all()
}
