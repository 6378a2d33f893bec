//! What every child process does while a load runs: drive its loaders, tell how far they are, and
//! account for what the process uses.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock;
use crate::control::{FromChild, LoadReport, Outlet, Usage, Window};
use crate::cpu;
use crate::load::Progress;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(200);

/// The load threads of a process.
pub(crate) struct Loaders {
    pub(crate) threads: Vec<JoinHandle<LoadReport>>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) groups: u64,
}

/// Watches over a measured part from a thread of its own; reports on the loaders, if any.
pub(crate) fn watch(window: Window, loaders: Option<Loaders>, out: Outlet) {
    let watch = move || {
        let progress = loaders.as_ref().map(|loaders| Arc::clone(&loaders.progress));
        out.send(&FromChild::Usage(account(window, progress.as_deref(), &out)));
        if let Some(loaders) = loaders {
            out.send(&FromChild::Loaded(collect(loaders)));
        }
    };
    std::thread::Builder::new().name("watch".into()).spawn(watch).expect("a thread to watch");
}

fn account(window: Window, progress: Option<&Progress>, out: &Outlet) -> Usage {
    tell_until(window.start, progress, out);
    let (cpu_start, (rss_start, _)) = (cpu::time(), cpu::memory());
    tell_until(window.end, progress, out);
    let cpu_ns = cpu::time() - cpu_start;
    let (rss_end, rss_peak) = cpu::memory();
    Usage { cpu_ns, rss_start, rss_end, rss_peak }
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
    for thread in loaders.threads {
        // In a release build a panic ends the process before this is seen.
        match thread.join() {
            Ok(part) => report.merge(part),
            Err(_) => {
                report.tally.errors += 1;
                report.note(|| "a load thread panicked".into());
            }
        }
    }
    report
}
