//! One core's Raft groups, as a synchronous state machine: events in, effects out.
//!
//! A driver (the runtime, or a simulator) calls the event methods for everything that is ready,
//! then [`Shard::turn`] once, carries the [`Effects`] out, and waits for the next event. All groups
//! that a turn touched share one write to the log and one frame per peer. Nothing waits to make a
//! batch bigger: a batch is what arrived while the last turn ran.
//!
//! There is no clock here, no IO, no thread and no source of randomness but the seed.

mod apply;
mod beats;
mod bulk;
mod counters;
mod delivery;
mod durability;
mod effects;
mod existence;
mod group;
mod hooks;
mod identity;
mod lifecycle;
mod links;
mod log_reads;
mod membership;
mod peers;
mod port;
mod proposal;
mod reading;
mod reads;
mod resets;
mod slots;
mod snapshot;
mod status;
mod timers;
mod traffic;
mod transfers;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use ringleader_net::DataId;
use ringleader_wal::disk::{DiskError, DiskOutput, OpId};
use ringleader_wal::{GroupId, NodeId, NumberMap, ReadId, Seq, Term, Wal, WalEvent};

use crate::codec::{self, CodecError, FAR, NEAR, NEXT};
use crate::config::{GroupConfig, Limits, SnapshotConfig};
use crate::error::{ProposeError, StartError};
use crate::raft::{Configuration, Priorities, Raft, RaftConfig};
use crate::state_machine::{Replies, StateMachine};
use crate::time::Time;

use apply::ReadFor;
use delivery::Delivery;
use durability::Durability;
use existence::Existence;
use group::{Group, Visit};
use hooks::Hooks;
use links::Links;
use port::Aside;
use proposal::{Outcome, SubmissionRun};
use reads::Readers;
use slots::Slots;
use snapshot::Snapshots;
use timers::Timers;
use transfers::Transfers;

pub use bulk::Lane;
pub use counters::{Counters, Followed, GroupHistory, GroupQueues, ShardHealth, SnapshotCounters};
pub use effects::{
    Effects, GiveUp, GroupEvent, GroupNotice, Notice, OutFrame, RecoverySummary, SnapshotAnswer,
    StepDown, Timed,
};
pub use existence::{CreateAnswer, DestroyAnswer};
pub(crate) use group::BLOCK_BYTES;
pub use hooks::{Hook, HookWatch};
pub use links::{LinkId, LinkPeer};
pub use log_reads::LogAnswer;
pub use membership::ChangeAnswer;
pub use proposal::{AnswerRun, Applied, ClientId, Completion, Submission};
pub use reading::{ReadCompletion, ReadRun, ReadSubmission};
pub use resets::ResetAnswer;
pub use snapshot::{
    Founding, SnapshotFault, SnapshotRefusal, SnapshotStage, SnapshotSurvey, SnapshotUnderWay,
    SurveyedSnapshot, survey_snapshots,
};
pub use status::{GroupStatus, MemberStatus};
pub use traffic::{LinkStatus, MessageCounts, MessageKind};
pub use transfers::{TransferId, TransferResult, Transferred};

/// Makes a group's state machine, in its initial state.
pub type Factory = Box<dyn Fn(GroupId) -> Box<dyn StateMachine>>;

/// What a shard is made from.
pub struct ShardConfig {
    /// This node.
    pub node: NodeId,
    /// Its data directory.
    pub data: DataId,
    /// The groups of this shard.
    pub groups: Vec<GroupConfig>,
    /// The other nodes, and how many shards each has; more may come, see [`Shard::set_node`].
    pub nodes: Vec<(NodeId, u32)>,
    /// The protocol's settings.
    pub raft: Arc<RaftConfig>,
    /// Limits on callers.
    pub limits: Limits,
    /// When snapshots are taken.
    pub snapshots: SnapshotConfig,
    /// Who is to lead the groups, if it can.
    pub priorities: HashMap<GroupId, Priorities>,
    /// Makes the state machines.
    pub factory: Factory,
    /// Another one at each start: it seeds the election timeouts, and tells snapshots of one position
    /// apart.
    pub seed: u64,
}

enum State {
    Recovering,
    Running,
    /// The log failed or could not be read, or the shard was stopped.
    Dead(Death),
}

#[derive(Clone, Debug)]
enum Death {
    Storage(String),
    /// What panicked may have left anything half done: nothing is asked of it any more.
    Panicked(String),
    Stopped,
}

/// See the [module documentation](self).
pub struct Shard {
    config: ShardConfig,
    state: State,
    groups: Vec<Group>,
    slots: Slots,
    wal: Wal,
    links: Links,
    timers: Timers,
    durability: Durability,
    reads: NumberMap<ReadId, ReadFor>,
    /// How many of them are for callers.
    log_reads: usize,
    /// Groups that got proposals in this turn.
    proposing: Vec<u32>,
    /// Groups with committed entries to apply.
    applying: Vec<u32>,
    aside: Aside,
    transfers: Transfers,
    resetting: Vec<resets::Resetting>,
    existence: Existence,
    readers: Readers,
    replies: Replies,
    snapshots: Snapshots,
    hooks: Hooks,
    effects: Effects,
    counters: Counters,
    newest_proposal: Option<Followed>,
    /// Bytes that each group may keep for peers that lag.
    cache_share: usize,
    /// What a group's configuration was last: the next one may be the same, and share its memory.
    last_members: Configuration,
    /// A log says that this is not the node that it counts on.
    misplaced: Option<String>,
}

impl Shard {
    /// A shard that begins with recovering its log.
    #[must_use]
    pub fn new(config: ShardConfig, wal: Wal) -> Self {
        let slots = config.groups.iter().map(|group| group.group).collect();
        Self {
            state: State::Recovering,
            groups: Vec::with_capacity(config.groups.len()),
            slots,
            snapshots: Snapshots::new(config.snapshots, wal.identity()),
            wal,
            links: peers::configured(&config),
            timers: Timers::default(),
            durability: Durability::default(),
            reads: NumberMap::default(),
            log_reads: 0,
            proposing: Vec::new(),
            applying: Vec::new(),
            aside: Aside::default(),
            transfers: Transfers::default(),
            resetting: Vec::new(),
            existence: Existence::default(),
            readers: Readers::default(),
            replies: Replies::default(),
            hooks: Hooks::default(),
            effects: Effects::default(),
            counters: Counters::default(),
            newest_proposal: None,
            cache_share: config.limits.cache_bytes,
            last_members: Configuration::default(),
            misplaced: None,
            config,
        }
    }

    /// A caller's operations. They are appended by the next [`turn`](Self::turn), or answered.
    pub fn submit(&mut self, client: ClientId, submission: Submission) {
        let submission = Arc::new(submission);
        let mut start = 0;
        for (at, &(group, count)) in submission.groups.iter().enumerate() {
            let range = start..start + count as usize;
            start = range.end;
            let run = SubmissionRun { client, submission: Arc::clone(&submission), range };
            let admitted = match submission.bound(at) {
                None => self.admit(group, run),
                Some(term) => self.admit_in_term(group, term, run),
            };
            if let Err(answer) = admitted {
                self.effects.answers.push(answer);
            }
        }
    }

    /// What is admitted is appended in this turn, or refused when the leadership is lost before.
    #[cold]
    fn admit_in_term(
        &mut self,
        group: GroupId,
        term: Term,
        run: SubmissionRun,
    ) -> Result<(), AnswerRun> {
        let leads_another = |raft: &&Raft| raft.is_leader() && raft.term() != term;
        match self.raft(group).filter(leads_another).map(Raft::term) {
            Some(now) if self.takes_part() => {
                Err(run.answer(Outcome::Failed(ProposeError::WrongTerm { term: now })))
            }
            _ => self.admit(group, run),
        }
    }

    fn admit(&mut self, group: GroupId, run: SubmissionRun) -> Result<(), AnswerRun> {
        let refuse = |run: SubmissionRun, error| Err(run.answer(Outcome::Failed(error)));
        match &self.state {
            State::Running => {}
            State::Recovering => return refuse(run, ProposeError::NotLeader { leader: None }),
            State::Dead(Death::Stopped | Death::Panicked(_)) => {
                return refuse(run, ProposeError::Stopped);
            }
            State::Dead(Death::Storage(cause)) => {
                return refuse(run, ProposeError::StorageFailed(cause.clone()));
            }
        }
        let Some(slot) = self.slots.find(group) else {
            return refuse(run, ProposeError::UnknownGroup(group));
        };
        if !self.wal.has_space() {
            return refuse(run, ProposeError::NoSpace);
        }
        let at = &mut self.groups[slot as usize];
        let first = !at.has_incoming();
        at.admit(run, self.config.limits.group_bytes)?;
        if first {
            self.proposing.push(slot);
        }
        Ok(())
    }

    /// A frame of messages that arrived on connection `epoch` of `link`. `now` must have been read
    /// from the clock after the frame had arrived: what members promise each other to do for a
    /// while, such as the lease that reads may rest on, begins with the message.
    ///
    /// # Errors
    /// The frame is malformed; the driver closes the connection. What came before the error was
    /// processed.
    pub fn frame(
        &mut self,
        now: Time,
        link: LinkId,
        epoch: u64,
        envelope: &[u8],
        body: Bytes,
    ) -> Result<(), CodecError> {
        if !matches!(self.state, State::Running) || !self.links.is_current(link, epoch) {
            return Ok(());
        }
        self.hear(now, link);
        self.links.receive(Some(link));
        let from = self.links.node(link);
        let mut delivery = Delivery::new(self, now, from, link);
        let decoded = codec::decode(envelope, body, &mut delivery);
        delivery.finish(decoded.is_ok());
        self.links.receive(None);
        decoded
    }

    /// Bytes that the link's outbox still takes; the driver says it before each turn.
    pub fn set_room(&mut self, link: LinkId, bytes: usize) {
        self.links.set_room(link, bytes);
    }

    /// A disk operation ended.
    pub fn disk_completed(&mut self, now: Time, id: OpId, result: Result<DiskOutput, DiskError>) {
        if self.is_wreck() {
            return;
        }
        if Snapshots::owns(id) {
            return self.snapshot_op_completed(now, id, result);
        }
        self.wal.complete(id, result);
        self.take_wal_events(now);
    }

    fn take_wal_events(&mut self, now: Time) {
        while let Some(event) = self.wal.next_event() {
            match event {
                // A shard that was stopped while its log was read stays stopped.
                WalEvent::Recovered(recovered) => {
                    if matches!(self.state, State::Recovering) {
                        self.open_snapshots(recovered);
                    }
                }
                WalEvent::RecoveryFailed(error) => {
                    self.refuse_log(match error.is_damage() {
                        true => format!("{error}; {}", StartError::HEAL),
                        false => error.to_string(),
                    });
                }
                WalEvent::Durable(seq) => self.on_durable(now, seq),
                WalEvent::Loaded { id, result } => self.on_loaded(now, id, result),
                WalEvent::Failed(error) => self.fail(error.to_string()),
                WalEvent::SpaceExhausted => self.effects.notices.push(Notice::SpaceExhausted),
                WalEvent::SpaceAvailable => self.effects.notices.push(Notice::SpaceAvailable),
            }
        }
    }

    fn on_durable(&mut self, now: Time, durable: Seq) {
        if matches!(self.state, State::Recovering) {
            return self.start_when_settled(now);
        }
        for held in self.durability.release(durable) {
            self.send_held(&held);
        }
        self.settle_existence(durable);
        while let Some(slots) = self.durability.next_durable(durable) {
            for (at, &slot) in slots.iter().enumerate() {
                self.approach(Visit::Durable, |places| slots.get(at + places).copied());
                self.call(slot, |raft, out| raft.on_durable(now, durable, out));
            }
            self.durability.keep(slots);
        }
    }

    /// Time passed; the driver calls this every few milliseconds.
    pub fn tick(&mut self, now: Time) {
        if self.is_wreck() {
            return;
        }
        self.wal.tick();
        self.take_wal_events(now);
        if !matches!(self.state, State::Running) {
            return;
        }
        self.readers.expire(now, &mut self.effects.reads);
        self.watch_links(now);
        while let Some(slot) = self.timers.pop(now) {
            if self.groups[slot as usize].raft.deadline() <= now {
                self.counters.timeouts += 1;
                self.call(slot, |raft, out| raft.tick(now, out));
            }
            self.timers.schedule(slot, self.groups[slot as usize].raft.deadline());
        }
        self.review_transfers(Some(now));
        self.review_resets();
        self.go_on_leaving(now);
        self.look_for_snapshots(now);
        self.tend_sending(now);
        self.tend_receiving(now);
    }

    /// No group's timer runs out before.
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        self.timers.next()
    }

    /// Ends a turn: encodes what callers proposed, starts one write for all groups, hands over one
    /// batch of frames per peer, then applies what is committed and serves the reads that waited
    /// for it.
    ///
    /// True when there is more to apply than one turn may: the next turn should not wait.
    pub fn turn(&mut self, effects: &mut Effects) -> bool {
        self.replicate();
        self.apply(effects)
    }

    /// The first half of a [`turn`](Self::turn): everything but applying.
    pub fn replicate(&mut self) {
        self.counters.turns += 1;
        self.newest_proposal = None;
        self.check_own_identity();
        if self.is_wreck() {
            return;
        }
        self.propose_incoming();
        self.review_transfers(None);
        self.ask_for_reads();
        self.wal.take_ops(&mut self.effects.disk);
        self.links.finish(&mut self.effects.frames);
    }

    /// The second half. For a driver that looks at its clock in between.
    pub fn apply(&mut self, effects: &mut Effects) -> bool {
        let more = !self.is_wreck() && self.apply_what_can_be();
        std::mem::swap(&mut self.effects, effects);
        self.effects.clear();
        more
    }

    fn apply_what_can_be(&mut self) -> bool {
        let more = self.apply_committed();
        self.serve_reads();
        if self.snapshots.has_work() {
            self.go_on_taking();
        }
        self.wal.take_ops(&mut self.effects.disk);
        self.snapshots.take_ops(&mut self.effects.disk);
        more
    }

    fn propose_incoming(&mut self) {
        let mut proposing = std::mem::take(&mut self.proposing);
        let (mut blocks, mut operations) = (0, 0);
        for (at, &slot) in proposing.iter().enumerate() {
            self.approach(Visit::Propose, |places| proposing.get(at + places).copied());
            while self.groups[slot as usize].has_incoming() {
                let group = &mut self.groups[slot as usize];
                // Leadership may have gone since the proposal was admitted: follow_role has
                // answered it then, and nothing is incoming.
                let Some(at) = group.raft.append_position() else { break };
                let Some(block) = group.next_block(at) else { break };
                blocks += 1;
                operations += u64::from(block.count());
                self.call(slot, |raft, out| raft.propose(block, out));
            }
        }
        if let Some(&slot) = proposing.last() {
            self.counters.blocks_proposed += blocks;
            self.counters.operations_proposed += operations;
            self.note_proposal(slot);
        }
        proposing.clear();
        self.proposing = proposing;
    }

    /// Has the CPU fetch what will be looked at of the groups that come after the present one,
    /// `later` so many places: of each in three steps, since one finds the places of the next.
    #[inline]
    fn approach(&self, visit: Visit, later: impl Fn(usize) -> Option<u32>) {
        let group = |places| self.groups.get(later(places)? as usize);
        if let Some(group) = group(FAR) {
            group.prefetch(visit);
        }
        if let Some(group) = group(NEAR) {
            group.prefetch_beyond(visit);
            if matches!(visit, Visit::Propose | Visit::Message) {
                self.wal.prefetch(group.log_slot);
            }
        }
        if let Some(group) = group(NEXT) {
            group.prefetch_ends(visit);
        }
    }

    /// Whether the shard takes part in its groups: it has recovered, and neither has its log failed
    /// nor was it stopped.
    #[must_use]
    pub fn takes_part(&self) -> bool {
        matches!(self.state, State::Running)
    }

    /// Whether it was [abandoned](Self::abandon).
    #[must_use]
    pub fn is_wreck(&self) -> bool {
        matches!(self.state, State::Dead(Death::Panicked(_)))
    }
}
