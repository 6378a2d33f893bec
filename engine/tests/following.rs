//! What replicas are told and know while leaders change: real engines, real connections on loopback.

mod nodes;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future::block_on;
use nodes::{GROUP, addresses, config, eventually, leader};
use ringleader::{Engine, Entries, GroupStatus, NodeId, Replies, StateMachine, Term};

/// What a state machine was told of one leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Started(NodeId, Term),
    Stopped(NodeId, Term),
}

/// All that it was told.
type Annals = Arc<Mutex<Vec<Told>>>;

/// Writes down whom its node followed, itself included.
struct Chronicle {
    node: NodeId,
    told: Annals,
    /// Whether what it was told last of itself is that it leads.
    leads: bool,
}

impl Chronicle {
    fn note(&self, told: Told) {
        self.told.lock().expect("no panic under this lock").push(told);
    }
}

impl StateMachine for Chronicle {
    fn apply(&mut self, _: &Entries<'_>, replies: &mut Replies) {
        assert!(self.leads || !replies.wanted(), "only callers of the leader are answered");
    }

    fn leader_start(&mut self, term: Term) {
        self.leads = true;
        self.note(Told::Started(self.node, term));
    }

    fn leader_stop(&mut self, term: Term) {
        self.leads = false;
        self.note(Told::Stopped(self.node, term));
    }

    fn follow_start(&mut self, leader: NodeId, term: Term) {
        self.note(Told::Started(leader, term));
    }

    fn follow_stop(&mut self, leader: NodeId, term: Term) {
        self.note(Told::Stopped(leader, term));
    }
}

/// Three nodes, and what each was told. Nobody is elected because this machine is busy.
fn cluster(dir: &Path) -> (Vec<Engine>, Vec<Annals>) {
    let addresses = addresses(3);
    let told: Vec<Annals> = (0..3).map(|_| Arc::default()).collect();
    let start = |(node, told): (u64, &Annals)| {
        let mut config = config(&addresses, node, 1, dir);
        config.raft.election_timeout = Duration::from_secs(2);
        let told = Arc::clone(told);
        let machine = move |_| -> Box<dyn StateMachine> {
            let told = Arc::clone(&told);
            Box::new(Chronicle { node: NodeId(node), told, leads: false })
        };
        Engine::start(config, machine).expect("the node starts")
    };
    ((1..).zip(&told).map(start).collect(), told)
}

fn status(engine: &Engine) -> GroupStatus {
    block_on(engine.handle().status(GROUP)).expect("the group is here")
}

#[test]
fn every_leader_is_announced_once_to_everybody() {
    let dir = tempfile::tempdir().expect("a directory");
    let (engines, told) = cluster(dir.path());
    let first = block_on(leader(&engines, GROUP).status(GROUP)).expect("the group is here");
    let first = (first.leader.expect("it knows itself"), first.term);
    let mut reigns = vec![first];
    for step in 1..3 {
        eventually("everybody to follow", || {
            let known = engines.iter().map(|engine| (status(engine).leader, status(engine).term));
            let last = *reigns.last().expect("there is a first");
            known.into_iter().all(|known| known == (Some(last.0), last.1)).then_some(())
        });
        let next = NodeId((first.0.0 + step - 1) % 3 + 1);
        let handle = leader(&engines, GROUP);
        let moved = block_on(handle.transfer_leadership(GROUP, Some(next))).expect("it is fit");
        assert_eq!(moved.leader, next);
        reigns.push((next, moved.term));
    }
    let expected: Vec<Told> = reigns
        .iter()
        .flat_map(|&(leader, term)| [Told::Started(leader, term), Told::Stopped(leader, term)])
        .take(2 * reigns.len() - 1)
        .collect();
    for told in &told {
        eventually("the last leader to be announced", || {
            let told = told.lock().expect("no panic under this lock");
            (told.len() >= expected.len()).then_some(())
        });
        assert_eq!(*told.lock().expect("no panic under this lock"), expected);
    }
}

#[test]
fn all_replicas_come_to_know_exactly_what_is_committed() {
    const OPERATIONS: u64 = 100;
    let dir = tempfile::tempdir().expect("a directory");
    let (engines, _) = cluster(dir.path());
    let handle = leader(&engines, GROUP);
    let mut last = None;
    for number in 0..OPERATIONS {
        // Every second caller does not wait for its answer.
        let proposed = handle.try_propose(GROUP, &number.to_le_bytes()).expect("there is room");
        if number % 2 == 1 {
            let done = block_on(proposed).expect("it is applied");
            last = Some(done.index.0);
        }
    }
    let last = last.expect("there were operations");
    let others = 1..=3;
    let there = last - OPERATIONS;
    assert!(others.contains(&there), "the term's empty entry, and who the members are: {there}");
    for engine in &engines {
        eventually("the indices to be the same", || {
            let known = status(engine);
            let all = [known.last.index, known.commit, known.applied, known.durable];
            all.iter().all(|index| index.0 == last).then_some(())
        });
    }
}
