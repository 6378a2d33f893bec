//! Committed entries that are read back from nodes' logs.

use ringleader::{LogIndex, LogPortion, ReadLogError};

use crate::world::World;

const INDEX_BITS: u32 = 48;

/// Names a read of a group's log from an entry on.
pub(crate) fn log_read(at: usize, from: LogIndex) -> u64 {
    (at as u64) << INDEX_BITS | from.0
}

impl World {
    pub(crate) fn log_was_read(
        &mut self,
        seat: usize,
        name: u64,
        answer: &Result<LogPortion, ReadLogError>,
    ) {
        let (at, from) = ((name >> INDEX_BITS) as usize, LogIndex(name & ((1 << INDEX_BITS) - 1)));
        let place = self.plan.seats.name(seat);
        let read = answer.as_ref().map_or(0, |portion| portion.next().0);
        self.trace.line(|| format!("node {place} log read of {at} from {from} to {read}"));
        self.trace.step("log read", seat as u64, name, read);
        self.counts.add(if answer.is_ok() { "logs read back" } else { "log reads refused" }, 1);
        match answer {
            Ok(portion) => self.checker.check_read(at, self.plan.seats.node(seat), from, portion),
            Err(ReadLogError::Compacted { first }) => assert!(*first > from, "it is still there"),
            Err(ReadLogError::Beyond { committed }) => assert!(*committed < from, "it is there"),
            Err(_) => {}
        }
    }
}
