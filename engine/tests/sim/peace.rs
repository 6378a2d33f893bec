//! Peace: without faults, nothing may change but what callers ask for.

use crate::world::World;

/// How long peace is watched, in election timeouts.
const CALM: u64 = 8;

/// Ticks after which a log that found no space looks for it again, at most (`wal/src/wal.rs`).
const RETRY_TICKS: u64 = 200;

impl World {
    /// Leaders stay in office and serve (liveness: no election without a cause).
    pub(crate) fn stay_calm(&mut self) {
        self.plan.net.slow_ppm = 0;
        self.plan.disk.slow_ppm = 0;
        let election = self.plan.raft.election_timeout.as_nanos() as u64;
        // What was under way, slow, arrives before.
        self.run_until((self.now() + 2 * election).max(self.disks_busy_until));
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
                let served = self.soon(|world| world.serves(at) && world.serves_reads(at));
                assert!(served, "liveness: group {group} does not serve in peace");
            }
        }
    }

    /// Whether something comes about that a log without space may put off: it found no room when
    /// there was none, looks for it again after so many ticks, and its group refuses until then.
    pub(crate) fn soon(&mut self, mut comes_about: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now() + (RETRY_TICKS + 50) * self.plan.tick;
        for attempt in 1.. {
            if comes_about(self) {
                return true;
            }
            if attempt >= 3 && self.now() > end {
                break;
            }
        }
        false
    }
}
