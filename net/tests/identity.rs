//! Nodes that come back without their data, met before and not.

mod common;

use common::{World, at, config, data, identity, run};
use ringleader_net::{DataId, DownReason, Endpoint, Identity};

const A: Endpoint = at(1, 0);
const B: Endpoint = at(2, 0);

/// Restarts a node of two, with an empty directory; gives the world as it is then.
async fn wiped(node: u64) -> World {
    let mut world = World::started(&[1, 1], config());
    world.connected().await;
    assert_eq!(world.book(1).book.borrow().known(2), Some(data(2)));
    assert_eq!(world.book(2).book.borrow().known(1), Some(data(1)));
    let address = world.nodes[node as usize - 1].address;
    world.stop(at(node, 0)).await;
    world.close(node).await;
    world.books.borrow_mut().remove(&node);
    let other = 3 - node;
    world
        .until("the loss", |world| (world.shard(at(other, 0)).downs().len() == 1).then_some(()))
        .await;
    let bound = ringleader_net::BoundListener::bind(address, &world.config).expect("free again");
    let empty = Identity { data: DataId(0xbad), incarnation: 7, ..identity(node, 1) };
    world.open(bound, empty);
    world.start(empty, 0);
    world
}

/// That the second node refuses the first, whoever is wrong, and nothing comes of it.
async fn refuses(world: &mut World, gone: u64) {
    world
        .until("refusals", |world| (world.door(2).listener.stats().refused >= 3).then_some(()))
        .await;
    let ups = |world: &mut World, own: Endpoint, peer| world.shard(own).ups(peer).len();
    let (stays, gone) = (at(3 - gone, 0), at(gone, 0));
    assert_eq!((ups(world, stays, gone), ups(world, gone, stays)), (1, 0));
    let known = world.book(stays.node).book.borrow().known(gone.node);
    assert_eq!(known, Some(data(gone.node)), "what is known stays so");
}

#[test]
fn a_dialer_without_its_data_is_refused() {
    run(|| async {
        let mut world = wiped(1).await;
        refuses(&mut world, 1).await;
        assert_eq!(world.book(1).asked.get(), 0, "it met nobody");
        world.finish().await;
    });
}

#[test]
fn an_acceptor_without_its_data_refuses_who_expects_it() {
    run(|| async {
        let mut world = wiped(2).await;
        refuses(&mut world, 2).await;
        assert_eq!(world.book(2).asked.get(), 0, "it met nobody");
        world.finish().await;
    });
}

#[test]
fn neither_side_takes_bulk_data_from_who_lost_its_data() {
    run(|| async {
        // The second dials here, against the direction of consensus.
        let mut world = wiped(2).await;
        world
            .until("a refusal", |world| {
                world.shard(B).net.want_bulk(A);
                (world.door(1).listener.stats().refused >= 1).then_some(())
            })
            .await;
        assert_eq!(world.shard(B).events, []);
        world.finish().await;
    });
}

#[test]
fn a_meeting_that_cannot_be_remembered_comes_to_nothing() {
    for forgetful in [1, 2] {
        run(move || async move {
            let (mut world, bound) = World::new(&[1, 1], config());
            let book = world.book(forgetful);
            book.fails.set(true);
            for (node, bound) in (1..).zip(bound) {
                world.open(bound, identity(node, 1));
                world.start(identity(node, 1), 0);
            }
            world.until("some attempts", |_| (book.asked.get() >= 3).then_some(())).await;
            // The other side may have believed in a connection for a moment.
            assert_eq!(world.shard(at(forgetful, 0)).events, []);
            assert_eq!(book.book.borrow().known(3 - forgetful), None);
            book.fails.set(false);
            world.connected().await;
            assert_eq!(book.book.borrow().known(3 - forgetful), Some(data(3 - forgetful)));
            world.finish().await;
        });
    }
}

#[test]
fn who_was_met_is_asked_for_once() {
    run(|| async {
        let mut world = World::started(&[1, 1], config());
        world.connected().await;
        let epoch = world.shard(A).epoch(B).expect("connected");
        world.shard(A).net.disconnect(B, epoch, "once more");
        world.until("a new epoch", |w| w.shard(A).epoch(B).filter(|e| *e > epoch)).await;
        assert_eq!(world.shard(A).downs(), [DownReason::Local("once more".into())]);
        assert_eq!((world.book(1).asked.get(), world.book(2).asked.get()), (1, 1));
        world.finish().await;
    });
}
