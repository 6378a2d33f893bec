//! What a load costs: processor time of the servers and of the client, flushes of the disk.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Nanoseconds of a tick: USER_HZ is 100 on every architecture that has io_uring.
const TICK: u64 = 10_000_000;

/// A disk, as /sys shows it.
#[derive(Clone, Debug)]
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// The disk under a directory; none for file systems without one of their own.
    pub(crate) fn under(directory: &Path) -> Option<Self> {
        let device = fs::metadata(directory).ok()?.dev();
        let (major, minor) = (libc::major(device), libc::minor(device));
        let path = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        Some(Self(match path.parent() {
            Some(disk) if path.join("partition").exists() => disk.to_owned(),
            _ => path,
        }))
    }

    /// Flushes of its cache since it came up: field 16 of Documentation/block/stat.rst.
    fn flushes(&self) -> Option<u64> {
        let stat = fs::read_to_string(self.0.join("stat")).ok()?;
        stat.split_whitespace().nth(15)?.parse().ok()
    }

    /// Whether a durable write needs a flush: there is a cache, and no way past it.
    pub(crate) fn needs_flushes(&self) -> bool {
        let setting =
            |name| fs::read_to_string(self.0.join("queue").join(name)).unwrap_or_default();
        setting("write_cache").trim() == "write back" && setting("fua").trim() != "1"
    }
}

/// Reads what processes and a disk have done so far.
pub(crate) struct Meter {
    pub(crate) servers: Vec<u32>,
    pub(crate) disk: Option<Disk>,
}

/// What was done up to a moment.
pub(crate) struct Reading {
    at: Instant,
    servers_ns: u64,
    client_ns: u64,
    flushes: Option<u64>,
}

/// What was done between two moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    /// User and system time of all servers; to 10 ms.
    pub(crate) servers_ns: u64,
    /// Likewise of this process.
    pub(crate) client_ns: u64,
    /// Of the disk, whoever asked for them; none when it does not tell.
    pub(crate) flushes: Option<u64>,
}

impl Meter {
    pub(crate) fn read(&self) -> Reading {
        Reading {
            at: Instant::now(),
            servers_ns: self.servers.iter().map(|process| time_of(*process)).sum(),
            client_ns: time_of(std::process::id()),
            flushes: self.disk.as_ref().and_then(Disk::flushes),
        }
    }
}

impl Reading {
    pub(crate) fn since(&self, earlier: &Self) -> Cost {
        let flushes = self.flushes.zip(earlier.flushes);
        Cost {
            seconds: (self.at - earlier.at).as_secs_f64(),
            servers_ns: self.servers_ns.saturating_sub(earlier.servers_ns),
            client_ns: self.client_ns.saturating_sub(earlier.client_ns),
            flushes: flushes.map(|(now, then)| now.saturating_sub(then)),
        }
    }
}

/// User and system time of a process, in nanoseconds; zero when it is gone.
fn time_of(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    ticks(&stat).unwrap_or(0) * TICK
}

/// Sums utime and stime of /proc/PID/stat (proc(5)), which follow the name in parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields =
        fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    Some(fields.next()? + fields.next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_busy_with_user_and_system_time() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 5 5 20 0 1 0 9 9 9\n";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks(""), None);
    }
}
