//! Callers: what they asked for, whom they believe to lead, and what they were told.
//!
//! A caller gives an operation up after a while: its outcome stays unknown to it, and it asks
//! again, elsewhere, with an operation that is another one. Reads that don't go through the log
//! (`client_reads`) are gets with an output and no place in the log.

use std::collections::BTreeSet;

use ringleader::shard::Submission;
use ringleader::{Consistency, GroupId, LogIndex, LogPosition, ProposeError, Term};

use crate::applied::OpName;
use crate::machine::{Command, Output, encode};
use crate::rng::{Rng, SURE};
use crate::wishes::Wishes;

#[path = "client_reads.rs"]
mod client_reads;

/// How an operation stands with its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Waiting,
    Applied,
    /// It was not proposed, and never will be.
    Failed,
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) group: GroupId,
    pub(crate) node: usize,
    pub(crate) life: u32,
    pub(crate) fate: Fate,
    /// The highest index of the group that any caller knew to be applied when this was asked for:
    /// the operation must come after it.
    pub(crate) after: u64,
    /// Its caller's operation for the group that was submitted just before it, with the same call.
    pub(crate) follows: Option<OpName>,
    /// The term that it is bound to.
    pub(crate) bound: Option<Term>,
    pub(crate) caller: u32,
    pub(crate) command: Command,
    /// Set for reads that don't go through the log.
    pub(crate) read: Option<Consistency>,
    /// What the state machine had applied when it was read, and the last operation of that.
    pub(crate) read_at: Option<u64>,
    pub(crate) read_after: LogPosition,
    /// Moments in the order of all calls and answers.
    pub(crate) called: u64,
    pub(crate) returned: Option<(u64, Output)>,
    /// Its caller does not wait for it any longer.
    given_up: bool,
    pub(crate) retries: u32,
}

/// What every caller together knows and remembers.
#[derive(Debug)]
pub(crate) struct Clients {
    load: Load,
    pub(crate) rng: Rng,
    pub(crate) asked: Vec<Asked>,
    waiting: BTreeSet<OpName>,
    /// Per caller: operations that it waits for.
    outstanding: Vec<usize>,
    /// Per caller and group: the node that is asked next.
    believed: Vec<Vec<usize>>,
    /// Per group: the highest index that an answer named.
    pub(crate) answered: Vec<u64>,
    /// Per group: the latest term that an answer named.
    terms: Vec<Term>,
    wishes: Wishes,
    nodes: usize,
    moments: u64,
}

/// What callers were told, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fates {
    pub(crate) applied: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
}

/// How much callers ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) callers: u32,
    /// Registers of a group.
    pub(crate) keys: u64,
    /// Most bytes of an operation beyond what it needs.
    pub(crate) ballast: u64,
    pub(crate) max_batch: u64,
    /// Operations that a caller waits for at once: one, or a pipeline.
    pub(crate) outstanding: usize,
    /// Longest pause between two calls.
    pub(crate) pause: u64,
    /// How long a caller waits for an answer.
    pub(crate) timeout: u64,
    /// How often it asks again.
    pub(crate) retries: u32,
    /// How long it waits before, at most.
    pub(crate) backoff: u64,
    /// Parts of a million of the operations that only read.
    pub(crate) gets_ppm: u32,
    /// Parts of a million of the calls that read without a trip through the log.
    pub(crate) reads_ppm: u32,
}

impl Clients {
    pub(crate) fn new(load: Load, nodes: usize, groups: usize, mut rng: Rng) -> Self {
        let mut believe = || (0..groups).map(|_| rng.below(nodes as u64) as usize).collect();
        let believed = (0..load.callers).map(|_| believe()).collect();
        Self {
            load,
            rng,
            asked: Vec::new(),
            waiting: BTreeSet::new(),
            outstanding: vec![0; load.callers as usize],
            believed,
            answered: vec![0; groups],
            terms: vec![Term(0); groups],
            wishes: Wishes::new(&load),
            nodes,
            moments: 0,
        }
    }

    /// What callers know of a group beyond `kept` is lost with the nodes that had it.
    pub(crate) fn forget_after(&mut self, group: GroupId, at: usize, kept: LogIndex) {
        self.answered[at] = self.answered[at].min(kept.0);
        for asked in self.asked.iter_mut().filter(|asked| asked.group == group) {
            asked.after = asked.after.min(kept.0);
        }
    }

    pub(crate) fn moment(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }

    /// A caller's next submission, and the node that it goes to; none while it waits for as much
    /// as it may.
    pub(crate) fn next(
        &mut self,
        caller: u32,
        seed: u64,
        groups: &[GroupId],
    ) -> Option<(usize, Submission)> {
        if self.outstanding[caller as usize] >= self.load.outstanding {
            return None;
        }
        let mut rng = Rng::new(seed);
        let first = rng.below(groups.len() as u64) as usize;
        let node = self.believed[caller as usize][first];
        let mut submission = Submission::default();
        for _ in 0..rng.between(1, self.load.max_batch) {
            // A submission may be for several groups, whoever leads them.
            let stray = rng.chance(SURE / 20);
            let at = if stray { rng.below(groups.len() as u64) as usize } else { first };
            let command = self.command(groups[at], caller, &mut rng);
            let retries = self.load.retries;
            self.push(&mut submission, caller, (groups[at], at), node, command, retries);
            let ballast = rng.below(self.load.ballast + 1);
            pad(&mut submission, ballast, &mut rng);
        }
        Some((node, submission))
    }

    /// One operation for one group, for a node that is known to lead; nobody waits for it.
    pub(crate) fn single(&mut self, group: GroupId, at: usize, node: usize) -> Submission {
        let mut submission = Submission::default();
        let mut rng = self.rng.fork();
        let nobody = self.load.callers;
        let command = self.command(group, nobody, &mut rng);
        self.push(&mut submission, nobody, (group, at), node, command, 0);
        submission
    }

    /// The same intent once more, where its caller now believes the leader to be.
    pub(crate) fn again(&mut self, name: OpName, groups: &[GroupId]) -> (usize, Submission) {
        let Asked { group, caller, command, retries, .. } = self.asked[name.0 as usize];
        let at = groups.iter().position(|known| *known == group).expect("a known group");
        let node = self.believed[caller as usize][at];
        let mut submission = Submission::default();
        self.push(&mut submission, caller, (group, at), node, command, retries - 1);
        (node, submission)
    }

    fn command(&self, group: GroupId, caller: u32, rng: &mut Rng) -> Command {
        self.wishes.draw(group, caller, self.asked.len() as u64, rng)
    }

    fn push(
        &mut self,
        submission: &mut Submission,
        caller: u32,
        (group, at): (GroupId, usize),
        node: usize,
        command: Command,
        retries: u32,
    ) {
        let before = submission.user_data.last().map(|name| OpName(*name));
        let name = self.note(caller, (group, at), node, command, retries);
        // One in eight is bound to a term: the latest that is known, or the one after it.
        let bound = (caller < self.load.callers && name.0 % 8 == 7)
            .then(|| Term(self.terms[at].0 + u64::from(name.0 % 64 == 63)));
        let follows = before.filter(|before| {
            let before = &self.asked[before.0 as usize];
            (before.group, before.bound) == (group, bound)
        });
        let asked = &mut self.asked[name.0 as usize];
        (asked.follows, asked.bound) = (follows, bound);
        let payload = encode(name, &command);
        match bound {
            None => submission.push(group, name.0, &payload),
            Some(term) => submission.push_in_term(group, term, name.0, &payload),
        }
    }

    /// Something is asked for.
    fn note(
        &mut self,
        caller: u32,
        (group, at): (GroupId, usize),
        node: usize,
        command: Command,
        retries: u32,
    ) -> OpName {
        let name = OpName(self.asked.len() as u64);
        self.asked.push(Asked {
            group,
            node,
            life: 0,
            fate: Fate::Waiting,
            after: self.answered[at],
            follows: None,
            bound: None,
            caller,
            command,
            read: None,
            read_at: None,
            read_after: LogPosition::default(),
            called: 0,
            returned: None,
            given_up: false,
            retries,
        });
        self.asked[name.0 as usize].called = self.moment();
        self.waiting.insert(name);
        if let Some(outstanding) = self.outstanding.get_mut(caller as usize) {
            *outstanding += 1;
        }
        name
    }

    /// A submission reached a node's life.
    pub(crate) fn reached(&mut self, names: &[u64], life: u32) {
        for name in names {
            self.asked[*name as usize].life = life;
        }
    }

    /// Its caller waits no longer; false if it had stopped waiting before.
    fn leave(&mut self, name: OpName) -> bool {
        let asked = &mut self.asked[name.0 as usize];
        let waited = !std::mem::replace(&mut asked.given_up, true);
        if let Some(outstanding) =
            self.outstanding.get_mut(asked.caller as usize).filter(|_| waited)
        {
            *outstanding -= 1;
        }
        waited
    }

    fn close(&mut self, name: OpName, fate: Fate) -> bool {
        let asked = &mut self.asked[name.0 as usize];
        assert_eq!(asked.fate, Fate::Waiting, "operation {} is answered once", name.0);
        asked.fate = fate;
        self.waiting.remove(&name);
        let missed = self.leave(name) && fate != Fate::Applied;
        missed && self.asked[name.0 as usize].retries > 0
    }

    /// An answer came. True if its caller will ask again.
    pub(crate) fn answer(
        &mut self,
        name: OpName,
        at: usize,
        result: Result<(LogIndex, Term, Output), &ProposeError>,
    ) -> bool {
        match result {
            Ok((index, term, output)) => {
                self.terms[at] = self.terms[at].max(term);
                self.close(name, Fate::Applied);
                self.answered[at] = self.answered[at].max(index.0);
                let moment = self.moment();
                let asked = &mut self.asked[name.0 as usize];
                asked.returned = Some((moment, output));
                self.wishes.learn(asked.group, &asked.command, output);
                false
            }
            Err(ProposeError::Unknown(_)) => {
                self.look_elsewhere(name, at, None);
                self.close(name, Fate::Unknown)
            }
            Err(ProposeError::NotLeader { leader }) => {
                self.look_elsewhere(name, at, leader.map(|leader| leader.0 as usize - 1));
                self.close(name, Fate::Failed)
            }
            Err(ProposeError::Transferring { to }) => {
                self.look_elsewhere(name, at, Some(to.0 as usize - 1));
                self.close(name, Fate::Failed)
            }
            Err(_) => {
                self.look_elsewhere(name, at, None);
                self.close(name, Fate::Failed)
            }
        }
    }

    /// Its caller has waited for too long. True if it will ask again.
    pub(crate) fn time_out(&mut self, name: OpName, at: usize) -> bool {
        if self.asked[name.0 as usize].given_up {
            return false;
        }
        self.look_elsewhere(name, at, None);
        self.leave(name);
        self.asked[name.0 as usize].retries > 0
    }

    fn look_elsewhere(&mut self, name: OpName, at: usize, leader: Option<usize>) {
        // The probes that look for the end of a run have no caller.
        let caller = self.asked[name.0 as usize].caller as usize;
        let Some(believed) = self.believed.get_mut(caller) else { return };
        let random = self.rng.below(self.nodes as u64) as usize;
        believed[at] = leader.unwrap_or(random);
    }

    /// The node's process is gone, and nobody hears of what was asked of it. The operations that
    /// their callers will ask for again.
    pub(crate) fn crashed(&mut self, node: usize, life: u32) -> Vec<OpName> {
        let lost = |name: &OpName| {
            let asked = &self.asked[name.0 as usize];
            asked.node == node && asked.life == life
        };
        let mut lost: Vec<OpName> = self.waiting.iter().copied().filter(lost).collect();
        for believed in self.believed.iter_mut().flatten().filter(|believed| **believed == node) {
            *believed = self.rng.below(self.nodes as u64) as usize;
        }
        lost.retain(|name| self.close(*name, Fate::Unknown));
        lost
    }

    pub(crate) fn was_applied(&self, name: u64) -> bool {
        self.asked[name as usize].fate == Fate::Applied
    }

    pub(crate) fn nothing_waits(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn fates(&self) -> Fates {
        let mut fates = Fates::default();
        for asked in &self.asked {
            match asked.fate {
                Fate::Applied => fates.applied += 1,
                Fate::Failed => fates.failed += 1,
                Fate::Waiting | Fate::Unknown => fates.unknown += 1,
            }
        }
        fates
    }
}

/// Lengthens the last operation.
fn pad(submission: &mut Submission, bytes: u64, rng: &mut Rng) {
    let end = submission.payload.len() + bytes as usize;
    while submission.payload.len() < end {
        submission.payload.extend_from_slice(&rng.next().to_le_bytes());
    }
    submission.payload.truncate(end);
    *submission.ends.last_mut().expect("an operation was pushed") = end as u32;
}
