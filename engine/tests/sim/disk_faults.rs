//! What goes wrong with a disk operation, and with a process around one.

use ringleader_wal::disk::{DiskError, DiskOp, FileName, OpId};

use crate::disk::Fault;
use crate::inputs::Input;
use crate::plan::MS;
use crate::rng::{Rng, SURE};
use crate::world::{Event, World};

/// Where around a disk operation a node crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boundary {
    BeforeSubmission,
    AfterSubmission,
    AfterCompletion,
}

/// A crash that waits for an operation of one kind to come to one of its boundaries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CrashPoint {
    boundary: Boundary,
    kind: &'static str,
    /// So many of them are let pass.
    pass: u64,
}

impl CrashPoint {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let boundary = rng.pick(&[
            Boundary::BeforeSubmission,
            Boundary::AfterSubmission,
            Boundary::AfterCompletion,
        ]);
        let kind = rng.pick(&[
            "write", "write", "sync", "read", "create", "zero", "rename", "remove", "sync dir",
            "list",
        ]);
        Self { boundary, kind, pass: rng.magnitude(1, 64) - 1 }
    }

    /// Whether this is the one.
    fn hits(&mut self, boundary: Boundary, op: &DiskOp) -> bool {
        if self.boundary != boundary || self.kind != kind(op) {
            return false;
        }
        self.pass = self.pass.saturating_sub(1);
        self.pass == 0
    }
}

fn kind(op: &DiskOp) -> &'static str {
    match op {
        DiskOp::List => "list",
        DiskOp::Create { .. } => "create",
        DiskOp::Zero { .. } => "zero",
        DiskOp::Write { .. } => "write",
        DiskOp::Sync { .. } => "sync",
        DiskOp::Read { .. } => "read",
        DiskOp::Rename { .. } => "rename",
        DiskOp::Remove { .. } => "remove",
        DiskOp::SyncDir => "sync dir",
    }
}

impl World {
    /// Crashes the seat's node if this is where it is to; true if it did.
    fn crashes_at(&mut self, seat: usize, boundary: Boundary, op: &DiskOp) -> bool {
        let node = self.plan.seats.node(seat);
        let at = &mut self.nodes[node];
        let hit = at.crash_at.as_mut().is_some_and(|point| point.hits(boundary, op));
        if hit {
            at.crash_at = None;
            self.counts.add(boundary.name(), 1);
            self.crash(node);
        }
        hit
    }

    /// An operation is submitted, unless the node crashes around that: false then.
    pub(crate) fn start_disk(&mut self, seat: usize, id: OpId, op: DiskOp) -> bool {
        if self.crashes_at(seat, Boundary::BeforeSubmission, &op) {
            return false;
        }
        let life = self.life(seat);
        self.trace.step("start disk", seat as u64, id.0, 0);
        let name = self.plan.seats.name(seat);
        self.trace.line(|| format!("node {name} disk {}: {}", id.0, brief(&op)));
        self.note_reserve(seat, &op);
        let delay = self.disk_delay(seat, &op);
        self.seats[seat].disk.submit(id, op.clone());
        if self.crashes_at(seat, Boundary::AfterSubmission, &op) {
            return false;
        }
        self.disks_busy_until = self.disks_busy_until.max(self.now() + delay);
        self.after(delay, Event::DiskDone { seat, life, id });
        true
    }

    fn disk_delay(&mut self, seat: usize, op: &DiskOp) -> u64 {
        let (plan, node) = (self.plan.disk, self.plan.seats.node(seat));
        if let Some(delay) = self.mishap_of_read(seat, op) {
            return delay;
        }
        let slow_file = plan.slow_snapshots && !self.healed && is_of_snapshot(op);
        if !self.healed && self.disk_rng.chance(plan.stuck_ppm) {
            self.counts.add("disk operations stuck for seconds", 1);
            return self.disk_rng.between(500 * MS, 5_000 * MS);
        }
        let slow = self.disk_rng.chance(plan.slow_ppm)
            || self.now() < self.nodes[node].slow_until
            || slow_file;
        let (shortest, longest) = if slow { plan.slow } else { plan.latency };
        self.disk_rng.between(shortest, longest.max(shortest))
    }

    /// A full disk's last segment is taken into use.
    fn note_reserve(&mut self, seat: usize, op: &DiskOp) {
        let process = self.seats[seat].process.as_ref().expect("it is alive");
        let header = matches!(op, DiskOp::Write { file: FileName::Segment(_), offset: 0, .. });
        if process.full && header {
            self.counts.add("reserves used by a full log", 1);
        }
    }

    /// An operation ends.
    pub(crate) fn disk_done(&mut self, seat: usize, life: u32, id: OpId) {
        // It may have ended sooner than it was to.
        if !self.is_alive(seat, life) || !self.seats[seat].disk.is_running(id) {
            return;
        }
        let op = self.seats[seat].disk.operation(id).clone();
        let fault = self.disk_fault(seat, &op);
        let result = self.seats[seat].disk.complete(id, fault, &mut self.disk_rng);
        let process = self.seats[seat].process.as_mut().expect("it is alive");
        match &result {
            Err(DiskError::NoSpace(_)) => self.counts.add("refusals for want of space", 1),
            Err(DiskError::Io(cause)) => {
                process.excused = true;
                let unreadable = fault.is_none() && cause.ends_with("EIO");
                self.counts.add("reads of unreadable sectors", u64::from(unreadable));
            }
            Ok(_) => process.excused |= fault.is_some(),
        }
        if self.crashes_at(seat, Boundary::AfterCompletion, &op) {
            return;
        }
        self.reads += u64::from(matches!(op, DiskOp::Read { .. }));
        self.feed(seat, Input::Disk { id, fatal: result.is_err() && is_of_log(&op), result });
    }

    /// What goes wrong with an operation that ends now.
    fn disk_fault(&mut self, seat: usize, op: &DiskOp) -> Option<Fault> {
        let (now, node) = (self.now(), &self.nodes[self.plan.seats.node(seat)]);
        let (errors, full) = (now < node.errors_until, now < node.full_until);
        let (short, misread) = (now < node.short_until, now < node.misread_until);
        let process = self.seats[seat].process.as_ref().expect("it is alive");
        let rng = &mut self.disk_rng;
        // Operations on the directory are few.
        let likely = if is_of_directory(op) { SURE / 8 } else { SURE / 30 };
        let (fault, name) = if errors && rng.chance(likely) {
            (Fault::Io, io_name(op))
        } else if full && allocates(op) {
            (Fault::NoSpace, "disk full")
        } else if short && rng.chance(SURE / 25) {
            let parts =
                matches!(op, DiskOp::Read { .. } | DiskOp::Write { .. } | DiskOp::Zero { .. });
            if !parts {
                return None;
            }
            (
                Fault::Short,
                if matches!(op, DiskOp::Read { .. }) { "short reads" } else { "short writes" },
            )
        // A start can't tell a wrong read of the log's very end from a torn tail.
        } else if misread && process.recovered && rng.chance(SURE * 3 / 4) {
            if !matches!(op, DiskOp::Read { .. }) {
                return None;
            }
            (Fault::Misread, "reads misdirected")
        } else if self.mishap_at_disk(seat, op) {
            (Fault::Io, io_name(op))
        } else {
            return None;
        };
        self.counts.add(name, 1);
        Some(fault)
    }
}

/// Whether the log can't go on when the operation fails.
pub(crate) fn is_of_log(op: &DiskOp) -> bool {
    let (DiskOp::Write { file, .. } | DiskOp::Sync { file }) = op else { return false };
    matches!(file, FileName::Segment(_))
}

fn is_of_snapshot(op: &DiskOp) -> bool {
    use DiskOp::{Create, Read, Remove, Rename, Sync, Write, Zero};
    let (Create { file, .. }
    | Zero { file, .. }
    | Write { file, .. }
    | Read { file, .. }
    | Sync { file }
    | Rename { from: file, .. }
    | Remove { file }) = op
    else {
        return false;
    };
    matches!(file, FileName::Partial(..) | FileName::Snapshot(..))
}

/// Whether the operation takes room on the disk.
fn allocates(op: &DiskOp) -> bool {
    match op {
        DiskOp::Create { .. } | DiskOp::Zero { .. } => true,
        DiskOp::Write { file, .. } => matches!(file, FileName::Partial(..)),
        _ => false,
    }
}

fn is_of_directory(op: &DiskOp) -> bool {
    use DiskOp::{Create, Remove, Rename, SyncDir};
    matches!(op, Create { .. } | Rename { .. } | Remove { .. } | SyncDir)
}

fn io_name(op: &DiskOp) -> &'static str {
    match op {
        DiskOp::Read { .. } | DiskOp::List => "read errors",
        DiskOp::Write { .. } | DiskOp::Zero { .. } => "write errors",
        DiskOp::Sync { .. } => "syncs failed, and the data gone",
        DiskOp::SyncDir => "directory syncs failed",
        DiskOp::Create { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. } => "directory errors",
    }
}

impl Boundary {
    fn name(self) -> &'static str {
        match self {
            Self::BeforeSubmission => "crashes before a disk operation",
            Self::AfterSubmission => "crashes during a disk operation",
            Self::AfterCompletion => "crashes before a result was heard",
        }
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
