//! The thread that runs all groups' raft: it steps what has come, sends and hands to the writer
//! what comes of it, and applies what is committed. A leader's messages leave before its own write
//! is done, and raft goes on meanwhile (raft's asynchronous `Ready`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use peer_common::{Engine, Failure, Node, Operation, Proposal};
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, INVALID_ID, RawNode, StateRole};

use crate::log::Log;
use crate::transport::Transport;
use crate::writer::Task;

/// Of raft's clock.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// A turn takes no more than this many inputs, so that ticks aren't late.
const INPUTS: usize = 256;
/// Nor more proposals than these, so that what is large is written and sent in parts that overlap.
/// TiKV's `messages-per-tick` and `raft-write-size-limit`.
const PROPOSALS: usize = 4096;
const PROPOSAL_BYTES: usize = 1 << 20;

/// What the driver is told.
pub(crate) enum Input {
    Proposals(Vec<Proposal>),
    /// Groups and messages, from another node.
    Messages(Vec<(usize, Message)>),
    /// Groups and numbers of what the writer has made durable.
    Persisted(Vec<(usize, u64)>),
}

/// Where the load proposes.
pub(crate) struct Proposer(pub(crate) Sender<Input>);

impl Engine for Proposer {
    fn propose(&mut self, proposals: Vec<Proposal>) {
        self.0.send(Input::Proposals(proposals)).expect("the driver lives as long as the process");
    }
}

struct Group {
    raft: RawNode<Log>,
    /// The term in which this node leads.
    leading: Option<u64>,
    /// Indices and operations of `leading`, to be applied.
    pending: VecDeque<(u64, Operation)>,
    /// Numbers of the last `Ready` that the writer got, and that it has written.
    handed: u64,
    persisted: u64,
    /// Is in the driver's list of groups to look after.
    listed: bool,
}

pub(crate) struct Driver {
    node: Arc<Node>,
    transport: Arc<Transport>,
    tasks: Sender<Task>,
    groups: Vec<Group>,
    /// Groups that may have a `Ready`.
    listed: Vec<usize>,
    /// Applied in this turn.
    applied: Vec<Operation>,
    campaigned: bool,
}

impl Driver {
    pub(crate) fn new(
        node: Arc<Node>,
        (config, logs): (&Config, Vec<Log>),
        transport: Arc<Transport>,
        tasks: Sender<Task>,
    ) -> raft::Result<Self> {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let group = |log| {
            let raft = RawNode::new(config, log, &logger)?;
            let pending = VecDeque::new();
            Ok(Group { raft, leading: None, pending, handed: 0, persisted: 0, listed: false })
        };
        Ok(Self {
            groups: logs.into_iter().map(group).collect::<raft::Result<_>>()?,
            listed: Vec::new(),
            applied: Vec::new(),
            campaigned: false,
            node,
            transport,
            tasks,
        })
    }

    /// Runs until the process ends.
    pub(crate) fn run(mut self, inputs: &Receiver<Input>) {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let timeout = next_tick.saturating_duration_since(Instant::now());
            let first = inputs.recv_timeout(timeout).ok();
            let (mut proposals, mut bytes) = (0, 0);
            for input in first.into_iter().chain(inputs.try_iter().take(INPUTS)) {
                if let Input::Proposals(more) = &input {
                    proposals += more.len();
                    bytes += more.iter().map(|proposal| proposal.payload.len()).sum::<usize>();
                }
                self.take(input);
                if proposals >= PROPOSALS || bytes >= PROPOSAL_BYTES {
                    break;
                }
            }
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + TICK;
                self.tick();
            }
            for group in std::mem::take(&mut self.listed) {
                self.groups[group].listed = false;
                self.look_after(group);
            }
            self.transport.flush();
            if !self.applied.is_empty() {
                self.node.completions.applied(&mut self.applied);
            }
        }
    }

    fn list(&mut self, group: usize) {
        if !std::mem::replace(&mut self.groups[group].listed, true) {
            self.listed.push(group);
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Proposals(proposals) => {
                for run in proposals.chunk_by(|a, b| a.operation.group == b.operation.group) {
                    self.propose(run);
                }
            }
            Input::Messages(messages) => {
                for (group, message) in messages {
                    // Fails for what comes late or from an older term, which is no harm.
                    let _ = self.groups[group].raft.step(message);
                    self.list(group);
                }
            }
            Input::Persisted(numbers) => {
                for (group, number) in numbers {
                    self.groups[group].persisted = number;
                    self.groups[group].raft.on_persist_ready(number);
                    self.list(group);
                }
            }
        }
    }

    /// Proposes to one group, each operation as an entry of its own.
    fn propose(&mut self, proposals: &[Proposal]) {
        let Some(first) = proposals.first() else { return };
        let place = first.operation.group;
        let group = &mut self.groups[place];
        let entry =
            |proposal: &Proposal| Entry { data: proposal.payload.clone(), ..Entry::default() };
        let message = Message {
            msg_type: MessageType::MsgPropose,
            from: self.node.args.id,
            entries: proposals.iter().map(entry).collect(),
            ..Message::default()
        };
        let next = group.raft.raft.raft_log.last_index() + 1;
        // A follower would hand them on to the leader, which isn't what is to be measured.
        let proposed = match group.leading {
            Some(_) => group.raft.step(message).map_err(|error| error.to_string()),
            None => Err("not the leader".into()),
        };
        match proposed {
            Ok(()) => {
                let operations = proposals.iter().map(|proposal| proposal.operation);
                group.pending.extend((next..).zip(operations));
                self.list(place);
            }
            Err(message) => {
                for proposal in proposals {
                    let failure = Failure::Refused(message.clone());
                    self.node.completions.failed(proposal.operation, failure);
                }
            }
        }
    }

    fn tick(&mut self) {
        for group in 0..self.groups.len() {
            if self.groups[group].raft.tick() {
                self.list(group);
            }
        }
        if !self.campaigned && self.transport.connected() {
            self.campaigned = true;
            self.campaign();
        }
    }

    /// Stands for election at once in this node's share of the groups, so that leaders are evenly
    /// spread from the start. Should it fail, the timeouts decide.
    fn campaign(&mut self) {
        let nodes = self.node.args.addresses.len() as u64;
        for group in 0..self.groups.len() {
            let raft = &mut self.groups[group].raft;
            if group as u64 % nodes + 1 == self.node.args.id && raft.raft.leader_id == INVALID_ID {
                raft.campaign().expect("a voter can stand for election");
                self.list(group);
            }
        }
    }

    fn look_after(&mut self, place: usize) {
        while self.groups[place].raft.has_ready() {
            let group = &mut self.groups[place];
            let mut ready = group.raft.ready();
            if ready.ss().is_some() || ready.hs().is_some() {
                self.follow_role(place);
            }
            for message in ready.take_messages() {
                self.transport.send(place, &message);
            }
            self.apply(place, &ready.take_committed_entries());

            let group = &mut self.groups[place];
            let entries = ready.take_entries();
            // Before the write is done: raft reads its log meanwhile.
            group.raft.mut_store().append(&entries);
            // A commit index alone is not written: it is found again from the other nodes.
            let hard_state = ready.hs().filter(|_| ready.must_sync()).cloned();
            let number = ready.number();
            let messages = ready.take_persisted_messages();
            let waits = !messages.is_empty() && group.handed != group.persisted;
            if ready.must_sync() || waits {
                group.handed = number;
                let task = Task { group: place, number, entries, hard_state, messages };
                self.tasks.send(task).expect("the writer lives as long as the process");
            } else {
                messages.iter().for_each(|message| self.transport.send(place, message));
            }
            group.raft.advance_append_async(ready);
            group.raft.advance_apply();
        }
        self.trim(place);
    }

    /// Notes who leads now, and gives up what was proposed in a term that is over.
    fn follow_role(&mut self, place: usize) {
        let group = &mut self.groups[place];
        let raft = &group.raft.raft;
        let leading = (raft.state == StateRole::Leader).then_some(raft.term);
        let leader = Some(raft.leader_id).filter(|&id| id != INVALID_ID);
        if leading != group.leading {
            group.leading = leading;
            for (_, operation) in group.pending.drain(..) {
                let failure = Failure::Unknown("leadership was lost".into());
                self.node.completions.failed(operation, failure);
            }
        }
        self.node.roles.set(place, leader);
    }

    fn apply(&mut self, place: usize, entries: &[Entry]) {
        // A new leader's first entry is empty, and raft's own.
        let operations =
            entries.iter().map(|entry| &entry.data[..]).filter(|data| !data.is_empty());
        self.node.machines.apply(place, operations);
        let Some(last) = entries.last() else { return };
        let pending = &mut self.groups[place].pending;
        while let Some(&(index, operation)) = pending.front()
            && index <= last.index
        {
            pending.pop_front();
            self.applied.push(operation);
        }
    }

    fn trim(&mut self, place: usize) {
        let raft = &mut self.groups[place].raft;
        let applied = raft.raft.raft_log.applied;
        let everywhere = match raft.raft.state {
            StateRole::Leader => {
                let matched = raft.raft.prs().iter().map(|(_, progress)| progress.matched);
                matched.min().unwrap_or(0).min(applied)
            }
            _ => applied,
        };
        raft.mut_store().trim(everywhere, applied);
    }
}
