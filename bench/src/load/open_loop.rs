//! Operations that start when they are due, whatever became of those before them.

use super::group::Due;
use super::schedule::Schedule;
use super::{Loader, Port, Routing};

/// An open loop with much to do wakes this often, so that it leaves the core to the engine.
const STEP: u64 = 20_000;

impl<P: Port, R: Routing> Loader<P, R> {
    /// Open loop: every operation that is due by now.
    pub(super) fn push_scheduled(&mut self, schedule: Schedule) -> Result<u64, String> {
        let total = schedule.total(self.now.min(self.plan.window.end - 1));
        let mut next = u64::MAX;
        for at in 0..self.active.len() {
            let place = self.active[at];
            let group = &self.groups[place];
            if group.resting {
                continue;
            }
            let due = schedule.share(total, group.index).saturating_sub(group.scheduled);
            self.push_put_off(place)?;
            let due = due.min(self.room(place));
            if due > 0 {
                let scheduled = self.groups[place].scheduled;
                self.push(place, due, Some(Due::Scheduled(scheduled)))?;
                self.groups[place].scheduled += due;
            }
            let group = &self.groups[place];
            if self.room(place) > 0 {
                next = next.min(schedule.due(group.index, group.scheduled));
            }
        }
        Ok(next.max(self.now + STEP))
    }

    /// What was due in the window and found no room counts with the time it has waited: leaving it
    /// out would flatter an overloaded system.
    pub(super) fn give_up_unsent(&mut self, schedule: Schedule) {
        let total = schedule.total(self.plan.window.end - 1);
        for place in 0..self.groups.len() {
            let group = &mut self.groups[place];
            if !group.active {
                continue;
            }
            let index = group.index;
            let due = |nth| schedule.due(index, nth);
            let (first, end) = (group.scheduled, schedule.share(total, index));
            let mut writes = group.take_put_off(due);
            let mut reads =
                self.reads.get_mut(place).map_or_else(Vec::new, |r| r.load.take_put_off(due));
            let split = first + self.reads_among(place, end.saturating_sub(first));
            reads.extend((first..split).map(due));
            writes.extend((split..end).map(due));
            self.report.unsent += (reads.len() + writes.len()) as u64;
            let (now, window) = (self.now, self.plan.window);
            let report = &mut self.report;
            let kinds = [(reads, &mut report.read_latencies), (writes, &mut report.latencies)];
            for (unsent, latencies) in kinds {
                let counted = unsent.into_iter().filter(|due| window.contains(*due));
                counted.for_each(|due| latencies.record(now.saturating_sub(due), 1));
            }
        }
    }
}
