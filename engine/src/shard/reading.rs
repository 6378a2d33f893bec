//! Reads on their way in and out, in runs as proposals are (`proposal.rs`).

use std::ops::Range;
use std::sync::Arc;

use ringleader_wal::{GroupId, LogIndex};

use super::proposal::ClientId;
use crate::error::ReadError;
use crate::raft::reads::Consistency;

/// Reads of one caller, submitted together.
#[derive(Debug, Default)]
pub struct ReadSubmission {
    /// The caller's own name of each read.
    pub user_data: Vec<u64>,
    /// The groups, in order: how many consecutive reads are for each, and what they rest on.
    pub groups: Vec<(GroupId, Consistency, u32)>,
}

/// Bytes of bookkeeping that a read in flight is charged with.
const READ_WEIGHT: usize = 32;

impl ReadSubmission {
    /// Adds a read.
    pub fn push(&mut self, group: GroupId, consistency: Consistency, user_data: u64) {
        self.user_data.push(user_data);
        match self.groups.last_mut() {
            Some((last, how, count)) if *last == group && *how == consistency => *count += 1,
            _ => self.groups.push((group, consistency, 1)),
        }
    }

    /// Number of reads.
    #[must_use]
    pub fn len(&self) -> usize {
        self.user_data.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.user_data.is_empty()
    }

    /// What the reads weigh against the shard's limit.
    #[must_use]
    pub fn weight(&self) -> usize {
        Self::weight_of(self.len())
    }

    /// What so many reads weigh.
    pub(crate) fn weight_of(reads: usize) -> usize {
        reads * READ_WEIGHT
    }
}

/// Consecutive reads of one submission that are for one group.
#[derive(Clone, Debug)]
pub(super) struct SubmittedReads {
    pub(super) client: ClientId,
    pub(super) submission: Arc<ReadSubmission>,
    pub(super) group: GroupId,
    pub(super) range: Range<usize>,
}

impl SubmittedReads {
    pub(super) fn answer(self, outcome: Result<LogIndex, ReadError>) -> ReadRun {
        let Self { client, submission, group, range } = self;
        ReadRun { client, submission, group, range, outcome }
    }
}

/// The answer to consecutive reads of one submission.
#[derive(Clone, Debug)]
pub struct ReadRun {
    client: ClientId,
    submission: Arc<ReadSubmission>,
    group: GroupId,
    range: Range<usize>,
    outcome: Result<LogIndex, ReadError>,
}

/// One read's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadCompletion {
    /// The caller's own name of the read.
    pub user_data: u64,
    /// The state machine of this node may be read now: it has applied this index, and with it
    /// everything that was committed when the read was asked for. That stays so.
    pub result: Result<LogIndex, ReadError>,
}

impl ReadRun {
    /// Takes a success back that nobody was told of.
    pub(super) fn revoke(&mut self, error: &ReadError) {
        if self.outcome.is_ok() {
            self.outcome = Err(error.clone());
        }
    }

    /// Who gets the answers.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Why they failed; none if they may be served.
    #[must_use]
    pub fn error(&self) -> Option<&ReadError> {
        self.outcome.as_ref().err()
    }

    /// Whether these are the first of their submission, and what its first one was named.
    pub(crate) fn begins(&self) -> Option<u64> {
        (self.range.start == 0).then(|| self.submission.user_data[0])
    }

    /// The weight that the reads were charged with; see [`ReadSubmission::weight`].
    #[must_use]
    pub fn weight(&self) -> usize {
        ReadSubmission::weight_of(self.len())
    }

    /// Number of reads answered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there is none; never the case.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Gives each read's answer to `each`, in the order of submission.
    pub fn for_each(&self, mut each: impl FnMut(ReadCompletion)) {
        for &user_data in &self.submission.user_data[self.range.clone()] {
            each(ReadCompletion { user_data, result: self.outcome.clone() });
        }
    }
}
