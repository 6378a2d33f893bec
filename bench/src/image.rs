//! The snapshot of the benchmark's state machine: its ledger, and as much more as was asked for, so
//! that it is as large as that of a real one.
//!
//! ```text
//! ledger's length u64 | ledger, JSON | filler
//! ```

use bytes::Bytes;
use ringleader::{MachineError, SnapshotSource};

use crate::ledger::Ledger;

const HEADER: usize = 8;

/// A snapshot being written.
pub(crate) struct Image {
    head: Bytes,
    filler: u64,
}

impl Image {
    /// Of this ledger, `total` bytes if that is more than it takes.
    pub(crate) fn of(ledger: &Ledger, total: u64) -> Self {
        let json = serde_json::to_vec(ledger).expect("a ledger has string keys only");
        let mut head = (json.len() as u64).to_le_bytes().to_vec();
        head.extend_from_slice(&json);
        Self { filler: total.saturating_sub(head.len() as u64), head: head.into() }
    }
}

impl SnapshotSource for Image {
    fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>, MachineError> {
        if !self.head.is_empty() {
            return Ok(Some(self.head.split_to(max_bytes.min(self.head.len()))));
        }
        let length = self.filler.min(max_bytes as u64);
        self.filler -= length;
        Ok((length > 0).then(|| Bytes::from(vec![b'~'; length as usize])))
    }
}

/// A snapshot being restored: what has come of the ledger.
#[derive(Default)]
pub(crate) struct Restoring {
    head: Vec<u8>,
}

impl Restoring {
    /// Takes the next chunk. What comes after the ledger says nothing.
    pub(crate) fn take(&mut self, mut chunk: &[u8]) {
        // The length first, then what it says.
        for _ in 0..2 {
            let missing = self.wanted().saturating_sub(self.head.len());
            let (taken, rest) = chunk.split_at(missing.min(chunk.len()));
            self.head.extend_from_slice(taken);
            chunk = rest;
        }
    }

    fn wanted(&self) -> usize {
        let length =
            self.head.first_chunk::<HEADER>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        HEADER + length as usize
    }

    /// What it comes to.
    ///
    /// # Errors
    /// When it is not whole.
    pub(crate) fn finish(&mut self) -> Result<Ledger, MachineError> {
        let head = std::mem::take(&mut self.head);
        let json = head.get(HEADER..).unwrap_or_default();
        serde_json::from_slice(json).map_err(|error| MachineError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_survives_whatever_the_chunks() {
        let mut ledger = Ledger::default();
        let payloads: Vec<_> = (0..100_u64).map(|n| (n * n).to_le_bytes()).collect();
        ledger.apply((1..).zip(payloads.iter().map(|payload| &payload[..])));
        for (total, chunk) in [(0, 7), (10_000, 1000), (5000, 8), (1 << 20, 1 << 18)] {
            let mut image = Image::of(&ledger, total);
            let (mut restoring, mut bytes) = (Restoring::default(), 0);
            while let Some(chunk) = image.next_chunk(chunk).expect("it gives") {
                bytes += chunk.len() as u64;
                restoring.take(&chunk);
            }
            assert!(bytes >= total);
            assert_eq!(restoring.finish().expect("it is whole").summary(1), ledger.summary(1));
        }
    }
}
