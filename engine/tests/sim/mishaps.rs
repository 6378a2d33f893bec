//! What goes wrong at the very moment at which it tells most. The schedule brings faults and actions
//! at moments of their own, and two that have to meet within a millisecond do so once in many
//! thousand seeds. Here one waits for the other; how often is drawn for the whole run.

use ringleader::shard::{SnapshotStage, SnapshotUnderWay};
use ringleader::{GroupId, NodeId};
use ringleader_wal::disk::{DiskOp, FileName};

use crate::disk_faults::is_of_log;
use crate::inputs::Input;
use crate::rng::{Rng, SURE};
use crate::world::{Event, World};

/// Each in parts of a million of the moments that it is about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MishapPlan {
    /// A leader sends a piece of a snapshot: somebody has it hand its office over. What the others
    /// were sent, what they write of that, and what the leader reads of it, outlives its term.
    pub(crate) deposed_ppm: u32,
    /// A write or sync of a log ends while the last entry of a change of members is not committed,
    /// and the shard has frames to look at: it fails, just after what they may commit.
    pub(crate) failing_ppm: u32,
    /// Somebody is to become a voter, or to lead: its process stands still.
    pub(crate) faltering_ppm: u32,
    /// A shard has something for a peer: there is no room for it.
    pub(crate) full_ppm: u32,
    /// A group comes or goes: the node ends soon after.
    pub(crate) cut_off_ppm: u32,
    /// A snapshot of the leader's is being loaded: that takes a while, and another leader is to come, who
    /// may have the entries. Once the snapshot is not lacked any more, the disk gives the rest of it
    /// before the shard has looked.
    pub(crate) hasty_ppm: u32,
}

impl MishapPlan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        Self {
            deposed_ppm: rng.pick(&[0, 0, SURE / 50, SURE / 5]),
            failing_ppm: rng.pick(&[0, SURE / 8, SURE / 2]),
            faltering_ppm: rng.pick(&[SURE / 8, SURE / 2, SURE * 3 / 4]),
            full_ppm: rng.pick(&[0, 0, SURE / 1000, SURE / 50]),
            cut_off_ppm: rng.pick(&[0, SURE / 10, SURE / 2]),
            hasty_ppm: rng.pick(&[0, SURE / 4, SURE]),
        }
    }
}

impl World {
    /// A piece of a snapshot left a node.
    pub(crate) fn piece_was_sent(&mut self, node: usize, group: GroupId) {
        if self.goes_wrong(self.plan.mishaps.deposed_ppm) {
            self.counts.add("leaders deposed while they send a snapshot", 1);
            self.hand_over(group, node);
        }
    }

    /// Whether an operation fails for the sake of what its shard is about to look at.
    pub(crate) fn mishap_at_disk(&mut self, seat: usize, op: &DiskOp) -> bool {
        let process = self.seats[seat].process.as_ref().expect("it is alive");
        let has_frames = process.inbox.iter().any(|input| matches!(input, Input::Frame { .. }));
        let tells = has_frames && is_of_log(op) && self.ends_a_change(seat);
        tells && self.goes_wrong(self.plan.mishaps.failing_ppm)
    }

    /// Something is asked of a node, which others wait for.
    pub(crate) fn mishap_of(&mut self, asked: NodeId) {
        let node = asked.0 as usize - 1;
        if node < self.plan.nodes && self.goes_wrong(self.plan.mishaps.faltering_ppm) {
            let election = self.plan.raft.election_timeout.as_nanos() as u64;
            let pause = self.mishap_rng.between(election / 2, 4 * election);
            self.trace.line(|| format!("*** node {} stands still", node + 1));
            self.counts.add("stalls of nodes that something is asked of", 1);
            let until = self.now() + pause;
            let at = &mut self.nodes[node];
            at.stalled_until = at.stalled_until.max(until);
        }
    }

    /// Whether a shard finds no room for what it has for a peer, in this turn.
    pub(crate) fn mishap_of_outbox(&mut self) -> bool {
        self.goes_wrong(self.plan.mishaps.full_ppm)
    }

    /// A group comes or goes on a node.
    pub(crate) fn mishap_of_existence(&mut self, node: usize) {
        if self.goes_wrong(self.plan.mishaps.cut_off_ppm) {
            self.counts.add("nodes that end while a group comes or goes", 1);
            self.nodes[node].crash_in = Some(self.mishap_rng.below(12));
        }
    }

    /// A shard reads a snapshot: how long that takes, if it is one that it was sent.
    pub(crate) fn mishap_of_read(&mut self, seat: usize, op: &DiskOp) -> Option<u64> {
        let DiskOp::Read { file: FileName::Snapshot(group, at), .. } = op else { return None };
        let process = self.seats[seat].process.as_ref().filter(|process| process.recovered)?;
        if process.hasty {
            return Some(0);
        }
        let is_this = |one: &SnapshotUnderWay| {
            one.stage == SnapshotStage::Loading && (one.group, one.at) == (*group, *at)
        };
        let loads = process.shard.snapshots_under_way().iter().any(is_this);
        if !loads || !self.goes_wrong(self.plan.mishaps.hasty_ppm) {
            return None;
        }
        let leader = self.checker.leader(self.checker.at(*group));
        leader.into_iter().for_each(|leader| self.hand_over(*group, leader));
        let election = self.plan.raft.election_timeout.as_nanos() as u64;
        Some(self.mishap_rng.between(election / 4, 2 * election))
    }

    /// Something of a shard's groups changed.
    pub(crate) fn mishap_of_loading(&mut self, seat: usize) {
        let process = self.seats[seat].process.as_ref().expect("it is alive");
        let shard = &process.shard;
        let in_vain = |one: &SnapshotUnderWay| {
            let raft = shard.raft(one.group);
            one.stage == SnapshotStage::Loading && raft.is_some_and(|raft| !raft.lacks(one.at))
        };
        let ppm = self.plan.mishaps.hasty_ppm;
        let waits = ppm > 0 && !process.hasty && shard.snapshots_under_way().iter().any(in_vain);
        if !waits || !self.goes_wrong(ppm) {
            return;
        }
        self.counts.add("snapshots loaded in vain", 1);
        self.seats[seat].process.as_mut().expect("it is alive").hasty = true;
        let life = self.life(seat);
        for id in self.seats[seat].disk.reads_of_snapshots() {
            self.after(0, Event::DiskDone { seat, life, id });
        }
    }

    fn goes_wrong(&mut self, ppm: u32) -> bool {
        !self.healed && ppm > 0 && self.mishap_rng.chance(ppm)
    }
}
