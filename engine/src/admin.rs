//! The operator's way in: a Unix socket in the data directory, `admin.sock`, which only the
//! process's user may open. The tool `ringleader` speaks it; so can anything that writes lines.
//!
//! One JSON object a line, in each direction, as many as the caller likes:
//!
//! ```text
//! -> {"version": 1, "command": "status"}
//! <- {"version": 1, "ok": {"node": 1, ...}}
//! <- {"version": 1, "error": {"code": "unknown-command", "message": "..."}}
//! ```
//!
//! Fields are added within a version; a version changes when one is taken away or means something
//! else.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_lite::future::block_on;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::handle::Handle;
use crate::report::Report;

/// The socket's name in the data directory.
pub const SOCKET: &str = "admin.sock";

/// The protocol's version.
pub const VERSION: u32 = 1;

/// A request is at most so long.
const REQUEST_BYTES: u64 = 64 << 10;
/// Callers at a time.
const CALLERS: usize = 8;
/// A caller that asks nothing for so long, or takes no answer, is left.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a caller asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// A command's name.
    pub command: String,
}

/// What it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Response {
    /// [`VERSION`].
    pub version: u32,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// See [`Response`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done; the command says what this is.
    Ok(Value),
    /// It was not.
    Error {
        /// For programs: `malformed`, `version`, `unknown-command`, `busy`, `stopped`.
        code: String,
        /// For people.
        message: String,
    },
}

type Failure = (&'static str, String);

/// A name, and what it makes of a report on the node.
type Command = (&'static str, fn(&Report) -> Value);

const COMMANDS: &[Command] = &[
    ("status", status),
    ("groups", |report| json!(report.groups)),
    ("peers", |report| {
        let links = report.shards.iter().map(|s| json!({ "shard": s.shard, "links": s.links }));
        let led = report.groups.iter().filter(|group| !group.status.peers.is_empty());
        json!({ "connections": links.collect::<Value>(), "groups": led.collect::<Vec<_>>() })
    }),
    ("metrics", |report| json!(report.shards)),
    ("dump", |report| json!({ "text": report.to_string(), "report": report })),
];

fn status(report: &Report) -> Value {
    let leads = report.groups.iter().filter(|g| g.status.leader == Some(report.node)).count();
    let leaderless = report.groups.iter().filter(|g| g.status.leader.is_none()).count();
    let shards = report.shards.iter().map(|shard| {
        let connected = shard.links.iter().filter(|link| link.connected).count();
        json!({
            "shard": shard.shard, "health": shard.health, "groups": shard.groups,
            "has_space": shard.log.has_space, "connected": connected,
            "connections": shard.links.len(),
        })
    });
    json!({
        "node": report.node, "cluster": report.cluster.to_string(), "version": report.version,
        "uptime_seconds": report.uptime.as_secs(), "groups": report.groups.len(),
        "leads": leads, "leaderless": leaderless, "shards": shards.collect::<Value>(),
    })
}

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
            let refusal = ("busy", format!("{CALLERS} others are asking"));
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
            return say(caller, Err(("malformed", "the request is too long".into())));
        }
        say(caller, answer(&line, handle))?;
    }
}

fn say(mut caller: &UnixStream, outcome: Result<Value, Failure>) -> io::Result<()> {
    let outcome = match outcome {
        Ok(value) => Outcome::Ok(value),
        Err((code, message)) => Outcome::Error { code: code.into(), message },
    };
    let mut line = serde_json::to_vec(&Response { version: VERSION, outcome })?;
    line.push(b'\n');
    caller.write_all(&line)
}

fn answer(line: &[u8], handle: &Handle) -> Result<Value, Failure> {
    let request: Request =
        serde_json::from_slice(line).map_err(|error| ("malformed", error.to_string()))?;
    if request.version != VERSION {
        let message = format!("this node speaks version {VERSION}, not {}", request.version);
        return Err(("version", message));
    }
    let known = COMMANDS.iter().find(|(name, _)| *name == request.command);
    let Some((_, run)) = known else {
        let names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
        let message = format!("no command {:?}; there are {}", request.command, names.join(", "));
        return Err(("unknown-command", message));
    };
    let report = block_on(handle.report()).map_err(|error| ("stopped", error.to_string()))?;
    Ok(run(&report))
}
