//! Protocol messages as frames. A frame's envelope is an rkyv archive that lists the messages of
//! one turn from one shard to another, in order; its body holds their blocks, back to back and in
//! the same order, each with its own length and checksum (see [`ringleader_wal::block`]).
//!
//! The envelope is read in place after bytecheck has validated it; of the body every block is
//! checked by [`Block::take`]. Nothing is allocated before its size is known to be within the
//! frame, whose own size the connection has bounded.

use bytes::Bytes;
use ringleader_wal::{Block, BlockError, Gather, GroupId, LogIndex, LogPosition, Term};
use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize, rancor};

use crate::raft::message::{AppendOutcome, Blocks, Message};

/// Why a frame was refused. The sender is broken or not what it says: its connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The envelope is not a valid archive.
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

#[derive(Archive, Serialize)]
struct WireMessage {
    group: u64,
    term: u64,
    body: WireBody,
}

#[derive(Archive, Serialize)]
enum WireBody {
    PreVoteRequest { index: u64, term: u64 },
    PreVoteResponse { granted: bool },
    VoteRequest { index: u64, term: u64 },
    VoteResponse { granted: bool },
    AppendRequest { prev_index: u64, prev_term: u64, commit: u64, blocks: u32 },
    Matched { match_index: u64 },
    Conflict { prev_index: u64, hint_index: u64, hint_term: u64 },
    Heartbeat { commit: u64 },
    HeartbeatResponse,
}

fn to_wire(group: GroupId, message: &Message) -> WireMessage {
    let body = match message {
        Message::PreVoteRequest { last, .. } => {
            WireBody::PreVoteRequest { index: last.index.0, term: last.term.0 }
        }
        Message::PreVoteResponse { granted, .. } => WireBody::PreVoteResponse { granted: *granted },
        Message::VoteRequest { last, .. } => {
            WireBody::VoteRequest { index: last.index.0, term: last.term.0 }
        }
        Message::VoteResponse { granted, .. } => WireBody::VoteResponse { granted: *granted },
        Message::AppendRequest { prev, commit, blocks, .. } => WireBody::AppendRequest {
            prev_index: prev.index.0,
            prev_term: prev.term.0,
            commit: commit.0,
            blocks: blocks.as_slice().len() as u32,
        },
        Message::AppendResponse { outcome, .. } => match outcome {
            AppendOutcome::Matched { match_index } => {
                WireBody::Matched { match_index: match_index.0 }
            }
            AppendOutcome::Conflict { prev_index, hint } => WireBody::Conflict {
                prev_index: prev_index.0,
                hint_index: hint.index.0,
                hint_term: hint.term.0,
            },
        },
        Message::Heartbeat { commit, .. } => WireBody::Heartbeat { commit: commit.0 },
        Message::HeartbeatResponse { .. } => WireBody::HeartbeatResponse,
    };
    WireMessage { group: group.0, term: message.term().0, body }
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
        if let Message::AppendRequest { blocks, .. } = message {
            for block in blocks.as_slice() {
                self.blocks.push(block);
            }
        }
    }

    /// Bytes of the blocks added since the last [`finish`](Self::finish).
    pub(crate) fn body_bytes(&self) -> usize {
        self.blocks.len()
    }

    /// Takes the envelope and the blocks of what was added; `None` if nothing was.
    pub(crate) fn finish(&mut self) -> Option<(Bytes, Vec<Bytes>)> {
        if self.envelope.messages.is_empty() {
            return None;
        }
        let room = 16 + self.envelope.messages.len() * size_of::<ArchivedWireMessage>();
        let buffer = AlignedVec::<16>::with_capacity(room);
        let envelope = rkyv::api::high::to_bytes_in::<_, rancor::Panic>(&self.envelope, buffer);
        let envelope = envelope.unwrap_or_else(|never| match never {});
        self.envelope.messages.clear();
        let mut body = Vec::new();
        self.blocks.take(&mut body);
        Some((Bytes::from_owner(envelope), body))
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} messages", self.messages.len())
    }
}

/// Reads a frame, and gives each message to `deliver`, in order.
///
/// # Errors
/// Messages before the place of the error were delivered; they are valid in themselves.
pub(crate) fn decode(
    envelope: &[u8],
    mut body: Bytes,
    mut deliver: impl FnMut(GroupId, Message),
) -> Result<(), CodecError> {
    let envelope = rkyv::access::<ArchivedEnvelope, rancor::Failure>(envelope)
        .map_err(|_| CodecError::Envelope)?;
    for message in envelope.messages.iter() {
        let group = GroupId(message.group.to_native());
        deliver(group, from_wire(group, message, &mut body)?);
    }
    if body.is_empty() { Ok(()) } else { Err(CodecError::Trailing(body.len())) }
}

fn position(index: u64, term: u64) -> LogPosition {
    LogPosition { index: LogIndex(index), term: Term(term) }
}

fn from_wire(
    group: GroupId,
    message: &ArchivedWireMessage,
    body: &mut Bytes,
) -> Result<Message, CodecError> {
    use ArchivedWireBody as Wire;
    let term = Term(message.term.to_native());
    let response = |outcome| Message::AppendResponse { term, outcome };
    Ok(match &message.body {
        Wire::PreVoteRequest { index, term: last } => {
            Message::PreVoteRequest { term, last: position(index.to_native(), last.to_native()) }
        }
        Wire::PreVoteResponse { granted } => Message::PreVoteResponse { term, granted: *granted },
        Wire::VoteRequest { index, term: last } => {
            Message::VoteRequest { term, last: position(index.to_native(), last.to_native()) }
        }
        Wire::VoteResponse { granted } => Message::VoteResponse { term, granted: *granted },
        Wire::AppendRequest { prev_index, prev_term, commit, blocks } => {
            let prev = position(prev_index.to_native(), prev_term.to_native());
            Message::AppendRequest {
                term,
                prev,
                commit: LogIndex(commit.to_native()),
                blocks: take_blocks(group, prev, blocks.to_native(), body)?,
            }
        }
        Wire::Matched { match_index } => {
            response(AppendOutcome::Matched { match_index: LogIndex(match_index.to_native()) })
        }
        Wire::Conflict { prev_index, hint_index, hint_term } => response(AppendOutcome::Conflict {
            prev_index: LogIndex(prev_index.to_native()),
            hint: position(hint_index.to_native(), hint_term.to_native()),
        }),
        Wire::Heartbeat { commit } => {
            Message::Heartbeat { term, commit: LogIndex(commit.to_native()) }
        }
        Wire::HeartbeatResponse => Message::HeartbeatResponse { term },
    })
}

fn take_blocks(
    group: GroupId,
    prev: LogPosition,
    count: u32,
    body: &mut Bytes,
) -> Result<Blocks, CodecError> {
    let mut before = prev;
    (0..count)
        .map(|_| {
            let block = Block::take(body).map_err(|error| CodecError::Block { group, error })?;
            let follows = before.index.0.checked_add(1) == Some(block.first_index().0)
                && before.term <= block.term();
            if block.group() != group || !follows {
                return Err(CodecError::Order(group));
            }
            before = block.last_position();
            Ok(block)
        })
        .collect()
}
