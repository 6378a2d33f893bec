//! Founding a group from a state that is there already, on a node that has never run.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ringleader_wal::disk::{DiskError, DiskOp, FileName};
use ringleader_wal::{GroupId, Identity, NodeId};

use super::DataDir;
use crate::config::{EngineConfig, place};
use crate::error::FoundError;
use crate::raft::Configuration;
use crate::shard::Founding;
use crate::state_machine::SnapshotSource;

/// Founds a group from a state: to move a service to this engine, or to begin a cluster from a
/// backup. What `source` gives is written into the data directory of `config`'s node as the group's
/// first snapshot, chunk by chunk, as [`StateMachine::snapshot`](crate::StateMachine::snapshot)
/// would have it. When the node starts, the group's state machine is restored from that; operations
/// follow it.
///
/// `members` are the group's first members, this node among the voters. The others are sent the state
/// when the group has a leader, like anybody who lacks what the log does not hold. **On all others
/// the group must have no [`voters`](crate::GroupConfig::voters)**, as on nodes that are added later:
/// with voters of their own they could found another group of the same number, and would refuse
/// this one. On this node, what `members` says counts, and not the configuration.
///
/// The node must not have run: its directory is empty or not there, but for other groups founded so.
/// It is the group's only copy until others have it: found a group on one node only.
///
/// The state takes the place of a reset's first entry, so that a group that was founded apart from
/// this one by mistake ends where the two meet; see [`era`](crate::raft::era).
///
/// # Errors
/// Nothing is founded, and what was written is removed. After a crash it is founded as a whole, which
/// another attempt is told ([`FoundError::NotEmpty`]), or not at all.
pub fn found_group(
    config: &EngineConfig,
    group: GroupId,
    members: &Configuration,
    source: Box<dyn SnapshotSource>,
) -> Result<(), FoundError> {
    config.validate()?;
    check(config, group, members)?;
    let shards = config.this_member().map_or(0, |member| member.shards);
    let data_dir = DataDir::open(config, shards)?;
    let shard = place(group, shards);
    let dir = data_dir.shard(shard);
    let storage = |error: io::Error| FoundError::Storage(format!("{}: {error}", dir.display()));
    clear(&dir, group).map_err(storage)??;
    let identity = Identity { cluster: config.cluster, node: config.node, shard };
    let max = config.snapshots.chunk_bytes;
    let mut founding = Founding::new(&identity, group, members, source, max);
    while let Some(op) = founding.next_op() {
        let done = carry_out(&dir, op).map_err(|error| DiskError::Io(error.to_string()));
        match founding.complete(done) {
            None => {}
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => {
                let storage = FoundError::Storage(format!("{}: {error}", dir.display()));
                return Err(founding.refused().map_or(storage, FoundError::Machine));
            }
        }
    }
    Err(FoundError::Storage("the snapshot has no end".into()))
}

fn check(config: &EngineConfig, group: GroupId, members: &Configuration) -> Result<(), FoundError> {
    if !config.groups.iter().any(|known| known.group == group) {
        return Err(FoundError::UnknownGroup(group));
    }
    if !members.voters().contains(&config.node) || members.is_joint() {
        return Err(FoundError::Impossible("this node has to be a voter: it has the state"));
    }
    let known = |node: &NodeId| config.members.iter().any(|member| member.node == *node);
    match members.members().find(|node| !known(node)) {
        Some(stranger) => Err(FoundError::UnknownNode(stranger)),
        None => Ok(()),
    }
}

/// Removes what a crash left of an earlier attempt, if there is nothing else in the way.
fn clear(dir: &Path, group: GroupId) -> io::Result<Result<(), FoundError>> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        match name.to_str().and_then(|name| name.parse().ok()) {
            Some(FileName::Segment(_) | FileName::Preparing(_)) => {
                return Ok(Err(FoundError::NotEmpty("the node has run")));
            }
            Some(FileName::Snapshot(of, _)) if of == group => {
                // Whoever did that may have ended before it was durable.
                File::open(dir)?.sync_all()?;
                return Ok(Err(FoundError::NotEmpty("the group was founded before")));
            }
            Some(FileName::Partial(of, _)) if of == group => fs::remove_file(entry.path())?,
            _ => {}
        }
    }
    Ok(Ok(()))
}

fn carry_out(dir: &Path, op: DiskOp) -> io::Result<()> {
    let path = |file: FileName| dir.join(file.to_string());
    match op {
        DiskOp::Create { file, .. } => File::create_new(path(file)).map(drop),
        DiskOp::Write { file, mut offset, parts, len, .. } => {
            let end = offset + len;
            let file = File::options().write(true).open(path(file))?;
            for part in parts {
                file.write_all_at(&part, offset)?;
                offset += part.len() as u64;
            }
            // Zeros up to there.
            file.set_len(end)
        }
        DiskOp::Sync { file } => File::open(path(file))?.sync_all(),
        DiskOp::Rename { from, to } => fs::rename(path(from), path(to)),
        DiskOp::SyncDir => File::open(dir)?.sync_all(),
        DiskOp::Remove { file } => fs::remove_file(path(file)),
        other => Err(io::Error::other(format!("{other:?} is no part of writing a snapshot"))),
    }
}
