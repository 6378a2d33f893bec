//! Groups that are created and destroyed while the nodes run, with engines on loopback.

mod nodes;

use futures_lite::future::block_on;
use nodes::{Counter, addresses, config, eventually, leader, leads};
use ringleader::{
    CreateGroupError, DestroyGroupError, Engine, EngineConfig, GroupConfig, GroupId, Handle,
    MembershipChange, NodeId, ProposeError, PushError, QueryError, SnapshotError,
};

const NEW: GroupId = GroupId(70);
const OTHER: GroupId = GroupId(71);

fn start(config: &EngineConfig) -> Engine {
    Engine::start(config.clone(), |_| Box::new(Counter::default())).expect("it starts")
}

fn voters(nodes: &[u64]) -> Vec<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

fn create(handle: &Handle, group: GroupId, nodes: &[u64]) -> Result<(), CreateGroupError> {
    block_on(handle.create_group(GroupConfig { group, voters: voters(nodes) }))
}

fn propose(engines: &[Engine], group: GroupId) {
    eventually("a proposal", || {
        let handle = leader(engines, group);
        match block_on(handle.propose(group, b"x")) {
            Ok(_) => Some(()),
            Err(ProposeError::NotLeader { .. } | ProposeError::Unknown(_)) => None,
            Err(error) => panic!("{error}"),
        }
    });
}

fn counted(handle: &Handle, group: GroupId) -> u64 {
    block_on(handle.inspect(group, |counter: &mut Counter| counter.0)).expect("it is here")
}

#[test]
fn a_group_that_is_created_while_the_nodes_run_is_here_after_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let (addresses, mut engines) = (addresses(3), Vec::new());
    let configs: Vec<_> = (1..=3).map(|node| config(&addresses, node, 1, dir.path())).collect();
    configs.iter().for_each(|config| engines.push(start(config)));
    propose(&engines, GroupId(1));
    for engine in &engines {
        assert_eq!(create(&engine.handle(), NEW, &[1, 2, 3]), Ok(()));
        assert_eq!(engine.handle().groups(), [GroupId(1), NEW]);
        assert_eq!(create(&engine.handle(), NEW, &[1, 2, 3]), Err(CreateGroupError::Exists(NEW)));
    }
    (0..5).for_each(|_| propose(&engines, NEW));
    for _ in 0..2 {
        drop(std::mem::take(&mut engines));
        configs.iter().for_each(|config| engines.push(start(config)));
        assert_eq!(engines[0].handle().groups(), [GroupId(1), NEW]);
        propose(&engines, NEW);
    }
    let handle = leader(&engines, NEW);
    assert_eq!(counted(&handle, NEW), 7);
    let status = block_on(handle.status(NEW)).expect("it is here");
    assert_eq!(status.configuration.voters(), voters(&[1, 2, 3]));
    // It changes its members as any.
    let change = MembershipChange::default().remove(NodeId(3));
    eventually("a change", || {
        block_on(leader(&engines, NEW).change_members(NEW, change.clone())).ok()
    });
    propose(&engines, NEW);
}

#[test]
fn what_cannot_be_created_or_destroyed_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(&addresses(1), 1, 1, dir.path());
    let engine = start(&config);
    let handle = engine.handle();
    let unknown = create(&handle, NEW, &[1, 9]);
    assert_eq!(unknown, Err(CreateGroupError::UnknownNode(NodeId(9))));
    for nodes in [&[2_u64][..], &[1, 1]] {
        let refused = create(&handle, NEW, nodes);
        assert!(matches!(refused, Err(CreateGroupError::Invalid(_))), "{refused:?}");
    }
    let nowhere = block_on(handle.destroy_replica(NEW));
    assert_eq!(nowhere, Err(DestroyGroupError::UnknownGroup(NEW)));
    let member = block_on(handle.destroy_replica(GroupId(1)));
    assert_eq!(member, Err(DestroyGroupError::StillMember(GroupId(1))));
    assert_eq!(handle.groups(), [GroupId(1)]);
    // What is asked of a group that is not here is told so.
    assert_eq!(block_on(handle.propose(NEW, b"x")), Err(ProposeError::UnknownGroup(NEW)));
    assert_eq!(block_on(handle.status(NEW)), Err(QueryError::UnknownGroup(NEW)));
    let inspected = block_on(handle.inspect(NEW, |_: &mut Counter| ()));
    assert_eq!(inspected, Err(QueryError::UnknownGroup(NEW)));
    assert_eq!(block_on(handle.snapshot(NEW)), Err(SnapshotError::UnknownGroup(NEW)));
    drop(engine);
    assert_eq!(create(&handle, NEW, &[1]), Err(CreateGroupError::Stopped));
    assert_eq!(block_on(handle.destroy_member(GroupId(1))), Err(DestroyGroupError::Stopped));
}

#[test]
fn a_replica_moves_to_another_node_and_is_destroyed_where_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(4);
    let configs: Vec<_> = (1..=4).map(|node| config(&addresses, node, 0, dir.path())).collect();
    let mut engines: Vec<_> = configs.iter().map(start).collect();
    for group in [NEW, OTHER] {
        engines[..3].iter().for_each(|engine| {
            create(&engine.handle(), group, &[1, 2, 3]).expect("created");
        });
        propose(&engines, group);
    }
    assert_eq!(create(&engines[3].handle(), NEW, &[]), Ok(()));
    let change = MembershipChange::default().voter(NodeId(4)).remove(NodeId(3));
    eventually("a change", || {
        block_on(leader(&engines, NEW).change_members(NEW, change.clone())).ok()
    });
    let gone = engines[2].handle();
    eventually("the removed one to hear of it", || match block_on(gone.destroy_replica(NEW)) {
        Ok(()) => Some(()),
        Err(DestroyGroupError::StillMember(_)) => None,
        Err(error) => panic!("{error}"),
    });
    assert_eq!(gone.groups(), [OTHER]);
    assert_eq!(block_on(gone.propose(NEW, b"x")), Err(ProposeError::UnknownGroup(NEW)));
    assert_eq!(gone.shard_of(NEW), None);
    // The number is used up, before and after a restart; the other group goes on.
    assert_eq!(create(&gone, NEW, &[]), Err(CreateGroupError::Destroyed(NEW)));
    drop(engines.remove(2));
    engines.insert(2, start(&configs[2]));
    assert_eq!(create(&engines[2].handle(), NEW, &[]), Err(CreateGroupError::Destroyed(NEW)));
    for group in [NEW, OTHER] {
        propose(&engines, group);
        let there = if group == NEW { [0, 1, 3] } else { [0, 1, 2] };
        for at in there {
            let handle = engines[at].handle();
            eventually("all to have applied it", || (counted(&handle, group) == 2).then_some(()));
        }
    }
    assert_eq!(engines[2].handle().groups(), [OTHER]);
}

/// Simulator seed 4001177: the leader's node lives on, and what is heard from it would let the others
/// rest for ever.
#[test]
fn a_group_at_rest_whose_leader_is_destroyed_elects_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let configs = (1..=3).map(|node| config(&addresses, node, 1, dir.path()));
    let mut engines: Vec<_> = configs.map(|config| start(&config)).collect();
    let group = GroupId(1);
    propose(&engines, group);
    let rests =
        |engine: &Engine| block_on(engine.handle().status(group)).expect("it is here").rests;
    eventually("a rest", || engines.iter().all(rests).then_some(()));
    let is_leader = |engine: &Engine| leads(&engine.handle(), group);
    let old = engines.iter().position(is_leader).expect("one leads");
    let old = engines.swap_remove(old);
    assert_eq!(block_on(old.handle().destroy_member(group)), Ok(()));
    // Nobody asks for anything meanwhile.
    eventually("another leader", || engines.iter().any(is_leader).then_some(()));
    propose(&engines, group);
}

#[test]
fn a_group_ends_on_all_nodes_and_a_configuration_that_names_it_brings_it_back_nowhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(&addresses(1), 1, 2, dir.path());
    let engine = start(&config);
    let handle = engine.handle();
    propose(std::slice::from_ref(&engine), GroupId(2));
    let shard = handle.shard_of(GroupId(2)).expect("it is here");
    let mut queue = handle.queue(shard, 4);
    assert_eq!(queue.push(GroupId(2), 1, b"x"), Ok::<(), PushError>(()));
    assert_eq!(block_on(handle.destroy_member(GroupId(2))), Ok(()));
    assert_eq!(block_on(queue.submit_when_room()), Ok(1));
    let completion = eventually("its answer", || {
        let mut answered = None;
        queue.drain(|completion| answered = Some(completion.result.clone().map(|_| ())));
        answered
    });
    assert_eq!(completion, Err(ProposeError::UnknownGroup(GroupId(2))));
    drop((queue, engine));
    let engine = start(&config);
    assert_eq!(engine.handle().groups(), [GroupId(1)]);
    propose(std::slice::from_ref(&engine), GroupId(1));
}
