//! Connections from those who shouldn't: each refused for its reason, none to the harm of others.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use common::{World, at, config, data, identity, run};
use ringleader_net::decoder::FrameDecoder;
use ringleader_net::frame::{Frame, FrameError, encode};
use ringleader_net::handshake::wire::{MAX_HANDSHAKE_FRAME, decode_reply, encode_hello};
use ringleader_net::handshake::{Hello, PROTOCOL_MAX, RefusalCode, Reply};
use ringleader_net::{DownReason, FrameKind, Lane, NetConfig};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the listener is up");
    stream.set_read_timeout(PATIENCE).unwrap();
    stream
}

/// Reads one frame; `None` if the other side closes before there is one.
fn read_frame(stream: &mut TcpStream) -> Option<Frame> {
    let mut decoder = FrameDecoder::new(MAX_HANDSHAKE_FRAME, MAX_HANDSHAKE_FRAME);
    loop {
        if let Some(frame) = decoder.next_frame().expect("a frame") {
            return Some(frame);
        }
        match stream.read(decoder.space()) {
            Ok(0) => return None,
            Ok(count) => decoder.advance(count),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Says hello and gives the answer together with the open connection.
fn greet(address: SocketAddr, hello: &Hello) -> (Option<Reply>, TcpStream) {
    let mut stream = dial(address);
    stream.write_all(&encode_hello(hello)).unwrap();
    let reply = read_frame(&mut stream).map(|frame| decode_reply(&frame.envelope).unwrap());
    (reply, stream)
}

/// Whether the other side has closed the connection, whatever it sent before.
fn is_closed(mut stream: TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

fn hello(attempt: u64) -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: PROTOCOL_MAX,
        lane: Some(Lane::Consensus),
        cluster: 7,
        from: at(1, 0),
        from_shards: 1,
        to: at(2, 0),
        fingerprint: 0xfeed,
        data: data(1),
        expects: None,
        incarnation: 5,
        attempt,
    }
}

/// Takes turns until a blocking client on a thread of its own is done.
async fn serve<T>(world: &mut World, client: JoinHandle<T>) -> T {
    world.until("a client", |_| client.is_finished().then_some(())).await;
    client.join().expect("the client is content")
}

/// Node 2 alone, with one shard; nodes 1 and 3 are members that aren't there.
fn lonely() -> World {
    let (mut world, mut bound) = World::new(&[1, 1, 1], config());
    bound.truncate(2);
    world.open(bound.pop().unwrap(), identity(2, 1));
    world.start(identity(2, 1), 0);
    world
}

#[test]
fn every_refusal_reaches_the_caller() {
    run(|| async {
        let mut world = lonely();
        let address = world.door(2).listener.address();
        type Change = fn(&mut Hello);
        let cases: [(RefusalCode, Change); 9] = [
            (RefusalCode::PROTOCOL, |h| h.protocol_min = PROTOCOL_MAX + 1),
            (RefusalCode::CLUSTER, |h| h.cluster = 8),
            (RefusalCode::SELF_CONNECTION, |h| h.from.node = 2),
            (RefusalCode::WRONG_NODE, |h| h.to.node = 1),
            (RefusalCode::UNKNOWN_NODE, |h| h.from.node = 9),
            (RefusalCode::SHARD_COUNT, |h| h.from_shards = 3),
            (RefusalCode::NO_SUCH_SHARD, |h| h.to.shard = 4),
            (RefusalCode::FINGERPRINT, |h| h.fingerprint = 1),
            (RefusalCode::DIRECTION, |h| h.from.node = 3),
        ];
        let client = std::thread::spawn(move || {
            for (expected, change) in cases {
                let mut wrong = hello(1);
                change(&mut wrong);
                let (reply, stream) = greet(address, &wrong);
                let Some(Reply::Refused { code, sentence }) = reply else {
                    panic!("{expected}: {reply:?}");
                };
                assert_eq!(code, expected, "{sentence}");
                assert!(
                    sentence.contains("this node") || sentence.contains("node 2"),
                    "{sentence}"
                );
                assert!(is_closed(stream));
            }
            cases.len() as u64
        });
        let count = serve(&mut world, client).await;
        let stats = world.door(2).listener.stats();
        assert_eq!((stats.accepted, stats.refused, stats.handed_over), (count, count, 0));
        assert_eq!(world.shard(at(2, 0)).events, []);
        world.finish().await;
    });
}

#[test]
fn a_newer_connection_replaces_the_older_and_a_stale_one_does_not() {
    run(|| async {
        let mut world = lonely();
        let address = world.door(2).listener.address();
        let client = std::thread::spawn(move || {
            let (first, first_stream) = greet(address, &hello(5));
            assert!(matches!(first, Some(Reply::Accepted(_))), "{first:?}");
            let (second, second_stream) = greet(address, &hello(6));
            assert!(matches!(second, Some(Reply::Accepted(_))), "{second:?}");
            assert!(is_closed(first_stream));
            let (third, third_stream) = greet(address, &hello(4));
            let Some(Reply::Refused { code, .. }) = third else { panic!("{third:?}") };
            assert_eq!(code, RefusalCode::STALE);
            assert!(is_closed(third_stream));
            second_stream
        });
        let second = serve(&mut world, client).await;
        let shard = world.shard(at(2, 0));
        let ups = shard.ups(at(1, 0));
        assert_eq!(ups.len(), 2);
        assert!(ups[0] < ups[1]);
        assert_eq!(shard.downs(), [DownReason::Replaced]);
        assert_eq!(shard.epoch(at(1, 0)), Some(ups[1]));
        drop(second);
        world
            .until("the end", |world| (world.shard(at(2, 0)).downs().len() == 2).then_some(()))
            .await;
        assert_eq!(world.shard(at(2, 0)).downs()[1], DownReason::Closed);
        world.finish().await;
    });
}

/// An intact header that announces a body of 4 GiB.
fn announce_4_gib() -> Vec<u8> {
    let mut header = encode(FrameKind::Consensus, &[], &[]).to_vec();
    header[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    let checksum = crc32fast::hash(&header[..20]);
    header[20..24].copy_from_slice(&checksum.to_le_bytes());
    header
}

#[test]
fn a_member_that_loses_its_mind_is_cut_off() {
    run(|| async {
        let mut world = lonely();
        let address = world.door(2).listener.address();
        let client = std::thread::spawn(move || {
            let good = encode(FrameKind::Consensus, b"fine", b"so far");
            let foreign = b"GET / HTTP/1.1\r\nHost: you\r\n\r\n".to_vec();
            let bad = [foreign, announce_4_gib(), encode_hello(&hello(9)).to_vec()];
            for (attempt, bytes) in (1..).zip(bad) {
                let (reply, mut stream) = greet(address, &hello(attempt));
                assert!(matches!(reply, Some(Reply::Accepted(_))), "{reply:?}");
                stream.write_all(&[&good[..], &bytes].concat()).unwrap();
                assert!(is_closed(stream));
            }
        });
        serve(&mut world, client).await;
        let limit = world.config.max_frame_bytes as u64;
        let shard = world.shard(at(2, 0));
        assert_eq!(shard.frames.len(), 3, "what came before is not lost");
        let reasons = [
            FrameError::BadMagic { found: *b"GET " },
            FrameError::TooLarge { bytes: u64::from(u32::MAX) + 24, limit },
            FrameError::UnexpectedKind { found: FrameKind::Hello },
        ];
        assert_eq!(shard.downs(), reasons.map(DownReason::Protocol));
        world.finish().await;
    });
}

/// Reproducible noise.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// Everything a bored stranger might try; the listener closes each of these in the end.
fn pester(address: SocketAddr) {
    let mut open = Vec::new();
    for round in 0..60 {
        let mut stream = dial(address);
        let bytes = match round % 4 {
            0 => noise(round, 10_000),
            1 => noise(round, 3),
            2 => encode_hello(&hello(round))[..20].to_vec(),
            _ => encode(FrameKind::Hello, &noise(round, 2000), &[]).to_vec(),
        };
        let _ = stream.write_all(&bytes);
        open.push(stream);
    }
    // One byte at a time: each is progress, together they are late.
    let mut slow = dial(address);
    for byte in encode_hello(&hello(1)).iter() {
        if slow.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    open.push(slow);
    assert!(open.into_iter().all(is_closed));
}

#[test]
fn strangers_do_not_disturb_a_live_connection() {
    run(|| async {
        let config = NetConfig { max_pending_handshakes: 16, ..config() };
        let mut world = World::started(&[1, 1], config);
        world.connected().await;
        let (a, b) = (at(1, 0), at(2, 0));
        let address = world.door(2).listener.address();
        let clients = [0, 1].map(|_| std::thread::spawn(move || pester(address)));
        let (mut sent, mut answered) = (0, 0);
        world
            .until("the strangers", |world| {
                assert!(world.door(2).listener.stats().pending <= 16);
                // One round trip after the other, all the while.
                if world.shard(a).frames.len() == sent {
                    world.shard(a).send(b, b"ping", vec![vec![1; 5000].into()]);
                    sent += 1;
                }
                if world.shard(b).frames.len() > answered {
                    world.shard(b).send(a, b"pong", vec![]);
                    answered += 1;
                }
                clients.iter().all(JoinHandle::is_finished).then_some(())
            })
            .await;
        clients.into_iter().for_each(|client| client.join().expect("all were closed"));
        let stats = world.door(2).listener.stats();
        assert!(sent > 20, "{sent} round trips");
        assert_eq!(stats.accepted, 1 + 2 * 61, "{stats:?}");
        assert_eq!(stats.handed_over, 1, "{stats:?}");
        assert_eq!(stats.refused, 0, "{stats:?}");
        assert!(stats.invalid > 0 && stats.displaced > 0 && stats.timed_out > 0, "{stats:?}");
        assert_eq!(stats.invalid + stats.displaced + stats.timed_out, 2 * 61, "{stats:?}");
        assert_eq!((world.shard(a).downs(), world.shard(b).downs()), (vec![], vec![]));
        world.finish().await;
    });
}
