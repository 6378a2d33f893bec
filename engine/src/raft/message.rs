//! What two members of one group say to each other (Raft thesis, figure 3.1 and section 9.6).
//! The sender, the group and the connection's epoch are the envelope's, not the message's.

use ringleader_wal::{Block, LogIndex, LogPosition, Term};

use super::reads::{Consistency, ReadTicket};

/// One message from one member to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Asks whether an election could be won (thesis, section 9.6); changes nobody's state.
    PreVoteRequest {
        /// The term that the candidate would campaign in: its own plus one.
        term: Term,
        /// The candidate's last entry.
        last: LogPosition,
    },
    /// Answers a [`Message::PreVoteRequest`].
    PreVoteResponse {
        /// When granted, the term that was asked for, so that an answer of an earlier round is
        /// not counted in a later one; when refused, the answering node's own term.
        term: Term,
        /// Whether the node would vote for the candidate.
        granted: bool,
    },
    /// Asks for a vote (thesis, section 3.4).
    VoteRequest {
        /// The candidate's term.
        term: Term,
        /// The candidate's last entry.
        last: LogPosition,
        /// The leader of the term before asked for this candidature: no promise to that leader
        /// stands against it (thesis, section 4.2.3).
        handover: bool,
    },
    /// Answers a [`Message::VoteRequest`].
    VoteResponse {
        /// The answering node's term.
        term: Term,
        /// Whether the vote was given.
        granted: bool,
    },
    /// Replicates entries, probes for the place where two logs agree (no blocks), and tells the
    /// commit index (thesis, section 3.5).
    AppendRequest {
        /// The leader's term.
        term: Term,
        /// The entry before the first of `blocks`.
        prev: LogPosition,
        /// The leader's commit index.
        commit: LogIndex,
        /// Contiguous blocks, possibly none.
        blocks: Blocks,
    },
    /// Answers an [`Message::AppendRequest`] once its entries are durable.
    AppendResponse {
        /// The answering node's term.
        term: Term,
        /// What became of the request.
        outcome: AppendOutcome,
    },
    /// Keeps a leader in office and carries the commit index as far as the follower is known to
    /// have the same log (never beyond what it acknowledged).
    Heartbeat {
        /// The leader's term.
        term: Term,
        /// The leader's commit index, or the follower's match index if that is lower.
        commit: LogIndex,
        /// The newest round that asks whether the leader still leads (thesis, section 6.4); zero
        /// before the first of its term.
        round: u64,
    },
    /// Asks a follower that has the leader's whole log to campaign at once (thesis, section 3.10).
    TimeoutNow {
        /// The leader's term.
        term: Term,
        /// The leader's last entry: it appended nothing after this.
        last: LogPosition,
    },
    /// Answers a [`Message::Heartbeat`].
    HeartbeatResponse {
        /// The answering node's term.
        term: Term,
        /// The heartbeat's round.
        round: u64,
    },
    /// The leader rests, and this member is to rest too, if its log ends there and all of it is
    /// durable; see [`rest`](super::rest).
    Rest {
        /// The leader's term.
        term: Term,
        /// The leader's last entry, which is committed.
        last: LogPosition,
    },
    /// Tells the leader that this member does not rest.
    Wake {
        /// The member's term.
        term: Term,
    },
    /// Asks the leader from where on the asking member's state machine may be read (thesis,
    /// section 6.4).
    ReadRequest {
        /// The asking member's term.
        term: Term,
        /// Names the request among those of its sender.
        ticket: ReadTicket,
        /// What the answer may rest on.
        consistency: Consistency,
    },
    /// Answers a [`Message::ReadRequest`].
    ReadResponse {
        /// The answering node's term.
        term: Term,
        /// The request's.
        ticket: ReadTicket,
        /// What must be applied before the read; none if the answering node does not lead or has
        /// too many such requests already.
        index: Option<LogIndex>,
    },
    /// A piece of a snapshot, for a peer that lacks what the log no longer holds (thesis, figure
    /// 5.3).
    SnapshotPiece {
        /// The leader's term.
        term: Term,
        /// Which snapshot.
        id: SnapshotId,
        /// Whether nothing follows.
        last: bool,
        /// The piece, in a block's clothes: framed, checked and bounded like all that travels. Its
        /// one entry is the piece, its index the piece's number, from 1.
        piece: Block,
    },
    /// Answers a [`Message::SnapshotPiece`].
    SnapshotAnswer {
        /// The answering node's term.
        term: Term,
        /// Which snapshot.
        id: SnapshotId,
        /// The number of the piece that it waits for; 1 if it has none, or can't take any now.
        next: u32,
    },
}

/// Which snapshot pieces are of: those of another one don't fit, whatever they say that they cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId {
    /// The last entry that it covers.
    pub at: LogPosition,
    /// Tells those of one node apart.
    pub stamp: u64,
}

/// A [`Message::AppendRequest`] whose blocks are still the leader's.
#[derive(Clone, Copy, Debug)]
pub struct AppendRequest<'a> {
    /// The leader's term.
    pub term: Term,
    /// The entry before the first of `blocks`.
    pub prev: LogPosition,
    /// The leader's commit index.
    pub commit: LogIndex,
    /// Contiguous blocks, possibly none.
    pub blocks: &'a [Block],
}

/// A [`Message::AppendRequest`] of one block, as nearly all are.
#[derive(Clone, Debug)]
pub struct AppendBlock {
    /// The leader's term.
    pub term: Term,
    /// The entry before the block's first.
    pub prev: LogPosition,
    /// The leader's commit index.
    pub commit: LogIndex,
    /// The block.
    pub block: Block,
}

impl From<AppendBlock> for Message {
    fn from(request: AppendBlock) -> Self {
        let AppendBlock { term, prev, commit, block } = request;
        Self::AppendRequest { term, prev, commit, blocks: Blocks::One(block) }
    }
}

impl From<AppendRequest<'_>> for Message {
    fn from(request: AppendRequest<'_>) -> Self {
        let AppendRequest { term, prev, commit, blocks } = request;
        Self::AppendRequest { term, prev, commit, blocks: blocks.iter().cloned().collect() }
    }
}

/// The outcome of an append on a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The follower's log agrees with the leader's up to `match_index` and is durable up to there.
    Matched {
        /// Last index known equal and durable.
        match_index: LogIndex,
    },
    /// The entry at the request's `prev` differs or is missing.
    Conflict {
        /// `prev.index` of the refused request: it tells a late answer from a current one.
        prev_index: LogIndex,
        /// The last place that may agree: the follower's last entry at or before `prev.index`
        /// whose term is at most `prev.term`. It skips whole terms, not single entries. After
        /// `prev.index` if the follower's log begins only there.
        hint: LogPosition,
    },
}

/// The blocks of an append; almost always none or one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Blocks {
    /// A probe.
    #[default]
    None,
    /// What one turn appended.
    One(Block),
    /// Catching up.
    Many(Vec<Block>),
}

impl Blocks {
    /// The blocks in log order.
    #[must_use]
    pub fn as_slice(&self) -> &[Block] {
        match self {
            Self::None => &[],
            Self::One(block) => std::slice::from_ref(block),
            Self::Many(blocks) => blocks,
        }
    }
}

impl AsRef<[Block]> for Blocks {
    fn as_ref(&self) -> &[Block] {
        self.as_slice()
    }
}

impl IntoIterator for Blocks {
    type Item = Block;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Block>, std::vec::IntoIter<Block>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Self::None => (None, Vec::new()),
            Self::One(block) => (Some(block), Vec::new()),
            Self::Many(blocks) => (None, blocks),
        };
        one.into_iter().chain(many)
    }
}

impl FromIterator<Block> for Blocks {
    fn from_iter<I: IntoIterator<Item = Block>>(blocks: I) -> Self {
        let mut blocks = blocks.into_iter();
        match (blocks.next(), blocks.next()) {
            (None, _) => Self::None,
            (Some(one), None) => Self::One(one),
            (Some(first), Some(second)) => {
                Self::Many([first, second].into_iter().chain(blocks).collect())
            }
        }
    }
}

impl Message {
    /// The sender's term, or the term asked for in pre-votes.
    #[must_use]
    pub fn term(&self) -> Term {
        match self {
            Self::PreVoteRequest { term, .. }
            | Self::PreVoteResponse { term, .. }
            | Self::VoteRequest { term, .. }
            | Self::VoteResponse { term, .. }
            | Self::AppendRequest { term, .. }
            | Self::AppendResponse { term, .. }
            | Self::Heartbeat { term, .. }
            | Self::TimeoutNow { term, .. }
            | Self::HeartbeatResponse { term, .. }
            | Self::Rest { term, .. }
            | Self::Wake { term }
            | Self::ReadRequest { term, .. }
            | Self::ReadResponse { term, .. }
            | Self::SnapshotPiece { term, .. }
            | Self::SnapshotAnswer { term, .. } => *term,
        }
    }
}
