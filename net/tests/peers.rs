//! Nodes that are added, move and go while others run.

mod common;

use common::{World, at, config, identity, run};
use ringleader_net::{BoundListener, DownReason, Epoch, Identity, NetEvent, PeerNode};

const A: ringleader_net::Endpoint = at(1, 0);
const B: ringleader_net::Endpoint = at(2, 0);

/// An address on which nobody listens.
fn nowhere() -> std::net::SocketAddr {
    let bound = BoundListener::bind(([127, 0, 0, 1], 0).into(), &config()).expect("a free port");
    bound.address()
}

/// Three nodes, of which the first two know each other alone.
fn strangers() -> World {
    let (mut world, bound) = World::new(&[1, 1, 1], config());
    let all = world.nodes.clone();
    for (node, bound) in (1..).zip(bound) {
        world.nodes = if node < 3 { all[..2].to_vec() } else { all.clone() };
        world.open(bound, identity(node, 1));
        world.start(identity(node, 1), 0);
    }
    world.nodes = all;
    world
}

async fn refused(world: &mut World, by: u64, times: u64) {
    let before = world.door(by).listener.stats().refused;
    let what = "refusals";
    world
        .until(what, |world| {
            (world.door(by).listener.stats().refused >= before + times).then_some(())
        })
        .await;
}

async fn up_again(world: &mut World, before: Epoch) -> Epoch {
    world.until("a new epoch", |w| w.shard(A).epoch(B).filter(|epoch| *epoch > before)).await
}

#[test]
fn a_node_added_later_gets_connected() {
    run(|| async {
        let mut world = strangers();
        world.until("the first two", |world| world.shard(A).epoch(B)).await;
        let third = world.nodes[2];
        assert!(world.shard(A).net.outbox(at(3, 0)).is_none(), "it is not known here");

        // Told of it on one side, that side dials, whatever the other knew before.
        world.shard(A).net.set_peer(third);
        world.door(1).listener.set_peer(third);
        world.until("the added node", |world| world.shard(A).epoch(at(3, 0))).await;
        world.shard(B).net.set_peer(third);
        world.connected().await;
        assert_eq!(world.shard(A).downs(), [], "and nothing else changed");
        world.finish().await;
    });
}

#[test]
fn a_dialer_that_is_not_known_yet_is_refused_until_it_is() {
    run(|| async {
        let (mut world, mut bound) = World::new(&[1, 1], config());
        let first = world.nodes.remove(0);
        world.open(bound.pop().expect("its address"), identity(2, 1));
        world.start(identity(2, 1), 0);
        world.nodes.insert(0, first);
        world.start(identity(1, 1), 0);
        refused(&mut world, 2, 3).await;
        assert_eq!(world.shard(A).events, []);
        // The listener knows it, and the shard does not yet: still refused.
        world.door(2).listener.set_peer(first);
        world
            .until("a handover", |world| {
                (world.door(2).listener.stats().handed_over >= 2).then_some(())
            })
            .await;
        assert_eq!(world.shard(B).events, []);
        world.shard(B).net.set_peer(first);
        world.connected().await;
        world.finish().await;
    });
}

#[test]
fn a_new_address_is_followed_at_once() {
    run(|| async {
        let mut world = World::started(&[1, 1], config());
        world.connected().await;
        let epoch = world.shard(A).epoch(B).expect("connected");
        let here = world.nodes[1];
        // The same once more changes nothing.
        world.shard(A).net.set_peer(here);
        assert_eq!(world.shard(A).epoch(B), Some(epoch));

        // To where nobody is: the connection is closed although it works.
        world.shard(A).net.set_peer(PeerNode { address: nowhere(), ..here });
        world.until("the end", |world| (world.shard(B).downs().len() == 1).then_some(())).await;
        assert_eq!(world.shard(A).downs(), [DownReason::Moved]);
        world.shard(A).net.set_peer(here);
        let epoch = up_again(&mut world, epoch).await;

        // The node has moved: the same number at another address.
        let bound = BoundListener::bind(([127, 0, 0, 1], 0).into(), &config()).expect("a port");
        let there = PeerNode { address: bound.address(), ..here };
        let moved = Identity { incarnation: 5000, ..identity(2, 1) };
        world.stop(B).await;
        world.close(2).await;
        world.open(bound, moved);
        world.start(moved, 0);
        world.shard(A).net.set_peer(there);
        up_again(&mut world, epoch).await;
        let Some(NetEvent::Up { incarnation: 5000, .. }) = world.shard(A).events.last() else {
            panic!("{:?}", world.shard(A).events);
        };
        world.connected().await;
        world.finish().await;
    });
}

#[test]
fn who_accepts_does_not_care_where_the_dialer_listens() {
    run(|| async {
        let mut world = World::started(&[1, 1], config());
        world.connected().await;
        let (node, epoch) = (world.nodes[0], world.shard(B).epoch(A));
        world.shard(B).net.set_peer(PeerNode { address: nowhere(), ..node });
        world.door(2).listener.set_peer(PeerNode { address: nowhere(), ..node });
        assert_eq!(world.shard(B).epoch(A), epoch);
        world.finish().await;
    });
}

#[test]
fn a_removed_node_is_cut_and_refused() {
    run(|| async {
        let mut world = World::started(&[1, 1], config());
        world.connected().await;
        let epoch = world.shard(A).epoch(B).expect("connected");
        let node = world.nodes[0];
        world.shard(B).net.remove_peer(1);
        world.door(2).listener.remove_peer(1);
        assert!(world.shard(B).net.outbox(A).is_none());
        world.until("the end", |world| (world.shard(A).downs().len() == 1).then_some(())).await;
        assert_eq!(world.shard(B).downs(), [DownReason::Removed]);
        refused(&mut world, 2, 2).await;
        assert_eq!(world.shard(B).ups(A).len(), 1);

        // Taken back, it comes back.
        world.shard(B).net.set_peer(node);
        world.door(2).listener.set_peer(node);
        up_again(&mut world, epoch).await;
        world.finish().await;
    });
}

#[test]
fn a_removed_node_is_not_dialed_any_more() {
    run(|| async {
        let mut world = World::started(&[1, 1], config());
        world.connected().await;
        world.shard(A).net.remove_peer(2);
        world.until("the end", |world| (world.shard(B).downs().len() == 1).then_some(())).await;
        let accepted = world.door(2).listener.stats().accepted;
        // Some of the longest pauses between two attempts.
        let later = std::time::Instant::now() + 4 * config().backoff_max;
        world.until("some time", |_| (std::time::Instant::now() > later).then_some(())).await;
        assert_eq!(world.door(2).listener.stats().accepted, accepted);
        assert_eq!(world.shard(A).downs(), [DownReason::Removed]);
        world.finish().await;
    });
}

#[test]
fn a_changed_number_of_shards_is_followed() {
    run(|| async {
        let (mut world, mut bound) = World::new(&[1, 2], config());
        let right = world.nodes[1];
        world.nodes[1].shards = 1;
        world.start(identity(1, 1), 0);
        world.nodes[1] = right;
        world.open(bound.pop().expect("its address"), identity(2, 2));
        (0..2).for_each(|shard| world.start(identity(2, 2), shard));
        // The dialer finds out from the answer, and keeps none of the connections.
        world.until("an attempt", |world| (!world.shard(B).downs().is_empty()).then_some(())).await;
        assert_eq!(world.shard(A).events, []);
        world.shard(A).net.set_peer(right);
        world.connected().await;
        world.finish().await;
    });
}
