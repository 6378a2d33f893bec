//! A test's own executable, run again as a process that is told and asked things in lines.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a process does between fork and exec: nothing that allocates or takes a lock.
pub type Before = Box<dyn FnMut() -> std::io::Result<()> + Send + Sync>;

const PATIENCE: Duration = Duration::from_secs(60);

/// The variable through which a child process hears what it is to be.
const PLACE: &str = "RINGLEADER_TEST_NODE";

/// A process that runs the test `node_process` of this executable, which has to call [`serve`]. It
/// is killed when this is dropped.
pub struct Process {
    child: Child,
    /// None once it is to end.
    commands: RefCell<Option<ChildStdin>>,
    answers: Receiver<String>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts one that finds `place`, and does `before` in its process first. Lines that `keeps` are no
    /// answers.
    pub fn spawn(
        place: &impl Serialize,
        before: Option<Before>,
        keeps: impl FnMut(&str) -> bool + Send + 'static,
    ) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command
            .args(["--exact", "node_process", "--nocapture", "--test-threads=1"])
            .env(PLACE, serde_json::to_string(place).expect("plain data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(before) = before {
            // SAFETY: it neither allocates nor takes a lock.
            unsafe { command.pre_exec(before) };
        }
        let mut child = command.spawn().expect("a child");
        let output = child.stdout.take().expect("piped");
        let (sender, answers) = channel();
        let reader = Some(thread::spawn(move || read(output, keeps, &sender)));
        let commands = RefCell::new(child.stdin.take());
        Self { child, commands, answers, reader }
    }

    /// Sends a line.
    pub fn say(&self, line: &str) {
        let mut commands = self.commands.borrow_mut();
        writeln!(commands.as_mut().expect("piped"), "{line}").expect("the child reads");
    }

    /// What the next line says that begins with `word`.
    pub fn hear(&self, word: &str) -> String {
        loop {
            let answer = self.answers.recv_timeout(PATIENCE).expect("the child answers in time");
            match answer.split_once(' ').unwrap_or((&answer, "")) {
                (first, rest) if first == word => return rest.to_owned(),
                _ => {}
            }
        }
    }

    /// Sends a word and what it is about, and waits for its answer.
    pub fn ask(&self, word: &str, about: &str) -> String {
        self.say(&format!("{word} {about}"));
        self.hear(word)
    }

    /// Waits until it serves.
    pub fn ready(&self) {
        self.hear("ready");
    }

    /// SIGKILL, without waiting for its end.
    pub fn signal_kill(&mut self) {
        self.child.kill().expect("killed");
    }

    /// SIGKILL; the lines that it got out before count.
    pub fn kill(mut self) {
        self.signal_kill();
        self.end();
    }

    /// Has it end in order, and brings what it said of that.
    pub fn stop(mut self) -> Vec<String> {
        self.commands.take();
        assert!(self.end().success(), "the node stops in order");
        self.answers.try_iter().collect()
    }

    /// Waits until it is gone and all its lines are read.
    fn end(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("it ends");
        self.reader.take().expect("it was not gone").join().expect("its output was in order");
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is gone already, or is now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes on all lines but those that somebody keeps.
fn read(output: ChildStdout, mut keeps: impl FnMut(&str) -> bool, answers: &Sender<String>) {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    // The last line may have been cut off within a number, and a cut number is another one.
    while output.read_line(&mut line).is_ok() && line.ends_with('\n') {
        let text = line.trim_end();
        if !keeps(text) {
            // The test does not listen any more to a node that it killed.
            drop(answers.send(text.to_owned()));
        }
        line.clear();
    }
}

/// What this process is to be, if it was started by [`Process::spawn`].
pub fn place<P: DeserializeOwned>() -> Option<P> {
    let place = std::env::var(PLACE).ok()?;
    // Dies with the test, whatever becomes of it.
    // SAFETY: asks the kernel for a signal when the parent is gone; touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    Some(serde_json::from_str(&place).expect("a place"))
}

/// Answers what comes on standard input, until that ends; `None` is answered later, or never.
pub fn serve(mut answer: impl FnMut(&str, &str) -> Option<String>) {
    println!("\nready");
    for line in std::io::stdin().lines() {
        let line = line.expect("readable");
        let (word, about) = line.split_once(' ').unwrap_or((&line, ""));
        if let Some(answer) = answer(word, about) {
            println!("{word} {answer}");
        }
    }
}
