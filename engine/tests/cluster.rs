//! Whole nodes in one process: real logs on disk, real connections on loopback.

mod nodes;

use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use nodes::{addresses, config, eventually, leader};
use ringleader::{
    Engine, EngineConfig, Entries, GroupId, Handle, NodeId, ProposeError, Replies, RoleName,
    StartError, StateMachine, SyncMode,
};

/// Keeps every payload, and answers each with the number of those before it.
#[derive(Default)]
struct Journal {
    entries: Vec<Vec<u8>>,
}

impl StateMachine for Journal {
    fn apply(&mut self, entries: &Entries<'_>, replies: &mut Replies) {
        entries.iter().for_each(|entry| {
            replies.push(entry.index, &(self.entries.len() as u64).to_le_bytes());
            self.entries.push(entry.payload.to_vec());
        });
    }
}

fn start(config: EngineConfig) -> Engine {
    Engine::start(config, |_| Box::new(Journal::default())).expect("the node starts")
}

fn journal(engine: &Engine, group: GroupId) -> Vec<Vec<u8>> {
    block_on(engine.handle().inspect(group, |journal: &mut Journal| journal.entries.clone()))
        .expect("the group is here")
}

fn propose(handle: &Handle, group: GroupId, payload: &[u8]) -> u64 {
    eventually("the proposal to be applied", || match block_on(handle.propose(group, payload)) {
        Ok(done) => Some(u64::from_le_bytes(done.reply[..].try_into().expect("eight bytes"))),
        Err(ProposeError::Busy) => None,
        Err(error) => panic!("{error}"),
    })
}

#[test]
fn proposals_reach_every_replica_and_survive_a_restart_of_all() {
    for sync in [SyncMode::DurableWrites, SyncMode::CoalescedSync] {
        let dir = tempfile::tempdir().expect("a directory");
        let addresses = addresses(3);
        let group = GroupId(1);
        let boot = || -> Vec<Engine> {
            let configs = (1..=3).map(|node| config(&addresses, node, 1, dir.path()));
            configs
                .map(|mut config| {
                    config.wal.sync = sync;
                    start(config)
                })
                .collect()
        };
        let engines = boot();
        let handle = leader(&engines, group);
        let payloads: Vec<Vec<u8>> = (0..200_u32).map(|i| i.to_le_bytes().repeat(10)).collect();
        for (count, payload) in payloads.iter().enumerate() {
            assert_eq!(propose(&handle, group, payload), count as u64);
        }
        for engine in &engines {
            eventually("every replica to apply", || {
                (journal(engine, group) == payloads).then_some(())
            });
        }
        engines.into_iter().for_each(Engine::shutdown);

        let engines = boot();
        let handle = leader(&engines, group);
        assert_eq!(propose(&handle, group, b"after"), 200);
        for engine in &engines {
            eventually("every replica to replay", || {
                (journal(engine, group).len() == 201).then_some(())
            });
            assert_eq!(journal(engine, group)[..200], payloads);
        }
    }
}

#[test]
fn a_queue_keeps_the_order_of_pushes_and_says_when_it_is_full() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(1);
    let engines = [start(config(&addresses, 1, 2, dir.path()))];
    let handle = leader(&engines, GroupId(1));
    leader(&engines, GroupId(2));
    let mut queue = handle.queue(0, 1000);
    for number in 0..1000_u64 {
        let group = GroupId(1 + number % 2);
        queue.push(group, number, &number.to_le_bytes()).expect("there is room");
    }
    assert_eq!(queue.push(GroupId(1), 0, b"").unwrap_err().to_string(), "the queue is full");
    assert_eq!(queue.submit(), Ok(1000));
    let mut completed = Vec::new();
    while queue.outstanding() > 0 {
        assert!(queue.wait(Duration::from_secs(20)), "completions come");
        queue.drain(|completion| {
            completion.result.as_ref().expect("applied");
            completed.push(completion.user_data);
        });
    }
    let odd = |numbers: &[u64]| numbers.iter().copied().filter(|n| n % 2 == 1).collect::<Vec<_>>();
    assert_eq!(odd(&completed), (0..1000).filter(|n| n % 2 == 1).collect::<Vec<_>>());
    completed.sort_unstable();
    assert_eq!(completed, (0..1000).collect::<Vec<_>>());
    let expected: Vec<Vec<u8>> =
        (0..1000_u64).filter(|n| n % 2 == 0).map(|n| n.to_le_bytes().to_vec()).collect();
    assert_eq!(journal(&engines[0], GroupId(1)), expected);
}

#[test]
fn when_a_leader_goes_another_takes_over_and_the_first_catches_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let group = GroupId(1);
    let mut engines: Vec<Engine> =
        (1..=3).map(|node| start(config(&addresses, node, 1, dir.path()))).collect();
    let first = leader(&engines, group);
    propose(&first, group, b"one");
    let node = block_on(first.status(group)).expect("the group is here").leader.expect("itself");
    let gone = engines.remove(node.0 as usize - 1);
    gone.shutdown();
    assert_eq!(block_on(first.propose(group, b"never")), Err(ProposeError::Stopped));
    let second = leader(&engines, group);
    assert_eq!(propose(&second, group, b"two"), 1);
    engines.push(start(config(&addresses, node.0, 1, dir.path())));
    let expected = [b"one".to_vec(), b"two".to_vec()];
    eventually("the first to catch up", || (journal(&engines[2], group) == expected).then_some(()));
}

#[test]
fn a_follower_says_who_leads_and_a_group_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let group = GroupId(1);
    let engines: Vec<Engine> =
        (1..=3).map(|node| start(config(&addresses, node, 1, dir.path()))).collect();
    let leads = block_on(leader(&engines, group).status(group)).expect("here").leader;
    let follower = eventually("a follower that knows its leader", || {
        engines.iter().map(Engine::handle).find(|handle| {
            let status = block_on(handle.status(group)).expect("here");
            status.role == RoleName::Follower && status.leader == leads
        })
    });
    let refused = block_on(follower.propose(group, b"x"));
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: leads }));
    let unknown = block_on(follower.propose(GroupId(99), b"x"));
    assert_eq!(unknown, Err(ProposeError::UnknownGroup(GroupId(99))));
    let large = vec![0; (1 << 20) + 1];
    assert!(matches!(
        block_on(follower.propose(group, &large)),
        Err(ProposeError::TooLarge { max: 1_048_576, .. })
    ));
}

#[test]
fn what_cannot_start_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(1);
    let good = || config(&addresses, 1, 1, dir.path());
    let fails = |config: EngineConfig| {
        Engine::start(config, |_| Box::new(Journal::default())).err().expect("it must not start")
    };
    let running = start(good());
    let message = fails(good()).to_string();
    assert!(message.contains("another process is using it"), "{message}");
    let mut elsewhere = good();
    elsewhere.data_dir = dir.path().join("elsewhere");
    assert!(matches!(fails(elsewhere), StartError::Listen { .. }), "the address is taken");
    running.shutdown();

    let mut foreign = good();
    foreign.cluster = 8;
    let message = fails(foreign).to_string();
    assert!(message.contains("it belongs to another node"), "{message}");
    let mut full = good();
    full.data_dir = dir.path().join("full");
    std::fs::create_dir(&full.data_dir).expect("created");
    std::fs::write(full.data_dir.join("thesis.pdf"), b"").expect("written");
    let message = fails(full).to_string();
    assert!(message.contains("thesis.pdf"), "{message}");
    let mut file = good();
    file.data_dir = dir.path().join("full/thesis.pdf");
    assert!(matches!(fails(file), StartError::DataDir(_)));
    let mut nobody = good();
    nobody.node = NodeId(9);
    assert!(fails(nobody).to_string().contains("node 9 is not among the members"));
    let mut nowhere = good();
    nowhere.pin = Some(vec![100_000]);
    assert!(fails(nowhere).to_string().contains("pin names core 100000"));
    let mut forgotten = good();
    forgotten.groups.clear();
    let running = start(good());
    propose(&leader([&running], GroupId(1)), GroupId(1), b"x");
    running.shutdown();
    let message = fails(forgotten).to_string();
    assert!(message.contains("the log holds group 1"), "{message}");
}

#[test]
fn a_node_without_groups_starts_stops_and_starts_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(1);
    for _ in 0..2 {
        let engine = start(config(&addresses, 1, 0, dir.path()));
        let refused = block_on(engine.handle().propose(GroupId(1), b"x"));
        assert_eq!(refused, Err(ProposeError::UnknownGroup(GroupId(1))));
        let handle = engine.handle();
        engine.shutdown();
        assert!(block_on(handle.report()).is_err());
    }
}

#[test]
fn a_damaged_log_is_refused_with_the_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(1);
    let engine = start(config(&addresses, 1, 1, dir.path()));
    let handle = leader([&engine], GroupId(1));
    for number in 0..20_u64 {
        propose(&handle, GroupId(1), &number.to_le_bytes());
    }
    engine.shutdown();
    let segment = dir.path().join("node-1/shard-0/00000001.wal");
    let mut bytes = std::fs::read(&segment).expect("the first segment");
    // The first page is the segment's header; batches begin in the second.
    bytes[5 * 4096 + 100] ^= 1;
    std::fs::write(&segment, bytes).expect("written");
    let refused =
        Engine::start(config(&addresses, 1, 1, dir.path()), |_| Box::new(Journal::default()));
    let message = refused.err().expect("it must not start").to_string();
    assert!(message.contains("00000001.wal at offset 20480"), "{message}");
    assert!(message.ends_with(StartError::HEAL), "{message}");
}

/// Proposes one operation after the other, wherever they are taken, until told to stop: those that
/// were acknowledged, and the longest time without an acknowledgement.
fn write_until(
    stop: &std::sync::atomic::AtomicBool,
    handles: &[Handle],
    group: GroupId,
) -> (Vec<Vec<u8>>, Duration) {
    let (mut acknowledged, mut longest, mut last) = (Vec::new(), Duration::ZERO, Instant::now());
    let (mut number, mut at) = (0_u64, 0);
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let payload = number.to_le_bytes();
        match block_on(handles[at].propose(group, &payload)) {
            Ok(_) => {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                acknowledged.push(payload.to_vec());
                number += 1;
            }
            // It may be applied: another one follows.
            Err(ProposeError::Unknown(_)) => number += 1,
            Err(_) => at = (at + 1) % handles.len(),
        }
    }
    (acknowledged, longest)
}

#[test]
fn leaderships_move_under_load_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let group = GroupId(1);
    let engines: Vec<Engine> =
        (1..=3).map(|node| start(config(&addresses, node, 1, dir.path()))).collect();
    leader(&engines, group);
    let handles: Vec<Handle> = engines.iter().map(Engine::handle).collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (acknowledged, longest) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&stop, &handles, group));
        for _ in 0..6 {
            // Refused or not taken where this machine stood still: asked again.
            let moved = eventually("a transfer", || {
                let before = leader(&engines, group);
                block_on(before.transfer_leadership(group, None)).ok()
            });
            let after = &handles[moved.leader.0 as usize - 1];
            let status = block_on(after.status(group)).expect("the group is there");
            assert!(status.term >= moved.term);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().expect("the writer ends")
    });
    println!("{} acknowledged; the longest pause was {longest:?}", acknowledged.len());
    assert!(!acknowledged.is_empty());
    for engine in &engines {
        eventually("every replica to have what was acknowledged, once", || {
            let journal = journal(engine, group);
            let times = |payload| journal.iter().filter(|entry| *entry == payload).count();
            acknowledged.iter().all(|payload| times(payload) == 1).then_some(())
        });
    }
}

#[test]
fn a_node_that_stops_hands_its_groups_over_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    let group = GroupId(1);
    let start = |node| {
        let mut config = config(&addresses, node, 1, dir.path());
        // Nobody is elected by a timer before this test has failed.
        config.raft.election_timeout = Duration::from_secs(3);
        start(config)
    };
    let mut engines: Vec<Engine> = (1..=3).map(start).collect();
    let handle = leader(&engines, group);
    assert_eq!(propose(&handle, group, b"before"), 0);
    let at = engines.iter().position(|engine| {
        block_on(engine.handle().status(group)).is_ok_and(|s| s.role == RoleName::Leader)
    });
    let leader_engine = engines.remove(at.expect("one leads"));
    let began = Instant::now();
    leader_engine.shutdown();
    let handle = leader(&engines, group);
    assert_eq!(propose(&handle, group, b"after"), 1);
    let pause = began.elapsed();
    println!("the group was served again {pause:?} after its leader began to stop");
    assert!(pause < Duration::from_secs(3), "not by an election: {pause:?}");
}
