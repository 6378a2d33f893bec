//! What a turn asked for, carried out as the runtime does it: disk operations, frames, answers.

use std::any::Any;

use ringleader::raft::message::Message;
use ringleader::shard::{AnswerRun, GroupEvent, Notice, OutFrame, SnapshotAnswer};

use crate::applied::OpName;
use crate::machine::Machine;
use crate::panics;
use crate::plan::MS;
use crate::world::{Event, World};

impl World {
    /// Carries a turn's effects out in the runtime's order; a crash may come between any two.
    /// True if it said something to anyone.
    pub(crate) fn carry_out(&mut self, seat: usize) -> bool {
        let process = self.seats[seat].process.as_mut().expect("a turn is of a running process");
        let mut effects = std::mem::take(&mut process.effects);
        for notice in effects.notices.drain(..) {
            self.notice(seat, notice);
        }
        for (node, data) in effects.told.drain(..) {
            self.is_told(seat, node, data);
        }
        for (link, replaced) in effects.refused.drain(..) {
            self.refuse_stranger(seat, link, &replaced);
        }
        for (id, op) in effects.disk.drain(..) {
            let process = self.seats[seat].process.as_mut().expect("it survived");
            assert!(
                !process.shard.is_wreck(),
                "a shard that panicked leaves its disk alone: {op:?}"
            );
            process.written.written(&op);
            if !self.survives_step(seat) || !self.start_disk(seat, id, op) {
                return false;
            }
        }
        let says =
            !effects.frames.is_empty() || !effects.answers.is_empty() || !effects.reads.is_empty();
        for frame in effects.frames.drain(..) {
            if !self.survives_step(seat) {
                return false;
            }
            self.send(seat, frame);
        }
        for link in effects.lanes.drain(..) {
            let process = self.seats[seat].process.as_ref().expect("it survived");
            self.want_bulk(seat, process.links[link.0 as usize]);
        }
        if !self.survives_step(seat) {
            return false;
        }
        for run in effects.answers.drain(..) {
            self.answer(seat, &run);
        }
        for run in effects.reads.drain(..) {
            self.answer_reads(seat, &run);
        }
        for (id, result) in effects.transfers.drain(..) {
            self.transferred(seat, id, result);
        }
        for SnapshotAnswer { ticket, result } in effects.snapshots.drain(..) {
            self.counts.add("snapshots answered", 1);
            let covered = result.map_or(u64::MAX, |at| at.index.0);
            assert!(covered >= ticket, "a snapshot up to {covered} was to cover {ticket}");
        }
        for (name, answer) in effects.log_reads.drain(..) {
            self.log_was_read(seat, name, &answer);
        }
        for (name, answer) in effects.changes.drain(..) {
            self.change_answered(seat, name, &answer);
        }
        for (name, answer) in effects.created.drain(..) {
            self.created(seat, name, &answer);
        }
        for (name, answer) in effects.destroyed.drain(..) {
            self.destroyed(seat, name, &answer);
        }
        for answer in effects.resets.drain(..) {
            self.reset_answered(seat, answer);
        }
        self.seats[seat].process.as_mut().expect("it survived").effects = effects;
        says
    }

    /// A turn of the shard is over: what its state machines did.
    pub(crate) fn look_at_machines(&mut self, seat: usize) {
        let mut told_members = Vec::new();
        let process = self.seats[seat].process.as_mut().expect("it is alive");
        for (at, group) in self.plan.groups.iter().enumerate() {
            let Some(machine) = process.shard.state_machine(*group) else { continue };
            let machine: &mut dyn Any = machine;
            let machine: &mut Machine = machine.downcast_mut().expect("the simulator's own");
            if let Some(image) = machine.restored.take() {
                self.checker.restored(self.plan.seats.node(seat), at, &image);
            }
            if let Some(story) = machine.story.take() {
                self.counts.add(story, 1);
            }
            let told = std::mem::take(&mut machine.members);
            if !told.is_empty() {
                told_members.push((*group, told));
            }
            if !machine.applied.is_empty() {
                let applied = std::mem::take(&mut machine.applied);
                let last = applied.last().expect("it is not empty");
                self.trace.step("applied", seat as u64, last.index, last.state);
                self.trace.line(|| {
                    format!(
                        "node {} group {group} applied {}",
                        self.plan.seats.name(seat),
                        last.index
                    )
                });
                self.checker.applied(self.plan.seats.node(seat), at, &applied, &self.clients.asked);
            }
        }
        for (group, told) in told_members {
            self.told_members(seat, group, &told);
        }
    }

    fn notice(&mut self, seat: usize, notice: Notice) {
        self.trace.line(|| format!("node {} notes {notice:?}", self.plan.seats.name(seat)));
        let process = self.seats[seat].process.as_mut().expect("it is alive");
        let of_snapshot =
            matches!(notice, Notice::SnapshotTaken(..) | Notice::SnapshotInstalled(..));
        if of_snapshot && process.shard.is_wreck() {
            // Nobody looks any more whether that is so.
            return;
        }
        match notice {
            Notice::Recovered(summary) => {
                process.recovered = true;
                let groups = self.plan.groups.iter();
                let rafts = groups.filter_map(|group| Some((*group, process.shard.raft(*group)?)));
                rafts.for_each(|(group, raft)| process.written.recovered(group, raft));
                self.counts.add("starts from a snapshot", u64::from(summary.snapshots > 0));
                self.check_existence(seat);
            }
            Notice::RecoveryFailed(cause) => self.gave_up(seat, &cause, true),
            Notice::StorageFailed(cause) => self.gave_up(seat, &cause, false),
            Notice::SpaceExhausted => {
                process.full = true;
                self.counts.add("full logs", 1);
            }
            Notice::SpaceAvailable => process.full = false,
            Notice::GroupDestroyed(group) => {
                self.checker.destroyed(self.plan.seats.node(seat), group);
                self.mishap_of_existence(self.plan.seats.node(seat));
            }
            Notice::GroupCreated(_) => self.mishap_of_existence(self.plan.seats.node(seat)),
            Notice::Group(notice) => self.group_notice(notice.what),
            Notice::LogKept(_) => self.counts.add("logs kept for want of snapshots", 1),
            Notice::PeerStranded(group, peer) => {
                panic!("stranded: node {peer} lacks what the log of {group} does not hold")
            }
            Notice::SnapshotTaken(group, at) => {
                self.counts.add("snapshots taken", 1);
                let anew = self.checker.snapshot_taken(self.plan.seats.node(seat), group, at);
                self.counts
                    .add("snapshots taken anew, for one that could not be read", anew.into());
            }
            Notice::SnapshotInstalled(group, at) => {
                self.counts.add("snapshots installed", 1);
                self.checker.snapshot_taken(self.plan.seats.node(seat), group, at);
            }
            Notice::SnapshotFailed(group, at, cause) => {
                self.checker.snapshot_failed(self.plan.seats.node(seat), group, at);
                self.counts.add("snapshots that failed", 1);
                let by_machine = cause.contains(panics::FAILED);
                self.counts.add("snapshots that their machine failed", u64::from(by_machine));
                let causes = ["no space", "an earlier attempt", panics::FAILED];
                let harmed = process.excused || self.atlas.is_damaged(self.plan.seats.node(seat));
                let fault = harmed || causes.iter().any(|known| cause.contains(known));
                assert!(fault, "a snapshot failed without a fault: {cause}");
            }
        }
    }

    fn group_notice(&mut self, what: GroupEvent) {
        let what = match what {
            GroupEvent::TransferBegun { .. } => "leaderships that were to be handed over",
            GroupEvent::TransferDone { .. } => "leaderships that were handed over",
            GroupEvent::TransferGivenUp { .. } => "leaderships that were kept or lost instead",
            GroupEvent::SnapshotSent { .. } => "snapshots that a peer has taken",
            GroupEvent::SnapshotResumed { .. } => {
                "snapshots on their way that went on after a break"
            }
            GroupEvent::SnapshotGivenUp { .. } => "snapshots on their way that were given up",
            _ => return,
        };
        self.counts.add(what, 1);
    }

    /// A shard's log can't be opened, or went on no more.
    fn gave_up(&mut self, seat: usize, cause: &str, at_start: bool) {
        let node = self.plan.seats.node(seat);
        let process = self.seats[seat].process.as_mut().expect("it is alive");
        process.silent = true;
        let excused = process.excused || self.atlas.is_damaged(node);
        let name = self.plan.seats.name(seat);
        assert!(excused, "node {name} gave up without a fault: {cause}");
        let what = if at_start { "starts refused" } else { "shards that gave up running" };
        self.counts.add(what, 1);
        self.watch_beside(seat);
        self.nodes[node].gone = self.is_lost(node, at_start);
        // Its owner restarts it, as its documentation says.
        let life = self.nodes[node].life;
        let delay = self.nodes[node].rng.between(MS, self.plan.faults.away + MS);
        self.after(delay, Event::Restart { node, life });
    }

    fn send(&mut self, seat: usize, frame: OutFrame) {
        let process = self.seats[seat].process.as_ref().expect("it is alive");
        assert!(
            !process.silent,
            "node {} speaks after its log failed or it was stopped",
            self.plan.seats.name(seat)
        );
        let to = process.links[frame.link.0 as usize];
        let (from_node, to_node) = (self.plan.seats.node(seat), self.plan.seats.node(to));
        let body = frame.blocks.concat().into();
        let own = (self.own_time(from_node), self.own_time(to_node));
        self.trace.bytes(&frame.envelope);
        let damaged = self.atlas.is_damaged(from_node);
        let mut pieces = Vec::new();
        let decoded = crate::codec::decode(&frame.envelope, body, |group, message| {
            self.trace.line(|| {
                format!(
                    "node {} -> {} group {group}: {message:?}",
                    self.plan.seats.name(seat),
                    self.plan.seats.name(to)
                )
            });
            self.checker.sent((from_node, to_node), own, group, &message);
            // Those who lost what they had talk among themselves.
            self.said[self.checker.at(group)] += u64::from(!damaged);
            pieces.extend(matches!(message, Message::SnapshotPiece { .. }).then_some(group));
        });
        decoded.expect("what was encoded can be decoded");
        self.push(seat, to, frame);
        pieces.into_iter().for_each(|group| self.piece_was_sent(from_node, group));
    }

    fn answer(&mut self, seat: usize, run: &AnswerRun) {
        let silent = self.seats[seat].process.as_ref().is_some_and(|process| process.silent);
        run.for_each(|completion| {
            let result = completion.result.as_ref();
            assert!(!silent || result.is_err(), "an answer of success from a shard that has ended");
            self.told(seat, OpName(completion.user_data), result);
        });
    }
}
