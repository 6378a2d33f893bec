//! From the bytes of a socket to frames, without copying them once more.
//!
//! # Buffers, and who may keep them
//!
//! Bytes are received into **chunks**, and the frames given out are slices of them. Chunks start
//! at 16 KiB and quadruple, up to the size that is set (256 KiB by default), whenever a read fills
//! what it was given: thousands of quiet connections don't cost thousands of large buffers. A chunk is reused when every slice of it is gone, and otherwise left
//! to its holders and replaced.
//!
//! - A frame that doesn't fit into what is left of a chunk moves to the next one with the part
//!   that has arrived: at most one such copy per frame, and never of more than one chunk. A frame
//!   larger than a chunk gets a buffer of exactly its size, into which the rest is received
//!   directly.
//! - **Pinning.** A slice keeps its whole chunk alive, so a quiet group that holds on to one
//!   block of 100 bytes would hold 256 KiB. Bodies shorter than 1/32 of a chunk are therefore
//!   copied into an allocation of their own (for the few KiB in question that costs about what a
//!   reference count costs), so that a kept *body* pins at most 32 times its size. Envelopes are
//!   never copied: they are read and dropped in the turn in which they arrive. Who keeps a small
//!   *part* of a body beyond the turn (one group's block out of a body for a thousand groups)
//!   must copy it out by the same rule.
//!
//! - **Using memory again.** What is read is held for a turn, so a busy connection fills the next
//!   buffers meanwhile. It keeps the last three that were filled, and receives into them again once
//!   nobody holds anything in them: fresh memory of that size would come from the kernel, page by
//!   page, and be filled with zeros first. Those of large frames go when large frames no longer come.
//!
//! Memory of the decoder is bounded by four times the larger of one chunk and `max_frame_bytes`,
//! whatever a peer sends: lengths are checked before anything is reserved for them.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{Frame, FrameError, HEADER_LEN, Header};

/// Bodies shorter than a chunk divided by this are copied out, see the [module](self).
const PIN_FACTOR: usize = 32;

/// Size of the first chunk, if the one that is set isn't smaller.
const FIRST_CHUNK: usize = 16 * 1024;

/// A chunk with less room than this is not worth another system call.
const MIN_SPACE: usize = 1024;

/// Buffers kept to be used again.
const KEPT: usize = 3;
/// So many buffers long a large one is kept for the next large frame.
const LARGE_FOR: u32 = 64;

/// Turns the bytes of one stream into frames. See the [module](self) for its memory.
#[derive(Debug)]
pub struct FrameDecoder {
    /// `..filled` has been received and not been given out; the rest is initialised space.
    buffer: BytesMut,
    filled: usize,
    /// Size of the allocation behind `buffer`.
    allocation: usize,
    /// Buffers that were filled, with nothing of their own any more; frames may hold parts of them.
    /// Oldest first, each with its size.
    kept: VecDeque<(BytesMut, usize)>,
    /// Buffers since one was needed for a frame larger than a chunk.
    since_large: u32,
    /// Size of the next chunk.
    chunk: usize,
    max_chunk: usize,
    max_frame: usize,
    head: Head,
}

/// How much of the frame at the front of the buffer is known to be good.
#[derive(Debug)]
enum Head {
    Missing,
    Header(Header),
    Envelope(Header),
    Failed(FrameError),
}

impl FrameDecoder {
    /// A decoder that refuses frames of more than `max_frame_bytes` (header included) and
    /// receives into chunks of up to `chunk_bytes`. Nothing is allocated before [`space`](Self::space).
    #[must_use]
    pub fn new(max_frame_bytes: usize, chunk_bytes: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            filled: 0,
            allocation: 0,
            kept: VecDeque::new(),
            since_large: u32::MAX,
            chunk: chunk_bytes.clamp(MIN_SPACE, FIRST_CHUNK),
            max_chunk: chunk_bytes.max(MIN_SPACE),
            max_frame: max_frame_bytes,
            head: Head::Missing,
        }
    }

    /// Changes the limits for all frames whose header hasn't been seen yet: small until a peer
    /// has introduced itself, full size afterwards. Bytes already received stay.
    pub fn set_limits(&mut self, max_frame_bytes: usize, chunk_bytes: usize) {
        self.max_frame = max_frame_bytes;
        self.max_chunk = chunk_bytes.max(MIN_SPACE);
        self.chunk = self.chunk.min(self.max_chunk);
    }

    /// Where the next bytes of the stream are to be received: never empty. While a large frame is
    /// incomplete, it ends where that frame ends.
    ///
    /// Call [`next_frame`](Self::next_frame) until it gives none before asking for space, so that
    /// what is known about the frame at the front is used.
    pub fn space(&mut self) -> &mut [u8] {
        let wanted = match &self.head {
            Head::Header(header) | Head::Envelope(header) => header.frame_len(),
            Head::Missing | Head::Failed(_) => HEADER_LEN,
        };
        let room = self.buffer.len() - self.filled;
        let fits = wanted > self.filled && wanted <= self.buffer.len();
        if !fits || (room < MIN_SPACE && wanted == HEADER_LEN) {
            self.renew(wanted.max(self.filled + 1));
        }
        // What lies behind a frame that fills a buffer of its own would have to be copied out of it.
        let end = if wanted > self.chunk { wanted } else { self.buffer.len() };
        &mut self.buffer[self.filled..end]
    }

    /// Tells that the first `count` bytes of [`space`](Self::space) have been received.
    ///
    /// # Panics
    ///
    /// If that is more than the space there was.
    pub fn advance(&mut self, count: usize) {
        let room = self.buffer.len() - self.filled;
        assert!(count <= room, "more bytes than there was space for");
        self.filled += count;
        // The rest of a chunk that is nearly used up says nothing about how much is coming.
        if count == room && room >= self.chunk / 2 {
            self.chunk = (self.chunk * 4).min(self.max_chunk);
        }
    }

    /// Copies bytes in, for drivers that don't receive into [`space`](Self::space): a simulated
    /// network, a test. Gives every frame that they complete, in order, to `each`.
    ///
    /// # Errors
    ///
    /// As [`next_frame`](Self::next_frame); what came before the error has been given out.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Frame),
    ) -> Result<(), FrameError> {
        while let Some(frame) = self.next_frame()? {
            each(frame);
        }
        while !bytes.is_empty() {
            let space = self.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            bytes.advance(count);
            self.advance(count);
            while let Some(frame) = self.next_frame()? {
                each(frame);
            }
        }
        Ok(())
    }

    /// The next complete frame, in the order of the stream; `None` if more bytes are needed.
    ///
    /// Header and envelope are checked as soon as they are there, not only when the body is.
    ///
    /// # Errors
    ///
    /// The stream is not what it should be. From then on every call gives the same error.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        match self.step() {
            Ok(frame) => Ok(frame),
            Err(error) => {
                self.head = Head::Failed(error.clone());
                Err(error)
            }
        }
    }

    /// Bytes received that are not part of a frame given out.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.filled
    }

    /// Bytes allocated for receiving, those included that are kept to be used again, whoever holds
    /// parts of them.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.allocation + self.kept.iter().map(|(_, size)| size).sum::<usize>()
    }

    fn step(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Head::Failed(error) = &self.head {
            return Err(error.clone());
        }
        if let Head::Missing = self.head {
            let Some(bytes) = self.buffer[..self.filled].first_chunk() else { return Ok(None) };
            self.head = Head::Header(Header::parse(bytes, self.max_frame)?);
        }
        if let Head::Header(header) = self.head {
            let envelope = HEADER_LEN..HEADER_LEN + header.envelope_len;
            if self.filled < envelope.end {
                return Ok(None);
            }
            header.check_envelope(&self.buffer[envelope])?;
            self.head = Head::Envelope(header);
        }
        match self.head {
            Head::Envelope(header) if self.filled >= header.frame_len() => {
                self.head = Head::Missing;
                Ok(Some(self.cut(&header)))
            }
            _ => Ok(None),
        }
    }

    fn cut(&mut self, header: &Header) -> Frame {
        self.filled -= header.frame_len();
        self.buffer.advance(HEADER_LEN);
        let envelope = self.buffer.split_to(header.envelope_len).freeze();
        let body = if header.body_len < self.allocation / PIN_FACTOR {
            let body = Bytes::copy_from_slice(&self.buffer[..header.body_len]);
            self.buffer.advance(header.body_len);
            body
        } else {
            self.buffer.split_to(header.body_len).freeze()
        };
        Frame { kind: header.kind, envelope, body }
    }

    /// Gets a buffer in which at least `wanted` bytes fit, counted from the first pending one.
    fn renew(&mut self, wanted: usize) {
        let size = wanted.max(self.chunk);
        self.buffer.truncate(self.filled);
        let keeps_large = self.keeps_large(wanted);
        let fits = self.allocation >= size && (keeps_large || self.allocation == self.chunk);
        if fits && self.buffer.try_reclaim(self.allocation - self.filled) {
            return uncover(&mut self.buffer, self.allocation);
        }
        let (mut next, allocation) = self.kept_buffer(size).unwrap_or_else(|| {
            let fresh = BytesMut::zeroed(size);
            (fresh, size)
        });
        next[..self.filled].copy_from_slice(&self.buffer);
        let mut spent = std::mem::replace(&mut self.buffer, next);
        let was = std::mem::replace(&mut self.allocation, allocation);
        // Those from before the chunks grew would never be used again.
        if was == self.chunk || (was > self.chunk && keeps_large) {
            spent.clear();
            self.kept.push_back((spent, was));
            if self.kept.len() > KEPT {
                self.kept.pop_front();
            }
        }
    }

    /// Whether large frames still come now and then. When they don't, their buffers are given back.
    fn keeps_large(&mut self, wanted: usize) -> bool {
        self.since_large = if wanted > self.chunk { 0 } else { self.since_large.saturating_add(1) };
        let keeps = self.since_large <= LARGE_FOR;
        if !keeps {
            self.kept.retain(|(_, size)| *size == self.chunk);
        }
        keeps
    }

    /// A buffer of at least `size` bytes that was filled before, if nobody holds a part of it.
    fn kept_buffer(&mut self, size: usize) -> Option<(BytesMut, usize)> {
        let free = |(buffer, was): &mut (BytesMut, usize)| *was >= size && buffer.try_reclaim(*was);
        let at = self.kept.iter_mut().position(free)?;
        let (mut buffer, was) = self.kept.remove(at)?;
        uncover(&mut buffer, was);
        Some((buffer, was))
    }
}

/// Makes all `size` bytes of a buffer accessible that was made with so many and was reclaimed.
fn uncover(buffer: &mut BytesMut, size: usize) {
    assert!(buffer.capacity() >= size, "all of it was reclaimed");
    // SAFETY: the memory was made of `size` zeros and has been written to since: all of it is
    // initialised.
    unsafe { buffer.set_len(size) };
}
