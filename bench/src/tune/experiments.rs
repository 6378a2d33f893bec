//! The experiments: each compares one setting with the default.

use super::change::Change;
use super::kernel;
use crate::args::ClusterArgs;
use crate::control::SyncChoice;

/// One setting against the default.
pub(super) struct Experiment {
    pub(super) name: &'static str,
    /// What is changed, and from what.
    pub(super) setting: &'static str,
    /// Why it should matter.
    pub(super) why: &'static str,
    pub(super) load: Load,
    pub(super) metric: Metric,
    pub(super) change: Change,
}

/// Under what both sides are run.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) inflight: u64,
    pub(super) payload: u64,
    pub(super) groups: u64,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    Throughput,
    P50,
    P99,
    Processor,
}

pub(super) const ONE: Load = Load { inflight: 1, payload: 16, groups: 1 };
pub(super) const MANY: Load = Load { inflight: 16_384, payload: 16, groups: 1 };
pub(super) const GROUPS: Load = Load { inflight: 16_384, payload: 16, groups: 1000 };
pub(super) const LARGE: Load = Load { inflight: 64, payload: 65_536, groups: 1 };

pub(super) const fn of(
    name: &'static str,
    setting: &'static str,
    why: &'static str,
    load: Load,
    metric: Metric,
    change: Change,
) -> Experiment {
    Experiment { name, setting, why, load, metric, change }
}

/// All of them. The settings of this engine come first, then those of its processes, the kernel's,
/// and what cannot be tried.
pub(super) fn all() -> Vec<Experiment> {
    let mut all = engine();
    all.extend(processes());
    all.extend(kernel::disk());
    all.extend(kernel::network());
    all.extend(kernel::processors());
    all.extend(kernel::never());
    all
}

fn engine() -> Vec<Experiment> {
    use Change::Run;
    use Metric::{P50, P99, Throughput};
    vec![
        of(
            "sync-coalesced",
            "log sync: writes and coalesced fdatasync, from O_DSYNC writes",
            "one flush serves several writes, but each waits for it",
            ONE,
            P50,
            Run(|args| args.sync = Some(SyncChoice::Coalesced)),
        ),
        of(
            "sync-coalesced-busy",
            "the same, with 16,384 in flight",
            "as above, where writes overlap",
            MANY,
            Throughput,
            Run(|args| args.sync = Some(SyncChoice::Coalesced)),
        ),
        of(
            "wal-depth-1",
            "log writes in flight: 1, from 8",
            "no write waits behind another in the device; batches are larger",
            MANY,
            Throughput,
            Run(|args| args.wal_depth = Some(1)),
        ),
        of(
            "wal-depth-2",
            "log writes in flight: 2, from 8",
            "as above, with one write on its way while another is made",
            GROUPS,
            Throughput,
            Run(|args| args.wal_depth = Some(2)),
        ),
        of(
            "wal-depth-32",
            "log writes in flight: 32, from 8",
            "a device with deep queues can do more at once",
            LARGE,
            Throughput,
            Run(|args| args.wal_depth = Some(32)),
        ),
        of(
            "eager-writes-8",
            "small log writes in flight: 8, from 2",
            "a small batch does not wait for a write to end; more and smaller writes",
            GROUPS,
            Throughput,
            Run(|args| args.tuning.eager_writes = Some(8)),
        ),
        of(
            "segments-small",
            "segment size: 4 MiB, from 64 MiB",
            "less space is held; segments are switched and prepared more often",
            MANY,
            P99,
            Run(|args| {
                args.tuning.segment_bytes = Some(4 << 20);
            }),
        ),
        of(
            "segments-not-kept",
            "recycled segments kept: 2, from 8",
            "a segment that is removed has to be zero-filled anew",
            MANY,
            P99,
            Run(|args| args.tuning.kept_segments = Some(2)),
        ),
        of(
            "batch-small",
            "bytes of a log batch: 64 KiB, from 1 MiB",
            "the first records of a burst are durable sooner, at more writes",
            LARGE,
            Throughput,
            Run(|args| args.tuning.max_batch_bytes = Some(64 << 10)),
        ),
        of(
            "batch-large",
            "bytes of a log batch: 4 MiB, from 1 MiB",
            "fewer and larger writes",
            LARGE,
            Throughput,
            Run(|args| args.tuning.max_batch_bytes = Some(4 << 20)),
        ),
        of(
            "shards-2",
            "shards: 2, from 1, with 16 groups",
            "two threads a node; three nodes have six on these cores",
            Load { groups: 16, ..MANY },
            Throughput,
            Run(|args| args.shards = 2),
        ),
    ]
}

fn processes() -> Vec<Experiment> {
    use Change::{Environment, Run};
    use Metric::{P50, P99, Processor, Throughput};
    vec![
        of(
            "pin",
            "each shard stays on a core, from where the scheduler likes",
            "warm caches; but three nodes share fewer cores here, and none can give way",
            MANY,
            Throughput,
            Run(|args| args.tuning.pin = true),
        ),
        of(
            "pin-one",
            "the same, one operation at a time",
            "as above, where cores are idle",
            ONE,
            P50,
            Run(|args| args.tuning.pin = true),
        ),
        of(
            "spin",
            "polling for 50 us before sleeping (and pinned), from none",
            "saves the wake-up, if nobody else needs the core",
            ONE,
            P50,
            Run(|args| {
                args.tuning.pin = true;
                args.tuning.spin_us = 50;
            }),
        ),
        of(
            "round-robin",
            "SCHED_RR, from the ordinary scheduler",
            "nothing else runs before a shard that has work",
            ONE,
            P99,
            Run(|args| args.tuning.round_robin = true),
        ),
        of(
            "nice",
            "nice -10, from 0",
            "a larger share of the cores, if others want them",
            ONE,
            P99,
            Run(|args| args.tuning.nice = Some(-10)),
        ),
        of(
            "timer-slack",
            "timer slack 1 ns, from 50 us",
            "timers fire when they are due; only timers gain",
            ONE,
            P50,
            Run(|args| args.tuning.timer_slack_ns = Some(1)),
        ),
        of(
            "malloc-cache",
            "glibc.malloc.tcache_count=16384, from 7",
            "blocks of memory stay with the thread that freed them",
            GROUPS,
            Processor,
            Environment("GLIBC_TUNABLES", "glibc.malloc.tcache_count=16384"),
        ),
        of(
            "malloc-huge-pages",
            "glibc.malloc.hugetlb=1, from 0",
            "fewer misses of the TLB, if the kernel has huge pages ready",
            GROUPS,
            Processor,
            Environment("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),
        ),
        of(
            "no-rep-movsb",
            "glibc.cpu.x86_rep_movsb_threshold=100000000, from what glibc thinks best",
            "some processors, in some guests, copy with rep movsb far slower than with vectors",
            MANY,
            Processor,
            Environment("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=100000000"),
        ),
        of(
            "read-chunk",
            "bytes of one receive: 32 KiB, from 256 KiB",
            "smaller buffers stay in the cache; more calls",
            MANY,
            Throughput,
            Run(|args| args.tuning.read_chunk_bytes = Some(32 << 10)),
        ),
        of(
            "write-bytes",
            "bytes of one send: 32 KiB, from 256 KiB",
            "the peer begins sooner; more calls",
            LARGE,
            Throughput,
            Run(|args| args.tuning.write_bytes = Some(32 << 10)),
        ),
        of(
            "socket-buffers",
            "SO_SNDBUF and SO_RCVBUF 64 KiB, from what the kernel finds",
            "less waits in the kernel",
            LARGE,
            Throughput,
            Run(|args| args.tuning.socket_buffer_bytes = Some(64 << 10)),
        ),
    ]
}

impl Load {
    /// A run of so many seconds.
    pub(super) fn args(self, seconds: u64) -> ClusterArgs {
        ClusterArgs {
            groups: self.groups,
            payload: self.payload,
            inflight: self.inflight,
            seconds,
            warmup: 1,
            ..ClusterArgs::plain()
        }
    }

    /// The command line's part of it.
    pub(super) fn flags(self) -> String {
        let Self { inflight, payload, groups } = self;
        let groups = if groups > 1 { format!(" --groups {groups}") } else { String::new() };
        format!("--payload {payload} --inflight {inflight}{groups}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn there_are_many_and_their_names_are_their_own() {
        let all = all();
        let names: HashSet<_> = all.iter().map(|experiment| experiment.name).collect();
        assert_eq!(names.len(), all.len());
        let possible = all.iter().filter(|e| !matches!(e.change, Change::Never(_)));
        assert!(possible.count() >= 20);
    }
}
