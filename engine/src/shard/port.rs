//! Carrying out what a group's protocol puts out: its records are staged and its messages encoded
//! where they arise. What must wait for the end of the call, and what is rare, is put aside.

use ringleader_net::DataId;
use ringleader_wal::{Block, GroupId, GroupSlot, LogIndex, NodeId, Seq, Term, Wal};

use super::Shard;
use super::apply::ReadFor;
use super::durability::Held;
use super::effects::{GroupEvent, OutFrame};
use super::group::Group;
use super::links::{GroupLinks, LinkId, Links};
use crate::error::ReadError;
use crate::raft::message::{AppendRequest, Message};
use crate::raft::reads::ReadAnswer;
use crate::raft::{Event, Load, LogOp, Outlet, Raft, SnapshotEvent};
use crate::time::Time;

/// What a call left to be done after it.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Records were staged.
    staged: bool,
    /// Something of what follows is there.
    more: bool,
    reschedule: bool,
    events: Vec<Event>,
    /// The log was made shorter.
    truncated: Option<LogIndex>,
    /// A vote was given.
    voted: Option<NodeId>,
    snapshots: Vec<SnapshotEvent>,
    loads: Vec<Load>,
    held: Vec<(NodeId, Message)>,
    /// Peers whose append requests found no room.
    dropped: Vec<NodeId>,
    reads: Vec<ReadAnswer>,
    reads_wait: bool,
}

impl Aside {
    /// Whether [`take_rare`](Self::take_rare) may have something.
    pub(super) fn has_rare(&self) -> bool {
        !self.events.is_empty() || self.truncated.is_some() || self.voted.is_some()
    }

    /// What happened on `node` that is seldom; `led` is the term in which it led the group until
    /// now, and it `has_vote` or not.
    pub(super) fn take_rare(
        &mut self,
        node: NodeId,
        led: Option<Term>,
        has_vote: bool,
    ) -> Vec<GroupEvent> {
        let stands = self.voted.take().filter(|voted| *voted == node);
        let stands = stands.map(|_| GroupEvent::Stands);
        let truncated = self.truncated.take().map(|from| GroupEvent::Truncated { from });
        let office = self.events.iter().filter_map(|event| GroupEvent::of(event, led, has_vote));
        stands.into_iter().chain(truncated).chain(office).collect()
    }
}

/// One group's way out, for the time of one call.
struct Port<'a> {
    group: GroupId,
    links_of: &'a GroupLinks,
    log_slot: &'a mut GroupSlot,
    staged: &'a mut Seq,
    wal: &'a mut Wal,
    links: &'a mut Links,
    frames: &'a mut Vec<OutFrame>,
    aside: &'a mut Aside,
}

impl Port<'_> {
    /// The way to a member of the group or, seldom, to one who is not known to be one.
    #[inline]
    fn link(&self, to: NodeId) -> Option<LinkId> {
        self.links_of.to(to).or_else(|| self.links.to(self.group, to))
    }
}

impl Outlet for Port<'_> {
    fn append(&mut self, block: &Block) {
        *self.staged = self.wal.append_known(self.log_slot, block);
        self.aside.staged = true;
    }

    fn log(&mut self, op: LogOp) {
        match &op {
            LogOp::Truncate(from) => self.aside.truncated = Some(*from),
            LogOp::HardState(state) => self.aside.voted = state.voted_for,
            LogOp::Append(_) | LogOp::Release(_) => {}
        }
        self.aside.more = true;
        *self.staged = match op {
            LogOp::Append(block) => self.wal.append(&block),
            LogOp::Truncate(from) => self.wal.truncate(self.group, from),
            LogOp::Release(through) => self.wal.release(self.group, through),
            LogOp::HardState(hard_state) => self.wal.set_hard_state(self.group, hard_state),
        };
        self.aside.staged = true;
    }

    fn send(&mut self, to: NodeId, message: Message) {
        if let Some(link) = self.link(to) {
            self.links.push(link, self.group, &message);
        }
    }

    fn append_request(&mut self, to: NodeId, request: AppendRequest<'_>) {
        if let Some(link) = self.link(to)
            && !self.links.push_append(link, self.group, &request, self.frames)
        {
            self.aside.dropped.push(to);
            self.aside.more = true;
        }
    }

    fn send_when_durable(&mut self, to: NodeId, message: Message) {
        self.aside.held.push((to, message));
        self.aside.more = true;
    }

    fn load(&mut self, load: Load) {
        self.aside.loads.push(load);
        self.aside.more = true;
    }

    fn event(&mut self, event: Event) {
        self.aside.events.push(event);
        self.aside.more = true;
    }

    fn snapshot(&mut self, event: SnapshotEvent) {
        self.aside.snapshots.push(event);
        self.aside.more = true;
    }

    fn read(&mut self, answer: ReadAnswer) {
        self.aside.reads.push(answer);
        self.aside.more = true;
    }

    fn reads_wait(&mut self) {
        self.aside.reads_wait = true;
        self.aside.more = true;
    }

    fn heard(&self, peer: NodeId) -> Option<Time> {
        self.links_of.to(peer).and_then(|link| self.links.heard(link))
    }

    fn data(&self, node: NodeId) -> Option<DataId> {
        self.links.data_of(|| self.link(node), node)
    }

    fn reschedule(&mut self) {
        self.aside.reschedule = true;
        self.aside.more = true;
    }
}

impl Shard {
    /// Calls a group's protocol, and carries out what comes of it.
    #[inline]
    pub(super) fn call(&mut self, slot: u32, event: impl FnOnce(&mut Raft, &mut dyn Outlet)) {
        let Self { groups, wal, links, effects, aside, durability, applying, .. } = self;
        let Group { raft, id, links: links_of, log_slot, staged, .. } = &mut groups[slot as usize];
        let frames = &mut effects.frames;
        let mut port = Port { group: *id, links_of, log_slot, staged, wal, links, frames, aside };
        event(raft, &mut port);
        if std::mem::take(&mut aside.staged) {
            raft.on_staged(*staged);
            durability.watch(*staged, slot);
        }
        let group = &mut groups[slot as usize];
        if group.wants_apply() {
            group.apply_queued = true;
            applying.push(slot);
        }
        if self.aside.more {
            self.settle(slot);
        }
    }

    /// Does what was put aside.
    fn settle(&mut self, slot: u32) {
        self.tell(slot);
        let Self {
            groups,
            wal,
            links,
            effects,
            aside,
            durability,
            timers,
            reads,
            readers,
            counters,
            hooks,
            ..
        } = self;
        let group = &mut groups[slot as usize];
        aside.more = false;
        if std::mem::take(&mut aside.reschedule) {
            timers.schedule(slot, group.raft.deadline());
        }
        for answer in aside.reads.drain(..) {
            readers.answered(slot, answer, &mut effects.reads);
        }
        if std::mem::take(&mut aside.reads_wait) {
            readers.ask(slot);
        }
        let mut relink = false;
        for event in aside.events.drain(..) {
            relink |= event == Event::Reconfigured;
            if event.is_of_office() {
                let leader = group.raft.leader();
                readers.refuse(slot, &ReadError::LeaderChanged { leader }, &mut effects.reads);
            }
            group.follow_members(&event, &mut effects.changes);
            group.follow_role(effects, hooks);
        }
        for to in aside.dropped.drain(..) {
            counters.requests_dropped += 1;
            group.raft.on_send_dropped(to);
        }
        for Load { peer, from, max_bytes } in aside.loads.drain(..) {
            let id = wal.read(group.id, from, max_bytes);
            reads.insert(id, ReadFor::Peer { slot, peer, from });
            counters.peer_reads += 1;
        }
        for (to, message) in aside.held.drain(..) {
            if group.staged > wal.durable() {
                durability.hold(group.staged, Held { slot, to, message });
                counters.messages_held += 1;
            } else if let Some(link) = group.links.to(to).or_else(|| links.to(group.id, to)) {
                links.push(link, group.id, &message);
            }
        }
        let snapshots = std::mem::take(&mut aside.snapshots);
        if relink {
            let now = self.groups[slot as usize].raft.now();
            self.relink(now, slot);
            self.learn_identities(now, slot);
        }
        for event in snapshots {
            self.snapshot_event(slot, event);
        }
    }

    /// Sends a message that was held until it might leave.
    pub(super) fn send_held(&mut self, held: &Held) {
        let group = &self.groups[held.slot as usize];
        let link = group.links.to(held.to).or_else(|| self.links.to(group.id, held.to));
        if let Some(link) = link {
            self.links.push(link, group.id, &held.message);
        }
    }
}
