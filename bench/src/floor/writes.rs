//! Durable writes: one at a time by each way of making them durable, in one to three processes at
//! once, and as many bytes as the disk takes.

use std::fs::{File, OpenOptions};
use std::io::BufRead;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::pages::{PAGE, allocate, write_before};
use super::sample;
use crate::children::Children;
use crate::clock;
use crate::control::{FromChild, Outlet, ToChild};
use crate::histogram::Latencies;

/// Pages of a file that is written to.
const PAGES: u64 = 1024;
/// A slow disk gets fewer writes than this.
const WRITES: u64 = 2_000;
const TIME: u64 = 400_000_000;
const PATIENCE: Duration = Duration::from_secs(30);
/// The most processes that write at once.
const PROCESSES: usize = 3;

/// A way of writing a page so that it survives the loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// `write`, `fdatasync`; the file grows, so that each sync also commits its new size.
    Growing,
    /// The same within `fallocate`d space, whose extents turn from unwritten to written.
    Allocated,
    /// The same in a file that was written before.
    Written,
    /// Past the page cache (`O_DIRECT`), `fdatasync`, within `fallocate`d space.
    DirectAllocated,
    /// Past the page cache, `fdatasync`, in a file that was written before.
    Direct,
    /// `O_DIRECT|O_DSYNC` in a file that was written before, as this engine's log writes.
    DirectDsync,
}

impl Way {
    pub(crate) const ALL: [Self; 6] = [
        Self::Growing,
        Self::Allocated,
        Self::Written,
        Self::DirectAllocated,
        Self::Direct,
        Self::DirectDsync,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Growing => "write, fdatasync, growing file",
            Self::Allocated => "write, fdatasync, allocated file",
            Self::Written => "write, fdatasync, written file",
            Self::DirectAllocated => "O_DIRECT, fdatasync, allocated file",
            Self::Direct => "O_DIRECT, fdatasync, written file",
            Self::DirectDsync => "O_DIRECT|O_DSYNC, written file",
        }
    }

    fn flags(self) -> i32 {
        match self {
            Self::Growing | Self::Allocated | Self::Written => 0,
            Self::DirectAllocated | Self::Direct => libc::O_DIRECT,
            Self::DirectDsync => libc::O_DIRECT | libc::O_DSYNC,
        }
    }

    /// A file of so many pages as this way wants it.
    fn prepare(self, path: &Path, pages: u64) -> anyhow::Result<File> {
        match self {
            Self::Growing => drop(File::create(path)?),
            Self::Allocated | Self::DirectAllocated => {
                let file = File::create(path)?;
                allocate(&file, pages * PAGE as u64)?;
                file.sync_all()?;
            }
            Self::Written | Self::Direct | Self::DirectDsync => write_before(path, pages)?,
        }
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(self.flags());
        options.open(path).with_context(|| format!("opening a file for {}", self.name()))
    }

    fn sync(self, file: &File) -> std::io::Result<()> {
        if self == Self::DirectDsync { Ok(()) } else { file.sync_data() }
    }
}

/// A part in [`one_at_a_time`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WriterRole {
    way: Way,
    file: PathBuf,
}

/// Latencies of one durable write after the other.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WriteLatency {
    pub(crate) way: Way,
    /// How many did the same at once, each in its own file.
    pub(crate) processes: usize,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Of all processes together.
    pub(crate) writes_per_sec: f64,
}

#[repr(align(4096))]
struct Page([u8; PAGE]);

/// Each way in one, two and three processes. Uses and removes files in `directory`.
pub(super) fn one_at_a_time(directory: &Path) -> anyhow::Result<Vec<WriteLatency>> {
    let mut all = Vec::new();
    for way in Way::ALL {
        for processes in 1..=PROCESSES {
            all.push(at_once(directory, way, processes)?);
        }
    }
    Ok(all)
}

fn at_once(directory: &Path, way: Way, processes: usize) -> anyhow::Result<WriteLatency> {
    let mut children = Children::new();
    for at in 0..processes {
        let child = children.spawn("a writer", "floor-writer")?;
        let file = directory.join(format!("write-{at}"));
        children.send(child, &ToChild::Writer(WriterRole { way, file }))?;
    }
    let prepared = |message| matches!(message, FromChild::Prepared).then_some(());
    children.collect(0..processes, PATIENCE, prepared)?;
    let measured = children.ask(0..processes, &ToChild::Go, PATIENCE, |message| match message {
        FromChild::Latencies(latencies) => Some(latencies),
        _ => None,
    })?;
    drop(children);
    (0..processes)
        .try_for_each(|at| std::fs::remove_file(directory.join(format!("write-{at}"))))?;
    let rates = measured.iter().map(|latencies| 1e9 / latencies.mean().max(1.0));
    let writes_per_sec = rates.sum();
    let mut latencies = Latencies::default();
    measured.iter().for_each(|more| latencies.merge(more));
    let (p50_us, p99_us) = (latencies.quantile_us(0.5), latencies.quantile_us(0.99));
    Ok(WriteLatency { way, processes, p50_us, p99_us, writes_per_sec })
}

/// A child's part.
pub(crate) fn run() -> anyhow::Result<()> {
    let out = Outlet::new();
    let mut lines = std::io::stdin().lock().lines();
    let first = lines.next().context("no role on standard input")??;
    let ToChild::Writer(role) = serde_json::from_str(&first)? else { bail!("not a role") };
    let file = role.way.prepare(&role.file, PAGES)?;
    out.send(&FromChild::Prepared);
    lines.next().context("nobody says when")??;
    out.send(&FromChild::Latencies(write(&file, role.way)?));
    // Whoever ends first waits to be ended, with the others.
    lines.next();
    Ok(())
}

fn write(file: &File, way: Way) -> std::io::Result<Latencies> {
    let page = Box::new(Page([0x5a; PAGE]));
    // What was allocated and is written for a second time is a written file: no page is, with the
    // tenth that [`sample`] writes to warm up.
    let writes =
        if way == Way::DirectAllocated || way == Way::Allocated { PAGES * 10 / 11 } else { WRITES };
    let mut next = 0;
    sample(writes, TIME, |_| {
        let at = next;
        next += 1;
        file.write_all_at(
            &page.0,
            if way == Way::Growing { at } else { at % PAGES } * PAGE as u64,
        )?;
        way.sync(file)
    })
}

/// One durable write at a time in this process, as the engine writes.
pub(super) fn durable_writes(directory: &Path) -> anyhow::Result<Latencies> {
    let path = directory.join("floor");
    let written =
        Way::DirectDsync.prepare(&path, PAGES).and_then(|file| Ok(write(&file, Way::DirectDsync)?));
    let removed = std::fs::remove_file(&path);
    let latencies = written?;
    removed?;
    Ok(latencies)
}

/// Bytes that become durable in a second.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bandwidth {
    pub(crate) write_bytes: usize,
    /// Writes in flight at once.
    pub(crate) depth: usize,
    pub(crate) mb_per_sec: f64,
}

/// By size and by depth. Uses and removes a file in `directory`.
pub(super) fn bandwidth(directory: &Path) -> anyhow::Result<Vec<Bandwidth>> {
    let path = directory.join("bandwidth");
    let measured = all_bandwidths(&path);
    std::fs::remove_file(&path)?;
    measured
}

fn all_bandwidths(path: &Path) -> anyhow::Result<Vec<Bandwidth>> {
    const SIZES: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, 1 << 20];
    const DEPTHS: [usize; 5] = [1, 2, 4, 8, 16];
    /// Bytes of the file that a writer goes round in.
    const REGION: usize = 4 << 20;
    let file = Way::DirectDsync.prepare(path, (REGION / PAGE * DEPTHS[4]) as u64)?;
    let mut all = Vec::new();
    for write_bytes in SIZES {
        for depth in DEPTHS {
            let end = clock::now() + TIME / 2;
            let begin = clock::now();
            let writer = |at: usize| {
                let pages = vec![0_u8; write_bytes + PAGE];
                let aligned = pages.as_ptr().align_offset(PAGE);
                let bytes = &pages[aligned..aligned + write_bytes];
                let mut written = 0;
                while clock::now() < end {
                    let offset = at * REGION + written % REGION;
                    file.write_all_at(bytes, offset as u64)?;
                    written += write_bytes;
                }
                Ok::<_, std::io::Error>(written)
            };
            let written = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    (0..depth).map(|at| scope.spawn(move || writer(at))).collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().expect("it does not panic")
                };
                threads.into_iter().map(join).sum::<std::io::Result<usize>>()
            })?;
            let seconds = (clock::now() - begin) as f64 / 1e9;
            all.push(Bandwidth { write_bytes, depth, mb_per_sec: written as f64 / 1e6 / seconds });
        }
    }
    Ok(all)
}
