//! Groups that go on without their majority, one member at a time under the test's hand: what
//! stays, what is lost, and what becomes of those who come back.

mod harness;

use std::time::Duration;

use harness::disk::Disk;
use harness::{World, voters};
use ringleader::raft::era::Era;
use ringleader::raft::message::{AppendOutcome, Blocks};
use ringleader::raft::{Configuration, MembershipChange, Message, RaftConfig, ResetRefused};
use ringleader::time::Time;
use ringleader_wal::{LogIndex, LogPosition, NodeId};

/// `count` members of which n1 leads, with three entries that all have and know committed.
fn led(count: usize) -> World {
    let mut world = World::new(RaftConfig::default(), vec![Disk::default(); count], 1);
    world.timeout(1);
    world.settle();
    world.propose_next(1, 3);
    world.settle();
    pass(&mut world, 3);
    assert_eq!(world.leaders(), [1]);
    world
}

/// So many heartbeats.
fn pass(world: &mut World, heartbeats: u32) {
    for _ in 0..heartbeats {
        world.advance(RaftConfig::default().heartbeat_interval);
        world.settle();
    }
}

/// Until nobody believes any more that there is a leader.
fn forget_leader(world: &mut World) {
    world.advance(RaftConfig::default().election_timeout * 3);
}

fn elected(world: &mut World) -> u64 {
    for _ in 0..200 {
        world.advance(Duration::from_millis(50));
        world.settle();
        if let [leader] = world.leaders()[..] {
            return leader;
        }
    }
    panic!("nobody is elected");
}

fn last(world: &World, id: u64) -> LogIndex {
    world.raft(id).status().last.index
}

#[test]
fn one_that_is_left_goes_on_with_all_it_has() {
    let mut world = led(3);
    assert_eq!(world.reset(1, &voters(&[1])), Err(ResetRefused::HasLeader(NodeId(1))));
    assert_eq!(world.reset(2, &voters(&[2])), Err(ResetRefused::HasLeader(NodeId(1))));
    [2, 3].into_iter().for_each(|id| world.crash(id, 0));
    // It is in the log of one, and nobody knows whether it was going to be committed.
    world.propose_next(1, 2);
    world.durable(1, usize::MAX);
    forget_leader(&mut world);
    let before = world.raft(1).status();
    let planned = world.raft(1).plan_reset(world.now, &voters(&[1])).expect("there is no leader");
    assert_eq!((planned.last, planned.commit), (before.last, before.commit));
    assert_eq!(planned.before, voters(&[1, 2, 3]));
    assert_eq!(world.raft(1).status(), before, "a plan changes nothing");

    assert_eq!(world.reset(1, &voters(&[1])), Ok(0));
    assert_eq!(world.raft(1).configuration(), &voters(&[1]));
    assert_eq!(elected(&mut world), 1);
    let after = world.raft(1).status();
    assert_eq!(after.commit, after.last.index);
    assert_eq!(world.term_at(1, before.last.index.0), Some(before.last.term), "all of it stays");
    let era = Era::of(after.term);
    assert_eq!((era.resets(), era.node()), (1, 1));
    assert_eq!(world.term_at(1, planned.at.index.0), Some(era.first_term()), "a marked entry");
    // It survives a restart, and is the beginning of another group.
    world.crash(1, 0);
    world.restart(1);
    assert_eq!(elected(&mut world), 1);
    assert_eq!(Era::of(world.raft(1).term()), era);
}

/// Nothing ever wakes a learner, and time passes all the same.
#[test]
fn a_learner_that_is_left_knows_that_its_leader_has_gone() {
    let mut world = led(3);
    world.change(1, &MembershipChange::default().learner(NodeId(3))).expect("it begins");
    pass(&mut world, 5);
    let plan = |world: &World| world.raft(3).plan_reset(world.now, &voters(&[3]));
    assert_eq!(plan(&world), Err(ResetRefused::HasLeader(NodeId(1))));
    [1, 2].into_iter().for_each(|id| world.crash(id, 0));
    forget_leader(&mut world);
    assert_eq!(world.raft(3).deadline(), Time::NEVER);
    assert_eq!(plan(&world).map(|reset| reset.last), Ok(world.raft(3).status().last));
    assert_eq!(world.reset(3, &voters(&[3])), Ok(0));
    assert_eq!(elected(&mut world), 3);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut world = led(3);
    [2, 3].into_iter().for_each(|id| world.crash(id, 0));
    forget_leader(&mut world);
    let learner = voters(&[2]).with_learners(&[NodeId(1)]);
    let joint = Configuration::new(&[NodeId(1)], &[NodeId(2)]);
    for members in [voters(&[2]), voters(&[0, 1]), learner, joint, Configuration::default()] {
        let refused = world.reset(1, &members);
        assert!(matches!(refused, Err(ResetRefused::Impossible(_))), "{members:?}: {refused:?}");
    }
    assert_eq!(Era::of(world.raft(1).term()), Era::default());
}

/// Who has not got the new era's first entry does not campaign, whatever it has.
#[test]
fn only_who_has_the_first_entry_is_elected() {
    let mut world = led(5);
    [1, 4, 5].into_iter().for_each(|id| world.crash(id, 0));
    forget_leader(&mut world);
    assert_eq!(world.reset(2, &voters(&[2, 3])), Ok(0));
    // n3 does not know of it yet.
    world.timeout(3);
    world.settle();
    assert!(world.raft(3).is_superseded(), "it heard of it from n2");
    assert_eq!(world.raft(3).deadline(), Time::NEVER);
    assert_eq!(elected(&mut world), 2);
    pass(&mut world, 3);
    assert!(!world.raft(3).is_superseded());
    assert_eq!(world.raft(3).configuration(), &voters(&[2, 3]));
    assert_ne!(world.raft(3).deadline(), Time::NEVER, "it has a vote and may lead");
    world.transfer(2, Some(3));
    world.settle();
    assert_eq!(world.leaders(), [3]);
}

/// However it came to be asked for.
#[test]
fn a_vote_is_given_only_to_who_has_the_first_entry() {
    let mut world = led(5);
    [1, 5].into_iter().for_each(|id| world.crash(id, 0));
    forget_leader(&mut world);
    world.links.clear();
    let last = world.raft(3).status().last;
    world.reset(2, &voters(&[2, 3])).expect("nobody leads");
    let next = world.raft(2).term().next();
    for message in [
        Message::PreVoteRequest { term: next, last },
        Message::VoteRequest { term: next, last, handover: false },
        Message::VoteRequest { term: next, last, handover: true },
    ] {
        world.arrive(4, 3, message);
        world.durable(3, usize::MAX);
        let answers: Vec<_> = world.links.remove(&(3, 4)).into_iter().flatten().collect();
        let refuses = |answer: &Message| {
            matches!(
                answer,
                Message::PreVoteResponse { granted: false, .. }
                    | Message::VoteResponse { granted: false, .. }
            )
        };
        assert!(!answers.is_empty() && answers.iter().all(refuses), "{answers:?}");
    }
    assert_eq!((world.raft(3).term(), world.raft(3).status().voted_for), (next, None));
    assert_eq!(elected(&mut world), 2);
}

/// n1 is left behind, n2 and n3 commit more, and are lost: what only they had is lost, although it
/// was acknowledged. Then they come back.
fn comes_back(restarted: bool) -> World {
    let mut world = led(3);
    world.isolate(1);
    forget_leader(&mut world);
    let leader = elected(&mut world);
    world.propose_next(leader, 4);
    world.settle();
    pass(&mut world, 3);
    let lost = world.raft(leader).status();
    assert_eq!(lost.commit, lost.last.index);
    if restarted {
        [2, 3].into_iter().for_each(|id| world.crash(id, 0));
    } else {
        world.cut(2, 3);
        world.cut(3, 2);
    }
    assert_eq!(world.reset(1, &voters(&[1])), Ok(5), "four, and the beginning of their term");
    assert_eq!(elected_here(&mut world), 1);
    world.propose_next(1, 1);
    world.settle();
    [2, 3].into_iter().for_each(|id| world.restart(id));
    world.heal();
    world
}

/// n1's own, whoever else leads among the others.
fn elected_here(world: &mut World) -> u64 {
    for _ in 0..100 {
        if world.raft(1).is_leader() {
            return 1;
        }
        world.timeout(1);
        world.settle();
    }
    panic!("it does not lead");
}

#[test]
fn lost_ones_that_come_back_elect_no_rival() {
    for restarted in [false, true] {
        let mut world = comes_back(restarted);
        pass(&mut world, 100);
        assert_eq!(world.leaders(), [1]);
        for id in [2, 3] {
            assert!(world.raft(id).is_superseded(), "n{id}");
            assert_eq!(world.raft(id).deadline(), Time::NEVER, "n{id} does not campaign");
        }
        world.propose_next(1, 1);
        world.settle();
        assert_eq!(world.raft(1).status().commit, last(&world, 1));
    }
}

/// After a restart it knows nothing committed that contradicts the leader's log, and takes that.
#[test]
fn a_lost_one_that_restarts_may_be_added_again() {
    let mut world = comes_back(true);
    pass(&mut world, 10);
    let both = MembershipChange::default().voter(NodeId(2)).voter(NodeId(3));
    world.change(1, &both).expect("it begins");
    pass(&mut world, 100);
    assert_eq!(world.raft(1).configuration(), &voters(&[1, 2, 3]));
    for id in [2, 3] {
        assert!(!world.raft(id).is_superseded(), "n{id}");
        assert_eq!(world.raft(id).status().last, world.raft(1).status().last, "n{id}");
    }
    world.checker.check_all(&world.nodes);
}

/// What it applied can't be taken back: it refuses the leader's log, for good.
#[test]
fn a_lost_one_that_knows_more_committed_refuses_the_new_history() {
    let mut world = comes_back(false);
    pass(&mut world, 10);
    let before = world.raft(2).status();
    assert!(before.commit > world.raft(1).configuration_at(LogIndex(u64::MAX)).0);
    world.change(1, &MembershipChange::default().voter(NodeId(2))).expect("it begins");
    pass(&mut world, 200);
    assert_eq!(world.raft(1).configuration(), &voters(&[1]), "it was given up");
    assert!(world.raft(2).is_superseded());
    assert_eq!(world.raft(2).status().last, before.last, "it keeps what it has");
    // By then the leader's log is longer than its own.
    world.propose_next(1, 10);
    world.settle();
    assert!(last(&world, 1) > before.last.index);
    let _ = world.change(1, &MembershipChange::default().learner(NodeId(2)));
    pass(&mut world, 50);
    assert!(world.raft(2).is_superseded());
    assert_eq!(world.raft(2).status().commit, before.commit);
}

/// The same for one whose log begins after the place where the histories part: of what it has
/// released it can't compare anything.
#[test]
fn a_released_log_is_not_taken_for_the_leaders() {
    let mut world = comes_back(false);
    let released = world.raft(2).status().commit;
    world.call(2, |raft, _, out| raft.compact(released, out));
    world.durable(2, usize::MAX);
    let _ = world.change(1, &MembershipChange::default().learner(NodeId(2)));
    pass(&mut world, 50);
    assert!(world.raft(2).is_superseded());
    assert_eq!(world.raft(2).status().commit, released);
    let peer = world.raft(1).peers().find(|peer| peer.id == NodeId(2)).expect("it is a learner");
    assert_eq!(peer.match_index, LogIndex(0), "nothing of it is known to agree");
}

/// What a member of the new era has released of the old one is its leader's too: what says so, late,
/// is no contradiction.
#[test]
fn a_late_request_for_what_was_released_is_answered() {
    let mut world = led(3);
    let old = world.raft(2).status().last;
    [3].into_iter().for_each(|id| world.crash(id, 0));
    world.crash(1, 0);
    forget_leader(&mut world);
    world.restart(1);
    world.links.clear();
    world.reset(2, &voters(&[1, 2])).expect("nobody leads");
    assert_eq!(elected(&mut world), 2);
    world.propose_next(2, 1);
    pass(&mut world, 3);
    world.call(1, |raft, _, out| raft.compact(old.index, out));
    world.durable(1, usize::MAX);
    let prev = LogPosition { index: LogIndex(old.index.0 - 1), term: old.term };
    let (term, commit) = (world.raft(2).term(), old.index);
    world.arrive(2, 1, Message::AppendRequest { term, prev, commit, blocks: Blocks::None });
    assert_eq!(world.raft(1).status().ignored, 0);
    assert!(world.links[&(1, 2)].iter().any(|answer| matches!(
        answer,
        Message::AppendResponse { outcome: AppendOutcome::Matched { .. }, .. }
    )));
}

/// Reset apart from each other, of the two histories one ends where they meet.
#[test]
fn two_resets_end_as_one() {
    let mut world = led(3);
    [1, 2, 3].into_iter().for_each(|id| world.isolate(id));
    forget_leader(&mut world);
    world.reset(1, &voters(&[1, 2])).expect("nobody leads");
    let first = Era::of(world.raft(1).term());
    world.reset(2, &voters(&[1, 2])).expect("nobody leads");
    assert!(world.checker.era > first, "the higher node's");
    world.heal();
    let leader = elected(&mut world);
    assert_eq!(leader, 2);
    pass(&mut world, 10);
    assert_eq!(world.raft(1).status().last, world.raft(2).status().last);
    // And a later one is above both.
    [2, 3].into_iter().for_each(|id| world.crash(id, 0));
    forget_leader(&mut world);
    world.reset(1, &voters(&[1])).expect("nobody leads");
    assert_eq!(Era::of(world.raft(1).term()).resets(), 2);
    assert_eq!(elected(&mut world), 1);
}

/// It was asked for and is not durable when the node fails: nothing of it happened.
#[test]
fn a_crash_before_it_is_durable_undoes_it() {
    let mut world = led(3);
    [2, 3].into_iter().for_each(|id| world.crash(id, 0));
    forget_leader(&mut world);
    world.durable(1, usize::MAX);
    let before = world.raft(1).status();
    world.call(1, |raft, now, out| {
        raft.reset(now, &voters(&[1]), out).expect("nobody leads");
    });
    assert_eq!(world.raft(1).configuration(), &voters(&[1]));
    world.crash(1, 0);
    world.restart(1);
    assert_eq!(world.raft(1).configuration(), &voters(&[1, 2, 3]));
    assert_eq!(world.raft(1).status().last, before.last);
    [2, 3].into_iter().for_each(|id| world.restart(id));
    elected(&mut world);
}

/// Of a reset that a crash tears, only the term is durable: the entry was in a later write.
fn torn() -> World {
    let mut world = led(3);
    [2, 3].into_iter().for_each(|id| world.crash(id, 0));
    forget_leader(&mut world);
    world.durable(1, usize::MAX);
    let before = world.raft(1).status();
    world.call(1, |raft, now, out| {
        raft.reset(now, &voters(&[1]), out).expect("nobody leads");
    });
    world.crash_within(1, 1);
    world.restart(1);
    let after = world.raft(1).status();
    assert_eq!((Era::of(after.term).resets(), after.last), (1, before.last), "torn");
    assert_eq!(world.raft(1).configuration(), &voters(&[1, 2, 3]));
    world
}

/// Nobody was told that it is done, and the node waits to be reset again.
#[test]
fn a_reset_that_a_crash_tears_is_done_again() {
    let mut world = torn();
    assert!(world.raft(1).is_superseded(), "it has no entry of its era");
    assert_eq!(world.raft(1).deadline(), Time::NEVER, "it does not campaign");
    let last = last(&world, 1);
    let planned = world.raft(1).plan_reset(world.now, &voters(&[1])).expect("nobody leads");
    assert_eq!((planned.last.index, Era::of(planned.at.term).resets()), (last, 2));
    assert_eq!(world.reset(1, &voters(&[1])), Ok(0));
    assert_eq!(elected(&mut world), 1);
    assert!(!world.raft(1).is_superseded());
    assert_eq!(world.raft(1).configuration(), &voters(&[1]));
    world.propose_next(1, 1);
    world.settle();
    assert_eq!(world.raft(1).status().commit, world.raft(1).status().last.index);
}

/// It leads nobody, and is no help to those who were lost and come back: the term that it spreads
/// stops them, until it is done again.
#[test]
fn lost_ones_that_meet_a_torn_reset_elect_nobody_without_its_entry() {
    let mut world = torn();
    [2, 3].into_iter().for_each(|id| world.restart(id));
    pass(&mut world, 100);
    let era = Era::of(world.raft(1).term());
    assert_eq!(world.leaders(), [0; 0]);
    for id in [2, 3] {
        assert_eq!(Era::of(world.raft(id).term()), era);
        assert!(world.raft(id).is_superseded(), "n{id}");
    }
    forget_leader(&mut world);
    assert_eq!(world.reset(1, &voters(&[1, 2, 3])), Ok(0));
    assert_eq!(elected(&mut world), 1);
    pass(&mut world, 10);
    world.checker.check_all(&world.nodes);
    for id in [2, 3] {
        assert!(!world.raft(id).is_superseded(), "n{id}");
        assert_eq!(world.raft(id).status().last, world.raft(1).status().last, "n{id}");
    }
}

/// n1 has what n2 went on with and has released it, before it hears of the new era: n2, which asks where
/// the two logs agree, is told where n1's begins.
#[test]
fn who_has_released_all_that_is_asked_for_says_where_its_log_begins() {
    let mut world = led(3);
    let old = world.raft(1).status().last;
    world.call(1, |raft, _, out| raft.compact(old.index, out));
    world.durable(1, usize::MAX);
    [1, 3].into_iter().for_each(|id| world.crash(id, 0));
    forget_leader(&mut world);
    world.reset(2, &voters(&[2])).expect("nobody leads");
    assert_eq!(elected(&mut world), 2);
    world.propose_next(2, 2);
    world.settle();
    world.change(2, &MembershipChange::default().learner(NodeId(1))).expect("it begins");
    world.settle();
    let (term, last) = (world.raft(2).term(), world.raft(2).status().last);
    let at = LogPosition { index: LogIndex(2), term: world.term_at(2, 2).expect("it has it") };
    let answer = |prev_index, hint| Message::AppendResponse {
        term,
        outcome: AppendOutcome::Conflict { prev_index, hint },
    };
    // Before n1 failed it had no more than that.
    let asked = world.raft(2).peers().find(|peer| peer.id == NodeId(1)).expect("a learner");
    world.arrive(1, 2, answer(LogIndex(asked.next_index.0 - 1), at));
    world.restart(1);
    assert!(last.index > old.index);
    pass(&mut world, 10);
    assert!(!world.raft(1).is_superseded());
    assert_eq!(world.raft(1).status().last, world.raft(2).status().last);
    world.checker.check_all(&world.nodes);
}
