//! Three nodes of etcd, by the contract of `bench/peers/README.md`: they load themselves.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::args::NODES;
use super::caller::PATIENCE;
use super::interrupt;
use super::load::{Load, Measured, wait};
use super::meter::{Disk, Meter};
use super::processes::{Process, free_port, loopback};
use super::tally::Tally;

/// Ports that a node may take.
const PORTS: u16 = 10;
/// How often is looked whether there is a leader, and whether a node has ended.
const POLL: Duration = Duration::from_millis(100);

struct Node {
    process: Process,
    input: ChildStdin,
    /// The lines that it says.
    lines: Receiver<String>,
}

/// A cluster; it ends with this.
pub(crate) struct Etcd(Vec<Node>);

impl Etcd {
    /// Builds the node's program, and tells which etcd it has; or why there is none.
    pub(crate) fn build(folder: &Path) -> Result<String, String> {
        eprintln!("building etcd");
        let shown = folder.display();
        let mut build = Command::new(folder.join("build"));
        build.stdin(Stdio::null()).stdout(Stdio::null());
        let output = build.output().map_err(|error| format!("{shown}/build: {error}"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let last = text.lines().last().unwrap_or_default();
            return Err(format!("{shown}/build failed ({}): {last}", output.status));
        }
        let modules = fs::read_to_string(folder.join("go.mod")).unwrap_or_default();
        let mut words = modules.split_whitespace();
        words.find(|word| *word == "go.etcd.io/etcd/server/v3");
        Ok(words.next().unwrap_or("unknown").trim_start_matches('v').to_owned())
    }

    pub(crate) fn start(folder: &Path, load: &Load, directory: &Path) -> anyhow::Result<Self> {
        let above: Vec<u16> = (1..NODES as u16 * PORTS).collect();
        let port = free_port(&above)?;
        let address = |node: u16| loopback(port + node * PORTS).to_string();
        let addresses: Vec<_> = (0..NODES as u16).map(address).collect();
        let mut nodes = Vec::new();
        for number in 1..=NODES {
            let mut command = Command::new(folder.join("node"));
            command.args(["--id", &number.to_string(), "--addresses", &addresses.join(",")]);
            command.arg("--data-dir").arg(directory.join(format!("node-{number}")));
            command.args(["--payload", &load.payload.to_string()]);
            command.args(["--inflight", &load.inflight().to_string()]);
            command.args(["--option", &format!("reads={}", 100 - load.writes)]);
            command.args(["--option", &format!("grpc={}", load.connections)]);
            nodes.push(Node::start(number, command, directory)?);
        }
        let mut cluster = Self(nodes);
        for node in &mut cluster.0 {
            node.answer("ready")?;
        }
        cluster.await_leader()?;
        Ok(cluster)
    }

    fn say(&mut self, word: &str) -> anyhow::Result<()> {
        self.0.iter_mut().try_for_each(|node| node.say(word))
    }

    fn await_leader(&mut self) -> anyhow::Result<()> {
        let since = Instant::now();
        loop {
            self.say("roles")?;
            let mut known = true;
            for node in &mut self.0 {
                known &= node.answer("roles")?["known"] == 1;
            }
            if known {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                bail!("etcd has no leader after {PATIENCE:?}");
            }
            wait(POLL, || false)?;
        }
    }

    pub(crate) fn run(mut self, load: &Load, disk: Option<Disk>) -> anyhow::Result<Measured> {
        let servers = self.0.iter().map(|node| node.process.child.id()).collect();
        let meter = Meter { servers, disk };
        self.say("load")?;
        wait(load.warmup, || false)?;
        self.say("measure")?;
        let before = meter.read();
        wait(load.measured, || false)?;
        self.say("end")?;
        let mut cost = meter.read().since(&before);
        let mut tally = Tally::new();
        tally.measuring = true;
        for node in &mut self.0 {
            let measured = node.answer("measured")?;
            add(&mut tally, &measured)?;
            cost.seconds = cost.seconds.max(measured["seconds"].as_f64().unwrap_or(0.0));
        }
        Ok(Measured { tally, cost })
    }
}

/// Adds what a node measured.
fn add(tally: &mut Tally, measured: &Value) -> anyhow::Result<()> {
    let histogram = measured["histogram"].as_array().context("no histogram")?;
    for bar in histogram {
        let (Some(nanoseconds), Some(count)) = (bar[0].as_u64(), bar[1].as_u64()) else {
            bail!("{bar} in a histogram");
        };
        tally.record(Duration::from_nanos(nanoseconds), count);
    }
    let count = |name: &str| measured[name].as_u64().unwrap_or(0);
    let errors = count("errors") + count("unknown");
    if errors > 0 {
        tally.fail(measured["messages"][0].as_str().unwrap_or("an unknown outcome"));
        tally.errors += errors - 1;
    }
    Ok(())
}

impl Node {
    fn start(number: usize, mut command: Command, directory: &Path) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&format!("etcd-{number}"), command, directory)?;
        let input = process.child.stdin.take().context("no standard input")?;
        let output = process.child.stdout.take().context("no standard output")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { process, input, lines })
    }

    fn say(&mut self, word: &str) -> anyhow::Result<()> {
        let said = self.input.write_all(format!("{word}\n").as_bytes());
        said.with_context(|| format!("etcd hears nothing{}", self.process.last_words()))
    }

    /// What it says under this name.
    fn answer(&mut self, name: &str) -> anyhow::Result<Value> {
        let since = Instant::now();
        loop {
            match self.lines.recv_timeout(POLL) {
                Ok(line) => {
                    let mut said: Value =
                        serde_json::from_str(&line).with_context(|| format!("etcd: {line:?}"))?;
                    if let Some(answer) = said.get_mut(name) {
                        return Ok(answer.take());
                    }
                }
                Err(RecvTimeoutError::Timeout) if since.elapsed() < PATIENCE => interrupt::check()?,
                Err(_) => {
                    self.process.check()?;
                    bail!("etcd does not say {name:?}{}", self.process.last_words());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_node_measured_is_added() {
        let measured = json!({"seconds": 1.0, "histogram": [[5000, 3], [7000, 1]], "errors": 1,
            "unknown": 1, "messages": ["no"]});
        let mut tally = Tally::new();
        tally.measuring = true;
        add(&mut tally, &measured).unwrap();
        assert_eq!((tally.latencies.len(), tally.errors), (4, 2));
        assert_eq!(tally.first_error.as_deref(), Some("no"));
        assert!(add(&mut tally, &json!({"histogram": [["x"]]})).is_err());
    }
}
