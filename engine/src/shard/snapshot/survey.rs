//! What a start would make of a shard's snapshots, found without starting: for tools.

use std::collections::BTreeMap;

use ringleader_wal::disk::{DiskError, DiskOp, DiskOutput, FileName};
use ringleader_wal::{GroupId, Identity, LogIndex, LogPosition, Recovered};

use super::opening::{restore, unreached};
use super::reader::{Next, Reader};
use crate::raft::{Configuration, Restored};

/// The snapshots in a shard's directory, and the groups that could not begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotSurvey {
    /// By group, the newest last.
    pub files: Vec<SurveyedSnapshot>,
    /// Why a start would be refused, for each group that it would be refused for.
    pub refusals: Vec<SnapshotRefusal>,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyedSnapshot {
    /// Its file.
    pub file: FileName,
    /// The group.
    pub group: GroupId,
    /// The last entry that it covers.
    pub at: LogPosition,
    /// The file's length.
    pub bytes: u64,
    /// What is wrong with it; a start looks at the newest, and at an older one where that may stand
    /// in for it.
    pub fault: Option<SnapshotFault>,
}

/// What is wrong with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} {} at offset {offset}: {reason}", if *.is_unreadable { "can't be read" } else { "is damaged" })]
pub struct SnapshotFault {
    /// Its file.
    pub file: FileName,
    /// The first record that is not what was written.
    pub offset: u64,
    /// Why.
    pub reason: String,
    /// The disk gave no bytes, so that nobody knows what they are.
    pub is_unreadable: bool,
}

/// Why a group could not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRefusal {
    /// The group.
    pub group: GroupId,
    /// The snapshot that is damaged; none if there is none that reaches the beginning of the log.
    pub fault: Option<SnapshotFault>,
    /// The entry before the first one in the log.
    pub base: LogIndex,
    /// The cause, as the start would have it.
    pub cause: String,
}

/// Reads every snapshot in a shard's directory with the code that a start reads them with, and says
/// which groups could not begin. State machines are not asked, and the tool that calls this has
/// none: whether they take what is in a snapshot is not known. `keep_state` says that they keep their
/// own state ([`StateMachine::durable_position`](crate::StateMachine::durable_position)), so that a
/// log may begin anywhere.
///
/// `listed` is what is in the directory, without the files of groups that were destroyed; `carry_out`
/// carries reads out.
///
/// # Errors
/// The log has a configuration that can't be read.
pub fn survey_snapshots(
    identity: &Identity,
    recovered: &Recovered,
    listed: &[(FileName, u64)],
    keep_state: bool,
    mut carry_out: impl FnMut(&DiskOp) -> Result<DiskOutput, DiskError>,
) -> Result<SnapshotSurvey, String> {
    let mut survey = SnapshotSurvey::default();
    let mut groups: BTreeMap<GroupId, Restored> = BTreeMap::new();
    for group in &recovered.groups {
        let (group, restored) = restore(group.clone())?;
        groups.insert(group, restored);
    }
    for (file, bytes) in listed {
        let FileName::Snapshot(group, at) = *file else { continue };
        let fault = check(Reader::new(identity, group, at, *bytes), *file, &mut carry_out).err();
        survey.files.push(SurveyedSnapshot { file: *file, group, at, bytes: *bytes, fault });
        groups.entry(group).or_default();
    }
    survey.files.sort_by_key(|found| (found.group, found.at));
    for (group, restored) in &groups {
        let of_group = survey.files.iter().filter(|found| found.group == *group);
        survey.refusals.extend(refusal(*group, restored, of_group.rev(), keep_state));
    }
    Ok(survey)
}

/// Reads a file from its beginning to its end.
fn check(
    mut reader: Reader,
    file: FileName,
    carry_out: &mut impl FnMut(&DiskOp) -> Result<DiskOutput, DiskError>,
) -> Result<(), SnapshotFault> {
    let fault =
        |offset, reason, is_unreadable| SnapshotFault { file, offset, reason, is_unreadable };
    loop {
        match reader.next() {
            Next::Read(op) => {
                let DiskOp::Read { offset, .. } = op else { continue };
                let filled = reader.fill(carry_out(&op));
                filled.map_err(|error| fault(offset, error.to_string(), true))?;
            }
            Next::Head(head) => {
                let read = Configuration::decode(&head.configuration);
                read.map_err(|error| fault(0, error.to_string(), false))?;
            }
            Next::Chunk(_) => {}
            Next::End => return Ok(()),
            Next::Damaged(damage) => {
                return Err(fault(damage.offset, damage.reason.to_owned(), false));
            }
        }
    }
}

/// As `opening` decides, where the state machine has nothing of its own.
fn refusal<'a>(
    group: GroupId,
    restored: &Restored,
    newest_first: impl Iterator<Item = &'a SurveyedSnapshot>,
    keep_state: bool,
) -> Option<SnapshotRefusal> {
    let base = restored.base.index;
    let refuse = |fault: Option<&SnapshotFault>, cause| {
        Some(SnapshotRefusal { group, fault: fault.cloned(), base, cause })
    };
    let mut passed_over: Option<&SnapshotFault> = None;
    let cause = |fault: &SnapshotFault| fault.to_string();
    for SurveyedSnapshot { at, fault, .. } in newest_first {
        if at.index < base {
            let missing = || unreached(group, base, *at);
            let why = passed_over.map_or_else(missing, cause);
            return if keep_state { None } else { refuse(passed_over, why) };
        }
        let Some(fault) = fault else { return None };
        if fault.is_unreadable || restored.term_at(at.index) != Some(at.term) {
            return refuse(Some(fault), cause(fault));
        }
        passed_over = Some(fault);
    }
    if base == LogIndex(0) || keep_state {
        return None;
    }
    let missing = || unreached(group, base, LogPosition::default());
    refuse(passed_over, passed_over.map_or_else(missing, cause))
}
