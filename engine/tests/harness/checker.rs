//! What must hold across all members (thesis, figure 3.2), and what must be on disk when a message
//! leaves.

use std::collections::BTreeMap;

use ringleader::raft::era::Era;
use ringleader::raft::message::AppendOutcome;
use ringleader::raft::{Configuration, LogOp, Message, Raft};
use ringleader_wal::{BlockKind, LogIndex, NodeId, Term};

use super::Node;
use super::disk::{Disk, Entry};

#[derive(Clone, Debug, Default)]
pub struct Checker {
    /// Who decides before the log says anything about that.
    pub first: Configuration,
    /// Every configuration that was ever appended anywhere.
    configurations: BTreeMap<(u64, Term), Configuration>,
    leaders: BTreeMap<Term, u64>,
    /// All entries that were ever appended anywhere, each with the term before it.
    written: BTreeMap<(u64, Term), (Term, Vec<u8>)>,
    /// The entries that some member knew committed.
    pub committed: Vec<Entry>,
    /// The term of the leader that committed each.
    by: Vec<Term>,
    /// What holds is asked of the members of this era: the others' history has ended.
    pub era: Era,
}

impl Checker {
    pub fn new(first: Configuration) -> Self {
        Self { first, ..Self::default() }
    }

    pub fn adopt(&mut self, disk: &Disk) {
        for (index, entry) in disk.entries() {
            let before = disk.entry(index - 1).map_or(Term(0), |entry| entry.term);
            self.write(index, before, entry.term, &entry.payload);
        }
    }

    /// Log matching: an index and a term name one entry and, by induction, all before it.
    fn write(&mut self, index: u64, before: Term, term: Term, payload: &[u8]) {
        let known = self.written.entry((index, term)).or_insert_with(|| (before, payload.to_vec()));
        assert_eq!(known.0, before, "log matching: what precedes {index}@{term}");
        assert_eq!(known.1, payload, "log matching: {index}@{term}");
    }

    pub fn on_log(&mut self, disk: &Disk, op: &LogOp) {
        let LogOp::Append(block) = op else { return };
        if block.kind() == BlockKind::Configuration {
            let at = (block.first_index().0, block.term());
            let read = Configuration::of_entry(block.payload(block.first_index()));
            self.configurations.insert(at, read.expect("a configuration"));
        }
        let before = block.first_index().0 - 1;
        let mut before = disk.entry(before).map_or(Term(0), |entry| entry.term);
        for index in block.first_index().0..=block.last_index().0 {
            self.write(index, before, block.term(), block.payload(LogIndex(index)));
            before = block.term();
        }
    }

    /// No message leaves before the record that it depends on is durable.
    pub fn on_send(&self, from: u64, disk: &Disk, to: NodeId, message: &Message) {
        match message {
            Message::VoteRequest { term, .. } => {
                assert!(excludes_other_votes(disk, *term, NodeId(from)), "n{from} asks for votes");
            }
            Message::VoteResponse { term, granted: true } => {
                assert!(excludes_other_votes(disk, *term, to), "n{from} votes");
            }
            Message::AppendResponse { term, outcome } => {
                assert!(disk.hard_state.term >= *term, "n{from} answers");
                if let AppendOutcome::Matched { match_index } = outcome {
                    assert!(*match_index <= disk.last_index(), "n{from} acknowledges");
                }
            }
            Message::PreVoteRequest { .. } | Message::PreVoteResponse { .. } => {}
            _ => assert!(disk.hard_state.term >= message.term(), "n{from} shows its term"),
        }
    }

    pub fn check(&mut self, nodes: &BTreeMap<u64, Node>, id: u64) {
        let node = &nodes[&id];
        let Some(raft) = &node.raft else { return };
        let status = raft.status();
        if !self.is_of_era(raft) {
            return;
        }
        if raft.is_leader() {
            let leader = *self.leaders.entry(status.term).or_insert_with(|| {
                // One that wins late owes nothing to the leaders of later terms.
                let before = self.by.partition_point(|by| *by < status.term);
                for (index, entry) in (1..).zip(&self.committed[..before]) {
                    assert_eq!(node.staged.entry(index), Some(entry), "leader completeness");
                }
                id
            });
            assert_eq!(leader, id, "election safety in term {}", status.term);
        }
        assert!(status.durable <= node.disk.last_index(), "durable means on disk");
        for index in self.committed.len() as u64 + 1..=status.commit.0 {
            let entry = node.staged.entry(index).expect("committed entries are in the log");
            let is_held = |id: NodeId| nodes[&id.0].disk.entry(index) == Some(entry);
            // The leader decides by the last configuration that it has. One of the call that
            // committed the entry may be newer.
            let by = [self.in_force(&node.staged, index), self.in_force(&node.staged, u64::MAX)];
            let decided = by.iter().any(|by| is_quorum(by, is_held));
            assert!(decided, "{index} is durable on a quorum of {by:?}");
            self.committed.push(entry.clone());
            self.by.push(status.term);
        }
    }

    /// State machine safety: nobody knows an entry committed that differs from the others'.
    pub fn check_all(&self, nodes: &BTreeMap<u64, Node>) {
        for (id, node) in nodes {
            let Some(raft) = node.raft.as_ref().filter(|raft| self.is_of_era(raft)) else {
                continue;
            };
            for index in 1..=raft.status().commit.0 {
                let expected = self.committed.get(index as usize - 1);
                assert_eq!(node.staged.entry(index), expected, "state machine safety on n{id}");
            }
        }
        let last = self.committed.len() as u64;
        let is_committed = |(index, term): (u64, Term)| {
            self.committed.get(index as usize - 1).is_some_and(|entry| entry.term == term)
        };
        let now = self.configurations.iter().rfind(|(at, _)| is_committed(**at));
        // What follows it may have committed something by now.
        let later = self.configurations.iter().filter(|(at, _)| at.0 > last);
        let by: Vec<_> =
            later.map(|(_, by)| by).chain([now.map_or(&self.first, |at| at.1)]).collect();
        for (index, entry) in (1..).zip(&self.committed) {
            let is_held = |id: NodeId| nodes[&id.0].disk.entry(index) == Some(entry);
            let decided = by.iter().any(|by| is_quorum(by, is_held));
            assert!(decided, "{index} stays durable on a quorum of {by:?}");
        }
    }

    fn is_of_era(&self, raft: &Raft) -> bool {
        Era::of(raft.status().term) == self.era && !raft.is_superseded()
    }

    /// The group was reset on a member, with what it has in its log: what was committed and is not
    /// there is lost. How many entries those are.
    pub fn reset(&mut self, disk: &Disk) -> usize {
        let kept = (1..).zip(&self.committed);
        let kept = kept.take_while(|(index, entry)| disk.entry(*index) == Some(entry)).count();
        let lost = self.committed.len() - kept;
        self.committed.truncate(kept);
        self.by.truncate(kept);
        self.era = Era::of(disk.hard_state.term);
        lost
    }

    /// The configuration that a log puts in force at an entry.
    fn in_force(&self, disk: &Disk, index: u64) -> Configuration {
        let appended = disk.configurations();
        let latest = appended.into_iter().rfind(|(at, _)| at.0 <= index);
        latest.map_or_else(|| self.first.clone(), |(_, configuration)| configuration)
    }
}

/// Whether enough members agree: by counting, as the engine does not.
fn is_quorum(by: &Configuration, agrees: impl Fn(NodeId) -> bool) -> bool {
    let majority = |voters: &[NodeId]| {
        2 * voters.iter().filter(|voter| agrees(**voter)).count() > voters.len()
    };
    majority(by.voters()) && (by.outgoing().is_empty() || majority(by.outgoing()))
}

/// Whether a member that starts from this disk can give no other vote in `term`.
fn excludes_other_votes(disk: &Disk, term: Term, voted_for: NodeId) -> bool {
    let hard_state = disk.hard_state;
    hard_state.term > term || (hard_state.term == term && hard_state.voted_for == Some(voted_for))
}
