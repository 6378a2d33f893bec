//! A frame's messages on their way to the groups.

use ringleader_wal::{GroupId, LogIndex, NodeId, Term};

use super::Shard;
use super::group::Visit;
use super::links::LinkId;
use super::traffic::MessageKind;
use crate::codec::{CHUNK, Deliver};
use crate::raft::message::AppendBlock;
use crate::raft::{Message, Outlet, Raft};
use crate::time::Time;

/// Places in the ring of announced messages: no more are announced at any moment.
const RING: usize = 2 * CHUNK;

/// Stands for a group that is not on this shard.
const NOBODY: u32 = u32::MAX;

pub(super) struct Delivery<'a> {
    shard: &'a mut Shard,
    now: Time,
    from: NodeId,
    link: LinkId,
    /// The groups of the messages that were announced, each looked up once.
    slots: [u32; RING],
    announced: usize,
    delivered: usize,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(shard: &'a mut Shard, now: Time, from: NodeId, link: LinkId) -> Self {
        Self { shard, now, from, link, slots: [NOBODY; RING], announced: 0, delivered: 0 }
    }

    /// Has the group of the next message take it.
    #[inline]
    fn next(&mut self, step: impl FnOnce(&mut Raft, &mut dyn Outlet)) {
        let slot = self.slots[self.delivered % RING];
        let later = |places| {
            let at = self.delivered + places;
            (at < self.announced).then(|| self.slots[at % RING])
        };
        self.shard.approach(Visit::Message, later);
        self.delivered += 1;
        if slot != NOBODY {
            self.shard.call(slot, step);
        }
    }

    /// Counts what was delivered; a whole frame without anything is a beat.
    pub(super) fn finish(self, is_whole: bool) {
        self.shard.counters.messages_received += self.delivered as u64;
        if self.delivered == 0 && is_whole {
            self.shard.links.traffic_on(self.link).receives_kind(MessageKind::Beat);
        }
    }
}

impl Deliver for &mut Delivery<'_> {
    #[inline]
    fn announce(&mut self, groups: impl Iterator<Item = GroupId>) {
        for group in groups {
            let slot = self.shard.slots.find(group).unwrap_or(NOBODY);
            self.slots[self.announced % RING] = slot;
            self.announced += 1;
        }
    }

    fn deliver(&mut self, group: GroupId, message: Message) {
        let Delivery { now, from, link, .. } = **self;
        self.shard.links.traffic_on(link).receives(now, group, &message);
        self.next(|raft, out| raft.step(now, from, message, out));
    }

    #[inline]
    fn append(&mut self, _: GroupId, request: AppendBlock) {
        let Delivery { now, from, link, .. } = **self;
        self.shard.links.traffic_on(link).receives_kind(MessageKind::Append);
        self.next(|raft, out| raft.step_append(now, from, request, out));
    }

    #[inline]
    fn matched(&mut self, group: GroupId, term: Term, match_index: LogIndex) {
        let Delivery { now, from, link, .. } = **self;
        self.shard.links.traffic_on(link).receives_matched(now, group, match_index);
        self.next(|raft, out| raft.step_matched(now, from, term, match_index, out));
    }
}
