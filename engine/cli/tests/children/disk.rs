//! A disk of a node's own, which can be made to fail: a file with an ext4 in it, mounted where the
//! node's process alone sees it.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BYTES: u64 = 64 << 20;

/// See the [module documentation](self).
pub struct Disk {
    image: PathBuf,
}

/// A loop device; it goes when the last mount of it has gone.
struct Loop(PathBuf);

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn run(program: &str, args: &[&std::ffi::OsStr]) -> Result<String, String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{program}: {}", text(&output.stderr))),
    }
}

fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no zero in it")
}

impl Disk {
    /// A new and empty one.
    ///
    /// # Errors
    /// Why this machine has none: loop devices and mounts are root's, and not every container's.
    pub fn new(dir: &Path) -> Result<Self, String> {
        let image = dir.join("disk");
        let sized = File::create(&image).and_then(|file| file.set_len(BYTES));
        sized.map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_os_str()])?;
        let (disk, place) = (Self { image }, dir.join("probe"));
        fs::create_dir(&place).map_err(|error| error.to_string())?;
        let mut probe = Command::new("true");
        let device = disk.mount(&mut probe, &place)?;
        let status = probe.status().map_err(|error| format!("mounting: {error}"))?;
        drop(device);
        if status.success() { Ok(disk) } else { Err(status.to_string()) }
    }

    /// Has the command find the disk mounted on `place`; keep what comes back until it was started.
    ///
    /// # Errors
    /// There is no loop device.
    pub fn mount(&self, command: &mut Command, place: &Path) -> Result<impl Sized + use<>, String> {
        let found =
            run("losetup", &["--find".as_ref(), "--show".as_ref(), self.image.as_os_str()])?;
        let device = Loop(found.into());
        let (root, kind, from, to) =
            (text(Path::new("/")), text(Path::new("ext4")), text(&device.0), text(place));
        // A data directory that is made anew must find the directories of its shards empty.
        let lost = text(&place.join("lost+found"));
        let mount = move || {
            let none = std::ptr::null();
            // SAFETY: all strings outlive the calls.
            unsafe {
                done(libc::unshare(libc::CLONE_NEWNS))?;
                let private = libc::MS_REC | libc::MS_PRIVATE;
                done(libc::mount(none, root.as_ptr(), none, private, none.cast()))?;
                done(libc::mount(from.as_ptr(), to.as_ptr(), kind.as_ptr(), 0, none.cast()))?;
                // It is not there the second time.
                libc::rmdir(lost.as_ptr());
            }
            Ok(())
        };
        // SAFETY: only system calls are made between fork and exec.
        unsafe { command.pre_exec(mount) };
        Ok(device)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Detached as soon as nobody uses it any more.
        let detached = run("losetup", &["--detach".as_ref(), self.0.as_os_str()]);
        if let Err(cause) = detached {
            eprintln!("a loop device is left behind: {cause}");
        }
    }
}

/// Removes the files of a shard's log. It fails when it comes to the first that it has not opened.
pub fn remove_log(shard: &Path) {
    for entry in fs::read_dir(shard).expect("a directory") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            fs::remove_file(path).expect("it is there");
        }
    }
}

/// Has the disk that a process sees at `place` fail from now on, whatever is asked of it, as one that
/// was pulled out does.
pub fn pull_out(pid: u32, place: &Path) {
    /// `EXT4_IOC_SHUTDOWN` and `EXT4_GOING_FLAGS_NOLOGFLUSH` of the kernel's `fs/ext4/ext4.h`.
    const SHUTDOWN: libc::c_ulong = 0x8004_587d;
    static WITHOUT_FLUSH: u32 = 2;
    let seen_by_it = Path::new("/proc").join(pid.to_string()).join("root");
    let place = seen_by_it.join(place.strip_prefix("/").expect("an absolute path"));
    let dir = File::open(place).expect("it is mounted");
    // SAFETY: the call reads a number, which lives until it returns.
    let result = unsafe { libc::ioctl(dir.as_raw_fd(), SHUTDOWN as _, &raw const WITHOUT_FLUSH) };
    done(result).expect("ext4 can be shut down");
}
