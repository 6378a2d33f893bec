//! The end of a turn: what the shard wants done is handed to the disk, to the network and to callers.

use super::driver::Driver;
use crate::shard::{Effects, Notice, SnapshotAnswer};
use crate::time::Time;

impl Driver {
    pub(super) fn carry_out(&mut self, now: Time) {
        let Effects {
            disk,
            frames,
            lanes,
            told,
            refused,
            answers,
            reads,
            changes,
            resets,
            transfers,
            log_reads,
            snapshots,
            created,
            destroyed,
            took,
            notices,
        } = &mut self.effects;
        told.drain(..).for_each(|(node, data)| self.recorder.tell(node.0, data));
        refused.drain(..).for_each(|(link, replaced)| self.network.refuse(link, &replaced));
        for (id, op) in disk.drain(..) {
            self.meter.disk_starts(now, id, &op);
            self.disk.submit(id, op);
        }
        self.stages.end(|spent| &mut spent.submit);
        self.network.send(frames, lanes);
        self.stages.end(|spent| &mut spent.send);
        self.meter.answered(answers);
        self.meter.reads_answered(now, reads);
        changes.iter().for_each(|(_, result)| self.meter.changed(result));
        transfers.iter().for_each(|(_, result)| self.meter.transferred(result));
        took.drain(..).for_each(|(what, took)| self.meter.took(what, took));
        self.meter.operations.resets += succeeded(resets);
        self.meter.operations.log_reads += succeeded(log_reads);
        self.meter.operations.groups_created += succeeded(created);
        self.meter.operations.groups_destroyed += succeeded(destroyed);
        self.clients.deliver(answers, &self.inbox.budget);
        self.clients.changes.answer(changes);
        self.clients.resets.answer(resets);
        self.clients.created.answer(created);
        self.clients.destroyed.answer(destroyed);
        self.clients.log_reads.answer(log_reads);
        for (id, result) in transfers.drain(..) {
            if let Some(reply) = self.transfers.remove(&id) {
                // Who asked may have gone.
                let _ = reply.send(result);
            }
        }
        for SnapshotAnswer { ticket, result } in snapshots.drain(..) {
            // Who asked may have gone.
            let _ = self.snapshots.remove(&ticket).map(|reply| reply.send(result));
        }
        self.clients.deliver_reads(reads, &self.inbox.budget, &mut self.shard);
        for notice in std::mem::take(notices) {
            self.meter.journal.note(&notice);
            match notice {
                Notice::Recovered(_) => {
                    self.shared.groups.add(self.shard.group_ids());
                    self.report_start(Ok(()));
                }
                Notice::GroupCreated(group) => self.shared.groups.add([group]),
                Notice::GroupDestroyed(group) => self.shared.groups.remove(group),
                Notice::RecoveryFailed(cause) => self.report_start(Err(cause)),
                _ => {}
            }
        }
    }

    pub(super) fn report_start(&mut self, result: Result<(), String>) {
        self.stopping |= result.is_err();
        if let Some(report) = self.report.take() {
            // The engine may have given up on another shard first.
            let _ = report.send(result);
        }
    }
}

/// How many answers are no errors.
fn succeeded<T, E>(answers: &[(u64, Result<T, E>)]) -> u64 {
    answers.iter().filter(|(_, answer)| answer.is_ok()).count() as u64
}
