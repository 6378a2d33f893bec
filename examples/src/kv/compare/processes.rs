//! Servers that are started and ended: processes, their ports, their last words.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::caller::PATIENCE;
use super::interrupt;

/// How often is looked whether something has come about.
const POLL: Duration = Duration::from_millis(20);
/// Bytes of what a process wrote that are shown when it failed.
const LAST_WORDS: usize = 600;
/// Below those that the kernel gives to outgoing connections, even with 10000 added.
const PORTS: std::ops::Range<u16> = 12_000..21_000;

/// A process that ends when this is dropped, and with the thread that started it.
pub(crate) struct Process {
    pub(crate) child: Child,
    name: String,
    remarks: PathBuf,
}

impl Process {
    /// Starts a program; what it writes to standard error goes to a file in the directory.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let remarks = directory.join(format!("{name}.stderr"));
        let file = File::create(&remarks).context("creating a file for a server's remarks")?;
        // A group of its own: the terminal's Ctrl-C is for this process, which ends the others.
        command.process_group(0).stderr(file);
        // SAFETY: prctl is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { child, name: name.to_owned(), remarks })
    }

    /// # Errors
    /// It has ended, and how.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended: {status}{}", self.name, self.last_words());
        }
        Ok(())
    }

    /// What it wrote last, as the end of a message.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read(&self.remarks).unwrap_or_default();
        let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(LAST_WORDS)..]);
        let tail = tail.trim();
        if tail.is_empty() { String::new() } else { format!("; the last it wrote: {tail}") }
    }

    /// The processes that it started itself, and that run.
    pub(crate) fn children(&self) -> anyhow::Result<Vec<u32>> {
        let process = self.child.id();
        let path = format!("/proc/{process}/task/{process}/children");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        Ok(text.split_whitespace().map_while(|number| number.parse().ok()).collect())
    }

    /// Tries until there is something, as long as the process runs.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut attempt: impl FnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let since = Instant::now();
        loop {
            match attempt() {
                Ok(found) => return Ok(found),
                Err(error) if since.elapsed() > PATIENCE => {
                    return Err(error.context(format!(
                        "{}: {what}{}",
                        self.name,
                        self.last_words()
                    )));
                }
                Err(_) => {}
            }
            self.check()?;
            interrupt::check()?;
            thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // SAFETY: the child was not waited for, so the number is still its own.
            unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        }
        let since = Instant::now();
        while since.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(POLL);
        }
        // One that has ended needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that hears nothing and whose output nobody wants.
pub(crate) fn quiet(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.stdin(Stdio::null()).stdout(Stdio::null()).env_remove("RUST_LOG");
    command
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A port that is free, and so far above it as these say.
pub(crate) fn free_port(above: &[u16]) -> anyhow::Result<u16> {
    let free = |port: &u16| {
        let free = |more: &u16| TcpListener::bind(loopback(port + more)).is_ok();
        free(&0) && above.iter().all(free)
    };
    let mut tries = std::iter::repeat_with(|| fastrand::u16(PORTS)).take(1000);
    tries.find(free).context("no free ports between 12000 and 31000")
}
