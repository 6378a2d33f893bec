//! Groups that are founded from a state: before anything runs, one node writes what the group begins
//! with into its own directory, with the production code, and no node's configuration names voters. The
//! process may end at any step of that, or the power fail: then the group is founded as a whole or not
//! at all, and whoever tries again is told.
//!
//! The state is the group's only copy until the first leader has committed something. So these groups
//! are in the runs that damage no disk, and until then their founder is neither wiped nor destroyed.

use ringleader::raft::Configuration;
use ringleader::raft::era::Era;
use ringleader::shard::Founding;
use ringleader::{LogIndex, LogPosition, NodeId, Term};
use ringleader_wal::disk::{DiskOp, DiskOutput, FileName, OpId};

use crate::image::{Image, Pieces};
use crate::rng::{Rng, SURE};
use crate::world::World;

/// Who founds a group, and from what.
#[derive(Clone, Debug)]
pub(crate) struct Founded {
    pub(crate) node: NodeId,
    pub(crate) image: Image,
}

/// Those of the groups that are not created late.
pub(crate) fn founded(
    rng: &mut Rng,
    may_be: bool,
    founders: &[Configuration],
    late: &[bool],
) -> Vec<Option<Founded>> {
    let likely = if may_be && rng.coin() { SURE / 2 } else { 0 };
    let group = |(founders, late): (&Configuration, &bool)| {
        let node = rng.pick(founders.voters());
        let founds = rng.chance(likely) && !late;
        let image = Image::draw(rng, first_position(node));
        founds.then_some(Founded { node, image })
    };
    founders.iter().zip(late).map(group).collect()
}

/// Where a reset's first entry would stand on a node that had nothing: in the first era that is its
/// own.
fn first_position(node: NodeId) -> LogPosition {
    let term = Term((1 << 20 | node.0) << 34);
    let era = Era::of(term);
    assert_eq!((era.resets(), era.node(), era.first_term()), (1, node.0, term));
    LogPosition { index: LogIndex(1), term }
}

impl World {
    /// Founds the groups that begin with a state.
    pub(crate) fn found_groups(&mut self) {
        for at in 0..self.plan.groups.len() {
            let Some(founded) = self.plan.founded[at].clone() else { continue };
            let mut attempts = 1;
            while !self.found(at, &founded) {
                attempts += 1;
            }
            self.trace.step("found", founded.node.0, at as u64, attempts);
            self.counts.add("groups founded from a state", 1);
            self.counts.add("attempts to found a group cut off", attempts - 1);
        }
    }

    /// True once the group is founded; otherwise the process ended before.
    fn found(&mut self, at: usize, founded: &Founded) -> bool {
        let (group, node) = (self.plan.groups[at], founded.node.0 as usize - 1);
        let seat = self.plan.seats.of_group(group, node);
        let place = FileName::Snapshot(group, founded.image.last);
        let identity = self.plan.seats.identity(seat);
        // As the runtime has it.
        for file in self.files_of(seat) {
            match file {
                FileName::Snapshot(of, _) if of == group => {
                    self.do_now(seat, DiskOp::SyncDir);
                    return true;
                }
                FileName::Partial(of, _) if of == group => {
                    self.do_now(seat, DiskOp::Remove { file });
                }
                _ => {}
            }
        }
        let mut steps = if self.disk_rng.coin() { self.disk_rng.below(12) } else { u64::MAX };
        let (members, max) = (&self.plan.founders[at], self.plan.snapshots[node].chunk_bytes);
        let source = Box::new(Pieces::of(&founded.image));
        let mut founding = Founding::new(&identity, group, members, source, max);
        while let Some(op) = founding.next_op() {
            if steps == 0 {
                self.seats[seat].disk.submit(OpId(0), op);
                self.end_founding(seat);
                return false;
            }
            steps -= 1;
            self.do_now(seat, op);
            if let Some(done) = founding.complete(Ok(())) {
                done.expect("nothing fails");
                if self.disk_rng.coin() {
                    self.end_founding(seat);
                }
                let there = self.files_of(seat).contains(&place);
                assert!(there, "founding: group {group} was founded, and {place} is not there");
                return true;
            }
        }
        unreachable!("a snapshot that is written has an end")
    }

    fn do_now(&mut self, seat: usize, op: DiskOp) -> DiskOutput {
        let disk = &mut self.seats[seat].disk;
        disk.submit(OpId(0), op);
        disk.complete(OpId(0), None, &mut self.disk_rng).expect("nothing fails")
    }

    fn files_of(&mut self, seat: usize) -> Vec<FileName> {
        match self.do_now(seat, DiskOp::List) {
            DiskOutput::Listed(files) => files.into_iter().map(|(file, _)| file).collect(),
            output => unreachable!("a list is {output:?}"),
        }
    }

    fn end_founding(&mut self, seat: usize) {
        let (disk, rng) = (&mut self.seats[seat].disk, &mut self.disk_rng);
        match rng.coin() {
            true => disk.crash(rng),
            false => disk.kill(rng),
        }
    }
}
