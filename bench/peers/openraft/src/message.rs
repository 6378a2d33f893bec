//! Requests and answers between nodes, and the frames that they are in: a length of 32 bits, and the
//! message.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse,
};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;

use crate::codec;
use crate::types::Types;

const LENGTH: usize = 4;
const READ_BYTES: usize = 256 << 10;

const FLUSHED: u8 = 0;
const CONFLICT: u8 = 1;
const HIGHER_VOTE: u8 = 2;

/// Appends a frame.
pub(crate) fn put_frame(to: &mut Vec<u8>, message: impl FnOnce(&mut Vec<u8>)) {
    let begin = to.len();
    to.extend_from_slice(&[0; LENGTH]);
    message(to);
    let length = (to.len() - begin - LENGTH) as u32;
    to[begin..begin + LENGTH].copy_from_slice(&length.to_le_bytes());
}

pub(crate) struct Frames {
    socket: OwnedReadHalf,
    buffer: BytesMut,
}

impl Frames {
    pub(crate) fn new(socket: OwnedReadHalf) -> Self {
        Self { socket, buffer: BytesMut::new() }
    }

    /// The next frame's message. The end of the connection is an error.
    pub(crate) async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(&length) = self.buffer.first_chunk::<LENGTH>() {
                let length = u32::from_le_bytes(length) as usize;
                if self.buffer.len() >= LENGTH + length {
                    self.buffer.advance(LENGTH);
                    return Ok(self.buffer.split_to(length).freeze());
                }
            }
            self.buffer.reserve(READ_BYTES);
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

pub(crate) fn put_append(to: &mut Vec<u8>, request: &AppendEntriesRequest<Types>) {
    codec::put_vote(to, &request.vote);
    codec::put_last(to, request.prev_log_id);
    codec::put_last(to, request.leader_commit);
    to.put_u32_le(request.entries.len() as u32);
    request.entries.iter().for_each(|entry| codec::put_entry(to, entry));
}

pub(crate) fn append(mut from: Bytes) -> AppendEntriesRequest<Types> {
    AppendEntriesRequest {
        vote: codec::vote(&mut from),
        prev_log_id: codec::last(&mut from),
        leader_commit: codec::last(&mut from),
        entries: (0..from.get_u32_le()).map(|_| codec::entry(&mut from)).collect(),
    }
}

pub(crate) fn put_appended(to: &mut Vec<u8>, result: &StreamAppendResult<Types>) {
    match result {
        Ok(flushed) => {
            to.put_u8(FLUSHED);
            codec::put_last(to, *flushed);
        }
        Err(StreamAppendError::Conflict(at)) => {
            to.put_u8(CONFLICT);
            codec::put_log_id(to, *at);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            to.put_u8(HIGHER_VOTE);
            codec::put_vote(to, vote);
        }
    }
}

pub(crate) fn appended(mut from: Bytes) -> StreamAppendResult<Types> {
    match from.get_u8() {
        FLUSHED => Ok(codec::last(&mut from)),
        CONFLICT => Err(StreamAppendError::Conflict(codec::log_id(&mut from))),
        _ => Err(StreamAppendError::HigherVote(codec::vote(&mut from))),
    }
}

pub(crate) fn put_vote_request(to: &mut Vec<u8>, request: &VoteRequest<Types>) {
    codec::put_vote(to, &request.vote);
    codec::put_last(to, request.last_log_id);
    to.put_u8(request.leadership_transfer.into());
}

pub(crate) fn vote_request(mut from: Bytes) -> VoteRequest<Types> {
    VoteRequest {
        vote: codec::vote(&mut from),
        last_log_id: codec::last(&mut from),
        leadership_transfer: from.get_u8() != 0,
    }
}

pub(crate) fn put_vote_response(to: &mut Vec<u8>, response: &VoteResponse<Types>) {
    codec::put_vote(to, &response.vote);
    codec::put_last(to, response.last_log_id);
    to.put_u8(response.vote_granted.into());
}

pub(crate) fn vote_response(mut from: Bytes) -> VoteResponse<Types> {
    VoteResponse {
        vote: codec::vote(&mut from),
        last_log_id: codec::last(&mut from),
        vote_granted: from.get_u8() != 0,
    }
}
