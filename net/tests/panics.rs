//! What panics on a task of a connection ends that connection, and nothing else.

mod common;

use bytes::Bytes;
use common::{World, at, config, run};
use ringleader_net::DownReason;

const A: ringleader_net::Endpoint = at(1, 0);
const B: ringleader_net::Endpoint = at(2, 0);
const C: ringleader_net::Endpoint = at(3, 0);

#[test]
fn one_that_panics_over_a_stranger_accepts_the_next() {
    run(|| async {
        let (mut world, bound) = World::new(&[1, 1, 1], config());
        world.book(3).panics.set(true);
        for (number, bound) in (1..).zip(bound) {
            world.open(bound, common::identity(number, 1));
            world.start(common::identity(number, 1), 0);
        }
        let panicked = |world: &World| world.door(3).listener.stats().panicked;
        world.until("panics", |world| (panicked(world) >= 3).then_some(())).await;
        assert_eq!(world.door(3).listener.stats().pending, 0);
        assert!(world.shard(B).epoch(A).is_some() && world.shard(C).epoch(A).is_none());
        world.book(3).panics.set(false);
        world.connected().await;
        world.finish().await;
    });
}

#[test]
fn one_that_panics_while_it_dials_dials_again() {
    run(|| async {
        let (mut world, bound) = World::new(&[1, 1], config());
        world.book(1).panics.set(true);
        for (number, bound) in (1..).zip(bound) {
            world.open(bound, common::identity(number, 1));
            world.start(common::identity(number, 1), 0);
        }
        world.until("panics", |world| (world.shard(A).net.panics() >= 3).then_some(())).await;
        let failed = world.shard(A).net.attempts(B).failed;
        assert!(failed >= 3, "they count as attempts: {failed}");
        world.book(1).panics.set(false);
        world.connected().await;
        world.finish().await;
    });
}

#[test]
fn a_connection_whose_reader_panics_is_made_again_and_the_others_stay() {
    run(|| async {
        let mut world = World::started(&[1, 1, 1], config());
        world.connected().await;
        let flag = std::rc::Rc::clone(&world.flag);
        // Whoever has a frame for the first shard next.
        flag.panics.set(true);
        world.shard(B).send(A, b"straw", vec![Bytes::from_static(b"last")]);
        world.until("the end", |world| world.shard(A).downs().first().cloned()).await;
        let downs = world.shard(A).downs();
        assert_eq!(downs, [DownReason::Panicked("whoever is told burns".into())]);
        world.connected().await;
        assert_eq!((world.shard(A).ups(B).len(), world.shard(A).ups(C).len()), (2, 1));
        assert_eq!(world.shard(A).net.panics(), 1);
        world.shard(B).send(A, b"again", Vec::new());
        world
            .until("it to arrive", |world| {
                let frames = &world.shard(A).frames;
                frames.iter().any(|(_, frame)| frame.envelope == b"again"[..]).then_some(())
            })
            .await;
        world.finish().await;
    });
}
