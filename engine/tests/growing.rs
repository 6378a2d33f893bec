//! A group that grows from one node to five, has a node replaced and shrinks to one again, while
//! callers go on: real engines, real connections on loopback. Nothing acknowledged is lost, and
//! nothing is applied twice.

mod nodes;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use futures_lite::future::block_on;
use nodes::{GROUP, addresses, config, eventually, leads};
use ringleader::{
    Configuration, Engine, Entries, Handle, LogIndex, MembershipChange, MembershipError, NodeId,
    Replies, RoleName, StateMachine,
};

const NODES: usize = 6;

/// Keeps every payload, and what it is told of the members.
#[derive(Default)]
struct Journal {
    entries: Vec<u64>,
    members: Vec<(LogIndex, Configuration)>,
}

impl StateMachine for Journal {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        let number = |payload: &[u8]| u64::from_le_bytes(payload.try_into().expect("eight bytes"));
        self.entries.extend(entries.iter().map(|entry| number(entry.payload)));
    }

    fn configuration_committed(&mut self, index: LogIndex, configuration: &Configuration) {
        self.members.push((index, configuration.clone()));
    }
}

/// Node 1 founds the group; the others wait to be added.
fn start(addresses: &[SocketAddr], node: u64, dir: &Path) -> Engine {
    let mut config = config(addresses, node, 1, dir);
    config.groups[0].voters.retain(|voter| node == 1 && *voter == NodeId(1));
    Engine::start(config, |_| Box::new(Journal::default())).expect("the node starts")
}

fn leader(handles: &[Handle]) -> Handle {
    eventually("a leader", || handles.iter().find(|handle| leads(handle, GROUP)).cloned())
}

fn nodes(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

/// Asks the leader, whoever that is by then, until the change is done.
fn change(handles: &[Handle], change: &MembershipChange) -> LogIndex {
    eventually("the members to change", || {
        match block_on(leader(handles).change_members(GROUP, change.clone())) {
            Ok(index) => Some(index),
            Err(
                MembershipError::NotLeader { .. }
                | MembershipError::NotReady
                | MembershipError::InProgress
                | MembershipError::TooSlow(_)
                | MembershipError::Unknown(_),
            ) => None,
            Err(error) => panic!("{error}"),
        }
    })
}

fn entries(handle: &Handle) -> Vec<u64> {
    block_on(handle.inspect(GROUP, |journal: &mut Journal| journal.entries.clone()))
        .expect("the group is here")
}

/// Numbers of its own, one after the other, until told to stop; those that were acknowledged.
fn load(handles: Vec<Handle>, first: u64, stop: Arc<AtomicBool>) -> thread::JoinHandle<Vec<u64>> {
    thread::spawn(move || {
        let (mut acknowledged, mut at) = (Vec::new(), 0);
        for number in (first..).step_by(2) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match block_on(handles[at].propose(GROUP, &number.to_le_bytes())) {
                Ok(_) => acknowledged.push(number),
                Err(_) => at = (at + 1) % handles.len(),
            }
        }
        acknowledged
    })
}

#[test]
fn a_group_grows_is_moved_and_shrinks_under_load() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(NODES);
    let engines: Vec<Engine> =
        (1..=NODES as u64).map(|node| start(&addresses, node, dir.path())).collect();
    let handles: Vec<Handle> = engines.iter().map(Engine::handle).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let callers = [0, 1].map(|first| load(handles.clone(), first, Arc::clone(&stop)));

    let wish = MembershipChange::default;
    let steps = [
        (wish().voter(NodeId(2)).voter(NodeId(3)), nodes(&[1, 2, 3])),
        (wish().learner(NodeId(4)), nodes(&[1, 2, 3])),
        (wish().voter(NodeId(4)).voter(NodeId(5)), nodes(&[1, 2, 3, 4, 5])),
        (wish().voter(NodeId(6)).remove(NodeId(2)), nodes(&[1, 3, 4, 5, 6])),
        // The leader since the beginning goes.
        (wish().remove(NodeId(1)).remove(NodeId(3)), nodes(&[4, 5, 6])),
        (wish().remove(NodeId(5)).learner(NodeId(4)), nodes(&[6])),
    ];
    for (step, voters) in &steps {
        let index = change(&handles, step);
        assert!(index > LogIndex(0));
        let status = eventually("the leader's view", || {
            let status = block_on(leader(&handles).status(GROUP)).ok()?;
            (!status.configuration.is_joint()).then_some(status)
        });
        assert_eq!(status.configuration.voters(), voters);
        let before = entries(&leader(&handles)).len();
        eventually("operations go on", || {
            (entries(&leader(&handles)).len() > before).then_some(())
        });
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged = callers.map(|caller| caller.join().expect("no panic")).concat();

    let last = leader(&handles);
    let history = entries(&last);
    let mut sorted = history.clone();
    sorted.sort_unstable();
    assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]), "nothing is applied twice");
    let lost = acknowledged.iter().find(|number| sorted.binary_search(number).is_err());
    assert_eq!(lost, None, "nothing acknowledged is lost");
    // The learner that is left has it all, and was told of every configuration.
    eventually("the learner to have everything", || {
        (entries(&handles[3]) == history).then_some(())
    });
    let told = |handle: &Handle| {
        block_on(handle.inspect(GROUP, |journal: &mut Journal| journal.members.clone()))
            .expect("the group is here")
    };
    assert_eq!(told(&handles[3]), told(&handles[5]));
    assert!(told(&last).len() >= 2 * steps.len() - 1, "joint and final entries");

    // After a restart of those who are left, the log alone says who decides.
    drop((handles, last));
    engines.into_iter().for_each(Engine::shutdown);
    let engines = [4, 6].map(|node| start(&addresses, node, dir.path()));
    let handles = engines.each_ref().map(Engine::handle);
    let restarted = leader(&handles);
    let status = block_on(restarted.status(GROUP)).expect("the group is here");
    assert_eq!(status.configuration.voters(), nodes(&[6]));
    eventually("all entries to be there again", || {
        (entries(&restarted).len() == history.len()).then_some(())
    });
}

#[test]
fn what_cannot_be_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(NODES);
    let engine = start(&addresses, 1, dir.path());
    let handle = leader(&[engine.handle()]);
    let ask = |change| block_on(handle.change_members(GROUP, change));
    let wish = MembershipChange::default;
    eventually("the leader to be ready", || {
        let nothing = ask(wish());
        assert!(matches!(nothing, Ok(_) | Err(MembershipError::NotReady)));
        nothing.ok()
    });
    let stranger = NodeId(77);
    assert_eq!(ask(wish().voter(stranger)), Err(MembershipError::UnknownNode(stranger)));
    assert!(matches!(ask(wish().remove(NodeId(1))), Err(MembershipError::Impossible(_))));
    // Node 2 is known and not there: the change is given up, and nothing is left of it.
    assert_eq!(ask(wish().voter(NodeId(2))), Err(MembershipError::TooSlow(NodeId(2))));
    let status = block_on(handle.status(GROUP)).expect("the group is here");
    assert_eq!(status.configuration.voters(), [NodeId(1)]);
    assert!(status.peers.is_empty());
    assert!(ask(wish().learner(NodeId(2))).is_ok(), "a learner is waited for by nobody");
}

/// A group of one voter, moved from node to node; the first ones get it a second time.
#[test]
fn a_single_voter_walks_from_node_to_node_and_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(NODES);
    let engines: Vec<Engine> = (1..=4).map(|node| start(&addresses, node, dir.path())).collect();
    let handles: Vec<Handle> = engines.iter().map(Engine::handle).collect();
    let mut at = 1;
    for (step, next) in (0..).zip([2, 3, 4, 1, 2, 3]) {
        let here = &handles[at as usize - 1];
        eventually("an operation on the only voter", || {
            block_on(here.propose(GROUP, &u64::to_le_bytes(step))).ok()
        });
        let wish = MembershipChange::default().voter(NodeId(next)).remove(NodeId(at));
        change(&handles, &wish);
        let there = &handles[next as usize - 1];
        eventually("the next one to lead alone", || {
            let status = block_on(there.status(GROUP)).expect("the group is here");
            (leads(there, GROUP) && status.configuration.voters() == [NodeId(next)]).then_some(())
        });
        eventually("it to have everything", || {
            (entries(there) == (0..=step).collect::<Vec<_>>()).then_some(())
        });
        at = next;
    }
}

/// Removed, stopped, started and added again, a follower disturbs nobody: no term begins.
#[test]
fn a_follower_that_comes_back_changes_no_term() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(NODES);
    let start = |node| {
        let mut config = config(&addresses, node, 1, dir.path());
        config.groups[0].voters.truncate(3);
        Engine::start(config, |_| Box::new(Journal::default())).expect("the node starts")
    };
    let mut engines: Vec<Engine> = (1..=3).map(start).collect();
    let handle = leader(&engines.iter().map(Engine::handle).collect::<Vec<_>>());
    let status = || block_on(handle.status(GROUP)).expect("the group is here");
    let term = status().term;
    let gone = (1..=3).find(|node| status().leader != Some(NodeId(*node))).expect("a follower");
    change(std::slice::from_ref(&handle), &MembershipChange::default().remove(NodeId(gone)));
    block_on(handle.propose(GROUP, &7_u64.to_le_bytes())).expect("two of two are a majority");
    let at = gone as usize - 1;
    engines.remove(at).shutdown();
    engines.insert(at, start(gone));
    // It knows that it is none of them, or is not heard: nothing changes for a while.
    let since = std::time::Instant::now();
    while since.elapsed() < config(&addresses, 1, 1, dir.path()).raft.election_timeout * 3 {
        let other = block_on(engines[at].handle().status(GROUP)).expect("the group is here");
        assert_eq!((status().term, status().role, other.term), (term, RoleName::Leader, term));
    }
    change(std::slice::from_ref(&handle), &MembershipChange::default().voter(NodeId(gone)));
    eventually("it to have everything", || (entries(&engines[at].handle()) == [7]).then_some(()));
    assert_eq!((status().term, status().role), (term, RoleName::Leader));
}
