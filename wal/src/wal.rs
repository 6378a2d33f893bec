//! The log as one state machine: what it is made of, how operations come and go, its phases.

use std::collections::{BTreeMap, VecDeque};

use crate::config::{Identity, WalConfig};
use crate::disk::{DiskError, DiskOp, DiskOutput, FileName, OpId};
use crate::event::{ReadError, WalError, WalEvent, WalStats};
use crate::flight::Flight;
use crate::format::LogKey;
use crate::index::Groups;
use crate::opened::Opened;
use crate::prepare::{Preparation, Prepared};
use crate::reader::{ReadJob, Resumes};
use crate::reclaim::Relocation;
use crate::recovery::{Recovery, Tag};
use crate::segments::Segments;
use crate::staging::Staging;
use crate::types::{NumberMap, Seq};

/// What an operation in flight is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Recovery(Tag),
    /// A segment header or batch, with its number in [`Flight`].
    Write(u64),
    Sync,
    Prepare,
    Remove,
    Read(u64),
    Relocate,
}

pub(crate) enum Phase {
    Recovering(Box<Recovery>),
    Running,
    /// Recovery failed, or a write did.
    Failed,
}

/// A spare segment's file, and whether it was in the log before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spare {
    pub(crate) file: u32,
    pub(crate) recycled: bool,
}

/// Spare segments that no proposal takes: a node whose disk is full still has room for its votes,
/// and its next start for the segment that every start begins.
const RESERVE: usize = 1;

/// Ticks between attempts to prepare a segment while they fail, at most: about a second.
const RETRY_TICKS_MAX: u32 = 200;

/// The write-ahead log of one shard, shared by all its groups.
///
/// It does no IO: [`Wal::take_ops`] gives out what is to be done, [`Wal::complete`] takes what was
/// done, in any order, and [`Wal::next_event`] says what came of it. Records are staged into
/// batches; a batch is submitted by the next `take_ops` that finds a write free, so batches form
/// while the disk is busy and nothing waits for company. What `take_ops` gives out must be
/// carried out, or the log makes no progress.
///
/// **Durability.** Each staging call returns a [`Seq`]. Once [`WalEvent::Durable`] with that
/// number or a higher one was given out, the record survives a crash and a power failure. All
/// groups' records are ordered as they were staged: if one survives, all before it do.
///
/// **Panics.** Staging before [`WalEvent::Recovered`], staging out of order, and completing an
/// operation that is not in flight are programmer errors and panic. No state of the disk does.
pub struct Wal {
    pub(crate) config: WalConfig,
    pub(crate) identity: Identity,
    pub(crate) key: LogKey,
    pub(crate) phase: Phase,
    pub(crate) stats: WalStats,
    pub(crate) events: VecDeque<WalEvent>,
    ops: Vec<(OpId, DiskOp)>,
    pending: NumberMap<u64, Purpose>,
    next_op: u64,

    pub(crate) groups: Groups,
    pub(crate) segments: Segments,
    pub(crate) staging: Staging,
    pub(crate) flight: Flight,
    pub(crate) durable: Seq,
    /// Segment of the last durable batch.
    pub(crate) durable_segment: u64,
    /// CRC of the last batch submitted.
    pub(crate) chain: u32,
    /// Newest segment, and the id of the next.
    pub(crate) newest_segment: u64,
    pub(crate) next_segment: u64,
    /// The oldest segment that the durable state needs, to be carried by the next batch.
    pub(crate) oldest_needed: u64,
    /// The same as the last batch submitted carried it.
    pub(crate) published: u64,
    /// The same as the last durable batch carried it: older segments may be used again.
    pub(crate) free_below: u64,
    /// Whether the last batch submitted was an idle mark.
    pub(crate) marked: bool,
    /// Whether a batch was submitted since the last tick.
    pub(crate) busy: bool,
    closing: bool,

    pub(crate) spares: VecDeque<Spare>,
    preparation: Option<Preparation>,
    next_file: u32,
    /// The last preparation failed.
    no_space: bool,
    /// Ticks until the next attempt after a failed preparation, and how many it was last.
    retry_in: u32,
    retry_after: u32,
    /// What the owner was last told.
    told_exhausted: bool,

    pub(crate) reads: BTreeMap<u64, ReadJob>,
    pub(crate) next_read: u64,
    pub(crate) resumes: Resumes,
    pub(crate) relocation: Option<Relocation>,
    /// Bytes that may be rewritten forward.
    pub(crate) credit: u64,
}

impl Wal {
    /// Begins recovery; its first operations come from [`Wal::take_ops`], and
    /// [`WalEvent::Recovered`] or [`WalEvent::RecoveryFailed`] ends it.
    ///
    /// # Panics
    /// When `config` is not valid; see [`WalConfig::validate`].
    #[must_use]
    pub fn open(config: WalConfig, identity: Identity) -> Self {
        config.validate().expect("a valid configuration");
        let recovery = Recovery::new(&config, identity);
        Self {
            identity,
            key: LogKey::new(&identity),
            phase: Phase::Recovering(Box::new(recovery)),
            stats: WalStats::default(),
            events: VecDeque::new(),
            ops: Vec::new(),
            pending: NumberMap::default(),
            next_op: 0,
            groups: Groups::default(),
            segments: Segments::default(),
            staging: Staging::new(config.segment_bytes, config.max_batch_bytes, Seq(1)),
            flight: Flight::new(config.sync == crate::config::SyncMode::CoalescedSync),
            durable: Seq(0),
            durable_segment: 0,
            chain: 0,
            newest_segment: 0,
            next_segment: 1,
            oldest_needed: 0,
            published: 0,
            free_below: 0,
            marked: true,
            busy: false,
            closing: false,
            spares: VecDeque::new(),
            preparation: None,
            next_file: 1,
            no_space: false,
            retry_in: 0,
            retry_after: 0,
            told_exhausted: false,
            reads: BTreeMap::new(),
            next_read: 0,
            resumes: Resumes::default(),
            relocation: None,
            credit: config.segment_bytes,
            config,
        }
    }

    /// Ends a turn: submits what is staged as far as writes are free, goes on with background
    /// work, and appends every operation to be carried out now to `ops`.
    pub fn take_ops(&mut self, ops: &mut Vec<(OpId, DiskOp)>) {
        match &mut self.phase {
            Phase::Recovering(recovery) => {
                for (tag, op) in recovery.take_ops() {
                    self.submit(Purpose::Recovery(tag), op);
                }
            }
            Phase::Running => {
                if self.closing {
                    self.stage_mark();
                } else {
                    self.reclaim();
                }
                self.submit_writes();
                self.submit_sync();
                self.prepare();
                self.tell_space();
            }
            Phase::Failed => {}
        }
        ops.append(&mut self.ops);
    }

    pub(crate) fn submit(&mut self, purpose: Purpose, op: DiskOp) {
        let id = self.next_op;
        self.next_op += 1;
        self.pending.insert(id, purpose);
        self.ops.push((OpId(id), op));
    }

    /// Takes an operation's result. Operations may complete in any order.
    ///
    /// # Panics
    /// When `id` is not in flight.
    pub fn complete(&mut self, id: OpId, result: Result<DiskOutput, DiskError>) {
        let purpose = self.pending.remove(&id.0).expect("the operation is in flight");
        match purpose {
            Purpose::Recovery(tag) => self.recovery_step(tag, result),
            Purpose::Write(number) => self.write_done(number, result.map(drop)),
            Purpose::Sync => self.sync_done(result.map(drop)),
            Purpose::Prepare => self.preparation_step(result.map(drop)),
            // A file that can't be removed costs space until the next start.
            Purpose::Remove => {}
            Purpose::Read(read) => self.read_done(read, result),
            Purpose::Relocate => self.relocation_read(result),
        }
    }

    fn recovery_step(&mut self, tag: Tag, result: Result<DiskOutput, DiskError>) {
        let Phase::Recovering(recovery) = &mut self.phase else {
            return;
        };
        match recovery.complete(tag, result) {
            None => {}
            Some(Ok(opened)) => self.start(*opened),
            Some(Err(error)) => {
                self.phase = Phase::Failed;
                self.events.push_back(WalEvent::RecoveryFailed(error));
            }
        }
    }

    fn start(&mut self, opened: Opened) {
        let next_seq = Seq(opened.recovered.durable.0 + 1);
        self.staging =
            Staging::new(self.config.segment_bytes, self.config.max_batch_bytes, next_seq);
        self.groups = opened.groups;
        self.segments = opened.segments;
        self.durable = opened.recovered.durable;
        self.durable_segment = opened.prev;
        self.chain = opened.chain;
        self.newest_segment = opened.prev;
        self.next_segment = opened.next_segment;
        self.oldest_needed = opened.oldest_needed;
        self.published = opened.oldest_needed;
        self.marked = opened.marked;
        self.next_file = opened.next_file;
        self.phase = Phase::Running;
        for file in opened.spares {
            self.recycle(file, self.config.segment_bytes);
        }
        for file in opened.misfits {
            self.recycle(file, 0);
        }
        self.events.push_back(WalEvent::Recovered(opened.recovered));
    }

    /// The next event, in order.
    pub fn next_event(&mut self) -> Option<WalEvent> {
        self.events.pop_front()
    }

    /// To be called every few milliseconds: tries again to prepare segments after a failure, and
    /// writes the idle mark when nothing was written since the last call.
    pub fn tick(&mut self) {
        self.retry_in = self.retry_in.saturating_sub(1);
        let quiet = !std::mem::take(&mut self.busy);
        if quiet && matches!(self.phase, Phase::Running) {
            self.stage_mark();
        }
    }

    /// Begins a clean shutdown: what is staged is still written, then the idle mark. The log is
    /// closed when [`Wal::is_idle`]; staging more before that is allowed and delays it.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Whether nothing is staged and no operation is under way; after [`Wal::close`], that the
    /// idle mark is durable too.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let settled = match self.phase {
            Phase::Recovering(_) => false,
            Phase::Running => {
                self.staging.is_empty()
                    && self.flight.is_empty()
                    && !(self.closing && self.mark_due())
            }
            Phase::Failed => true,
        };
        settled && self.pending.is_empty() && self.ops.is_empty()
    }

    /// The highest durable batch.
    #[must_use]
    pub fn durable(&self) -> Seq {
        self.durable
    }

    /// Bytes of records and blocks that are staged or being written and not durable yet. The log
    /// sets no limit: callers stop proposing above one of their own.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.staging.bytes + self.flight.bytes
    }

    /// `false` while the last attempt to prepare a segment failed and only the reserve is spare.
    /// Callers refuse proposals then; what is staged nevertheless takes the reserve, and then
    /// waits for space.
    #[must_use]
    pub fn has_space(&self) -> bool {
        !(self.no_space && self.spares.len() <= RESERVE)
    }

    /// Counters since the log was opened.
    #[must_use]
    pub fn stats(&self) -> &WalStats {
        &self.stats
    }

    /// Whose log it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &WalConfig {
        &self.config
    }

    /// Segments in the log at present, the spare ones not counted.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    pub(crate) fn operations_in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Poisons the log.
    pub(crate) fn fail(&mut self, what: &'static str, file: u32, cause: DiskError) {
        if matches!(self.phase, Phase::Failed) {
            return;
        }
        self.phase = Phase::Failed;
        self.staging.clear();
        self.flight = Flight::new(false);
        self.preparation = None;
        self.relocation = None;
        let file = FileName::Segment(file);
        self.events.push_back(WalEvent::Failed(WalError { what, file, cause }));
        self.fail_waiting_reads(&ReadError::Poisoned);
    }

    /// Keeps a file that is no longer part of the log as a spare, or removes it.
    pub(crate) fn recycle(&mut self, file: u32, len: u64) {
        if len == self.config.segment_bytes && self.spares.len() < self.config.kept_segments {
            self.spares.push_back(Spare { file, recycled: true });
        } else {
            self.stats.segments_removed += 1;
            self.submit(Purpose::Remove, DiskOp::Remove { file: FileName::Segment(file) });
        }
    }

    /// Whether what is staged waits for a segment.
    fn starved(&self) -> bool {
        let placed = |id| self.segments.get(id).is_none_or(|segment| segment.file.is_some());
        self.spares.is_empty() && self.staging.next_segment().is_some_and(|id| !placed(id))
    }

    fn prepare(&mut self) {
        let wanted =
            if self.closing { usize::from(self.starved()) } else { self.config.spare_segments };
        if self.preparation.is_none() && self.retry_in == 0 && self.spares.len() < wanted {
            self.preparation = Some(Preparation::new(self.next_file, self.config.segment_bytes));
            self.next_file += 1;
        }
        if self.closing && wanted == 0 {
            return;
        }
        while let Some(op) = self.preparation.as_mut().and_then(Preparation::next_op) {
            self.submit(Purpose::Prepare, op);
        }
    }

    fn preparation_step(&mut self, result: Result<(), DiskError>) {
        let Some(preparation) = &mut self.preparation else {
            return;
        };
        match preparation.complete(result) {
            Prepared::Running => {}
            Prepared::Ready(file) => {
                self.stats.segments_created += 1;
                self.preparation = None;
                self.no_space = false;
                self.retry_after = 0;
                self.spares.push_back(Spare { file, recycled: false });
            }
            Prepared::Failed(error) => {
                if !self.no_space {
                    tracing::warn!(%error, "no segment could be prepared; trying again");
                }
                self.stats.preparations_failed += 1;
                self.preparation = None;
                self.no_space = true;
                self.retry_after = (2 * self.retry_after).clamp(1, RETRY_TICKS_MAX);
                self.retry_in = self.retry_after;
            }
        }
    }

    fn tell_space(&mut self) {
        let exhausted = !self.has_space();
        if exhausted != self.told_exhausted {
            self.told_exhausted = exhausted;
            let event = if exhausted { WalEvent::SpaceExhausted } else { WalEvent::SpaceAvailable };
            self.events.push_back(event);
        }
    }
}
