//! Handshake, backoff, log throttle and settings, without a socket.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use ringleader_net::backoff::Backoff;
use ringleader_net::bucket::TokenBucket;
use ringleader_net::decoder::FrameDecoder;
use ringleader_net::handshake::wire::{
    MAX_HANDSHAKE_FRAME, decode_hello, decode_reply, encode_hello, encode_reply,
};
use ringleader_net::handshake::{
    Accept, Accepted, Hello, Local, PROTOCOL_MAX, Refusal, RefusalCode, Reply, check,
};
use ringleader_net::throttle::LogThrottle;
use ringleader_net::{
    BulkConfig, DataId, DataReplaced, Endpoint, Identity, Lane, NetConfig, PeerBook, PeerNode,
};

fn local() -> Local {
    let identity = Identity {
        cluster: 7,
        node: 2,
        shards: 4,
        data: DataId(0xd002),
        fingerprint: 0xfeed,
        incarnation: 99,
    };
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let nodes = [1, 2, 3].map(|node| PeerNode { node, shards: node as u32 * 2, address });
    Local::new(identity, &nodes)
}

fn hello() -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: PROTOCOL_MAX + 3,
        lane: Some(Lane::Consensus),
        data: DataId(0xd001),
        expects: None,
        cluster: 7,
        from: Endpoint { node: 1, shard: 1 },
        from_shards: 2,
        to: Endpoint { node: 2, shard: 3 },
        fingerprint: 0xfeed,
        incarnation: 5,
        attempt: 6,
    }
}

#[test]
fn who_lost_its_data_is_told_on_either_side_and_what_to_do() {
    let (known, found) = (DataId(0xd001), DataId(0xbad));
    assert!(check(&hello(), &local(), Some(known)).is_ok());
    let caller = Hello { data: found, ..hello() };
    let refusal = check(&caller, &local(), Some(known)).unwrap_err();
    assert_eq!(refusal, DataReplaced { node: 1, by: 2, known, found }.into());
    let (known, found) = (DataId(7), DataId(0xd002));
    let refusal = check(&Hello { expects: Some(known), ..hello() }, &local(), None).unwrap_err();
    assert_eq!(refusal, DataReplaced { node: 2, by: 1, known, found }.into());
    assert!(check(&Hello { expects: Some(found), ..hello() }, &local(), None).is_ok());
    let Reply::Refused { sentence, .. } = refusal.reply() else { panic!("a refusal") };
    let advice = ["Remove node 2 from its groups".to_owned(), "new number".to_owned()];
    for part in [known.to_string(), found.to_string()].iter().chain(&advice) {
        assert!(sentence.contains(part), "{sentence}");
    }
    let whole = decode_reply(&envelope(&encode_reply(&refusal.reply())));
    assert_eq!(whole, Ok(refusal.reply()), "nothing of the advice is cut off");
}

#[test]
fn a_book_keeps_who_it_met_and_knows_when_it_was_damaged() {
    let mut book = PeerBook::default();
    assert_eq!(book.meet(1, 2, DataId(20)), Ok(true));
    assert_eq!(book.meet(1, 2, DataId(20)), Ok(false));
    assert_eq!(book.meet(1, u64::MAX, DataId(u128::MAX)), Ok(true));
    let replaced = DataReplaced { node: 2, by: 1, known: DataId(20), found: DataId(21) };
    assert_eq!(book.meet(1, 2, DataId(21)), Err(replaced));
    assert_eq!((book.known(2), book.known(3)), (Some(DataId(20)), None));
    // What it is told of counts like what it met; who is known with two directories is let in with
    // neither.
    assert_eq!((book.tell(3, DataId(30)), book.tell(3, DataId(30))), (true, false));
    assert_eq!((book.known(3), book.meet(1, 3, DataId(30))), (Some(DataId(30)), Ok(false)));
    let replaced = DataReplaced { node: 3, by: 1, known: DataId(30), found: DataId(31) };
    assert_eq!(book.meet(1, 3, DataId(31)), Err(replaced));
    assert!(book.tell(2, DataId(21)), "another one than it was met with");
    assert_eq!(book.known(2), None);
    for found in [20, 21] {
        assert!(book.meet(1, 2, DataId(found)).is_err());
    }
    for book in [PeerBook::default(), book] {
        let text = book.to_text();
        assert_eq!(PeerBook::from_text(&text), Ok(book));
        for at in 0..text.len() {
            assert!(PeerBook::from_text(&text[..at]).is_err(), "it ends too early");
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let damaged = String::from_utf8(bytes).expect("still ASCII");
                assert!(PeerBook::from_text(&damaged).is_err(), "{damaged}");
            }
        }
    }
}

/// What the first layout of a hello had.
#[test]
fn an_older_caller_is_told_that_it_is_too_old() {
    let old = Hello { protocol_min: 1, protocol_max: 1, data: DataId(0), ..hello() };
    let bytes = &envelope(&encode_hello(&old))[..64];
    assert_eq!(decode_hello(bytes), Ok(old));
    assert_eq!(check(&old, &local(), None), Err(Refusal::Protocol { min: 1, max: 1 }));
}

#[test]
fn bulk_data_may_be_dialed_from_either_side() {
    for node in [1, 3] {
        let from = Endpoint { node, shard: 0 };
        let shards = node as u32 * 2;
        let wants = Hello { from, from_shards: shards, lane: Some(Lane::BulkOut), ..hello() };
        assert_eq!(check(&wants, &local(), None).map(|accept| accept.lane), Ok(Lane::BulkIn));
    }
}

#[test]
fn no_more_leaves_than_the_rate_gives() {
    let (start, tick) = (Instant::now(), Duration::from_millis(5));
    let mut bucket = TokenBucket::new(Some(1_000_000));
    // What 20 ms give, and no more until time passes.
    assert_eq!(bucket.available(), 20_000);
    bucket.refill(start);
    bucket.spend(20_000);
    assert_eq!(bucket.available(), 0);
    let mut sent = 0;
    for at in 1..=200 {
        bucket.refill(start + at * tick);
        assert_eq!(bucket.available(), 5_000, "a tick's worth");
        sent += bucket.available();
        bucket.spend(bucket.available());
    }
    assert_eq!(sent, 1_000_000, "in a second");
    // Odd ticks lose no bytes, time that goes back gives none, a pause gives no more than a burst.
    for at in 1..=3_000 {
        bucket.refill(start + 200 * tick + Duration::from_nanos(at * 333));
    }
    assert_eq!(bucket.available(), 999);
    bucket.refill(start);
    assert_eq!(bucket.available(), 999);
    bucket.refill(start + Duration::from_secs(3600));
    assert_eq!(bucket.available(), 20_000);
    assert_eq!(TokenBucket::new(Some(5000)).available(), 4096, "the slowest still moves");
    let mut free = TokenBucket::new(None);
    free.spend(1 << 40);
    free.refill(start);
    assert_eq!(free.available(), usize::MAX);
}

#[test]
fn a_matching_hello_is_accepted_with_the_newest_common_protocol() {
    let Hello { from, .. } = hello();
    let accept = Accept { protocol: PROTOCOL_MAX, from, to_shard: 3, lane: Lane::Consensus };
    assert_eq!(check(&hello(), &local(), None), Ok(accept));
}

#[test]
fn every_mismatch_is_refused_for_its_own_reason() {
    let refused = |change: &dyn Fn(&mut Hello)| {
        let mut changed = hello();
        change(&mut changed);
        check(&changed, &local(), None).unwrap_err()
    };
    let cases: [(RefusalCode, Refusal); 14] = [
        (RefusalCode::PROTOCOL, refused(&|h| h.protocol_min = PROTOCOL_MAX + 1)),
        (RefusalCode::PROTOCOL, refused(&|h| (h.protocol_min, h.protocol_max) = (1, 0))),
        (RefusalCode::CLUSTER, refused(&|h| h.cluster = 8)),
        (RefusalCode::SELF_CONNECTION, refused(&|h| h.from.node = 2)),
        (RefusalCode::WRONG_NODE, refused(&|h| h.to.node = 3)),
        (RefusalCode::UNKNOWN_NODE, refused(&|h| h.from.node = 9)),
        (RefusalCode::SHARD_COUNT, refused(&|h| h.from_shards = 3)),
        (RefusalCode::NO_SUCH_SHARD, refused(&|h| h.to.shard = 4)),
        (RefusalCode::NO_SUCH_SHARD, refused(&|h| h.from.shard = 2)),
        (RefusalCode::FINGERPRINT, refused(&|h| h.fingerprint = 1)),
        (RefusalCode::DIRECTION, refused(&|h| (h.from.node, h.from_shards) = (3, 6))),
        (RefusalCode::LANE, refused(&|h| h.lane = Some(Lane::BulkIn))),
        (RefusalCode::LANE, refused(&|h| h.lane = None)),
        (RefusalCode::DATA_REPLACED, refused(&|h| h.expects = Some(DataId(1)))),
    ];
    for (code, refusal) in cases {
        assert_eq!(refusal.code(), code, "{refusal}");
    }
    let wrong = refused(&|h| h.to.node = 3);
    assert_eq!(wrong.to_string(), "this node is 2 of cluster 7, the caller wanted node 3");
}

fn envelope(frame: &[u8]) -> bytes::Bytes {
    let mut decoder = FrameDecoder::new(MAX_HANDSHAKE_FRAME, MAX_HANDSHAKE_FRAME);
    let mut found = None;
    decoder.feed(frame, |frame| found = Some(frame.envelope)).unwrap();
    found.expect("a whole frame")
}

#[test]
fn replies_survive_the_wire() {
    let accepted = Reply::Accepted(Accepted {
        protocol: 2,
        shards: 3,
        data: DataId(u128::MAX),
        incarnation: u64::MAX,
    });
    let refused = Refusal::Stale { attempt: 1, current: 2 }.reply();
    for reply in [accepted, refused] {
        assert_eq!(decode_reply(&envelope(&encode_reply(&reply))), Ok(reply));
    }
}

#[test]
fn a_hostile_sentence_is_cut_and_made_harmless() {
    let sentence = "\u{1b}[31mred\nnew line".to_owned() + &"ü".repeat(600);
    let reply = Reply::Refused { code: RefusalCode(4711), sentence };
    let Ok(Reply::Refused { code, sentence }) = decode_reply(&envelope(&encode_reply(&reply)))
    else {
        panic!("still a refusal");
    };
    assert_eq!(code.to_string(), "unknown reason 4711");
    assert!(sentence.starts_with("\\u{1b}[31mred\\nnew line") && sentence.len() <= 512);
}

proptest! {
    #[test]
    fn hellos_survive_the_wire(
        versions in (any::<u16>(), 2u16..),
        lane in prop::option::of(prop::sample::select(vec![Lane::Consensus, Lane::BulkOut])),
        numbers in any::<(u64, u64, u64, u64, u64, u64)>(),
        shards in any::<(u32, u32, u32)>(),
        directories in any::<(u128, u128)>(),
    ) {
        let hello = Hello {
            protocol_min: versions.0,
            protocol_max: versions.1,
            lane,
            data: DataId(directories.0),
            expects: Some(directories.1).filter(|data| *data != 0).map(DataId),
            cluster: numbers.0,
            from: Endpoint { node: numbers.1, shard: shards.0 },
            from_shards: shards.1,
            to: Endpoint { node: numbers.2, shard: shards.2 },
            fingerprint: numbers.3,
            incarnation: numbers.4,
            attempt: numbers.5,
        };
        let bytes = envelope(&encode_hello(&hello));
        prop_assert_eq!(decode_hello(&bytes), Ok(hello));
        prop_assert!(decode_hello(&bytes[..bytes.len() - 1]).is_err());
        // Whatever it says, it gets an answer.
        let _ = check(&hello, &local(), None);
    }

    #[test]
    fn noise_is_no_reason_to_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_hello(&noise);
        let _ = decode_reply(&noise);
    }

    #[test]
    fn delays_stay_within_their_bounds_and_can_be_reproduced(
        seed: u64,
        min in 1u64..100,
        factor in 1u64..200,
        steps in 1usize..20,
    ) {
        let (min, max) = (Duration::from_millis(min), Duration::from_millis(min * factor));
        let mut backoff = Backoff::new(min, max, seed);
        let mut again = backoff.clone();
        let mut span = min;
        for _ in 0..steps {
            let delay = backoff.next_delay();
            prop_assert!(delay >= span / 2 && delay <= span);
            prop_assert_eq!(delay, again.next_delay());
            span = (span * 2).min(max);
        }
        let slowest = backoff.slowest_delay();
        prop_assert!(slowest >= max / 2 && slowest <= max);
        backoff.connection_lived(max);
        prop_assert!(backoff.next_delay() <= min, "a connection that lived is forgiven");
    }
}

#[test]
fn a_connection_that_dies_at_once_keeps_the_delay() {
    let (min, max) = (Duration::from_millis(10), Duration::from_secs(1));
    let mut backoff = Backoff::new(min, max, 1);
    for _ in 0..10 {
        backoff.next_delay();
        backoff.connection_lived(Duration::from_millis(3));
    }
    assert!(backoff.next_delay() >= max / 2);
}

#[test]
fn log_lines_are_limited_and_the_withheld_are_counted() {
    let start = Instant::now();
    let mut throttle = LogThrottle::new(2, Duration::from_secs(1));
    let answers: Vec<_> = (0..5).map(|_| throttle.allow(start)).collect();
    assert_eq!(answers, [Some(0), Some(0), None, None, None]);
    assert_eq!(throttle.allow(start + Duration::from_millis(999)), None);
    assert_eq!(throttle.allow(start + Duration::from_secs(1)), Some(4));
    assert_eq!(throttle.allow(start + Duration::from_secs(1)), Some(0));
}

#[test]
fn settings_that_cannot_work_are_named() {
    assert_eq!(NetConfig::default().validate(), Ok(()));
    let broken = |change: &dyn Fn(&mut NetConfig)| {
        let mut config = NetConfig::default();
        change(&mut config);
        config.validate().unwrap_err().field
    };
    assert_eq!(broken(&|c| c.max_frame_bytes = 10), "max_frame_bytes");
    assert_eq!(broken(&|c| c.outbox_bytes = c.max_frame_bytes - 1), "outbox_bytes");
    assert_eq!(broken(&|c| c.inbound_bytes = 0), "inbound_bytes");
    assert_eq!(broken(&|c| c.read_chunk_bytes = 1), "read_chunk_bytes");
    assert_eq!(broken(&|c| c.connect_timeout = Duration::ZERO), "connect_timeout");
    assert_eq!(broken(&|c| c.backoff_max = Duration::from_millis(1)), "backoff_max");
    assert_eq!(broken(&|c| c.send_buffer_bytes = Some(1)), "send_buffer_bytes");
    assert_eq!(broken(&|c| c.max_pending_handshakes = 0), "max_pending_handshakes");
    let bulk = |bulk: BulkConfig| broken(&|c| c.bulk = bulk.clone());
    let good = BulkConfig::default;
    assert_eq!(bulk(BulkConfig { max_frame_bytes: 1, ..good() }), "bulk.max_frame_bytes");
    assert_eq!(bulk(BulkConfig { outbox_bytes: 4096, ..good() }), "bulk.outbox_bytes");
    assert_eq!(bulk(BulkConfig { inbound_bytes: 0, ..good() }), "bulk.inbound_bytes");
    assert_eq!(bulk(BulkConfig { write_bytes: 1, ..good() }), "bulk.write_bytes");
    let slow = BulkConfig { bytes_per_second: Some(0), ..good() };
    assert_eq!(bulk(slow), "bulk.bytes_per_second");
    assert_eq!(bulk(BulkConfig { idle_after: Duration::ZERO, ..good() }), "bulk.idle_after");
}
