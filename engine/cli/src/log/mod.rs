//! `ringleader log`: a node's logs and snapshots, read with the code that a start would run, on a disk
//! that writes nothing.

mod snapshots;
pub(crate) mod survey;
mod tables;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use crate::failure::Failure;
use survey::Survey;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show segments, groups with their positions and hard states, snapshots, and with --batches
    /// every batch
    Inspect {
        /// A node's data directory, or one shard's directory in it
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Show every batch and its records
        #[arg(long)]
        batches: bool,
    },
    /// Say whether a node could start from its logs and snapshots; if not, which file is damaged,
    /// where and why, and what to do
    Verify {
        /// A node's data directory, or one shard's directory in it
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// The state machines keep their own state: a log may begin where no snapshot reaches
        #[arg(long)]
        own_state: bool,
    },
}

pub(crate) fn run(command: &Command, json: bool) -> Result<(), Failure> {
    let (dir, own_state) = match command {
        Command::Inspect { dir, .. } => (dir, false),
        Command::Verify { dir, own_state } => (dir, *own_state),
    };
    let (_held, shards) = survey::open(dir)?;
    let mut out = std::io::stdout().lock();
    let (mut damaged, mut documents) = (0, Vec::new());
    for shard in &shards {
        let survey = Survey::of(shard, own_state)?;
        damaged += usize::from(!survey.is_sound());
        match (command, json) {
            (Command::Inspect { batches, .. }, true) => documents.push(survey.json(*batches)?),
            (Command::Verify { .. }, true) => documents.push(survey.verdict_json()),
            (Command::Inspect { batches, .. }, false) => {
                tables::inspect(&mut out, &survey, *batches)?;
            }
            (Command::Verify { .. }, false) => {
                write!(out, "{}", tables::verdict(&survey)).map_err(Failure::Output)?;
            }
        }
    }
    if json {
        writeln!(out, "{:#}", json!({ "version": 1, "shards": documents }))
            .map_err(Failure::Output)?;
    }
    out.flush().map_err(Failure::Output)?;
    match command {
        Command::Verify { .. } if damaged > 0 => Err(Failure::Damaged(damaged)),
        _ => Ok(()),
    }
}

/// How a shard's directory is called in what is printed.
fn name(dir: &Path) -> String {
    dir.display().to_string()
}
