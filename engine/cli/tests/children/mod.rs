//! Nodes that are processes of their own, each this very test once more (see [`serve`]), and the tool
//! that looks at them and changes them.
#![allow(unreachable_pub, reason = "it is a part of a test")]

pub mod disk;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_lite::future::block_on;
use ringleader::report::Exporter;
use ringleader::{
    Engine, EngineConfig, Entries, GroupConfig, GroupId, Member, NodeId, Replies, StateMachine,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::{DONE, NOT_LEADER, code, eventually, run};

const VARIABLE: &str = "RINGLEADER_TEST_PLACE";

/// Which node a process is.
#[derive(Clone, Serialize, Deserialize)]
pub struct Place {
    pub node: u64,
    pub dir: PathBuf,
    pub shards: u32,
    /// All nodes and where they are.
    pub members: BTreeMap<u64, SocketAddr>,
    /// The groups; who is added to them later names no voters.
    pub groups: Vec<u64>,
    pub voters: Vec<u64>,
}

/// So many addresses on loopback, all different and free, below the ports that the kernel gives to
/// outgoing connections, and not handed out again in this process.
pub fn addresses(count: usize) -> Vec<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(61);
    let mut free = Vec::new();
    while free.len() < count {
        let nth = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 22_000;
        let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + nth as u16));
        if TcpListener::bind(address).is_ok() {
            free.push(address);
        }
    }
    free
}

/// Panics the state machine that it is applied to.
pub const LAST_STRAW: u64 = u64::MAX;

/// The numbers that were applied, in order.
#[derive(Default)]
struct Numbers(Vec<u64>);

impl StateMachine for Numbers {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        let number =
            |payload: &[u8]| u64::from_le_bytes(payload[..8].try_into().expect("a number"));
        for entry in entries.iter() {
            assert_ne!(number(entry.payload), LAST_STRAW, "this is too much");
            self.0.push(number(entry.payload));
        }
    }
}

impl Place {
    fn config(&self) -> EngineConfig {
        let member = |(node, address): (&u64, &SocketAddr)| Member {
            node: NodeId(*node),
            address: *address,
            shards: self.shards,
        };
        let members = self.members.iter().map(member).collect();
        let mut config = EngineConfig::new(7, NodeId(self.node), members, self.dir.clone());
        config.raft.election_timeout = Duration::from_secs(1);
        config.raft.heartbeat_interval = Duration::from_millis(50);
        config.wal.segment_bytes = 4 << 20;
        config.net.backoff_max = Duration::from_millis(100);
        config.admin = true;
        let voters: Vec<NodeId> = self.voters.iter().copied().map(NodeId).collect();
        let group = |group: &u64| GroupConfig { group: GroupId(*group), voters: voters.clone() };
        config.groups = self.groups.iter().map(group).collect();
        config
    }
}

/// Runs a node, if this process was started as one, until its standard input ends: then it stops in
/// order. A node that can't start says why on standard error, and its exit code is 1.
pub fn serve() {
    let Ok(place) = std::env::var(VARIABLE) else { return };
    let place: Place = serde_json::from_str(&place).expect("a place");
    let engine = match Engine::start(place.config(), |_| Box::new(Numbers::default())) {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(1);
        }
    };
    let handle = engine.handle();
    let exporter = Exporter::start(([127, 0, 0, 1], 0).into(), handle.clone(), 100);
    println!("\nready {}", exporter.as_ref().expect("a port").address());
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        let group = GroupId(number(1));
        match words[0] {
            "propose" => match block_on(handle.propose(group, &number(2).to_le_bytes())) {
                Ok(_) => println!("done"),
                Err(error) => println!("{error:?}"),
            },
            "dump" => {
                let dump = block_on(handle.inspect(group, |numbers: &mut Numbers| {
                    serde_json::to_string(&numbers.0).expect("JSON")
                }));
                println!("{}", dump.unwrap_or_else(|error| format!("{error:?}")));
            }
            other => panic!("unknown command {other}"),
        }
    }
    engine.shutdown();
    std::process::exit(0);
}

/// A running node.
pub struct Node {
    pub place: Place,
    process: Child,
    commands: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    metrics: SocketAddr,
}

/// The command that runs a node. The process dies with the thread that starts it.
pub fn command(place: &Place) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "node_process", "--nocapture", "--test-threads=1"]);
    command.env(VARIABLE, serde_json::to_string(place).expect("JSON"));
    command.env_remove("RUST_BACKTRACE").stdin(Stdio::piped()).stdout(Stdio::piped());
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command
}

impl Node {
    pub fn start(place: &Place) -> Self {
        Self::start_with(place, command(place))
    }

    /// Starts it with a command of the test's own, and waits until it serves.
    pub fn start_with(place: &Place, mut command: Command) -> Self {
        let mut process = command.spawn().expect("a child");
        let commands = process.stdin.take();
        let mut answers = BufReader::new(process.stdout.take().expect("piped")).lines();
        let mut ready = answers.by_ref().map_while(Result::ok);
        let metrics = ready.find_map(|line| line.strip_prefix("ready ").map(str::to_owned));
        let metrics = metrics.expect("the node starts").parse().expect("an address");
        Self { place: place.clone(), process, commands, answers, metrics }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands.as_ref().expect("it runs"), "{command}").expect("it reads");
        self.answers.next().expect("it answers").expect("a line")
    }

    /// "done", or the error.
    pub fn propose(&mut self, group: u64, number: u64) -> String {
        self.ask(&format!("propose {group} {number}"))
    }

    /// What it applied, in order.
    pub fn dump(&mut self, group: u64) -> Vec<u64> {
        let dump = self.ask(&format!("dump {group}"));
        serde_json::from_str(&dump).unwrap_or_else(|_| panic!("{dump}"))
    }

    /// What it serves to Prometheus.
    pub fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.metrics).expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        answer
    }

    /// Runs the tool on it.
    pub fn tool(&self, args: &[&str]) -> Output {
        run(&self.place.dir, args)
    }

    /// What a command that succeeds says as JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.tool(&[args, &["--json"]].concat());
        assert_eq!(code(&output), DONE, "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Ends it in order.
    pub fn stop(mut self) {
        drop(self.commands.take());
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "node {} did not stop well: {status}", self.place.node);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Nodes, and what was acknowledged to their callers.
#[derive(Default)]
pub struct Cluster {
    pub nodes: BTreeMap<u64, Node>,
    acknowledged: BTreeMap<u64, Vec<u64>>,
    last: u64,
}

impl Cluster {
    pub fn node(&mut self, node: u64) -> &mut Node {
        self.nodes.get_mut(&node).expect("it runs")
    }

    /// A number that nobody proposed yet.
    pub fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Proposes numbers, wherever they are taken, until so many are acknowledged.
    pub fn propose(&mut self, group: u64, count: usize) {
        for _ in 0..count {
            let nodes: Vec<u64> = self.nodes.keys().copied().collect();
            eventually("an operation to be done", || {
                nodes.iter().find(|node| self.propose_at(**node, group) == "done").map(drop)
            });
        }
    }

    /// Proposes a number on one node.
    pub fn propose_at(&mut self, node: u64, group: u64) -> String {
        let number = self.next();
        let answer = self.node(node).propose(group, number);
        if answer == "done" {
            self.acknowledged.entry(group).or_default().push(number);
        }
        answer
    }

    /// Runs a command of the tool on whichever node leads.
    pub fn at_leader(&self, args: &[&str]) {
        eventually("the leader to do it", || {
            let outputs = self.nodes.values().map(|node| node.tool(args));
            let done = outputs.into_iter().find(|output| code(output) != NOT_LEADER)?;
            // What is refused now, for a leader is only just elected, is done later.
            (code(&done) == DONE).then_some(())
        });
    }

    /// All replicas come to have everything that was acknowledged, once, and in one order.
    pub fn check(&mut self, group: u64) {
        let acknowledged = self.acknowledged[&group].clone();
        let orders = eventually("every replica to have all that was acknowledged", || {
            let orders: Vec<_> = self.nodes.values_mut().map(|node| node.dump(group)).collect();
            orders.iter().all(|order| *order == orders[0]).then_some(orders)
        });
        let mut applied = orders[0].clone();
        let has = |number: &u64| orders[0].contains(number);
        assert!(acknowledged.iter().all(has), "of {acknowledged:?} there is {:?}", orders[0]);
        applied.sort_unstable();
        applied.dedup();
        assert_eq!(applied.len(), orders[0].len(), "something was applied twice");
    }
}

/// Runs a node that must end by itself, and must say each of these.
pub fn refused(place: &Place, says: &[&str]) -> String {
    let output =
        command(place).stdin(Stdio::null()).stderr(Stdio::piped()).output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(says.iter().all(|part| error.contains(part)), "{says:?}: {error}");
    error
}

/// Changes a bit of a batch in the middle of a shard's log; its file's name and the batch's offset.
pub fn damage_log(shard: &Path) -> (String, u64) {
    use std::os::unix::fs::FileExt as _;
    let dir = shard.display().to_string();
    let found = crate::cluster::tool(&["log", "inspect", "--batches", "--json", &dir]);
    let found: Value = serde_json::from_slice(&found.stdout).expect("JSON");
    let file = &found["shards"][0]["files"][0];
    let batches = file["batch_list"].as_array().expect("batches");
    let offset = batches[batches.len() / 2]["offset"].as_u64().expect("an offset");
    let name = file["file"].as_str().expect("a name").to_owned();
    let open = std::fs::File::options().read(true).write(true).open(shard.join(&name));
    let (segment, mut byte) = (open.expect("opens"), [0]);
    segment.read_exact_at(&mut byte, offset + 70).expect("reads");
    segment.write_all_at(&[byte[0] ^ 1], offset + 70).expect("writes");
    (name, offset)
}
