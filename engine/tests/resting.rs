//! What others may do to a group at rest, one member at a time under the test's hand.

mod harness;

use std::time::Duration;

use harness::disk::Disk;
use harness::{World, voters};
use ringleader::raft::{RaftConfig, ResetRefused};
use ringleader_wal::NodeId;

const REST_AFTER: u32 = 2;

/// Three members that rest, of which n1 leads.
fn at_rest() -> World {
    let config = RaftConfig { rest_after: REST_AFTER, ..RaftConfig::default() };
    let mut world = World::new(config, vec![Disk::default(); 3], 1);
    world.timeout(1);
    world.settle();
    world.propose_next(1, 3);
    world.settle();
    fall_asleep(&mut world);
    assert_eq!(world.leaders(), [1]);
    world
}

/// Passes time until all who are there rest.
fn fall_asleep(world: &mut World) {
    let resting = |world: &World| {
        world.ids().into_iter().filter(|id| world.is_up(*id)).all(|id| world.raft(id).rests())
    };
    for _ in 0..4 * REST_AFTER {
        if resting(world) {
            return;
        }
        world.beat();
        world.advance(RaftConfig::default().heartbeat_interval);
        world.settle();
    }
    panic!("they find no rest");
}

#[test]
fn a_leader_at_rest_is_a_leader_that_is_there() {
    let mut world = at_rest();
    for _ in 0..3 {
        world.advance(Duration::from_secs(3600));
        world.beat();
        for id in 1..=3 {
            let refused = world.raft(id).plan_reset(world.now, &voters(&[id]));
            assert_eq!(refused, Err(ResetRefused::HasLeader(NodeId(1))), "n{id}");
            assert_eq!(world.reset(id, &voters(&[id])), Err(ResetRefused::HasLeader(NodeId(1))));
        }
        assert!((1..=3).all(|id| world.raft(id).rests()), "asking in vain wakes nobody");
    }
}

#[test]
fn who_rested_on_a_leader_that_is_gone_may_be_reset_after_the_timeout() {
    let mut world = at_rest();
    let timeout = RaftConfig::default().election_timeout;
    world.advance(Duration::from_secs(3600));
    world.beat();
    // n3 can't help, so that nobody is elected.
    world.crash(1, 0);
    world.crash(3, 0);
    assert!(!world.raft(2).rests(), "its connection is gone");
    assert_eq!(world.reset(2, &voters(&[2])), Err(ResetRefused::HasLeader(NodeId(1))));
    world.advance(timeout * 3);
    assert_eq!(world.reset(2, &voters(&[2])), Ok(0));
}

#[test]
fn who_rests_on_a_silent_connection_may_be_reset_when_it_is_noticed() {
    let mut world = at_rest();
    let timeout = RaftConfig::default().election_timeout;
    for other in [1, 3] {
        world.cut(other, 2);
        world.cut(2, other);
    }
    world.advance(timeout);
    world.beat();
    assert_eq!(world.reset(2, &voters(&[2])), Err(ResetRefused::HasLeader(NodeId(1))));
    world.silence(2, 1);
    assert_eq!(world.reset(2, &voters(&[2])), Ok(0));
}

#[test]
fn a_leader_that_rested_is_none_when_its_quorum_is_gone() {
    let mut world = at_rest();
    world.advance(Duration::from_secs(3600));
    world.beat();
    world.crash(2, 0);
    assert_eq!(world.reset(1, &voters(&[1])), Err(ResetRefused::HasLeader(NodeId(1))));
    fall_asleep(&mut world);
    assert_eq!(world.leaders(), [1], "two of three are enough to rest");
    world.crash(3, 0);
    assert_eq!(world.reset(1, &voters(&[1])), Err(ResetRefused::HasLeader(NodeId(1))));
    world.advance(RaftConfig::default().election_timeout * 3);
    assert_eq!(world.reset(1, &voters(&[1])), Ok(0));
}
