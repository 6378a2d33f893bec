//! A group whose followers are gone: its leader takes no more than its limit, says so, keeps its
//! memory bounded, and goes on when they are back. Real nodes on loopback.

mod nodes;

use std::pin::Pin;
use std::time::Duration;

use futures_lite::future::{self, block_on};
use nodes::GROUP;
use ringleader::{
    Consistency, Engine, Entries, GroupId, Handle, LogIndex, ProposeError, ProposeReply, ReadError,
    Replies, StateMachine,
};

const PAYLOAD: usize = 16 << 10;
/// Of the group; the shard's is sixteen times as high.
const LIMIT: usize = 1 << 20;
/// The weight of an operation beside its payload; see `Limits`.
const OVERHEAD: usize = 32;

#[derive(Default)]
struct Count(u64);

impl StateMachine for Count {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        self.0 += entries.iter().count() as u64;
    }
}

type Read = Pin<Box<dyn Future<Output = Result<LogIndex, ReadError>>>>;

async fn read_index(handle: Handle) -> Result<LogIndex, ReadError> {
    handle.read_index(GROUP, Consistency::Linearizable).await
}

type Outcome = Pin<Box<dyn Future<Output = Result<ProposeReply, ProposeError>>>>;

fn start(addresses: &[std::net::SocketAddr], node: u64, dir: &std::path::Path) -> Engine {
    let mut config = nodes::config(addresses, node, 2, dir);
    config.limits.group_bytes = LIMIT;
    config.limits.shard_bytes = 16 * LIMIT;
    config.limits.group_reads = 1;
    config.limits.read_timeout = Duration::from_secs(600);
    // The leader is to stay one: this is about what it takes, not about who leads.
    config.raft.check_quorum = false;
    config.handover = Duration::ZERO;
    Engine::start(config, |_| Box::new(Count::default())).expect("the node starts")
}

fn count(handle: &Handle) -> u64 {
    block_on(handle.inspect(GROUP, |count: &mut Count| count.0)).expect("the group is here")
}

/// Bytes of this group in flight on the node.
fn in_flight(handle: &Handle) -> usize {
    let report = block_on(handle.report()).expect("it runs");
    let group = report.groups.iter().find(|group| group.status.group == GROUP);
    group.expect("the group is here").queues.in_flight_bytes
}

#[test]
fn a_group_without_its_followers_takes_so_much_and_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = nodes::addresses(3);
    let mut engines: Vec<Option<Engine>> =
        (1..=3).map(|node| Some(start(&addresses, node, dir.path()))).collect();
    let handles: Vec<Handle> = engines.iter().flatten().map(Engine::handle).collect();
    let payload = vec![7; PAYLOAD];
    let leader = nodes::eventually("a leader that serves both groups", || {
        handles.iter().position(|handle| {
            [GROUP, GroupId(2)].iter().all(|group| {
                nodes::leads(handle, *group) && block_on(handle.propose(*group, &payload)).is_ok()
            }) || {
                // They need not have the same leader.
                let _ = block_on(handle.transfer_leadership(GroupId(2), None));
                false
            }
        })
    });
    let handle = handles[leader].clone();
    let before = count(&handle);
    for (at, engine) in engines.iter_mut().enumerate() {
        if at != leader {
            drop(engine.take());
        }
    }

    // Nothing is committed any more. What is taken is bounded by the limit, and beyond it the
    // answer comes at once.
    let mut busy = 0;
    let mut taken: Vec<Outcome> = Vec::new();
    for _ in 0..4 * LIMIT / PAYLOAD {
        let outcome = handle.try_propose(GROUP, &payload).expect("the shard has room");
        taken.push(Box::pin(outcome));
    }
    let full = nodes::eventually("the group to be full", || {
        let bytes = in_flight(&handle);
        (bytes > LIMIT - PAYLOAD - OVERHEAD).then_some(bytes)
    });
    assert!(full <= LIMIT, "{full}");
    nodes::eventually("the rest to be refused", || {
        taken.retain_mut(|outcome| match block_on(future::poll_once(outcome)) {
            None => true,
            Some(Err(ProposeError::Busy)) => {
                busy += 1;
                false
            }
            Some(other) => panic!("without followers: {other:?}"),
        });
        (taken.len() == LIMIT / (PAYLOAD + OVERHEAD)).then_some(())
    });
    assert_eq!(busy, 4 * LIMIT / PAYLOAD - taken.len());
    for _ in 0..100 {
        let refused = block_on(handle.propose(GROUP, &payload));
        assert_eq!(refused, Err(ProposeError::Busy));
    }
    assert_eq!(in_flight(&handle), full, "what is refused leaves nothing behind");
    // Reads wait for a quorum, as many as may; both kinds of overload are counted apart.
    let mut read: Read = Box::pin(read_index(handle.clone()));
    assert!(block_on(future::poll_once(&mut read)).is_none());
    assert_eq!(block_on(read_index(handle.clone())), Err(ReadError::Busy));
    let report = block_on(handle.report()).expect("it runs");
    let callers = report.shards[0].callers;
    assert_eq!((callers.refused_busy, callers.reads_busy), (busy as u64 + 100, 1));
    assert_eq!(callers.turned_away, 0, "the shard had room");
    let group = report.groups.iter().find(|group| group.status.group == GROUP);
    let queues = group.expect("the group is here").queues;
    assert!(queues.reads == 1 && queues.memory_bytes >= taken.len() * PAYLOAD, "{queues:?}");
    drop(read);
    // The other group has its own limit and is not kept from taking.
    let other = handle.try_propose(GroupId(2), &payload).expect("the shard has room");
    let mut other: Outcome = Box::pin(other);
    assert!(block_on(future::poll_once(&mut other)).is_none());

    // They are back: everything that was taken is applied, once, and there is room again.
    for node in 1..=3 {
        if node != leader as u64 + 1 {
            engines[node as usize - 1] = Some(start(&addresses, node, dir.path()));
        }
    }
    let done = taken.into_iter().map(block_on).filter(Result::is_ok).count() as u64;
    assert_eq!(
        done as usize,
        LIMIT / (PAYLOAD + OVERHEAD),
        "the leader stayed, so none is unknown"
    );
    assert!(block_on(other).is_ok());
    assert_eq!(count(&handle), before + done);
    assert!(block_on(handle.propose(GROUP, &payload)).is_ok());
    assert_eq!(in_flight(&handle), 0);
}

#[test]
fn peers_that_lag_cost_a_shard_so_much_and_no_more() {
    const GROUPS: u64 = 8;
    const CACHE: usize = 256 << 10;
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = nodes::addresses(3);
    let start = |node| {
        let mut config = nodes::config(&addresses, node, GROUPS, dir.path());
        config.limits.cache_bytes = CACHE;
        Engine::start(config, |_| Box::new(Count::default())).expect("the node starts")
    };
    let engines: Vec<Engine> = (1..=2).map(start).collect();
    let handles: Vec<Handle> = engines.iter().map(Engine::handle).collect();
    let payload = vec![7; PAYLOAD];
    let groups = || (1..=GROUPS).map(GroupId);
    // Each gets four times its part while the third node is away.
    for group in groups() {
        let mut left = 4 * CACHE / GROUPS as usize / PAYLOAD;
        nodes::eventually("operations of each group", || {
            for handle in handles.iter().filter(|handle| nodes::leads(handle, group)) {
                while left > 0 && block_on(handle.propose(group, &payload)).is_ok() {
                    left -= 1;
                }
            }
            (left == 0).then_some(())
        });
    }
    let held = |handle: &Handle| -> usize {
        let report = block_on(handle.report()).expect("it runs");
        report.groups.iter().map(|group| group.queues.memory_bytes).sum()
    };
    nodes::eventually("what is applied to leave the memory", || {
        let held: usize = handles.iter().map(held).sum();
        (held <= 2 * CACHE + GROUPS as usize * PAYLOAD).then_some(())
    });
    let third = start(3);
    let applied = |handle: &Handle, group| {
        block_on(handle.status(group)).map_or(0, |status| status.applied.0)
    };
    for group in groups() {
        let target = handles.iter().map(|handle| applied(handle, group)).max().unwrap_or(0);
        nodes::eventually("the third node to read up", || {
            (applied(&third.handle(), group) >= target).then_some(())
        });
    }
    engines.into_iter().chain([third]).for_each(Engine::shutdown);
}
