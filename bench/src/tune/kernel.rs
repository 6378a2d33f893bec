//! Experiments with the kernel's settings, and those that cannot be made.

use super::change::{Change, Place};
use super::experiments::{Experiment, GROUPS, LARGE, MANY, Metric, ONE, of};

pub(super) fn disk() -> Vec<Experiment> {
    use Change::{FileSystem, Setting};
    use Metric::{P50, P99, Throughput};
    vec![
        of(
            "scheduler-none",
            "I/O scheduler none, from the present one",
            "no queue of the kernel's before the device's",
            ONE,
            P50,
            Setting(Place::Queue("scheduler"), "none"),
        ),
        of(
            "scheduler-none-busy",
            "the same, with 16,384 in flight",
            "as above",
            MANY,
            Throughput,
            Setting(Place::Queue("scheduler"), "none"),
        ),
        of(
            "rq-affinity",
            "rq_affinity 2, from 1",
            "completions run on the very core that submitted",
            ONE,
            P50,
            Setting(Place::Queue("rq_affinity"), "2"),
        ),
        of(
            "no-merges",
            "nomerges 2, from 0",
            "nobody looks for neighbours to merge a write with",
            MANY,
            Throughput,
            Setting(Place::Queue("nomerges"), "2"),
        ),
        of(
            "no-throttle",
            "write-back throttling off (wbt_lat_usec 0)",
            "buffered writers are not held back; direct writes never were",
            MANY,
            P99,
            Setting(Place::Queue("wbt_lat_usec"), "0"),
        ),
        of(
            "no-flushes",
            "the kernel believes that the device has no volatile cache (write through)",
            "what flushes cost; NOT SAFE on a device that has one",
            ONE,
            P50,
            Setting(Place::Queue("write_cache"), "write through"),
        ),
        of(
            "no-flushes-busy",
            "the same, with 16,384 in flight",
            "as above",
            MANY,
            Throughput,
            Setting(Place::Queue("write_cache"), "write through"),
        ),
        of(
            "interrupt",
            "the disk's interrupt on core 0",
            "completions come where the leader may be, or where it is not",
            ONE,
            P50,
            Setting(Place::DiskInterrupt, "1"),
        ),
        of(
            "ext4-loop",
            "ext4 in a file (loop device), from the disk's own file system",
            "the baseline for the next two: what the loop costs",
            MANY,
            Throughput,
            FileSystem(&["mkfs.ext4", "-q", "-F"]),
        ),
        of(
            "ext4-no-journal",
            "the same without a journal",
            "no commit of the journal in a flush's way; compare with ext4-loop",
            MANY,
            Throughput,
            FileSystem(&["mkfs.ext4", "-q", "-F", "-O", "^has_journal"]),
        ),
        of(
            "xfs-loop",
            "XFS in a file (loop device)",
            "another journal; compare with ext4-loop",
            MANY,
            Throughput,
            FileSystem(&["mkfs.xfs", "-q", "-f"]),
        ),
    ]
}

pub(super) fn network() -> Vec<Experiment> {
    use Change::Setting;
    use Metric::{P50, Throughput};
    vec![
        of(
            "congestion-bbr",
            "tcp_congestion_control bbr, from cubic",
            "paces what cubic sends at once; loopback loses nothing",
            LARGE,
            Throughput,
            Setting(Place::At("/proc/sys/net/ipv4/tcp_congestion_control"), "bbr"),
        ),
        of(
            "congestion-reno",
            "tcp_congestion_control reno",
            "less arithmetic per acknowledgement",
            MANY,
            Throughput,
            Setting(Place::At("/proc/sys/net/ipv4/tcp_congestion_control"), "reno"),
        ),
        of(
            "autocorking",
            "tcp_autocorking 0, from 1",
            "small sends are never held back to be merged",
            ONE,
            P50,
            Setting(Place::At("/proc/sys/net/ipv4/tcp_autocorking"), "0"),
        ),
        of(
            "busy-read",
            "net.core.busy_read 50, from 0",
            "a receive polls the device; loopback has none to poll",
            ONE,
            P50,
            Setting(Place::At("/proc/sys/net/core/busy_read"), "50"),
        ),
        of(
            "mtu",
            "loopback's MTU 1500, from 65536",
            "as on Ethernet without large frames: more packets",
            LARGE,
            Throughput,
            Setting(Place::At("/sys/class/net/lo/mtu"), "1500"),
        ),
        of(
            "slow-start",
            "tcp_slow_start_after_idle 0, from 1",
            "a connection that rested sends as much as before",
            ONE,
            P50,
            Setting(Place::At("/proc/sys/net/ipv4/tcp_slow_start_after_idle"), "0"),
        ),
    ]
}

pub(super) fn processors() -> Vec<Experiment> {
    use Change::{AwakeCores, Setting};
    use Metric::{P50, P99, Processor};
    vec![
        of(
            "huge-pages",
            "transparent huge pages always, from madvise",
            "fewer misses of the TLB",
            GROUPS,
            Processor,
            Setting(Place::At("/sys/kernel/mm/transparent_hugepage/enabled"), "always"),
        ),
        of(
            "autogroup",
            "sched_autogroup_enabled 0, from 1",
            "the nodes are scheduled as processes, not as one session",
            ONE,
            P99,
            Setting(Place::At("/proc/sys/kernel/sched_autogroup_enabled"), "0"),
        ),
        of(
            "idle-governor",
            "cpuidle governor menu, from the present one",
            "how long a guest polls before it halts",
            ONE,
            P50,
            Setting(Place::At("/sys/devices/system/cpu/cpuidle/current_governor"), "menu"),
        ),
        of(
            "awake-cores",
            "cores kept from deep sleep (/dev/cpu_dma_latency 0)",
            "a core that naps wakes sooner",
            ONE,
            P50,
            AwakeCores,
        ),
        of(
            "cpu-governor",
            "CPU frequency governor performance",
            "no time to speed up",
            ONE,
            P50,
            Setting(
                Place::At("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
                "performance",
            ),
        ),
        of(
            "smt-off",
            "simultaneous multithreading off",
            "two threads of a core share its caches",
            MANY,
            Processor,
            Setting(Place::At("/sys/devices/system/cpu/smt/control"), "off"),
        ),
    ]
}

pub(super) fn never() -> Vec<Experiment> {
    use Change::Never;
    use Metric::{P50, Processor, Throughput};
    vec![
        of(
            "sqpoll",
            "io_uring with a kernel thread that polls (SQPOLL)",
            "no system call to submit",
            ONE,
            P50,
            Never("glommio's rings are made without it, and it needs a core of its own"),
        ),
        of(
            "registered-buffers",
            "buffers registered with io_uring for disk and network",
            "pages are pinned once",
            MANY,
            Processor,
            Never("glommio registers those of its own pool alone; the network's are the engine's"),
        ),
        of(
            "zero-copy-send",
            "IORING_OP_SEND_ZC",
            "large blocks are not copied into the kernel",
            LARGE,
            Throughput,
            Never("glommio 0.12 has no such operation, and loopback copies all the same"),
        ),
        of(
            "isolated-cores",
            "isolcpus, nohz_full for the shards' cores",
            "nothing else ever runs there",
            ONE,
            P50,
            Never("it is a choice at boot, and two cores leave none for the rest"),
        ),
    ]
}
