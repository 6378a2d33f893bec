//! Callers' reads that don't go through the log: of the leader or of any node.

use ringleader::shard::ReadSubmission;
use ringleader::{Consistency, GroupId, LogPosition, ReadError};

use super::{Clients, Fate};
use crate::applied::OpName;
use crate::machine::{Command, Output};
use crate::rng::Rng;

/// Tells what a call's seed says of reads from what else it says.
const READS: u64 = 0x9e37_79b9_7f4a_7c15;

impl Clients {
    /// A caller's reads and the node that they go to, if the call is for reads.
    pub(crate) fn next_reads(
        &mut self,
        caller: u32,
        seed: u64,
        groups: &[GroupId],
    ) -> Option<(usize, ReadSubmission)> {
        let mut rng = Rng::new(seed ^ READS);
        let busy = self.outstanding[caller as usize] >= self.load.outstanding;
        if busy || !rng.chance(self.load.reads_ppm) {
            return None;
        }
        let first = rng.below(groups.len() as u64) as usize;
        let leader = self.believed[caller as usize][first];
        let node = if rng.coin() { leader } else { rng.below(self.nodes as u64) as usize };
        let mut submission = ReadSubmission::default();
        for _ in 0..rng.between(1, self.load.max_batch) {
            let how = if rng.coin() { Consistency::Lease } else { Consistency::Linearizable };
            let command = self.wishes.draw_read(&mut rng);
            self.push_read(&mut submission, caller, (groups[first], first), node, how, command);
        }
        Some((node, submission))
    }

    /// One read on a node; nobody waits for it.
    pub(crate) fn single_read(
        &mut self,
        group: GroupId,
        at: usize,
        node: usize,
        how: Consistency,
        command: Command,
    ) -> ReadSubmission {
        let mut submission = ReadSubmission::default();
        let nobody = self.load.callers;
        self.push_read(&mut submission, nobody, (group, at), node, how, command);
        submission
    }

    fn push_read(
        &mut self,
        submission: &mut ReadSubmission,
        caller: u32,
        (group, at): (GroupId, usize),
        node: usize,
        how: Consistency,
        command: Command,
    ) {
        let name = self.note(caller, (group, at), node, command, 0);
        self.asked[name.0 as usize].read = Some(how);
        submission.push(group, how, name.0);
    }

    /// A read was answered: what the state machine had applied, and what it held.
    pub(crate) fn answer_read(
        &mut self,
        name: OpName,
        at: usize,
        result: Result<(u64, LogPosition, Output), &ReadError>,
    ) {
        match result {
            Ok((applied, last, output)) => {
                self.close(name, Fate::Applied);
                self.answered[at] = self.answered[at].max(applied);
                let moment = self.moment();
                let asked = &mut self.asked[name.0 as usize];
                asked.returned = Some((moment, output));
                (asked.read_at, asked.read_after) = (Some(applied), last);
                self.wishes.learn(asked.group, &asked.command, output);
            }
            Err(error) => {
                let leader = match error {
                    ReadError::LeaderChanged { leader } => *leader,
                    _ => None,
                };
                self.look_elsewhere(name, at, leader.map(|leader| leader.0 as usize - 1));
                self.close(name, Fate::Failed);
            }
        }
    }
}
