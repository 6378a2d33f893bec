//! Who is to lead, if it can: the elections of groups whose voters have priorities.

mod harness;

use std::time::Duration;

use harness::{STEP, World};
use ringleader::raft::{Changing, MembershipChange, RaftConfig};
use ringleader::{EngineConfig, GroupConfig, GroupId, Member, NodeId, Priorities};

const SEEDS: u64 = 20;

fn timeout() -> Duration {
    RaftConfig::default().election_timeout
}

/// Three voters with these priorities.
fn group(seed: u64, priorities: &[(u64, u16)]) -> World {
    let mut world = World::empty(RaftConfig::default(), 3, seed);
    world.prefer(priorities);
    world
}

/// Lets time pass until somebody leads; who that is, and how many election timeouts it took.
fn elect(world: &mut World) -> (u64, f64) {
    let began = world.now;
    while world.leaders().is_empty() {
        world.pass(STEP);
        assert!(world.now.since(began) < timeout() * 30, "nobody is elected");
    }
    let took = world.now.since(began).as_secs_f64() / timeout().as_secs_f64();
    (world.leaders()[0], took)
}

#[test]
fn the_highest_leads_and_the_next_highest_after_it() {
    for seed in 1..=SEEDS {
        let mut world = group(seed, &[(1, 40), (2, 100), (3, 60)]);
        assert_eq!(elect(&mut world).0, 2);
        world.crash(2, 0);
        let (next, took) = elect(&mut world);
        assert_eq!(next, 3);
        // It deferred for one election timeout, to the one that is gone.
        assert!(took < 3.2, "{took} election timeouts");
        // Who comes back takes nothing away from a leader that works.
        world.restart(2);
        let term = world.raft(3).term();
        world.pass(timeout() * 5);
        assert_eq!((world.leaders(), world.raft(3).term()), (vec![3], term));
    }
}

#[test]
fn of_those_who_are_alike_any_may_lead() {
    let mut second = Vec::new();
    for seed in 1..=SEEDS {
        let mut world = group(seed, &[(1, 100), (2, 40), (3, 40)]);
        assert_eq!(elect(&mut world).0, 1);
        world.crash(1, 0);
        second.push(elect(&mut world).0);
    }
    second.sort_unstable();
    second.dedup();
    assert_eq!(second, [2, 3]);
}

#[test]
fn a_voter_without_a_priority_leads_before_those_of_zero() {
    for seed in 1..=SEEDS {
        let mut world = group(seed, &[(1, 0), (2, 0)]);
        assert_eq!(elect(&mut world).0, 3);
    }
}

/// Where SOFAJRaft has no leader any more, one of priority 0 stands in, late, and gives the office
/// back.
#[test]
fn one_of_zero_leads_only_while_nobody_else_can() {
    for seed in 1..=SEEDS {
        let mut world = group(seed, &[(1, 50), (2, 0), (3, 0)]);
        assert_eq!(elect(&mut world).0, 1);
        world.crash(1, 0);
        let (stand_in, took) = elect(&mut world);
        assert!(stand_in != 1 && took > 8.0, "n{stand_in} after {took} election timeouts");
        world.propose_next(stand_in, 3);
        world.settle();
        world.restart(1);
        world.pass(timeout() * 3);
        assert_eq!(world.leaders(), [1]);
        assert_eq!(world.raft(1).commit_index(), world.raft(1).status().last.index);
    }
}

#[test]
fn a_group_in_which_nobody_may_lead_is_refused() {
    let address = "127.0.0.1:7000".parse().expect("an address");
    let member = Member { node: NodeId(1), address, shards: 1 };
    let mut config = EngineConfig::new(1, NodeId(1), vec![member], "/nowhere".into());
    let group = GroupId(1);
    config.groups = vec![GroupConfig { group, voters: vec![NodeId(1)] }];
    assert!(config.validate().is_ok());
    config.priorities.insert(group, Priorities::new(&[(NodeId(1), 0)]));
    let refused = config.validate().expect_err("nobody may lead").to_string();
    assert!(refused.contains("all voters have priority 0"), "{refused}");
}

/// Nobody waits for a voter that is no longer one.
#[test]
fn who_was_removed_is_not_deferred_to() {
    let mut took: Vec<f64> = (1..=SEEDS).map(without_the_first_two).collect();
    took.sort_by(f64::total_cmp);
    // Some elections take two attempts. Who deferred to both would take one timeout more in all.
    let median = took[took.len() / 2];
    assert!(median < 3.0, "{median} election timeouts");
}

/// The best voter is removed, and the next best dies: how many election timeouts that takes.
fn without_the_first_two(seed: u64) -> f64 {
    let mut world = World::empty(RaftConfig::default(), 4, seed);
    world.prefer(&[(1, 100), (2, 60), (3, 40), (4, 40)]);
    assert_eq!(elect(&mut world).0, 1);
    world.pass(timeout());
    let removal = MembershipChange::default().remove(NodeId(1));
    assert_eq!(world.change(1, &removal), Ok(Changing::Begun));
    world.settle();
    world.pass(timeout());
    assert_eq!(world.leaders(), [2], "it was handed the office, as the best of the rest");
    world.crash(2, 0);
    let (next, took) = elect(&mut world);
    assert!([3, 4].contains(&next), "n{next}");
    took
}
