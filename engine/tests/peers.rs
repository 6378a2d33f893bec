//! Nodes that move, go and come while others run: real engines, real connections on loopback.

mod nodes;

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use futures_lite::future::block_on;
use nodes::{Counter, GROUP, addresses, config, count, eventually, leads, propose};
use ringleader::{Engine, Member, MemberError, NodeId};

fn member(node: u64, address: SocketAddr) -> Member {
    Member { node: NodeId(node), address, shards: 1 }
}

/// A node of a cluster with a group on its first three nodes.
fn start(members: &[Member], node: u64, dir: &Path) -> Engine {
    let addresses: Vec<SocketAddr> = members.iter().map(|member| member.address).collect();
    let mut config = config(&addresses, node, 1, dir);
    config.groups[0].voters.truncate(3);
    Engine::start(config, |_| Box::new(Counter::default())).expect("the node starts")
}

#[test]
fn a_node_that_moved_is_found_at_its_new_address() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members: Vec<Member> = (1..=3).map(|node| member(node, addresses(1)[0])).collect();
    let [first, second, third] = [1, 2, 3].map(|node| start(&members, node, dir.path()));
    propose(&[&first, &second, &third]);

    third.shutdown();
    members[2].address = addresses(1)[0];
    let third = start(&members, 3, dir.path());
    // The others dial it where it was.
    propose(&[&first, &second]);
    for engine in [&first, &second] {
        engine.handle().set_member(members[2].clone()).expect("a right entry");
        assert_eq!(engine.handle().members(), members);
    }
    propose(&[&first, &second, &third]);
    let least = count(&first.handle()).max(count(&second.handle()));
    eventually("the third to catch up", || (count(&third.handle()) >= least).then_some(()));
}

#[test]
fn a_removed_node_is_cut_off_until_it_is_taken_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let members: Vec<Member> = (1..=3).map(|node| member(node, addresses(1)[0])).collect();
    let [first, second, third] = [1, 2, 3].map(|node| start(&members, node, dir.path()));
    let pair = [&first, &second];
    propose(&[&first, &second, &third]);
    for engine in pair {
        engine.handle().remove_member(NodeId(3)).expect("it may go");
        engine.handle().remove_member(NodeId(3)).expect("and be gone");
    }
    // Whatever was under way when it was cut off has come to an end once it knows no leader.
    eventually("it to be alone", || {
        let status = block_on(third.handle().status(GROUP)).expect("here");
        (!leads(&third.handle(), GROUP) && status.leader.is_none()).then_some(())
    });
    let before = count(&third.handle());
    propose(&pair);
    propose(&pair);
    assert_eq!(count(&third.handle()), before, "nothing reaches it");

    for engine in pair {
        engine.handle().set_member(members[2].clone()).expect("a right entry");
    }
    propose(&[&first, &second, &third]);
    let least = count(&first.handle()).max(count(&second.handle()));
    eventually("it to catch up", || (count(&third.handle()) >= least).then_some(()));
}

#[test]
fn a_node_added_at_run_time_is_dialed_and_one_removed_is_hung_up_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = vec![member(1, addresses(1)[0])];
    members.extend((2..=3).map(|node| member(node, addresses(1)[0])));
    let engine = start(&members, 1, dir.path());
    let handle = engine.handle();

    let added = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let fourth = member(4, added.local_addr().expect("bound"));
    handle.set_member(fourth.clone()).expect("a right entry");
    let (mut stream, _) = added.accept().expect("a connection");
    let mut hello = [0; 24];
    stream.read_exact(&mut hello).expect("a hello");
    assert_eq!(hello[..4], *b"RLN1");
    drop(stream);
    let (mut stream, _) = added.accept().expect("another attempt");
    handle.remove_member(NodeId(4)).expect("it may go");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the end of the connection");
    assert_eq!(handle.members(), members);
}

#[test]
fn what_cannot_be_set_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let members: Vec<Member> = (1..=3).map(|node| member(node, addresses(1)[0])).collect();
    let engine = start(&members, 1, dir.path());
    let handle = engine.handle();
    assert_eq!(handle.set_member(member(1, addresses(1)[0])), Err(MemberError::ThisNode));
    assert_eq!(handle.remove_member(NodeId(1)), Err(MemberError::ThisNode));
    let nobody = handle.set_member(member(2, ([127, 0, 0, 1], 0).into())).unwrap_err();
    assert_eq!(nobody.to_string(), "node 2: nobody can connect to 127.0.0.1:0");
    assert_eq!(handle.members(), members, "nothing changed");
    engine.shutdown();
    assert_eq!(handle.set_member(member(2, addresses(1)[0])), Err(MemberError::Stopped));
}
