//! Starts, asks, kills and restarts servers.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::children::child;
pub(crate) use crate::children::{free_port, wait_for};

/// The counter's command line. The child dies with the thread that starts it.
pub(crate) fn counter() -> Command {
    child(env!("CARGO_BIN_EXE_counter"))
}

/// Where the servers talk Raft to each other.
pub(crate) fn raft(clients: SocketAddr) -> SocketAddr {
    SocketAddr::new(clients.ip(), clients.port() + 10_000)
}

/// Servers of one cluster with their directories. They end with it.
pub(crate) struct Cluster {
    pub(crate) addresses: Vec<SocketAddr>,
    servers: Vec<Option<Child>>,
    dir: TempDir,
}

impl Cluster {
    /// A cluster of which no server runs yet.
    pub(crate) fn new(size: usize) -> Self {
        let address = |_| SocketAddr::from(([127, 0, 0, 1], free_port()));
        Self {
            addresses: (0..size).map(address).collect(),
            servers: (0..size).map(|_| None).collect(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn started(size: usize) -> Self {
        let mut cluster = Self::new(size);
        (0..size).for_each(|server| cluster.start(server));
        cluster
    }

    pub(crate) fn peers(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        addresses.join(",")
    }

    pub(crate) fn data_dir(&self, server: usize) -> PathBuf {
        self.dir.path().join(format!("server-{server}"))
    }

    fn log_file(&self, server: usize) -> PathBuf {
        self.dir.path().join(format!("server-{server}.log"))
    }

    /// The command line of a server.
    pub(crate) fn server(&self, server: usize) -> Command {
        let mut command = counter();
        command.arg("server").arg("--data-dir").arg(self.data_dir(server));
        command.args(["--group", "counter", "--peers", &self.peers()]);
        command.args(["--listen", &self.addresses[server].to_string()]);
        command
    }

    pub(crate) fn start(&mut self, server: usize) {
        self.start_with(server, self.server(server));
    }

    /// Starts a server with a command line of the test's own.
    pub(crate) fn start_with(&mut self, server: usize, mut command: Command) {
        let log = File::options().create(true).append(true).open(self.log_file(server)).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        assert!(self.servers[server].replace(child).is_none(), "server {server} runs already");
    }

    /// Starts it and waits until it takes connections.
    pub(crate) fn start_and_wait(&mut self, server: usize) {
        self.start(server);
        let address = self.addresses[server];
        wait_for("the server to listen", || TcpStream::connect(address).ok());
    }

    pub(crate) fn pid(&self, server: usize) -> u32 {
        self.servers[server].as_ref().expect("the server was started").id()
    }

    /// SIGKILL: the process has no say in it.
    pub(crate) fn kill(&mut self, server: usize) {
        let mut child = self.servers[server].take().expect("the server was started");
        assert_eq!(child.try_wait().unwrap(), None, "server {server} ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        // The kernel lets go of what a killed process's io_uring held some milliseconds after the
        // process is gone, and that includes its listening socket.
        let port = raft(self.addresses[server]);
        wait_for("the port to be free again", || TcpListener::bind(port).ok());
    }

    /// SIGTERM: asks it to end.
    pub(crate) fn terminate(&mut self, server: usize) -> ExitStatus {
        // SAFETY: the child was not waited for, so the number is still its own.
        let sent = unsafe { libc::kill(self.pid(server) as libc::pid_t, libc::SIGTERM) };
        assert_eq!(sent, 0);
        let mut child = self.servers[server].take().expect("the server was started");
        wait_for("the server to end", || child.try_wait().unwrap()).0
    }

    pub(crate) fn client_to(&self, peers: &str, args: &[&str]) -> Output {
        let mut command = counter();
        command.args(["client", "--group", "counter", "--peers", peers]);
        command.args(args).output().unwrap()
    }

    pub(crate) fn client(&self, args: &[&str]) -> Output {
        self.client_to(&self.peers(), args)
    }

    /// What a client prints that must succeed.
    pub(crate) fn value(&self, args: &[&str]) -> i64 {
        let output = self.client(args);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{args:?}: {out}{err}");
        out.lines().last().unwrap().parse().unwrap()
    }

    /// One request to one server, without the client's cleverness.
    pub(crate) fn ask(&self, server: usize, request: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.addresses[server]).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        stream.write_all(format!("{request}\n").as_bytes()).ok()?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).ok()?;
        answer.strip_suffix('\n').map(str::to_owned)
    }

    /// The server that leads, and how long it took to find it.
    pub(crate) fn leader(&self) -> (usize, Duration) {
        wait_for("a leader", || {
            let running = (0..self.servers.len()).filter(|&at| self.servers[at].is_some());
            let leads = |&at: &usize| {
                self.ask(at, "counter add 0").is_some_and(|answer| answer.starts_with("ok "))
            };
            running.into_iter().find(leads)
        })
    }

    /// Waits until a server follows one that it can name.
    pub(crate) fn wait_until_following(&self, server: usize) -> String {
        let redirect = || {
            let answer = self.ask(server, "counter add 0")?;
            answer.strip_prefix("redirect ").map(str::to_owned)
        };
        wait_for("a follower", redirect).0
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().flatten() {
            // It may have ended, which is for the test to judge.
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            for server in 0..self.servers.len() {
                let log = fs::read_to_string(self.log_file(server)).unwrap_or_default();
                eprintln!("--- server {server}\n{log}");
            }
        }
    }
}

/// Runs a command that must end by itself with this code, and say each of these on stderr.
pub(crate) fn ends(command: &mut Command, code: i32, says: &[&str]) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (status, _) = wait_for("the command to end", || child.try_wait().unwrap());
    let (out, err) = texts(&child.wait_with_output().unwrap());
    assert_eq!(status.code(), Some(code), "{command:?}: {out}{err}");
    assert_eq!(out, "", "{command:?}");
    assert!(says.iter().all(|text| err.contains(text)), "{command:?}: {says:?}: {err}");
    assert!(!err.contains("panicked"), "{command:?}: {err}");
}

/// What a process wrote to stdout and stderr.
pub(crate) fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
