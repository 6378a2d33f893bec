//! What goes over a link, counted by the kind of message; how long the peer takes to acknowledge
//! entries; and whether it is there at all.
//!
//! A message costs one addition here. Acknowledgements are a sample: of each link one request is
//! followed at any time, so that no request costs a look at a clock.

use std::time::Duration;

use ringleader_wal::{GroupId, LogIndex};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::Shard;
use super::links::LinkId;
use crate::raft::message::{AppendOutcome, AppendRequest, Message};
use crate::time::Time;

/// A followed request that is not acknowledged for so long never will be: it was lost, or another
/// leads.
const FOLLOWED_FOR: Duration = Duration::from_secs(10);

/// What messages are counted apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// A frame without a message: the shard is there.
    Beat,
    /// Asks whether an election could be won.
    PreVoteRequest,
    /// It could, as far as the answering member goes.
    PreVoteGranted,
    /// It could not.
    PreVoteRefused,
    /// Asks for a vote.
    VoteRequest,
    /// The vote was given.
    VoteGranted,
    /// It was not.
    VoteRefused,
    /// A request to append entries.
    Append,
    /// A request without entries: it looks for the place where two logs agree.
    Probe,
    /// Entries are durable there.
    AppendMatched,
    /// The logs do not agree where the request said.
    AppendConflict,
    /// A leader's heartbeat in one group.
    Heartbeat,
    /// Its answer.
    HeartbeatResponse,
    /// A leader asks for its office to be taken over.
    TimeoutNow,
    /// A leader rests.
    Rest,
    /// A member does not.
    Wake,
    /// Asks from where on reads may be served.
    ReadRequest,
    /// Its answer.
    ReadResponse,
    /// A piece of a snapshot.
    SnapshotPiece,
    /// Its answer.
    SnapshotAnswer,
}

const KINDS: usize = MessageKind::ALL.len();

impl MessageKind {
    /// All kinds, in order.
    pub const ALL: [Self; 20] = [
        Self::Beat,
        Self::PreVoteRequest,
        Self::PreVoteGranted,
        Self::PreVoteRefused,
        Self::VoteRequest,
        Self::VoteGranted,
        Self::VoteRefused,
        Self::Append,
        Self::Probe,
        Self::AppendMatched,
        Self::AppendConflict,
        Self::Heartbeat,
        Self::HeartbeatResponse,
        Self::TimeoutNow,
        Self::Rest,
        Self::Wake,
        Self::ReadRequest,
        Self::ReadResponse,
        Self::SnapshotPiece,
        Self::SnapshotAnswer,
    ];

    /// What it is called in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Beat => "beat",
            Self::PreVoteRequest => "pre_vote_request",
            Self::PreVoteGranted => "pre_vote_granted",
            Self::PreVoteRefused => "pre_vote_refused",
            Self::VoteRequest => "vote_request",
            Self::VoteGranted => "vote_granted",
            Self::VoteRefused => "vote_refused",
            Self::Append => "append",
            Self::Probe => "probe",
            Self::AppendMatched => "append_matched",
            Self::AppendConflict => "append_conflict",
            Self::Heartbeat => "heartbeat",
            Self::HeartbeatResponse => "heartbeat_response",
            Self::TimeoutNow => "timeout_now",
            Self::Rest => "rest",
            Self::Wake => "wake",
            Self::ReadRequest => "read_request",
            Self::ReadResponse => "read_response",
            Self::SnapshotPiece => "snapshot_piece",
            Self::SnapshotAnswer => "snapshot_answer",
        }
    }

    #[inline]
    fn of(message: &Message) -> Self {
        match message {
            Message::PreVoteRequest { .. } => Self::PreVoteRequest,
            Message::PreVoteResponse { granted: true, .. } => Self::PreVoteGranted,
            Message::PreVoteResponse { .. } => Self::PreVoteRefused,
            Message::VoteRequest { .. } => Self::VoteRequest,
            Message::VoteResponse { granted: true, .. } => Self::VoteGranted,
            Message::VoteResponse { .. } => Self::VoteRefused,
            Message::AppendRequest { blocks, .. } if blocks.as_slice().is_empty() => Self::Probe,
            Message::AppendRequest { .. } => Self::Append,
            Message::AppendResponse { outcome: AppendOutcome::Matched { .. }, .. } => {
                Self::AppendMatched
            }
            Message::AppendResponse { .. } => Self::AppendConflict,
            Message::Heartbeat { .. } => Self::Heartbeat,
            Message::HeartbeatResponse { .. } => Self::HeartbeatResponse,
            Message::TimeoutNow { .. } => Self::TimeoutNow,
            Message::Rest { .. } => Self::Rest,
            Message::Wake { .. } => Self::Wake,
            Message::ReadRequest { .. } => Self::ReadRequest,
            Message::ReadResponse { .. } => Self::ReadResponse,
            Message::SnapshotPiece { .. } => Self::SnapshotPiece,
            Message::SnapshotAnswer { .. } => Self::SnapshotAnswer,
        }
    }
}

/// How many messages there were of each kind. As JSON it is an object, by
/// [name](MessageKind::name).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts([u64; KINDS]);

impl MessageCounts {
    /// Messages of a kind.
    #[must_use]
    pub fn of(&self, kind: MessageKind) -> u64 {
        self.0[kind as usize]
    }

    /// Every kind, and the messages of it.
    pub fn iter(&self) -> impl Iterator<Item = (MessageKind, u64)> + '_ {
        MessageKind::ALL.into_iter().zip(self.0)
    }

    #[inline]
    fn add(&mut self, kind: MessageKind) {
        self.0[kind as usize] += 1;
    }
}

impl Serialize for MessageCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(KINDS))?;
        for (kind, count) in self.iter() {
            map.serialize_entry(kind.name(), &count)?;
        }
        map.end()
    }
}

/// What a shard knows of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether the peer's shard is there: it is connected, and something came on the connection
    /// within an election timeout.
    pub alive: bool,
    /// Milliseconds since something came on the present connection, or it was made; none if there
    /// is no connection.
    pub heard_ms_ago: Option<u64>,
    /// Messages sent since the start, those on the lane for bulk data included.
    pub sent: MessageCounts,
    /// Messages received, likewise.
    pub received: MessageCounts,
}

/// A request whose acknowledgement is waited for.
#[derive(Clone, Copy, Debug)]
struct Followed {
    group: GroupId,
    last: LogIndex,
    /// When it left; none until the driver has said it.
    since: Option<Time>,
}

/// What is counted of a link.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) sent: MessageCounts,
    pub(super) received: MessageCounts,
    followed: Option<Followed>,
    /// How long the last one took, until the driver has asked.
    took: Option<Duration>,
}

impl Traffic {
    #[inline]
    pub(super) fn sends(&mut self, message: &Message) {
        self.sent.add(MessageKind::of(message));
    }

    pub(super) fn sends_beat(&mut self) {
        self.sent.add(MessageKind::Beat);
    }

    #[inline]
    pub(super) fn sends_append(&mut self, group: GroupId, request: &AppendRequest<'_>) {
        let Some(block) = request.blocks.last() else { return self.sent.add(MessageKind::Probe) };
        self.sent.add(MessageKind::Append);
        if self.followed.is_none() {
            self.followed = Some(Followed { group, last: block.last_index(), since: None });
        }
    }

    #[inline]
    pub(super) fn receives(&mut self, now: Time, group: GroupId, message: &Message) {
        match message {
            Message::AppendResponse { outcome: AppendOutcome::Matched { match_index }, .. } => {
                self.receives_matched(now, group, *match_index);
            }
            _ => self.receives_kind(MessageKind::of(message)),
        }
    }

    /// One of a kind that need not be looked at.
    #[inline]
    pub(super) fn receives_kind(&mut self, kind: MessageKind) {
        self.received.add(kind);
    }

    /// The peer's log is durable and like the leader's up to there.
    #[inline]
    pub(super) fn receives_matched(&mut self, now: Time, group: GroupId, match_index: LogIndex) {
        self.receives_kind(MessageKind::AppendMatched);
        if let Some(followed) = self.followed
            && followed.group == group
            && match_index >= followed.last
        {
            self.took = followed.since.map(|since| now.since(since));
            self.followed = None;
        }
    }

    /// What was on its way is not acknowledged any more.
    pub(super) fn reset(&mut self) {
        self.followed = None;
    }

    /// The frames of this turn leave at `now`; the time that an acknowledgement took, if one came.
    fn follow(&mut self, now: Time) -> Option<Duration> {
        if let Some(followed) = &mut self.followed {
            let since = *followed.since.get_or_insert(now);
            if now.since(since) >= FOLLOWED_FOR {
                self.followed = None;
            }
        }
        self.took.take()
    }
}

impl Shard {
    /// What is known of a link.
    #[must_use]
    pub fn link_status(&self, link: LinkId) -> LinkStatus {
        let (sent, received) = self.links.counts(link);
        LinkStatus {
            alive: self.is_alive(link),
            heard_ms_ago: self.links.silence(link).map(|silence| silence.as_millis() as u64),
            sent,
            received,
        }
    }

    /// Whether the other end of a link is there, as far as this shard can know.
    pub(super) fn is_alive(&self, link: LinkId) -> bool {
        let timeout = self.config.raft.election_timeout;
        self.takes_part() && self.links.silence(link).is_some_and(|silence| silence < timeout)
    }

    /// The frames of the last turn leave at `now`: says for each link whose peer has acknowledged
    /// the request that was followed, how long that took since the request left. A driver that
    /// measures calls it once per turn.
    pub fn follow_appends(&mut self, now: Time, mut each: impl FnMut(LinkId, Duration)) {
        for (link, traffic) in self.links.traffic() {
            if let Some(took) = traffic.follow(now) {
                each(link, took);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ringleader_wal::{Block, LogPosition, Term};

    use super::*;

    const GROUP: GroupId = GroupId(7);

    fn matched(match_index: u64) -> Message {
        let outcome = AppendOutcome::Matched { match_index: LogIndex(match_index) };
        Message::AppendResponse { term: Term(1), outcome }
    }

    fn send(traffic: &mut Traffic, blocks: &[Block]) {
        let (term, prev, commit) = (Term(1), LogPosition::default(), LogIndex(0));
        traffic.sends_append(GROUP, &AppendRequest { term, prev, commit, blocks });
    }

    #[test]
    fn one_request_is_followed_to_its_acknowledgement() {
        let mut traffic = Traffic::default();
        let block =
            |index| Block::noop(GROUP, LogPosition { index: LogIndex(index), term: Term(1) });
        send(&mut traffic, &[]);
        assert_eq!(traffic.follow(Time(5)), None);
        send(&mut traffic, &[block(3)]);
        send(&mut traffic, &[block(4)]);
        assert_eq!(traffic.follow(Time(10)), None);
        traffic.receives(Time(20), GROUP, &matched(2));
        traffic.receives(Time(30), GroupId(8), &matched(9));
        assert_eq!(traffic.follow(Time(40)), None, "neither was about it");
        traffic.receives(Time(50), GROUP, &matched(4));
        assert_eq!(traffic.follow(Time(60)), Some(Duration::from_nanos(40)));
        traffic.receives(Time(70), GROUP, &matched(5));
        assert_eq!(traffic.follow(Time(80)), None, "nothing is followed");
        assert_eq!(traffic.sent.of(MessageKind::Probe), 1);
        assert_eq!(traffic.sent.of(MessageKind::Append), 2);
        assert_eq!(traffic.received.of(MessageKind::AppendMatched), 4);
    }

    #[test]
    fn what_is_never_acknowledged_is_not_followed_for_ever() {
        let mut traffic = Traffic::default();
        send(
            &mut traffic,
            &[Block::noop(GROUP, LogPosition { index: LogIndex(1), term: Term(1) })],
        );
        let later = Time(1) + FOLLOWED_FOR;
        assert_eq!((traffic.follow(Time(1)), traffic.follow(later)), (None, None));
        traffic.receives(later, GROUP, &matched(1));
        assert_eq!(traffic.follow(later), None);
    }

    #[test]
    fn kinds_are_counted_where_they_stand() {
        for (at, kind) in MessageKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at, "{kind:?}");
        }
    }
}
