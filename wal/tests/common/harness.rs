//! Runs the log against the simulated disk and the model.

use std::collections::BTreeMap;

use ringleader_wal::{
    Block, GroupId, GroupSlot, HardState, Identity, LogIndex, LogPosition, NodeId, ReadError,
    ReadId, Recovered, RecoveryError, Seq, SyncMode, Term, Wal, WalConfig, WalError, WalEvent,
};

use super::Rng;
use super::disk::SimDisk;
use super::model::{Model, Op, block};

pub const ME: Identity = Identity { cluster: 11, node: NodeId(2), shard: 3 };

pub fn tiny(sync: SyncMode) -> WalConfig {
    WalConfig { sync, ..WalConfig::tiny() }
}

#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub durable: Seq,
    pub failed: Option<WalError>,
    pub exhausted: u32,
    pub available: u32,
}

pub struct Harness {
    pub disk: SimDisk,
    pub wal: Wal,
    pub model: Model,
    pub rng: Rng,
    pub config: WalConfig,
    pub seen: Seen,
    pub loaded: BTreeMap<ReadId, Result<Vec<Block>, ReadError>>,
    recovery: Option<Result<Recovered, RecoveryError>>,
    /// One for all groups, and it outlives the log: a wrong one must do no harm.
    slot: GroupSlot,
}

impl Harness {
    pub fn new(config: WalConfig, seed: u64) -> Self {
        let mut harness = Self::on(SimDisk::default(), config, seed);
        harness.recover().unwrap();
        harness
    }

    /// A log on a disk, recovery not begun.
    pub fn on(disk: SimDisk, config: WalConfig, seed: u64) -> Self {
        Self {
            disk,
            wal: Wal::open(config.clone(), ME),
            model: Model::default(),
            rng: Rng(seed),
            config,
            seen: Seen::default(),
            loaded: BTreeMap::new(),
            recovery: None,
            slot: GroupSlot::default(),
        }
    }

    /// Ends a turn of the owner: operations out, events in.
    pub fn turn(&mut self) {
        let mut ops = Vec::new();
        self.wal.take_ops(&mut ops);
        for (id, op) in ops {
            self.disk.submit(id, op);
        }
        self.events();
    }

    fn events(&mut self) {
        while let Some(event) = self.wal.next_event() {
            match event {
                WalEvent::Recovered(recovered) => self.recovery = Some(Ok(recovered)),
                WalEvent::RecoveryFailed(error) => self.recovery = Some(Err(error)),
                WalEvent::Durable(seq) => {
                    assert!(seq > self.seen.durable, "durable goes forward");
                    assert!(self.seen.failed.is_none(), "nothing is durable after a failure");
                    self.seen.durable = seq;
                }
                WalEvent::Loaded { id, result } => {
                    assert!(self.loaded.insert(id, result).is_none(), "answered once");
                }
                WalEvent::Failed(error) => {
                    assert!(self.seen.failed.replace(error).is_none(), "failed once");
                }
                WalEvent::SpaceExhausted => self.seen.exhausted += 1,
                WalEvent::SpaceAvailable => self.seen.available += 1,
            }
        }
    }

    /// Completes one disk operation; `false` when none is in flight.
    pub fn complete_one(&mut self) -> bool {
        let Some((id, result)) = self.disk.complete_one(&mut self.rng) else {
            return false;
        };
        self.wal.complete(id, result);
        self.events();
        true
    }

    /// Runs until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            self.turn();
            if !self.complete_one() {
                return;
            }
        }
        panic!("the log does not come to rest");
    }

    /// Runs recovery to its end.
    pub fn recover(&mut self) -> Result<Recovered, RecoveryError> {
        for _ in 0..100_000 {
            self.turn();
            if let Some(result) = self.recovery.take() {
                if let Ok(recovered) = &result {
                    self.seen.durable = recovered.durable;
                }
                return result;
            }
            assert!(self.complete_one(), "recovery hangs");
        }
        panic!("recovery does not end");
    }

    /// If recovery came to its end meanwhile: the log has begun to use the numbers after it again.
    pub fn note_recovery(&mut self) {
        if let Some(Ok(recovered)) = &self.recovery {
            self.model.forget_after(recovered.durable);
        }
    }

    /// Recovers after a crash and checks what is there against what was reported.
    pub fn recover_and_check(&mut self, reported: Seq) {
        let recovered = self.recover().unwrap_or_else(|error| panic!("refused: {error}"));
        assert!(recovered.durable >= reported, "{reported} was durable, {recovered:?}");
        self.model.forget_after(recovered.durable);
        self.model.check(&recovered);
        for (&id, group) in &self.model.groups {
            assert_eq!(self.wal.is_destroyed(id), group.destroyed, "group {id}");
        }
    }

    /// Starts the log again on what the disk holds.
    pub fn reopen(&mut self) {
        let reported = self.seen.durable;
        self.wal = Wal::open(self.config.clone(), ME);
        self.seen = Seen::default();
        self.loaded.clear();
        self.recover_and_check(reported);
    }

    pub fn crash(&mut self) {
        self.disk.crash(&mut self.rng);
        self.reopen();
    }

    /// A copy of the disk after a crash now, with the model and what was reported.
    pub fn crash_image(&self, seed: u64) -> Self {
        let mut rng = Rng(seed);
        let mut disk = self.disk.clone();
        disk.crash(&mut rng);
        let mut image = Self::on(disk, self.config.clone(), seed);
        image.model = self.model.clone();
        image
    }

    pub fn append(&mut self, group: u64, term: u64, payloads: &[Vec<u8>]) -> Seq {
        let first = self.model.groups.entry(GroupId(group)).or_default().last().index.0 + 1;
        let block = block(group, first, term, payloads);
        let seq = match group % 2 {
            0 => self.wal.append(&block),
            _ => self.wal.append_known(&mut self.slot, &block),
        };
        self.model.stage(seq, Op::Append(block));
        seq
    }

    pub fn configuration(&mut self, group: u64, term: u64, payload: &[u8]) -> Seq {
        let last = self.model.groups.entry(GroupId(group)).or_default().last();
        let at = LogPosition { index: last.index.next(), term: Term(term) };
        let block = Block::configuration(GroupId(group), at, payload);
        let seq = self.wal.append(&block);
        self.model.stage(seq, Op::Append(block));
        seq
    }

    pub fn hard_state(&mut self, group: u64, term: u64, vote: Option<u64>) -> Seq {
        let state = HardState { term: Term(term), voted_for: vote.map(NodeId) };
        let seq = self.wal.set_hard_state(GroupId(group), state);
        self.model.stage(seq, Op::HardState(GroupId(group), state));
        seq
    }

    pub fn truncate(&mut self, group: u64, from: u64) -> Seq {
        let seq = self.wal.truncate(GroupId(group), LogIndex(from));
        self.model.stage(seq, Op::Truncate(GroupId(group), LogIndex(from)));
        seq
    }

    pub fn release(&mut self, group: u64, through: u64, term: u64) -> Seq {
        let through = LogPosition { index: LogIndex(through), term: Term(term) };
        let seq = self.wal.release(GroupId(group), through);
        self.model.stage(seq, Op::Release(GroupId(group), through));
        seq
    }

    pub fn create(&mut self, group: u64) -> Seq {
        let seq = self.wal.create(GroupId(group));
        self.model.stage(seq, Op::Create(GroupId(group)));
        seq
    }

    pub fn destroy(&mut self, group: u64) -> Seq {
        let seq = self.wal.destroy(GroupId(group));
        self.model.stage(seq, Op::Destroy(GroupId(group)));
        seq
    }

    /// Reads a group's entries from `from` to the end and compares.
    pub fn check_entries(&mut self, group: u64, from: u64) {
        let id = GroupId(group);
        let model = self.model.groups.get(&id).cloned().unwrap_or_default();
        let mut next = from;
        while next <= model.last().index.0 {
            let max = 1 + self.rng.below(20_000) as usize;
            let read = self.wal.read(id, LogIndex(next), max);
            self.settle();
            let blocks = self.loaded.remove(&read).expect("an answer");
            let blocks = blocks.unwrap_or_else(|error| panic!("group {group} at {next}: {error}"));
            assert!(!blocks.is_empty());
            for block in blocks {
                assert_eq!(block.group(), id);
                assert_eq!(block.first_index().0, next, "contiguous");
                for index in block.first_index().0..=block.last_index().0 {
                    let expected = &model.entries[(index - model.base.index.0 - 1) as usize];
                    assert_eq!(block.term(), expected.0);
                    assert_eq!(block.payload(LogIndex(index)), expected.1, "entry {index}");
                }
                next = block.last_index().0 + 1;
            }
        }
    }

    /// Groups and segments count the same bytes, each in its own way.
    pub fn check_bytes(&self) {
        let held = |group: &GroupId| self.wal.bytes_after(*group, LogIndex(0));
        let of_groups: u64 = self.model.groups.keys().map(held).sum();
        let live: u64 = self.wal.status().segments.iter().map(|segment| segment.live_bytes).sum();
        assert_eq!(of_groups, live);
    }

    /// Reads everything back.
    pub fn check_all(&mut self) {
        self.check_bytes();
        let groups: Vec<(u64, u64)> =
            self.model.groups.iter().map(|(id, group)| (id.0, group.base.index.0 + 1)).collect();
        for (group, first) in groups {
            self.check_entries(group, first);
        }
    }

    /// One random operation on one of `groups` groups.
    pub fn random_op(&mut self, groups: u64) {
        let mut group = 1 + self.rng.below(groups);
        // The number of one that was destroyed is not used again.
        let destroyed = |id| self.model.groups.get(&GroupId(id)).is_some_and(|it| it.destroyed);
        while destroyed(group) {
            group += groups;
        }
        let state = self.model.groups.entry(GroupId(group)).or_default().clone();
        let (base, last) = (state.base, state.last());
        match self.rng.below(20) {
            0 => {
                let vote = self.rng.chance(50).then(|| 1 + self.rng.below(3));
                let term = last.term.0 + self.rng.below(2);
                self.hard_state(group, term, vote);
            }
            1 if last.index > base.index => {
                let from = base.index.0 + 1 + self.rng.below(last.index.0 - base.index.0);
                self.truncate(group, from);
            }
            2..=5 if last.index > base.index => {
                let through = base.index.0 + 1 + self.rng.below(last.index.0 - base.index.0);
                self.release(group, through, state.term(LogIndex(through)).0);
            }
            6 if self.rng.chance(10) => {
                let through = last.index.0 + 1 + self.rng.below(30);
                self.release(group, through, last.term.0 + 1);
            }
            9 if !state.created && self.rng.chance(30) => {
                self.create(group);
            }
            8 if self.rng.chance(10) => {
                self.destroy(group);
            }
            7 => {
                let payload = vec![self.rng.next() as u8; self.rng.below(60) as usize];
                self.configuration(group, last.term.0.max(1), &payload);
            }
            _ => {
                let largest = (self.config.max_block_bytes() as u64 / 4 - 20).min(3000);
                let size = [10, 200, largest][self.rng.below(3) as usize];
                let payloads: Vec<Vec<u8>> = (0..1 + self.rng.below(4))
                    .map(|_| {
                        let byte = self.rng.next() as u8;
                        vec![byte; self.rng.below(size) as usize]
                    })
                    .collect();
                let term = last.term.0.max(1) + u64::from(self.rng.chance(10));
                self.append(group, term, &payloads);
            }
        }
    }
}
