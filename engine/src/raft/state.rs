//! What a member has in every role (thesis, figure 3.1), and what of it is durable.

use std::mem::offset_of;
use std::sync::Arc;
use std::time::Duration;

use ringleader_wal::{
    Block, BlockKind, GroupId, HardState, LogIndex, LogPosition, NodeId, Seq, Term,
};

use super::Restored;
use super::config::RaftConfig;
use super::configuration::Configuration;
use super::configurations::{Configurations, configuration_of};
use super::fifo::Fifo;
use super::log::Log;
use super::message::Message;
use super::output::{Event, LogOp, Outlet};
use super::priority::Priorities;
use super::rng::SplitMix64;
use crate::time::Time;

/// How far the present hard state has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Changed, and not yet given out.
    Changed,
    /// Given out, and not yet known to be staged.
    Emitted,
    /// In a WAL batch.
    Staged(Seq),
    Durable,
}

/// "When batch `seq` is durable, so is the log up to `last`." A truncation lowers `last`, so that a
/// completion which arrives after it can't vouch for other entries at the same indices.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    seq: Seq,
    last: LogIndex,
}

/// In this order, because what every event looks at then shares a few cache lines; what only an
/// election needs comes last.
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct State {
    hard_state: HardState,
    stage: Stage,
    /// The latest time that any call passed in.
    pub(super) now: Time,
    pub(super) commit_index: LogIndex,
    pub(super) last_applied: LogIndex,
    /// The log is like that of this term's leader up to here; what follows may be left from an
    /// earlier term. It outlives a pre-vote: the leader may have nothing more to send.
    pub(super) verified: LogIndex,
    pub(super) log: Log,
    pending: Fifo<Pending>,
    unstaged: bool,
    pub(super) group: GroupId,
    /// When a leader that this node recognised was last heard. It outlives the term: the promise
    /// not to help others for a while was given to that leader.
    heard_leader_at: Option<Time>,
    election_timer: Time,
    /// The connection to the leader broke, and nothing was heard of a leader since.
    leader_is_cut_off: bool,
    pub(super) config: Arc<RaftConfig>,
    pub(super) node: NodeId,
    pub(super) configurations: Configurations,
    election_timeout: Duration,
    pub(super) priorities: Option<Box<Priorities>>,
    /// It campaigns although its priority is 0.
    pub(super) stands_in: bool,
    rng: SplitMix64,
    /// What it may keep for peers that lag, of what the shard's groups may together.
    pub(super) cache_share: usize,
    pub(super) ignored: u64,
}

impl State {
    /// Bytes from the beginning of what the steady state looks at.
    pub(super) const HOT_BYTES: usize = offset_of!(Self, node);

    pub(super) fn new(
        config: Arc<RaftConfig>,
        group: GroupId,
        node: NodeId,
        configurations: Configurations,
        restored: Restored,
        seed: u64,
        now: Time,
    ) -> Self {
        let Restored { hard_state, base, applied, last_index, terms, .. } = restored;
        let log = Log::restored(base, last_index, terms);
        assert!(hard_state.term >= log.last().term, "no entry is ahead of the current term");
        assert!(base.index <= applied && applied <= last_index, "what is applied is in the log");
        let mut rng = SplitMix64::new(seed);
        let election_timeout = rng.timeout(config.election_timeout);
        // What an earlier life of this node promised to a leader, that leader may still rely on.
        let promised = config.lease_reads.is_some() && hard_state.term > Term(0);
        Self {
            config,
            group,
            node,
            configurations,
            hard_state,
            stage: Stage::Durable,
            commit_index: applied,
            last_applied: applied,
            log,
            verified: LogIndex(0),
            pending: Fifo::default(),
            unstaged: false,
            now,
            election_timer: now,
            election_timeout,
            heard_leader_at: promised.then_some(now),
            leader_is_cut_off: false,
            priorities: None,
            stands_in: false,
            rng,
            cache_share: usize::MAX,
            ignored: 0,
        }
    }

    pub(super) fn term(&self) -> Term {
        self.hard_state.term
    }

    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    pub(super) fn set_hard_state(&mut self, term: Term, voted_for: Option<NodeId>) {
        let hard_state = HardState { term, voted_for };
        if hard_state != self.hard_state {
            debug_assert!(term > self.hard_state.term || self.hard_state.voted_for.is_none());
            if term != self.hard_state.term {
                self.verified = LogIndex(0);
            }
            self.hard_state = hard_state;
            self.stage = Stage::Changed;
        }
    }

    pub(super) fn hard_state_is_durable(&self) -> bool {
        self.stage == Stage::Durable
    }

    /// Gives a changed hard state out. Every call ends with this, and every log record is
    /// preceded by it, so that no recovered entry is ahead of the recovered term.
    pub(super) fn emit_hard_state(&mut self, out: &mut dyn Outlet) {
        if self.stage == Stage::Changed {
            self.stage = Stage::Emitted;
            self.unstaged = true;
            out.log(LogOp::HardState(self.hard_state));
        }
    }

    // Always inlined, like what it calls and what calls it on a follower: a block is as long as a cache
    // line, and each function that it is given to moves it.
    #[inline(always)]
    pub(super) fn append(&mut self, block: Block, out: &mut dyn Outlet) {
        self.emit_hard_state(out);
        self.unstaged = true;
        out.append(&block);
        self.log.append(block);
    }

    /// Appends a block of any kind. A configuration is in force from here on.
    #[inline(always)]
    pub(super) fn append_any(&mut self, block: Block, out: &mut dyn Outlet) {
        if block.kind() == BlockKind::Configuration {
            self.reconfigure(&block, out);
        }
        self.append(block, out);
    }

    #[cold]
    fn reconfigure(&mut self, block: &Block, out: &mut dyn Outlet) {
        if let Some(Ok(configuration)) = configuration_of(block) {
            let base = self.log.base().index;
            self.configurations.append(block.first_index(), configuration, base);
            announce(out);
        }
    }

    pub(super) fn truncate(&mut self, from: LogIndex, out: &mut dyn Outlet) {
        assert!(from > self.commit_index, "a committed entry is never removed");
        self.emit_hard_state(out);
        self.log.truncate(from);
        for pending in self.pending.iter_mut() {
            pending.last = pending.last.min(from.prev());
        }
        self.unstaged = true;
        out.log(LogOp::Truncate(from));
        if self.configurations.truncate(from) {
            announce(out);
        }
    }

    /// Forgets the entries up to `base`, which a durable snapshot covers.
    pub(super) fn compact(&mut self, base: LogPosition, out: &mut dyn Outlet) {
        self.emit_hard_state(out);
        self.log.compact(base);
        self.unstaged = true;
        out.log(LogOp::Release(base));
    }

    /// The log is replaced by a snapshot, which is durable and ends at `at`. What it covers is
    /// committed, so that every leader has the same.
    pub(super) fn install(
        &mut self,
        at: LogPosition,
        configuration: Configuration,
        out: &mut dyn Outlet,
    ) {
        self.emit_hard_state(out);
        self.unstaged = true;
        if self.log.last_index() >= at.index {
            out.log(LogOp::Truncate(at.index));
        }
        out.log(LogOp::Release(at));
        self.log.reset(at);
        for pending in self.pending.iter_mut() {
            pending.last = pending.last.min(at.index);
        }
        (self.verified, self.commit_index, self.last_applied) = (at.index, at.index, at.index);
        self.configurations = Configurations::restored(at.index, configuration, Vec::new());
        announce(out);
    }

    pub(super) fn on_staged(&mut self, seq: Seq) {
        if !std::mem::take(&mut self.unstaged) {
            return;
        }
        if self.stage == Stage::Emitted {
            self.stage = Stage::Staged(seq);
        }
        let last = self.log.last_index();
        match self.pending.last_mut() {
            Some(newest) if newest.seq == seq => newest.last = last,
            newest => {
                assert!(
                    newest.is_none_or(|newest| newest.seq < seq),
                    "batches are numbered in order"
                );
                self.pending.push(Pending { seq, last });
            }
        }
    }

    /// Whether anything of this group became durable.
    pub(super) fn on_durable(&mut self, seq: Seq) -> bool {
        let mut durable = None;
        while let Some(pending) = self.pending.first().filter(|pending| pending.seq <= seq) {
            durable = Some(pending.last);
            self.pending.pop();
        }
        if let Stage::Staged(staged) = self.stage
            && staged <= seq
        {
            self.stage = Stage::Durable;
        }
        if let Some(durable) = durable {
            self.log.set_durable(durable);
        }
        durable.is_some()
    }

    /// Sends a message that shows the current term: no sooner than a crash can't undo the term.
    pub(super) fn send(&self, to: NodeId, message: Message, out: &mut dyn Outlet) {
        if self.hard_state_is_durable() {
            out.send(to, message);
        } else {
            out.send_when_durable(to, message);
        }
    }

    /// Whether the latest configuration is committed.
    pub(super) fn knows_members(&self) -> bool {
        self.configurations.latest_at() <= self.commit_index
    }

    pub(super) fn commit_to(&mut self, index: LogIndex) {
        debug_assert!(index <= self.log.last_index());
        self.commit_index = self.commit_index.max(index);
    }

    /// Whether blocks are in memory that this node itself has no more use for.
    #[inline]
    pub(super) fn holds_applied_blocks(&self) -> bool {
        self.log.holds_any(self.last_applied)
    }

    /// Frees the blocks that nobody needs: durable, applied, and not after `acked`.
    #[inline]
    pub(super) fn release(&mut self, acked: LogIndex) {
        if self.holds_applied_blocks() {
            let (own, share) = (&self.config, &self.cache_share);
            self.log.release(self.last_applied, acked, || own.cache_bytes.min(*share));
        }
    }

    /// Whether a log that ends at `last` may be elected by this one (thesis, section 3.6.1).
    pub(super) fn is_up_to_date(&self, last: LogPosition) -> bool {
        let own = self.log.last();
        (last.term, last.index) >= (own.term, own.index)
    }

    /// The time until this node campaigns begins anew; those before whom it defers come first.
    pub(super) fn restart_election_timer(&mut self) {
        self.retry_election_timer();
        self.election_timeout += self.config.election_timeout * self.deference();
    }

    /// The time until this node tries again, or stands in.
    pub(super) fn retry_election_timer(&mut self) {
        self.election_timer = self.now;
        self.election_timeout = self.rng.timeout(self.config.election_timeout);
    }

    pub(super) fn election_deadline(&self) -> Time {
        if self.may_campaign() {
            self.election_timer + self.election_timeout + self.abstention()
        } else {
            Time::NEVER
        }
    }

    /// Whether this member may stand in an election.
    pub(super) fn may_campaign(&self) -> bool {
        self.configurations.may_campaign(self.node, self.commit_index) && !self.is_superseded()
    }

    pub(super) fn leader_heard_at(&self) -> Option<Time> {
        self.heard_leader_at
    }

    pub(super) fn heard_leader(&mut self) {
        self.heard_leader_at = Some(self.now);
        self.election_timer = self.now;
        self.leader_is_cut_off = false;
    }

    /// The same, of an earlier moment.
    pub(super) fn heard_leader_before(&mut self, at: Time) {
        self.heard_leader_at = self.heard_leader_at.max(Some(at));
        self.election_timer = self.election_timer.max(at);
    }

    /// The connection to the leader broke. A leader whose process ended is told so from one that is
    /// slow: this node asks for pre-votes within a heartbeat interval, and lets others have its own.
    /// If the leader is only cut off from this node, it keeps its office, because who hears it
    /// refuses (thesis, section 9.6); without pre-votes it would not.
    ///
    /// A leader that reads by lease relies on time alone, whatever becomes of its connections.
    pub(super) fn lost_leader(&mut self, out: &mut dyn Outlet) {
        if !self.config.pre_vote || self.config.lease_reads.is_some() {
            return;
        }
        self.leader_is_cut_off = true;
        let interval = self.config.heartbeat_interval;
        // Those who defer to others do so here, too.
        let soon = self.now + self.rng.part(interval) + interval * self.deference();
        let timeout = self.election_timeout.as_nanos() as u64;
        self.election_timer = self.election_timer.min(Time(soon.0.saturating_sub(timeout)));
        out.reschedule();
    }

    /// Whether this node owes a leader that it will not help another into office (thesis, section
    /// 4.2.3). Only time and a [broken connection](Self::lost_leader) end that, so nothing that
    /// happens to terms or roles can make it last.
    pub(super) fn follows_live_leader(&self) -> bool {
        self.config.check_quorum
            && !self.leader_is_cut_off
            && self
                .heard_leader_at
                .is_some_and(|heard| self.now.since(heard) < self.config.election_timeout)
    }
}

/// Another configuration is in force; there may be a vote, and a timer, that were not there before.
fn announce(out: &mut dyn Outlet) {
    out.event(Event::Reconfigured);
    out.reschedule();
}
