//! What the driver measures of its shard. Clocks are read a few times per turn, never per block or
//! operation; everything is a plain field of this core.

use std::collections::VecDeque;
use std::time::Duration;

use ringleader_wal::disk::{DiskOp, OpId};

use super::journal::Journal;
use crate::error::{MembershipError, ProposeError, ReadError, TransferError};
use crate::report::{CallerCounters, OperatorCounters, Timings};
use crate::shard::{AnswerRun, ClientId, Followed, ReadRun, Shard, Timed, TransferResult};
use crate::time::Time;

pub(super) struct Meter {
    pub(super) timings: Timings,
    pub(super) callers: CallerCounters,
    pub(super) operations: OperatorCounters,
    pub(super) journal: Journal,
    /// Operations of the disk that ended.
    pub(super) disk_operations: u64,
    /// What takes longer endangers elections.
    slow: Duration,
    followed: Option<(Followed, Time)>,
    /// The caller, the name of the first read, and when it came.
    followed_reads: Option<(ClientId, u64, Time)>,
    /// Disk operations under way, oldest first.
    flying: VecDeque<Flying>,
}

struct Flying {
    id: OpId,
    kind: Kind,
    since: Time,
    /// It was said that it takes long.
    told: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Write,
    Sync,
    Read,
}

/// The moments of a turn.
pub(super) struct Moments {
    /// Before it collected anything.
    pub(super) begin: Time,
    /// Before and after state machines applied.
    pub(super) apply: (Time, Time),
    /// After its effects were carried out.
    pub(super) end: Time,
}

impl Meter {
    pub(super) fn new(shard: u32, election_timeout: Duration) -> Self {
        Self {
            timings: Timings::default(),
            callers: CallerCounters::default(),
            operations: OperatorCounters::default(),
            journal: Journal::new(shard),
            disk_operations: 0,
            slow: election_timeout / 2,
            followed: None,
            followed_reads: None,
            flying: VecDeque::new(),
        }
    }

    /// A disk operation starts.
    pub(super) fn disk_starts(&mut self, now: Time, id: OpId, op: &DiskOp) {
        let kind = match op {
            DiskOp::Write { len, .. } => {
                self.timings.write_bytes.record(*len);
                Kind::Write
            }
            DiskOp::Sync { .. } => Kind::Sync,
            DiskOp::Read { .. } => Kind::Read,
            // Preparing segments takes as long as it takes.
            _ => return,
        };
        self.flying.push_back(Flying { id, kind, since: now, told: false });
    }

    /// A disk operation's end is seen.
    pub(super) fn disk_ended(&mut self, now: Time, id: OpId) {
        self.disk_operations += 1;
        let Some(at) = self.flying.iter().position(|flying| flying.id == id) else { return };
        let Flying { kind, since, told, .. } = self.flying.remove(at).expect("it was found");
        let took = now.since(since);
        let (distribution, what) = match kind {
            Kind::Write => (&mut self.timings.write, "a write of the log"),
            Kind::Sync => (&mut self.timings.sync, "a sync of the log"),
            Kind::Read => (&mut self.timings.read, "a read of the log"),
        };
        distribution.record(took.as_nanos() as u64);
        if took >= self.slow && !told {
            self.journal.slow(what, took);
        }
    }

    /// Time passed: tells of a disk operation that does not end.
    pub(super) fn tick(&mut self, now: Time) {
        if let Some(oldest) = self.flying.front_mut()
            && !oldest.told
            && now.since(oldest.since) >= self.slow
        {
            oldest.told = true;
            self.journal.slow("a disk operation that has not ended", now.since(oldest.since));
        }
    }

    /// A turn's answers are about to be delivered.
    pub(super) fn answered(&mut self, answers: &[AnswerRun]) {
        for run in answers {
            let count = run.len() as u64;
            let counter = match run.error() {
                None => &mut self.callers.applied,
                Some(ProposeError::Unknown(_)) => &mut self.callers.unknown,
                Some(error) => {
                    self.callers.refused_busy += count * u64::from(*error == ProposeError::Busy);
                    &mut self.callers.refused
                }
            };
            *counter += count;
        }
    }

    /// Reads came; they are followed if no others are.
    pub(super) fn follow_reads(&mut self, now: Time, client: ClientId, reads: &[u64]) {
        if let (None, [first, ..]) = (self.followed_reads, reads) {
            self.followed_reads = Some((client, *first, now));
        }
    }

    /// A turn's reads are about to be served, or have failed.
    pub(super) fn reads_answered(&mut self, now: Time, reads: &[ReadRun]) {
        for run in reads {
            let count = run.len() as u64;
            let counter = match run.error() {
                None => &mut self.callers.reads_served,
                Some(error) => {
                    self.callers.reads_busy += count * u64::from(*error == ReadError::Busy);
                    &mut self.callers.reads_failed
                }
            };
            *counter += count;
            let is_followed = |(client, first, _): &mut (ClientId, u64, Time)| {
                *client == run.client() && run.begins() == Some(*first)
            };
            if let Some((.., since)) = self.followed_reads.take_if(is_followed)
                && run.error().is_none()
            {
                self.timings.linearizable.record(now.since(since).as_nanos() as u64);
            }
        }
    }

    /// The shard says how long something seldom took.
    pub(super) fn took(&mut self, what: Timed, took: Duration) {
        let distribution = match what {
            Timed::SnapshotTaken => &mut self.timings.snapshot_taken,
            Timed::SnapshotInstalled => &mut self.timings.snapshot_installed,
            Timed::SnapshotLoaded => &mut self.timings.snapshot_loaded,
        };
        distribution.record(took.as_nanos() as u64);
    }

    /// A change of members ended.
    pub(super) fn changed<T>(&mut self, result: &Result<T, MembershipError>) {
        let operations = &mut self.operations;
        *match result {
            Ok(_) => &mut operations.changes_done,
            Err(MembershipError::Unknown(_)) => &mut operations.changes_unknown,
            Err(_) => &mut operations.changes_refused,
        } += 1;
    }

    /// A transfer ended.
    pub(super) fn transferred(&mut self, result: &TransferResult) {
        let operations = &mut self.operations;
        *match result {
            Ok(_) => &mut operations.transfers_done,
            Err(TransferError::Refused(_) | TransferError::UnknownGroup(_)) => {
                &mut operations.transfers_refused
            }
            Err(_) => &mut operations.transfers_failed,
        } += 1;
    }

    /// A turn ended, in which `events` were taken in and `applied` entries applied.
    pub(super) fn turned(&mut self, at: &Moments, events: u64, applied: u64, shard: &Shard) {
        let took = at.end.since(at.begin);
        self.timings.turn.record(took.as_nanos() as u64);
        self.timings.events.record(events);
        let (before, after) = at.apply;
        if applied > 0 {
            self.timings.apply.record(after.since(before).as_nanos() as u64);
            self.timings.applied.record(applied);
        }
        if took >= self.slow {
            let apply = after.since(before);
            let culprit = if apply >= took / 2 { "a turn, in state machines" } else { "a turn" };
            self.journal.slow(culprit, took);
        }
        self.follow(at, shard);
    }

    /// Follows one proposal at a time to where it is applied.
    fn follow(&mut self, at: &Moments, shard: &Shard) {
        if self.followed.is_none() {
            self.followed = shard.newest_proposal().map(|proposal| (proposal, at.begin));
        }
        if let Some((proposal, since)) = self.followed {
            match shard.is_applied(proposal) {
                Some(false) => return,
                Some(true) => self.timings.commit.record(at.end.since(since).as_nanos() as u64),
                None => {}
            }
            self.followed = None;
        }
    }
}
