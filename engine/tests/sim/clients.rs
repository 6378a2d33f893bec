//! Callers: what they asked for, whom they believe to lead, and what they were told.

use std::collections::BTreeMap;

use ringleader::shard::Submission;
use ringleader::{GroupId, LogIndex, ProposeError, Term};

use crate::machine::OpName;
use crate::rng::Rng;

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
}

/// What every caller together knows and remembers.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) count: u32,
    rng: Rng,
    pub(crate) asked: Vec<Asked>,
    waiting: BTreeMap<OpName, ()>,
    /// Per caller and group: the node that is asked next.
    believed: Vec<Vec<usize>>,
    /// Per group: the highest index that an answer named.
    pub(crate) answered: Vec<u64>,
    nodes: usize,
    max_payload: u64,
    max_batch: u64,
    max_waiting: usize,
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
    pub(crate) clients: u32,
    pub(crate) max_payload: u64,
    pub(crate) max_batch: u64,
    pub(crate) max_waiting: usize,
}

impl Clients {
    pub(crate) fn new(load: Load, nodes: usize, groups: usize, mut rng: Rng) -> Self {
        let mut believe = || (0..groups).map(|_| rng.below(nodes as u64) as usize).collect();
        let believed = (0..load.clients).map(|_| believe()).collect();
        Self {
            count: load.clients,
            rng,
            asked: Vec::new(),
            waiting: BTreeMap::new(),
            believed,
            answered: vec![0; groups],
            nodes,
            max_payload: load.max_payload,
            max_batch: load.max_batch,
            max_waiting: load.max_waiting,
        }
    }

    /// A caller's next submission, and the node that it goes to; none while too much waits.
    pub(crate) fn next(&mut self, client: u32, groups: &[GroupId]) -> Option<(usize, Submission)> {
        if self.waiting.len() >= self.max_waiting {
            return None;
        }
        let first = self.rng.below(groups.len() as u64) as usize;
        let node = self.believed[client as usize][first];
        let mut submission = Submission::default();
        for _ in 0..self.rng.between(1, self.max_batch) {
            // A submission may be for several groups, whoever leads them.
            let stray = self.rng.chance(50_000);
            let at = if stray { self.rng.below(groups.len() as u64) as usize } else { first };
            self.push(&mut submission, groups[at], at, node);
        }
        Some((node, submission))
    }

    /// One operation for one group, for a node that is known to lead.
    pub(crate) fn single(&mut self, group: GroupId, at: usize, node: usize) -> Submission {
        let mut submission = Submission::default();
        self.push(&mut submission, group, at, node);
        submission
    }

    fn push(&mut self, submission: &mut Submission, group: GroupId, at: usize, node: usize) {
        let name = OpName(self.asked.len() as u64);
        let mut payload = name.0.to_le_bytes().to_vec();
        for _ in 0..self.rng.below(self.max_payload) {
            payload.push(self.rng.next() as u8);
        }
        let before = submission.user_data.last().map(|name| OpName(*name));
        let follows = before.filter(|before| self.asked[before.0 as usize].group == group);
        let after = self.answered[at];
        let fate = Fate::Waiting;
        self.asked.push(Asked { group, node, life: 0, fate, after, follows });
        self.waiting.insert(name, ());
        submission.push(group, name.0, &payload);
    }

    /// A submission reached a node's life.
    pub(crate) fn reached(&mut self, submission: &Submission, life: u32) {
        for name in &submission.user_data {
            self.asked[*name as usize].life = life;
        }
    }

    fn close(&mut self, name: OpName, fate: Fate) {
        let asked = &mut self.asked[name.0 as usize];
        assert_eq!(asked.fate, Fate::Waiting, "operation {} is answered once", name.0);
        asked.fate = fate;
        self.waiting.remove(&name);
    }

    /// An answer came.
    pub(crate) fn answer(
        &mut self,
        client: u32,
        name: OpName,
        at: usize,
        result: &Result<(LogIndex, Term), ProposeError>,
    ) {
        match result {
            Ok((index, _)) => {
                self.close(name, Fate::Applied);
                self.answered[at] = self.answered[at].max(index.0);
            }
            Err(ProposeError::Unknown(_)) => {
                self.close(name, Fate::Unknown);
                self.look_elsewhere(client, at, None);
            }
            Err(ProposeError::NotLeader { leader }) => {
                self.close(name, Fate::Failed);
                self.look_elsewhere(client, at, leader.map(|leader| leader.0 as usize - 1));
            }
            Err(_) => {
                self.close(name, Fate::Failed);
                self.look_elsewhere(client, at, None);
            }
        }
    }

    fn look_elsewhere(&mut self, client: u32, at: usize, leader: Option<usize>) {
        // The probes that look for the end of a run have no caller.
        let Some(believed) = self.believed.get_mut(client as usize) else { return };
        let random = self.rng.below(self.nodes as u64) as usize;
        believed[at] = leader.unwrap_or(random);
    }

    /// The node's process is gone, and nobody hears of what was asked of it.
    pub(crate) fn crashed(&mut self, node: usize, life: u32) {
        let lost = |name: &OpName| {
            let asked = &self.asked[name.0 as usize];
            asked.node == node && asked.life == life
        };
        let lost: Vec<OpName> = self.waiting.keys().copied().filter(lost).collect();
        for name in lost {
            self.close(name, Fate::Unknown);
        }
        for believed in self.believed.iter_mut().flatten().filter(|believed| **believed == node) {
            *believed = self.rng.below(self.nodes as u64) as usize;
        }
    }

    /// The node was not there: nothing of it was proposed.
    pub(crate) fn refused(&mut self, client: u32, submission: &Submission, groups: &[GroupId]) {
        for name in &submission.user_data {
            let group = self.asked[*name as usize].group;
            let at = groups.iter().position(|known| *known == group).expect("a known group");
            self.answer(client, OpName(*name), at, &Err(ProposeError::Stopped));
        }
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
