//! What it takes to check and to copy bytes, where the processor finds them.

use std::hint::black_box;

use serde::Serialize;

use crate::clock;

/// For this long each is measured, in nanoseconds.
const TIME: u64 = 50_000_000;

/// Bytes per nanosecond, that is GB/s.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    /// Bytes that are worked on again and again.
    pub(crate) buffer_bytes: usize,
    /// CRC-32 (crc32fast), as the log and the wire have it.
    pub(crate) crc_gb_per_sec: f64,
    pub(crate) copy_gb_per_sec: f64,
}

/// In the first cache, in the second, and in memory.
pub(super) fn measure() -> Vec<Memory> {
    [16 << 10, 256 << 10, 64 << 20].map(of_buffer).to_vec()
}

fn of_buffer(buffer_bytes: usize) -> Memory {
    let from = vec![0x5a_u8; buffer_bytes];
    let mut into = vec![0_u8; buffer_bytes];
    let crc_gb_per_sec = rate(buffer_bytes, || {
        black_box(crc32fast::hash(black_box(&from)));
    });
    let copy_gb_per_sec = rate(buffer_bytes, || {
        into.copy_from_slice(black_box(&from));
        black_box(&mut into);
    });
    Memory { buffer_bytes, crc_gb_per_sec, copy_gb_per_sec }
}

/// Bytes per nanosecond of `work` on so many bytes.
fn rate(bytes: usize, mut work: impl FnMut()) -> f64 {
    work();
    let begin = clock::now();
    let mut times = 0;
    loop {
        work();
        times += 1;
        let passed = clock::now() - begin;
        if passed >= TIME {
            return (bytes * times) as f64 / passed as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_has_a_rate() {
        let memory = of_buffer(4096);
        assert!(memory.crc_gb_per_sec > 0.0 && memory.copy_gb_per_sec > 0.0);
    }
}
