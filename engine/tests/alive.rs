//! Who is alive, as leaders and followers say it: real engines on loopback.

mod nodes;

use futures_lite::future::block_on;
use nodes::{Counter, GROUP, addresses, config, eventually, leader};
use ringleader::raft::Membership;
use ringleader::{Engine, GroupStatus, NodeId};

fn status(engine: &Engine) -> GroupStatus {
    block_on(engine.handle().status(GROUP)).expect("the group is here")
}

/// Those of the members whom this node takes for dead.
fn dead(engine: &Engine) -> Vec<NodeId> {
    let members = status(engine).members.into_iter();
    members.filter(|member| !member.alive).map(|member| member.id).collect()
}

#[test]
fn every_member_knows_who_is_alive_also_while_the_group_rests() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(4);
    let start = |node| {
        let mut config = config(&addresses, node, 1, dir.path());
        config.groups[0].voters.truncate(3);
        if node == 4 {
            config.groups[0].voters.clear();
        }
        // What is shown of the node that goes is to be what is seen, not what it said.
        config.handover = std::time::Duration::ZERO;
        Engine::start(config, |_| Box::new(Counter::default())).expect("the node starts")
    };
    let mut engines: Vec<Option<Engine>> = (1..=4).map(|node| Some(start(node))).collect();
    let handle = leader(engines.iter().flatten(), GROUP);
    eventually("node 4 to learn", || block_on(handle.add_learner(GROUP, NodeId(4))).ok());
    let led = eventually("a leader that leads on", || {
        engines.iter().flatten().map(status).find(|status| status.peers.len() == 3)
    });
    let this = led.leader.expect("it leads").0 as usize;

    eventually("all to see all, and to rest", || {
        let mut all = engines.iter().flatten();
        all.all(|engine| dead(engine).is_empty() && status(engine).rests).then_some(())
    });
    let status_of = |engines: &[Option<Engine>], node: usize| {
        status(engines[node - 1].as_ref().expect("it runs"))
    };
    let leading = status_of(&engines, this);
    assert!(leading.peers.iter().all(|peer| peer.alive), "{leading:?}");
    let learner = leading.peers.iter().find(|peer| peer.id == NodeId(4)).expect("it is a peer");
    assert_eq!(learner.membership, Membership::Learner);
    let follower = status_of(&engines, this % 3 + 1);
    assert!(follower.peers.is_empty() && follower.members.len() == 4, "{follower:?}");
    let roles: Vec<Membership> = follower.members.iter().map(|m| m.membership).collect();
    assert_eq!(roles, [[Membership::Voter; 3].as_slice(), &[Membership::Learner]].concat());

    // A follower goes, while nothing happens in the group.
    let gone = (this + 1) % 3 + 1;
    drop(engines[gone - 1].take());
    let id = NodeId(gone as u64);
    for engine in engines.iter().flatten() {
        eventually("it to be missed", || (dead(engine) == [id]).then_some(()));
    }
    let leading = status_of(&engines, this);
    let missed = |peer: &&ringleader::raft::PeerStatus| !peer.alive;
    let missed: Vec<NodeId> = leading.peers.iter().filter(missed).map(|peer| peer.id).collect();
    assert_eq!(missed, [id]);
    for engine in engines.iter().flatten() {
        let report = block_on(engine.handle().report()).expect("it runs");
        let link = report.shards[0].links.iter().find(|link| link.node == id).expect("a link");
        assert!(!link.alive && link.heard_ms_ago.is_none(), "{link:?}");
        if report.node < id {
            eventually("this side to dial in vain", || {
                let report = block_on(engine.handle().report()).expect("it runs");
                let mut links = report.shards[0].links.iter();
                let link = links.find(|link| link.node == id).expect("a link");
                (link.failed_in_a_row > 0 && link.failed_connects >= link.failed_in_a_row)
                    .then_some(())
            });
        }
    }

    engines[gone - 1] = Some(start(gone as u64));
    for engine in engines.iter().flatten() {
        eventually("it to be seen again", || dead(engine).is_empty().then_some(()));
        let report = block_on(engine.handle().report()).expect("it runs");
        assert!(report.shards[0].links.iter().all(|link| link.failed_in_a_row == 0));
    }
}
