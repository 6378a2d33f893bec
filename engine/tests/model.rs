//! A model check of the protocol: all interleavings of a group of three within small bounds, by
//! stateright, over the production core and not over a model of it.
//!
//! ```text
//! cargo test --release -p ringleader --test model -- --nocapture    prints the states explored
//! ```
//!
//! What may happen, in any order: a member's timer ends, the oldest message on a connection
//! arrives, a connection breaks with all that is on it, the oldest log batch becomes durable, a
//! member crashes with any number of its finished but unreported batches, entries are read for a
//! peer, something is proposed, a member is to be removed. After each step the harness checks election safety, log matching,
//! leader completeness, that committed entries never change and are durable on a quorum, and that
//! no message leaves before what it depends on is durable.
//!
//! Timers end whenever they like, so time is no part of a state. That is exact without the check
//! of a quorum, which compares times; what it promises is for the simulator to try.

mod harness;

use std::fmt::{self, Debug, Write as _};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringleader::raft::{MembershipChange, RaftConfig};
use ringleader_wal::NodeId;
use stateright::{Checker as _, Model, Property};

use harness::World;
use harness::disk::Disk;

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Budget {
    elections: u8,
    heartbeats: u8,
    proposals: u8,
    crashes: u8,
    breaks: u8,
    changes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Timeout(u64),
    Deliver(u64, u64),
    Durable(u64),
    Load(u64),
    Propose(u64),
    /// Asks to remove a member.
    Remove(u64, u64),
    /// With so many batches on disk that nobody was told of.
    Crash(u64, usize),
    Break(u64, u64),
}

const ALL: [u64; 3] = [1, 2, 3];

impl Action {
    /// The members that it may change.
    fn touches(&self) -> &[u64] {
        match self {
            Self::Timeout(id) | Self::Durable(id) | Self::Load(id) | Self::Propose(id) => {
                std::slice::from_ref(id)
            }
            Self::Deliver(_, to) => std::slice::from_ref(to),
            Self::Remove(id, _) => std::slice::from_ref(id),
            Self::Crash(..) | Self::Break(..) => &ALL,
        }
    }
}

/// A state, told from others by its fingerprint.
#[derive(Clone)]
struct State {
    world: Arc<World>,
    budget: Budget,
    violation: Option<String>,
    /// The members' fingerprints.
    members: [u64; 3],
    fingerprint: u64,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.fingerprint);
    }
}

impl Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for id in self.world.ids() {
            writeln!(f, "{:?}", self.world.raft(id).status())?;
        }
        write!(f, "{:?} {:?}", self.budget, self.violation)
    }
}

struct Group {
    config: RaftConfig,
    /// Terms of the entries that the members' logs start with.
    logs: [&'static [u64]; 3],
    budget: Budget,
    /// Whose timer may end first; the others stand for it where all members are alike.
    first: &'static [u64],
}

impl State {
    /// `before` is what the members' fingerprints were, and which of them may have changed.
    fn new(
        world: World,
        budget: Budget,
        violation: Option<String>,
        before: ([u64; 3], &[u64]),
    ) -> Self {
        let (mut members, changed) = before;
        for id in changed {
            let node = &world.nodes[id];
            // What is staged follows from what is on disk and the batches.
            let staged = (&node.batches, &node.gated, &node.loads);
            members[*id as usize - 1] = fingerprint(&(&node.raft, &node.disk, staged));
        }
        let history = (&world.checker, &violation);
        let fingerprint = fingerprint(&(members, &world.links, history, budget));
        Self { world: Arc::new(world), budget, violation, members, fingerprint }
    }
}

impl Model for Group {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let disks = self.logs.iter().map(|terms| Disk::with_log(terms)).collect();
        let mut world = World::new(self.config, disks, 1);
        for (a, b) in pairs() {
            world.connect(a, b);
        }
        vec![State::new(world, self.budget, None, ([0; 3], &ALL))]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let State { world, budget, violation, .. } = state;
        if violation.is_some() {
            return;
        }
        let begun = *budget != self.budget;
        for id in world.ids() {
            let node = &world.nodes[&id];
            let ticks =
                if world.raft(id).is_leader() { budget.heartbeats } else { budget.elections };
            if ticks > 0 && (begun || self.first.contains(&id)) {
                actions.push(Action::Timeout(id));
            }
            if node.pending_batches() > 0 {
                actions.push(Action::Durable(id));
            }
            if !node.loads.is_empty() {
                actions.push(Action::Load(id));
            }
            if budget.proposals > 0 && world.raft(id).is_leader() {
                actions.push(Action::Propose(id));
            }
            if budget.changes > 0 && world.raft(id).is_leader() {
                let removed: &[u64] = if cfg!(debug_assertions) { &[1] } else { &[1, 2] };
                actions.extend(removed.iter().map(|removed| Action::Remove(id, *removed)));
            }
            if budget.crashes > 0 && begun {
                actions.extend((0..=node.pending_batches()).map(|kept| Action::Crash(id, kept)));
            }
        }
        actions.extend(world.in_flight().into_iter().map(|(from, to)| Action::Deliver(from, to)));
        if budget.breaks > 0 {
            let busy = |(a, b): &(u64, u64)| {
                world.in_flight().iter().any(|link| *link == (*a, *b) || *link == (*b, *a))
            };
            actions.extend(pairs().into_iter().filter(busy).map(|(a, b)| Action::Break(a, b)));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let (mut world, mut budget) = (World::clone(&last.world), last.budget);
        let done = catch_unwind(AssertUnwindSafe(|| {
            perform(&mut world, &mut budget, action);
            world.checker.check_all(&world.nodes);
        }));
        let before = (last.members, action.touches());
        Some(match done {
            Ok(()) => State::new(world, budget, None, before),
            Err(cause) => {
                let text = cause.downcast_ref::<String>().cloned();
                let text = text.unwrap_or_else(|| "an assertion".into());
                State::new(World::clone(&last.world), budget, Some(text), before)
            }
        })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("safe", |_, state: &State| state.violation.is_none()),
            Property::sometimes("a leader is elected", |_, state: &State| {
                !state.world.leaders().is_empty()
            }),
            Property::sometimes("everybody may lead at once", |model: &Self, state: &State| {
                state.world.leaders().len() >= usize::from(model.budget.elections)
            }),
            Property::sometimes("an entry is committed", |model: &Self, state: &State| {
                state.world.checker.committed.len() > model.logs[2].len()
            }),
        ]
    }
}

fn pairs() -> [(u64, u64); 3] {
    [(1, 2), (1, 3), (2, 3)]
}

fn perform(world: &mut World, budget: &mut Budget, action: Action) {
    match action {
        Action::Timeout(id) => {
            let leads = world.raft(id).is_leader();
            let left = if leads { &mut budget.heartbeats } else { &mut budget.elections };
            *left -= 1;
            // Long enough for every timer, so that how long it was makes no difference.
            world.now = world.now + Duration::from_secs(100);
            world.timeout(id);
        }
        Action::Deliver(from, to) => drop(world.deliver(from, to)),
        Action::Durable(id) => drop(world.durable(id, 1)),
        Action::Load(id) => drop(world.load(id)),
        Action::Propose(id) => {
            budget.proposals -= 1;
            world.propose_next(id, 1);
        }
        Action::Remove(id, removed) => {
            budget.changes -= 1;
            let removed = vec![NodeId(removed)];
            // Refused before the leader's first commit.
            let _ = world.change(id, &MembershipChange { removed, ..Default::default() });
        }
        Action::Crash(id, kept) => {
            budget.crashes -= 1;
            world.crash(id, kept);
            world.restart(id);
        }
        Action::Break(a, b) => {
            budget.breaks -= 1;
            world.disconnect(a, b);
            world.connect(a, b);
        }
    }
}

fn fingerprint(what: &impl Debug) -> u64 {
    let mut print = Fingerprint::default();
    write!(print, "{what:?}").expect("it takes everything");
    print.finish()
}

/// Hashes what is written, and passes over what makes no difference: moments, the generator of
/// timeouts, the settings, and the numbers of log batches, of which only the order counts.
#[derive(Default)]
struct Fingerprint {
    text: String,
    seqs: Vec<u64>,
    hash: u64,
}

impl fmt::Write for Fingerprint {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.push_str(text);
        Ok(())
    }
}

impl Fingerprint {
    fn finish(mut self) -> u64 {
        let text = std::mem::take(&mut self.text);
        let mut rest = text.as_str();
        while let Some(at) = rest.find(['(', ':']) {
            let (before, after) = rest.split_at(at + 1);
            self.take(before);
            rest = self.skip(before, after);
        }
        self.take(rest);
        self.hash
    }

    fn take(&mut self, text: &str) {
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let mixed = (self.hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.hash = mixed ^ (mixed >> 29);
        }
    }

    /// What follows after the value that `before` introduces, if that makes no difference.
    fn skip<'a>(&mut self, before: &str, after: &'a str) -> &'a str {
        let value = after.find([',', ')', '}']).unwrap_or(after.len());
        let passed = ["Time(", "SplitMix64(", "election_timeout:"];
        if passed.iter().any(|name| before.ends_with(name)) {
            &after[value..]
        } else if before.ends_with(" config:") {
            &after[after.find('}').expect("settings end")..]
        } else if before.ends_with("Seq(") {
            let seq = after[..value].parse().expect("a number");
            let known = self.seqs.iter().position(|known| *known == seq);
            let rank = known.unwrap_or(self.seqs.len());
            if known.is_none() {
                self.seqs.push(seq);
            }
            self.take(&rank.to_string());
            &after[value..]
        } else {
            after
        }
    }
}

#[track_caller]
fn explore(name: &str, group: Group) {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = group.checker().threads(threads).spawn_dfs().join();
    println!(
        "{name}: {} states, {} of them different, depth {}, in {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
    if let Some(path) = checker.discovery("safe") {
        let last = path.last_state().clone();
        panic!("{name}: {:?} after {:#?}", last.violation, path.into_actions());
    }
    checker.assert_properties();
}

fn config(pre_vote: bool) -> RaftConfig {
    RaftConfig { pre_vote, check_quorum: false, ..RaftConfig::default() }
}

/// Bounds that the debug profile, some fifteen times slower, has the time for, and wider ones.
fn budget(quick: [u8; 5], thorough: [u8; 5]) -> Budget {
    let drawn = if cfg!(debug_assertions) { quick } else { thorough };
    let [elections, heartbeats, proposals, crashes, breaks] = drawn;
    Budget { elections, heartbeats, proposals, crashes, breaks, changes: 0 }
}

#[test]
fn rival_candidates_and_crashes() {
    let budget = budget([1, 0, 0, 1, 0], [2, 0, 0, 1, 0]);
    let logs: [&[u64]; 3] = [&[], &[], &[]];
    explore("rivals", Group { config: config(false), logs, budget, first: &[1] });
}

#[test]
fn pre_votes_and_broken_connections() {
    let budget = budget([1, 0, 0, 0, 1], [2, 0, 0, 0, 0]);
    let logs: [&[u64]; 3] = [&[], &[], &[]];
    explore("pre-votes", Group { config: config(true), logs, budget, first: &[1] });
}

#[test]
fn replication_and_crashes() {
    let budget = budget([1, 0, 1, 0, 0], [1, 0, 1, 1, 0]);
    let logs: [&[u64]; 3] = [&[], &[], &[]];
    explore("replication", Group { config: config(false), logs, budget, first: &[1] });
}

/// The logs of figure 3.7 of the thesis, where an entry of an earlier term is on a majority and
/// must not be committed by counting.
#[test]
fn entries_of_earlier_terms() {
    let budget = budget([1, 0, 0, 0, 0], [2, 0, 0, 0, 0]);
    let logs: [&[u64]; 3] = [&[1, 2], &[1, 2], &[1, 3]];
    explore("figure 3.7", Group { config: config(false), logs, budget, first: &[1, 2, 3] });
}

/// One of three is removed, perhaps the leader, through joint consensus. (Nobody is added: catching
/// up compares times.)
#[test]
fn a_change_of_the_members() {
    let budget = Budget { changes: 1, ..budget([1, 0, 0, 0, 0], [1, 0, 0, 1, 0]) };
    let logs: [&[u64]; 3] = [&[], &[], &[]];
    explore("members", Group { config: config(false), logs, budget, first: &[1] });
}
