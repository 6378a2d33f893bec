//! Experiments in performance tuning: a setting against the default, in turn, several times.

mod args;
mod change;
mod experiments;
mod kernel;
mod result;

use std::time::Duration;

use anyhow::bail;

use crate::cluster;
use crate::data_dir::DataDir;
use crate::disk;
use crate::machine::Machine;
use crate::signals;

use change::Change;
use experiments::{Experiment, all};
use result::{Row, Tuned};

pub(crate) use args::TuneArgs;

/// Between two runs.
const PAUSE: Duration = Duration::from_millis(300);

/// Runs the experiments that can be run here, and says which can't.
pub(crate) fn run(args: &TuneArgs) -> anyhow::Result<Tuned> {
    let directory = DataDir::of_run(args.output.data_dir(), false)?;
    let mut experiments = all();
    let known = |name: &String| experiments.iter().any(|experiment| experiment.name == name);
    if let Some(strange) = args.only.iter().find(|name| !known(name)) {
        let names: Vec<_> = experiments.iter().map(|experiment| experiment.name).collect();
        bail!("there is no experiment {strange:?}; there are: {}", names.join(", "));
    }
    experiments.retain(|one| args.only.is_empty() || args.only.iter().any(|name| name == one.name));
    let mut rows = Vec::new();
    for experiment in &experiments {
        let row = experiment_row(args, &directory, experiment)?;
        eprintln!("{}", row.line());
        rows.push(row);
    }
    Ok(Tuned::new(Machine::describe(directory.path()), args.rounds, rows))
}

fn experiment_row(args: &TuneArgs, directory: &DataDir, one: &Experiment) -> anyhow::Result<Row> {
    if one.change.is_systems() && !args.system {
        let reason = "it changes the system's settings: --system allows that, and puts them back";
        return Ok(Row::skipped(one, reason.into()));
    }
    let mut ratios = Vec::new();
    for round in 0..args.rounds {
        // Each side goes first as often as the other.
        let sides = if round % 2 == 0 { [false, true] } else { [true, false] };
        let mut values = [0.0; 2];
        for changed in sides {
            signals::check()?;
            match measure(args, directory, one, changed) {
                Ok(value) => values[usize::from(changed)] = value,
                Err(error) => {
                    signals::check()?;
                    return Ok(Row::skipped(one, format!("{error:#}")));
                }
            }
        }
        ratios.push(values[1] / values[0].max(1e-9));
    }
    Ok(Row::measured(one, &ratios))
}

/// One run, with or without the change.
fn measure(
    args: &TuneArgs,
    directory: &DataDir,
    one: &Experiment,
    changed: bool,
) -> anyhow::Result<f64> {
    directory.clear()?;
    let mut run = one.load.args(args.seconds);
    let nothing = Change::Run(|_| {});
    let change = if changed { &one.change } else { &nothing };
    let _until_the_end = change.make(directory.path(), &mut run)?;
    disk::settle(PAUSE);
    let mounted =
        run.data_dir.as_deref().map(|path| DataDir::of_run(Some(path), false)).transpose()?;
    let report = cluster::run_in(&run, mounted.as_ref().unwrap_or(directory), None)?;
    if let Some(failure) = report.failures.first() {
        bail!("a run failed: {failure}");
    }
    Ok(one.metric.of(&report))
}
