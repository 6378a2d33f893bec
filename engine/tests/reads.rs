//! Linearizable reads on real nodes: real logs, real connections on loopback, leaders that go.

mod nodes;
mod wire;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use nodes::{GROUP, addresses, eventually, leads, settle};
use ringleader::{
    Consistency, Engine, EngineConfig, Entries, GroupId, Handle, PushError, ReadError, Replies,
    StateMachine,
};
use wire::Wires;

thread_local! {
    /// What a task on the shard's core shares with the state machine.
    static SHARED: Rc<Cell<u64>> = Rc::default();
}

/// Counts operations.
struct Counter {
    value: u64,
    shared: Rc<Cell<u64>>,
}

impl StateMachine for Counter {
    fn apply(&mut self, entries: &Entries<'_>, replies: &mut Replies) {
        entries.iter().for_each(|entry| {
            self.value += 1;
            replies.push(entry.index, &self.value.to_le_bytes());
        });
        self.shared.set(self.value);
    }
}

/// Leases allow for clocks that drift.
fn config(addresses: &[SocketAddr], node: u64, dir: &Path) -> EngineConfig {
    let mut config = nodes::config(addresses, node, 1, dir);
    config.raft.lease_reads = Some(Duration::from_millis(30));
    config
}

fn start(config: EngineConfig) -> Engine {
    let machine = |_| -> Box<dyn StateMachine> {
        Box::new(Counter { value: 0, shared: SHARED.with(Rc::clone) })
    };
    Engine::start(config, machine).expect("the node starts")
}

fn cluster(dir: &Path) -> Vec<Engine> {
    let addresses = addresses(3);
    (1..=3).map(|node| start(config(&addresses, node, dir))).collect()
}

fn leader(handles: &[Handle]) -> usize {
    eventually("a leader", || handles.iter().position(|handle| leads(handle, GROUP)))
}

/// Adds one through whoever leads.
fn add(handles: &[Handle]) {
    eventually("an operation to be applied", || {
        block_on(handles[leader(handles)].propose(GROUP, b"+")).ok()
    });
}

fn read(handle: &Handle, how: Consistency) -> Result<u64, ReadError> {
    block_on(handle.read(GROUP, how, |counter: &Counter| counter.value))
}

fn eventually_read(handle: &Handle, how: Consistency) -> u64 {
    eventually("a read", || read(handle, how).ok())
}

/// Tells everybody that the test has ended, however it did.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

const HOW: [Consistency; 2] = [Consistency::Linearizable, Consistency::Lease];

#[test]
fn reads_on_all_nodes_see_what_was_answered_before_and_a_leader_that_goes_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut engines = cluster(dir.path());
    let handles: Vec<Handle> = engines.iter().map(Engine::handle).collect();
    let (answered, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let served = thread::scope(|scope| {
        let reader = |handle: &Handle| {
            let (mut served, mut last) = (0, 0);
            while !done.load(Ordering::SeqCst) {
                let before = answered.load(Ordering::SeqCst).max(last);
                match read(handle, HOW[served % 2]) {
                    Ok(value) => {
                        assert!(value >= before, "read {value} after {before} had been seen");
                        (served, last) = (served + 1, value);
                    }
                    Err(ReadError::Stopped) => break,
                    Err(_) => thread::yield_now(),
                }
            }
            served
        };
        let ends = Ends(&done);
        let readers: Vec<_> =
            handles.iter().map(|handle| scope.spawn(move || reader(handle))).collect();
        for round in 0..150 {
            if round == 75 {
                drop(engines.remove(leader(&handles)));
            }
            add(&handles);
            answered.fetch_add(1, Ordering::SeqCst);
        }
        drop(ends);
        readers.into_iter().map(|reader| reader.join().expect("no read was stale")).min()
    });
    assert!(served.is_some_and(|served| served > 0), "everybody reads");
}

#[test]
fn a_leader_that_is_cut_off_serves_nothing_old() {
    let dir = tempfile::tempdir().expect("a directory");
    let real = addresses(3);
    let wires = Wires::between(&real);
    let reached = |node: u64| -> Vec<SocketAddr> {
        let others = (1..=3).zip(&real);
        others.map(|(to, own)| if to == node { *own } else { wires.end(node, to) }).collect()
    };
    let engines: Vec<Engine> =
        (1..=3).map(|node| start(config(&reached(node), node, dir.path()))).collect();
    let handles: Vec<Handle> = engines.iter().map(Engine::handle).collect();
    for round in 1..=3_u64 {
        add(&handles);
        let old = leader(&handles);
        assert_eq!(eventually_read(&handles[old], Consistency::Lease), 2 * round - 1);
        wires.cut_off(old as u64 + 1);
        let others: Vec<Handle> =
            (0..3).filter(|at| *at != old).map(|at| handles[at].clone()).collect();
        add(&others);
        // Whatever it still believes, it has no quorum.
        for how in HOW {
            let value = read(&handles[old], how);
            assert!(value.is_err(), "the old leader served {value:?}");
            assert_eq!(eventually_read(&others[0], how), 2 * round);
            assert_eq!(eventually_read(&others[1], how), 2 * round);
        }
        wires.mend();
        HOW.iter().for_each(|how| assert_eq!(eventually_read(&handles[old], *how), 2 * round));
    }
}

/// A member asks its leader, and waits no longer than it may.
#[test]
fn a_read_that_the_leader_does_not_answer_ends_in_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let real = addresses(3);
    let wires = Wires::between(&real);
    let start = |node: u64| {
        let others = (1..=3).zip(&real);
        let reached: Vec<SocketAddr> =
            others.map(|(to, own)| if to == node { *own } else { wires.end(node, to) }).collect();
        let mut config = config(&reached, node, dir.path());
        // Nobody gives its leader up before the read ends.
        config.raft.election_timeout = Duration::from_secs(4);
        config.limits.read_timeout = Duration::from_millis(100);
        start(config)
    };
    let engines: Vec<Engine> = (1..=3).map(start).collect();
    let handles: Vec<Handle> = engines.iter().map(Engine::handle).collect();
    add(&handles);
    let follower = (leader(&handles) + 1) % 3;
    assert_eq!(eventually_read(&handles[follower], HOW[0]), 1);
    wires.cut_off(follower as u64 + 1);
    assert_eq!(read(&handles[follower], HOW[0]), Err(ReadError::TimedOut));
    wires.mend();
    assert_eq!(eventually_read(&handles[follower], HOW[0]), 1);
}

#[test]
fn reads_write_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let engines = cluster(dir.path());
    let handles: Vec<Handle> = engines.iter().map(Engine::handle).collect();
    add(&handles);
    handles.iter().for_each(|handle| assert_eq!(eventually_read(handle, HOW[0]), 1));
    settle(&handles, GROUP);
    let status = |handle: &Handle| block_on(handle.status(GROUP)).expect("the group is here");
    let before: Vec<_> = handles.iter().map(status).collect();
    for (handle, how) in handles.iter().flat_map(|handle| HOW.map(|how| (handle, how))) {
        for _ in 0..100 {
            assert_eq!(eventually_read(handle, how), 1);
        }
        let index = block_on(handle.read_index(GROUP, how)).expect("it is served");
        assert!(index <= before[0].last.index);
    }
    for (handle, before) in handles.iter().zip(before) {
        let now = status(handle);
        assert_eq!((now.term, now.last, now.applied), (before.term, before.last, before.applied));
    }
}

#[test]
fn a_task_on_the_core_reads_what_it_shares_with_the_state_machine() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = start(config(&addresses(1), 1, dir.path()));
    let handle = engine.handle();
    let (report, outcome) = flume::bounded(1);
    add(std::slice::from_ref(&handle));
    let task = move |local: ringleader::Local| async move {
        let shared = SHARED.with(Rc::clone);
        let mut queue = local.queue(4);
        for round in 0..100_u64 {
            for name in 0..3 {
                queue.push_read(GROUP, HOW[name as usize % 2], name).expect("there is room");
            }
            queue.push(GROUP, 3, b"+").expect("there is room");
            assert_eq!(queue.push_read(GROUP, HOW[0], 4), Err(PushError::Full));
            assert_eq!(queue.submit(), Ok(4));
            let mut seen = Vec::new();
            while queue.outstanding() > 0 {
                assert!(queue.ready().await, "the engine runs");
                queue.drain(|completion| assert!(completion.result.is_ok()));
                queue.drain_reads(|completion| {
                    assert!(completion.result.is_ok(), "{completion:?}");
                    assert!(shared.get() > round, "what was answered before is seen");
                    seen.push(completion.user_data);
                });
            }
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2]);
        }
        report.send(()).expect("the test waits");
    };
    handle.spawn_on(0, task).expect("the engine runs");
    assert_eq!(outcome.recv_timeout(Duration::from_secs(30)), Ok(()));
}

#[test]
fn what_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(3);
    // Alone, one of three knows no leader.
    let engine = start(config(&addresses, 1, dir.path()));
    let handle = engine.handle();
    assert_eq!(read(&handle, HOW[0]), Err(ReadError::NoLeader));
    let nowhere = block_on(handle.read(GroupId(9), HOW[0], |_: &Counter| ()));
    assert_eq!(nowhere, Err(ReadError::UnknownGroup(GroupId(9))));
    let others = [2, 3].map(|node| start(config(&addresses, node, dir.path())));
    struct Other;
    impl StateMachine for Other {
        fn apply(&mut self, _: &Entries<'_>, _: &mut Replies) {}
    }
    let wrong = eventually("a read to be served", || {
        match block_on(handle.read(GROUP, HOW[0], |_: &Other| ())) {
            Err(ReadError::NoLeader | ReadError::LeaderChanged { .. }) => None,
            other => Some(other),
        }
    });
    assert_eq!(wrong, Err(ReadError::WrongType(GROUP)));
    drop(others);
    // Whoever leads or follows finds out that it is alone, and no read hangs.
    eventually("reads to be refused", || {
        read(&handle, HOW[0]).is_err_and(|error| error == ReadError::NoLeader).then_some(())
    });
    engine.shutdown();
    assert_eq!(read(&handle, HOW[0]), Err(ReadError::Stopped));
}
