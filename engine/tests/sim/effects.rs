//! What a turn asked for, carried out as the runtime does it: disk operations, frames, answers.

use std::any::Any;

use ringleader::shard::{AnswerRun, Notice, OutFrame};
use ringleader_wal::disk::{DiskOp, OpId};

use crate::clients::Fate;
use crate::machine::{Machine, OpName};
use crate::plan::MS;
use crate::process::peer;
use crate::world::{Event, World};

impl World {
    /// Carries a turn's effects out in the runtime's order; a crash may come between any two.
    pub(crate) fn carry_out(&mut self, node: usize) {
        let process = self.nodes[node].process.as_mut().expect("a turn is of a running process");
        let mut effects = std::mem::take(&mut process.effects);
        self.look_at_machines(node);
        for notice in effects.notices.drain(..) {
            self.notice(node, notice);
        }
        for (id, op) in effects.disk.drain(..) {
            if !self.survives_step(node) {
                return;
            }
            self.start_disk(node, id, op);
        }
        for frame in effects.frames.drain(..) {
            if !self.survives_step(node) {
                return;
            }
            self.send(node, frame);
        }
        if !self.survives_step(node) {
            return;
        }
        for run in effects.answers.drain(..) {
            self.answer(node, &run);
        }
        self.nodes[node].process.as_mut().expect("it survived").effects = effects;
    }

    fn look_at_machines(&mut self, node: usize) {
        let process = self.nodes[node].process.as_mut().expect("it is alive");
        for (at, group) in self.plan.groups.iter().enumerate() {
            let Some(machine) = process.shard.state_machine(*group) else { continue };
            let machine: &mut dyn Any = machine;
            let machine: &mut Machine = machine.downcast_mut().expect("the simulator's own");
            if !machine.applied.is_empty() {
                let applied = std::mem::take(&mut machine.applied);
                let last = applied.last().expect("it is not empty");
                self.trace.step("applied", node as u64, last.index, last.state);
                self.trace
                    .line(|| format!("node {} group {group} applied {}", node + 1, last.index));
                self.checker.applied(node, at, &applied, &self.clients.asked);
            }
        }
    }

    fn notice(&mut self, node: usize, notice: Notice) {
        self.trace.line(|| format!("node {} notes {notice:?}", node + 1));
        let at = &mut self.nodes[node];
        let process = at.process.as_mut().expect("it is alive");
        match notice {
            Notice::Recovered(_) => process.recovered = true,
            Notice::RecoveryFailed(cause) | Notice::StorageFailed(cause) => {
                assert!(at.excused, "node {} gave up without a fault: {cause}", node + 1);
                process.silent = true;
                self.counts.add("shards given up after disk errors", 1);
                // Its owner restarts it, as its documentation says.
                let life = at.life;
                let delay = self.rng.between(MS, self.plan.faults.away + MS);
                self.after(delay, Event::Restart { node, life });
            }
            Notice::SpaceExhausted => self.counts.add("full logs", 1),
            Notice::SpaceAvailable => {}
        }
    }

    fn start_disk(&mut self, node: usize, id: OpId, op: DiskOp) {
        let plan = self.plan.disk;
        let at = &mut self.nodes[node];
        let life = at.life;
        self.trace.step("start disk", node as u64, id.0, 0);
        self.trace.line(|| format!("node {} disk {}: {}", node + 1, id.0, brief(&op)));
        at.disk.submit(id, op);
        let slow = self.disk_rng.chance(plan.slow_ppm) || self.now() < self.nodes[node].slow_until;
        let (shortest, longest) = if slow { plan.slow } else { plan.latency };
        let delay = self.disk_rng.between(shortest, longest.max(shortest));
        self.after(delay, Event::DiskDone { node, life, id });
    }

    fn send(&mut self, node: usize, frame: OutFrame) {
        let process = self.nodes[node].process.as_ref().expect("it is alive");
        assert!(!process.silent, "node {} speaks after its log failed or it was stopped", node + 1);
        let to = peer(node, frame.link.0);
        let body = frame.blocks.concat().into();
        self.trace.bytes(&frame.envelope);
        let decoded = crate::codec::decode(&frame.envelope, body, |group, message| {
            self.trace
                .line(|| format!("node {} -> {} group {group}: {message:?}", node + 1, to + 1));
            self.checker.sent(node, to, group, &message);
        });
        decoded.expect("what was encoded can be decoded");
        self.push(node, to, frame);
    }

    fn answer(&mut self, node: usize, run: &AnswerRun) {
        let silent = self.nodes[node].process.as_ref().is_some_and(|process| process.silent);
        let client = run.client().0;
        run.for_each(|completion| {
            let name = completion.user_data;
            let group = self.clients.asked[name as usize].group;
            let at = self.plan.groups.iter().position(|known| *known == group);
            let at = at.expect("a known group");
            let result = completion.result.as_ref().map(|done| (done.index, done.term));
            let result = result.map_err(Clone::clone);
            self.trace.step("answer", node as u64, name, u64::from(result.is_ok()));
            self.trace.line(|| format!("node {} answers operation {name}: {result:?}", node + 1));
            assert!(!silent || result.is_err(), "an answer of success from a shard that has ended");
            self.clients.answer(client, OpName(name), at, &result);
            let fate = self.clients.asked[name as usize].fate;
            self.checker.answered(at, name, fate, completion.result.as_ref().ok());
            if fate == Fate::Unknown {
                self.counts.add("outcomes unknown", 1);
            }
        });
    }
}

fn brief(op: &DiskOp) -> String {
    match op {
        DiskOp::Write { file, offset, len, durable, .. } => {
            format!("write {file} {offset}+{len}{}", if *durable { ", durable" } else { "" })
        }
        other => format!("{other:?}"),
    }
}
