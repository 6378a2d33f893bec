//! Tasks on a shard's own core: what they propose, how they wait, and how they end.

mod nodes;

use std::cell::RefCell;
use std::future::poll_fn;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nodes::GROUP;
use ringleader::{
    Engine, Entries, GroupId, ProposeError, PushError, QueryError, Replies, StateMachine,
    SubmitError,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers each operation with its payload, backwards.
struct Mirror;

impl StateMachine for Mirror {
    fn apply(&mut self, entries: &Entries<'_>, replies: &mut Replies) {
        for entry in entries.iter() {
            let mirrored: Vec<u8> = entry.payload.iter().rev().copied().collect();
            replies.push(entry.index, &mirrored);
        }
    }
}

/// A node that is a cluster by itself, with one group on each of two shards.
fn single(dir: &Path) -> Engine {
    let mut config = nodes::config(&nodes::addresses(1), 1, 8, dir);
    config.members[0].shards = 2;
    Engine::start(config, |_| Box::new(Mirror)).expect("the node starts")
}

#[test]
fn a_task_on_the_core_proposes_in_order_and_gets_its_replies() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = single(dir.path());
    let handle = engine.handle();
    let shard = handle.shard_of(GROUP).expect("the group is here");
    let (report, outcome) = flume::bounded(1);
    let task = move |local: ringleader::Local| async move {
        assert_eq!(local.shard(), shard);
        let mut queue = local.queue(4);
        let mut seen = Vec::new();
        while seen.len() < 100 {
            while queue.push(GROUP, queue.outstanding() as u64, b"ab").is_ok() {}
            assert!(queue.submit().is_ok());
            assert!(queue.ready().await, "the engine runs");
            queue.drain(|completion| match completion.result {
                Ok(applied) => seen.push((applied.index, applied.reply.to_vec())),
                Err(ProposeError::NotLeader { .. }) => {}
                Err(error) => panic!("{error}"),
            });
        }
        report.send(seen).expect("the test waits");
    };
    handle.spawn_on(shard, task).expect("the engine runs");
    let seen = outcome.recv_timeout(PATIENCE).expect("in time");
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order: {seen:?}");
    assert!(seen.iter().all(|(_, reply)| reply == b"ba"));
    engine.shutdown();
}

#[test]
fn a_queue_on_the_core_takes_only_what_belongs_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = single(dir.path());
    let handle = engine.handle();
    let here = handle.shard_of(GROUP).expect("the group is here");
    let elsewhere = (1..=8)
        .map(GroupId)
        .find(|group| handle.shard_of(*group) != Some(here))
        .expect("eight groups on two shards");
    let (report, outcome) = flume::bounded(1);
    let task = move |local: ringleader::Local| async move {
        let mut queue = local.queue(1);
        let wrong = queue.push(elsewhere, 0, b"x");
        let first = queue.push(GROUP, 0, b"x");
        report.send((wrong, first, queue.push(GROUP, 1, b"x"))).expect("the test waits");
    };
    handle.spawn_on(here, task).expect("the engine runs");
    let (wrong, first, second) = outcome.recv_timeout(PATIENCE).expect("in time");
    assert_eq!(wrong, Err(PushError::WrongShard(elsewhere)));
    assert_eq!((first, second), (Ok(()), Err(PushError::Full)));
    engine.shutdown();
}

#[test]
fn tasks_share_a_queue_that_one_of_them_drains_and_end_with_the_engine() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = single(dir.path());
    let handle = engine.handle();
    let shard = handle.shard_of(GROUP).expect("the group is here");
    let (report, outcome) = flume::bounded(1);
    let (dropped, gone) = flume::bounded(1);
    let task = move |local: ringleader::Local| async move {
        let local = Rc::new(local);
        let queue = Rc::new(RefCell::new(local.queue(64)));
        let guest = (Rc::clone(&local), Rc::clone(&queue), Guard(dropped));
        local.spawn(async move {
            let (local, queue, _guard) = guest;
            loop {
                // It is waited for meanwhile.
                let _ = queue.borrow_mut().push(GROUP, 7, b"ab");
                assert!(queue.borrow_mut().submit().is_ok());
                local.sleep(Duration::from_millis(1)).await;
            }
        });
        let mut applied = 0;
        while applied < 10 {
            assert!(poll_fn(|cx| queue.borrow_mut().poll_ready(cx)).await, "the engine runs");
            queue.borrow_mut().drain(|completion| applied += u32::from(completion.result.is_ok()));
        }
        report.send(applied).expect("the test waits");
    };
    handle.spawn_on(shard, task).expect("the engine runs");
    assert!(outcome.recv_timeout(PATIENCE).expect("in time") >= 10);
    assert!(gone.is_empty(), "the task that brought it has ended, and it goes on");
    engine.shutdown();
    gone.recv_timeout(PATIENCE).expect("it is dropped");
}

#[test]
fn sleeping_on_the_core_takes_at_least_its_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = single(dir.path());
    let (report, outcome) = flume::bounded(1);
    let task = move |local: ringleader::Local| async move {
        let start = Instant::now();
        local.sleep(Duration::from_millis(20)).await;
        report.send(start.elapsed()).expect("the test waits");
    };
    engine.handle().spawn_on(0, task).expect("the engine runs");
    let slept = outcome.recv_timeout(PATIENCE).expect("in time");
    assert!(slept >= Duration::from_millis(20), "slept {slept:?}");
    engine.shutdown();
}

/// Says that it was dropped.
struct Guard(flume::Sender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.send(()).expect("the test waits");
    }
}

#[test]
fn a_task_is_dropped_when_the_engine_stops_and_none_starts_after() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = single(dir.path());
    let handle = engine.handle();
    let (dropped, gone) = flume::bounded(1);
    let (started, running) = flume::bounded(1);
    let task = move |local: ringleader::Local| async move {
        let _guard = Guard(dropped);
        let mut queue = local.queue(1);
        started.send(()).expect("the test waits");
        while queue.ready().await {}
        std::future::pending::<()>().await;
    };
    handle.spawn_on(1, task).expect("the engine runs");
    running.recv_timeout(PATIENCE).expect("it starts");
    let mut outside = handle.queue(1, 1);
    engine.shutdown();
    gone.recv_timeout(PATIENCE).expect("it is dropped");
    assert_eq!(handle.spawn_on(1, |_| async {}), Err(QueryError::Stopped));
    let group = (1..=8).map(GroupId).find(|group| handle.shard_of(*group) == Some(1));
    outside.push(group.expect("a group on shard 1"), 0, b"x").expect("there is room");
    assert_eq!(outside.submit(), Err(SubmitError::Stopped));
}
