//! Concurrent clients on few keys while nodes are killed and stopped: what they saw is checked for
//! linearizability, with the simulator's checker, and no lock is held by two.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::linearizability::register::{Input, Output, Register};
use crate::linearizability::{Operation, Verdict, check};
use crate::nodes::Nodes;
use crate::resp::{Client, Value};

const CLIENTS: u64 = 6;
const KEYS: u64 = 3;
/// Steps of a search, far above what a history here needs.
const BUDGET: u64 = 5_000_000;

/// xorshift: a client's choices, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

type Histories = HashMap<u64, Vec<Operation<Register>>>;

/// What all clients share.
struct Run {
    began: Instant,
    nodes: Vec<SocketAddr>,
    over: AtomicBool,
    histories: Mutex<Histories>,
    /// When each lock was asked for and had, and its token.
    tokens: Mutex<Vec<(u64, u64, i64)>>,
}

impl Run {
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn record(&self, key: u64, operation: Operation<Register>) {
        self.histories.lock().unwrap().entry(key).or_default().push(operation);
    }
}

/// What became of a command.
enum Outcome {
    Known(Value),
    /// Certainly nothing.
    Refused,
    Unknown,
}

struct Worker<'a> {
    run: &'a Run,
    random: Random,
    connection: Option<Client>,
    /// No two values are the same.
    next_value: u64,
}

impl Worker<'_> {
    fn work(&mut self) {
        while !self.run.over.load(Ordering::Relaxed) {
            match self.random.below(10) {
                0 => self.lock(),
                1 => self.pipeline(),
                _ => self.single(),
            }
        }
    }

    fn connection(&mut self) -> Option<&mut Client> {
        if self.connection.is_none() {
            let node = self.random.below(self.run.nodes.len() as u64) as usize;
            let client = Client::connect(self.run.nodes[node]).ok()?;
            let patience = Some(Duration::from_secs(2));
            client.stream.set_read_timeout(patience).ok()?;
            self.connection = Some(client);
        }
        self.connection.as_mut()
    }

    /// Sends commands at once; what became of each.
    fn send(&mut self, lines: &[String]) -> Vec<Outcome> {
        let Some(client) = self.connection() else {
            thread::sleep(Duration::from_millis(10));
            return lines.iter().map(|_| Outcome::Refused).collect();
        };
        let mut alive = client.try_send(lines).is_ok();
        let mut outcomes = Vec::new();
        for _ in lines {
            let reply = if alive { client.reply().ok() } else { None };
            alive = reply.is_some();
            outcomes.push(match reply {
                None => Outcome::Unknown,
                Some(Value::Error(text)) if text.starts_with("UNKNOWN") => Outcome::Unknown,
                Some(Value::Error(text)) => {
                    let certain = ["TRYAGAIN", "CLUSTERDOWN", "MOVED"];
                    assert!(certain.iter().any(|code| text.starts_with(code)), "{text}");
                    Outcome::Refused
                }
                Some(value) => Outcome::Known(value),
            });
        }
        // Another node each now and then.
        if !alive || self.random.below(20) == 0 {
            self.connection = None;
        }
        outcomes
    }

    fn choose(&mut self) -> Input {
        self.next_value += CLIENTS;
        let value = self.next_value;
        match self.random.below(4) {
            0 => Input::Put(value),
            1 => Input::Swap { from: value - self.random.below(20), to: value },
            _ => Input::Get,
        }
    }

    fn single(&mut self) {
        let key = self.random.below(KEYS);
        let input = self.choose();
        self.perform(key, &[input]);
    }

    /// Several on one key at once: they overlap, as far as the checker is concerned.
    fn pipeline(&mut self) {
        let key = self.random.below(KEYS);
        let inputs: Vec<Input> = (0..5).map(|_| self.choose()).collect();
        self.perform(key, &inputs);
    }

    fn perform(&mut self, key: u64, inputs: &[Input]) {
        let line = |input: &Input| match *input {
            Input::Get => format!("GET key-{key}"),
            Input::Swap { from, to } => format!("SET key-{key} {to} IFEQ {from}"),
            Input::Put(value) | Input::Append(value) => format!("SET key-{key} {value}"),
        };
        let lines: Vec<String> = inputs.iter().map(line).collect();
        let called = self.run.now();
        let outcomes = self.send(&lines);
        let now = self.run.now();
        for (input, outcome) in inputs.iter().zip(outcomes) {
            let returned = match outcome {
                Outcome::Refused => continue,
                Outcome::Unknown if matches!(input, Input::Get) => continue,
                Outcome::Unknown => None,
                Outcome::Known(value) => Some((now, output(input, &value))),
            };
            self.run.record(key, Operation { input: *input, called, returned, hint: None });
        }
    }

    /// Takes the lock, and leaves it, or lets its lease end.
    fn lock(&mut self) {
        let called = self.run.now();
        let owner = self.next_value;
        self.next_value += CLIENTS;
        let taken = self.send(&[format!("KV.LOCK lock {owner} 50")]);
        let [Outcome::Known(Value::Int(token))] = taken[..] else { return };
        self.run.tokens.lock().unwrap().push((called, self.run.now(), token));
        if self.random.below(2) == 0 {
            self.send(&[format!("KV.UNLOCK lock {token}")]);
        }
    }
}

fn output(input: &Input, reply: &Value) -> Output {
    match (input, reply) {
        (Input::Get, Value::Null) => Output::Value(0),
        (Input::Get, Value::Bulk(text)) => Output::Value(text.parse().unwrap()),
        (Input::Swap { .. }, reply) => Output::Swapped(reply.is_ok()),
        (_, reply) => {
            assert!(reply.is_ok(), "{reply:?}");
            Output::Done
        }
    }
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: the child was not waited for, so the number is still its own.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, signal) }, 0);
}

#[test]
fn nobody_sees_what_one_copy_could_not_have_shown() {
    let mut nodes = Nodes::three();
    let run = Run {
        began: Instant::now(),
        nodes: (0..3).map(|node| nodes.plain(node)).collect(),
        over: AtomicBool::new(false),
        histories: Mutex::default(),
        tokens: Mutex::default(),
    };
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let random = Random(0x9e37_79b9_7f4a_7c15 ^ (client << 17));
            let mut worker =
                Worker { run: &run, random, connection: None, next_value: client + 100 };
            scope.spawn(move || worker.work());
        }
        let mut random = Random(0x1234_5678_9abc_def1);
        for round in 0..6 {
            thread::sleep(Duration::from_millis(1_000));
            let node = random.below(3) as usize;
            if round % 2 == 0 {
                nodes.kill(node);
                thread::sleep(Duration::from_millis(500));
                nodes.start(node);
            } else {
                signal(nodes.pid(node), libc::SIGSTOP);
                thread::sleep(Duration::from_millis(1_500));
                signal(nodes.pid(node), libc::SIGCONT);
            }
        }
        nodes.wait_until_served();
        run.over.store(true, Ordering::Relaxed);
    });
    let histories = run.histories.into_inner().unwrap();
    for (key, history) in &histories {
        let known = history.iter().filter(|operation| operation.returned.is_some()).count();
        assert!(known > 50, "key {key}: {known} of {}", history.len());
        assert_eq!(check(history, BUDGET), Verdict::Linearizable, "key {key}");
    }
    check_tokens(&run.tokens.into_inner().unwrap());
}

/// Every holder has a token of its own, and a later one a higher one.
fn check_tokens(tokens: &[(u64, u64, i64)]) {
    assert!(tokens.len() > 5, "{}", tokens.len());
    for (called, returned, token) in tokens {
        for (other_called, other_returned, other) in tokens {
            let same = (called, returned) == (other_called, other_returned);
            assert!(same || token != other, "two hold the lock with token {token}");
            assert!(returned >= other_called || token < other, "{token} came before {other}");
        }
    }
}
