//! What can go wrong, and the exit code for it.
//!
//! It is said on standard error, in words or, with `--json`, as one line:
//!
//! ```text
//! {"error":{"code":"not-leader","message":"...","effect":"none",
//!           "leader":{"node":3,"address":"10.0.0.3:7000"}},"exit_code":6}
//! ```
//!
//! The object is a [`Refusal`], whether the node refused or could not even be asked. `effect` is
//! `unknown` if it may have happened all the same. What was done or planned before stays alone on
//! standard output. Errors of usage (exit code 2) are said in words always.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ringleader::admin::{Effect, Refusal};
use serde_json::json;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A log is not what was written. What is wrong with it was printed.
    #[error("{0} of the logs can't be recovered")]
    Damaged(usize),
    #[error("{path}: {cause}")]
    Io { path: PathBuf, cause: io::Error },
    #[error("{path}: a running node is using it; stop the node first")]
    InUse { path: PathBuf },
    #[error("{path}: there is no log in it: no shard-N directories and no segments")]
    NoLog { path: PathBuf },
    #[error("{path}: no node answers there: {cause} (is it running, with EngineConfig::admin?)")]
    NoNode { path: PathBuf, cause: io::Error },
    #[error("{path}: the node's answer makes no sense: {cause}")]
    Nonsense { path: PathBuf, cause: String },
    /// The request was made, and then the node was not heard any more.
    #[error(
        "{path}: the node did not answer: {cause}; whether it did what it was asked is unknown"
    )]
    NoAnswer { path: PathBuf, cause: io::Error },
    #[error("the node did not take the request ({}): {}", .0.code, .0.message)]
    NotAsked(Box<Refusal>),
    /// Nothing has changed.
    #[error("refused ({}): {}", .0.code, .0.message)]
    Refused(Box<Refusal>),
    #[error("{}", .0.message)]
    NotLeader(Box<Refusal>),
    #[error("OUTCOME UNKNOWN: {}; look before you ask again", .0.message)]
    Unknown(Box<Refusal>),
    /// Whoever read the output has gone.
    #[error("standard output: {0}")]
    Output(io::Error),
}

impl Failure {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        |cause| Self::Io { path, cause }
    }

    /// What a node refused, or this tool.
    pub(crate) fn refused(code: &str, message: String) -> Self {
        Self::Refused(Box::new(refusal(code, message, Effect::None)))
    }

    pub(crate) fn unknown(message: String) -> Self {
        Self::Unknown(Box::new(refusal("unknown", message, Effect::Unknown)))
    }

    /// For programs.
    fn refusal(&self) -> Refusal {
        let code = match self {
            Self::NotAsked(refusal)
            | Self::Refused(refusal)
            | Self::NotLeader(refusal)
            | Self::Unknown(refusal) => return Refusal::clone(refusal),
            Self::NoAnswer { .. } => {
                return refusal("no-answer", self.to_string(), Effect::Unknown);
            }
            Self::Damaged(_) => "damaged",
            Self::Io { .. } => "io",
            Self::InUse { .. } => "in-use",
            Self::NoLog { .. } => "no-log",
            Self::NoNode { .. } => "no-node",
            Self::Nonsense { .. } => "nonsense",
            Self::Output(_) => "output",
        };
        refusal(code, self.to_string(), Effect::None)
    }

    /// Prints it, unless nobody listens.
    pub(crate) fn report(&self, as_json: bool) -> ExitCode {
        let code = match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Self::Damaged(_) => 1,
            Self::Refused(_) => 4,
            Self::Unknown(_) | Self::NoAnswer { .. } => 5,
            Self::NotLeader(_) => 6,
            _ => 3,
        };
        if as_json {
            eprintln!("{}", json!({ "error": self.refusal(), "exit_code": code }));
        } else {
            eprintln!("error: {self}");
        }
        ExitCode::from(code)
    }
}

fn refusal(code: &str, message: String, effect: Effect) -> Refusal {
    Refusal { code: code.to_owned(), message, effect, leader: None }
}
