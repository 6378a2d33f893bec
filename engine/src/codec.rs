//! Protocol messages as frames. A frame's envelope is an rkyv archive that lists the messages of
//! one turn from one shard to another, in order; its body holds their blocks, back to back and in
//! the same order, each with its own length and checksum (see [`ringleader_wal::block`]). One that
//! lists none says that its sender is there.
//!
//! The envelope is read in place after bytecheck has validated it; of the body every block is
//! checked by [`Block::take`]. Nothing is allocated before its size is known to be within the
//! frame, whose own size the connection has bounded.

use bytes::Bytes;
use ringleader_wal::{Block, BlockError, Gather, GroupId, LogIndex, LogPosition, Term};
use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize, rancor};

use crate::raft::message::{
    AppendBlock, AppendOutcome, AppendRequest, Blocks, Message, SnapshotId,
};
use crate::raft::reads::{Consistency, ReadTicket};

/// Why a frame was refused. The sender is broken or not what it says: its connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The envelope is not a valid archive, or holds a message of no known kind.
    #[error("malformed envelope")]
    Envelope,
    /// A block does not pass its check.
    #[error("message for group {group}: {error}")]
    Block {
        /// The group that the message is for.
        group: GroupId,
        /// What is wrong.
        error: BlockError,
    },
    /// A block belongs to another group than its message, or does not follow the one before it.
    #[error("message for group {0}: its blocks are not contiguous blocks of that group")]
    Order(GroupId),
    /// The body holds bytes that no message claims.
    #[error("{0} bytes after the last block")]
    Trailing(usize),
}

#[derive(Archive, Serialize, Default)]
struct Envelope {
    messages: Vec<WireMessage>,
}

/// A message of any kind; numbers that its kind has no use for are zero. Integers alone, without
/// padding between them, are in the archive what they are in memory: writing any number of messages
/// is one copy, and every content passes bytecheck, which leaves `kind` to be checked.
#[derive(Archive, Serialize, Default)]
struct WireMessage {
    group: u64,
    term: u64,
    /// Of the entry that the message names: last, previous, matched, refused. The round of a
    /// heartbeat, the ticket of a read.
    index: u64,
    /// The term of that entry or, in a conflict, of the hint.
    entry_term: u64,
    /// The commit index or, in a conflict, the hint's; what a read must wait for.
    other_index: u64,
    kind: u32,
    blocks: u32,
}

const _: () = assert!(<WireMessage as Archive>::COPY_OPTIMIZATION.is_enabled());

/// What [`WireMessage::kind`] says.
mod kind {
    pub(super) const PRE_VOTE_REQUEST: u32 = 1;
    pub(super) const PRE_VOTE_GRANTED: u32 = 2;
    pub(super) const PRE_VOTE_REFUSED: u32 = 3;
    pub(super) const VOTE_REQUEST: u32 = 4;
    pub(super) const VOTE_GRANTED: u32 = 5;
    pub(super) const VOTE_REFUSED: u32 = 6;
    pub(super) const APPEND_REQUEST: u32 = 7;
    pub(super) const MATCHED: u32 = 8;
    pub(super) const CONFLICT: u32 = 9;
    pub(super) const HEARTBEAT: u32 = 10;
    pub(super) const HEARTBEAT_RESPONSE: u32 = 11;
    pub(super) const READ_REQUEST: u32 = 12;
    pub(super) const LEASE_READ_REQUEST: u32 = 13;
    /// Refused, if it names no index.
    pub(super) const READ_RESPONSE: u32 = 14;
    pub(super) const TIMEOUT_NOW: u32 = 15;
    pub(super) const HANDOVER_VOTE_REQUEST: u32 = 16;
    pub(super) const SNAPSHOT_PIECE: u32 = 20;
    pub(super) const SNAPSHOT_LAST_PIECE: u32 = 21;
    pub(super) const SNAPSHOT_ANSWER: u32 = 22;
    pub(super) const REST: u32 = 40;
    pub(super) const WAKE: u32 = 41;
}

fn to_wire(group: GroupId, message: &Message) -> WireMessage {
    let plain = |kind| WireMessage {
        group: group.0,
        term: message.term().0,
        kind,
        ..WireMessage::default()
    };
    let at = |kind, entry: &LogPosition| WireMessage {
        index: entry.index.0,
        entry_term: entry.term.0,
        ..plain(kind)
    };
    match message {
        Message::PreVoteRequest { last, .. } => at(kind::PRE_VOTE_REQUEST, last),
        Message::PreVoteResponse { granted: true, .. } => plain(kind::PRE_VOTE_GRANTED),
        Message::PreVoteResponse { granted: false, .. } => plain(kind::PRE_VOTE_REFUSED),
        Message::VoteRequest { last, handover: false, .. } => at(kind::VOTE_REQUEST, last),
        Message::VoteRequest { last, .. } => at(kind::HANDOVER_VOTE_REQUEST, last),
        Message::TimeoutNow { last, .. } => at(kind::TIMEOUT_NOW, last),
        Message::Rest { last, .. } => at(kind::REST, last),
        Message::Wake { .. } => plain(kind::WAKE),
        Message::VoteResponse { granted: true, .. } => plain(kind::VOTE_GRANTED),
        Message::VoteResponse { granted: false, .. } => plain(kind::VOTE_REFUSED),
        Message::AppendRequest { term, prev, commit, blocks } => {
            let (term, prev, commit, blocks) = (*term, *prev, *commit, blocks.as_slice());
            append_to_wire(group, &AppendRequest { term, prev, commit, blocks })
        }
        Message::AppendResponse { outcome, .. } => match outcome {
            AppendOutcome::Matched { match_index } => {
                WireMessage { index: match_index.0, ..plain(kind::MATCHED) }
            }
            AppendOutcome::Conflict { prev_index, hint } => WireMessage {
                index: prev_index.0,
                entry_term: hint.term.0,
                other_index: hint.index.0,
                ..plain(kind::CONFLICT)
            },
        },
        Message::Heartbeat { commit, round, .. } => {
            WireMessage { index: *round, other_index: commit.0, ..plain(kind::HEARTBEAT) }
        }
        Message::HeartbeatResponse { round, .. } => {
            WireMessage { index: *round, ..plain(kind::HEARTBEAT_RESPONSE) }
        }
        Message::ReadRequest { ticket, consistency, .. } => {
            let kind = match consistency {
                Consistency::Linearizable => kind::READ_REQUEST,
                Consistency::Lease => kind::LEASE_READ_REQUEST,
            };
            WireMessage { index: ticket.0, ..plain(kind) }
        }
        Message::ReadResponse { ticket, index, .. } => {
            let other_index = index.unwrap_or_default().0;
            WireMessage { index: ticket.0, other_index, ..plain(kind::READ_RESPONSE) }
        }
        Message::SnapshotPiece { id, last, .. } => {
            let kind = if *last { kind::SNAPSHOT_LAST_PIECE } else { kind::SNAPSHOT_PIECE };
            WireMessage { other_index: id.stamp, ..at(kind, &id.at) }
        }
        Message::SnapshotAnswer { id, next, .. } => {
            let wire = at(kind::SNAPSHOT_ANSWER, &id.at);
            WireMessage { other_index: id.stamp, blocks: *next, ..wire }
        }
    }
}

fn append_to_wire(group: GroupId, request: &AppendRequest<'_>) -> WireMessage {
    WireMessage {
        group: group.0,
        term: request.term.0,
        index: request.prev.index.0,
        entry_term: request.prev.term.0,
        other_index: request.commit.0,
        kind: kind::APPEND_REQUEST,
        blocks: request.blocks.len() as u32,
    }
}

/// Collects the messages of one turn for one peer.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    envelope: Envelope,
    blocks: Gather,
}

impl Encoder {
    /// Adds a message after those already there.
    pub(crate) fn push(&mut self, group: GroupId, message: &Message) {
        self.envelope.messages.push(to_wire(group, message));
        match message {
            Message::AppendRequest { blocks, .. } => {
                blocks.as_slice().iter().for_each(|block| self.blocks.push(block));
            }
            Message::SnapshotPiece { piece, .. } => self.blocks.push(piece),
            _ => {}
        }
    }

    /// Likewise.
    pub(crate) fn push_append(&mut self, group: GroupId, request: &AppendRequest<'_>) {
        self.envelope.messages.push(append_to_wire(group, request));
        request.blocks.iter().for_each(|block| self.blocks.push(block));
    }

    /// Bytes of the blocks added since the last [`finish`](Self::finish).
    pub(crate) fn body_bytes(&self) -> usize {
        self.blocks.len()
    }

    /// Takes the envelope and the body's parts of what was added; `None` if nothing was.
    pub(crate) fn finish(&mut self) -> Option<(Bytes, Vec<Bytes>)> {
        (!self.envelope.messages.is_empty()).then(|| self.finish_any())
    }

    /// Likewise, if only to say that the sender is there.
    pub(crate) fn finish_any(&mut self) -> (Bytes, Vec<Bytes>) {
        let room = 16 + self.envelope.messages.len() * size_of::<ArchivedWireMessage>();
        let buffer = AlignedVec::<16>::with_capacity(room);
        let envelope = rkyv::api::high::to_bytes_in::<_, rancor::Panic>(&self.envelope, buffer);
        let envelope = envelope.unwrap_or_else(|never| match never {});
        self.envelope.messages.clear();
        let mut body = Vec::new();
        self.blocks.take(&mut body);
        (Bytes::from_owner(envelope), body)
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} messages", self.messages.len())
    }
}

/// How many groups ahead of its work a turn has memory fetched; see
/// [`prefetch`](ringleader_wal::prefetch): a group's own, what that points to, and what that does.
pub(crate) const FAR: usize = 8;
pub(crate) const NEAR: usize = 4;
pub(crate) const NEXT: usize = 2;

/// So many messages' groups are looked up together: one look waits for memory, and many that do not
/// depend on each other wait at the same time.
pub(crate) const CHUNK: usize = 32;

/// Takes a frame's messages.
pub(crate) trait Deliver {
    /// Messages for `groups` come, [`CHUNK`] at most, after those announced before. At least so many
    /// are announced before they come, or as many as the frame has.
    fn announce(&mut self, _groups: impl Iterator<Item = GroupId>) {}

    /// The next of the messages announced.
    fn deliver(&mut self, group: GroupId, message: Message);

    /// The same for a request of one block.
    fn append(&mut self, group: GroupId, request: AppendBlock) {
        self.deliver(group, request.into());
    }

    /// The same for the answer that the log matches the leader's up to an index.
    fn matched(&mut self, group: GroupId, term: Term, match_index: LogIndex) {
        let outcome = AppendOutcome::Matched { match_index };
        self.deliver(group, Message::AppendResponse { term, outcome });
    }
}

impl<F: FnMut(GroupId, Message)> Deliver for F {
    fn deliver(&mut self, group: GroupId, message: Message) {
        self(group, message);
    }
}

/// Reads a frame, and gives each message to `to`, in order.
///
/// # Errors
/// Messages before the place of the error were delivered; they are valid in themselves.
pub(crate) fn decode(
    envelope: &[u8],
    mut body: Bytes,
    mut to: impl Deliver,
) -> Result<(), CodecError> {
    let envelope = rkyv::access::<ArchivedEnvelope, rancor::Failure>(envelope)
        .map_err(|_| CodecError::Envelope)?;
    let messages = envelope.messages.as_slice();
    let group_of = |message: &ArchivedWireMessage| GroupId(message.group.to_native());
    let mut ahead = messages.chunks(CHUNK).map(|chunk| chunk.iter().map(group_of));
    ahead.next().into_iter().for_each(|groups| to.announce(groups));
    for chunk in messages.chunks(CHUNK) {
        ahead.next().into_iter().for_each(|groups| to.announce(groups));
        for message in chunk {
            let group = group_of(message);
            match (message.kind.to_native(), message.blocks.to_native()) {
                (kind::APPEND_REQUEST, 1) => {
                    to.append(group, append_from_wire(group, message, &mut body)?);
                }
                (kind::MATCHED, _) => {
                    let (term, index) = (message.term.to_native(), message.index.to_native());
                    to.matched(group, Term(term), LogIndex(index));
                }
                _ => to.deliver(group, from_wire(group, message, &mut body)?),
            }
        }
    }
    if body.is_empty() { Ok(()) } else { Err(CodecError::Trailing(body.len())) }
}

#[inline]
fn append_from_wire(
    group: GroupId,
    message: &ArchivedWireMessage,
    body: &mut Bytes,
) -> Result<AppendBlock, CodecError> {
    let (index, entry_term) = (message.index.to_native(), message.entry_term.to_native());
    let prev = LogPosition { index: LogIndex(index), term: Term(entry_term) };
    Ok(AppendBlock {
        term: Term(message.term.to_native()),
        prev,
        commit: LogIndex(message.other_index.to_native()),
        block: take_block(group, prev, body)?,
    })
}

/// Reads a message of any kind.
#[inline(never)]
fn from_wire(
    group: GroupId,
    message: &ArchivedWireMessage,
    body: &mut Bytes,
) -> Result<Message, CodecError> {
    let term = Term(message.term.to_native());
    let index = LogIndex(message.index.to_native());
    let other_index = LogIndex(message.other_index.to_native());
    let entry_term = Term(message.entry_term.to_native());
    let at = LogPosition { index, term: entry_term };
    let id = SnapshotId { at, stamp: other_index.0 };
    Ok(match message.kind.to_native() {
        kind::APPEND_REQUEST => {
            let blocks = take_blocks(group, at, message.blocks.to_native(), body)?;
            Message::AppendRequest { term, prev: at, commit: other_index, blocks }
        }
        kind::MATCHED => {
            let outcome = AppendOutcome::Matched { match_index: index };
            Message::AppendResponse { term, outcome }
        }
        kind::CONFLICT => {
            let hint = LogPosition { index: other_index, term: entry_term };
            let outcome = AppendOutcome::Conflict { prev_index: index, hint };
            Message::AppendResponse { term, outcome }
        }
        kind::HEARTBEAT => Message::Heartbeat { term, commit: other_index, round: index.0 },
        kind::HEARTBEAT_RESPONSE => Message::HeartbeatResponse { term, round: index.0 },
        kind::READ_REQUEST => {
            let (ticket, consistency) = (ReadTicket(index.0), Consistency::Linearizable);
            Message::ReadRequest { term, ticket, consistency }
        }
        kind::LEASE_READ_REQUEST => {
            let (ticket, consistency) = (ReadTicket(index.0), Consistency::Lease);
            Message::ReadRequest { term, ticket, consistency }
        }
        kind::READ_RESPONSE => {
            let index = Some(other_index).filter(|index| *index > LogIndex(0));
            Message::ReadResponse { term, ticket: ReadTicket(message.index.to_native()), index }
        }
        kind::PRE_VOTE_REQUEST => Message::PreVoteRequest { term, last: at },
        kind::PRE_VOTE_GRANTED => Message::PreVoteResponse { term, granted: true },
        kind::PRE_VOTE_REFUSED => Message::PreVoteResponse { term, granted: false },
        kind::VOTE_REQUEST => Message::VoteRequest { term, last: at, handover: false },
        kind::HANDOVER_VOTE_REQUEST => Message::VoteRequest { term, last: at, handover: true },
        kind::TIMEOUT_NOW => Message::TimeoutNow { term, last: at },
        kind::REST => Message::Rest { term, last: at },
        kind::WAKE => Message::Wake { term },
        kind::VOTE_GRANTED => Message::VoteResponse { term, granted: true },
        kind::VOTE_REFUSED => Message::VoteResponse { term, granted: false },
        wire @ (kind::SNAPSHOT_PIECE | kind::SNAPSHOT_LAST_PIECE) => {
            let piece = take_piece(group, body)?;
            Message::SnapshotPiece { term, id, last: wire == kind::SNAPSHOT_LAST_PIECE, piece }
        }
        kind::SNAPSHOT_ANSWER => {
            Message::SnapshotAnswer { term, id, next: message.blocks.to_native() }
        }
        _ => return Err(CodecError::Envelope),
    })
}

fn take_piece(group: GroupId, body: &mut Bytes) -> Result<Block, CodecError> {
    let piece = Block::take(body).map_err(|error| CodecError::Block { group, error })?;
    let fits = piece.group() == group && piece.count() == 1;
    if fits { Ok(piece) } else { Err(CodecError::Order(group)) }
}

/// The body's next block, which must follow `before`.
#[inline(always)]
fn take_block(group: GroupId, before: LogPosition, body: &mut Bytes) -> Result<Block, CodecError> {
    let block = Block::take(body).map_err(|error| CodecError::Block { group, error })?;
    let follows =
        before.index.0.checked_add(1) == Some(block.first_index().0) && before.term <= block.term();
    if block.group() == group && follows { Ok(block) } else { Err(CodecError::Order(group)) }
}

fn take_blocks(
    group: GroupId,
    mut before: LogPosition,
    count: u32,
    body: &mut Bytes,
) -> Result<Blocks, CodecError> {
    let mut take = || {
        let block = take_block(group, before, body)?;
        before = block.last_position();
        Ok(block)
    };
    match count {
        0 => Ok(Blocks::None),
        1 => Ok(Blocks::One(take()?)),
        _ => (0..count).map(|_| take()).collect(),
    }
}
