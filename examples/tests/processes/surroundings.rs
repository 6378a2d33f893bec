//! What the machine around a server may refuse: io_uring, its directory, room on the disk.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::cluster::{Cluster, counter, ends, wait_for};

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has every `io_uring_setup` of the child fail with `errno`, as an old kernel or a container does.
fn forbid_io_uring(command: &mut Command, errno: i32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The system call's number is the first word of what the filter sees.
    let filter = [
        step(LOAD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program =
            libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: prctl reads the program, which lives until it returns, and nothing else.
        unsafe {
            done(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            done(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))
        }
    };
    // SAFETY: only system calls are made between fork and exec.
    unsafe { command.pre_exec(install) };
}

#[test]
fn a_kernel_without_io_uring_is_an_error_that_says_what_to_do() {
    let cluster = Cluster::new(1);
    for (errno, says) in [(libc::ENOSYS, "Linux 5.8"), (libc::EPERM, "seccomp")] {
        let mut command = cluster.server(0);
        forbid_io_uring(&mut command, errno);
        ends(&mut command, 1, &["io_uring", says]);
    }
}

/// Takes from the child, which may be root's, the right to write where the mode forbids it.
fn obey_modes(command: &mut Command) {
    const SECBIT_NOROOT: libc::c_ulong = 1;
    const SECBIT_NOROOT_LOCKED: libc::c_ulong = 2;
    let obey = || {
        // SAFETY: the calls take no pointers. Who is not root may not change the bits, and need not.
        unsafe {
            if libc::geteuid() == 0 {
                let bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED;
                done(libc::prctl(libc::PR_SET_SECUREBITS, bits))?;
            }
        }
        Ok(())
    };
    // SAFETY: only system calls are made between fork and exec.
    unsafe { command.pre_exec(obey) };
}

#[test]
fn a_directory_that_cannot_be_written_to_is_refused() {
    let cluster = Cluster::new(1);
    let dir = cluster.data_dir(0);
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o500)).unwrap();
    let mut command = cluster.server(0);
    obey_modes(&mut command);
    ends(&mut command, 1, &["data directory", "server-0", "denied"]);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "something was written to it");
}

/// What the file system holds, and how much of it is taken: the rest has room for two of the
/// counter's segments of 8 MiB, of which one is kept in reserve.
const SIZE: &str = "size=34M";
const BYTES: i64 = 34 << 20;
const TAKEN: i64 = 14 << 20;

/// Mounts a small file system on `dir` that the child alone sees, and takes so much of it.
fn fill_for_child(command: &mut Command, dir: &Path, taken: i64) {
    let text = |text: &str| CString::new(text).expect("no zero in it");
    let path = |path: &Path| text(path.to_str().expect("a plain path"));
    let (filler, dir) = (path(&dir.join("filler")), path(dir));
    let (root, kind, size) = (text("/"), text("tmpfs"), text(SIZE));
    let fill = move || {
        let none = std::ptr::null();
        // SAFETY: all strings outlive the calls.
        unsafe {
            let user = if libc::geteuid() == 0 { 0 } else { libc::CLONE_NEWUSER };
            done(libc::unshare(libc::CLONE_NEWNS | user))?;
            let private = libc::MS_REC | libc::MS_PRIVATE;
            done(libc::mount(none, root.as_ptr(), none, private, none.cast()))?;
            done(libc::mount(kind.as_ptr(), dir.as_ptr(), kind.as_ptr(), 0, size.as_ptr().cast()))?;
            let file = libc::open(filler.as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o600);
            done(file.min(0))?;
            done(libc::fallocate(file, 0, 0, taken))?;
            done(libc::close(file))
        }
    };
    // SAFETY: only system calls are made between fork and exec.
    unsafe { command.pre_exec(fill) };
}

/// A cluster of one whose server has its data on a file system of its own.
struct OnFullDisk {
    cluster: Cluster,
}

impl OnFullDisk {
    /// None, with a reason printed, where a process may not mount file systems.
    fn new() -> Option<Self> {
        let cluster = Cluster::new(1);
        let dir = cluster.data_dir(0);
        fs::create_dir(&dir).unwrap();
        let mut probe = Command::new("true");
        fill_for_child(&mut probe, &dir, TAKEN);
        if let Err(error) = probe.status() {
            println!("not tried: a process may not mount a file system here ({error})");
            return None;
        }
        Some(Self { cluster })
    }

    fn server(&self, taken: i64) -> Command {
        let (dir, address) = (self.cluster.data_dir(0), self.cluster.addresses[0].to_string());
        let mut command = counter();
        command.arg("server").arg("--data-dir").arg(dir.join("data"));
        command.args(["--group", "counter", "--peers", &address, "--listen", &address]);
        fill_for_child(&mut command, &dir, taken);
        command
    }

    /// The server refuses operations because its disk is full, and takes them once there is room.
    fn refuses_until_there_is_room(&self) {
        let (cluster, dir) = (&self.cluster, self.cluster.data_dir(0));
        let add = || cluster.ask(0, "counter add 5");
        wait_for("the disk to be full", || add().filter(|answer| answer.contains("disk is full")));
        let seen_by_it = Path::new("/proc").join(cluster.pid(0).to_string()).join("root");
        fs::remove_file(seen_by_it.join(dir.strip_prefix("/").unwrap()).join("filler")).unwrap();
        let (room, _) = wait_for("room", || add().filter(|answer| answer.starts_with("ok ")));
        let value: i64 = room["ok ".len()..].parse().unwrap();
        assert_eq!(cluster.value(&["add", "5"]), value + 5, "nothing refused was applied later");
    }
}

#[test]
fn a_full_disk_refuses_operations_and_room_lets_them_through() {
    let Some(mut full) = OnFullDisk::new() else { return };
    let server = full.server(TAKEN);
    full.cluster.start_with(0, server);
    full.refuses_until_there_is_room();
}

#[test]
fn a_disk_that_is_full_at_the_start_is_an_error_or_waited_for() {
    let Some(mut full) = OnFullDisk::new() else { return };
    ends(&mut full.server(BYTES), 1, &["data directory", "setting it up", "No space left"]);
    // Room for the directory and none for the log: it serves what needs none, and waits.
    let server = full.server(BYTES - (1 << 20));
    full.cluster.start_with(0, server);
    full.refuses_until_there_is_room();
}
