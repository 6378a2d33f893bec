//! Reading a shard's log: recovery on a disk that writes nothing, then every segment by itself.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ringleader::raft::era::Era;
use ringleader::shard::{SnapshotSurvey, survey_snapshots};
use ringleader::{Configuration, Term};
use ringleader_wal::disk::{DiskError, DiskOp, DiskOutput, FileName};
use ringleader_wal::inspect::{self, BatchInfo, HeaderInfo};
use ringleader_wal::{
    Identity, Recovered, RecoveredGroup, RecoveryError, Wal, WalConfig, WalEvent, WalStatus,
};
use serde_json::{Value, json};

use super::snapshots;
use crate::failure::Failure;

/// The data directory's lock, and a shard's: a running node holds them.
const LOCKS: [&str; 2] = ["LOCK", "lock"];

/// A shard's log as it was found.
pub(crate) struct Survey {
    pub(crate) dir: PathBuf,
    /// None if no segment has a header that can be read.
    pub(crate) identity: Option<Identity>,
    /// What a start would find.
    pub(crate) outcome: Result<Recovered, RecoveryError>,
    /// What it would make of the snapshots then; nothing is known of them where the log is damaged.
    pub(crate) snapshots: Result<SnapshotSurvey, String>,
    /// What the log would be then.
    pub(crate) status: WalStatus,
    /// The segment files, by name.
    pub(crate) files: Vec<SegmentFile>,
}

pub(crate) struct SegmentFile {
    pub(crate) name: FileName,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) header: Option<HeaderInfo>,
}

/// Keeps a node from starting meanwhile.
pub(crate) struct Held(#[allow(dead_code, reason = "held until dropped")] Vec<File>);

/// The shards' directories of a data directory, or `dir` itself if it is one of those.
///
/// # Errors
/// When there is no log, it can't be read, or a node is using it.
pub(crate) fn open(dir: &Path) -> Result<(Held, Vec<PathBuf>), Failure> {
    let mut shards = Vec::new();
    let mut is_shard = false;
    for entry in fs::read_dir(dir).map_err(Failure::io(dir))? {
        let entry = entry.map_err(Failure::io(dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        is_shard |= name.parse::<FileName>().is_ok();
        let number = name.strip_prefix("shard-").and_then(|number| number.parse::<u32>().ok());
        if let Some(number) = number {
            shards.push((number, entry.path()));
        }
    }
    shards.sort();
    let mut shards: Vec<PathBuf> = shards.into_iter().map(|(_, path)| path).collect();
    if shards.is_empty() && is_shard {
        shards.push(dir.to_path_buf());
    }
    if shards.is_empty() {
        return Err(Failure::NoLog { path: dir.to_path_buf() });
    }
    let mut held = Vec::new();
    for place in shards.iter().map(PathBuf::as_path).chain([dir]) {
        for lock in LOCKS {
            held.extend(hold(&place.join(lock))?);
        }
    }
    Ok((Held(held), shards))
}

/// Locks a file that is there, without opening it for writing.
fn hold(path: &Path) -> Result<Option<File>, Failure> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(Failure::io(path))?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Failure::InUse { path: path.parent().unwrap_or(path).to_path_buf() })
        }
        Err(fs::TryLockError::Error(error)) => Err(Failure::io(path)(error)),
    }
}

impl Survey {
    /// `own_state` says that the state machines keep their own state, so that a log may begin where
    /// no snapshot reaches.
    pub(crate) fn of(dir: &Path, own_state: bool) -> Result<Self, Failure> {
        let files = segment_files(dir)?;
        let headers = || files.iter().filter_map(|file| file.header);
        // Of a segment whose header is damaged nothing is known, the identity of the others is its
        // own: recovery would refuse a stranger's.
        let identity = headers().map(|header| header.identity).next();
        let fallback = Identity { cluster: 0, node: 0.into(), shard: 0 };
        // The size that most have; recovery takes segments of another size as they are.
        let largest = files.iter().map(|file| file.bytes).max();
        let segment_bytes = largest.unwrap_or(0).clamp(2 << 20, 2 << 30) & !0xfff;
        let config = WalConfig { segment_bytes, ..WalConfig::default() };
        let mut wal = Wal::open(config, identity.unwrap_or(fallback));
        let outcome = recover(&mut wal, dir);
        let snapshots = match (&outcome, identity) {
            (Ok(recovered), Some(identity)) => {
                let mut listed = list(dir).map_err(Failure::io(dir))?;
                let gone = |group| wal.is_destroyed(group);
                listed.retain(|(file, _)| !matches!(file, FileName::Snapshot(of, _) if gone(*of)));
                survey_snapshots(&identity, recovered, &listed, own_state, |op| {
                    carry_out(dir, op).map_err(|error| DiskError::Io(error.to_string()))
                })
            }
            _ => Ok(SnapshotSurvey::default()),
        };
        let (dir, status) = (dir.to_path_buf(), wal.status());
        Ok(Self { dir, identity, outcome, snapshots, status, files })
    }

    /// Whether a node could start from it.
    pub(crate) fn is_sound(&self) -> bool {
        let begins = |snapshots: &SnapshotSurvey| snapshots.refusals.is_empty();
        self.outcome.is_ok() && self.snapshots.as_ref().is_ok_and(begins)
    }

    /// The valid batches of a file, in order.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn batches(file: &SegmentFile) -> Result<impl Iterator<Item = BatchInfo>, Failure> {
        let bytes = fs::read(&file.path).map_err(Failure::io(&file.path))?;
        let batches = file.header.map(|header| inspect::batches(header, Bytes::from(bytes)));
        Ok(batches.into_iter().flatten())
    }

    pub(crate) fn json(&self, batches: bool) -> Result<Value, Failure> {
        let mut document = self.verdict_json();
        let mut files = Vec::new();
        for file in &self.files {
            let mut all = Vec::new();
            let (mut count, mut records) = (0_usize, 0_usize);
            for batch in Self::batches(file)? {
                count += 1;
                records += batch.records.len();
                if batches {
                    all.push(batch);
                }
            }
            let mut entry = json!({
                "file": file.name.to_string(), "bytes": file.bytes,
                "segment": file.header.map(|header| header.id),
                "first_batch": file.header.map(|header| header.first_seq),
                "batches": count, "records": records,
            });
            if batches {
                entry["batch_list"] = json!(all);
            }
            files.push(entry);
        }
        document["files"] = json!(files);
        document["log"] = json!(self.status);
        if let Ok(recovered) = &self.outcome {
            let groups = recovered.groups.iter().map(|group| {
                json!({
                    "group": group.group, "hard_state": group.hard_state, "base": group.base,
                    "last": group.last_index, "terms": group.terms,
                    "configurations": configurations(group).collect::<Value>(),
                })
            });
            document["groups"] = groups.collect();
        }
        Ok(document)
    }

    pub(crate) fn verdict_json(&self) -> Value {
        let identity = self.identity.map(|identity| {
            json!({ "cluster": identity.cluster, "node": identity.node, "shard": identity.shard })
        });
        let mut document = json!({ "dir": super::name(&self.dir), "identity": identity, "sound": self.is_sound() });
        match &self.outcome {
            Ok(recovered) => {
                document["durable"] = json!(recovered.durable);
                document["batches"] = json!(recovered.batches);
                document["torn"] = json!(recovered.torn.as_ref().map(|torn| json!({
                    "file": torn.file.to_string(), "offset": torn.offset,
                    "batch": torn.expected, "reason": torn.reason,
                })));
            }
            Err(error) => document["damage"] = damage_json(error),
        }
        snapshots::add_to(&mut document, self);
        document
    }
}

/// The configurations in a group's log; a reset is the first entry of its era.
fn configurations(group: &RecoveredGroup) -> impl Iterator<Item = Value> {
    group.configurations.iter().map(|block| {
        let (index, term) = (block.first_index(), block.term());
        let read = Configuration::of_entry(block.payload(index));
        let is_reset = is_reset(term);
        match read {
            Ok(members) => {
                json!({ "index": index, "term": term, "reset": is_reset, "members": members })
            }
            Err(error) => json!({ "index": index, "term": term, "error": error.to_string() }),
        }
    })
}

/// Whether a configuration of this term was set without a majority.
pub(super) fn is_reset(term: Term) -> bool {
    term > Term(0) && Era::of(term).first_term() == term
}

/// The places that an error names.
fn damage_json(error: &RecoveryError) -> Value {
    let text = error.to_string();
    match error {
        RecoveryError::Corrupt { file, offset, expected, reason, .. } => json!({
            "kind": "corrupt", "file": file.to_string(), "offset": offset, "batch": expected,
            "reason": reason, "text": text,
        }),
        RecoveryError::Malformed { file, offset, seq, reason } => json!({
            "kind": "malformed", "file": file.to_string(), "offset": offset, "batch": seq,
            "reason": reason, "text": text,
        }),
        RecoveryError::MissingSegment { segment, file, .. } => json!({
            "kind": "missing-segment", "segment": segment,
            "file": file.map(|file| file.to_string()), "text": text,
        }),
        RecoveryError::Gap { group, missing } => json!({
            "kind": "gap", "group": group, "missing": missing, "text": text,
        }),
        _ => json!({ "kind": "unreadable", "text": text }),
    }
}

fn segment_files(dir: &Path) -> Result<Vec<SegmentFile>, Failure> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(Failure::io(dir))? {
        let entry = entry.map_err(Failure::io(dir))?;
        let Some(name) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if !matches!(name, FileName::Segment(_)) {
            continue;
        }
        let path = entry.path();
        let bytes = entry.metadata().map_err(Failure::io(&path))?.len();
        let file = File::open(&path).map_err(Failure::io(&path))?;
        let mut page = vec![0; ringleader_wal::disk::PAGE];
        let read = read_up_to(&file, &mut page, 0).map_err(Failure::io(&path))?;
        let header = inspect::header(&page[..read]);
        files.push(SegmentFile { name, path, bytes, header });
    }
    files.sort_by_key(|file| file.name);
    Ok(files)
}

/// Recovers the log without changing anything: reads are carried out, and what would change or
/// settle something is answered as done. Recovery changes nothing that it reads later.
fn recover(wal: &mut Wal, dir: &Path) -> Result<Recovered, RecoveryError> {
    let mut ops = Vec::new();
    loop {
        wal.take_ops(&mut ops);
        for (id, op) in ops.drain(..) {
            let result = carry_out(dir, &op).map_err(|e| DiskError::Io(format!("{op:?}: {e}")));
            wal.complete(id, result);
        }
        match wal.next_event() {
            Some(WalEvent::Recovered(recovered)) => return Ok(recovered),
            Some(WalEvent::RecoveryFailed(error)) => return Err(error),
            _ => {}
        }
    }
}

fn carry_out(dir: &Path, op: &DiskOp) -> io::Result<DiskOutput> {
    match op {
        DiskOp::List => Ok(DiskOutput::Listed(list(dir)?)),
        DiskOp::Read { file, offset, len } => {
            let mut bytes = vec![0; *len as usize];
            let file = File::open(dir.join(file.to_string()))?;
            let read = read_up_to(&file, &mut bytes, *offset)?;
            bytes.truncate(read);
            Ok(DiskOutput::Read(bytes.into()))
        }
        DiskOp::Sync { .. }
        | DiskOp::SyncDir
        | DiskOp::Remove { .. }
        | DiskOp::Create { .. }
        | DiskOp::Zero { .. }
        | DiskOp::Write { .. }
        | DiskOp::Rename { .. } => Ok(DiskOutput::Done),
    }
}

fn list(dir: &Path) -> io::Result<Vec<(FileName, u64)>> {
    let mut list = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            list.push((name, entry.metadata()?.len()));
        }
    }
    Ok(list)
}

/// Fewer bytes only at the file's end.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
