//! What every child process does while a load runs: drive its loaders, tell how far they are, and
//! account for what the process uses.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::control::{FromChild, LoadReport, Outlet, Usage, Window};
use crate::cpu;
use crate::load::Progress;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(200);

/// A loader's report, when it is done.
pub(crate) type Pending = flume::Receiver<LoadReport>;

/// The loaders of a process.
pub(crate) struct Loaders {
    pub(crate) reports: Vec<Pending>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) groups: u64,
}

/// Runs a loader on a thread of its own.
pub(crate) fn on_thread(
    name: String,
    load: impl FnOnce() -> LoadReport + Send + 'static,
) -> anyhow::Result<Pending> {
    let (done, report) = flume::bounded(1);
    // Nobody waits for the report any more when the run was given up.
    let run = move || drop(done.send(load()));
    std::thread::Builder::new().name(name).spawn(run)?;
    Ok(report)
}

/// Nanoseconds that the process's shards have spent so far, by stage.
pub(crate) type StageTimes = Vec<(String, u64)>;

/// Watches over a measured part from a thread of its own; reports on the loaders, if any.
pub(crate) fn watch(
    window: Window,
    loaders: Option<Loaders>,
    stages: impl Fn() -> StageTimes + Send + 'static,
    out: Outlet,
) {
    let watch = move || {
        let progress = loaders.as_ref().map(|loaders| Arc::clone(&loaders.progress));
        out.send(&FromChild::Usage(account(window, progress.as_deref(), &stages, &out)));
        if let Some(loaders) = loaders {
            out.send(&FromChild::Loaded(Box::new(collect(loaders))));
        }
    };
    std::thread::Builder::new().name("watch".into()).spawn(watch).expect("a thread to watch");
}

fn account(
    window: Window,
    progress: Option<&Progress>,
    stages: &impl Fn() -> StageTimes,
    out: &Outlet,
) -> Usage {
    tell_until(window.start, progress, out);
    let (cpu_start, stages_start, (rss_start, _)) = (cpu::time(), stages(), cpu::memory());
    tell_until(window.end, progress, out);
    let cpu_ns = cpu::time() - cpu_start;
    let spent = stages().into_iter().zip(stages_start);
    let stages = spent.map(|((name, end), (_, start))| (name, end.saturating_sub(start))).collect();
    let (rss_end, rss_peak) = cpu::memory();
    Usage { cpu_ns, rss_start, rss_end, rss_peak, stages }
}

fn tell_until(moment: u64, progress: Option<&Progress>, out: &Outlet) {
    while clock::now() < moment {
        clock::sleep_until(moment.min(clock::now() + PROGRESS.as_nanos() as u64));
        if let Some(progress) = progress {
            out.send(&FromChild::Progress(progress.tally()));
        }
    }
}

fn collect(loaders: Loaders) -> LoadReport {
    let mut report = LoadReport::new(loaders.groups);
    for pending in loaders.reports {
        // In a release build a panic ends the process before this is seen.
        match pending.recv() {
            Ok(part) => report.merge(part),
            Err(_) => {
                report.tally.errors += 1;
                report.note(|| "a loader ended without a report".into());
            }
        }
    }
    report
}
