//! The newest snapshot of each group, loaded before the rest of its log is applied.
//!
//! The log is recovered first and says where each group's entries begin; then the directory is
//! listed, and group after group is restored. What may a state machine start from? The newest of
//! its snapshots, its own durable state if that is newer, or nothing while the log is whole. A
//! snapshot that is damaged is passed over only where nothing is lost by that: the log must hold the
//! last entry that it covered, and something older must reach the log's beginning. In any other case
//! the start is refused with the file and the place.
//!
//! A snapshot that is older than the state machine's own state still says who the members are: it is
//! read for that, and stays.
//!
//! A snapshot may be ahead of the log: it was installed and the log not replaced yet, or taken by a
//! leader whose own disk was the slowest. The log is made to follow, and the shard waits for that
//! to be durable ([`Restored::adopt`]).

use std::collections::BTreeMap;
use std::time::Duration;

use ringleader_wal::disk::{DiskError, DiskOp, DiskOutput, FileName};
use ringleader_wal::{GroupId, LogIndex, LogPosition, Recovered, RecoveredGroup, Seq};

use super::own::check_own;
use super::reader::{Next, Reader};
use super::{Kept, Purpose};
use crate::config::GroupConfig;
use crate::error::StartError;
use crate::raft::{Configuration, LogOp, Restored};
use crate::shard::membership::read_configuration;
use crate::shard::{RecoverySummary, Shard, Timed};
use crate::state_machine::StateMachine;
use crate::time::Time;

/// What a group starts with.
pub(in crate::shard) struct Opened {
    pub(in crate::shard) machine: Box<dyn StateMachine>,
    /// The last entry that the machine holds.
    at: LogPosition,
    pub(in crate::shard) restored: Restored,
}

/// A group whose snapshot is being read.
struct Loading {
    machine: Box<dyn StateMachine>,
    reader: Reader,
    at: LogPosition,
    configuration: Option<Configuration>,
    began: Time,
    /// The state machine has that and more: it is read for what it says of the members.
    own: Option<LogPosition>,
}

/// See the [module documentation](self).
pub(super) struct Opening {
    pub(super) summary: RecoverySummary,
    /// Groups that were created while the shard ran.
    created: Vec<GroupId>,
    restored: BTreeMap<GroupId, Restored>,
    /// The snapshots of each group and the files' lengths, the newest last.
    files: BTreeMap<GroupId, Vec<(LogPosition, u64)>>,
    /// What is not needed, to be removed.
    leftovers: Vec<FileName>,
    opened: Vec<Opened>,
    loading: Option<Loading>,
    /// How long each took that was loaded.
    took: Vec<Duration>,
    /// Removals under way.
    removing: usize,
    /// All groups are restored.
    settles: bool,
    /// The last record staged that the shard has to wait for.
    settled_at: Option<Seq>,
}

/// Whether there is something to wait for.
enum Step {
    Wait,
    GoOn,
}

impl Shard {
    /// The log was read: the snapshots are next.
    pub(in crate::shard) fn open_snapshots(&mut self, recovered: Recovered) {
        let summary = RecoverySummary::from(&recovered);
        let created = recovered.groups.iter().filter(|group| group.created);
        let created = created.map(|group| group.group).collect();
        let restored: Result<_, _> = recovered.groups.into_iter().map(restore).collect();
        let restored = match restored {
            Ok(restored) => restored,
            Err(cause) => return self.refuse_log(cause),
        };
        self.snapshots.opening = Some(Box::new(Opening {
            summary,
            created,
            restored,
            files: BTreeMap::new(),
            leftovers: Vec::new(),
            opened: Vec::new(),
            loading: None,
            took: Vec::new(),
            removing: 0,
            settles: false,
            settled_at: None,
        }));
        self.snapshots.submit(Purpose::Opening, DiskOp::List);
    }

    pub(super) fn opening_step(&mut self, now: Time, result: Result<DiskOutput, DiskError>) {
        let Some(mut opening) = self.snapshots.opening.take() else { return };
        let step = self.open_further(&mut opening, result);
        self.snapshots.opening = Some(opening);
        match step {
            Ok(Step::Wait) => {}
            Ok(Step::GoOn) => self.settle_opening(now),
            Err(cause) => {
                self.snapshots.opening = None;
                self.refuse_log(cause);
            }
        }
    }

    fn open_further(
        &mut self,
        opening: &mut Opening,
        result: Result<DiskOutput, DiskError>,
    ) -> Result<Step, String> {
        if opening.removing > 0 {
            result.map_err(|error| error.to_string())?;
            opening.removing -= 1;
            return Ok(if opening.removing > 0 { Step::Wait } else { Step::GoOn });
        }
        if let Some(loading) = &mut opening.loading {
            loading.reader.fill(result).map_err(|error| error.to_string())?;
        } else {
            match result.map_err(|error| error.to_string())? {
                DiskOutput::Listed(list) => opening.sort(list),
                output => return Err(format!("listing was answered with {output:?}")),
            }
            self.sort_groups(opening)?;
        }
        if let Step::Wait = self.load_groups(opening)? {
            return Ok(Step::Wait);
        }
        opening.removing = opening.leftovers.len();
        for file in opening.leftovers.drain(..) {
            self.snapshots.submit(Purpose::Opening, DiskOp::Remove { file });
        }
        Ok(if opening.removing > 0 { Step::Wait } else { Step::GoOn })
    }

    /// Which groups are here: those that the configuration names, and those that were created while
    /// the shard ran; none that was destroyed.
    fn sort_groups(&mut self, opening: &mut Opening) -> Result<(), String> {
        let gone = opening.files.extract_if(.., |group, _| self.wal.is_destroyed(*group));
        for (group, files) in gone {
            let files = files.into_iter().map(|(at, _)| FileName::Snapshot(group, at));
            opening.leftovers.extend(files);
        }
        self.config.groups.retain(|GroupConfig { group, .. }| {
            let destroyed = self.wal.is_destroyed(*group);
            if destroyed {
                tracing::warn!(%group, "the configuration names a group that was destroyed here");
            }
            !destroyed
        });
        for group in std::mem::take(&mut opening.created) {
            if !self.slots.contains_key(&group) {
                self.number_links(group);
                self.config.groups.push(GroupConfig { group, voters: Vec::new() });
            }
        }
        self.slots = self.config.groups.iter().map(|config| config.group).collect();
        let held = opening.restored.keys().chain(opening.files.keys());
        match held.filter(|group| !self.slots.contains_key(group)).min() {
            None => Ok(()),
            Some(stranger) => Err(format!(
                "the log holds group {stranger}, which the configuration does not name; \
                 give the group back its entry, or use another data directory"
            )),
        }
    }

    /// Goes on until something has to be read.
    fn load_groups(&mut self, opening: &mut Opening) -> Result<Step, String> {
        loop {
            if opening.loading.is_some() {
                if let Some(op) = self.load(opening)? {
                    self.snapshots.submit(Purpose::Opening, op);
                    return Ok(Step::Wait);
                }
                continue;
            }
            let Some(config) = self.config.groups.get(opening.opened.len()) else {
                return Ok(Step::GoOn);
            };
            let machine = (self.config.factory)(config.group);
            self.begin(opening, config.group, machine, None)?;
        }
    }

    /// Chooses what a group starts from. `damage` is what was found wrong with a newer snapshot.
    fn begin(
        &self,
        opening: &mut Opening,
        group: GroupId,
        machine: Box<dyn StateMachine>,
        damage: Option<String>,
    ) -> Result<(), String> {
        let held = opening.restored.get(&group);
        let base = held.map_or(LogIndex(0), |held| held.base.index);
        let own = machine.durable_position().unwrap_or_default();
        let newest = opening.files.get(&group).and_then(|files| files.last()).copied();
        let at = newest.map_or(own, |(at, _)| if at.index > own.index { at } else { own });
        if at.index < base {
            let cause = damage.unwrap_or_else(|| unreached(group, base, at));
            return Err(format!("{cause}; {}", StartError::HEAL));
        }
        let own = (at == own).then_some(own);
        let in_file = newest.map(|(at, _)| at.index);
        let knows_members =
            held.is_none_or(|held| held.knows_members(own) || in_file.is_some_and(|at| at >= base));
        if let Some(damage) = damage.filter(|_| !knows_members) {
            return Err(format!("{damage}; {}", StartError::HEAL));
        }
        if let Some(own) = own {
            let voters = self.config.groups.iter().find(|config| config.group == group);
            let is_voter = voters.is_some_and(|config| !config.voters.is_empty());
            check_own(group, own, newest.map(|(at, _)| at), held, is_voter)?;
        }
        match newest {
            Some((at, len)) => {
                let reader = Reader::new(&self.snapshots.identity, group, at, len);
                let (configuration, began) = (None, self.snapshots.clock);
                let loading = Loading { machine, reader, at, configuration, own, began };
                opening.loading = Some(loading);
            }
            None => opening.finish_group(group, machine, own, None),
        }
        Ok(())
    }

    /// Goes on with the snapshot being read; what has to be read next, if anything.
    fn load(&self, opening: &mut Opening) -> Result<Option<DiskOp>, String> {
        let group = self.config.groups[opening.opened.len()].group;
        let Some(loading) = &mut opening.loading else { return Ok(None) };
        let file = FileName::Snapshot(group, loading.at);
        let refused = |error: String| format!("{file}: {error}");
        match loading.reader.next() {
            Next::Read(op) => return Ok(Some(op)),
            Next::Head(head) => {
                let read = Configuration::decode(&head.configuration);
                loading.configuration = Some(read.map_err(|error| refused(error.to_string()))?);
                if loading.own.is_some() {
                    opening.finish_loading(group);
                }
            }
            Next::Chunk(chunk) => {
                loading.machine.restore(&chunk).map_err(|error| refused(error.to_string()))?;
            }
            Next::End => {
                loading.machine.restored().map_err(|error| refused(error.to_string()))?;
                opening.summary.snapshots += 1;
                opening.took.push(self.snapshots.clock.since(loading.began));
                opening.finish_loading(group);
            }
            Next::Damaged(damage) => {
                let (damage, at, own) = (damage.to_string(), loading.at, loading.own);
                opening.loading = None;
                let held = opening.restored.get(&group);
                let has_entries = held.and_then(|held| held.term_at(at.index)) == Some(at.term);
                let has_members = held.is_some_and(|held| held.knows_members(own));
                if !(if own.is_some() { has_members } else { has_entries }) {
                    return Err(format!("{damage}; {}", StartError::HEAL));
                }
                opening.drop_newest(group);
                tracing::warn!(%group, %damage, "a damaged snapshot is passed over");
                let machine = (self.config.factory)(group);
                self.begin(opening, group, machine, Some(damage))?;
            }
        }
        Ok(None)
    }

    /// All groups are restored: the log follows where a snapshot is ahead of it.
    fn settle_opening(&mut self, now: Time) {
        let Some(opening) = &mut self.snapshots.opening else { return };
        let mut last = None;
        for (config, opened) in self.config.groups.iter().zip(&mut opening.opened) {
            let file = opening.files.get(&config.group).and_then(|files| files.last()).copied();
            // What a machine keeps itself counts once it is certain that it gives snapshots.
            let newest = file.map_or(LogPosition::default(), |(at, _)| at);
            self.snapshots.kept.push(Kept { newest, file, since: now, ..Kept::default() });
            for op in opened.restored.adopt(opened.at) {
                let group = config.group;
                last = Some(match op {
                    LogOp::HardState(state) => self.wal.set_hard_state(group, state),
                    LogOp::Truncate(from) => self.wal.truncate(group, from),
                    LogOp::Release(through) => self.wal.release(group, through),
                    LogOp::Append(block) => self.wal.append(&block),
                });
            }
        }
        (opening.settles, opening.settled_at) = (true, last);
        self.start_when_settled(now);
    }

    /// Starts the groups, once the log says what the snapshots do.
    pub(in crate::shard) fn start_when_settled(&mut self, now: Time) {
        let durable = self.wal.durable();
        let settled = |opening: &mut Box<Opening>| {
            opening.settles && opening.settled_at.is_none_or(|seq| seq <= durable)
        };
        if let Some(opening) = self.snapshots.opening.take_if(settled) {
            let took = opening.took.iter().map(|took| (Timed::SnapshotLoaded, *took));
            self.effects.took.extend(took);
            self.start(now, opening.summary, opening.opened);
            (0..self.groups.len()).for_each(|slot| self.release_log(slot as u32));
        }
    }
}

impl Opening {
    fn sort(&mut self, list: Vec<(FileName, u64)>) {
        for (file, len) in list {
            match file {
                FileName::Snapshot(group, at) => {
                    self.files.entry(group).or_default().push((at, len));
                }
                FileName::Partial(..) => self.leftovers.push(file),
                FileName::Segment(_) | FileName::Preparing(_) => {}
            }
        }
        self.files.values_mut().for_each(|files| files.sort_unstable());
    }

    fn drop_newest(&mut self, group: GroupId) {
        let files = self.files.entry(group).or_default();
        let dropped = files.pop().map(|(at, _)| FileName::Snapshot(group, at));
        self.leftovers.extend(dropped);
    }

    /// All that was to be read of a snapshot was read.
    fn finish_loading(&mut self, group: GroupId) {
        if let Some(Loading { machine, at, configuration, own, .. }) = self.loading.take() {
            let known = configuration.map(|configuration| (at, configuration));
            self.finish_group(group, machine, own, known);
        }
    }

    /// A group's state machine holds everything up to its snapshot, or up to `own` if it keeps that
    /// itself; the snapshot stays, with what it says of the members.
    fn finish_group(
        &mut self,
        group: GroupId,
        machine: Box<dyn StateMachine>,
        own: Option<LogPosition>,
        snapshot: Option<(LogPosition, Configuration)>,
    ) {
        let file = snapshot.as_ref().map(|(at, _)| *at);
        let files = self.files.entry(group).or_default();
        let older = files.extract_if(.., |(other, _)| Some(*other) != file);
        let older = older.map(|(at, _)| FileName::Snapshot(group, at));
        self.leftovers.extend(older);
        let mut restored = self.restored.remove(&group).unwrap_or_default();
        restored.configuration = snapshot.map(|(at, configuration)| (at.index, configuration));
        let at = own.or(file).unwrap_or_default();
        self.opened.push(Opened { machine, at, restored });
    }
}

/// Nothing that there is reaches the beginning of the log; `at` is the newest of it.
pub(super) fn unreached(group: GroupId, base: LogIndex, at: LogPosition) -> String {
    let newest = match at.index {
        LogIndex(0) => "there is none".into(),
        _ => FileName::Snapshot(group, at).to_string(),
    };
    format!(
        "group {group}: the log begins after entry {base}, and there is no snapshot that reaches \
         it: {newest}"
    )
}

pub(super) fn restore(group: RecoveredGroup) -> Result<(GroupId, Restored), String> {
    let RecoveredGroup { group, hard_state, base, last_index, terms, configurations, .. } = group;
    let configurations = configurations.iter().map(read_configuration).collect::<Result<_, _>>()?;
    let (applied, configuration) = (base.index, None);
    let restored =
        Restored { hard_state, base, applied, last_index, terms, configuration, configurations };
    Ok((group, restored))
}
