//! What can go wrong, and the exit code for it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

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
    #[error("the node did not take the request ({code}): {message}")]
    NotAsked { code: String, message: String },
    /// Nothing has changed.
    #[error("refused ({code}): {message}")]
    Refused { code: String, message: String },
    #[error("{message}")]
    NotLeader { message: String },
    #[error("OUTCOME UNKNOWN: {message}; look before you ask again")]
    Unknown { message: String },
    /// Whoever read the output has gone.
    #[error("standard output: {0}")]
    Output(io::Error),
}

impl Failure {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        |cause| Self::Io { path, cause }
    }

    /// Prints it, unless nobody listens.
    pub(crate) fn report(&self) -> ExitCode {
        let code = match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Self::Damaged(_) => 1,
            Self::Refused { .. } => 4,
            Self::Unknown { .. } | Self::NoAnswer { .. } => 5,
            Self::NotLeader { .. } => 6,
            _ => 3,
        };
        eprintln!("error: {self}");
        ExitCode::from(code)
    }
}
