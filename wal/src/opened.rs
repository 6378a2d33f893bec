//! The end of recovery: what was found becomes the log to go on with.

use crate::configurations::Configurations;
use crate::event::{Recovered, RecoveredGroup, RecoveryError};
use crate::index::Groups;
use crate::recovery::{Recovery, Stage};
use crate::segments::{Segment, Segments};
use crate::types::Seq;

/// A log that was opened.
pub(crate) struct Opened {
    pub(crate) groups: Groups,
    pub(crate) segments: Segments,
    pub(crate) recovered: Recovered,
    /// CRC of the last batch.
    pub(crate) chain: u32,
    /// Segment of the last batch, 0 for none.
    pub(crate) prev: u64,
    pub(crate) next_segment: u64,
    pub(crate) next_file: u32,
    pub(crate) oldest_needed: u64,
    /// Whether the last batch is an idle mark.
    pub(crate) marked: bool,
    /// Files to be used again.
    pub(crate) spares: Vec<u32>,
    /// Files of another size, to be removed.
    pub(crate) misfits: Vec<u32>,
}

impl Recovery {
    /// The log, unless the search found damage.
    pub(crate) fn finish(&mut self) -> Result<Opened, RecoveryError> {
        let Stage::Search(search) = &self.stage else { unreachable!("the search comes last") };
        let torn = search.verdict()?;
        let headers = self.files.values().filter_map(|found| found.header);
        let newest = headers.map(|header| header.id).max().unwrap_or(0).max(search.newest_segment);
        self.drop_empty_tail();
        let prev = self.chain_files.last().map_or(0, |&(id, _)| id);
        let (retired, spares, misfits) = self.sort_out();
        let durable = Seq(self.expected.0 - 1);
        let groups = recovered_groups(&self.groups, &self.configurations)?;
        Ok(Opened {
            groups: std::mem::take(&mut self.groups),
            segments: std::mem::take(&mut self.segments).behind(retired),
            recovered: Recovered { groups, durable, torn, batches: self.batches },
            chain: self.chain,
            prev,
            next_segment: newest + 1,
            next_file: self.next_file,
            oldest_needed: if prev == 0 { newest + 1 } else { self.oldest_needed },
            marked: self.marked,
            spares,
            misfits,
        })
    }

    /// A segment of the chain without a batch is as good as spare: the next one continues from
    /// the one before it. So restarts do not pile up segments.
    fn drop_empty_tail(&mut self) {
        let keep = self.chain_files.len() - self.empty_tail;
        self.chain_files.truncate(keep);
        self.segments.truncate(keep);
    }

    /// Files outside the chain: old segments that must wait until a batch that says they are not
    /// needed is durable, files to use again, and files of another size.
    fn sort_out(&self) -> (Vec<Segment>, Vec<u32>, Vec<u32>) {
        let (mut retired, mut spares, mut misfits) = (Vec::new(), Vec::new(), Vec::new());
        for (&file, found) in &self.files {
            if self.chain_files.iter().any(|&(_, other)| other == file) {
                continue;
            }
            let old = found.header.filter(|header| header.id < self.oldest_needed);
            if let Some(header) = old {
                let mut segment = Segment::new(header.id, header.prev, found.len);
                segment.file = Some(file);
                retired.push(segment);
            } else if found.len == self.segment_bytes {
                spares.push(file);
            } else {
                misfits.push(file);
            }
        }
        retired.sort_by_key(|segment| segment.id);
        (retired, spares, misfits)
    }
}

fn recovered_groups(
    groups: &Groups,
    configurations: &Configurations,
) -> Result<Vec<RecoveredGroup>, RecoveryError> {
    let mut list = Vec::with_capacity(groups.iter().len());
    for group in groups.iter().filter(|group| !group.is_destroyed()) {
        if let Some(missing) = group.gap() {
            return Err(RecoveryError::Gap { group: group.id, missing });
        }
        list.push(RecoveredGroup {
            group: group.id,
            created: group.created_at != 0,
            hard_state: group.hard_state,
            base: group.base,
            last_index: group.last.index,
            terms: group.terms().collect(),
            configurations: configurations.of(group.id, group.base.index, group.last.index),
        });
    }
    list.sort_by_key(|group| group.group);
    Ok(list)
}
