//! What the machine allows one operation at a time, measured in the same run as the engine: one
//! durable write, one loopback round trip, and the least that three processes can do.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, anyhow};
use core_affinity::CoreId;
use serde::Serialize;

use crate::clock;
use crate::histogram::Latencies;
use crate::null_raft;
use crate::pages::{MESSAGE, PAGE, write_before};

/// Pages of the file that is written to.
const PAGES: u64 = 256;
/// A slow disk gets fewer writes than this, so that the floor takes no longer than it may.
const WRITES: u64 = 500;
const WRITES_TIME: u64 = 500_000_000;
const ROUND_TRIPS: u64 = 5_000;
const ROUND_TRIPS_TIME: u64 = 300_000_000;

/// The floor under one operation's latency, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Floor {
    /// One `pwrite` of 4 KiB with `O_DIRECT|O_DSYNC` into a file that was written before.
    pub(crate) durable_write_p50_us: f64,
    pub(crate) durable_write_p99_us: f64,
    /// 64 bytes to a thread on another core and back over TCP: a peer is never on the same core.
    pub(crate) round_trip_p50_us: f64,
    pub(crate) round_trip_p99_us: f64,
    /// The same with both threads on one core, where no sleeping core has to be woken.
    pub(crate) same_core_round_trip_p50_us: f64,
    /// Durable on two of three processes, without a protocol; only with one operation in flight.
    pub(crate) null_raft_p50_us: Option<f64>,
    pub(crate) null_raft_p99_us: Option<f64>,
    /// Median latency of an operation, divided by the sum of the medians of a durable write and a
    /// round trip; only with one operation in flight.
    pub(crate) ratio_p50: Option<f64>,
    /// Median latency of an operation, divided by `null_raft_p50_us`.
    pub(crate) null_raft_ratio_p50: Option<f64>,
}

impl Floor {
    /// Measures, in a second or two. Uses and removes files in `directory`.
    pub(crate) fn measure(directory: &Path, one_in_flight: bool) -> anyhow::Result<Self> {
        let writes = durable_writes(directory).context("measuring durable writes")?;
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let (here, there) = (cores.first().copied(), cores.last().copied());
        let trips = round_trips(here, there).context("measuring loopback round trips")?;
        let same_core = round_trips(here, here).context("measuring round trips on one core")?;
        let null = one_in_flight.then(|| null_raft::measure(directory)).transpose()?;
        let us = |latencies: &Latencies, share| latencies.quantile(share) as f64 / 1_000.0;
        Ok(Self {
            same_core_round_trip_p50_us: us(&same_core, 0.5),
            null_raft_p50_us: null.as_ref().map(|null| us(null, 0.5)),
            null_raft_p99_us: null.as_ref().map(|null| us(null, 0.99)),
            null_raft_ratio_p50: None,
            durable_write_p50_us: us(&writes, 0.5),
            durable_write_p99_us: us(&writes, 0.99),
            round_trip_p50_us: us(&trips, 0.5),
            round_trip_p99_us: us(&trips, 0.99),
            ratio_p50: None,
        })
    }

    /// One durable write and one round trip, at the median.
    pub(crate) fn p50_us(&self) -> f64 {
        self.durable_write_p50_us + self.round_trip_p50_us
    }
}

/// Runs `operation` at most `count` times and for `time` nanoseconds, after a tenth of that to
/// warm up.
fn sample(
    count: u64,
    time: u64,
    mut operation: impl FnMut(u64) -> std::io::Result<()>,
) -> std::io::Result<Latencies> {
    let mut latencies = Latencies::default();
    (0..count / 10).try_for_each(&mut operation)?;
    let end = clock::now() + time;
    let mut before = clock::now();
    for at in 0..count {
        operation(at)?;
        let now = clock::now();
        latencies.record(now - before, 1);
        before = now;
        if now >= end {
            break;
        }
    }
    Ok(latencies)
}

fn durable_writes(directory: &Path) -> anyhow::Result<Latencies> {
    let path = directory.join("floor");
    let written = write_durably(&path);
    let removed = std::fs::remove_file(&path);
    let latencies = written?;
    removed?;
    Ok(latencies)
}

#[repr(align(4096))]
struct Page([u8; PAGE]);

fn write_durably(path: &Path) -> anyhow::Result<Latencies> {
    write_before(path, PAGES)?;
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC);
    let file = options.open(path).context("opening a file with O_DIRECT|O_DSYNC")?;
    let page = Box::new(Page([0x5a; PAGE]));
    let write = |at: u64| file.write_all_at(&page.0, at % PAGES * PAGE as u64);
    Ok(sample(WRITES, WRITES_TIME, write)?)
}

/// Round trips between two threads, each on its core. Both are threads of their own, so that the
/// caller stays where it is.
fn round_trips(here: Option<CoreId>, there: Option<CoreId>) -> anyhow::Result<Latencies> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            there.map(core_affinity::set_for_current);
            let mut message = [0; MESSAGE];
            while far.read_exact(&mut message).is_ok() && far.write_all(&message).is_ok() {}
        });
        let ping = scope.spawn(move || {
            here.map(core_affinity::set_for_current);
            ping(near)
        });
        Ok(ping.join().map_err(|_| anyhow!("the measuring thread panicked"))??)
    })
}

/// The other end's thread ends with the connection.
fn ping(mut near: TcpStream) -> std::io::Result<Latencies> {
    let mut message = [0; MESSAGE];
    sample(ROUND_TRIPS, ROUND_TRIPS_TIME, |_| {
        near.write_all(&message)?;
        near.read_exact(&mut message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_ends_with_the_count_or_the_time() {
        let counted = sample(100, u64::MAX / 2, |_| Ok(())).expect("nothing fails");
        assert_eq!(counted.len(), 100);
        let sleep = |_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            Ok(())
        };
        let timed = sample(1_000, 5_000_000, sleep).expect("nothing fails");
        assert!((1..=5).contains(&timed.len()));
    }

    #[test]
    fn a_round_trip_takes_time() {
        assert!(round_trips(None, None).expect("loopback works").quantile(0.5) > 0);
    }
}
