//! The processes of a run: started, spoken to, watched, and ended with the orchestrator whatever
//! happens to it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use crate::control::{Failure, FromChild, ToChild};
use crate::signals;

/// Lines of a child's standard error that are shown when it fails.
const TAIL: usize = 40;
/// How soon a signal is noticed.
const SLICE: Duration = Duration::from_millis(50);

/// A child said that it can't go on.
#[derive(Debug)]
pub(crate) struct ChildFailed {
    pub(crate) reason: Failure,
    message: String,
}

impl std::fmt::Display for ChildFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ChildFailed {}

enum Event {
    Message(Box<FromChild>),
    Garbled(String),
    Closed,
}

struct Process {
    name: String,
    process: Child,
    stdin: ChildStdin,
    tail: Arc<Mutex<VecDeque<String>>>,
    stderr: Option<JoinHandle<()>>,
    /// It said that it is about to end.
    stopped: bool,
}

/// The children of a run. Dropping ends them all.
pub(crate) struct Children {
    processes: Vec<Process>,
    events: Receiver<(usize, Event)>,
    sender: Sender<(usize, Event)>,
    environment: Vec<(String, String)>,
    /// Whether the children's remarks are passed on as they come.
    verbose: bool,
}

impl Children {
    pub(crate) fn new() -> Self {
        Self::with_environment(&[])
    }

    /// Children that are started with these variables, besides this process's own.
    pub(crate) fn with_environment(variables: &[(String, String)]) -> Self {
        let (sender, events) = channel();
        let verbose = std::env::var_os("RUST_LOG").is_some();
        let environment = variables.to_vec();
        Self { processes: Vec::new(), events, sender, environment, verbose }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.processes.len()
    }

    /// What a child is called.
    pub(crate) fn name(&self, child: usize) -> &str {
        &self.processes[child].name
    }

    /// Starts this very program with another command. Gives the child's number, from zero.
    pub(crate) fn spawn(&mut self, name: &str, command: &str) -> anyhow::Result<usize> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut builder = Command::new(program);
        builder.arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        builder.envs(self.environment.iter().map(|(name, value)| (name, value)));
        // A group of its own, so that a terminal's ctrl-C reaches the orchestrator alone.
        builder.process_group(0);
        let parent = std::process::id();
        // SAFETY: between fork and exec only the async-signal-safe `die_with` runs.
        unsafe { builder.pre_exec(move || die_with(parent)) };
        let mut process = builder.spawn().with_context(|| format!("starting {name}"))?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            bail!("{name} has no pipes");
        };
        let index = self.processes.len();
        let sender = self.sender.clone();
        std::thread::spawn(move || read_messages(index, BufReader::new(stdout), &sender));
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let keep = Arc::clone(&tail);
        let prefix = self.verbose.then(|| name.to_owned());
        let stderr = std::thread::spawn(move || {
            read_remarks(BufReader::new(stderr), &keep, prefix.as_deref());
        });
        let name = name.to_owned();
        self.processes.push(Process {
            name,
            process,
            stdin,
            tail,
            stderr: Some(stderr),
            stopped: false,
        });
        Ok(index)
    }

    pub(crate) fn send(&mut self, child: usize, message: &ToChild) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let sent = self.processes[child].stdin.write_all(&line);
        // A child that is gone says more by its end than by a broken pipe.
        sent.map_err(|_| self.obituary(child))
    }

    /// The next message of any child; none when `deadline` comes first.
    ///
    /// # Errors
    /// When a child has failed or ended, or the run is interrupted.
    pub(crate) fn next(&mut self, deadline: Instant) -> anyhow::Result<Option<(usize, FromChild)>> {
        loop {
            signals::check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            let (child, event) = match self.events.recv_timeout(left.min(SLICE)) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) if left <= SLICE => return Ok(None),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => bail!("there are no children"),
            };
            match event {
                Event::Message(message) => match *message {
                    FromChild::Failed { reason, message } => {
                        let message = format!("{}: {message}", self.processes[child].name);
                        return Err(ChildFailed { reason, message }.into());
                    }
                    message => {
                        self.processes[child].stopped |= matches!(message, FromChild::Stopped);
                        return Ok(Some((child, message)));
                    }
                },
                Event::Garbled(line) => bail!("{} said {line:?}", self.processes[child].name),
                Event::Closed if self.processes[child].stopped => {}
                Event::Closed => return Err(self.obituary(child)),
            }
        }
    }

    /// Says `message` to the children and waits until each has answered what `pick` takes. Other
    /// messages are dropped.
    pub(crate) fn ask<T>(
        &mut self,
        children: std::ops::Range<usize>,
        message: &ToChild,
        patience: Duration,
        pick: impl Fn(FromChild) -> Option<T>,
    ) -> anyhow::Result<Vec<T>> {
        children.clone().try_for_each(|child| self.send(child, message))?;
        self.collect(children, patience, pick)
    }

    /// Waits until each child has said something that `pick` takes.
    pub(crate) fn collect<T>(
        &mut self,
        children: std::ops::Range<usize>,
        patience: Duration,
        pick: impl Fn(FromChild) -> Option<T>,
    ) -> anyhow::Result<Vec<T>> {
        let deadline = Instant::now() + patience;
        let mut answers: Vec<Option<T>> = children.clone().map(|_| None).collect();
        while let Some(missing) = answers.iter().position(Option::is_none) {
            let Some((child, message)) = self.next(deadline)? else {
                let child = children.start + missing;
                let (name, words) = (&self.processes[child].name, self.last_words(child));
                bail!("{name} did not answer within {patience:?}{words}");
            };
            if children.contains(&child) {
                let slot = &mut answers[child - children.start];
                *slot = slot.take().or_else(|| pick(message));
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Sends a signal to a child.
    pub(crate) fn signal(&self, child: usize, signal: libc::c_int) -> anyhow::Result<()> {
        let Process { name, process, .. } = &self.processes[child];
        // SAFETY: no pointers. The child was not waited for, so its number is still its own.
        let sent = unsafe { libc::kill(process.id() as libc::pid_t, signal) };
        if sent != 0 {
            let error = std::io::Error::last_os_error();
            return Err(error).with_context(|| format!("signal {signal} for {name}"));
        }
        Ok(())
    }

    /// The child is about to be killed: its end is no failure.
    pub(crate) fn expect_end(&mut self, child: usize) {
        self.processes[child].stopped = true;
    }

    /// Waits for a child that was killed.
    pub(crate) fn wait_for_end(&mut self, child: usize) -> anyhow::Result<()> {
        self.processes[child].process.wait()?;
        Ok(())
    }

    /// Ends all children in an orderly way.
    pub(crate) fn shut_down(mut self, patience: Duration) -> anyhow::Result<()> {
        let left = |process: &Process| !process.stopped;
        let all = 0..self.processes.len();
        let running: Vec<_> = all.filter(|child| left(&self.processes[*child])).collect();
        running.iter().try_for_each(|child| self.send(*child, &ToChild::Shutdown))?;
        for child in &running {
            let pick = |message| matches!(message, FromChild::Stopped).then_some(());
            if !self.processes[*child].stopped {
                self.collect(*child..child + 1, patience, pick)?;
            }
        }
        let deadline = Instant::now() + patience;
        for child in running {
            loop {
                let Process { name, process, .. } = &mut self.processes[child];
                match process.try_wait()? {
                    Some(status) if status.success() => break,
                    Some(_) => return Err(self.obituary(child)),
                    None if Instant::now() > deadline => bail!("{name} did not end"),
                    None => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        }
        Ok(())
    }

    /// How a child ended that should not have.
    fn obituary(&mut self, child: usize) -> anyhow::Error {
        let process = &mut self.processes[child];
        // It closed its output: it has ended or is about to.
        std::thread::sleep(SLICE);
        let how = match process.process.try_wait() {
            Ok(Some(status)) => format!("ended: {status}"),
            _ => "stopped talking".to_owned(),
        };
        if !how.starts_with("stopped")
            && let Some(stderr) = process.stderr.take()
        {
            // It ends with the pipe, and the pipe ended with the process.
            let _ = stderr.join();
        }
        anyhow!("{} {how}{}", self.processes[child].name, self.last_words(child))
    }

    fn last_words(&self, child: usize) -> String {
        let tail = self.processes[child].tail.lock().expect("no panic under this lock");
        if tail.is_empty() {
            return String::new();
        }
        let lines: Vec<_> = tail.iter().map(|line| format!("\n    {line}")).collect();
        format!("; the last it wrote:{}", lines.concat())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // One that has ended already needs no killing.
            let _ = process.process.kill();
            let _ = process.process.wait();
        }
    }
}

/// Has the kernel kill this process when its parent's thread ends.
pub(crate) fn die_with(parent: u32) -> std::io::Result<()> {
    // SAFETY: no pointers.
    let refused = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0;
    if refused {
        return Err(std::io::Error::last_os_error());
    }
    // The parent may have ended before the call.
    if std::os::unix::process::parent_id() != parent {
        return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

fn read_messages(child: usize, lines: impl BufRead, events: &Sender<(usize, Event)>) {
    for line in lines.lines().map_while(Result::ok) {
        let event = match serde_json::from_str(&line) {
            Ok(message) => Event::Message(Box::new(message)),
            Err(_) => Event::Garbled(line.chars().take(200).collect()),
        };
        if events.send((child, event)).is_err() {
            return;
        }
    }
    // Nobody listens any more when the run is over.
    let _ = events.send((child, Event::Closed));
}

fn read_remarks(lines: impl BufRead, tail: &Mutex<VecDeque<String>>, prefix: Option<&str>) {
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if let Some(prefix) = prefix {
            eprintln!("{prefix}: {line}");
        }
        let mut tail = tail.lock().expect("no panic under this lock");
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
}
