//! What disturbs a group at rest, in peace, and must do it no harm. Who rests has promised nothing, and
//! was promised nothing, but by beats and connections: here these tell some members what is not so.

use ringleader::Consistency;

use crate::machine::Command;
use crate::world::{Event, LOOK_EVERY, World};

/// Election timeouts for which a follower hears its leader no more: it campaigns a few times.
const CUT_OFF: u64 = 8;

impl World {
    /// One of the things that can happen, or none.
    pub(crate) fn disturb_rest(&mut self) {
        let groups: Vec<usize> =
            (0..self.plan.groups.len()).filter(|at| self.finds_rest(*at)).collect();
        if groups.is_empty() {
            return;
        }
        let at = self.rng.pick(&groups);
        match self.rng.below(3) {
            0 => self.cut_off_a_follower(at),
            1 => self.stop_a_leader_short(at),
            _ => self.destroy_a_leader(at),
        }
    }

    /// Whether a quorum of the group's voters is there without one of them.
    fn can_spare_one(&self, at: usize) -> bool {
        let voters = self.checker.voters(at);
        let takes_part =
            |node: &&usize| !self.atlas.damaged()[**node] && !self.checker.contradicts(at, **node);
        voters.iter().filter(takes_part).count() > voters.len() / 2 + 1
    }

    /// A follower and its leader hear each other no more, and hear all others. It campaigns; who hears
    /// the leader, if only its beats, does not help it.
    fn cut_off_a_follower(&mut self, at: usize) {
        let raft = self.plan.raft;
        let Some(leader) = self.checker.leader(at) else { return };
        let mut others = self.checker.voters(at);
        others.retain(|node| *node != leader);
        if others.is_empty() || !raft.pre_vote || !raft.check_quorum {
            return;
        }
        let follower = self.rng.pick(&others);
        let unharmed: Vec<usize> = (0..self.plan.groups.len())
            .filter(|at| self.finds_rest(*at) && self.can_spare_one(*at))
            .collect();
        let reign = |world: &Self, at| world.checker.reign(at, world.atlas.damaged());
        let before: Vec<_> = unharmed.iter().map(|at| reign(self, *at)).collect();
        self.trace.line(|| format!("*** nodes {} and {} are apart", leader + 1, follower + 1));
        self.counts.add("followers cut off from a leader at rest", 1);
        self.network.block(leader, follower);
        self.network.block(follower, leader);
        let mut rng = self.rng.fork();
        self.give_up_cut_connections(&mut rng);
        let election = raft.election_timeout.as_nanos() as u64;
        self.run_until(self.now() + CUT_OFF * election);
        self.reunite();
        self.run_until(self.now() + 2 * election);
        for (at, before) in unharmed.into_iter().zip(before) {
            let group = self.plan.groups[at];
            let what = "liveness: one follower that did not hear it unseated the leader";
            assert_eq!(reign(self, at), before, "{what} of group {group}");
        }
    }

    /// A leader at rest stands still, and nothing reaches it. When it goes on there is another, which
    /// has written, and the first that the old one hears is somebody who wants to read. Where no lease
    /// rests on clocks, its own stood still with it: it does not know that time has passed.
    fn stop_a_leader_short(&mut self, at: usize) {
        let Some(old) = self.checker.leader(at) else { return };
        if !self.can_spare_one(at) {
            return;
        }
        self.trace.line(|| format!("*** node {} stands still, and hears nothing", old + 1));
        self.counts.add("leaders at rest that stood still", 1);
        for other in (0..self.plan.nodes).filter(|other| *other != old) {
            self.network.block(old, other);
            self.network.block(other, old);
        }
        let timeless = self.plan.raft.lease_reads.is_none();
        if timeless {
            self.suspend_clock(old, true);
        }
        let end = self.now() + self.plan.patience;
        let mut written = None;
        while written.is_none() && self.now() < end {
            self.nodes[old].stalled_until = self.now() + 2 * LOOK_EVERY;
            self.run_until(self.now() + LOOK_EVERY);
            if let Some(leader) = self.checker.newest_leader(at).filter(|leader| *leader != old) {
                written = self.write_meanwhile(at, leader, old);
            }
        }
        let group = self.plan.groups[at];
        let read = written.unwrap_or_else(|| panic!("liveness: group {group} has no other leader"));
        let (client, how) = (self.plan.load.callers, Consistency::Linearizable);
        let submission = self.clients.single_read(group, at, old, how, read);
        self.after(0, Event::Read { node: old, client, submission });
        self.run_until(self.now() + 4 * LOOK_EVERY);
        if timeless {
            self.suspend_clock(old, false);
        }
        self.reunite();
        self.settle();
    }

    /// A leader at rest is destroyed. Its node lives on, and is heard: nobody asks for anything, and
    /// somebody else has to lead.
    fn destroy_a_leader(&mut self, at: usize) {
        let Some(old) = self.checker.leader(at) else { return };
        if !self.plan.changing || !self.can_spare_one(at) || !self.bears_loss(at, old) {
            return;
        }
        let group = self.plan.groups[at];
        self.trace.line(|| format!("*** node {} loses group {group}, at rest", old + 1));
        self.counts.add("leaders at rest that were destroyed", 1);
        self.destroy(at, old);
        let end = self.now() + self.plan.patience;
        while self.checker.leader(at).is_none_or(|leader| leader == old) {
            let what = "liveness: nobody leads after a leader at rest was destroyed";
            assert!(self.now() < end, "{what}: group {group}");
            self.run_until(self.now() + LOOK_EVERY);
        }
        self.remove_lost();
        self.settle();
    }

    /// Writes while `old` stands still: how to read it, if the new leader said that it is written.
    fn write_meanwhile(&mut self, at: usize, leader: usize, old: usize) -> Option<Command> {
        let (group, client) = (self.plan.groups[at], self.plan.load.callers);
        let submission = self.clients.single(group, at, leader);
        let name = submission.user_data[0];
        self.after(0, Event::Submit { node: leader, client, submission });
        for _ in 0..20 {
            self.nodes[old].stalled_until = self.now() + 2 * LOOK_EVERY;
            self.run_until(self.now() + LOOK_EVERY);
            if self.clients.was_applied(name) {
                return Some(self.clients.asked[name as usize].command.read_back());
            }
        }
        None
    }
}
