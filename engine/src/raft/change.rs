//! Changing the members (thesis, chapter 4). Whatever changes among the voters goes through joint
//! consensus (section 4.3), one change at a time:
//!
//! ```text
//! asked ──► new voters catch up ──► joint entry ──► committed ──► final entry ──► committed
//!           (nothing in the log)    old and new decide            new decide      done
//! ```
//!
//! Learners alone change with one entry: who decides stays the same.
//!
//! While nodes catch up nothing of the change is in the log, so giving it up, or losing the
//! leadership, undoes it. From the joint entry on, every leader that finds it in its log brings it
//! to its end. The next entry about the members is appended only by a leader that has committed an
//! entry of its own term and all before it, the last configuration with it: otherwise two leaders
//! in turn could each change away from a configuration that the other's voters never saw (the bug
//! of the thesis's single-server changes, raft-dev 2015).
//!
//! An entry that only names data directories that were not known yet changes nobody's vote. It is
//! appended by a leader that has nothing else to change, when it has met members of whom nobody knew
//! (`Leader::identify`). Who asks for a change meanwhile waits for that entry, and is not refused.

use ringleader_wal::{Block, LogIndex, LogPosition, NodeId};

use super::configuration::{Configuration, MAX_LEARNERS};
use super::leader::Leader;
use super::output::{Event, Outlet};
use super::quorum::MAX_VOTERS;
use super::state::State;
use super::{Raft, Role};
use crate::time::Time;

/// What is to become of nodes; of those that it does not name nothing changes, unless it is
/// [`exactly`](Self::exactly) this. A node may be named once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipChange {
    /// They are voters afterwards: new nodes, or learners that are promoted.
    pub voters: Vec<NodeId>,
    /// They are learners afterwards: new nodes, or voters that are demoted.
    pub learners: Vec<NodeId>,
    /// They are no members afterwards.
    pub removed: Vec<NodeId>,
    /// Nobody else is a member afterwards: the change says who the members are, not what is to
    /// become of some, so that it comes to the same whatever happened before it.
    pub exactly: bool,
}

/// Why a change of the members did not begin. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Another node leads the group, or nobody that this node knows of.
    #[error("this node does not lead the group")]
    NotLeader,
    /// The leader has not committed an entry of its term yet. It is about to.
    #[error("the leader has only just been elected")]
    NotReady,
    /// Another change is under way.
    #[error("another change of the members is under way")]
    InProgress,
    /// The leadership is being transferred.
    #[error("the leadership is being transferred")]
    Transferring,
    /// There is no such configuration.
    #[error("impossible change: {0}")]
    Impossible(&'static str),
}

/// What became of a wish to change the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changing {
    /// It is so already, by the committed configuration that stands here.
    Unchanged(LogIndex),
    /// It has begun: [`Event::MembersChanged`] or [`Event::ChangeGivenUp`] says how it ends, unless
    /// this node stops leading before.
    Begun,
}

impl MembershipChange {
    /// The configuration that the change leads to from `now`, which is not a joint one.
    ///
    /// # Errors
    /// When there is none.
    fn target(&self, now: &Configuration) -> Result<Configuration, ChangeError> {
        let impossible = |what| Err(ChangeError::Impossible(what));
        let mut named: Vec<_> =
            [&self.voters, &self.learners, &self.removed].into_iter().flatten().collect();
        let count = named.len();
        named.sort_unstable();
        named.dedup();
        if named.len() != count || named.first() == Some(&&NodeId(0)) {
            return impossible("a node is named twice, or is node 0");
        }
        let kept = |nodes: &[NodeId], new: &[NodeId]| {
            let stays = |node: &&NodeId| !self.exactly && named.binary_search(node).is_err();
            let kept = nodes.iter().filter(stays);
            kept.chain(new).copied().collect::<Vec<_>>()
        };
        let voters = kept(now.voters(), &self.voters);
        let learners = kept(now.learners(), &self.learners);
        if voters.is_empty() {
            return impossible("no voter would be left");
        }
        if voters.len() > MAX_VOTERS || learners.len() > MAX_LEARNERS {
            return impossible("too many voters or learners");
        }
        let target = Configuration::new(&voters, &[]).with_learners(&learners);
        Ok(target.identified(|node| now.data(node)))
    }
}

/// In [`Leader::change_at`]: the leader was removed, and waits for another to be fit to take over.
/// Newcomers are waited for likewise: whatever happens is looked at.
const LEAVING: LogIndex = LogIndex(0);

/// A change that waits for its new voters to catch up, or for the latest configuration to be
/// committed.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Without the data directories that are not in the log yet.
    target: Configuration,
    newcomers: Vec<CatchUp>,
}

/// How far a new voter has come (thesis, section 4.2.1).
#[derive(Clone, Debug)]
struct CatchUp {
    node: NodeId,
    /// The present round, and the entry that ends it.
    round: u32,
    round_end: LogIndex,
    round_began: Time,
    /// The last finished round was short.
    is_close: bool,
    /// What it has, and since when.
    has: LogIndex,
    has_since: Time,
}

enum Standing {
    Behind,
    CaughtUp,
    TooSlow,
}

impl CatchUp {
    fn new(node: NodeId, state: &State) -> Self {
        Self {
            node,
            round: 1,
            round_end: state.log.last_index(),
            round_began: state.now,
            is_close: false,
            has: LogIndex(0),
            has_since: state.now,
        }
    }

    fn standing(&mut self, match_index: LogIndex, heard_at: Time, state: &State) -> Standing {
        let timeout = state.config.election_timeout;
        if match_index > self.has {
            (self.has, self.has_since) = (match_index, state.now);
        }
        if match_index >= self.round_end {
            self.is_close = state.now.since(self.round_began) < timeout;
            self.round += u32::from(!self.is_close);
            (self.round_end, self.round_began) = (state.log.last_index(), state.now);
            self.has_since = state.now;
        }
        // The round under way may not be a short one any more, or nobody be there to end it.
        let is_late = self.has < self.round_end && state.now.since(self.round_began) >= timeout;
        if self.is_close && !is_late && state.now.since(heard_at) < timeout {
            return Standing::CaughtUp;
        }
        let idle = state.now.since(self.has_since.min(heard_at));
        let is_stuck = idle >= timeout * state.config.catch_up_patience;
        if is_stuck || self.round > state.config.catch_up_rounds {
            return Standing::TooSlow;
        }
        Standing::Behind
    }
}

impl Leader {
    /// Whether a change is under way.
    pub(super) fn changes_members(&self, state: &State) -> bool {
        let configurations = &state.configurations;
        self.change.is_some()
            || configurations.latest().is_joint()
            || !state.knows_members() && !configurations.latest_identifies()
    }

    /// Whether the change's new voters have caught up; the first that never will is an error.
    fn look_at_newcomers(&mut self, change: &mut Change, state: &State) -> Result<bool, NodeId> {
        let mut all = true;
        for newcomer in &mut change.newcomers {
            let Some(peer) = self.peer(newcomer.node) else { return Err(newcomer.node) };
            match newcomer.standing(peer.match_index, peer.heard_at, state) {
                Standing::CaughtUp => {}
                Standing::Behind => all = false,
                Standing::TooSlow => return Err(newcomer.node),
            }
        }
        Ok(all)
    }

    /// Everybody is ready, and the latest configuration is committed: the change goes into the log.
    fn begin_change(&mut self, change: &Change, state: &mut State, out: &mut dyn Outlet) {
        let (now, target) = (state.configurations.latest(), &change.target);
        let next = match target.voters() == now.voters() {
            true => target.clone(),
            false => {
                Configuration::new(target.voters(), now.voters()).with_learners(target.learners())
            }
        };
        let next = next.identified(|node| now.data(node));
        match next == *now {
            // Only that was waited for.
            true => self.end_change(state, out),
            false => self.configure(&next, state, out),
        }
    }

    /// The latest configuration is committed, and is not a joint one.
    fn end_change(&mut self, state: &State, out: &mut dyn Outlet) {
        self.change_at = LogIndex(u64::MAX);
        let at = state.configurations.latest_at();
        if at > self.term_start {
            out.event(Event::MembersChanged { at });
        }
        self.dismiss_strangers(state, out);
    }

    /// Names the data directories of members that nobody knew yet, if they are connected. Nothing is
    /// under way that changes the members, nor is the office handed over.
    pub(super) fn identify(&mut self, state: &mut State, out: &mut dyn Outlet) {
        let now = state.configurations.latest();
        let idle = self.change_at == LogIndex(u64::MAX) && self.transfer.is_none() && !self.rests;
        if idle && !now.is_identified() {
            let now = now.clone();
            if identified(&now, out) != now {
                self.configure(&now, state, out);
            }
        }
    }

    /// Appends a configuration, which is in force at once. It names the data directories of those who
    /// are connected.
    fn configure(
        &mut self,
        configuration: &Configuration,
        state: &mut State,
        out: &mut dyn Outlet,
    ) {
        let configuration = identified(configuration, out);
        let at = LogPosition { index: state.log.last_index().next(), term: state.term() };
        let block = Block::configuration(state.group, at, &configuration.encode());
        state.append_any(block, out);
        self.reconfigure(state);
        self.change_at = at.index;
        self.replicate_to_all(state, out);
    }
}

/// The configuration with the data directories that were not known yet, of those who are connected.
pub(super) fn identified(configuration: &Configuration, out: &dyn Outlet) -> Configuration {
    configuration.identified(|node| configuration.data(node).or_else(|| out.data(node)))
}

impl Raft {
    /// Begins to change the members. See [`Changing`] for what comes of it.
    ///
    /// # Errors
    /// Why it did not begin.
    pub fn change_members(
        &mut self,
        now: Time,
        change: &MembershipChange,
        out: &mut dyn Outlet,
    ) -> Result<Changing, ChangeError> {
        self.advance_clock(now);
        self.wake(None, out);
        let state = &mut self.state;
        let Role::Leader(leader) = &mut self.role else { return Err(ChangeError::NotLeader) };
        if state.commit_index < leader.term_start {
            return Err(ChangeError::NotReady);
        }
        if leader.changes_members(state) {
            return Err(ChangeError::InProgress);
        }
        if leader.transfer.is_some() {
            return Err(ChangeError::Transferring);
        }
        let (now, at) = (state.configurations.latest(), state.configurations.latest_at());
        let target = change.target(now)?;
        if target == *now && state.knows_members() {
            return Ok(Changing::Unchanged(at));
        }
        let new = target.voters().iter().filter(|node| !now.has_vote(**node));
        let newcomers: Vec<_> = new.map(|node| CatchUp::new(*node, state)).collect();
        newcomers.iter().for_each(|newcomer| leader.enlist(newcomer.node, state));
        if !newcomers.is_empty() {
            // Whom to reach has changed, although nobody is a member yet.
            out.event(Event::Reconfigured);
        }
        leader.change = Some(Box::new(Change { target, newcomers }));
        leader.change_at = LogIndex(0);
        leader.replicate_to_all(state, out);
        out.reschedule();
        let before = self.office();
        self.pursue_change(out);
        self.finish(before, out);
        Ok(Changing::Begun)
    }

    /// Does what comes next in a change of the members, if it is time. Who calls this ends with
    /// [`Raft::finish`].
    pub(super) fn pursue_change(&mut self, out: &mut dyn Outlet) {
        let state = &mut self.state;
        let Role::Leader(leader) = &mut self.role else { return };
        if !leader.has_change_to_pursue(state) {
            return;
        }
        if let Some(mut change) = leader.change.take() {
            match leader.look_at_newcomers(&mut change, state) {
                Ok(true) if state.knows_members() => leader.begin_change(&change, state, out),
                Ok(_) => leader.change = Some(change),
                Err(node) => {
                    leader.change_at = LogIndex(u64::MAX);
                    leader.dismiss_strangers(state, out);
                    out.event(Event::ChangeGivenUp { node });
                }
            }
            return;
        }
        // The latest configuration is committed, and so is an entry of this term.
        let now = state.configurations.latest();
        if now.is_joint() {
            let last = Configuration::new(now.voters(), &[]).with_learners(now.learners());
            let last = last.identified(|node| now.data(node));
            leader.configure(&last, state, out);
            return;
        }
        if leader.change_at != LEAVING {
            leader.end_change(state, out);
            if state.configurations.latest().has_vote(state.node) {
                leader.identify(state, out);
                return;
            }
            // Its work is done (thesis, section 4.2.2): it hands over, and goes.
            leader.tell_commit(state, out);
            leader.begin_farewell(state, out);
            leader.change_at = LEAVING;
        }
        if !leader.is_handing_over() {
            self.become_follower(self.state.term(), None);
        }
    }

    /// The same for calls that end without more.
    pub(super) fn pursue_change_and_finish(&mut self, out: &mut dyn Outlet) {
        let before = self.office();
        self.pursue_change(out);
        self.finish(before, out);
    }
}
