//! A node's process, as the test sees it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringleader::NodeId;

use super::ledger::Ledger;
use super::node::Place;

const PATIENCE: Duration = Duration::from_secs(60);

/// What a node says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    pub leads: bool,
    pub term: u64,
    pub applied: u64,
}

/// A running node.
pub struct Child {
    process: std::process::Child,
    commands: RefCell<ChildStdin>,
    answers: Receiver<String>,
    reader: JoinHandle<()>,
}

impl Child {
    /// Starts a node, in the network namespace that this file stands for.
    pub fn spawn(place: &Place, namespace: Option<File>, ledger: Arc<Ledger>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command
            .args(["--exact", "node_process", "--nocapture", "--test-threads=1"])
            .env(Place::VARIABLE, place.write())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(namespace) = namespace {
            let enter = move || {
                // SAFETY: a system call that is safe between fork and exec; the descriptor is open.
                match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            };
            // SAFETY: the closure neither allocates nor takes a lock.
            unsafe { command.pre_exec(enter) };
        }
        let mut process = command.spawn().expect("a child");
        let output = process.stdout.take().expect("piped");
        let (sender, answers) = channel();
        let reader = thread::spawn(move || read(output, &ledger, &sender));
        let commands = RefCell::new(process.stdin.take().expect("piped"));
        Self { process, commands, answers, reader }
    }

    /// Sends a command.
    pub fn say(&self, command: &str) {
        writeln!(self.commands.borrow_mut(), "{command}").expect("the child reads");
    }

    /// The next answer that begins with `word`.
    fn hear(&self, word: &str) -> String {
        loop {
            let answer = self.answers.recv_timeout(PATIENCE).expect("the child answers in time");
            if let Some(rest) = answer.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Waits until it serves.
    pub fn ready(&self) {
        self.hear("ready");
    }

    /// Ends its load, and waits for what it has in flight.
    pub fn quiet(&self) {
        self.say("quiet .");
        self.hear("quiet");
    }

    pub fn status(&self) -> Status {
        self.say("status .");
        let status = self.hear("status");
        let numbers: Vec<u64> = status.split(' ').map(|n| n.parse().expect("a number")).collect();
        let [leads, term, applied] = numbers[..] else { panic!("{status}") };
        Status { leads: leads == 1, term, applied }
    }

    /// Whether it made these the voters.
    pub fn change(&self, voters: &BTreeSet<NodeId>) -> bool {
        let voters: Vec<String> = voters.iter().map(|node| node.0.to_string()).collect();
        self.say(&format!("change {}", voters.join(",")));
        self.hear("change") == "done"
    }

    /// What it applied, in order.
    pub fn dump(&self) -> Vec<u64> {
        self.say("dump .");
        let dump = self.hear("dump");
        dump.split(',').filter(|n| !n.is_empty()).map(|n| n.parse().expect("a number")).collect()
    }

    pub fn signal_kill(&mut self) {
        self.process.kill().expect("killed");
    }

    /// SIGKILL; the acknowledgements that it got out before count.
    pub fn kill(mut self) {
        self.signal_kill();
        self.process.wait().expect("gone");
        self.reader.join().expect("its output was in order");
    }
}

/// Keeps acknowledgements, and passes on all other lines.
fn read(output: ChildStdout, ledger: &Ledger, answers: &Sender<String>) {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    // The last line may have been cut off within a number, and a cut number is another one.
    while output.read_line(&mut line).is_ok() && line.ends_with('\n') {
        match line.trim_end().strip_prefix("acked ") {
            Some(numbers) => {
                ledger.ack(numbers.split(',').map(|n| n.parse().expect("a number")));
            }
            // The test does not listen any more to a node that it killed.
            None => drop(answers.send(line.trim_end().to_owned())),
        }
        line.clear();
    }
}
