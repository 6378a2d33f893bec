//! A node: what the child processes run.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_lite::future::block_on;
use ringleader::{
    Engine, Entries, Handle, MembershipChange, NodeId, ProposeError, Queue, Replies, RoleName,
    StateMachine,
};

use crate::nodes::{self, GROUP};

/// Operations that a node has in flight.
const IN_FLIGHT: usize = 8;

/// Which node this is.
pub struct Place {
    pub node: u64,
    pub dir: PathBuf,
    /// So many of the nodes vote from the beginning.
    pub voters: usize,
    pub addresses: Vec<SocketAddr>,
}

impl Place {
    /// The variable through which a child process hears its place.
    pub const VARIABLE: &'static str = "RINGLEADER_TEST_NODE";

    pub fn write(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(SocketAddr::to_string).collect();
        let (dir, addresses) = (self.dir.display(), addresses.join(" "));
        format!("{} {} {addresses} {dir}", self.node, self.voters)
    }

    fn read(line: &str) -> Self {
        let mut words: VecDeque<&str> = line.split(' ').collect();
        let number = |word: Option<&str>| word.and_then(|w| w.parse().ok()).expect("a number");
        let (node, voters) = (number(words.pop_front()), number(words.pop_front()));
        let dir = words.pop_back().expect("a directory").into();
        let addresses = words.iter().map(|word| word.parse().expect("an address")).collect();
        Self { node, dir, voters: voters as usize, addresses }
    }

    fn start(&self) -> Engine {
        let mut config = nodes::config(&self.addresses, self.node, 1, &self.dir);
        config.raft.election_timeout = super::ELECTION_TIMEOUT;
        // Who is added later knows the group and nothing of its members.
        let among_first = self.node <= self.voters as u64;
        config.groups[0].voters.truncate(if among_first { self.voters } else { 0 });
        let engine = Engine::start(config, |_| Box::new(Numbers::default()));
        engine.unwrap_or_else(|error| panic!("{error}"))
    }
}

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

/// Runs a node, if this process was started as one, until its standard input ends. Commands come as
/// lines on standard input, answers go out as lines on standard output.
pub fn serve() {
    let Ok(place) = std::env::var(Place::VARIABLE) else { return };
    // Dies with the test, whatever becomes of it.
    // SAFETY: asks the kernel for a signal when the parent is gone; touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let engine = Place::read(&place).start();
    let handle = engine.handle();
    let loading = Arc::new(AtomicBool::new(false));
    println!("\nready");
    for line in std::io::stdin().lines() {
        match line.expect("readable").split_once(' ').expect("a command and an argument") {
            ("load", first) => {
                loading.store(true, Ordering::Relaxed);
                let (queue, loading) = (handle.queue(0, IN_FLIGHT), Arc::clone(&loading));
                let first = first.parse().expect("a number");
                let load = Load { queue, next: first, refused: Vec::new() };
                std::thread::spawn(move || load.run(&loading));
            }
            ("quiet", _) => {
                if !loading.swap(false, Ordering::Relaxed) {
                    println!("quiet");
                }
            }
            ("status", _) => {
                let status = block_on(handle.status(GROUP)).expect("the group is here");
                let leads = u8::from(status.role == RoleName::Leader);
                println!("status {leads} {} {}", status.term.0, status.applied.0);
            }
            ("change", voters) => println!("change {}", change(&handle, voters)),
            ("dump", _) => {
                let dump = block_on(handle.inspect(GROUP, |n: &mut Numbers| n.0.clone()));
                println!("dump {}", list(&dump.expect("the group is here")));
            }
            (other, _) => panic!("unknown command {other}"),
        }
    }
}

fn list(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

/// Makes these the voters, if this node leads: "done", or why not.
fn change(handle: &Handle, voters: &str) -> String {
    let wanted: BTreeSet<NodeId> =
        voters.split(',').map(|n| NodeId(n.parse().expect("a number"))).collect();
    let status = block_on(handle.status(GROUP)).expect("the group is here");
    let had: BTreeSet<NodeId> = status.configuration.voters().iter().copied().collect();
    if !status.configuration.is_joint() && had == wanted {
        return "done".to_owned();
    }
    let mut change = MembershipChange::default();
    for node in &wanted {
        change = change.voter(*node);
    }
    for node in had.difference(&wanted) {
        change = change.remove(*node);
    }
    match block_on(handle.change_members(GROUP, change)) {
        Ok(_) => "done".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Proposes rising numbers, several at once, and tells of each that was applied.
struct Load {
    queue: Queue,
    next: u64,
    /// Certainly not in the log: they are proposed again.
    refused: Vec<u64>,
}

impl Load {
    /// Until told to stop; then what is in flight is awaited.
    fn run(mut self, loading: &AtomicBool) {
        loop {
            if loading.load(Ordering::Relaxed) {
                self.push();
            } else if self.queue.outstanding() == 0 {
                break;
            }
            if self.queue.submit().is_err() {
                return;
            }
            self.queue.wait(Duration::from_secs(1));
            self.drain();
            if !self.refused.is_empty() {
                // The pace at which a node that does not lead tries again.
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        println!("quiet");
    }

    fn push(&mut self) {
        while self.queue.outstanding() < IN_FLIGHT {
            let number = self.refused.pop().unwrap_or_else(|| {
                self.next += 1;
                self.next
            });
            self.queue.push(GROUP, number, &number.to_le_bytes()).expect("there is room");
        }
    }

    fn drain(&mut self) {
        let mut acked = Vec::new();
        self.queue.drain(|completion| match completion.result {
            Ok(_) => acked.push(completion.user_data),
            Err(ProposeError::Unknown(_)) => {}
            Err(_) => self.refused.push(completion.user_data),
        });
        if !acked.is_empty() {
            println!("acked {}", list(&acked));
        }
    }
}
