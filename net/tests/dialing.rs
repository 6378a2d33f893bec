//! Dialers whose peers misbehave, and connections that change the executor.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;

use common::{World, at, config, data, identity, run};
use ringleader_net::handshake::wire::encode_reply;
use ringleader_net::handshake::{Accepted, Local, Reply};
use ringleader_net::{Attempts, BoundListener, FrameKind, Listener, PeerNode, ShardHandover};

/// An address where every caller is answered with the next of `answers` and then hung up on.
fn answering_machine(answers: Vec<Vec<u8>>) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("another attempt");
            let mut hello = [0; 512];
            assert!(stream.read(&mut hello).expect("a hello") > 0);
            let _ = stream.write_all(&answer);
            // An empty answer means none at all: the dialer gives up by itself.
            if answer.is_empty() {
                while stream.read(&mut hello).is_ok_and(|count| count > 0) {}
            }
        }
    });
    (address, thread)
}

#[test]
fn a_dialer_survives_every_kind_of_answer() {
    run(|| async {
        let accepted = |protocol, shards| {
            Reply::Accepted(Accepted { protocol, shards, data: data(2), incarnation: 1 })
        };
        let answers = vec![
            b"HTTP/1.1 400 Bad Request\r\n\r\n and so on".to_vec(),
            encode_reply(&accepted(99, 1)).to_vec(),
            encode_reply(&accepted(2, 5)).to_vec(),
            encode_reply(&accepted(2, 1))[..30].to_vec(),
            vec![],
            vec![0xff; 100_000],
        ];
        let (mut world, mut bound) = World::new(&[1, 1], config());
        let real = world.nodes[1];
        let (address, thread) = answering_machine(answers);
        world.nodes[1] = PeerNode { address, ..real };
        world.start(identity(1, 1), 0);
        world.until("all answers", |_| thread.is_finished().then_some(())).await;
        thread.join().expect("all answers were asked for");
        assert_eq!(world.shard(at(1, 0)).events, [], "none of them made a connection");
        let attempts = |world: &mut World| world.shard(at(1, 0)).net.attempts(at(2, 0));
        world.until("six failures", |world| (attempts(world).failed >= 6).then_some(())).await;
        let Attempts { failed, failed_in_a_row } = attempts(&mut world);
        assert_eq!(failed, failed_in_a_row);

        // The node turns out to be elsewhere.
        world.open(bound.pop().unwrap(), identity(2, 1));
        world.start(identity(2, 1), 0);
        world.shard(at(1, 0)).net.set_peer(real);
        world.connected().await;
        let Attempts { failed, failed_in_a_row } = attempts(&mut world);
        assert!(failed >= 6 && failed_in_a_row == 0, "{failed}, {failed_in_a_row}");
        world.finish().await;
    });
}

/// Node 2: its listener on one executor, its shard on another.
fn serve_from_another_thread(nodes: [PeerNode; 2], handover: ShardHandover) {
    run(move || async move {
        let (mut world, _) = World::new(&[], config());
        world.nodes = nodes.to_vec();
        world.start(identity(2, 1), 0);
        let (a, b) = (at(1, 0), at(2, 0));
        world.shard(b).net.accept(handover);
        world.until("a frame", |world| (!world.shard(b).frames.is_empty()).then_some(())).await;
        world.shard(b).send(a, b"from another core", vec![]);
        world.until("the end", |world| (!world.shard(b).downs().is_empty()).then_some(())).await;
        world.finish().await;
    });
}

#[test]
fn a_connection_is_handed_to_another_executor() {
    let (sender, receiver) = mpsc::channel();
    let bound = BoundListener::bind(([127, 0, 0, 1], 0).into(), &config()).unwrap();
    let address = bound.address();
    let nodes = [1, 2].map(|node| PeerNode { node, shards: 1, address });
    let shard = std::thread::spawn(move || {
        let handover = receiver.recv().expect("a connection");
        serve_from_another_thread(nodes, handover);
    });
    run(move || async move {
        let (mut world, _) = World::new(&[], config());
        world.nodes = nodes.to_vec();
        let local = Local::new(identity(2, 1), &nodes);
        let book = world.book(2);
        let listener = Listener::start(bound, config(), local, book, move |handover| {
            assert_eq!((handover.from(), handover.shard()), (at(1, 0), 0));
            sender.send(handover).expect("the other thread waits");
        });
        world.start(identity(1, 1), 0);
        let (a, b) = (at(1, 0), at(2, 0));
        world.until("a connection", |world| world.shard(a).epoch(b)).await;
        world.shard(a).send(b, b"across", vec![]);
        world.until("an answer", |world| (!world.shard(a).frames.is_empty()).then_some(())).await;
        let (from, frame) = &world.shard(a).frames[0];
        assert_eq!((*from, frame.kind), (b, FrameKind::Consensus));
        assert_eq!(frame.envelope[..], *b"from another core");
        world.finish().await;
        listener.expect("a listener").shutdown().await;
    });
    shard.join().expect("the other executor ends, too");
}
