//! The block device under a directory, and its counters.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

/// Bytes of a sector in /sys/block, whatever the device's own are.
const SECTOR: u64 = 512;

/// A whole disk (not a partition), as /sys shows it.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    path: PathBuf,
}

/// What a device has done since it came up, or between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Counters {
    /// Flushes of the device's write cache.
    pub(crate) flushes: u64,
    /// Writes, after the kernel merged neighbours. The empty write that carries a flush counts as
    /// one, so a durable write of one block is two writes and one flush.
    pub(crate) writes: u64,
    /// Bytes written.
    pub(crate) bytes: u64,
}

impl Counters {
    /// Parses /sys/block/DEVICE/stat: field 5 is writes, 7 sectors written, 16 flushes (kernel
    /// 5.5 and later; Documentation/block/stat.rst).
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<u64> =
            stat.split_whitespace().map_while(|field| field.parse().ok()).collect();
        Some(Self {
            writes: *fields.get(4)?,
            bytes: fields.get(6)? * SECTOR,
            flushes: *fields.get(15)?,
        })
    }

    /// What was done since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            flushes: self.flushes.saturating_sub(earlier.flushes),
            writes: self.writes.saturating_sub(earlier.writes),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

impl Device {
    /// The disk under `directory`; none for file systems without one.
    pub(crate) fn under(directory: &Path) -> Option<Self> {
        let device = fs::metadata(directory).ok()?.dev();
        Self::by_number(device).or_else(|| {
            // Btrfs and its like have a device number of their own; the mount's source tells.
            let source = mount_of(directory)?.source;
            Self::by_number(fs::metadata(source).ok()?.rdev())
        })
    }

    fn by_number(device: u64) -> Option<Self> {
        let (major, minor) = (libc::major(device), libc::minor(device));
        let path = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        Some(Self { path: whole_disk(path) })
    }

    /// Its name, as in /sys/block.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Its counters; none when they can't be read.
    pub(crate) fn counters(&self) -> Option<Counters> {
        Counters::parse(&fs::read_to_string(self.path.join("stat")).ok()?)
    }

    /// A setting of its request queue.
    pub(crate) fn queue(&self, setting: &str) -> Option<String> {
        let text = fs::read_to_string(self.queue_path(setting)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Where that setting is.
    pub(crate) fn queue_path(&self, setting: &str) -> PathBuf {
        self.path.join("queue").join(setting)
    }

    /// The number of its interrupt: the first that /proc/interrupts lists under its driver's name
    /// for it and a queue of requests.
    pub(crate) fn interrupt(&self) -> Option<u32> {
        let device = fs::canonicalize(self.path.join("device")).ok()?;
        let name = device.file_name()?.to_string_lossy().into_owned();
        let interrupts = fs::read_to_string("/proc/interrupts").ok()?;
        let line = interrupts.lines().find(|line| line.contains(&format!("{name}-req")))?;
        line.split(':').next()?.trim().parse().ok()
    }

    /// Whether a durable write needs a flush of its own: the device has a volatile cache, and
    /// can't write past it.
    pub(crate) fn needs_flushes(&self) -> bool {
        self.queue("write_cache").as_deref() == Some("write back")
            && self.queue("fua").as_deref() != Some("1")
    }
}

/// The value of one of the kernel's settings, in brackets where all that are possible are listed:
/// `none [mq-deadline] kyber`.
pub(crate) fn chosen(text: &str) -> &str {
    let inner = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or(text, |(chosen, _)| chosen)
}

/// Waits until all disks have done what was left to them, and a moment longer.
pub(crate) fn settle(moment: Duration) {
    // SAFETY: no arguments.
    unsafe { libc::sync() };
    std::thread::sleep(moment);
}

/// The disk that `path` (in /sys/devices) is a partition of, or itself.
fn whole_disk(path: PathBuf) -> PathBuf {
    match path.parent() {
        Some(parent) if path.join("partition").exists() => parent.to_owned(),
        _ => path,
    }
}

/// A line of /proc/self/mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    point: PathBuf,
    pub(crate) file_system: String,
    pub(crate) source: String,
    pub(crate) options: String,
}

impl Mount {
    /// `36 35 98:0 /root /point options [tags...] - type source super-options` (proc(5)). Spaces
    /// in paths are written as `\040`.
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let mut right = right.split(' ');
        Some(Self {
            point: left.get(4)?.replace("\\040", " ").into(),
            options: (*left.get(5)?).to_owned(),
            file_system: right.next()?.to_owned(),
            source: right.next()?.to_owned(),
        })
    }
}

/// The mount that `directory` is on.
pub(crate) fn mount_of(directory: &Path) -> Option<Mount> {
    let directory = fs::canonicalize(directory).ok()?;
    pick_mount(&fs::read_to_string("/proc/self/mountinfo").ok()?, &directory)
}

/// The deepest mount above `directory`; of several on one point the last covers the others.
fn pick_mount(mountinfo: &str, directory: &Path) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(Mount::parse);
    mounts
        .filter(|mount| directory.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
}

/// Whether what is written to `directory` is kept in memory only.
pub(crate) fn in_memory(directory: &Path) -> bool {
    mount_of(directory).is_some_and(|mount| ["tmpfs", "ramfs"].contains(&&*mount.file_system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_the_fields_that_the_kernel_documents() {
        let stat = "   32062     6210  4991122    12267     7196    21548  3216048    10542        \
                    0     9092    23201     4400       34   163328      382      258        9\n";
        let expected = Counters { flushes: 258, writes: 7196, bytes: 3_216_048 * 512 };
        assert_eq!(Counters::parse(stat), Some(expected));
        assert_eq!(Counters::parse("1 2 3 4 5 6 7 8 9 10 11"), None, "a kernel before 5.5");
    }

    #[test]
    fn of_listed_values_the_one_in_brackets_holds() {
        assert_eq!(chosen("none [mq-deadline] kyber"), "mq-deadline");
        assert_eq!(chosen("none"), "none");
    }

    #[test]
    fn the_deepest_and_latest_mount_counts() {
        let mountinfo = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
             30 27 0:25 / /tmp rw - tmpfs tmpfs rw\n\
             31 27 254:17 / /my\\040data rw,noatime shared:1 - xfs /dev/vdb1 rw\n\
             32 30 254:18 / /tmp rw - ext4 /dev/vdc1 rw\n";
        let at = |path: &str| pick_mount(mountinfo, Path::new(path)).map(|mount| mount.source);
        assert_eq!(at("/home/me").as_deref(), Some("/dev/vda"));
        assert_eq!(at("/my data/run").as_deref(), Some("/dev/vdb1"));
        assert_eq!(at("/tmp/run").as_deref(), Some("/dev/vdc1"));
        assert_eq!(at("/tmpfile").as_deref(), Some("/dev/vda"));
    }

    #[test]
    fn a_partition_belongs_to_its_disk() {
        let root =
            std::env::temp_dir().join(format!("ringleader-bench-sys-{}", std::process::id()));
        let partition = root.join("vda/vda1");
        fs::create_dir_all(&partition).expect("a directory in the temporary directory");
        fs::write(partition.join("partition"), "1\n").expect("a file");
        assert_eq!(whole_disk(partition), root.join("vda"));
        assert_eq!(whole_disk(root.join("vda")), root.join("vda"));
        fs::remove_dir_all(root).expect("it is ours");
    }
}
