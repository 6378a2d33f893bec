//! A node: what the child processes run.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future::block_on;
use ringleader::{
    Consistency, Engine, EngineConfig, Handle, LogIndex, Member, MembershipChange, NodeId,
    Priorities, ProposeError, ReadLogError, RoleName, Term,
};
use serde::{Deserialize, Serialize};

use super::child::Status;
use super::load::{Load, list};
use super::machine::{Numbers, Told};
use super::process;
use crate::nodes::{self, GROUP};

/// What a test may want otherwise than most do. A node has what it was when it was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub election_timeout: Duration,
    /// Who is to lead, if it can.
    pub priorities: Vec<(NodeId, u16)>,
    /// What the group may have in flight.
    pub group_bytes: Option<usize>,
    /// Whether reads may rest on a lease.
    pub lease_reads: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let election_timeout = super::ELECTION_TIMEOUT;
        Self { election_timeout, priorities: Vec::new(), group_bytes: None, lease_reads: false }
    }
}

/// Which node this is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    pub node: u64,
    pub dir: PathBuf,
    /// So many of the nodes vote from the beginning.
    pub voters: usize,
    pub addresses: Vec<SocketAddr>,
    pub settings: Settings,
}

impl Place {
    pub fn config(&self) -> EngineConfig {
        let mut config = nodes::config(&self.addresses, self.node, 1, &self.dir);
        let settings = &self.settings;
        config.raft.election_timeout = settings.election_timeout;
        config.raft.lease_reads = settings.lease_reads.then_some(Duration::from_millis(30));
        config.limits.group_bytes = settings.group_bytes.unwrap_or(config.limits.group_bytes);
        if !settings.priorities.is_empty() {
            config.priorities.insert(GROUP, Priorities::new(&settings.priorities));
        }
        // Who is added later knows the group and nothing of its members.
        let among_first = self.node <= self.voters as u64;
        config.groups[0].voters.truncate(if among_first { self.voters } else { 0 });
        config
    }
}

/// Runs a node, if this process was started as one, until its standard input ends; then it stops in
/// order.
pub fn serve() {
    let Some(place) = process::place::<Place>() else { return };
    let told = Told::default();
    let (node, of_machine) = (NodeId(place.node), Arc::clone(&told));
    let machine = move |_| -> Box<dyn ringleader::StateMachine> {
        Box::new(Numbers::new(node, Arc::clone(&of_machine)))
    };
    let engine = Engine::start(place.config(), machine).unwrap_or_else(|error| panic!("{error}"));
    let node = Node { handle: engine.handle(), load: Arc::default(), told: Arc::clone(&told) };
    process::serve(|word, about| node.answer(word, about));
    engine.shutdown();
    println!("told {}", all(&told));
}

fn all(told: &Mutex<Vec<String>>) -> String {
    told.lock().expect("no panic under this lock").join(",")
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn outcome<T>(result: Result<T, impl std::fmt::Display>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "done".to_owned())
}

struct Node {
    handle: Handle,
    /// Whether it goes on.
    load: Arc<AtomicBool>,
    told: Told,
}

impl Node {
    fn answer(&self, word: &str, about: &str) -> Option<String> {
        let handle = &self.handle;
        Some(match word {
            "load" => {
                Load::start(handle, number(about), &self.load);
                return None;
            }
            // A load says itself when it has ended.
            "quiet" if self.load.swap(false, Ordering::Relaxed) => return None,
            "quiet" => String::new(),
            "status" => serde_json::to_string(&self.status()).expect("plain data"),
            "change" => self.change(about),
            "learner" => outcome(block_on(handle.add_learner(GROUP, NodeId(number(about))))),
            "transfer" => {
                outcome(block_on(handle.transfer_leadership(GROUP, Some(NodeId(number(about))))))
            }
            "member" => self.member(about),
            "bound" => self.bound(about),
            "burst" => self.burst(number(about)),
            "read" => self.read(about),
            "dump" => {
                let dump = block_on(handle.inspect(GROUP, |n: &mut Numbers| n.order.clone()));
                list(&dump.expect("the group is here"))
            }
            "log" => list(&self.log()),
            "told" => all(&self.told),
            "refusals" => {
                let report = block_on(handle.report()).expect("it runs");
                let reasons = report.shards[0].refusals.iter().map(|r| r.reason.clone());
                reasons.collect::<Vec<_>>().join(",")
            }
            other => panic!("unknown command {other}"),
        })
    }

    fn status(&self) -> Status {
        let status = block_on(self.handle.status(GROUP)).expect("the group is here");
        Status {
            leads: status.role == RoleName::Leader,
            leader: status.leader,
            term: status.term.0,
            last: status.last.index.0,
            applied: status.applied.0,
            rests: status.rests,
        }
    }

    /// Makes these the voters, if this node leads: "done", or why not.
    fn change(&self, voters: &str) -> String {
        let wanted: BTreeSet<NodeId> = voters.split(',').map(|n| NodeId(number(n))).collect();
        let status = block_on(self.handle.status(GROUP)).expect("the group is here");
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
        outcome(block_on(self.handle.change_members(GROUP, change)))
    }

    /// Hears that a node is at an address: `node address`.
    fn member(&self, about: &str) -> String {
        let (node, address) = about.split_once(' ').expect("a node and an address");
        let (node, address) = (NodeId(number(node)), address.parse().expect("an address"));
        outcome(self.handle.set_member(Member { node, address, shards: 1 }))
    }

    /// Proposes a number that is bound to a term, and the next one through a queue: `term number`.
    fn bound(&self, about: &str) -> String {
        let (term, first) = about.split_once(' ').expect("a term and a number");
        let (term, first) = (Term(number(term)), number(first));
        let [payload, next] = [first, first + 1].map(u64::to_le_bytes);
        let one = outcome(block_on(self.handle.propose_in_term(GROUP, term, &payload)));
        let mut queue = self.handle.queue(0, 1);
        queue.push_in_term(GROUP, term, 0, &next).expect("there is room");
        queue.submit().expect("there is room");
        let mut other: Option<Result<(), ProposeError>> = None;
        while other.is_none() {
            queue.wait(Duration::from_secs(1));
            queue.drain(|completion| other = Some(completion.result.map(drop)));
        }
        format!("{one}; {}", outcome(other.expect("it was answered")))
    }

    /// Proposes the numbers below `end` all at once, and those for which there is no room again,
    /// until all are applied: how often there was none.
    fn burst(&self, end: u64) -> String {
        let (mut numbers, mut busy): (Vec<u64>, u64) = ((1..end).collect(), 0);
        while !numbers.is_empty() {
            let propose = |number: u64| {
                let payload = number.to_le_bytes();
                (number, self.handle.try_propose(GROUP, &payload).expect("the shard has room"))
            };
            let proposed: Vec<_> = numbers.drain(..).map(propose).collect();
            for (number, outcome) in proposed {
                match block_on(outcome) {
                    Ok(_) => {}
                    Err(ProposeError::Busy) => numbers.push(number),
                    Err(error) => return error.to_string(),
                }
            }
            busy += numbers.len() as u64;
        }
        busy.to_string()
    }

    /// How many numbers there are.
    fn read(&self, how: &str) -> String {
        let how = match how {
            "lease" => Consistency::Lease,
            _ => Consistency::Linearizable,
        };
        let read = block_on(self.handle.read(GROUP, how, |n: &Numbers| n.order.len()));
        read.map_or_else(|error| error.to_string(), |count| count.to_string())
    }

    /// All numbers that can be read back.
    fn log(&self) -> Vec<u64> {
        let (mut from, mut found) = (LogIndex(1), Vec::new());
        loop {
            match block_on(self.handle.read_log(GROUP, from, 64 << 10)) {
                Ok(portion) => {
                    found.extend(portion.operations().map(|entry| Numbers::of(entry.payload)));
                    from = portion.next();
                }
                Err(ReadLogError::Beyond { .. }) => return found,
                Err(ReadLogError::Busy) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
