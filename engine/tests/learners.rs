//! A learner from its addition to its removal: real engines, real connections on loopback.

mod nodes;

use std::net::SocketAddr;
use std::path::Path;

use futures_lite::future::block_on;
use nodes::{GROUP, addresses, config, eventually, leader};
use ringleader::{
    Consistency, Engine, Entries, Handle, LogIndex, MembershipError, NodeId, ProposeError, Replies,
    RoleName, StateMachine,
};

const LEARNER: NodeId = NodeId(4);

/// Counts operations.
#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, entries: &Entries<'_>, _: &mut Replies) {
        self.0 += entries.len() as u64;
    }
}

/// The first three nodes found the group.
fn start(addresses: &[SocketAddr], node: u64, dir: &Path) -> Engine {
    let mut config = config(addresses, node, 1, dir);
    let founds = NodeId(node) != LEARNER;
    config.groups[0].voters.retain(|voter| founds && *voter != LEARNER);
    Engine::start(config, |_| Box::new(Counter::default())).expect("the node starts")
}

/// Adds one through whoever leads, whatever else goes on.
fn add(engines: &[Engine]) -> u64 {
    eventually("an operation to be applied", || {
        let handle = leader(engines, GROUP);
        block_on(handle.propose(GROUP, b"+")).ok()?;
        block_on(handle.inspect(GROUP, |counter: &mut Counter| counter.0)).ok()
    })
}

fn change(
    engines: &[Engine],
    ask: impl AsyncFn(&Handle) -> Result<LogIndex, MembershipError>,
) -> LogIndex {
    eventually("the members to change", || block_on(ask(&leader(engines, GROUP))).ok())
}

fn count(engine: &Engine) -> u64 {
    let handle = engine.handle();
    block_on(handle.inspect(GROUP, |counter: &mut Counter| counter.0)).expect("the group is here")
}

#[test]
fn a_learner_follows_reads_and_decides_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(4);
    let mut voters: Vec<Engine> = (1..=3).map(|node| start(&addresses, node, dir.path())).collect();
    let added = (0..10).map(|_| add(&voters)).max().expect("ten of them");
    assert!(added >= 10);

    // It is added before it runs: nobody waits for a learner.
    change(&voters, async |handle| handle.add_learner(GROUP, LEARNER).await);
    let learner = start(&addresses, LEARNER.0, dir.path());
    eventually("the learner to catch up", || (count(&learner) >= 10).then_some(()));

    // What was answered before is seen by a read on the learner.
    for _ in 0..10 {
        let answered = add(&voters);
        let read = eventually("a read", || {
            let how = Consistency::Linearizable;
            block_on(learner.handle().read(GROUP, how, |counter: &Counter| counter.0)).ok()
        });
        assert!(read >= answered, "{read} after {answered}");
    }

    // One voter of three and a learner are no majority.
    let leads = |engine: &Engine| nodes::leads(&engine.handle(), GROUP);
    let at = eventually("a leader", || voters.iter().position(leads));
    let stays = voters.remove(at);
    voters.into_iter().for_each(Engine::shutdown);
    let alone = stays.handle();
    let refused = block_on(alone.propose(GROUP, b"+")).expect_err("there is no majority");
    assert!(matches!(refused, ProposeError::Unknown(_) | ProposeError::NotLeader { .. }));
    eventually("nobody to lead", || {
        let seen = [alone.clone(), learner.handle()].map(|handle| block_on(handle.status(GROUP)));
        seen.iter().flatten().all(|status| status.role != RoleName::Leader).then_some(())
    });
    let refused = block_on(alone.propose(GROUP, b"+"));
    assert!(matches!(refused, Err(ProposeError::NotLeader { .. })), "{refused:?}");
    let status = block_on(learner.handle().status(GROUP)).expect("the group is here");
    assert_eq!(status.role, RoleName::Follower, "it has no vote to ask for");

    let others = (1..=3).filter(|node| *node != at as u64 + 1);
    voters = others.map(|node| start(&addresses, node, dir.path())).collect();
    voters.push(stays);
    add(&voters);

    // Removed, it is sent nothing more.
    let removed = change(&voters, async |handle| handle.remove_replica(GROUP, LEARNER).await);
    let total = (0..5).map(|_| add(&voters)).max().expect("five times");
    voters.iter().for_each(|voter| {
        eventually("a voter to have it all", || (count(voter) >= total).then_some(()));
    });
    let last = block_on(learner.handle().status(GROUP)).expect("the group is here").last.index;
    assert!(last <= removed && count(&learner) < total, "{last} after {removed}");
}
