//! Concurrent clients on few keys: what they see is checked for linearizability, with the simulator's
//! checker, and no lock is held by two.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::linearizability::register::{self, Input, Output, Register};
use crate::linearizability::{Operation, Verdict, check};
use crate::resp::{Client, Value};

const CLIENTS: u64 = 6;
const KEYS: u64 = 3;
/// Steps of a search, far above what a history here needs.
const BUDGET: u64 = 5_000_000;
/// Who waits longer for a reply takes the outcome for unknown.
const PATIENCE: Duration = Duration::from_secs(2);

/// xorshift: a client's choices, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Seeds that are alike make choices that are not.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

const MILLISECOND: u64 = 1_000_000;

/// A group's clock has milliseconds, which are rounded here and there.
const ROUNDING: u64 = 20 * MILLISECOND;

/// A lock that a client had, for sure, until a moment.
#[derive(Debug)]
struct Held {
    called: u64,
    returned: u64,
    until: u64,
    token: i64,
}

type Histories = HashMap<u64, Vec<Operation<Register>>>;

/// What all clients share.
pub(crate) struct Run {
    began: Instant,
    /// Where those connect that know no cluster.
    plain: Vec<SocketAddr>,
    /// Where those connect that do.
    cluster: Vec<SocketAddr>,
    over: AtomicBool,
    histories: Mutex<Histories>,
    held: Mutex<Vec<Held>>,
}

/// Has clients work, of both kinds, while `meanwhile` goes on; then checks what they saw.
pub(crate) fn check_while(
    plain: Vec<SocketAddr>,
    cluster: Vec<SocketAddr>,
    meanwhile: impl FnOnce(&mut Random),
) {
    let run = Run {
        began: Instant::now(),
        plain,
        cluster,
        over: AtomicBool::new(false),
        histories: Mutex::default(),
        held: Mutex::default(),
    };
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let kind = if client % 3 == 0 { Kind::Cluster } else { Kind::Plain };
            let mut worker = Worker {
                run: &run,
                kind,
                random: Random::new(client + 1),
                connection: None,
                next_value: client + 100,
            };
            scope.spawn(move || worker.work());
        }
        // Whatever becomes of this, the clients end.
        let _over = Over(&run.over);
        meanwhile(&mut Random::new(1_000));
    });
    run.check();
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Run {
    fn check(self) {
        let histories = self.histories.into_inner().unwrap();
        for (key, history) in &histories {
            let known = history.iter().filter(|operation| operation.returned.is_some()).count();
            assert!(known > 50, "key {key}: {known} of {}", history.len());
            let settled = settle(history);
            let verdict = verdict(&settled);
            if let Verdict::Violated { stuck, .. } | Verdict::OutOfBudget { stuck, .. } = &verdict {
                show(&settled, stuck);
            }
            assert_eq!(verdict, Verdict::Linearizable, "key {key}");
        }
        check_locks(&self.held.into_inner().unwrap());
    }

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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Any node does.
    Plain,
    /// Follows redirections, and reads from followers.
    Cluster,
}

struct Worker<'a> {
    run: &'a Run,
    kind: Kind,
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
            let nodes = match self.kind {
                Kind::Plain => &self.run.plain,
                Kind::Cluster => &self.run.cluster,
            };
            let node = nodes[self.random.below(nodes.len() as u64) as usize];
            self.connection = self.connect(node);
        }
        self.connection.as_mut()
    }

    fn connect(&mut self, node: SocketAddr) -> Option<Client> {
        let mut client = Client::connect_within(node, PATIENCE).ok()?;
        if self.kind == Kind::Cluster && self.random.below(2) == 0 {
            client.try_say("READONLY").ok()?;
        }
        Some(client)
    }

    /// Sends commands at once; what became of each.
    fn send(&mut self, lines: &[String]) -> Vec<Outcome> {
        let Some(client) = self.connection() else {
            thread::sleep(Duration::from_millis(10));
            return lines.iter().map(|_| Outcome::Refused).collect();
        };
        let mut alive = client.try_send(lines).is_ok();
        let (mut outcomes, mut moved) = (Vec::new(), None);
        for _ in lines {
            let reply = if alive { client.reply().ok() } else { None };
            alive = reply.is_some();
            outcomes.push(match reply {
                None => Outcome::Unknown,
                Some(Value::Error(text)) if text.starts_with("UNKNOWN") => Outcome::Unknown,
                Some(Value::Error(text)) => {
                    let certain = ["TRYAGAIN", "CLUSTERDOWN", "MOVED"];
                    assert!(certain.iter().any(|code| text.starts_with(code)), "{text}");
                    let address = text.strip_prefix("MOVED ").and_then(|to| to.split(' ').nth(1));
                    moved = address.and_then(|address| address.parse().ok()).or(moved);
                    Outcome::Refused
                }
                Some(value) => Outcome::Known(value),
            });
        }
        // Another node each now and then.
        if !alive || self.random.below(20) == 0 {
            self.connection = None;
        }
        if let Some(address) = moved {
            self.connection = self.connect(address);
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
        let lease = 500 + self.random.below(2_000);
        let owner = self.next_value;
        self.next_value += CLIENTS;
        let taken = self.send(&[format!("KV.LOCK lock {owner} {lease}")]);
        let [Outcome::Known(Value::Int(token))] = taken[..] else { return };
        let returned = self.run.now();
        let mut held = Held { called, returned, until: called + lease * MILLISECOND, token };
        if self.random.below(2) == 0 {
            let called = self.run.now();
            let renewed = self.send(&[format!("KV.RENEW lock {token} {lease}")]);
            if let [Outcome::Known(Value::Int(1))] = renewed[..] {
                held.until = called + lease * MILLISECOND;
            }
        }
        if self.random.below(2) == 0 {
            held.until = held.until.min(self.run.now());
            self.send(&[format!("KV.UNLOCK lock {token}")]);
        }
        self.run.held.lock().unwrap().push(held);
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

/// What an operation would leave there that nothing else does, and what it says of that.
fn brings(input: &Input) -> Option<(register::Value, Output)> {
    match *input {
        Input::Put(value) => Some((value, Output::Done)),
        Input::Swap { to, .. } => Some((to, Output::Swapped(true))),
        Input::Get | Input::Append(_) => None,
    }
}

/// An operation of unknown outcome whose value somebody saw was done, and before that. No two
/// operations bring the same value, so nobody else can have been seen. It saves the search from trying
/// all that such an operation might have been.
fn settle(history: &[Operation<Register>]) -> Vec<Operation<Register>> {
    let mut seen: HashMap<register::Value, u64> = HashMap::new();
    for Operation { input, returned, .. } in history {
        let Some((until, output)) = returned else { continue };
        let value = match (input, output) {
            (Input::Get, Output::Value(value)) => *value,
            (Input::Swap { from, .. }, Output::Swapped(true)) => *from,
            _ => continue,
        };
        let first = seen.entry(value).or_insert(*until);
        *first = (*until).min(*first);
    }
    let mut settled = history.to_vec();
    for operation in settled.iter_mut().filter(|operation| operation.returned.is_none()) {
        let done =
            brings(&operation.input).and_then(|(value, output)| Some((*seen.get(&value)?, output)));
        operation.returned = done;
    }
    settled
}

/// The verdict, first without those that nobody saw anything of: they need not have been done.
fn verdict(history: &[Operation<Register>]) -> Verdict {
    let known: Vec<_> =
        history.iter().filter(|operation| operation.returned.is_some()).cloned().collect();
    match check(&known, BUDGET) {
        Verdict::Linearizable => Verdict::Linearizable,
        _ => check(history, BUDGET),
    }
}

/// All that happened to a key, in the order of the calls, and what could not be explained.
fn show(history: &[Operation<Register>], stuck: &[usize]) {
    let millis = |nanos: u64| nanos as f64 / 1e6;
    let mut all: Vec<usize> = (0..history.len()).collect();
    all.sort_by_key(|at| history[*at].called);
    for at in all {
        let Operation { input, called, returned, .. } = &history[at];
        let mark = if stuck.contains(&at) { ">" } else { " " };
        let until = returned.as_ref().map(|(until, _)| millis(*until));
        let output = returned.as_ref().map(|(_, output)| output);
        eprintln!("{mark}{at:5} {:10.3} {until:?} {input:?} {output:?}", millis(*called));
    }
}

/// Nobody has the lock before the lease of the one before has ended, or that one has let go of it. Every
/// holder has a token of its own, and a later one a higher one.
fn check_locks(all: &[Held]) {
    assert!(all.len() > 5, "{}", all.len());
    for one in all {
        for other in all.iter().filter(|other| !std::ptr::eq(one, *other)) {
            assert!(one.token != other.token, "two hold the lock: {one:?} and {other:?}");
            let follows = one.returned >= other.called || one.token < other.token;
            assert!(follows, "a token that did not rise: {one:?} came before {other:?}");
            let alone = one.token > other.token || other.returned + ROUNDING >= one.until;
            assert!(alone, "two hold the lock: {one:?} and {other:?}");
        }
    }
}
