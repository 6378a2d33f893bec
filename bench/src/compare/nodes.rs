//! A peer's cluster: three processes, their commands and answers, and what they cost.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use super::peer::{Answer, Applied, Peer, PeerMeasured, Ready, Roles};
use crate::children::die_with;
use crate::{cpu, signals};

/// How long a peer may take to start, to elect leaders, to answer, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
const SLICE: Duration = Duration::from_millis(50);
/// How often the nodes are asked the same again.
const POLL: Duration = Duration::from_millis(100);
/// Bytes of a node's standard error that are shown when it fails.
const LAST_WORDS: usize = 600;

/// What the nodes are started with.
pub(crate) struct Setup<'a> {
    pub(crate) directory: &'a Path,
    /// The first port of each node's.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) groups: u64,
    pub(crate) payload: u64,
    pub(crate) inflight: u64,
    pub(crate) rate: Option<u64>,
    /// `NAME=VALUE`, the peer's own.
    pub(crate) options: &'a [String],
}

struct Node {
    process: Child,
    stdin: Option<ChildStdin>,
    /// Where its standard error goes.
    remarks: PathBuf,
}

enum Event {
    Answer(Box<Answer>),
    Garbled(String),
    Closed,
}

/// The nodes of a peer's cluster. Dropping ends them all.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    events: Receiver<(usize, Event)>,
}

impl Nodes {
    pub(crate) fn start(peer: &Peer, setup: &Setup<'_>) -> anyhow::Result<Self> {
        let (sender, events) = channel();
        let mut nodes = Self { nodes: Vec::new(), events };
        for number in 1..=setup.addresses.len() {
            let data = setup.directory.join(format!("node-{number}"));
            std::fs::create_dir(&data).context("creating a node's directory")?;
            nodes.spawn(peer, setup, number, &data, &sender)?;
        }
        Ok(nodes)
    }

    fn spawn(
        &mut self,
        peer: &Peer,
        setup: &Setup<'_>,
        number: usize,
        data: &Path,
        sender: &Sender<(usize, Event)>,
    ) -> anyhow::Result<()> {
        let addresses: Vec<_> = setup.addresses.iter().map(ToString::to_string).collect();
        let remarks = setup.directory.join(format!("node-{number}.stderr"));
        let mut command = peer.node();
        command.args(["--id", &number.to_string(), "--addresses", &addresses.join(",")]);
        command.arg("--data-dir").arg(data);
        command.args(["--payload", &setup.payload.to_string()]);
        command.args(["--inflight", &setup.inflight.to_string()]);
        command.args(["--groups", &setup.groups.to_string()]);
        if let Some(rate) = setup.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        for option in setup.options {
            command.args(["--option", option]);
        }
        let stderr = File::create(&remarks).context("creating a file for a node's remarks")?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).process_group(0);
        let parent = std::process::id();
        // SAFETY: between fork and exec only the async-signal-safe `die_with` runs.
        unsafe { command.pre_exec(move || die_with(parent)) };
        let mut process = command.spawn().with_context(|| format!("starting {}", peer.name))?;
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let (index, sender) = (self.nodes.len(), sender.clone());
        self.nodes.push(Node { process, stdin, remarks });
        let stdout = BufReader::new(stdout.context("a node has no standard output")?);
        std::thread::spawn(move || read_answers(index, stdout, &sender));
        Ok(())
    }

    fn say(&mut self, word: &str) -> anyhow::Result<()> {
        for at in 0..self.nodes.len() {
            let stdin = self.nodes[at].stdin.as_mut();
            let said = stdin.map(|stdin| stdin.write_all(format!("{word}\n").as_bytes()));
            if !matches!(said, Some(Ok(()))) {
                return Err(self.obituary(at));
            }
        }
        Ok(())
    }

    /// Waits until every node has said something that `pick` takes.
    fn collect<T>(
        &mut self,
        what: &str,
        pick: impl Fn(Answer) -> Option<T>,
    ) -> anyhow::Result<Vec<T>> {
        let deadline = Instant::now() + PATIENCE;
        let mut answers: Vec<Option<T>> = self.nodes.iter().map(|_| None).collect();
        while let Some(missing) = answers.iter().position(Option::is_none) {
            signals::check()?;
            match self.events.recv_timeout(SLICE) {
                Ok((at, Event::Answer(answer))) => {
                    answers[at] = answers[at].take().or_else(|| pick(*answer));
                }
                Ok((at, Event::Garbled(line))) => bail!("node {} said {line:?}", at + 1),
                Ok((at, Event::Closed)) => return Err(self.obituary(at)),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(_) => {
                    let words = self.last_words(missing);
                    bail!("node {} did not say {what} within {PATIENCE:?}{words}", missing + 1);
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    pub(crate) fn ready(&mut self) -> anyhow::Result<Ready> {
        let ready = self.collect("that it is ready", |answer| match answer {
            Answer::Ready(ready) => Some(ready),
            _ => None,
        })?;
        ready.into_iter().next().context("there are no nodes")
    }

    /// Waits until every group is led by one node, and all know by whom.
    pub(crate) fn await_leaders(&mut self, groups: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.say("roles")?;
            let roles: Vec<Roles> = self.collect("what it leads", |answer| match answer {
                Answer::Roles(roles) => Some(roles),
                _ => None,
            })?;
            let mut led: Vec<u64> = roles.iter().flat_map(|roles| roles.leads.clone()).collect();
            led.sort_unstable();
            let known = roles.iter().all(|roles| roles.known == groups);
            if known && led == (1..=groups).collect::<Vec<_>>() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} of {groups} groups have a leader after {PATIENCE:?}", led.len());
            }
            std::thread::sleep(POLL);
        }
    }

    pub(crate) fn load(&mut self) -> anyhow::Result<()> {
        self.say("load")
    }

    pub(crate) fn measure(&mut self) -> anyhow::Result<()> {
        self.say("measure")
    }

    /// Ends the measured part; `at_end` runs before anybody waits for what is in flight.
    pub(crate) fn end<T>(
        &mut self,
        at_end: impl FnOnce(&Self) -> T,
    ) -> anyhow::Result<(T, Vec<PeerMeasured>)> {
        self.say("end")?;
        let seen = at_end(self);
        let measured = self.collect("what it measured", |answer| match answer {
            Answer::Measured(measured) => Some(measured),
            _ => None,
        })?;
        Ok((seen, measured))
    }

    /// Waits until all state machines agree on at least `least` operations; says who does not.
    pub(crate) fn agree(&mut self, least: u64) -> anyhow::Result<Result<u64, String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.say("applied")?;
            let applied: Vec<Applied> = self.collect("what it applied", |answer| match answer {
                Answer::Applied(applied) => Some(applied),
                _ => None,
            })?;
            let alike = applied.windows(2).all(|pair| pair[0] == pair[1]);
            let count = applied.first().map_or(0, |applied| applied.count);
            if alike && count >= least {
                return Ok(Ok(count));
            }
            if Instant::now() > deadline {
                return Ok(Err(format!(
                    "the replicas do not agree on {least} acknowledged operations: {applied:?}"
                )));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Processor time of all nodes so far, in nanoseconds, to 10 ms.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.nodes.iter().filter_map(|node| cpu::time_of(node.process.id())).sum()
    }

    /// The most resident memory that a node ever had, in bytes.
    pub(crate) fn rss_peak(&self) -> u64 {
        self.nodes.iter().map(|node| cpu::peak_of(node.process.id())).max().unwrap_or(0)
    }

    /// Ends the nodes by closing their input.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().for_each(|node| node.stdin = None);
        let deadline = Instant::now() + PATIENCE;
        for at in 0..self.nodes.len() {
            loop {
                match self.nodes[at].process.try_wait()? {
                    Some(status) if status.success() => break,
                    Some(_) => return Err(self.obituary(at)),
                    None if Instant::now() > deadline => bail!("node {} does not stop", at + 1),
                    None => std::thread::sleep(SLICE),
                }
            }
        }
        Ok(())
    }

    /// How a node ended that should not have.
    fn obituary(&mut self, at: usize) -> anyhow::Error {
        std::thread::sleep(SLICE);
        let how = match self.nodes[at].process.try_wait() {
            Ok(Some(status)) => format!("ended: {status}"),
            _ => "stopped talking".to_owned(),
        };
        anyhow!("node {} {how}{}", at + 1, self.last_words(at))
    }

    fn last_words(&self, at: usize) -> String {
        let text = std::fs::read(&self.nodes[at].remarks).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(LAST_WORDS)..];
        let tail = String::from_utf8_lossy(tail).trim().to_owned();
        if tail.is_empty() { tail } else { format!("; the last it wrote: {tail}") }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // One that has ended already needs no killing.
            let _ = node.process.kill();
            let _ = node.process.wait();
        }
    }
}

fn read_answers(node: usize, lines: impl BufRead, events: &Sender<(usize, Event)>) {
    for line in lines.lines().map_while(Result::ok) {
        let event = match serde_json::from_str(&line) {
            Ok(answer) => Event::Answer(Box::new(answer)),
            Err(_) => Event::Garbled(line.chars().take(200).collect()),
        };
        if events.send((node, event)).is_err() {
            return;
        }
    }
    // Nobody listens any more when the run is over.
    let _ = events.send((node, Event::Closed));
}
