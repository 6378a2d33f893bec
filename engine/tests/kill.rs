//! Nodes as processes of their own, killed at any moment (SIGKILL), under load.
//!
//! The test runs its own executable again as a node: see [`node_process`].

mod nodes;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use nodes::{GROUP, addresses};
use ringleader::{Engine, EngineConfig, Entries, Replies, RoleName, StateMachine};

const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);

/// The numbers that were applied, in order.
#[derive(Default)]
struct Numbers(Vec<u64>);

impl StateMachine for Numbers {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        let number =
            |payload: &[u8]| u64::from_le_bytes(payload[..8].try_into().expect("a number"));
        self.0.extend(entries.iter().map(|entry| number(entry.payload)));
    }
}

/// Not a test by itself: what the child processes run. Commands come as lines on standard input,
/// answers go out as lines on standard output.
#[test]
fn node_process() {
    let Ok(arguments) = std::env::var("RINGLEADER_TEST_NODE") else { return };
    let mut arguments = arguments.split(' ');
    let node: u64 = arguments.next().expect("a number").parse().expect("a number");
    let dir = arguments.next().expect("a directory");
    let addresses: Vec<SocketAddr> = arguments.map(|a| a.parse().expect("an address")).collect();
    // Dies with the test, whatever becomes of it.
    // SAFETY: asks the kernel for a signal when the parent is gone; touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let engine =
        Engine::start(config(node, Path::new(dir), &addresses), |_| Box::new(Numbers::default()));
    let engine = engine.unwrap_or_else(|error| panic!("{error}"));
    println!("\nready");
    for line in std::io::stdin().lines() {
        match line.expect("readable").split_once(' ').expect("a command and a number") {
            ("load", from) => load(&engine, from.parse().expect("a number")),
            ("status", _) => {
                let status = block_on(engine.handle().status(GROUP)).expect("the group is here");
                let leads = u8::from(status.role == RoleName::Leader);
                println!("status {leads} {}", status.applied);
            }
            ("dump", _) => {
                let handle = engine.handle();
                let dump = block_on(handle.inspect(GROUP, |n: &mut Numbers| n.0.clone()));
                let dump = dump.expect("the group is here");
                println!("dump {}", dump.iter().map(u64::to_string).collect::<Vec<_>>().join(","));
            }
            (other, _) => panic!("unknown command {other}"),
        }
    }
}

/// Proposes rising numbers, many at once, and tells of each that was applied, until killed.
fn load(engine: &Engine, from: u64) {
    let mut queue = engine.handle().queue(0, 64);
    std::thread::spawn(move || {
        let mut next = from;
        loop {
            while queue.push(GROUP, next, &next.to_le_bytes()).is_ok() {
                next += 1;
            }
            if queue.submit().is_err() {
                return;
            }
            queue.wait(Duration::from_secs(1));
            let mut acked = Vec::new();
            queue.drain(|completion| {
                if completion.result.is_ok() {
                    acked.push(completion.user_data.to_string());
                }
            });
            if !acked.is_empty() {
                println!("acked {}", acked.join(","));
            }
        }
    });
}

fn config(node: u64, dir: &Path, addresses: &[SocketAddr]) -> EngineConfig {
    let mut config = nodes::config(addresses, node, 1, dir);
    config.raft.election_timeout = ELECTION_TIMEOUT;
    config
}

struct Node {
    child: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
    /// Numbers that this life of the process said were applied.
    acked: Vec<u64>,
}

impl Node {
    fn spawn(node: u64, dir: &Path, addresses: &[SocketAddr]) -> Self {
        let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        let arguments = format!("{node} {} {}", dir.display(), addresses.join(" "));
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "node_process", "--nocapture", "--test-threads=1"])
            .env("RINGLEADER_TEST_NODE", arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let commands = child.stdin.take().expect("piped");
        Self { child, commands, lines, acked: Vec::new() }
    }

    fn say(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("the child reads");
    }

    /// The next line that starts with `word`, keeping the acknowledgements on the way.
    fn hear(&mut self, word: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).expect("the child answers in time");
            self.keep(&line);
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    fn keep(&mut self, line: &str) {
        if let Some(numbers) = line.strip_prefix("acked ") {
            self.acked.extend(numbers.split(',').map(|n| n.parse::<u64>().expect("a number")));
        }
    }

    /// Waits until `count` more operations were acknowledged.
    fn hear_acked(&mut self, count: usize) {
        let enough = self.acked.len() + count;
        while self.acked.len() < enough {
            self.hear("acked ");
        }
    }

    fn status(&mut self) -> (bool, u64) {
        self.say("status 0");
        let status = self.hear("status ");
        let (leads, applied) = status.split_once(' ').expect("two numbers");
        (leads == "1", applied.parse().expect("a number"))
    }

    fn dump(&mut self) -> Vec<u64> {
        self.say("dump 0");
        let dump = self.hear("dump ");
        dump.split(',').filter(|n| !n.is_empty()).map(|n| n.parse().expect("a number")).collect()
    }

    /// SIGKILL; the acknowledgements that it got out before are kept.
    fn kill(mut self) -> Vec<u64> {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
        let rest: Vec<String> = self.lines.iter().collect();
        // The last line may have been cut off within a number, and a cut number is another one.
        let whole = rest.len().saturating_sub(1);
        rest[..whole].iter().for_each(|line| self.keep(line));
        std::mem::take(&mut self.acked)
    }
}

fn spawn_all(dir: &Path, addresses: &[SocketAddr]) -> Vec<Node> {
    let mut nodes: Vec<Node> =
        (1..).zip(addresses).map(|(n, _)| Node::spawn(n, dir, addresses)).collect();
    nodes.iter_mut().for_each(|node| drop(node.hear("ready")));
    nodes
}

fn leader(nodes: &mut [Node]) -> usize {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(leader) = nodes.iter_mut().position(|node| node.status().0) {
            return leader;
        }
        assert!(Instant::now() < deadline, "no leader in time");
        std::thread::yield_now();
    }
}

/// Checks that every replica comes to hold all that was ever acknowledged, each number once, and
/// all in the same order. A restarted node learns what is committed from its leader, so this takes
/// a moment.
fn check(nodes: &mut [Node], acked: &BTreeSet<u64>, round: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut orders = Vec::new();
    for (number, node) in (1..).zip(nodes) {
        orders.push(loop {
            let order = node.dump();
            let applied: BTreeSet<u64> = order.iter().copied().collect();
            assert_eq!(applied.len(), order.len(), "node {number}, round {round}: applied twice");
            let mut lost = acked.difference(&applied);
            let Some(first) = lost.next() else { break order };
            let more = lost.count();
            let late = Instant::now() > deadline;
            assert!(!late, "node {number}, round {round}: lost {first} and {more} more");
        });
    }
    for (number, order) in (1..).zip(&orders) {
        let common = order.len().min(orders[0].len());
        let same = order[..common] == orders[0][..common];
        assert!(same, "node {number}, round {round}: another order than node 1");
    }
}

#[test]
fn all_nodes_killed_under_load_lose_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let mut acked = BTreeSet::new();
    for round in 0..5_u64 {
        let mut nodes = spawn_all(dir.path(), &addresses);
        let leads = leader(&mut nodes);
        check(&mut nodes, &acked, round);
        // Each round dies at another moment of its load.
        nodes[leads].say(&format!("load {}", round * 1_000_000));
        nodes[leads].hear_acked(50 + 777 * round as usize);
        nodes.into_iter().for_each(|node| acked.extend(node.kill()));
    }
    assert!(acked.len() > 5 * 50);
    let mut nodes = spawn_all(dir.path(), &addresses);
    leader(&mut nodes);
    check(&mut nodes, &acked, 5);
}

#[test]
fn the_others_go_on_when_the_leader_is_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let mut nodes = spawn_all(dir.path(), &addresses);
    let first = leader(&mut nodes);
    nodes[first].say("load 0");
    nodes[first].hear_acked(1000);
    let mut acked: BTreeSet<u64> = nodes.remove(first).kill().into_iter().collect();
    let killed = Instant::now();
    let second = leader(&mut nodes);
    println!("a new leader after {:?} of {ELECTION_TIMEOUT:?}", killed.elapsed());
    nodes[second].say("load 1000000");
    nodes[second].hear_acked(1000);
    nodes.push(Node::spawn(first as u64 + 1, dir.path(), &addresses));
    nodes[2].hear("ready");
    acked.extend(nodes[second].acked.iter());
    check(&mut nodes, &acked, 0);
}
