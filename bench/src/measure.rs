//! Watching a load from the orchestrator: milestones, progress, and what the processes report.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};

use crate::children::Children;
use crate::clock;
use crate::control::{FromChild, LoadPlan, LoadReport, Tally, Usage};
use crate::cpu;
use crate::disk::{Counters, Device};
use crate::report::{Measured, NamedUsage, thousands};

/// How long the load generators may take to drain and report, beyond their own patience.
const GRACE: u64 = 60_000_000_000;
const SECOND: f64 = 1e9;

struct Watch<'a> {
    plan: &'a LoadPlan,
    /// The children that generate load.
    loaders: Range<usize>,
    usages: Vec<Option<Usage>>,
    reports: Vec<Option<LoadReport>>,
    tallies: Vec<Tally>,
    progress: Line,
}

/// Watches a load that was just planned until every process has reported.
pub(crate) fn watch(
    children: &mut Children,
    plan: &LoadPlan,
    loaders: Range<usize>,
    device: Option<&Device>,
) -> anyhow::Result<Measured> {
    let processes = children.len();
    let mut watch = Watch {
        plan,
        usages: vec![None; processes],
        reports: loaders.clone().map(|_| None).collect(),
        tallies: vec![Tally::default(); loaders.len()],
        progress: Line::new(plan),
        loaders,
    };
    let counters = || device.and_then(Device::counters);
    watch.until(children, plan.window.start)?;
    let (disk_start, cpu_start, machine_start) = (counters(), cpu::time(), cpu::machine_time());
    watch.until(children, plan.window.end)?;
    let (disk_end, own_cpu, machine_end) =
        (counters(), cpu::time() - cpu_start, cpu::machine_time());
    watch.until_reported(children)?;
    watch.progress.end();
    let disk = disk_end.zip(disk_start).map(|(end, start): (Counters, Counters)| end.since(&start));
    let machine_cpu = machine_end.zip(machine_start).map(|(end, start)| end.saturating_sub(start));
    Ok(Measured { disk, machine_cpu, ..watch.measured(children, own_cpu) })
}

impl Watch<'_> {
    /// Until `moment` on the common clock.
    fn until(&mut self, children: &mut Children, moment: u64) -> anyhow::Result<()> {
        let left = Duration::from_nanos(moment.saturating_sub(clock::now()));
        let deadline = Instant::now() + left;
        while let Some((child, message)) = children.next(deadline)? {
            self.take(child, message);
        }
        Ok(())
    }

    fn until_reported(&mut self, children: &mut Children) -> anyhow::Result<()> {
        let left = (self.plan.window.end + GRACE).saturating_sub(clock::now());
        let deadline = Instant::now() + Duration::from_nanos(left);
        while self.usages.iter().any(Option::is_none) || self.reports.iter().any(Option::is_none) {
            match children.next(deadline)? {
                Some((child, message)) => self.take(child, message),
                None => bail!("not every process reported within a minute after the load"),
            }
        }
        Ok(())
    }

    fn take(&mut self, child: usize, message: FromChild) {
        let loader = child.wrapping_sub(self.loaders.start);
        match message {
            FromChild::Usage(usage) => self.usages[child] = Some(usage),
            FromChild::Loaded(report) if loader < self.reports.len() => {
                self.reports[loader] = Some(*report);
            }
            FromChild::Progress(tally) if loader < self.tallies.len() => {
                self.tallies[loader] = tally;
                let mut sum = Tally::default();
                self.tallies.iter().for_each(|tally| sum += *tally);
                self.progress.show(sum);
            }
            // An answer to a question that nobody asks any more.
            _ => {}
        }
    }

    fn measured(self, children: &Children, own_cpu: u64) -> Measured {
        let mut load = LoadReport::new(self.plan.groups);
        self.reports.into_iter().flatten().for_each(|report| load.merge(report));
        let names = (0..children.len()).map(|child| children.name(child).to_owned());
        let mut usages: Vec<NamedUsage> = names.zip(self.usages.into_iter().flatten()).collect();
        let own = Usage { cpu_ns: own_cpu, ..Usage::default() };
        usages.push(("the orchestrator".into(), own));
        Measured { load, usages, ..Measured::default() }
    }
}

/// The live line on a terminal; nothing elsewhere.
struct Line {
    bar: ProgressBar,
    begin: u64,
    start: u64,
    /// When the last tally came, and how many it counted.
    last: (u64, u64),
}

impl Line {
    fn new(plan: &LoadPlan) -> Self {
        // Drawn to standard error, and hidden by itself where that is no terminal.
        let bar = ProgressBar::new((plan.window.end - plan.begin) / 1_000_000);
        let style = ProgressStyle::with_template("{bar:30} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, begin: plan.begin, start: plan.window.start, last: (plan.begin, 0) }
    }

    fn show(&mut self, tally: Tally) {
        let now = clock::now();
        self.bar.set_position((now - self.begin) / 1_000_000);
        // The processes tell one after the other; over less time the rate would jump.
        if now < self.last.0 + 450_000_000 {
            return;
        }
        let seconds = (now - self.last.0) as f64 / SECOND;
        let rate = tally.acknowledged.saturating_sub(self.last.1) as f64 / seconds;
        self.last = (now, tally.acknowledged);
        let phase = if now < self.start { "warm-up, " } else { "" };
        let rate = thousands(rate as u64);
        let mut line = format!("{phase}{rate} op/s, {} op", thousands(tally.acknowledged));
        if tally.errors + tally.unknown > 0 {
            line += &format!(", {} errors, {} unknown", tally.errors, tally.unknown);
        }
        self.bar.set_message(line);
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
