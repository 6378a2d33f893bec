//! The Unix socket: who may talk, how many at a time, for how long.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::{Outcome, Refusal, Response, SOCKET, VERSION, answer};
use crate::handle::Handle;

/// A request is at most so long.
const REQUEST_BYTES: u64 = 64 << 10;
/// Callers at a time.
const CALLERS: usize = 8;
/// A caller that asks nothing for so long, or takes no answer, is left.
const PATIENCE: Duration = Duration::from_secs(30);

/// The open socket; dropping it closes it and takes its name away.
pub(crate) struct Admin {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Opens the socket in a directory that this process holds.
    ///
    /// # Errors
    /// When it can't be made: a path above some 100 bytes is one reason.
    pub(crate) fn open(dir: &Path, handle: Handle) -> io::Result<Self> {
        let path = dir.join(SOCKET);
        let aside = dir.join("admin.new");
        // What an earlier process left.
        [&path, &aside].into_iter().for_each(|old| drop(fs::remove_file(old)));
        let listener = UnixListener::bind(&aside)?;
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o600))?;
        fs::rename(&aside, &path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("ringleader-admin".into())
            .spawn(move || accept(&listener, &handle, &stopped))?;
        Ok(Self { path, stop, thread: Some(thread) })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let woken = UnixStream::connect(&self.path).is_ok();
        // Whether it goes or not: the next start removes it.
        let _ = fs::remove_file(&self.path);
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            // It has nothing to say, and a panic in it has been printed.
            let _ = thread.join();
        }
    }
}

fn accept(listener: &UnixListener, handle: &Handle, stop: &AtomicBool) {
    // Every caller's thread holds it.
    let seat = Arc::new(());
    for caller in listener.incoming() {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let Ok(caller) = caller else {
            // No descriptors, as a rule: they don't come back at once.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let taken = Arc::clone(&seat);
        if Arc::strong_count(&seat) > CALLERS + 1 {
            let refusal = Refusal::new("busy", format!("{CALLERS} others are asking"));
            // One that does not want to know is no concern of the node's.
            let _ =
                caller.set_write_timeout(Some(PATIENCE)).and_then(|()| say(&caller, Err(refusal)));
            continue;
        }
        let handle = handle.clone();
        let served = std::thread::Builder::new().name("ringleader-admin".into()).spawn(move || {
            let _taken = taken;
            if let Err(error) = serve(&caller, &handle) {
                tracing::debug!(%error, "an admin connection ended");
            }
        });
        if let Err(error) = served {
            tracing::warn!(%error, "no thread for an admin connection");
        }
    }
}

fn serve(caller: &UnixStream, handle: &Handle) -> io::Result<()> {
    caller.set_read_timeout(Some(PATIENCE))?;
    caller.set_write_timeout(Some(PATIENCE))?;
    let mut requests = BufReader::new(caller);
    loop {
        let mut line = Vec::new();
        let read = requests.by_ref().take(REQUEST_BYTES).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && read as u64 == REQUEST_BYTES {
            let refusal = Refusal::new("malformed", "the request is too long");
            return say(caller, Err(refusal));
        }
        say(caller, answer(&line, handle))?;
    }
}

fn say(mut caller: &UnixStream, outcome: Result<Value, Refusal>) -> io::Result<()> {
    let outcome = match outcome {
        Ok(value) => Outcome::Ok(value),
        Err(refusal) => Outcome::Error(refusal),
    };
    let mut line = serde_json::to_vec(&Response { version: VERSION, outcome })?;
    line.push(b'\n');
    caller.write_all(&line)
}
