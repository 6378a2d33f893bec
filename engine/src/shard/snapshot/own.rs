//! State machines that keep their state on stable storage themselves, and say how far it has come.
//!
//! No snapshot has to be written for the log to go that theirs covers, and a start goes on where it
//! ends. What the log no longer holds must still be there for others and for this node:
//!
//! - *For a peer that lacks it*, a snapshot is taken when the peer asks (as etcd and TiKV do). A state
//!   machine that gives none keeps its whole log, whatever it keeps besides: no member can know how
//!   far all others, and those that are still to come, have got.
//! - *For who the members are*, which no state machine keeps: the log goes up to the last entry that
//!   says so, and up to the next snapshot of which that is true. One is taken for that, when there
//!   is nothing else that keeps the log: as a rule once in a group's life, for the entry that names its
//!   members' data directories.
//! - *Never ahead of the log*: the state machine is given what its own log has on stable storage
//!   ([`Group`](crate::shard::group::Group)). A start that finds it ahead would not know the members.

use ringleader_wal::{GroupId, LogIndex, LogPosition, NodeId};

use crate::raft::{Mode, Restored};
use crate::shard::{Notice, Shard};

impl Shard {
    /// A state machine that keeps its own state durable needs no snapshot for its log to go, if it
    /// gives one to whoever needs what went.
    pub(super) fn follow_durable_machine(&mut self, slot: usize) {
        let group = &mut self.groups[slot];
        let Some(at) = group.machine.durable_position() else { return };
        let (kept, now) = (&mut self.snapshots.kept[slot], self.snapshots.now);
        if at.index <= kept.newest.index {
            return;
        }
        if kept.gives.is_none() {
            let gives = group.machine.snapshot().is_some();
            kept.gives = Some(gives);
            if !gives {
                self.effects.notices.push(Notice::LogKept(group.id));
            }
        }
        if kept.gives == Some(true) {
            (kept.newest, kept.since) = (at, now);
            self.release_log(slot as u32);
        }
    }

    /// The last entry that can go for all that is known of the members, of those up to `wish` that are
    /// to go. They are in the log or in a file, whatever a state machine keeps itself.
    pub(super) fn members_stay_from(&mut self, slot: u32, wish: LogIndex) -> LogIndex {
        let (raft, kept) = (&self.groups[slot as usize].raft, &self.snapshots.kept[slot as usize]);
        let (members_at, _) = raft.configuration_at(kept.newest.index);
        let in_file = kept.file.map_or(LogIndex(0), |(at, _)| at.index);
        if members_at <= raft.base().index || members_at <= in_file {
            return LogIndex(u64::MAX);
        }
        // The whole log would stay, and for ever where no policy takes snapshots.
        let may = kept.gives == Some(true) && self.snapshots.now >= kept.retry_at;
        if may && wish >= members_at {
            self.want_snapshot(slot);
        }
        members_at.prev()
    }

    /// A peer needs a snapshot, and there is none that would do.
    pub(super) fn want_snapshot_for(&mut self, slot: u32, peer: NodeId) {
        match self.snapshots.kept[slot as usize].gives {
            Some(false) => self.strand(slot, peer),
            _ => self.hasten_snapshot(slot),
        }
    }

    /// There is a new snapshot: whoever waits for it is sent it before its log goes, which it may do
    /// at any time where the state machine needs no snapshot for that.
    pub(super) fn send_to_waiting(&mut self, slot: u32) {
        for peer in self.waiting_for_snapshot(slot) {
            self.send_snapshot(slot, peer);
        }
    }

    fn waiting_for_snapshot(&self, slot: u32) -> Vec<NodeId> {
        let peers = self.groups[slot as usize].raft.peers();
        peers.filter(|peer| peer.mode == Mode::Snapshot).map(|peer| peer.id).collect()
    }

    /// The state machine gives no snapshot to those who wait for one. Where the file that the group was
    /// founded from does for them, they have that.
    pub(super) fn strand_peers(&mut self, slot: u32) {
        if self.file_for_peers(slot).is_some() {
            return;
        }
        for peer in self.waiting_for_snapshot(slot) {
            self.strand(slot, peer);
        }
    }

    fn strand(&mut self, slot: u32, peer: NodeId) {
        if self.snapshots.stranded.insert((slot, peer)) {
            self.counters.snapshots.stranded += 1;
            let group = self.groups[slot as usize].id;
            self.effects.notices.push(Notice::PeerStranded(group, peer));
        }
    }

    /// Forgets those who got what they lacked from somebody else, or are no concern of this node any
    /// more.
    pub(super) fn look_after_stranded(&mut self) {
        let (groups, snapshots) = (&self.groups, &mut self.snapshots);
        snapshots.stranded.retain(|(slot, peer)| {
            groups[*slot as usize].raft.mode_of(*peer) == Some(Mode::Snapshot)
        });
    }

    /// The peers of a group that wait in vain.
    pub(in crate::shard) fn stranded_in(&self, group: GroupId) -> Vec<NodeId> {
        let Some(&slot) = self.slots.get(&group) else { return Vec::new() };
        let all = self.snapshots.stranded.range((slot, NodeId(0))..=(slot, NodeId(u64::MAX)));
        all.map(|(_, peer)| *peer).collect()
    }
}

/// Whether a group may go on from what its state machine keeps itself, which ends at `own`: the log
/// holds that entry, or else the snapshot that it was restored from says who the members are, or the
/// node only waits to be added to a group whose state it was given.
///
/// # Errors
/// That it may not.
pub(super) fn check_own(
    group: GroupId,
    own: LogPosition,
    file: Option<LogPosition>,
    log: Option<&Restored>,
    is_voter: bool,
) -> Result<(), String> {
    let held = log.and_then(|log| log.term_at(own.index)) == Some(own.term);
    let is_new = !is_voter && log.is_none_or(|log| *log == Restored::default());
    if own == LogPosition::default() || held || file == Some(own) || is_new {
        return Ok(());
    }
    let LogPosition { index, term } = own;
    let last = log.map_or(LogIndex(0), |log| log.last_index);
    Err(format!(
        "group {group}: its state machine holds everything up to entry {index} of term {term}, and \
         the log, which ends at {last}, does not hold that entry: they are not of one node, or one \
         of them lost what it had called durable"
    ))
}
