//! Recovery's second half: what a batch's records do to the groups.
//!
//! Replay begins at the oldest segment that is still needed, so it may meet blocks that are dead
//! and miss some that were rewritten forward and come later (`Moved`). Appended blocks may
//! therefore leave holes while replay runs; at the end none may be left.

use crate::block::{Block, BlockKind};
use crate::configurations::Configurations;
use crate::format::Record;
use crate::index::{Entry, Groups, Place};
use crate::scan::{Batch, Item};
use crate::segments::Segments;
use crate::types::{LogIndex, Term};

/// A record ready for replay: its block was checked, and has this term and last index.
pub(crate) struct Checked {
    item: Item,
    term: Term,
    last: LogIndex,
    /// The block itself, if it is a configuration.
    configuration: Option<Block>,
}

/// Why a batch is not replayed.
pub(crate) enum Refused {
    /// Its bodies or padding are not what was written: as good as not there.
    Damaged(&'static str),
    /// All checksums hold, yet it makes no sense.
    Malformed(&'static str),
}

/// Checks all of a batch before any of it takes effect.
pub(crate) fn check(batch: &Batch, out: &mut Vec<Checked>) -> Result<(), Refused> {
    out.clear();
    batch.check_padding().map_err(Refused::Damaged)?;
    let mut bodies = 0;
    for item in batch.items() {
        let item = item.map_err(Refused::Malformed)?;
        let Record::Block { len, .. } = item.record else {
            out.push(Checked { item, term: Term(0), last: LogIndex(0), configuration: None });
            continue;
        };
        bodies += u64::from(len);
        let block = batch.block(&item).map_err(Refused::Damaged)?;
        let (term, last) = (block.term(), block.last_index());
        let is_configuration = block.kind() == BlockKind::Configuration;
        let configuration = is_configuration.then(|| block.detached());
        out.push(Checked { item, term, last, configuration });
    }
    if bodies != u64::from(batch.header.bodies) {
        return Err(Refused::Malformed("bodies do not fill the batch"));
    }
    Ok(())
}

/// Replays one checked record of the batch at `offset` in `segment`.
pub(crate) fn apply(
    checked: &Checked,
    segment: u64,
    offset: u64,
    groups: &mut Groups,
    segments: &mut Segments,
    configurations: &mut Configurations,
) -> Result<(), &'static str> {
    let place = Place { segment, offset: offset as u32, record: checked.item.number };
    let group = groups.entry(checked.item.record.group());
    if group.is_destroyed() && !matches!(checked.item.record, Record::Destroy { .. }) {
        return Err("a record of a group that was destroyed");
    }
    match checked.item.record {
        Record::Block { first, len, moved, .. } => {
            let entry = Entry { first, last: checked.last, term: checked.term, bytes: len, place };
            if moved {
                group.relocate(segments, &entry);
            } else if first <= group.last.index || checked.term < group.last.term {
                return Err("a block was appended before the end of its group's log");
            } else {
                group.append(segments, &entry);
            }
            if let Some(block) = &checked.configuration {
                configurations.note(block.clone());
            }
        }
        Record::Truncate { group: id, from } => {
            if from <= group.base.index {
                return Err("released entries were truncated");
            }
            group.truncate(segments, from);
            configurations.truncate(id, from);
        }
        Record::HardState { state, .. } => {
            group.hard_state = state;
            segments.move_state(&mut group.hard_state_at, segment);
        }
        Record::Release { through, .. } if through.index.0 == u64::MAX => {
            return Err("index overflows");
        }
        Record::Release { group: id, through } => {
            group.release(segments, through);
            configurations.release(id, group.base.index);
            segments.move_state(&mut group.base_at, segment);
        }
        Record::Create { .. } => segments.move_state(&mut group.created_at, segment),
        Record::Destroy { group: id } => {
            group.destroy(segments);
            configurations.destroy(id);
            segments.move_state(&mut group.base_at, segment);
        }
    }
    Ok(())
}
