//! The lanes for bulk data: pieces of snapshots travel on connections of their own, one from each
//! sender, so that they never stand before consensus traffic. A lane is made when something is to
//! be sent and closed by the network when nothing was for a while; how fast it is, is the network's
//! matter too. What is lost with one is sent again on the next.
//!
//! Answers come back on the link. A lane has no part in who leads: its messages are those of any
//! slow network, late and perhaps in vain, and the protocol takes them as such.

use bytes::Bytes;
use ringleader_wal::GroupId;

use super::effects::OutFrame;
use super::links::{LinkId, Links};
use super::{Shard, State};
use crate::codec::{self, CodecError, Encoder};
use crate::raft::message::Message;
use crate::time::Time;

/// What a connection between two shards is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The protocol's messages, both ways: the link itself.
    Consensus,
    /// Pieces of snapshots, to the peer.
    Bulk,
}

/// More than the header of a frame takes in an outbox.
const FRAME_OVERHEAD: usize = 64;

/// This side's lane to a peer.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    epoch: Option<u64>,
    /// Bytes that its outbox still takes.
    room: usize,
    /// Bytes that wait in its outbox.
    queued: usize,
}

impl Links {
    /// Whether nothing waits to leave on the lane.
    pub(super) fn is_bulk_idle(&self, link: LinkId) -> bool {
        let bulk = self.bulk(link);
        bulk.epoch.is_some() && bulk.queued == 0
    }

    /// Makes a piece of a snapshot a frame for the peer's lane. None if there is no room for it, or
    /// nobody to answer.
    fn piece(&mut self, link: LinkId, group: GroupId, piece: &Message) -> Option<OutFrame> {
        if !self.is_up(link) || self.is_silent() {
            return None;
        }
        let mut encoder = Encoder::default();
        encoder.push(group, piece);
        let (envelope, blocks) = encoder.finish()?;
        let bulk = self.bulk_mut(link);
        let frame = OutFrame { link, lane: Lane::Bulk, epoch: bulk.epoch?, envelope, blocks };
        let bytes = frame.len() + FRAME_OVERHEAD;
        bulk.room = bulk.room.checked_sub(bytes)?;
        bulk.queued += bytes;
        self.traffic_on(link).sends(piece);
        Some(frame)
    }
}

impl Shard {
    /// The lane to a peer was made; `epoch` is above that of every earlier one.
    pub fn bulk_up(&mut self, link: LinkId, epoch: u64) {
        *self.links.bulk_mut(link) = Bulk { epoch: Some(epoch), ..Bulk::default() };
        self.lane_changed(link);
    }

    /// The lane was lost, with what was on it.
    pub fn bulk_down(&mut self, link: LinkId) {
        *self.links.bulk_mut(link) = Bulk::default();
        self.lane_lost(link);
    }

    /// Bytes that the lane's outbox still takes, and those that wait in it; the driver says it
    /// before each turn.
    pub fn set_bulk_room(&mut self, link: LinkId, bytes: usize, queued: usize) {
        let bulk = self.links.bulk_mut(link);
        (bulk.room, bulk.queued) = (bytes, queued);
    }

    /// A frame that arrived on a peer's lane to this shard. What is no piece of a snapshot is
    /// ignored, and so is everything while the link is down: there is no way to answer, and the peer
    /// may have been refused.
    ///
    /// # Errors
    /// The frame is malformed; the driver closes the connection. What came before the error was
    /// processed.
    pub fn bulk_frame(
        &mut self,
        now: Time,
        link: LinkId,
        envelope: &[u8],
        body: Bytes,
    ) -> Result<(), CodecError> {
        if !matches!(self.state, State::Running) || !self.links.is_up(link) {
            return Ok(());
        }
        let from = self.links.node(link);
        codec::decode(envelope, body, |group: GroupId, message: Message| {
            let slot = self.slots.get(&group).copied();
            if let (Message::SnapshotPiece { .. }, Some(slot)) = (&message, slot) {
                self.counters.messages_received += 1;
                self.links.traffic_on(link).receives(now, group, &message);
                self.call(slot, |raft, out| raft.step(now, from, message, out));
            }
        })
    }

    /// Sends a piece on the lane, or asks for one. False if it could not be sent now.
    pub(super) fn push_piece(&mut self, link: LinkId, group: GroupId, piece: &Message) -> bool {
        if self.links.bulk(link).epoch.is_none() {
            self.effects.lanes.push(link);
        }
        let frame = self.links.piece(link, group, piece);
        let sent = frame.is_some();
        self.effects.frames.extend(frame);
        sent
    }
}
