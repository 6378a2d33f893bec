//! Sending a snapshot to a peer that lacks what the log no longer holds (Raft thesis, chapter 5).
//!
//! Pieces are read from the file and sent one at a time, on the peer's lane for bulk data: the head's
//! configuration, the chunks, and an empty last one. The peer says which piece it waits for, so that a transfer goes on after a break
//! where it was, on either side; a piece that is lost is sent again when the peer answers a
//! heartbeat. The file stays, and the log behind it, as long as somebody is sent it and gets on.

use bytes::Bytes;
use ringleader_wal::disk::{DiskError, DiskOutput};
use ringleader_wal::{Block, BlockKind, GroupId, LogIndex, LogPosition, NodeId, Run};

use super::reader::{Next, Reader};
use super::{Purpose, SnapshotStage, SnapshotUnderWay, Snapshots};
use crate::raft::message::{Message, SnapshotId};
use crate::raft::{Mode, SnapshotEvent};
use crate::shard::{GiveUp, GroupEvent, LinkId, Notice, Shard, State};
use crate::time::Time;

/// Transfers at once. Others begin when one is over.
const SENDING_MAX: usize = 4;

/// A snapshot on its way to a peer.
pub(super) struct Sending {
    pub(super) at: LogPosition,
    len: u64,
    reader: Reader,
    reading: bool,
    stamp: u64,
    /// Pieces read so far, the last of which may be held.
    number: u32,
    /// The piece read last, until the peer has it, and whether it is the last one.
    held: Option<(Bytes, bool)>,
    /// Whether it was sent.
    sent: bool,
    /// There is nothing more to be read.
    ended: bool,
    /// The piece that the peer waits for.
    wanted: u32,
    /// When the peer got on last.
    progress_at: Time,
    /// What was on its way was lost, and the peer has not got on since.
    broken: bool,
}

impl Sending {
    /// The peer has every piece.
    fn is_through(&self) -> bool {
        self.ended && self.wanted > self.number
    }

    pub(super) fn under_way(&self, group: GroupId, now: Time) -> SnapshotUnderWay {
        SnapshotUnderWay {
            group,
            stage: SnapshotStage::Sending,
            peer: None,
            at: self.at,
            pieces: self.wanted - 1,
            bytes: self.len,
            broken: self.broken,
            idle_ms: now.since(self.progress_at).as_millis() as u64,
        }
    }
}

impl Shard {
    /// What the protocol leaves to be done about snapshots.
    pub(in crate::shard) fn snapshot_event(&mut self, slot: u32, event: SnapshotEvent) {
        match event {
            SnapshotEvent::Send { peer } => self.send_snapshot(slot, peer),
            SnapshotEvent::Answered { peer, id, next } => self.piece_answered(slot, peer, id, next),
            SnapshotEvent::Arrived { from, id, last, piece } => {
                self.piece_arrived(slot, from, id, last, &piece);
            }
        }
    }

    pub(super) fn send_snapshot(&mut self, slot: u32, peer: NodeId) {
        if let Some(sending) = self.snapshots.sending.get_mut(&(slot, peer)) {
            // What waits for its turn on the lane is not lost.
            let link = self.groups[slot as usize].links.to(peer);
            sending.sent &= !link.is_some_and(|link| self.links.is_bulk_idle(link));
            return self.go_on_sending(slot, peer);
        }
        let Some((at, len)) = self.file_for_peers(slot) else {
            return self.want_snapshot_for(slot, peer);
        };
        let group = self.groups[slot as usize].id;
        if self.snapshots.sending.len() >= SENDING_MAX {
            return;
        }
        let sending = Sending {
            at,
            len,
            reader: Reader::new(&self.snapshots.identity, group, at, len),
            reading: false,
            stamp: 0,
            number: 0,
            held: None,
            sent: false,
            ended: false,
            wanted: 1,
            progress_at: self.snapshots.now,
            broken: false,
        };
        self.snapshots.sending.insert((slot, peer), sending);
        self.go_on_sending(slot, peer);
    }

    /// The group's newest snapshot and its length, if that reaches the beginning of the log.
    pub(super) fn file_for_peers(&self, slot: u32) -> Option<(LogPosition, u64)> {
        let base = self.groups[slot as usize].raft.base().index;
        self.snapshots.kept[slot as usize].file.filter(|(at, _)| at.index >= base)
    }

    fn piece_answered(&mut self, slot: u32, peer: NodeId, id: SnapshotId, next: u32) {
        let now = self.snapshots.now;
        let Some(sending) = self.snapshots.sending.get_mut(&(slot, peer)) else { return };
        let current = SnapshotId { at: sending.at, stamp: sending.stamp } == id;
        if !current || next == sending.wanted || next == 0 {
            return;
        }
        if next > sending.wanted {
            sending.progress_at = now;
        }
        // A peer that begins anew resumes nothing.
        let resumes = std::mem::take(&mut sending.broken) && next > sending.wanted;
        sending.wanted = next;
        if resumes {
            self.counters.snapshots.resumed += 1;
            self.tell_of(slot, GroupEvent::SnapshotResumed { peer, at: id.at });
        }
        self.go_on_sending(slot, peer);
    }

    /// Reads and sends until something has to be waited for.
    fn go_on_sending(&mut self, slot: u32, peer: NodeId) {
        let group = self.groups[slot as usize].id;
        loop {
            let snapshots = &mut self.snapshots;
            let Some(sending) = snapshots.sending.get_mut(&(slot, peer)) else { return };
            if sending.reading {
                return;
            }
            if sending.held.is_some() && sending.number == sending.wanted {
                return self.send_piece(slot, peer);
            }
            if sending.wanted <= sending.number {
                let reader = Reader::new(&snapshots.identity, group, sending.at, sending.len);
                (sending.reader, sending.number, sending.ended) = (reader, 0, false);
            }
            if sending.ended {
                return;
            }
            let (piece, last) = match sending.reader.next() {
                Next::Read(op) => {
                    sending.reading = true;
                    return snapshots.submit(Purpose::Sending(slot, peer), op);
                }
                Next::Head(head) => {
                    sending.stamp = head.stamp;
                    (head.configuration, false)
                }
                Next::Chunk(chunk) => (chunk, false),
                Next::End => (Bytes::new(), true),
                Next::Damaged(damage) => {
                    return self.sending_failed(slot, peer, &damage.to_string());
                }
            };
            sending.number += 1;
            sending.ended = last;
            sending.sent = false;
            sending.held = Some((piece, last));
        }
    }

    /// Sends the piece held, if it may go now; a tick tries again.
    fn send_piece(&mut self, slot: u32, peer: NodeId) {
        let group = &self.groups[slot as usize];
        let Some(sending) = self.snapshots.sending.get_mut(&(slot, peer)) else { return };
        let Some((piece, last)) = &sending.held else { return };
        let Some(link) = group.links.to(peer) else { return };
        // Who was deposed meanwhile must not speak as a leader in the new term.
        if sending.sent || !group.raft.is_leader() {
            return;
        }
        let ends = [piece.len() as u32];
        let run = Run { payload: piece, ends: &ends, base: 0 };
        let at = LogPosition { index: LogIndex(u64::from(sending.number)), term: sending.at.term };
        let block = Block::encode(group.id, at, BlockKind::Operations, [run]);
        let (term, group) = (group.raft.term(), group.id);
        let id = SnapshotId { at: sending.at, stamp: sending.stamp };
        let (bytes, last) = (block.len() as u64, *last);
        let message = Message::SnapshotPiece { term, id, last, piece: block };
        let sent = self.push_piece(link, group, &message);
        if sent {
            let counters = &mut self.counters.snapshots;
            counters.sent_bytes += bytes;
            counters.sent += u64::from(last);
        }
        if let Some(sending) = self.snapshots.sending.get_mut(&(slot, peer)) {
            sending.sent = sent;
        }
    }

    /// A lane is gone.
    pub(in crate::shard) fn lane_lost(&mut self, link: LinkId) {
        let Self { groups, snapshots, counters, .. } = self;
        for ((slot, peer), sending) in &mut snapshots.sending {
            let under_way = !sending.broken && !sending.is_through();
            if under_way && groups[*slot as usize].links.to(*peer) == Some(link) {
                sending.broken = true;
                counters.snapshots.broken += 1;
            }
        }
        self.lane_changed(link);
    }

    /// A lane is new, or gone: what was on its way is sent again.
    pub(in crate::shard) fn lane_changed(&mut self, link: LinkId) {
        let keys: Vec<_> = self.snapshots.sending.keys().copied().collect();
        for (slot, peer) in keys {
            if self.groups[slot as usize].links.to(peer) == Some(link)
                && let Some(sending) = self.snapshots.sending.get_mut(&(slot, peer))
            {
                sending.sent = false;
                self.go_on_sending(slot, peer);
            }
        }
    }

    pub(super) fn sending_step(
        &mut self,
        slot: u32,
        peer: NodeId,
        result: Result<DiskOutput, DiskError>,
    ) {
        let Some(sending) = self.snapshots.sending.get_mut(&(slot, peer)) else { return };
        // An answer to an earlier transfer's question is no answer to this one's.
        if !std::mem::take(&mut sending.reading) {
            return;
        }
        match sending.reader.fill(result) {
            Ok(()) => self.go_on_sending(slot, peer),
            Err(error) => self.sending_failed(slot, peer, &error.to_string()),
        }
    }

    /// Ends transfers whose file is gone, and forgets what is read for them.
    pub(super) fn end_sending(&mut self, ends: impl Fn(u32, &Sending) -> bool) {
        let Snapshots { sending, pending, .. } = &mut self.snapshots;
        let ended = sending.extract_if(.., |(slot, _), sending| ends(*slot, sending));
        for ((slot, peer), _) in ended {
            pending.retain(|_, purpose| {
                !matches!(purpose, Purpose::Sending(of, to) if (*of, *to) == (slot, peer))
            });
        }
    }

    /// The snapshot can't be read. It is tried again when the peer answers a heartbeat, and a new one
    /// will take its place, which may be one of the same position: nothing else may ever be applied.
    fn sending_failed(&mut self, slot: u32, peer: NodeId, cause: &str) {
        let group = self.groups[slot as usize].id;
        if let Some(sending) = self.snapshots.sending.remove(&(slot, peer)) {
            self.counters.snapshots.failed += 1;
            self.effects.notices.push(Notice::SnapshotFailed(group, sending.at, cause.into()));
            let kept = &mut self.snapshots.kept[slot as usize];
            kept.unreadable |= kept.file.is_some_and(|(newest, _)| newest == sending.at);
        }
        self.hasten_snapshot(slot);
        self.remove_unused();
    }

    /// Ends transfers that are over or don't get on, and goes on with those that were held up.
    pub(in crate::shard) fn tend_sending(&mut self, now: Time) {
        self.look_after_stranded();
        if self.snapshots.sending.is_empty() || !matches!(self.state, State::Running) {
            return;
        }
        let (groups, patience) = (&self.groups, self.snapshots.settings.transfer_timeout);
        let mut over = Vec::new();
        self.snapshots.sending.retain(|(slot, peer), sending| {
            let mode = groups[*slot as usize].raft.mode_of(*peer);
            let stays = sending.reading
                || matches!(mode, Some(Mode::Snapshot | Mode::Probe))
                    && now < sending.progress_at + patience;
            if !stays {
                over.push((*slot, *peer, sending.at, end_of(sending, mode)));
            }
            stays
        });
        for (slot, peer, at, end) in over {
            self.note_sent(slot, peer, at, end);
        }
        let keys: Vec<_> = self.snapshots.sending.keys().copied().collect();
        keys.into_iter().for_each(|(slot, peer)| self.go_on_sending(slot, peer));
        self.remove_unused();
    }

    fn note_sent(&mut self, slot: u32, peer: NodeId, at: LogPosition, end: End) {
        let what = match end {
            End::Sent => GroupEvent::SnapshotSent { peer, at },
            End::GivenUp(cause) => {
                self.counters.snapshots.sends_given_up += 1;
                GroupEvent::SnapshotGivenUp { peer, at, cause }
            }
            End::Unneeded => return,
        };
        self.tell_of(slot, what);
    }
}

/// How a transfer ended.
enum End {
    Sent,
    GivenUp(GiveUp),
    /// The peer got on without it.
    Unneeded,
}

fn end_of(sending: &Sending, mode: Option<Mode>) -> End {
    match mode {
        Some(Mode::Replicate) if sending.is_through() => End::Sent,
        Some(Mode::Replicate) => End::Unneeded,
        Some(Mode::Snapshot | Mode::Probe) => End::GivenUp(GiveUp::PeerStuck),
        None => End::GivenUp(GiveUp::NotLeading),
    }
}
