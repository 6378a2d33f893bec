//! Handing the leadership over, as the thesis' sections 3.10 and 4.2.3 have it.

mod harness;

use std::time::Duration;

use harness::World;
use ringleader::raft::transfer::TransferRefused;
use ringleader::raft::{Message, RaftConfig};
use ringleader_wal::NodeId;

const MS: Duration = Duration::from_millis(1);

/// n1 leads two followers that have everything.
fn group() -> World {
    let mut world = World::empty(RaftConfig::default(), 3, 1);
    world.timeout(1);
    world.settle();
    assert_eq!(world.leaders(), [1]);
    world
}

fn transfer(world: &mut World, id: u64, to: Option<u64>) -> Result<NodeId, TransferRefused> {
    let mut result = None;
    world.call(id, |raft, now, out| result = Some(raft.transfer(now, to.map(NodeId), out)));
    result.expect("the member is up")
}

fn was_asked(world: &World, to: u64) -> bool {
    let sent = world.links.get(&(1, to));
    sent.is_some_and(|sent| sent.iter().any(|m| matches!(m, Message::TimeoutNow { .. })))
}

/// "The prior leader stops accepting new client requests."
#[test]
fn s3_10_the_prior_leader_appends_nothing_more() {
    let mut world = group();
    assert_eq!(transfer(&mut world, 1, Some(2)), Ok(NodeId(2)));
    assert!(world.raft(1).is_leader());
    assert!(!world.raft(1).takes_proposals());
    assert_eq!(world.raft(1).append_position(), None);
    assert!(!world.propose(1, b"x"));
}

/// "The prior leader fully updates the target server's log to match its own, using the normal log
/// replication mechanism." Here it also waits until everything is committed, so that no caller's
/// outcome becomes unknown.
#[test]
fn s3_10_the_target_has_the_whole_log_first() {
    let mut world = World::empty(RaftConfig::default(), 5, 1);
    world.timeout(1);
    world.settle();
    world.propose(1, b"x");
    transfer(&mut world, 1, Some(2)).expect("it answers");
    assert!(!was_asked(&world, 2), "its log lacks an entry");
    world.deliver(1, 2);
    world.durable(2, usize::MAX);
    world.deliver(2, 1);
    assert!(!was_asked(&world, 2), "two of five have the entry");
    world.deliver(1, 3);
    world.durable(3, usize::MAX);
    world.deliver(3, 1);
    world.durable(1, usize::MAX);
    assert!(was_asked(&world, 2));
}

/// "This request has the same effect as the target server's election timer firing: the target
/// server starts a new election (incrementing its term and becoming a candidate)." And 4.2.3: it
/// has the leader's permission to disrupt the leader, whom the others still hear.
#[test]
fn s3_10_the_target_is_elected_although_all_hear_a_leader() {
    let mut world = group();
    let (now, term) = (world.now, world.raft(1).term());
    transfer(&mut world, 1, Some(3)).expect("it answers");
    world.settle();
    assert_eq!(world.leaders(), [3]);
    assert_eq!(world.now, now, "no timer ran out");
    assert_eq!(world.raft(1).term(), term.next());
    assert_eq!(world.raft(2).leader(), Some(NodeId(3)));
    assert!(world.propose(3, b"x"));
}

/// "If leadership transfer does not complete after about an election timeout, the prior leader
/// aborts the transfer and resumes accepting client requests."
#[test]
fn s3_10_after_an_election_timeout_the_prior_leader_goes_on() {
    let mut world = group();
    world.cut(1, 2);
    transfer(&mut world, 1, Some(2)).expect("it was heard a moment ago");
    for _ in 0..9 {
        world.advance(100 * MS);
        world.deliver(1, 3);
        world.deliver(3, 1);
    }
    assert_eq!(world.raft(1).transfers_to(), Some(NodeId(2)));
    world.advance(100 * MS);
    assert_eq!(world.raft(1).transfers_to(), None);
    assert!(world.raft(1).is_leader() && world.propose(1, b"x"));
}

#[test]
fn the_leader_goes_on_at_once_when_the_target_is_cut_off() {
    let mut world = group();
    transfer(&mut world, 1, Some(2)).expect("it answers");
    world.disconnect(1, 2);
    assert!(world.propose(1, b"x"));
}

#[test]
fn what_cannot_begin_is_refused_with_its_reason() {
    let mut world = group();
    let refused = |world: &mut World, id, to| transfer(world, id, to).expect_err("it is refused");
    let leader = Some(NodeId(1));
    assert_eq!(refused(&mut world, 2, Some(3)), TransferRefused::NotLeader { leader });
    assert_eq!(refused(&mut world, 1, Some(1)), TransferRefused::Leads);
    assert_eq!(refused(&mut world, 1, Some(4)), TransferRefused::NotVoter(NodeId(4)));
    world.crash(3, 0);
    for _ in 0..11 {
        world.advance(100 * MS);
        world.settle();
    }
    assert_eq!(refused(&mut world, 1, Some(3)), TransferRefused::Unreachable(NodeId(3)));
    world.crash(2, 0);
    assert_eq!(refused(&mut world, 1, None), TransferRefused::NobodyFit);
    world.restart(2);
    world.propose(1, b"x");
    world.settle();
    assert_eq!(transfer(&mut world, 1, None), Ok(NodeId(2)));
    let to = NodeId(2);
    assert_eq!(refused(&mut world, 1, None), TransferRefused::UnderWay { to });
}

#[test]
fn the_best_target_is_the_one_that_has_the_most() {
    for (ahead, behind) in [(2, 3), (3, 2)] {
        let mut world = group();
        world.propose(1, b"x");
        world.deliver(1, ahead);
        world.durable(ahead, usize::MAX);
        world.deliver(ahead, 1);
        assert_eq!(transfer(&mut world, 1, None), Ok(NodeId(ahead)), "not {behind}");
    }
}

#[test]
fn a_single_voter_has_nobody_to_hand_over_to() {
    let mut world = World::empty(RaftConfig::default(), 1, 1);
    world.timeout(1);
    world.settle();
    assert_eq!(transfer(&mut world, 1, None), Err(TransferRefused::NobodyFit));
    assert!(world.propose(1, b"x"));
}
