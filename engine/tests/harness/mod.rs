//! Whole groups in one thread, with every delivery, loss and disk completion explicit. After each
//! call the members' invariants and the group's are checked.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod checker;
pub mod disk;
mod faults;
mod requests;
pub mod show;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ringleader::raft::invariants::{self, Summary};
use ringleader::raft::reads::ReadAnswer;
use ringleader::raft::{
    Committed, Configuration, Load, LogOp, Message, Output, Priorities, Raft, RaftConfig,
};
use ringleader::time::Time;
use ringleader_net::DataId;
use ringleader_wal::{Block, BlockKind, GroupId, LogIndex, LogPosition, NodeId, Run, Seq, Term};

use checker::Checker;
use disk::Disk;

pub const GROUP: GroupId = GroupId(7);

/// How finely time passes where everything works.
pub const STEP: Duration = Duration::from_millis(50);

/// One member and its machine.
#[derive(Clone)]
pub struct Node {
    pub raft: Option<Raft>,
    /// What survives a crash.
    pub disk: Disk,
    /// The same with everything that is staged.
    pub staged: Disk,
    pub batches: VecDeque<(Seq, Vec<LogOp>)>,
    /// The newest batch still takes records.
    pub batch_is_open: bool,
    pub gated: VecDeque<(Seq, NodeId, Message)>,
    pub loads: VecDeque<Load>,
    last_seq: Seq,
    summary: Option<Summary>,
    lives: u64,
}

#[derive(Clone)]
pub struct World {
    pub config: Arc<RaftConfig>,
    pub now: Time,
    pub nodes: BTreeMap<u64, Node>,
    pub links: BTreeMap<(u64, u64), VecDeque<Message>>,
    cuts: BTreeSet<(u64, u64)>,
    /// Those that don't come back.
    pub lost: BTreeSet<u64>,
    /// When each node last heard each other's beats, where they are connected. Without any, no group
    /// rests.
    beats: BTreeMap<(u64, u64), Time>,
    pub checker: Checker,
    /// What happened, when somebody wants to read it.
    pub trace: Option<String>,
    out: Output,
    /// The data directories of those who are connected, to everybody.
    pub data: BTreeMap<u64, DataId>,
    gathers_reads: bool,
    priorities: Option<Priorities>,
    /// What became of reads, and where.
    pub answered: Vec<(u64, ReadAnswer)>,
    seed: u64,
    proposed: u64,
}

pub fn entry(first: LogPosition, payload: &[u8]) -> Block {
    let ends = [u32::try_from(payload.len()).expect("short payloads")];
    let run = Run { payload, ends: &ends, base: 0 };
    Block::encode(GROUP, first, BlockKind::Operations, [run])
}

/// The configuration in which these decide.
pub fn voters(nodes: &[u64]) -> Configuration {
    let nodes: Vec<_> = nodes.iter().copied().map(NodeId).collect();
    Configuration::new(&nodes, &[])
}

impl Node {
    fn new(disk: Disk) -> Self {
        Self {
            raft: None,
            staged: disk.clone(),
            disk,
            batches: VecDeque::new(),
            batch_is_open: false,
            gated: VecDeque::new(),
            loads: VecDeque::new(),
            last_seq: Seq(0),
            summary: None,
            lives: 0,
        }
    }

    pub fn pending_batches(&self) -> usize {
        self.batches.len()
    }

    fn stage(&mut self, ops: Vec<LogOp>) -> Seq {
        if !self.batch_is_open || self.batches.is_empty() {
            // Other groups have batches too, so the numbers have gaps.
            self.last_seq = Seq(self.last_seq.0 + 1 + self.last_seq.0 % 2);
            self.batches.push_back((self.last_seq, Vec::new()));
        }
        self.batches.back_mut().expect("one was pushed").1.extend(ops);
        self.last_seq
    }
}

impl World {
    pub fn new(config: RaftConfig, disks: Vec<Disk>, seed: u64) -> Self {
        let all: Vec<u64> = (1..).take(disks.len()).collect();
        Self::beginning_with(config, disks, &all, seed)
    }

    /// Some of the members have a vote at first, and the others wait to be added.
    pub fn beginning_with(config: RaftConfig, disks: Vec<Disk>, first: &[u64], seed: u64) -> Self {
        config.validate().expect("a valid configuration");
        let nodes = (1..).zip(disks.into_iter().map(Node::new)).collect();
        let mut world = Self {
            config: Arc::new(config),
            now: Time(0),
            nodes,
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            lost: BTreeSet::new(),
            beats: BTreeMap::new(),
            checker: Checker::new(voters(first)),
            trace: None,
            out: Output::default(),
            data: BTreeMap::new(),
            gathers_reads: false,
            priorities: None,
            answered: Vec::new(),
            seed,
            proposed: 0,
        };
        for id in world.ids() {
            world.checker.adopt(&world.nodes[&id].disk);
            world.boot(id);
        }
        world
    }

    /// `count` members with empty logs.
    pub fn empty(config: RaftConfig, count: usize, seed: u64) -> Self {
        Self::new(config, vec![Disk::default(); count], seed)
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub fn raft(&self, id: u64) -> &Raft {
        self.nodes[&id].raft.as_ref().expect("the member is up")
    }

    pub fn is_up(&self, id: u64) -> bool {
        self.nodes[&id].raft.is_some()
    }

    pub fn leaders(&self) -> Vec<u64> {
        let leads = |id: &u64| self.is_up(*id) && self.raft(*id).is_leader();
        self.ids().into_iter().filter(leads).collect()
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let line = line();
            // Shown by the test runner when the test fails.
            println!("{line}");
            trace.push_str(&line);
            trace.push('\n');
        }
    }

    fn boot(&mut self, id: u64) {
        let first = &self.checker.first;
        let begins = first.contains(NodeId(id));
        let configuration = if begins { first.clone() } else { Configuration::default() };
        let node = self.nodes.get_mut(&id).expect("a member");
        node.lives += 1;
        let seed = self.seed ^ (id << 32) ^ node.lives;
        let restored = node.disk.restored();
        let mut raft = Raft::new(
            self.config.clone(),
            GROUP,
            NodeId(id),
            configuration,
            restored,
            seed,
            self.now,
        );
        if let Some(priorities) = &self.priorities {
            raft.set_priorities(priorities.clone());
        }
        node.summary = Some(Summary::of(&raft));
        node.raft = Some(raft);
        self.apply(id);
    }

    /// Who is to lead, from now on and after every restart.
    pub fn prefer(&mut self, priorities: &[(u64, u16)]) {
        let listed = priorities.iter().map(|(id, priority)| (NodeId(*id), *priority));
        self.priorities = Some(Priorities::new(&listed.collect::<Vec<_>>()));
        for id in self.ids() {
            let priorities = self.priorities.clone().expect("just set");
            self.call(id, |raft, _, _| raft.set_priorities(priorities));
        }
    }

    /// Calls one member, carries its effects out and checks everything.
    pub fn call(&mut self, id: u64, event: impl FnOnce(&mut Raft, Time, &mut Output)) {
        let now = self.now;
        let Some(raft) = self.nodes.get_mut(&id).and_then(|node| node.raft.as_mut()) else {
            return;
        };
        let commit = raft.status().commit;
        let heard = self.beats.iter().filter(|((by, _), _)| *by == id);
        self.out.heard = heard.map(|((_, from), at)| (NodeId(*from), *at)).collect();
        self.out.data = self.data.iter().map(|(node, data)| (NodeId(*node), *data)).collect();
        event(raft, now, &mut self.out);
        if std::mem::take(&mut self.out.reads_wait) && !self.gathers_reads {
            raft.serve_reads(now, &mut self.out);
        }
        self.carry_out(id);
        let status = self.raft(id).status();
        if status.commit > commit {
            self.say(|| format!("  n{id} commits {}", status.commit));
        }
        self.apply(id);
        self.check(id);
    }

    fn carry_out(&mut self, id: u64) {
        let mut out = std::mem::take(&mut self.out);
        for event in out.events.drain(..) {
            self.say(|| format!("  n{id} {}", show::event(&event)));
        }
        let node = self.nodes.get_mut(&id).expect("a member");
        let ops: Vec<_> = out.log.drain(..).collect();
        if !ops.is_empty() {
            let shown: Vec<_> = ops.iter().map(show::log_op).collect();
            for op in &ops {
                self.checker.on_log(&node.staged, op);
                node.staged.apply(op);
            }
            let seq = node.stage(ops);
            node.raft.as_mut().expect("it was just called").on_staged(seq);
            self.say(|| format!("  n{id} stages in {seq}: {}", shown.join(", ")));
        }
        for (to, message) in out.send.drain(..) {
            self.send(id, to, message);
        }
        for (to, message) in out.send_when_durable.drain(..) {
            let node = self.nodes.get_mut(&id).expect("a member");
            let seq = node.last_seq;
            if node.batches.is_empty() {
                self.send(id, to, message);
            } else {
                node.gated.push_back((seq, to, message.clone()));
                self.say(|| {
                    format!("  n{id} -> n{to} once {seq} is durable: {}", show::message(&message))
                });
            }
        }
        for answer in out.reads.drain(..) {
            self.say(|| format!("  n{id} {}", show::read(&answer)));
            self.answered.push((id, answer));
        }
        for load in out.loads.drain(..) {
            let Load { peer, from, .. } = load;
            self.nodes.get_mut(&id).expect("a member").loads.push_back(load);
            self.say(|| format!("  n{id} loads from {from} for n{peer}"));
        }
        self.out = out;
    }

    fn send(&mut self, from: u64, to: NodeId, message: Message) {
        self.checker.on_send(from, &self.nodes[&from].disk, to, &message);
        let lost = self.cuts.contains(&(from, to.0)) || !self.is_up(to.0);
        let note = if lost { " (lost)" } else { "" };
        self.say(|| format!("  n{from} -> n{to} {}{note}", show::message(&message)));
        if !lost {
            self.links.entry((from, to.0)).or_default().push_back(message);
        }
    }

    /// The state machine takes what is committed.
    fn apply(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a member");
        let raft = node.raft.as_mut().expect("the member is up");
        loop {
            let last = match raft.next_committed(64) {
                Committed::Nothing => break,
                Committed::Blocks(blocks) => {
                    let mut next = raft.status().applied.next();
                    for (block, first, last) in blocks.iter() {
                        assert_eq!(first, next, "applied in order");
                        assert!(block.first_index() <= first && last <= block.last_index());
                        for index in first.0..=last.0 {
                            let held = node.staged.entry(index).expect("in the log");
                            assert_eq!(held.payload, block.payload(LogIndex(index)));
                        }
                        next = last.next();
                    }
                    next.prev()
                }
                Committed::Load { through, .. } => through,
            };
            raft.on_applied(last);
        }
    }

    fn check(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a member");
        let raft = node.raft.as_ref().expect("the member is up");
        invariants::check(raft);
        if let Some(before) = &node.summary {
            invariants::check_step(before, raft);
        }
        node.summary = Some(Summary::of(raft));
        assert_eq!(raft.status().ignored, 0, "correct members say nothing impossible");
        self.checker.check(&self.nodes, id);
    }

    /// Lets the clock come to the member's deadline; nobody else notices.
    pub fn timeout(&mut self, id: u64) {
        let deadline = self.raft(id).deadline();
        if deadline == Time::NEVER {
            return;
        }
        self.now = self.now.max(deadline);
        let now = self.now;
        self.say(|| format!("{} ms: n{id} ticks", now.0 / 1_000_000));
        self.call(id, |raft, now, out| raft.tick(now, out));
    }

    /// Lets time pass; members tick when they are due, in order.
    pub fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let up = self.ids().into_iter().filter(|id| self.is_up(*id));
            let due = up.map(|id| (self.raft(id).deadline(), id)).min();
            let Some((_, id)) = due.filter(|(at, _)| *at <= end) else { break };
            self.timeout(id);
        }
        self.now = end;
    }

    /// Lets time pass while everything works.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.advance(STEP.min(end.since(self.now)));
            self.settle();
        }
    }

    pub fn in_flight(&self) -> Vec<(u64, u64)> {
        self.links.iter().filter(|link| !link.1.is_empty()).map(|link| *link.0).collect()
    }

    /// Takes the message at a place of the link's queue.
    pub fn take(&mut self, from: u64, to: u64, at: usize) -> Option<Message> {
        self.links.get_mut(&(from, to))?.remove(at)
    }

    pub fn arrive(&mut self, from: u64, to: u64, message: Message) {
        self.say(|| format!("n{to} <- n{from} {}", show::message(&message)));
        self.call(to, |raft, now, out| raft.step(now, NodeId(from), message, out));
    }

    pub fn deliver(&mut self, from: u64, to: u64) -> bool {
        let message = self.take(from, to, 0);
        let delivered = message.is_some();
        if let Some(message) = message {
            self.arrive(from, to, message);
        }
        delivered
    }

    /// Completes the oldest `count` WAL batches of a member.
    pub fn durable(&mut self, id: u64, count: usize) -> bool {
        let node = self.nodes.get_mut(&id).expect("a member");
        let count = count.min(node.batches.len());
        if count == 0 || node.raft.is_none() {
            return false;
        }
        let mut seq = Seq(0);
        for (batch, ops) in node.batches.drain(..count) {
            ops.iter().for_each(|op| node.disk.apply(op));
            seq = batch;
        }
        self.say(|| format!("n{id} durable through {seq}"));
        self.complete(id, seq);
        true
    }

    /// Tells a member that `seq` is durable, and lets go what waited for it.
    pub fn complete(&mut self, id: u64, seq: Seq) {
        self.call(id, |raft, now, out| raft.on_durable(now, seq, out));
        loop {
            let node = self.nodes.get_mut(&id).expect("a member");
            let all_durable = node.batches.is_empty();
            match node.gated.front() {
                Some((needed, ..)) if *needed <= seq || all_durable => {
                    let (_, to, message) = node.gated.pop_front().expect("it has a front");
                    self.send(id, to, message);
                }
                _ => break,
            }
        }
    }

    /// Answers a member's oldest load.
    pub fn load(&mut self, id: u64) -> bool {
        let node = self.nodes.get_mut(&id).expect("a member");
        let Some(load) = node.loads.pop_front() else { return false };
        let blocks = node.staged.read(load.from, load.max_bytes);
        self.say(|| format!("n{id} loaded from {} for n{}", load.from, load.peer));
        self.call(id, |raft, now, out| raft.on_loaded(now, load.peer, load.from, blocks, out));
        true
    }

    /// Completes and delivers everything, again and again, until nothing happens any more.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut busy = false;
            for id in self.ids() {
                busy |= self.durable(id, usize::MAX) | self.load(id);
            }
            for (from, to) in self.in_flight() {
                busy |= self.deliver(from, to);
            }
            if !busy {
                return;
            }
        }
        panic!("the group never comes to rest");
    }

    pub fn term_at(&self, id: u64, index: u64) -> Option<Term> {
        self.nodes[&id].staged.entry(index).map(|entry| entry.term)
    }
}
