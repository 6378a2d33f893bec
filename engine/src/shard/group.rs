//! One group on its shard: the protocol, the state machine, and the callers between them.

use std::mem::offset_of;

use ringleader_wal::{
    Block, BlockKind, GroupId, GroupSlot, LogIndex, LogPosition, NodeId, Seq, Term, prefetch,
};

use super::counters::{GroupHistory, GroupQueues};
use super::effects::Effects;
use super::hooks::{Hook, Hooks};
use super::links::GroupLinks;
use super::membership::Asked;
use super::proposal::{AnswerRun, Outcome, SubmissionRun};
use crate::error::{ProposeError, UnknownCause};
use crate::raft::fifo::Fifo;
use crate::raft::{Committed, CommittedBlocks, Raft};
use crate::state_machine::{Entries, Replies, StateMachine};

/// Payload bytes after which a block is closed and the turn's next operations go into another one.
/// Large enough that a block's fixed cost vanishes, small enough that a follower can start writing
/// before the leader has sent everything.
pub(crate) const BLOCK_BYTES: usize = 256 << 10;

/// Of a state machine, so much is fetched ahead.
const MACHINE_BYTES: usize = 128;

/// What is done with a group, as far as that tells what will be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Visit {
    /// Its callers' operations are appended.
    Propose,
    /// A peer's entries are appended, or its answer is counted.
    Message,
    /// Its entries became durable.
    Durable,
    /// Entries are applied.
    Apply,
}

/// Proposals that are in the log and not applied yet: `run`'s operations stand at `first` and
/// after.
#[derive(Debug)]
struct Waiting {
    first: LogIndex,
    run: SubmissionRun,
}

/// In this order and at the beginning of a cache line, because what every event looks at then
/// shares a few of them; what only callers and the state machine need lies between.
#[repr(C, align(64))]
pub(super) struct Group {
    pub(super) id: GroupId,
    /// The newest batch of the log that holds something of this group.
    pub(super) staged: Seq,
    /// Whether the group is on the shard's list of groups with committed entries.
    pub(super) apply_queued: bool,
    /// Whether entries to be applied are being read from the log.
    pub(super) loading: bool,
    /// Whether there are configurations that the state machine is to be told of.
    pub(super) tells_members: bool,
    /// The state machine keeps its state on stable storage itself. That must not get ahead of the
    /// log, which alone knows the members: it is given what the log has on stable storage.
    keeps_own: bool,
    /// The group's place in the log's index.
    pub(super) log_slot: GroupSlot,
    /// The links to the other voters.
    pub(super) links: GroupLinks,
    pub(super) machine: Box<dyn StateMachine>,
    waiting: Fifo<Option<Waiting>, 1>,
    /// What callers proposed in this turn.
    incoming: Fifo<Option<SubmissionRun>, 1>,
    /// Weight of `incoming` and `waiting`.
    in_flight: usize,
    pub(super) raft: Raft,
    /// The leadership that the state machine was told of and that still lasts: whose, and its term.
    office: Option<(NodeId, Term)>,
    /// The change of the members that somebody waits for.
    pub(super) asked: Option<Box<Asked>>,
    pub(super) history: GroupHistory,
}

impl Group {
    pub(super) fn new(
        id: GroupId,
        raft: Raft,
        machine: Box<dyn StateMachine>,
        links: GroupLinks,
    ) -> Self {
        Self {
            id,
            raft,
            keeps_own: machine.durable_position().is_some(),
            machine,
            links,
            staged: Seq(0),
            log_slot: GroupSlot::default(),
            incoming: Fifo::default(),
            waiting: Fifo::default(),
            in_flight: 0,
            apply_queued: false,
            loading: false,
            tells_members: true,
            office: None,
            asked: None,
            history: GroupHistory::default(),
        }
    }

    pub(super) fn queues(&self) -> GroupQueues {
        GroupQueues {
            in_flight_bytes: self.in_flight,
            waiting: self.waiting.len(),
            loading: self.loading,
            reads: 0,
            memory_bytes: self.raft.held_bytes(),
        }
    }

    /// Has the CPU fetch what an event looks at first.
    #[inline]
    pub(super) fn prefetch(&self, visit: Visit) {
        match visit {
            Visit::Propose | Visit::Apply => prefetch(self, offset_of!(Self, raft)),
            Visit::Message | Visit::Durable => prefetch(self, offset_of!(Self, machine)),
        }
        prefetch(&self.raft, Raft::HOT_BYTES);
    }

    /// And what that points to.
    #[inline]
    pub(super) fn prefetch_beyond(&self, visit: Visit) {
        self.raft.prefetch_beyond();
        if visit == Visit::Apply {
            prefetch(&*self.machine, MACHINE_BYTES);
        }
    }

    /// And what that points to.
    #[inline]
    pub(super) fn prefetch_ends(&self, visit: Visit) {
        self.raft.prefetch_peers();
        if visit == Visit::Apply {
            self.raft.prefetch_entries();
        }
    }

    /// Whether this turn brought proposals.
    #[inline]
    pub(super) fn has_incoming(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Whether there are committed entries to apply and nobody is at it yet.
    pub(super) fn wants_apply(&self) -> bool {
        !self.apply_queued && !self.loading && self.raft.applied_index() < self.appliable()
    }

    /// The last entry that the state machine may take.
    #[inline]
    fn appliable(&self) -> LogIndex {
        if self.keeps_own { self.raft.committed_here() } else { self.raft.commit_index() }
    }

    /// Accepts a run for this turn, or answers it.
    pub(super) fn admit(&mut self, run: SubmissionRun, limit: usize) -> Result<(), AnswerRun> {
        if !self.raft.takes_proposals() {
            let refusal = match self.raft.transfers_to() {
                Some(to) => ProposeError::Transferring { to },
                None => ProposeError::NotLeader { leader: self.raft.leader() },
            };
            return Err(run.answer(Outcome::Failed(refusal)));
        }
        let weight = run.weight();
        if self.in_flight > 0 && self.in_flight + weight > limit {
            return Err(run.answer(Outcome::Failed(ProposeError::Busy)));
        }
        self.in_flight += weight;
        self.incoming.push(Some(run));
        Ok(())
    }

    /// Encodes what this turn brought as the block that starts at `at`, and takes it over into the
    /// waiting; `None` when nothing is left. What does not fit a block is left for the next call.
    pub(super) fn next_block(&mut self, at: LogPosition) -> Option<Block> {
        if let Some(run) = self.incoming.first()?
            && self.incoming.len() == 1
            && run.payload_bytes() <= BLOCK_BYTES
        {
            // What one caller submitted, as a rule.
            let block = Block::encode(self.id, at, BlockKind::Operations, [run.encoded()]);
            let run = self.incoming.pop().flatten();
            self.waiting.push(run.map(|run| Waiting { first: at.index, run }));
            return Some(block);
        }
        Some(self.block_of_many(at))
    }

    fn block_of_many(&mut self, at: LogPosition) -> Block {
        let (mut whole, mut part, mut room) = (0, None, BLOCK_BYTES);
        for run in self.incoming.iter_mut().flatten() {
            match run.fitting(room, whole == 0) {
                Some(fit) if fit == run.len() => {
                    room = room.saturating_sub(run.payload_bytes());
                    whole += 1;
                }
                fit => {
                    part = fit.map(|fit| run.split_front(fit));
                    break;
                }
            }
        }
        let runs = self.incoming.iter().take(whole).chain([&part]).flatten();
        let runs = runs.map(SubmissionRun::encoded);
        let block = Block::encode(self.id, at, BlockKind::Operations, runs);
        let mut first = at.index;
        let whole = (0..whole).map_while(|_| self.incoming.pop());
        for run in whole.chain([part]).flatten() {
            let next = LogIndex(first.0 + run.len() as u64);
            self.waiting.push(Some(Waiting { first, run }));
            first = next;
        }
        block
    }

    /// Applies the next committed entries, about `budget` bytes of them, if they are in memory;
    /// otherwise says from where on they have to be read from the log.
    pub(super) fn apply_next(
        &mut self,
        budget: usize,
        replies: &mut Replies,
        answers: &mut Vec<AnswerRun>,
    ) -> Option<LogIndex> {
        let last = match self.raft.next_committed_through(self.appliable(), budget) {
            Committed::Nothing => return None,
            Committed::Blocks(blocks) => {
                replies.begin(!self.waiting.is_empty());
                apply(&mut *self.machine, blocks, replies)
            }
            Committed::Load { from, .. } => {
                self.loading = true;
                return Some(from);
            }
        };
        self.applied(last, replies, answers);
        None
    }

    /// Applies those of the blocks' entries that are committed and not applied yet.
    pub(super) fn apply_loaded(
        &mut self,
        blocks: &[Block],
        replies: &mut Replies,
        answers: &mut Vec<AnswerRun>,
    ) {
        self.loading = false;
        let first = self.raft.applied_index().next();
        let commit = self.appliable();
        if first > commit {
            return;
        }
        let from = blocks.partition_point(|block| block.last_index() < first);
        let to = blocks.partition_point(|block| block.first_index() <= commit);
        let Some(newest) = blocks.get(from..to).and_then(<[Block]>::last) else { return };
        let last = newest.last_index().min(commit);
        replies.begin(!self.waiting.is_empty());
        let blocks = CommittedBlocks::new(&blocks[from..to], &[], first, last);
        apply(&mut *self.machine, blocks, replies);
        self.applied(last, replies, answers);
    }

    #[inline(always)]
    fn applied(&mut self, last: LogIndex, replies: &Replies, answers: &mut Vec<AnswerRun>) {
        let before = self.raft.applied_index();
        // Nobody waits on a follower.
        if !self.waiting.is_empty() {
            self.answer_through(last, replies, answers);
        }
        self.raft.on_applied(last);
        if self.tells_members {
            self.tell_members(before, last);
        }
    }

    fn answer_through(&mut self, last: LogIndex, replies: &Replies, answers: &mut Vec<AnswerRun>) {
        let term = self.raft.term();
        while let Some(Some(waiting)) = self.waiting.first_mut() {
            if waiting.first > last {
                break;
            }
            let applied = (last.0 - waiting.first.0 + 1) as usize;
            let first = waiting.first;
            let run = if applied < waiting.run.len() {
                waiting.first = last.next();
                waiting.run.split_front(applied)
            } else {
                self.waiting.pop().flatten().expect("the first is there").run
            };
            let end = LogIndex(first.0 + run.len() as u64 - 1);
            let replies = replies.between(first, end);
            let answer = run.answer(Outcome::Applied { first, term, replies });
            self.in_flight -= answer.weight();
            answers.push(answer);
        }
    }

    /// The term in which this node leads, as far as the state machine was told.
    pub(super) fn leading(&self) -> Option<Term> {
        match self.office {
            Some((leader, term)) if leader == self.raft.node() => Some(term),
            _ => None,
        }
    }

    /// Tells the state machine whom this node starts or stops to follow, itself included; a leader
    /// that stops cannot say what becomes of the proposals that wait.
    pub(super) fn follow_role(&mut self, effects: &mut Effects, hooks: &Hooks) {
        let office = self.raft.leader().map(|leader| (leader, self.raft.term()));
        if office == self.office {
            return;
        }
        if self.leading().is_some() {
            self.give_up(UnknownCause::LeadershipLost, effects);
        }
        self.end_office(hooks);
        self.begin_office(office, hooks);
    }

    /// A snapshot was restored into a new state machine, which is told what the old one knew.
    pub(super) fn replace_machine(&mut self, machine: Box<dyn StateMachine>, hooks: &Hooks) {
        let office = self.office;
        self.end_office(hooks);
        self.keeps_own = machine.durable_position().is_some();
        self.machine = machine;
        self.begin_office(office, hooks);
    }

    fn begin_office(&mut self, office: Option<(NodeId, Term)>, hooks: &Hooks) {
        self.office = office;
        let leads = self.leading().is_some();
        let machine = &mut self.machine;
        match office {
            Some((_, term)) if leads => {
                hooks.call(Hook::LeaderStart, || machine.leader_start(term));
            }
            Some((leader, term)) => {
                hooks.call(Hook::FollowStart, || machine.follow_start(leader, term));
            }
            None => {}
        }
    }

    fn end_office(&mut self, hooks: &Hooks) {
        let leads = self.leading().is_some();
        let machine = &mut self.machine;
        match self.office.take() {
            Some((_, term)) if leads => hooks.call(Hook::LeaderStop, || machine.leader_stop(term)),
            Some((leader, term)) => {
                hooks.call(Hook::FollowStop, || machine.follow_stop(leader, term));
            }
            None => {}
        }
    }

    /// The shard takes part in nothing any more.
    pub(super) fn retire(&mut self, cause: UnknownCause, effects: &mut Effects, hooks: &Hooks) {
        self.give_up(cause, effects);
        self.end_office(hooks);
    }

    /// Answers everybody: those in the log with "unknown", those of this turn, which are not in
    /// the log, with their own error.
    pub(super) fn give_up(&mut self, cause: UnknownCause, effects: &mut Effects) {
        self.give_up_change(cause, &mut effects.changes);
        let answers = &mut effects.answers;
        let unproposed = match cause {
            UnknownCause::LeadershipLost => ProposeError::NotLeader { leader: self.raft.leader() },
            UnknownCause::Stopped => ProposeError::Stopped,
            UnknownCause::StorageFailed => ProposeError::StorageFailed("see the log".into()),
        };
        let unknown = Outcome::Failed(ProposeError::Unknown(cause));
        let waiting = self.waiting.drain().flatten();
        answers.extend(waiting.map(|waiting| waiting.run.answer(unknown.clone())));
        let unproposed = Outcome::Failed(unproposed);
        let incoming = self.incoming.drain().flatten();
        answers.extend(incoming.map(|run| run.answer(unproposed.clone())));
        self.in_flight = 0;
    }
}

/// Gives the operations among the entries to the state machine; the last entry.
fn apply(
    machine: &mut dyn StateMachine,
    blocks: CommittedBlocks<'_>,
    replies: &mut Replies,
) -> LogIndex {
    if let Some(entries) = Entries::of(blocks) {
        machine.apply(&entries, replies);
    }
    blocks.last()
}
