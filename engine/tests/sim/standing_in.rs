//! Peace in which only voters that are not meant to lead have all that is committed: one of them has to.

use ringleader::NodeId;

use crate::world::{LOOK_EVERY, World};

/// Election timeouts in which a voter of priority 0 leads that has what a candidate lacks: a timeout
/// until it lets go of its leader, up to two until the other campaigns, and up to two of its own. One
/// that has seen no such candidate stands in after more than eight.
const AT_ONCE: u64 = 8;

/// Who of a group's voters does what.
struct Cast {
    leader: usize,
    /// With the leader they are just a majority; their priority is 0.
    abstainers: Vec<usize>,
    others: Vec<usize>,
}

impl World {
    /// The others hear nothing while something is written; then the leader is away instead.
    pub(crate) fn leave_it_to_abstainers(&mut self) {
        let groups = 0..self.plan.groups.len();
        let casts: Vec<(usize, Cast)> =
            groups.filter_map(|at| Some((at, self.cast(at)?))).collect();
        if casts.is_empty() {
            return;
        }
        let (at, Cast { leader, abstainers, others }) =
            &casts[self.rng.below(casts.len() as u64) as usize];
        let name = |nodes: &[usize]| nodes.iter().map(|node| node + 1).collect::<Vec<_>>();
        self.trace.line(|| format!("*** nodes {:?} hear nothing", name(others)));
        self.counts.add("groups left to voters of priority 0", 1);
        self.isolate(others);
        let written = self.within(self.plan.patience, |world| world.serves(*at));
        let group = self.plan.groups[*at];
        assert!(written, "liveness: group {group} has a majority, and does not serve");
        self.trace.line(|| {
            format!("*** now node {} hears nothing, {:?} has all", leader + 1, name(abstainers))
        });
        self.network.unblock_all();
        self.isolate(&[*leader]);
        // One alone has nobody to split votes with.
        let election = self.plan.raft.election_timeout.as_nanos() as u64;
        let patience = if abstainers.len() == 1 { AT_ONCE * election } else { self.plan.patience };
        // The old leader may take itself for one for a while.
        let newest =
            |world: &Self| world.checker.newest_leader(*at).filter(|newest| newest != leader);
        let led = self.within(patience, |world| {
            world.run_until(world.now() + LOOK_EVERY);
            newest(world).is_some()
        });
        assert!(led, "liveness: group {group} is left to voters of priority 0, and none stands in");
        let served = self.within(self.plan.patience, |world| {
            world.run_until(world.now() + LOOK_EVERY);
            newest(world).is_some_and(|newest| world.serves_by(*at, newest))
        });
        assert!(served, "liveness: group {group} does not serve by a voter of priority 0");
        self.reunite();
    }

    /// A group can be left to voters of priority 0 if these and its leader make a majority, all there.
    fn cast(&self, at: usize) -> Option<Cast> {
        let leader = self.checker.leader(at)?;
        let priorities = self.plan.priorities.get(&self.plan.groups[at])?;
        let may_lead = |node: &usize| priorities.of(NodeId(*node as u64 + 1)) > 0;
        let voters = self.checker.voters(at);
        let well =
            |node: &usize| !self.atlas.damaged()[*node] && !self.checker.contradicts(at, *node);
        if !voters.iter().all(well) || !voters.contains(&leader) || !may_lead(&leader) {
            return None;
        }
        let (mut others, mut abstainers): (Vec<usize>, Vec<usize>) =
            voters.iter().filter(|node| **node != leader).partition(|node| may_lead(node));
        let needed = voters.len() / 2;
        if abstainers.len() < needed || others.is_empty() {
            return None;
        }
        others.extend(abstainers.drain(needed..));
        Some(Cast { leader, abstainers, others })
    }

    fn isolate(&mut self, nodes: &[usize]) {
        for &node in nodes {
            for other in (0..self.plan.nodes).filter(|other| *other != node) {
                self.network.block(node, other);
                self.network.block(other, node);
            }
        }
        let mut rng = self.rng.fork();
        self.give_up_cut_connections(&mut rng);
    }

    fn within(&mut self, time: u64, mut comes_about: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now() + time;
        while self.now() < end {
            if comes_about(self) {
                return true;
            }
        }
        false
    }
}
