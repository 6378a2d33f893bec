//! A survey as tables for people.

use std::fmt::Write as _;
use std::io::Write;

use ringleader::report::Table;
use ringleader::{Configuration, StartError};
use ringleader_wal::Recovered;
use ringleader_wal::inspect::{BatchInfo, RecordInfo};

use super::snapshots;
use super::survey::{SegmentFile, Survey, is_reset};
use crate::failure::Failure;
use crate::members::who;

/// One line, or one for each thing that is worth knowing.
pub(super) fn verdict(survey: &Survey) -> String {
    let dir = super::name(&survey.dir);
    let recovered = match &survey.outcome {
        Ok(recovered) => recovered,
        Err(error) if error.is_damage() => {
            return format!("{dir}: DAMAGED: {error}; {}\n", StartError::HEAL);
        }
        Err(error) => return format!("{dir}: NOT READABLE: {error}\n"),
    };
    let groups = recovered.groups.len();
    let (batches, durable) = (recovered.batches, recovered.durable);
    let snapshots = survey.snapshots.as_ref().map_or(0, |snapshots| snapshots.files.len());
    let sound = if survey.is_sound() { "sound" } else { "the log is sound" };
    let mut text = format!(
        "{dir}: {sound}; {batches} batches, the last is {durable}; {groups} groups, {snapshots} \
         snapshots\n"
    );
    if let Some(torn) = &recovered.torn {
        let _ = writeln!(
            text,
            "{dir}: a torn tail in {} at offset {} was never acknowledged and would be dropped: {}",
            torn.file, torn.offset, torn.reason
        );
    }
    text + &snapshots::lines(survey)
}

pub(super) fn inspect(out: &mut impl Write, survey: &Survey, all: bool) -> Result<(), Failure> {
    let mut text = verdict(survey);
    if let Some(identity) = survey.identity {
        let _ = writeln!(text, "it is of {identity}");
    }
    let _ = write!(text, "\nsegments\n{}", segments(survey)?);
    if let Ok(recovered) = &survey.outcome {
        let mut table =
            Table::new(&["group", "term", "vote", "base", "base term", "last", "last term"]);
        for group in &recovered.groups {
            let last_term = group.terms.last().map_or(group.base.term, |start| start.term);
            table.row([
                group.group.to_string(),
                group.hard_state.term.to_string(),
                group.hard_state.voted_for.map_or("-".into(), |node| node.to_string()),
                group.base.index.to_string(),
                group.base.term.to_string(),
                group.last_index.to_string(),
                last_term.to_string(),
            ]);
        }
        let _ = write!(text, "\ngroups\n{table}");
        let members = members(recovered);
        if !members.is_empty() {
            let _ = write!(text, "\nmembers in the log\n{members}");
        }
        let snapshots = snapshots::table(survey);
        if !snapshots.is_empty() {
            let _ = write!(text, "\nsnapshots\n{snapshots}");
        }
    }
    out.write_all(text.as_bytes()).map_err(Failure::Output)?;
    if all {
        for file in &survey.files {
            batches(out, file)?;
        }
    }
    Ok(())
}

fn members(recovered: &Recovered) -> Table {
    let mut table = Table::new(&["group", "entry", "term", "members", ""]);
    for group in &recovered.groups {
        for block in &group.configurations {
            let (index, term) = (block.first_index(), block.term());
            let read = Configuration::of_entry(block.payload(index));
            table.row([
                group.group.to_string(),
                index.to_string(),
                term.to_string(),
                read.map_or_else(|error| error.to_string(), |members| who(&members)),
                if is_reset(term) { "SET WITHOUT A MAJORITY" } else { "" }.into(),
            ]);
        }
    }
    table
}

fn segments(survey: &Survey) -> Result<Table, Failure> {
    let mut table = Table::new(&[
        "file",
        "bytes",
        "segment",
        "use",
        "batches",
        "first",
        "last",
        "records",
        "live bytes",
    ]);
    for file in &survey.files {
        let (mut count, mut records, mut last) = (0_u64, 0, None);
        for batch in Survey::batches(file)? {
            count += 1;
            records += batch.records.len();
            last = Some(batch.seq);
        }
        let name = file.name.to_string();
        let in_log = survey.status.segments.iter().find(|s| s.file.as_ref() == Some(&name));
        let or_none = |number: Option<u64>| number.map_or("-".to_owned(), |n| n.to_string());
        table.row([
            name,
            file.bytes.to_string(),
            or_none(file.header.map(|header| header.id)),
            if in_log.is_some() { "log" } else { "spare" }.into(),
            count.to_string(),
            or_none(file.header.map(|header| header.first_seq.0)),
            or_none(last.map(|last| last.0)),
            records.to_string(),
            or_none(in_log.map(|segment| segment.live_bytes)),
        ]);
    }
    Ok(table)
}

fn batches(out: &mut impl Write, file: &SegmentFile) -> Result<(), Failure> {
    writeln!(out, "\nbatches of {}", file.name).map_err(Failure::Output)?;
    for batch in Survey::batches(file)? {
        let BatchInfo { seq, offset, bytes, durable, records } = batch;
        let what = if records.is_empty() { ", an idle mark" } else { "" };
        writeln!(out, "batch {seq} at {offset}, {bytes} B, {durable} was durable{what}")
            .map_err(Failure::Output)?;
        for record in &records {
            writeln!(out, "  {}", sentence(record)).map_err(Failure::Output)?;
        }
    }
    Ok(())
}

fn sentence(record: &RecordInfo) -> String {
    match record {
        RecordInfo::Block { group, first, last, bytes, moved } => {
            let moved = if *moved { ", rewritten forward" } else { "" };
            format!("group {group}: entries {first} to {last}, {bytes} B{moved}")
        }
        RecordInfo::Truncate { group, from } => format!("group {group}: truncated from {from}"),
        RecordInfo::HardState { group, state } => {
            let vote = state.voted_for.map_or("nobody".into(), |node| format!("node {node}"));
            format!("group {group}: term {}, voted for {vote}", state.term)
        }
        RecordInfo::Release { group, through } => {
            format!("group {group}: released through {} of term {}", through.index, through.term)
        }
        RecordInfo::Create { group } => format!("group {group}: created"),
        RecordInfo::Destroy { group } => format!("group {group}: destroyed"),
    }
}
