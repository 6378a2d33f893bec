//! What is said of a shard's snapshots.

use std::fmt::Write as _;

use ringleader::StartError;
use ringleader::report::Table;
use ringleader::shard::{SnapshotFault, SnapshotRefusal, SurveyedSnapshot};
use serde_json::{Value, json};

use super::survey::Survey;

/// Adds every snapshot to a verdict, and the damage if the log has none of its own.
pub(super) fn add_to(document: &mut Value, survey: &Survey) {
    let snapshots = match &survey.snapshots {
        Ok(snapshots) => snapshots,
        Err(cause) => {
            document["damage"] = json!({ "kind": "configuration", "text": cause });
            return;
        }
    };
    document["snapshots"] = snapshots.files.iter().map(snapshot).collect();
    if let Some(refusal) = snapshots.refusals.first() {
        document["damage"] = damage(refusal);
    }
}

fn snapshot(found: &SurveyedSnapshot) -> Value {
    let SurveyedSnapshot { file, group, at, bytes, fault } = found;
    let mut document = json!({
        "file": file.to_string(), "group": group, "index": at.index, "term": at.term,
        "bytes": bytes, "whole": fault.is_none(),
    });
    if let Some(SnapshotFault { offset, reason, .. }) = fault {
        document["offset"] = json!(offset);
        document["reason"] = json!(reason);
    }
    document
}

fn damage(refusal: &SnapshotRefusal) -> Value {
    let SnapshotRefusal { group, fault, base, cause } = refusal;
    match fault {
        Some(SnapshotFault { file, offset, reason, .. }) => json!({
            "kind": "snapshot", "group": group, "file": file.to_string(), "offset": offset,
            "reason": reason, "text": cause,
        }),
        None => json!({
            "kind": "missing-snapshot", "group": group, "base": base, "text": cause,
        }),
    }
}

/// What is worth a line: each group that could not begin and what to do, and what is damaged without
/// harm.
pub(super) fn lines(survey: &Survey) -> String {
    let dir = super::name(&survey.dir);
    let mut text = String::new();
    let snapshots = match &survey.snapshots {
        Ok(snapshots) => snapshots,
        Err(cause) => return format!("{dir}: DAMAGED: {cause}; {}\n", StartError::HEAL),
    };
    for SnapshotRefusal { group, fault, cause, .. } in &snapshots.refusals {
        let _ = match fault {
            Some(_) => writeln!(
                text,
                "{dir}: DAMAGED: {cause}; group {group} can't begin without it; {}",
                StartError::HEAL
            ),
            None => writeln!(
                text,
                "{dir}: DAMAGED: {cause}; {}; if the state machine keeps its own state, say so \
                 with --own-state",
                StartError::HEAL
            ),
        };
    }
    let refused = |fault: &&SnapshotFault| {
        snapshots.refusals.iter().any(|refusal| refusal.fault.as_ref() == Some(*fault))
    };
    for fault in snapshots.files.iter().filter_map(|found| found.fault.as_ref()) {
        if !refused(&fault) {
            let _ = writeln!(text, "{dir}: {fault}; a start does without it");
        }
    }
    text
}

pub(super) fn table(survey: &Survey) -> Table {
    let mut table = Table::new(&["snapshot of group", "entry", "term", "file", "bytes", "state"]);
    for found in survey.snapshots.iter().flat_map(|snapshots| &snapshots.files) {
        table.row([
            found.group.to_string(),
            found.at.index.to_string(),
            found.at.term.to_string(),
            found.file.to_string(),
            found.bytes.to_string(),
            found.fault.as_ref().map_or("whole".into(), |fault| {
                format!("DAMAGED at {}: {}", fault.offset, fault.reason)
            }),
        ]);
    }
    table
}
