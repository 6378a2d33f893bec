//! The data directory: whose it is, and that nobody else is using it.
//!
//! ```text
//! LOCK        locked (flock) while a process uses the directory
//! IDENTITY    "ringleader data 1", then "cluster C", "node N", "shards S", a line each
//! shard-0/    the log of shard 0
//! admin.sock  the operator's way in, if that is wanted
//! ```

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::config::EngineConfig;
use crate::error::StartError;

/// A directory that this process holds; dropping it lets go.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

const LOCK: &str = "LOCK";
const IDENTITY: &str = "IDENTITY";

fn refuse(path: &Path, why: impl std::fmt::Display) -> StartError {
    StartError::DataDir(format!("{}: {why}", path.display()))
}

impl DataDir {
    /// Takes the directory, creating it if it is missing.
    ///
    /// # Errors
    /// When it cannot be written, another process holds it, or it is not this node's.
    pub(crate) fn open(config: &EngineConfig, shards: u32) -> Result<Self, StartError> {
        let given = &config.data_dir;
        fs::create_dir_all(given)
            .map_err(|error| refuse(given, format!("creating it: {error}")))?;
        // glommio opens files of a directory by absolute path only.
        let path = given.canonicalize().map_err(|error| refuse(given, error))?;
        let identity = identity(config, shards);
        let found = fs::read_to_string(path.join(IDENTITY));
        if found.is_err() {
            check_empty(&path)?;
        }
        let lock = take_lock(&path)?;
        match found {
            Ok(found) if found == identity => {}
            Ok(found) => {
                let why = format!(
                    "it belongs to another node: it says\n{found}and the configuration says\n\
                     {identity}use this node's own directory, or an empty one"
                );
                return Err(refuse(&path, why));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                write_identity(&path, &identity)
                    .map_err(|error| refuse(&path, format!("writing {IDENTITY}: {error}")))?;
            }
            Err(error) => return Err(refuse(&path, format!("reading {IDENTITY}: {error}"))),
        }
        let dir = Self { path, _lock: lock };
        for shard in 0..shards {
            let shard = dir.shard(shard);
            fs::create_dir_all(&shard).map_err(|error| refuse(&shard, error))?;
        }
        Ok(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a shard's log lives.
    pub(crate) fn shard(&self, shard: u32) -> PathBuf {
        self.path.join(format!("shard-{shard}"))
    }
}

fn identity(config: &EngineConfig, shards: u32) -> String {
    format!(
        "ringleader data 1\ncluster {}\nnode {}\nshards {shards}\n",
        config.cluster, config.node
    )
}

/// A directory without an identity must hold nothing but what a crash at the first start leaves.
fn check_empty(path: &Path) -> Result<(), StartError> {
    let entries = fs::read_dir(path).map_err(|error| refuse(path, error))?;
    for entry in entries {
        let name = entry.map_err(|error| refuse(path, error))?.file_name();
        let ours = [LOCK, "IDENTITY.new", "lost+found"].iter().any(|known| name == *known);
        if !ours {
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
fn write_identity(path: &Path, identity: &str) -> std::io::Result<()> {
    let aside = path.join("IDENTITY.new");
    let mut file = File::create(&aside)?;
    file.write_all(identity.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path.join(IDENTITY))?;
    File::open(path)?.sync_all()
}
