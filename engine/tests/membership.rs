//! Changes of a group's members, one member at a time under the test's hand (thesis, chapter 4).

mod harness;

use std::time::Duration;

use harness::disk::Disk;
use harness::{World, voters};
use ringleader::raft::{ChangeError, Changing, Configuration, MembershipChange, RaftConfig};
use ringleader_net::DataId;
use ringleader_wal::{LogIndex, NodeId};

fn nodes(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

fn change(to_voters: &[u64], to_learners: &[u64], removed: &[u64]) -> MembershipChange {
    MembershipChange {
        voters: nodes(to_voters),
        learners: nodes(to_learners),
        removed: nodes(removed),
        exactly: false,
    }
}

/// `count` nodes of which the `first` decide, n1 leads, and everything is settled.
fn led(count: usize, first: &[u64]) -> World {
    let config = RaftConfig::default();
    let mut world = World::beginning_with(config, vec![Disk::default(); count], first, 1);
    world.timeout(1);
    world.settle();
    assert_eq!(world.leaders(), [1]);
    world.propose_next(1, 1);
    world.settle();
    world
}

fn configuration(world: &World, id: u64) -> Configuration {
    world.raft(id).configuration().clone()
}

/// Heartbeats carry the commit index to everyone.
fn heartbeat(world: &mut World) {
    for _ in 0..3 {
        world.advance(RaftConfig::default().heartbeat_interval);
        world.settle();
    }
}

#[test]
fn one_becomes_three_and_loses_nothing() {
    let mut world = led(3, &[1]);
    assert_eq!(world.change(1, &change(&[2, 3], &[], &[])), Ok(Changing::Begun));
    world.settle();
    heartbeat(&mut world);
    for id in 1..=3 {
        assert_eq!(configuration(&world, id), voters(&[1, 2, 3]));
        assert_eq!(world.raft(id).status().commit, world.raft(1).status().last.index);
    }
    // The leader alone decides nothing any more.
    let before = world.raft(1).status().commit;
    world.isolate(1);
    world.propose_next(1, 1);
    world.settle();
    assert_eq!(world.raft(1).status().commit, before);
}

#[test]
fn several_members_are_replaced_at_once() {
    let mut world = led(6, &[1, 2, 3]);
    assert_eq!(world.change(1, &change(&[4, 5, 6], &[3], &[2])), Ok(Changing::Begun));
    world.settle();
    heartbeat(&mut world);
    let expected = voters(&[1, 4, 5, 6]).with_learners(&nodes(&[3]));
    for id in [1, 3, 4, 5, 6] {
        assert_eq!(configuration(&world, id), expected, "n{id}");
    }
    // Who was removed learned it, and does not campaign.
    assert_eq!(configuration(&world, 2), expected);
    assert_eq!(world.raft(2).deadline(), ringleader::time::Time::NEVER);
    let peers: Vec<u64> = world.raft(1).peers().map(|peer| peer.id.0).collect();
    assert_eq!(peers, [4, 5, 6, 3]);
}

/// A change may say who the members are to be, instead of what becomes of some.
#[test]
fn the_members_are_named_as_a_whole() {
    let mut world = led(5, &[1, 2, 3]);
    let whole = |voters: &[u64], learners: &[u64]| {
        MembershipChange::exactly(&nodes(voters), &nodes(learners))
    };
    let expected = voters(&[1, 4, 5]).with_learners(&nodes(&[3]));
    assert_eq!(world.change(1, &whole(&[1, 4, 5], &[3])), Ok(Changing::Begun));
    world.settle();
    assert_eq!(configuration(&world, 1), expected);
    let at = world.raft(1).configuration_at(LogIndex(u64::MAX)).0;
    let again = world.change(1, &whole(&[5, 4, 1], &[3]));
    assert_eq!(again, Ok(Changing::Unchanged(at)), "it is so already");
    assert!(matches!(world.change(1, &whole(&[], &[1])), Err(ChangeError::Impossible(_))));
    assert!(matches!(world.change(1, &whole(&[1], &[1])), Err(ChangeError::Impossible(_))));
}

/// "A leader that is removed steps down once the final configuration is committed", not before;
/// and hands over to one of those who stay.
#[test]
fn a_removed_leader_steps_down_when_the_change_is_committed() {
    let mut world = led(3, &[1, 2, 3]);
    let _ = world.change(1, &change(&[], &[], &[1]));
    assert!(configuration(&world, 1).is_joint());
    assert!(world.raft(1).is_leader());
    world.settle();
    // It handed over: nobody had to wait for a timeout.
    let leaders = world.leaders();
    assert!(leaders == [2] || leaders == [3], "{leaders:?}");
    assert_eq!(world.raft(1).deadline(), ringleader::time::Time::NEVER, "it does not campaign");
}

/// While it leads, it does not count itself (thesis, section 4.2.2).
#[test]
fn a_removed_leader_does_not_count_itself() {
    let mut world = led(3, &[1, 2, 3]);
    let _ = world.change(1, &change(&[], &[], &[1]));
    // The joint entry is committed by all, and the final one reaches n2 alone.
    for _ in 0..100 {
        for id in 1..=3 {
            world.durable(id, usize::MAX);
        }
        if !configuration(&world, 1).is_joint() {
            world.cut(1, 3);
            world.cut(3, 1);
            break;
        }
        for (from, to) in world.in_flight() {
            world.deliver(from, to);
        }
    }
    world.settle();
    assert_eq!(configuration(&world, 2), voters(&[2, 3]));
    assert!(world.raft(1).is_leader());
    assert!(world.raft(1).status().commit < world.raft(1).status().last.index);
}

#[test]
fn learners_follow_and_decide_nothing() {
    let mut world = led(3, &[1]);
    assert_eq!(world.change(1, &change(&[], &[2, 3], &[])), Ok(Changing::Begun));
    world.settle();
    heartbeat(&mut world);
    assert_eq!(configuration(&world, 3), voters(&[1]).with_learners(&nodes(&[2, 3])));
    assert_eq!(world.raft(2).status().commit, world.raft(1).status().commit);
    assert_eq!(world.raft(2).deadline(), ringleader::time::Time::NEVER, "no timer");
    // Their answers alone commit nothing; the voter's disk does, alone.
    world.propose_next(1, 1);
    let last = world.raft(1).status().last.index;
    for id in [2, 3] {
        world.deliver(1, id);
        world.durable(id, usize::MAX);
        world.deliver(id, 1);
    }
    assert!(world.raft(1).status().commit < last);
    world.durable(1, usize::MAX);
    assert_eq!(world.raft(1).status().commit, last);
    // Promotion and demotion.
    assert_eq!(world.change(1, &change(&[2], &[], &[])), Ok(Changing::Begun));
    world.settle();
    assert_eq!(configuration(&world, 1), voters(&[1, 2]).with_learners(&nodes(&[3])));
    assert_eq!(world.change(1, &change(&[], &[2], &[3])), Ok(Changing::Begun));
    world.settle();
    assert_eq!(configuration(&world, 1), voters(&[1]).with_learners(&nodes(&[2])));
}

#[test]
fn one_change_at_a_time_and_only_possible_ones() {
    let mut world = led(3, &[1, 2, 3]);
    let leader = 1;
    assert_eq!(world.change(3, &change(&[], &[], &[1])), Err(ChangeError::NotLeader));
    let removal = change(&[], &[], &[3]);
    assert_eq!(world.change(leader, &removal), Ok(Changing::Begun));
    assert_eq!(world.change(leader, &removal), Err(ChangeError::InProgress));
    world.settle();
    let at = world.raft(leader).configuration_at(LogIndex(u64::MAX)).0;
    assert_eq!(world.change(leader, &removal), Ok(Changing::Unchanged(at)), "it is so already");
    let impossible = [change(&[], &[], &[1, 2]), change(&[1], &[1], &[]), change(&[0], &[], &[])];
    for wish in impossible {
        assert!(matches!(world.change(leader, &wish), Err(ChangeError::Impossible(_))));
    }
}

#[test]
fn a_leader_that_has_committed_nothing_changes_nothing() {
    let mut world = World::empty(RaftConfig::default(), 3, 1);
    world.timeout(1);
    // Votes go back and forth, the empty entry does not become durable anywhere.
    for _ in 0..4 {
        for id in 1..=3 {
            if !world.leaders().contains(&1) {
                world.durable(id, usize::MAX);
            }
        }
        for (from, to) in world.in_flight() {
            world.deliver(from, to);
        }
    }
    assert_eq!(world.leaders(), [1]);
    assert_eq!(world.change(1, &change(&[], &[], &[3])), Err(ChangeError::NotReady));
}

/// A configuration is in force when it is appended, and no longer when it is truncated.
#[test]
fn a_truncated_configuration_is_taken_back() {
    let mut world = led(3, &[1, 2, 3]);
    world.isolate(1);
    assert_eq!(world.change(1, &change(&[], &[], &[3])), Ok(Changing::Begun));
    world.durable(1, usize::MAX);
    assert!(configuration(&world, 1).is_joint());
    world.advance(RaftConfig::default().election_timeout * 2);
    while world.raft(2).leader() != Some(NodeId(2)) {
        world.timeout(2);
        world.settle();
    }
    world.propose_next(2, 3);
    world.settle();
    world.heal();
    world.connect(1, 2);
    heartbeat(&mut world);
    assert_eq!(configuration(&world, 1), voters(&[1, 2, 3]));
    assert_eq!(world.raft(1).status().last, world.raft(2).status().last);
}

/// At every stage of a change any node restarts, all of them, and the leader is another one: the
/// change is brought to its end, or never was.
#[test]
fn a_restart_at_any_stage_is_safe() {
    for stage in 0..40 {
        for restarted in [&[1][..], &[2], &[1, 2, 3, 4], &[3, 4]] {
            let mut world = led(4, &[1, 2, 3]);
            let _ = world.change(1, &change(&[4], &[], &[1]));
            // One delivery or one write at a time.
            for step in 0..stage {
                let id = 1 + step % 4;
                world.durable(id, 1);
                if let Some((from, to)) = world.in_flight().first().copied() {
                    world.deliver(from, to);
                }
            }
            restarted.iter().for_each(|id| world.crash(*id, usize::try_from(stage % 2).unwrap()));
            restarted.iter().for_each(|id| world.restart(*id));
            for _ in 0..30 {
                world.advance(Duration::from_millis(300));
                world.settle();
            }
            let leader = *world.leaders().last().expect("somebody leads");
            world.propose_next(leader, 1);
            heartbeat(&mut world);
            let status = world.raft(leader).status();
            assert_eq!(status.commit, status.last.index, "stage {stage}, {restarted:?}");
            let end = configuration(&world, leader);
            assert!(end == voters(&[1, 2, 3]) || end == voters(&[2, 3, 4]), "{end:?}");
        }
    }
}

/// The new voters are where the change goes to, so a node that is not there stops it before it
/// begins.
#[test]
fn a_node_that_does_not_catch_up_ends_the_change() {
    let mut world = led(4, &[1, 2, 3]);
    world.isolate(4);
    world.trace = Some(String::new());
    assert_eq!(world.change(1, &change(&[4], &[], &[1])), Ok(Changing::Begun));
    for _ in 0..125 {
        world.advance(RaftConfig::default().heartbeat_interval);
        world.settle();
    }
    assert_eq!(configuration(&world, 1), voters(&[1, 2, 3]));
    let trace = world.trace.as_deref().unwrap_or_default();
    assert!(trace.contains("gives the change up because of n4"));
    assert_eq!(world.raft(1).peers().count(), 2);
    // And another change may begin.
    assert_eq!(world.change(1, &change(&[], &[], &[3])), Ok(Changing::Begun));
}

/// The joint entry needs a majority of the old voters and of the new ones: without the latter the
/// leader steps down, and whoever leads next brings the change to its end.
#[test]
fn a_leader_without_a_majority_of_the_new_voters_steps_down() {
    let mut world = led(5, &[1]);
    assert_eq!(world.change(1, &change(&[2, 3, 4, 5], &[], &[])), Ok(Changing::Begun));
    while !configuration(&world, 1).is_joint() {
        for id in 1..=5 {
            world.durable(id, usize::MAX);
            world.load(id);
        }
        for (from, to) in world.in_flight() {
            world.deliver(from, to);
        }
    }
    [3, 4, 5].iter().for_each(|id| world.isolate(*id));
    world.pass(RaftConfig::default().election_timeout * 2);
    assert!(world.leaders().is_empty(), "two of five are no majority");
    assert!(!world.propose(1, b"x"));
    world.heal();
    world.pass(RaftConfig::default().election_timeout * 6);
    let leader = *world.leaders().last().expect("somebody leads");
    assert_eq!(configuration(&world, leader), voters(&[1, 2, 3, 4, 5]));
    assert!(world.propose(leader, b"y"));
}

/// A node that was removed while it was away knows nothing of it; it asks for votes, and disturbs
/// nobody (thesis, section 4.2.3).
#[test]
fn a_removed_node_that_does_not_know_disturbs_nobody() {
    let mut world = led(3, &[1, 2, 3]);
    world.isolate(3);
    let _ = world.change(1, &change(&[], &[], &[3]));
    world.settle();
    heartbeat(&mut world);
    world.heal();
    assert_eq!(configuration(&world, 3), voters(&[1, 2, 3]));
    let term = world.raft(1).status().term;
    for _ in 0..50 {
        world.advance(RaftConfig::default().heartbeat_interval);
        world.settle();
    }
    assert_eq!(world.leaders(), [1]);
    assert_eq!(world.raft(1).status().term, term);
    assert_eq!(world.raft(3).status().term, term);
}

/// A voter that has not got the configuration that makes the candidate one answers it all the same
/// (thesis, section 4.2.3).
#[test]
fn a_candidate_that_a_voter_does_not_know_gets_its_vote() {
    let mut world = led(4, &[1, 2, 3]);
    // n3 misses the change by which n4 becomes a voter, and n1 goes.
    world.isolate(3);
    assert_eq!(world.change(1, &change(&[4], &[], &[])), Ok(Changing::Begun));
    world.settle();
    heartbeat(&mut world);
    assert_eq!(configuration(&world, 4), voters(&[1, 2, 3, 4]));
    world.crash(1, 0);
    world.heal();
    world.advance(RaftConfig::default().election_timeout * 2);
    assert_eq!(configuration(&world, 3), voters(&[1, 2, 3]));
    for _ in 0..20 {
        if world.leaders().contains(&4) {
            break;
        }
        world.timeout(4);
        world.settle();
    }
    assert!(world.leaders().contains(&4) || world.leaders().contains(&2));
}

/// What every log names, once everything is settled.
fn named(world: &mut World, ids: &[u64]) -> Vec<(u64, u128)> {
    world.settle();
    heartbeat(world);
    let of = |id: u64| {
        let named = configuration(world, id);
        named.identities().map(|(node, data)| (node.0, data.0)).collect::<Vec<_>>()
    };
    let first = of(ids[0]);
    assert!(ids.iter().all(|id| of(*id) == first), "they agree");
    first
}

#[test]
fn a_leader_names_the_data_of_those_whom_it_has_met() {
    let mut world = led(4, &[1, 2, 3]);
    assert_eq!(named(&mut world, &[1, 2, 3]), []);
    world.data = [(1, DataId(10)), (2, DataId(20))].into();
    assert_eq!(named(&mut world, &[1, 2, 3]), [(1, 10), (2, 20)]);
    let last = world.raft(1).status().last;
    assert_eq!(named(&mut world, &[1, 2, 3]), [(1, 10), (2, 20)]);
    assert_eq!(world.raft(1).status().last, last, "it is said once");

    // Others than those that are known are nobody's who is a member.
    world.data = [(1, DataId(11)), (2, DataId(21)), (3, DataId(30)), (4, DataId(40))].into();
    assert_eq!(named(&mut world, &[1, 2, 3]), [(1, 10), (2, 20), (3, 30)]);

    // A change names those who come with it, forgets those who go, and keeps what is known.
    assert_eq!(world.change(1, &change(&[4], &[2], &[3])), Ok(Changing::Begun));
    assert_eq!(named(&mut world, &[1, 2, 4]), [(1, 10), (2, 20), (4, 40)]);
    assert_eq!(configuration(&world, 1).voters(), nodes(&[1, 4]));
}

#[test]
fn whoever_asks_for_a_change_while_data_is_named_is_not_refused() {
    let to_be_named = || {
        let mut world = led(3, &[1, 2]);
        world.data = (1..=3).map(|id| (id, DataId(10 * u128::from(id)))).collect();
        world.advance(RaftConfig::default().heartbeat_interval);
        let at = configuration(&world, 1);
        assert!(
            at.is_identified() && world.raft(1).status().commit < world.raft(1).status().last.index
        );
        world
    };
    for wish in [change(&[3], &[], &[]), change(&[], &[3], &[]), change(&[], &[], &[2])] {
        let mut world = to_be_named();
        assert_eq!(world.change(1, &wish), Ok(Changing::Begun));
        assert_eq!(world.change(1, &wish), Err(ChangeError::InProgress));
        world.settle();
        heartbeat(&mut world);
        let now = configuration(&world, 1);
        assert!(now.is_identified() && !now.is_joint());
        let done = now.contains(NodeId(3)) || !now.contains(NodeId(2));
        assert!(done, "{now:?}");
    }
    // Who wants what is so already learns where that stands, when it is committed.
    let mut world = to_be_named();
    assert_eq!(world.change(1, &change(&[2], &[], &[])), Ok(Changing::Begun));
    world.settle();
    let at = world.raft(1).configuration_at(LogIndex(u64::MAX)).0;
    assert_eq!(world.change(1, &change(&[2], &[], &[])), Ok(Changing::Unchanged(at)));
}

#[test]
fn a_reset_keeps_what_is_known_of_those_who_stay() {
    let mut world = led(3, &[1, 2, 3]);
    world.data = (1..=3).map(|id| (id, DataId(10 * u128::from(id)))).collect();
    assert_eq!(named(&mut world, &[1, 2, 3]), [(1, 10), (2, 20), (3, 30)]);
    world.data.clear();
    world.crash(1, 0);
    world.crash(2, 0);
    world.advance(RaftConfig::default().election_timeout * 3);
    world.reset(3, &voters(&[2, 3])).expect("there is no leader");
    let now = configuration(&world, 3);
    assert!(now.identities().eq([(NodeId(2), DataId(20)), (NodeId(3), DataId(30))]), "{now:?}");
}
