//! What is waiting to be written to one peer, bounded in bytes.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::Epoch;
use crate::frame::{FrameKind, HEADER_LEN, encode_head};

/// Blocks up to this many bytes are copied behind their envelope; larger ones are queued as they
/// are and reach the kernel as one entry of a vectored write. An entry (reference count, queue
/// slot, iovec) costs about what copying this much does.
pub const INLINE_BLOCK_BYTES: usize = 2048;

/// Why a frame was not queued. Nothing of it was; the frames before it are not affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// There is no connection to this peer at the moment.
    #[error("no connection to the peer")]
    Closed,
    /// The peer doesn't read as fast as frames are queued for it: try again after the next
    /// write, or send less.
    #[error("the outbox holds {held} of at most {limit} bytes; a frame of {frame} doesn't fit")]
    Full {
        /// Bytes queued or handed to the writer and not written yet.
        held: usize,
        /// Most bytes that may be held.
        limit: usize,
        /// Size of the refused frame in bytes.
        frame: usize,
    },
    /// The frame exceeds what any peer accepts: it must be split, retrying doesn't help.
    #[error("a frame of {frame} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Size of the refused frame in bytes.
        frame: usize,
        /// Largest size allowed, in bytes.
        limit: usize,
    },
}

/// The frames for one peer, in order, until they are written.
///
/// Bytes count from [`push`](Self::push) until [`written`](Self::written), so those that a writer
/// has taken and that the socket doesn't accept count as well: a peer that stops reading leads to
/// [`PushError::Full`], never to more memory.
///
/// An outbox belongs to one connection at a time: [`open`](Self::open) and
/// [`close`](Self::close) follow it up and down, and what was queued for one epoch is never sent
/// in another.
#[derive(Debug)]
pub struct Outbox {
    epoch: Option<Epoch>,
    queue: VecDeque<Bytes>,
    /// Headers, envelopes and small blocks behind the last chunk of `queue`.
    tail: BytesMut,
    /// Blocks of the frame being pushed; kept for its allocation.
    blocks: Vec<Bytes>,
    queued: usize,
    taken: usize,
    limit: usize,
    max_frame: usize,
}

impl Outbox {
    /// A closed outbox for at most `limit_bytes`, with frames of at most `max_frame_bytes`
    /// (header included). A limit below the largest frame is raised to it, or that frame could
    /// never be sent.
    #[must_use]
    pub fn new(limit_bytes: usize, max_frame_bytes: usize) -> Self {
        Self {
            epoch: None,
            queue: VecDeque::new(),
            tail: BytesMut::new(),
            blocks: Vec::new(),
            queued: 0,
            taken: 0,
            limit: limit_bytes.max(max_frame_bytes),
            max_frame: max_frame_bytes,
        }
    }

    /// A connection came up: starts empty, for this epoch.
    pub fn open(&mut self, epoch: Epoch) {
        self.close();
        self.epoch = Some(epoch);
    }

    /// The connection is gone, and with it everything that was not written.
    pub fn close(&mut self) {
        self.epoch = None;
        self.queue.clear();
        self.tail = BytesMut::new();
        self.queued = 0;
        self.taken = 0;
    }

    /// The epoch whose frames this outbox takes; `None` while closed.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Queues one frame. Its body is all `blocks`, one after the other.
    ///
    /// Frames reach the peer in the order of these calls, each once, unless the connection goes
    /// down first: being queued promises nothing.
    ///
    /// # Errors
    ///
    /// See [`PushError`].
    pub fn push(
        &mut self,
        kind: FrameKind,
        envelope: &[u8],
        blocks: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), PushError> {
        if self.epoch.is_none() {
            return Err(PushError::Closed);
        }
        let mut parts = std::mem::take(&mut self.blocks);
        parts.extend(blocks);
        let (mut body, mut copied) = (0, HEADER_LEN + envelope.len());
        for part in &parts {
            body += part.len();
            copied += if part.len() <= INLINE_BLOCK_BYTES { part.len() } else { 0 };
        }
        let pushed = self.admit(HEADER_LEN + envelope.len() + body);
        if pushed.is_ok() {
            self.tail.reserve(copied);
            encode_head(&mut self.tail, kind, envelope, body);
            parts.drain(..).for_each(|block| self.push_block(block));
        }
        parts.clear();
        self.blocks = parts;
        pushed
    }

    /// Moves up to `max_bytes` to the end of `chunks`, in order, and gives their number. They
    /// count as held until [`written`](Self::written).
    pub fn take(&mut self, max_bytes: usize, chunks: &mut VecDeque<Bytes>) -> usize {
        self.seal_tail();
        let mut count = 0;
        while count < max_bytes
            && let Some(mut chunk) = self.queue.pop_front()
        {
            if chunk.len() > max_bytes - count {
                let rest = chunk.split_off(max_bytes - count);
                self.queue.push_front(rest);
            }
            count += chunk.len();
            chunks.push_back(chunk);
        }
        self.queued -= count;
        self.taken += count;
        count
    }

    /// Tells that `count` of the taken bytes are the kernel's now.
    ///
    /// # Panics
    ///
    /// If more is written than was taken.
    pub fn written(&mut self, count: usize) {
        self.taken =
            self.taken.checked_sub(count).expect("bytes are taken before they are written");
    }

    /// Bytes waiting to be taken.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queued
    }

    /// Bytes waiting to be taken or written: what counts against the limit.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.queued + self.taken
    }

    /// Bytes that a frame may have to be accepted now, header included; zero while closed.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        if self.epoch.is_none() { 0 } else { self.limit - self.held_bytes() }
    }

    fn admit(&mut self, frame: usize) -> Result<(), PushError> {
        if frame > self.max_frame {
            return Err(PushError::TooLarge { frame, limit: self.max_frame });
        }
        let held = self.held_bytes();
        if frame > self.limit - held {
            return Err(PushError::Full { held, limit: self.limit, frame });
        }
        self.queued += frame;
        Ok(())
    }

    fn push_block(&mut self, block: Bytes) {
        if block.len() <= INLINE_BLOCK_BYTES {
            self.tail.extend_from_slice(&block);
        } else {
            self.seal_tail();
            self.queue.push_back(block);
        }
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
    }
}

/// Drops the first `count` bytes of `chunks`, after a write that took only those.
///
/// # Panics
///
/// If there are fewer.
pub fn advance_chunks(chunks: &mut VecDeque<Bytes>, mut count: usize) {
    while count > 0 {
        let first = chunks.front_mut().expect("no more is dropped than there is");
        if first.len() > count {
            bytes::Buf::advance(first, count);
            return;
        }
        count -= first.len();
        chunks.pop_front();
    }
}
