//! Processes that tests start, and what they wait for.

use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Far above what anything here takes: a test that meets it has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A program that dies with the thread that starts it.
pub(crate) fn child(program: &str) -> Command {
    let mut command = Command::new(program);
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Tries until there is something, and says how long that took.
pub(crate) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> (T, Duration) {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return (found, start.elapsed());
        }
        assert!(start.elapsed() < LONG, "waited too long for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A port that is free, and free 10000 above too. Both are below the ports that the kernel gives
/// to outgoing connections, so nothing takes them by accident.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at once begin at places of their own.
    let base = (std::process::id() % 600) as u16 * 20;
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut ports = (0..12_000).map(|_| {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        10_000 + (base + step % 12_000) % 12_000
    });
    ports.find(|port| free(*port) && free(*port + 10_000)).expect("a free pair of ports")
}
