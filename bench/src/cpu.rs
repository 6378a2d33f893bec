//! What this process uses of processor and memory.

use std::fs;

/// Nanoseconds of a tick: USER_HZ is 100 on every architecture that has io_uring.
const TICK: u64 = 10_000_000;

/// User plus system time of this process's threads, those that ended included, in nanoseconds.
pub(crate) fn time() -> u64 {
    // SAFETY: all-zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is valid for writes; the call cannot fail with RUSAGE_SELF.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let nanoseconds =
        |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
    nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime)
}

/// User plus system time of another process, all threads, in nanoseconds. Resolution 10 ms.
pub(crate) fn time_of(process: u32) -> Option<u64> {
    busy_ticks(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// Sums utime and stime of /proc/PID/stat (proc(5)), which follow the name in parentheses.
fn busy_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((field(11)? + field(12)?) * TICK)
}

/// The most resident memory that another process ever had, in bytes; zero when unreadable.
pub(crate) fn peak_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    kilobytes(&status, "VmHWM:") * 1024
}

/// Time that all processors of the machine were busy with anything, in nanoseconds: other programs,
/// the kernel's own threads and interrupts, and what a hypervisor took. Resolution 10 ms.
pub(crate) fn machine_time() -> Option<u64> {
    busy_time(&fs::read_to_string("/proc/stat").ok()?)
}

/// Sums user, nice, system, irq, softirq and steal of the first line of /proc/stat (proc(5)).
fn busy_time(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|field| ticks.get(*field));
    Some(busy.sum::<u64>() * TICK)
}

/// Resident memory in bytes: now, and the most since the process started. Zero when unreadable.
pub(crate) fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    (kilobytes(&status, "VmRSS:") * 1024, kilobytes(&status, "VmHWM:") * 1024)
}

/// The number of kB that follows a label in /proc/PID/status or /proc/meminfo.
pub(crate) fn kilobytes(text: &str, label: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_loop_costs_time_and_memory_is_there() {
        let before = time();
        let mut sum = 0_u64;
        while time() < before + 2_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0);
        let (rss, peak) = memory();
        assert!(0 < rss && rss <= peak);
    }

    #[test]
    fn a_machine_is_busy_with_all_but_idling_and_waiting() {
        let stat = "cpu  1 2 4 1000 1000 8 16 32 1 1\ncpu0 9 9 9 9\n";
        assert_eq!(busy_time(stat), Some(63 * 10_000_000));
        assert_eq!(busy_time(""), None);
    }

    #[test]
    fn a_process_is_busy_with_user_and_system_time() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 5 5 20 0 1 0 9 9 9\n";
        assert_eq!(busy_ticks(stat), Some(42 * TICK));
        assert!(time_of(std::process::id()).is_some());
        assert!(peak_of(std::process::id()) > 0);
    }

    #[test]
    fn labels_are_found_in_procs_tables() {
        let text = "Name:\tx\nVmHWM:\t  1234 kB\nVmRSS:\t   99 kB\n";
        assert_eq!((kilobytes(text, "VmHWM:"), kilobytes(text, "VmRSS:")), (1234, 99));
        assert_eq!(kilobytes(text, "VmSwap:"), 0);
    }
}
