//! Random histories of whole groups: losses, repetitions, reordering, partitions, crashes that lose
//! what was not durable, slow disks and full outboxes. After every call the invariants of
//! `harness::checker` hold; in the end the group heals, elects, and loses nothing.
//!
//! `SEED=17 cargo test --test random` replays one history; `SEEDS=5000` runs more of them.

mod harness;

use std::time::Duration;

use harness::disk::Disk;
use harness::{World, voters};
use ringleader::raft::era::Era;
use ringleader::raft::message::Blocks;
use ringleader::raft::{Message, RaftConfig};
use ringleader_wal::{LogIndex, NodeId};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        (!items.is_empty()).then(|| items[self.below(items.len())].clone())
    }
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Deliver,
    Drop,
    Repeat,
    Durable,
    Propose,
    Tick,
    Advance,
    Crash,
    Restart,
    Cut,
    Heal,
    Reconnect,
    Load,
    FailLoad,
    FullOutbox,
    Batch,
    Clip,
}

/// How often each action is taken; what is rare or missing differs from seed to seed.
fn weights(random: &mut Random) -> Vec<(Action, usize)> {
    use Action::*;
    let faults = [Drop, Repeat, Crash, Cut, Reconnect, FailLoad, FullOutbox, Batch, Clip];
    let mut weights = vec![
        (Deliver, 60),
        (Durable, 10 + random.below(30)),
        (Propose, 5 + random.below(20)),
        (Tick, 1 + random.below(4)),
        (Advance, 3),
        (Restart, 2),
        (Heal, 1),
        (Load, 5),
    ];
    weights.extend(faults.map(|fault| (fault, random.below(4))));
    weights
}

fn world(seed: u64, random: &mut Random) -> World {
    let small = |random: &mut Random, large| if random.chance(50) { 150 } else { large };
    let config = RaftConfig {
        max_inflight_messages: if random.chance(50) { 3 } else { 256 },
        max_inflight_bytes: small(random, 8 << 20),
        max_append_bytes: small(random, 512 << 10),
        cache_bytes: small(random, 8 << 20) - 150,
        pre_vote: random.chance(75),
        check_quorum: random.chance(75),
        ..RaftConfig::default()
    };
    let count = [1, 2, 3, 3, 3, 4, 5, 5][random.below(8)];
    World::new(config, vec![Disk::default(); count], seed)
}

/// Mostly in order, as on a connection; sometimes not.
fn some_message(world: &mut World, random: &mut Random) -> Option<(u64, u64, usize)> {
    let (from, to) = random.pick(&world.in_flight())?;
    let at = if random.chance(10) { random.below(world.links[&(from, to)].len()) } else { 0 };
    Some((from, to, at))
}

fn deliver(world: &mut World, random: &mut Random, action: Action) {
    let Some((from, to, at)) = some_message(world, random) else { return };
    match action {
        Action::Repeat => {
            let message = world.links[&(from, to)][at].clone();
            world.arrive(from, to, message);
        }
        _ => {
            let message = world.take(from, to, at).expect("it was found");
            if matches!(action, Action::Deliver) {
                world.arrive(from, to, message);
            }
        }
    }
}

/// A leader may cut its blocks elsewhere: the follower gets the first entries of one alone.
fn clip(world: &mut World, random: &mut Random) {
    let Some((from, to, at)) = some_message(world, random) else { return };
    let mut message = world.links[&(from, to)][at].clone();
    if let Message::AppendRequest { blocks, .. } = &mut message
        && let [block, ..] = blocks.as_slice()
        && block.count() > 1
    {
        let last = block.last_index().0 - 1 - random.below(block.count() as usize - 1) as u64;
        *blocks = Blocks::One(block.slice(block.first_index(), LogIndex(last)));
        world.arrive(from, to, message);
    }
}

fn fill_outbox(world: &mut World, random: &mut Random) {
    let Some((from, to)) = random.pick(&world.in_flight()) else { return };
    let link = world.links.get_mut(&(from, to)).expect("it was found");
    if matches!(link.back(), Some(Message::AppendRequest { .. })) {
        link.pop_back();
        world.call(from, |raft, _, _| raft.on_send_dropped(NodeId(to)));
    }
}

fn act(world: &mut World, random: &mut Random, action: Action) {
    let ids = world.ids();
    let id = random.pick(&ids).expect("there are members");
    let other = random.pick(&ids).expect("there are members");
    match action {
        Action::Deliver | Action::Drop | Action::Repeat => deliver(world, random, action),
        Action::Durable => {
            let count = if random.chance(50) { 1 } else { usize::MAX };
            world.durable(id, count);
        }
        Action::Propose => {
            if let Some(leader) = random.pick(&world.leaders()) {
                world.propose_next(leader, 1 + random.below(3) * random.below(3));
            }
        }
        Action::Tick if world.is_up(id) => world.timeout(id),
        Action::Tick => {}
        Action::Advance => world.advance(Duration::from_millis(random.below(300) as u64)),
        Action::Crash => {
            let kept = random.below(3);
            world.crash(id, kept);
        }
        Action::Restart if world.lost.contains(&id) => {}
        Action::Restart => world.restart(id),
        Action::Cut if random.chance(30) => world.isolate(id),
        Action::Cut => world.cut(id, other),
        Action::Heal => world.heal(),
        Action::Reconnect => {
            world.disconnect(id, other);
            world.connect(id, other);
        }
        Action::Load => {
            world.load(id);
        }
        Action::FailLoad => world.fail_load(id),
        Action::Clip => clip(world, random),
        Action::FullOutbox => fill_outbox(world, random),
        Action::Batch => {
            let node = world.nodes.get_mut(&id).expect("a member");
            node.batch_is_open = !node.batch_is_open;
        }
    }
}

/// Faults end: a leader is found within a few election timeouts, new entries commit, and all logs
/// become the leader's.
fn heal(world: &mut World) {
    world.heal();
    for id in world.ids() {
        world.restart(id);
    }
    world.settle();
    let mut committed = None;
    for _ in 0..400 {
        world.advance(Duration::from_millis(100));
        world.settle();
        if let [leader] = world.leaders()[..] {
            let status = world.raft(leader).status();
            match committed {
                None => {
                    world.propose_next(leader, 1);
                    committed = Some(world.raft(leader).status().last);
                    world.settle();
                }
                Some(_)
                    if world.ids().iter().all(|id| {
                        let other = world.raft(*id).status();
                        other.commit == status.last.index && other.last == status.last
                    }) =>
                {
                    return;
                }
                Some(last) if last.term != status.term => committed = None,
                Some(_) => {}
            }
        }
    }
    panic!("the group does not recover");
}

fn history(seed: u64, trace: bool) {
    let mut random = Random(seed);
    let mut world = world(seed, &mut random);
    world.trace = trace.then(String::new);
    let weights = weights(&mut random);
    steps(&mut world, &mut random, &weights, 1500);
    heal(&mut world);
    world.checker.check_all(&world.nodes);
}

fn steps(world: &mut World, random: &mut Random, weights: &[(Action, usize)], count: usize) {
    let total: usize = weights.iter().map(|weight| weight.1).sum();
    for step in 0..count {
        let mut at = random.below(total);
        let chosen = weights.iter().find(|(_, weight)| {
            let found = at < *weight;
            at = at.wrapping_sub(if found { 0 } else { *weight });
            found
        });
        act(world, random, chosen.expect("the weights add up").0);
        if step % 25 == 0 {
            world.checker.check_all(&world.nodes);
        }
    }
}

/// A majority is lost in the middle of it, and one that is left goes on with some of the others that
/// are. In some histories the lost ones come back.
fn history_with_a_reset(seed: u64, trace: bool) {
    let mut random = Random(seed);
    let mut world = world(seed, &mut random);
    world.trace = trace.then(String::new);
    let weights = weights(&mut random);
    steps(&mut world, &mut random, &weights, 100 + seed as usize % 800);
    let mut left = world.ids();
    let majority = left.len() / 2 + 1;
    if left.len() == 1 {
        return;
    }
    for _ in 0..majority {
        let lost = left.swap_remove(random.below(left.len()));
        world.crash(lost, random.below(3));
        world.lost.insert(lost);
    }
    if left.is_empty() {
        return;
    }
    left.iter().for_each(|id| world.restart(*id));
    // Until nobody believes any more that there is a leader.
    world.advance(RaftConfig::default().election_timeout * 3);
    let last = |id: &u64| {
        let last = world.raft(*id).status().last;
        (last.term, last.index)
    };
    let chosen = left.iter().copied().max_by_key(last).expect("somebody is left");
    let known: Vec<_> = left.iter().map(|id| world.raft(*id).status().commit.0).collect();
    let known = known.into_iter().max().unwrap_or(0) as usize;
    let mut members: Vec<u64> = left.into_iter().filter(|_| random.chance(70)).collect();
    members.push(chosen);
    world.reset(chosen, &voters(&members)).expect("there is no leader");
    let kept = world.checker.committed.len();
    assert!(kept >= known, "what those left know committed stays: {kept}, not {known}");

    let returns = random.chance(60);
    let before_they_return = random.below(300);
    steps(&mut world, &mut random, &weights, before_they_return);
    if returns {
        world.lost.clear();
    }
    steps(&mut world, &mut random, &weights, 500);
    if !returns {
        world.heal();
    }
    heal_after_reset(&mut world);
    world.checker.check_all(&world.nodes);
    assert!(world.checker.committed.len() > kept);
}

/// The new era has one leader, its members agree, and nobody leads any other.
fn heal_after_reset(world: &mut World) {
    world.heal();
    let ids: Vec<u64> = world.ids().into_iter().filter(|id| !world.lost.contains(id)).collect();
    ids.iter().for_each(|id| world.restart(*id));
    let mut proposed = None;
    for _ in 0..400 {
        world.advance(Duration::from_millis(100));
        world.settle();
        let [leader] = world.leaders()[..] else { continue };
        let status = world.raft(leader).status();
        if Era::of(status.term) != world.checker.era {
            continue;
        }
        if proposed != Some(status.term) {
            proposed = Some(status.term);
            world.propose_next(leader, 1);
            continue;
        }
        let members = world.raft(leader).configuration().clone();
        let agrees = |id: NodeId| {
            let other = world.raft(id.0).status();
            other.last == status.last && other.commit == status.last.index
        };
        let rivals = ids.iter().any(|id| {
            let raft = world.raft(*id);
            let knows = Era::of(raft.term()) == world.checker.era;
            !members.contains(NodeId(*id)) && raft.leader().is_some() && !knows
        });
        if members.members().all(agrees) && !rivals {
            return;
        }
    }
    panic!("the group does not recover");
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

fn histories(run: fn(u64, bool)) {
    if let Some(seed) = variable("SEED") {
        run(seed, true);
        return;
    }
    for seed in 0..variable("SEEDS").unwrap_or(300) {
        let result = std::panic::catch_unwind(|| run(seed, false));
        assert!(result.is_ok(), "SEED={seed} fails");
    }
}

#[test]
fn random_histories_are_safe_and_recover() {
    histories(history);
}

#[test]
fn histories_with_a_reset_keep_what_is_left_and_have_one_leader() {
    histories(history_with_a_reset);
}
