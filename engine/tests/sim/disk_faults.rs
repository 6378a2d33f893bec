//! What a node's disks do with the operations that they get.

use ringleader_wal::disk::{DiskError, DiskOp, OpId};

use crate::disk::Fault;
use crate::process::Input;
use crate::rng::SURE;
use crate::world::{Event, World};

impl World {
    /// An operation is submitted.
    pub(crate) fn start_disk(&mut self, seat: usize, id: OpId, op: DiskOp) {
        let (plan, node) = (self.plan.disk, self.plan.seats.node(seat));
        let life = self.nodes[node].life;
        self.trace.step("start disk", seat as u64, id.0, 0);
        let name = self.plan.seats.name(seat);
        self.trace.line(|| format!("node {name} disk {}: {}", id.0, brief(&op)));
        self.seats[seat].disk.submit(id, op);
        let slow = self.disk_rng.chance(plan.slow_ppm) || self.now() < self.nodes[node].slow_until;
        let (shortest, longest) = if slow { plan.slow } else { plan.latency };
        let delay = self.disk_rng.between(shortest, longest.max(shortest));
        self.after(delay, Event::DiskDone { seat, life, id });
    }

    /// An operation ends.
    pub(crate) fn disk_done(&mut self, seat: usize, life: u32, id: OpId) {
        if !self.is_alive(seat, life) {
            return;
        }
        let (now, node) = (self.now(), self.plan.seats.node(seat));
        let fault = if now < self.nodes[node].errors_until && self.disk_rng.chance(SURE / 50) {
            self.seats[seat].process.as_mut().expect("it is alive").excused = true;
            self.counts.add("disk errors", 1);
            Some(Fault::Io)
        } else {
            (now < self.nodes[node].full_until).then_some(Fault::NoSpace)
        };
        let result = self.seats[seat].disk.complete(id, fault, &mut self.disk_rng);
        if matches!(result, Err(DiskError::NoSpace(_))) {
            self.counts.add("refusals for want of space", 1);
        }
        self.feed(seat, Input::Disk(id, result));
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
