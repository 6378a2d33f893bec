//! Reads that don't go through the log, on their way in and out, and what must hold of them.
//!
//! A read that was served saw every operation that was answered before it was asked for: at once by
//! comparing indices, and at the end of a run by the history of its register. Where clocks leave
//! the bound that leases rest on, reads that asked for a lease are left out of both, and nothing
//! else is.

use std::any::Any;
use std::collections::BTreeMap;

use ringleader::shard::{ReadRun, ReadSubmission};
use ringleader::{Consistency, LogPosition, ReadError};

use crate::applied::OpName;
use crate::clients::{Asked, Fate};
use crate::inputs::Input;
use crate::machine::{Command, Machine, Output};
use crate::plan::MS;
use crate::schedule::Call;
use crate::world::{Event, LOOK_EVERY, World};

impl World {
    /// Whether a call of the schedule is for reads; if so, they are on their way.
    pub(crate) fn call_reads(&mut self, call: Call) -> bool {
        let next = self.clients.next_reads(call.caller, call.seed, &self.plan.groups);
        let Some((node, submission)) = next else { return false };
        self.trace.line(|| {
            let Call { number, caller, .. } = call;
            let (names, groups) = (&submission.user_data, &submission.groups);
            format!(
                "*** call {number}: caller {caller} reads on node {}: {names:?} {groups:?}",
                node + 1
            )
        });
        let (first, count) = (OpName(submission.user_data[0]), submission.len());
        let delay = self.clients.rng.below(MS);
        self.after(delay, Event::Read { node, client: call.caller, submission });
        self.after(self.plan.load.timeout, Event::TimeOut { first, count });
        true
    }

    /// Reads reach a node, each the shard that keeps its group.
    pub(crate) fn read(&mut self, node: usize, client: u32, submission: &ReadSubmission) {
        self.clients.reached(&submission.user_data, self.nodes[node].life);
        let seats = &self.plan.seats;
        if self.seats[seats.of(node).start].process.is_none() {
            for name in &submission.user_data {
                self.told_read(OpName(*name), Err(&ReadError::Stopped));
            }
            return;
        }
        let mut parts: BTreeMap<usize, ReadSubmission> = BTreeMap::new();
        let mut names = submission.user_data.iter();
        for &(group, how, count) in &submission.groups {
            let part = parts.entry(seats.of_group(group, node)).or_default();
            names.by_ref().take(count as usize).for_each(|name| part.push(group, how, *name));
        }
        for (seat, part) in parts {
            self.feed(seat, Input::Read(client, part));
        }
    }

    /// A turn's answer to reads: what may be read is read now.
    pub(crate) fn answer_reads(&mut self, seat: usize, run: &ReadRun) {
        let now = self.local_time(self.plan.seats.node(seat));
        let process = self.seats[seat].process.as_mut().expect("it is alive");
        let silent = process.silent;
        let raft = process.shard.raft(run.group());
        let applied = raft.map_or(0, |raft| raft.applied_index().0);
        let lease_until = raft.and_then(|raft| raft.reads().lease_until);
        let leased = lease_until.is_some_and(|until| now < until);
        let machine = process.shard.state_machine(run.group());
        let view = machine.map(|machine| {
            let machine: &dyn Any = machine;
            machine.downcast_ref::<Machine>().expect("the simulator's own").view()
        });
        run.for_each(|completion| {
            let name = OpName(completion.user_data);
            assert!(
                !silent || completion.result.is_err(),
                "a read is served by a shard that has ended"
            );
            self.trace.step("read", seat as u64, name.0, u64::from(completion.result.is_ok()));
            let place = self.plan.seats.name(seat);
            self.trace
                .line(|| format!("node {place} answers read {}: {:?}", name.0, completion.result));
            let told = completion.result.as_ref().map(|index| {
                assert!(index.0 <= applied, "read before applied: {index} of {applied}");
                let view = view.as_ref().expect("what was read is there");
                let command = self.clients.asked[name.0 as usize].command;
                (applied, view.last, view.read(&command))
            });
            let by_lease = self.clients.asked[name.0 as usize].read == Some(Consistency::Lease);
            if leased && by_lease && told.is_ok() {
                self.counts.add("reads served under a lease", 1);
            }
            self.told_read(name, told);
        });
    }

    fn told_read(&mut self, name: OpName, result: Result<(u64, LogPosition, Output), &ReadError>) {
        let asked = self.clients.asked[name.0 as usize];
        if let Ok((applied, last, _)) = result {
            let line = self.checker.history(asked.group).line();
            let stays = line.contains(last) || !line.stands;
            assert!(stays, "eras: read {} saw {last:?}, which a reset left behind", name.0);
            assert!(
                applied >= asked.after || self.is_exempt(&asked),
                "stale read: {} of group {} saw {applied}, and {} had been answered before",
                name.0,
                asked.group,
                asked.after
            );
        }
        let what = match (result, asked.read) {
            (Ok(_), Some(Consistency::Lease)) => "reads served that asked for a lease",
            (Ok(_), _) => "reads served",
            (Err(ReadError::NoLeader), _) => "reads refused: no leader",
            (Err(ReadError::LeaderChanged { .. }), _) => "reads refused: another leader",
            (Err(ReadError::Busy), _) => "reads refused: busy",
            (Err(ReadError::TimedOut), _) => "reads refused: timed out",
            _ => "reads refused: the shard has ended",
        };
        self.counts.add(what, 1);
        let at = self.group_of(name);
        self.clients.answer_read(name, at, result);
    }

    /// Whether a read may be stale: it asked for a lease, and clocks differ by more than leases
    /// allow for.
    pub(crate) fn is_exempt(&self, asked: &Asked) -> bool {
        asked.read == Some(Consistency::Lease) && !self.plan.lease_is_safe
    }

    /// Nobody is elected while another leader holds a lease (thesis, section 6.4.1).
    pub(crate) fn check_leases(&self, seat: usize) {
        let node = self.plan.seats.node(seat);
        if !self.plan.lease_is_safe || self.plan.raft.lease_reads.is_none() {
            return;
        }
        for (at, group) in self.plan.groups.iter().enumerate() {
            if self.plan.seats.of_group(*group, node) != seat {
                continue;
            }
            let Some(term) = self.checker.leads(at, node) else { continue };
            for other in (0..self.plan.nodes).filter(|other| *other != node) {
                let process = &self.seats[self.plan.seats.of_group(*group, other)].process;
                let raft = process.as_ref().and_then(|process| process.shard.raft(*group));
                let Some(raft) = raft.filter(|raft| raft.term() < term) else { continue };
                let valid =
                    raft.reads().lease_until.is_some_and(|until| self.local_time(other) < until);
                assert!(
                    !valid,
                    "lease: node {} of group {group} leads term {term} while node {} holds a lease",
                    node + 1,
                    other + 1
                );
            }
        }
    }

    /// Whether the group's members serve reads, by the leader and elsewhere.
    pub(crate) fn serves_reads(&mut self, at: usize) -> bool {
        let Some(leader) = self.checker.leader(at) else { return false };
        let other = self.clients.rng.below(self.plan.nodes as u64) as usize;
        let members = self.checker.members_of(at);
        let intact = |node: &usize| {
            let may = !self.atlas.damaged()[*node] && !self.checker.contradicts(at, *node);
            may && members.contains(node)
        };
        let nodes: Vec<usize> = [leader, other].into_iter().filter(intact).collect();
        let group = self.plan.groups[at];
        let mut names = Vec::new();
        for node in nodes {
            for how in [Consistency::Linearizable, Consistency::Lease] {
                let client = self.plan.load.callers;
                let submission = self.clients.single_read(group, at, node, how, Command::PROBE);
                names.push(OpName(submission.user_data[0]));
                self.after(0, Event::Read { node, client, submission });
            }
        }
        for _ in 0..20 {
            self.run_until(self.now() + LOOK_EVERY);
            let waits = |name: &OpName| self.clients.asked[name.0 as usize].fate == Fate::Waiting;
            if !names.iter().any(waits) {
                break;
            }
        }
        names.iter().all(|name| self.clients.was_applied(name.0))
    }
}
