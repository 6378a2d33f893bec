//! What a remote client and a node say to each other. Operations and answers travel in runs, so
//! that the protocol costs little more than the payloads.
//!
//! A connection begins with a greeting of the client: [`GREETING`] and the shard, a u32. Then each
//! side sends frames: the body's length, a u32, and the body, which is any number of runs. All
//! numbers are little-endian.
//!
//! ```text
//! operations:  group u64 | first user_data u64 | count u32 | payload bytes u32 | payloads
//! answers:     first user_data u64 | leader u64 | count u32 | kind u16 | text bytes u16 | text
//! ```

use crate::load::{Completed, Outcome};

/// The first bytes of a connection.
pub(crate) const GREETING: [u8; 4] = *b"RLB1";
/// A body is never longer than this, and is sent as soon as it passes half of it: 8 MiB.
pub(crate) const MAX_BODY: usize = 8 << 20;

const OPERATIONS_HEADER: usize = 24;
const ANSWERS_HEADER: usize = 24;

/// Frames under construction.
#[derive(Default)]
pub(crate) struct FrameWriter {
    bytes: Vec<u8>,
    /// Where the open frame's length stands.
    open: Option<usize>,
    /// The run that the next operation may extend: where it stands, its group, the next user data.
    run: Option<(usize, u64, u64)>,
}

impl FrameWriter {
    fn body(&mut self) -> &mut Vec<u8> {
        if self.open.is_some_and(|at| self.bytes.len() - at > MAX_BODY / 2) {
            self.close();
        }
        if self.open.is_none() {
            self.open = Some(self.bytes.len());
            self.bytes.extend_from_slice(&[0; 4]);
        }
        &mut self.bytes
    }

    fn close(&mut self) {
        self.run = None;
        if let Some(at) = self.open.take() {
            let length = (self.bytes.len() - at - 4) as u32;
            self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
    }

    /// Adds an operation. All payloads of a run are of one length.
    pub(crate) fn operation(&mut self, group: u64, user_data: u64, payload: &[u8]) {
        let body = self.body().len();
        let length = payload.len() as u32;
        let follows = self.run.filter(|(at, of, next)| {
            *at < body && (*of, *next) == (group, user_data) && self.number(at + 20) == length
        });
        if let Some((at, ..)) = follows {
            let count = self.number(at + 16) + 1;
            self.bytes[at + 16..at + 20].copy_from_slice(&count.to_le_bytes());
            self.run = Some((at, group, user_data + 1));
        } else {
            self.run = Some((body, group, user_data + 1));
            self.bytes.extend_from_slice(&group.to_le_bytes());
            self.bytes.extend_from_slice(&user_data.to_le_bytes());
            self.bytes.extend_from_slice(&1_u32.to_le_bytes());
            self.bytes.extend_from_slice(&length.to_le_bytes());
        }
        self.bytes.extend_from_slice(payload);
    }

    fn number(&self, at: usize) -> u32 {
        u32_at(&self.bytes, at)
    }

    /// Adds an answer.
    pub(crate) fn answer(&mut self, completed: &Completed) {
        let (kind, leader, text) = match &completed.outcome {
            Outcome::Applied => (0_u16, 0, ""),
            Outcome::NotLeader(leader) => (1, leader.unwrap_or(0), ""),
            Outcome::Busy => (2, 0, ""),
            Outcome::Unknown(text) => (3, 0, text.as_str()),
            Outcome::Failed(text) => (4, 0, text.as_str()),
        };
        let text = &text.as_bytes()[..text.len().min(1024)];
        let body = self.body();
        body.extend_from_slice(&completed.first.to_le_bytes());
        body.extend_from_slice(&leader.to_le_bytes());
        body.extend_from_slice(&(completed.count as u32).to_le_bytes());
        body.extend_from_slice(&kind.to_le_bytes());
        body.extend_from_slice(&(text.len() as u16).to_le_bytes());
        body.extend_from_slice(text);
    }

    /// The finished frames. Empty when there are none.
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.close();
        &self.bytes
    }

    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        (self.open, self.run) = (None, None);
    }
}

/// The length of the body that a frame announces.
///
/// # Errors
/// When it is above the limit. Nothing may be allocated then.
pub(crate) fn body_len(header: [u8; 4]) -> Result<usize, String> {
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_BODY { Err(format!("a frame of {length} bytes")) } else { Ok(length) }
}

/// Operations of one group, as a frame holds them.
pub(crate) struct Operations<'a> {
    pub(crate) group: u64,
    pub(crate) first: u64,
    pub(crate) count: u64,
    payload_len: usize,
    payloads: &'a [u8],
}

impl Operations<'_> {
    pub(crate) fn payload(&self, at: u64) -> &[u8] {
        &self.payloads[at as usize * self.payload_len..][..self.payload_len]
    }
}

/// Takes the next run of operations off a frame's body.
pub(crate) fn take_operations<'a>(body: &mut &'a [u8]) -> Result<Operations<'a>, String> {
    let header = take(body, OPERATIONS_HEADER)?;
    let (count, payload_len) = (u32_at(header, 16), u32_at(header, 20));
    let bytes = u64::from(count) * u64::from(payload_len);
    let payloads = take(body, usize::try_from(bytes).map_err(|error| error.to_string())?)?;
    Ok(Operations {
        group: u64_at(header, 0),
        first: u64_at(header, 8),
        count: count.into(),
        payload_len: payload_len as usize,
        payloads,
    })
}

/// Takes the next answer off a frame's body.
pub(crate) fn take_answer(body: &mut &[u8]) -> Result<Completed, String> {
    let header = take(body, ANSWERS_HEADER)?;
    let kind = u16::from_le_bytes([header[20], header[21]]);
    let text = take(body, u16::from_le_bytes([header[22], header[23]]).into())?;
    let text = || String::from_utf8_lossy(text).into_owned();
    let outcome = match kind {
        0 => Outcome::Applied,
        1 => Outcome::NotLeader(Some(u64_at(header, 8)).filter(|leader| *leader > 0)),
        2 => Outcome::Busy,
        3 => Outcome::Unknown(text()),
        4 => Outcome::Failed(text()),
        _ => return Err(format!("an answer of kind {kind}")),
    };
    Ok(Completed { first: u64_at(header, 0), count: u32_at(header, 16).into(), outcome })
}

fn take<'a>(body: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (taken, rest) = body.split_at_checked(length).ok_or("a frame that is cut short")?;
    *body = rest;
    Ok(taken)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(mut frames: &[u8]) -> Vec<&[u8]> {
        let mut bodies = Vec::new();
        while let Some((header, rest)) = frames.split_first_chunk::<4>() {
            let (body, rest) = rest.split_at(body_len(*header).expect("below the limit"));
            bodies.push(body);
            frames = rest;
        }
        bodies
    }

    #[test]
    fn operations_travel_in_runs() {
        let mut writer = FrameWriter::default();
        writer.operation(1, 10, b"aa");
        writer.operation(1, 11, b"bb");
        writer.operation(2, 12, b"cc");
        writer.operation(2, 14, b"dd");
        writer.operation(2, 15, b"eee");
        let frames = writer.finish().to_vec();
        let mut body = bodies(&frames)[0];
        let mut runs = Vec::new();
        while !body.is_empty() {
            let run = take_operations(&mut body).expect("well formed");
            let last = run.payload(run.count - 1).to_vec();
            runs.push((run.group, run.first, run.count, last));
        }
        let expected = [(1, 10, 2, "bb"), (2, 12, 1, "cc"), (2, 14, 1, "dd"), (2, 15, 1, "eee")];
        assert_eq!(runs, expected.map(|(g, f, c, text)| (g, f, c, text.as_bytes().to_vec())));
    }

    #[test]
    fn long_bodies_are_split_and_nothing_is_lost() {
        let mut writer = FrameWriter::default();
        let payload = vec![7; 1 << 20];
        (0..20).for_each(|at| writer.operation(3, at, &payload));
        let frames = writer.finish().to_vec();
        let bodies = bodies(&frames);
        assert!(bodies.len() > 1);
        let mut next = 0;
        for mut body in bodies {
            while !body.is_empty() {
                let run = take_operations(&mut body).expect("well formed");
                assert_eq!(run.first, next);
                next += run.count;
            }
        }
        assert_eq!(next, 20);
    }

    #[test]
    fn answers_come_back_as_they_were() {
        let outcomes = [
            Outcome::Applied,
            Outcome::NotLeader(Some(2)),
            Outcome::NotLeader(None),
            Outcome::Busy,
            Outcome::Unknown("lost".into()),
            Outcome::Failed("no".into()),
        ];
        let sent = outcomes.map(|outcome| Completed { first: 5, count: 6, outcome });
        let mut writer = FrameWriter::default();
        sent.iter().for_each(|completed| writer.answer(completed));
        let frames = writer.finish().to_vec();
        let mut body = bodies(&frames)[0];
        for completed in sent {
            assert_eq!(take_answer(&mut body), Ok(completed));
        }
    }

    #[test]
    fn malformed_frames_are_refused_before_anything_is_allocated() {
        assert!(body_len(u32::MAX.to_le_bytes()).is_err());
        let mut body = &[0xff; 40][..];
        assert!(take_operations(&mut body).is_err());
        let mut body = &[0; 10][..];
        assert!(take_answer(&mut body).is_err());
    }
}
