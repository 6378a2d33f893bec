//! Bulk data on lanes of its own: made when wanted, bounded, throttled, and in nobody's way.

mod common;

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{World, at, config, data, identity, run, unthrottled};
use ringleader_net::decoder::FrameDecoder;
use ringleader_net::frame::{FrameError, encode};
use ringleader_net::handshake::wire::{MAX_HANDSHAKE_FRAME, decode_reply, encode_hello};
use ringleader_net::handshake::{Hello, PROTOCOL_MAX, PROTOCOL_MIN, Reply};
use ringleader_net::outbox::PushError;
use ringleader_net::{BulkConfig, DownReason, Endpoint, FrameKind, Lane, NetConfig};

const A: Endpoint = at(1, 0);
const B: Endpoint = at(2, 0);

fn bulk(bulk: BulkConfig) -> NetConfig {
    NetConfig { bulk, ..config() }
}

/// Waits for the lane; what wants it says so again and again, as a shard does.
async fn open(world: &mut World, from: Endpoint, to: Endpoint) {
    world
        .until("a lane", |world| {
            let net = &world.shard(from).net;
            assert!(net.want_bulk(to));
            net.bulk_outbox(to).expect("a peer").epoch()
        })
        .await;
}

fn push(world: &mut World, from: Endpoint, to: Endpoint, n: usize, len: usize) -> bool {
    let mut outbox = world.shard(from).net.bulk_outbox(to).expect("a peer");
    let block = Bytes::from(vec![n as u8; len]);
    match outbox.push(FrameKind::Snapshot, &n.to_le_bytes(), [block]) {
        Ok(()) => true,
        Err(PushError::Full { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn data_arrives_in_order_both_ways_on_connections_made_when_wanted() {
    run(|| async {
        let mut world = World::started(&[1, 1], config());
        world.connected().await;
        assert_eq!(world.door(2).listener.stats().accepted, 1, "nobody wanted one yet");
        assert!(!world.shard(A).net.want_bulk(at(9, 0)));
        // Whatever the numbers of the nodes: who sends, dials.
        open(&mut world, A, B).await;
        open(&mut world, B, A).await;
        let mut sent = [0; 2];
        world
            .until("all of it", |world| {
                for ((from, to), sent) in [(A, B), (B, A)].into_iter().zip(&mut sent) {
                    while *sent < 200 && push(world, from, to, *sent, *sent * 1000) {
                        *sent += 1;
                    }
                }
                (world.shard(A).bulk.len() == 200 && world.shard(B).bulk.len() == 200).then_some(())
            })
            .await;
        for (own, peer) in [(A, B), (B, A)] {
            for (n, (from, frame)) in world.shard(own).bulk.iter().enumerate() {
                assert_eq!((*from, frame.kind), (peer, FrameKind::Snapshot));
                assert_eq!(frame.envelope[..], n.to_le_bytes());
                assert!(frame.body.len() == n * 1000 && frame.body.iter().all(|b| *b == n as u8));
            }
            assert_eq!(world.shard(own).frames.len(), 0);
            for lane in Lane::ALL {
                assert_eq!(world.shard(own).ups_of(peer, lane).len(), 1, "{lane}");
                assert_eq!(world.shard(own).downs_of(lane), [], "{lane}");
            }
        }
        assert_eq!(world.door(1).listener.stats().handed_over, 1);
        assert_eq!(world.door(2).listener.stats().handed_over, 2);
        world.finish().await;
    });
}

#[test]
fn an_idle_lane_is_closed_and_made_anew_when_it_is_wanted() {
    run(|| async {
        let idle_after = Duration::from_secs(5);
        let mut world = World::started(&[1, 1], bulk(BulkConfig { idle_after, ..unthrottled() }));
        open(&mut world, A, B).await;
        let start = Instant::now();
        let ticks = |world: &mut World, seconds: u64| {
            world.shard(A).net.tick(start + Duration::from_secs(seconds));
            world.shard(A).net.bulk_outbox(B).expect("a peer").epoch().is_some()
        };
        ticks(&mut world, 0);
        ticks(&mut world, 4);
        assert!(push(&mut world, A, B, 1, 100));
        world.until("it", |world| (world.shard(B).bulk.len() == 1).then_some(())).await;
        // The time counts from the tick after the last byte was written.
        ticks(&mut world, 6);
        ticks(&mut world, 7);
        ticks(&mut world, 11);
        assert_eq!(world.shard(A).downs_of(Lane::BulkOut), []);
        ticks(&mut world, 12);
        world
            .until("the end", |world| {
                (world.shard(B).downs_of(Lane::BulkIn).len() == 1).then_some(())
            })
            .await;
        assert_eq!(world.shard(A).downs_of(Lane::BulkOut), [DownReason::Idle]);
        assert_eq!(world.shard(B).downs_of(Lane::BulkIn), [DownReason::Closed]);
        assert_eq!(
            world.shard(A).net.bulk_outbox(B).expect("a peer").push(FrameKind::Snapshot, b"", []),
            Err(PushError::Closed)
        );
        open(&mut world, A, B).await;
        let ups = world.shard(A).ups_of(B, Lane::BulkOut);
        assert!(ups.len() == 2 && ups[0] < ups[1], "{ups:?}");
        assert_eq!(world.shard(A).downs(), [], "consensus goes on");
        world.finish().await;
    });
}

#[test]
fn no_more_is_held_than_the_limits_say() {
    run(|| async {
        const KIB: usize = 1024;
        let limits = BulkConfig {
            max_frame_bytes: 64 * KIB,
            outbox_bytes: 256 * KIB,
            inbound_bytes: 64 * KIB,
            ..unthrottled()
        };
        let small = NetConfig {
            send_buffer_bytes: Some(64 * KIB),
            receive_buffer_bytes: Some(64 * KIB),
            ..bulk(limits)
        };
        let mut world = World::started(&[1, 1], small);
        open(&mut world, A, B).await;
        let large = world.shard(A).net.bulk_outbox(B).expect("a peer").push(
            FrameKind::Snapshot,
            b"",
            [Bytes::from(vec![0; 64 * KIB])],
        );
        assert_eq!(large, Err(PushError::TooLarge { frame: 64 * KIB + 24, limit: 64 * KIB }));
        world.shard(B).asleep = true;
        let (mut sent, mut full_turns) = (0, 0);
        world
            .until("a full outbox", |world| {
                let before = sent;
                while push(world, A, B, sent, 32 * KIB) {
                    sent += 1;
                }
                let held = world.shard(A).net.bulk_outbox(B).expect("a peer").held_bytes();
                assert!(held <= 256 * KIB);
                full_turns = if sent == before { full_turns + 1 } else { 0 };
                (full_turns == 50).then_some(())
            })
            .await;
        // The outbox, one batch beyond the inbound limit, and both kernel buffers.
        assert!(sent * 32 * KIB < 1024 * KIB, "{sent} frames were taken");
        world.shard(B).asleep = false;
        world.until("all of it", |world| (world.shard(B).bulk.len() == sent).then_some(())).await;
        world.finish().await;
    });
}

#[test]
fn a_throttled_lane_sends_what_the_ticks_allow() {
    run(|| async {
        let rate = Some(1_000_000);
        let limits = BulkConfig { bytes_per_second: rate, ..BulkConfig::default() };
        let mut world = World::started(&[1, 2], bulk(limits));
        world.connected().await;
        // Two peers share what a shard may send.
        let others = [at(2, 0), at(2, 1)];
        for peer in others {
            open(&mut world, A, peer).await;
        }
        for peer in others {
            (0..10).for_each(|n| assert!(push(&mut world, A, peer, n, 10_000)));
        }
        let left = |world: &mut World| {
            let held = |peer| world.shards[0].net.bulk_outbox(peer).expect("a peer").held_bytes();
            others.into_iter().map(held).sum::<usize>()
        };
        let all = left(&mut world);
        assert!(all > 200_000);
        let start = Instant::now();
        world.shard(A).net.tick(start);
        world.until("the burst", |world| (left(world) == all - 20_000).then_some(())).await;
        for at in 1..=10 {
            world.shard(A).net.tick(start + at * Duration::from_millis(5));
            let expected = all - 20_000 - 5_000 * at as usize;
            world.until("a tick's worth", |world| (left(world) <= expected).then_some(())).await;
            assert_eq!(left(&mut world), expected);
        }
        // Consensus traffic is not throttled.
        world.shard(A).send(B, b"at once", vec![Bytes::from(vec![0; 1 << 20])]);
        world.until("a frame", |world| (world.shard(B).frames.len() == 1).then_some(())).await;
        assert_eq!(left(&mut world), all - 70_000);
        world.finish().await;
    });
}

#[test]
fn consensus_passes_while_bulk_data_is_under_way() {
    run(|| async {
        let mut world = World::started(&[1, 1], config());
        world.connected().await;
        open(&mut world, A, B).await;
        let (mut sent, mut pings, mut pongs, mut longest) = (0, 0, 0, Duration::ZERO);
        let mut asked = Instant::now();
        world
            .until("some round trips", |world| {
                while push(world, A, B, sent, 1 << 20) {
                    sent += 1;
                }
                world.shard(B).bulk.clear();
                if world.shard(A).frames.len() == pings {
                    longest = longest.max(asked.elapsed());
                    asked = Instant::now();
                    world.shard(A).send(B, b"ping", vec![]);
                    pings += 1;
                }
                if world.shard(B).frames.len() > pongs {
                    world.shard(B).send(A, b"pong", vec![]);
                    pongs += 1;
                }
                (pongs == 200).then_some(())
            })
            .await;
        assert!(sent > 50, "{sent} MiB were sent meanwhile");
        // Ordered behind the bulk data, each would wait for 4 MiB of outbox and more in the kernel.
        assert!(longest < Duration::from_secs(2), "one took {longest:?}");
        assert_eq!(world.shard(A).downs(), []);
        world.finish().await;
    });
}

#[test]
fn a_lane_that_cannot_be_made_is_tried_while_it_is_wanted() {
    run(|| async {
        let (mut world, mut bound) = World::new(&[1, 1], config());
        let second = bound.pop().expect("its address");
        let address = second.address();
        drop(second);
        world.start(identity(1, 1), 0);
        for _ in 0..3 {
            world.shard(A).net.want_bulk(B);
            world.until("a turn", |_| Some(())).await;
        }
        assert_eq!(world.shard(A).events, []);
        let second = ringleader_net::BoundListener::bind(address, &config()).expect("still free");
        world.open(second, identity(2, 1));
        world.start(identity(2, 1), 0);
        open(&mut world, A, B).await;
        // With the node go its lanes.
        world.shard(A).net.remove_peer(2);
        world
            .until("the end", |world| {
                (world.shard(B).downs_of(Lane::BulkIn).len() == 1).then_some(())
            })
            .await;
        assert_eq!(world.shard(A).downs_of(Lane::BulkOut), [DownReason::Removed]);
        assert!(!world.shard(A).net.want_bulk(B));
        world.finish().await;
    });
}

/// A member that says hello and then sends these bytes; ends when the other side has closed.
fn rogue(address: std::net::SocketAddr, lane: Lane, attempt: u64, bytes: &[u8]) {
    let mut stream = std::net::TcpStream::connect(address).expect("the listener is up");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let hello = Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        cluster: 7,
        from: A,
        from_shards: 1,
        to: B,
        lane: Some(lane),
        fingerprint: 0xfeed,
        data: data(1),
        expects: None,
        incarnation: 5,
        attempt,
    };
    stream.write_all(&encode_hello(&hello)).expect("a hello");
    let mut decoder = FrameDecoder::new(MAX_HANDSHAKE_FRAME, MAX_HANDSHAKE_FRAME);
    let reply = loop {
        if let Some(frame) = decoder.next_frame().expect("a frame") {
            break decode_reply(&frame.envelope).expect("a reply");
        }
        let count = stream.read(decoder.space()).expect("an answer");
        decoder.advance(count);
    };
    assert!(matches!(reply, Reply::Accepted(_)), "{reply:?}");
    stream.write_all(bytes).expect("taken by the kernel");
    let mut rest = Vec::new();
    // Closed, or reset for what it had not read.
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, [], "nothing comes back on this lane");
}

#[test]
fn whoever_sends_something_else_loses_the_lane_and_nothing_more() {
    run(|| async {
        let (mut world, mut bound) = World::new(&[1, 1], config());
        world.open(bound.pop().expect("its address"), identity(2, 1));
        world.start(identity(2, 1), 0);
        let address = world.door(2).listener.address();
        let snapshot = encode(FrameKind::Snapshot, b"chunk", b"data");
        let mut huge = snapshot.to_vec();
        huge[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        let checksum = crc32fast::hash(&huge[..20]);
        huge[20..24].copy_from_slice(&checksum.to_le_bytes());
        let consensus = encode(FrameKind::Consensus, b"vote", b"");
        let garbage = [&snapshot[..], b"GET / HTTP/1.1\r\nhost: everything else\r\n"].concat();
        let client = std::thread::spawn(move || {
            rogue(address, Lane::BulkOut, 1, &garbage);
            rogue(address, Lane::BulkOut, 2, &huge);
            rogue(address, Lane::BulkOut, 3, &consensus);
            rogue(address, Lane::Consensus, 4, &snapshot);
        });
        world.until("the rogue", |_| client.is_finished().then_some(())).await;
        client.join().expect("all were closed");
        world.until("the downs", |world| (world.shard(B).downs().len() == 1).then_some(())).await;
        let limit = BulkConfig::default().max_frame_bytes as u64;
        let shard = world.shard(B);
        assert_eq!(shard.bulk.len(), 1, "what came before is not lost");
        let reasons = [
            FrameError::BadMagic { found: *b"GET " },
            FrameError::TooLarge { bytes: u64::from(u32::MAX) + 24 + 5, limit },
            FrameError::UnexpectedKind { found: FrameKind::Consensus },
        ];
        assert_eq!(shard.downs_of(Lane::BulkIn), reasons.map(DownReason::Protocol));
        let wrong = FrameError::UnexpectedKind { found: FrameKind::Snapshot };
        assert_eq!(shard.downs(), [DownReason::Protocol(wrong)]);
        world.finish().await;
    });
}
