//! Real connections between well-behaved nodes.

mod common;

use bytes::Bytes;
use common::{World, at, config, identity, run};
use ringleader_net::outbox::PushError;
use ringleader_net::{
    BindError, BoundListener, DownReason, Endpoint, FrameKind, Net, NetConfig, NetEvent,
};

const COUNT: usize = 150;

/// Frame number `n` of a sequence with all kinds of sizes.
fn blocks(n: usize) -> Vec<Bytes> {
    let size = match n % 50 {
        7 => 3 << 20,
        8 => 300_000,
        n if n % 3 == 0 => 0,
        n => n * 100,
    };
    vec![Bytes::from(vec![n as u8; size]), Bytes::from(vec![1; n % 5])]
}

#[test]
fn frames_of_all_sizes_arrive_in_order_in_both_directions() {
    run(|| async {
        let mut world = World::started(&[1, 1], config());
        world.connected().await;
        let (a, b) = (at(1, 0), at(2, 0));
        let mut sent = [0; 2];
        world
            .until("all frames", |world| {
                for ((from, to), sent) in [(a, b), (b, a)].into_iter().zip(&mut sent) {
                    push_some(&world.shard(from).net, to, sent);
                }
                let mut done = |id| world.shard(id).frames.len() == COUNT;
                (done(a) && done(b)).then_some(())
            })
            .await;
        for (id, peer) in [(a, b), (b, a)] {
            let shard = world.shard(id);
            for (n, (from, frame)) in shard.frames.iter().enumerate() {
                assert_eq!(*from, peer);
                assert_eq!(frame.envelope[..], n.to_le_bytes());
                assert!(frame.body[..] == blocks(n).concat(), "body of frame {n}");
            }
            assert_eq!(shard.downs(), []);
        }
        world.finish().await;
    });
}

/// A few frames per turn, so that many turns are involved.
fn push_some(net: &Net, to: Endpoint, sent: &mut usize) {
    let mut outbox = net.outbox(to).unwrap();
    for _ in 0..7.min(COUNT - *sent) {
        match outbox.push(FrameKind::Consensus, &sent.to_le_bytes(), blocks(*sent)) {
            Ok(()) => *sent += 1,
            Err(PushError::Full { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn all_shards_of_three_nodes_are_connected_once() {
    run(|| async {
        let mut world = World::started(&[2, 1, 3], config());
        world.connected().await;
        let ids: Vec<_> = world.shards.iter().map(|shard| shard.id).collect();
        for shard in &world.shards {
            for peer in ids.iter().filter(|id| id.node != shard.id.node) {
                let text = format!("{} to {peer}", shard.id);
                shard.send(*peer, text.as_bytes(), vec![]);
            }
        }
        world
            .until("a frame from everyone", |world| {
                let others = |own: Endpoint| ids.iter().filter(|id| id.node != own.node).count();
                let mut shards = world.shards.iter();
                shards.all(|shard| shard.frames.len() == others(shard.id)).then_some(())
            })
            .await;
        for shard in &world.shards {
            for (from, frame) in &shard.frames {
                assert_eq!(frame.envelope[..], *format!("{from} to {}", shard.id).as_bytes());
                assert_eq!(shard.ups(*from).len(), 1);
            }
            let mut epochs: Vec<_> = shard.events.iter().map(epoch_of).collect();
            epochs.sort_unstable();
            epochs.dedup();
            assert_eq!(epochs.len(), shard.events.len(), "no epoch twice");
        }
        world.finish().await;
    });
}

fn epoch_of(event: &NetEvent) -> u64 {
    match event {
        NetEvent::Up { epoch, .. }
        | NetEvent::Frames { epoch, .. }
        | NetEvent::Down { epoch, .. } => epoch.0,
    }
}

/// Restarts one of two nodes and gives how often the other one went down before it was up again.
async fn restart(node: u64) {
    let mut world = World::started(&[1, 1], config());
    world.connected().await;
    let (gone, stays) = (at(node, 0), at(3 - node, 0));
    let before = world.shard(stays).epoch(gone).unwrap();
    world.shard(stays).send(gone, b"of the old epoch", vec![]);

    let address = world.nodes[node as usize - 1].address;
    world.stop(gone).await;
    world.close(node).await;
    world.until("the loss", |world| (!world.shard(stays).downs().is_empty()).then_some(())).await;
    let refused =
        world.shard(stays).net.outbox(gone).unwrap().push(FrameKind::Consensus, b"to nobody", []);
    assert_eq!(refused, Err(PushError::Closed));

    let bound = BoundListener::bind(address, &world.config).expect("the address is free again");
    let mut reborn = identity(node, 1);
    reborn.incarnation += 77;
    world.open(bound, reborn);
    world.start(reborn, 0);
    world.connected().await;
    let after = world.shard(stays).epoch(gone).unwrap();
    assert!(after > before, "{after} comes after {before}");
    let Some(NetEvent::Up { incarnation, .. }) = world.shard(stays).events.last() else {
        panic!("up at last");
    };
    assert_eq!(*incarnation, reborn.incarnation);
    assert_eq!(world.shard(stays).downs().len(), 1);

    world.shard(stays).send(gone, b"hello again", vec![]);
    world.until("a frame", |world| (!world.shard(gone).frames.is_empty()).then_some(())).await;
    assert_eq!(world.shard(gone).frames.len(), 1);
    assert_eq!(world.shard(gone).frames[0].1.envelope[..], *b"hello again");
    world.finish().await;
}

#[test]
fn a_restarted_acceptor_is_dialed_again() {
    run(|| restart(2));
}

#[test]
fn a_restarted_dialer_comes_back() {
    run(|| restart(1));
}

#[test]
fn a_reader_that_does_not_read_makes_the_outbox_full() {
    run(|| async {
        const MIB: usize = 1 << 20;
        let config = NetConfig {
            outbox_bytes: 4 * MIB,
            inbound_bytes: MIB,
            max_frame_bytes: MIB,
            send_buffer_bytes: Some(64 << 10),
            receive_buffer_bytes: Some(64 << 10),
            ..config()
        };
        let mut world = World::started(&[1, 1], config);
        world.connected().await;
        let (a, b) = (at(1, 0), at(2, 0));
        world.shard(b).asleep = true;
        let block = Bytes::from(vec![9; 100_000]);
        let mut sent = 0usize;
        let mut full_turns = 0;
        world
            .until("a full outbox", |world| {
                let mut outbox = world.shard(a).net.outbox(b).unwrap();
                let before = sent;
                while outbox
                    .push(FrameKind::Consensus, &sent.to_le_bytes(), [block.clone()])
                    .is_ok()
                {
                    sent += 1;
                }
                assert!(outbox.held_bytes() <= 4 * MIB);
                // Full for many turns on end: nothing moves any more.
                full_turns = if sent == before { full_turns + 1 } else { 0 };
                (full_turns == 50).then_some(())
            })
            .await;
        // The outbox, one batch beyond the inbound limit, and both kernel buffers.
        assert!(sent * block.len() < 8 * MIB, "{sent} frames were taken");

        world.shard(b).asleep = false;
        world.until("all of it", |world| (world.shard(b).frames.len() == sent).then_some(())).await;
        for (n, (_, frame)) in world.shard(b).frames.iter().enumerate() {
            assert_eq!(frame.envelope[..], n.to_le_bytes());
        }
        assert_eq!(world.shard(a).downs(), []);
        world.finish().await;
    });
}

#[test]
fn a_connection_given_up_is_made_anew() {
    run(|| async {
        let mut world = World::started(&[1, 1], config());
        world.connected().await;
        let (a, b) = (at(1, 0), at(2, 0));
        let epoch = world.shard(b).epoch(a).unwrap();
        world.shard(b).net.disconnect(a, ringleader_net::Epoch(epoch.0 + 1), "not this one");
        world.shard(b).net.disconnect(a, epoch, "its envelopes make no sense");
        world
            .until("another epoch", |world| {
                (world.shard(b).ups(a).len() == 2 && world.shard(a).ups(b).len() == 2).then_some(())
            })
            .await;
        let reason = DownReason::Local("its envelopes make no sense".into());
        assert_eq!(world.shard(b).downs(), [reason]);
        assert_eq!(world.shard(a).downs(), [DownReason::Closed]);
        world.finish().await;
    });
}

#[test]
fn an_address_in_use_is_an_error_that_says_so() {
    let first = BoundListener::bind(([127, 0, 0, 1], 0).into(), &config()).unwrap();
    let address = first.address();
    let second = BoundListener::bind(address, &config()).unwrap_err();
    assert!(matches!(second, BindError::InUse { address: of } if of == address), "{second}");
}
