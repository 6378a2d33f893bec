//! Peace: without faults, nothing may change but what callers ask for.

use crate::world::World;

/// How long peace is watched, in election timeouts.
const CALM: u64 = 8;

impl World {
    /// Leaders stay in office and serve (liveness: no election without a cause).
    pub(crate) fn stay_calm(&mut self) {
        self.plan.net.slow_ppm = 0;
        self.plan.disk.slow_ppm = 0;
        let election = self.plan.raft.election_timeout.as_nanos() as u64;
        // What was under way, slow, arrives before.
        self.run_until(self.now() + 2 * election);
        let reign = |world: &Self, at| world.checker.reign(at, world.atlas.damaged());
        let before: Vec<_> = (0..self.plan.groups.len()).map(|at| reign(self, at)).collect();
        for _ in 0..CALM {
            self.run_until(self.now() + election);
            for (at, before) in before.iter().enumerate() {
                let group = self.plan.groups[at];
                assert_eq!(
                    reign(self, at),
                    *before,
                    "liveness: group {group} changed its leader in peace"
                );
                // A log that found no room looks for it again after a while, and refuses until then.
                let served = (0..3).any(|_| self.serves(at) && self.serves_reads(at));
                assert!(served, "liveness: group {group} does not serve in peace");
            }
        }
    }
}
