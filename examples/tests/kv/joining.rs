//! A node that comes later, and one that goes: in this process, where the engine's handles are at hand.

use std::net::SocketAddr;
use std::path::Path;

use futures_lite::future::block_on;
use ringleader::{GroupId, Handle, Member, MembershipError, NodeId};
use ringleader_examples::kv::server::{Config, Running, start};

use crate::children::{free_port, wait_for};
use crate::resp::Client;

const GROUPS: u64 = 2;

/// The configuration of a node, of nodes of which the last joins if it is the fourth.
fn config(node: usize, ports: &[u16], plain: u16, dir: &Path) -> Config {
    let mut text = format!(
        "cluster = \"joining\"\nnode = {node}\ndata_dir = {:?}\ngroups = {GROUPS}\n\
         plain_listen = \"127.0.0.1:{plain}\"\n",
        dir.join(node.to_string())
    );
    for (port, id) in ports.iter().zip(1..) {
        let joined = id == 4;
        text +=
            &format!("[[nodes]]\nid = {id}\naddress = \"127.0.0.1:{port}\"\njoined = {joined}\n");
    }
    Config::parse(&text).unwrap()
}

/// Has the leader of every group make a change, whoever that is.
fn change<F>(nodes: &[Running], change: impl Fn(Handle, GroupId) -> F)
where
    F: Future<Output = Result<ringleader::LogIndex, MembershipError>>,
{
    for group in (1..=GROUPS).map(GroupId) {
        wait_for("the members to change", || {
            nodes.iter().find_map(|node| block_on(change(node.handle(), group)).ok())
        });
    }
}

#[test]
fn a_node_joins_serves_and_another_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let ports: Vec<u16> = (0..4).map(|_| free_port()).collect();
    let plain: Vec<u16> = (0..4).map(|_| free_port()).collect();
    let run = |node: usize, ports: &[u16]| {
        start(&config(node, ports, plain[node - 1], dir.path())).unwrap()
    };
    let mut nodes: Vec<Running> = (1..=3).map(|node| run(node, &ports[..3])).collect();
    let client = |node: usize| Client::to(SocketAddr::from(([127, 0, 0, 1], plain[node - 1])));
    let mut first = client(1);
    wait_for("leaders", || {
        (0..20).all(|key| first.say(&format!("SET key-{key} {key}")).is_ok()).then_some(())
    });

    nodes.push(run(4, &ports));
    let bus = SocketAddr::from(([127, 0, 0, 1], ports[3] + 10_000));
    for node in &nodes[..3] {
        node.handle().set_member(Member { node: NodeId(4), address: bus, shards: 1 }).unwrap();
    }
    change(&nodes, |handle, group| async move { handle.add_voter(group, NodeId(4)).await });
    for group in (1..=GROUPS).map(GroupId) {
        wait_for("the new node to lead", || {
            let transfer = |node: &Running| {
                block_on(node.handle().transfer_leadership(group, Some(NodeId(4)))).ok()
            };
            nodes.iter().find_map(transfer);
            let status = block_on(nodes[3].handle().status(group)).ok()?;
            (status.leader == Some(NodeId(4))).then_some(())
        });
    }
    let mut fourth = client(4);
    for key in 0..20 {
        assert_eq!(fourth.say(&format!("GET key-{key}")).text(), key.to_string());
        assert_eq!(first.say(&format!("GET key-{key}")).text(), key.to_string());
    }
    // Those who know the cluster are sent there.
    let mut redirected = Client::to(SocketAddr::from(([127, 0, 0, 1], ports[0])));
    let moved = redirected.say("GET key-1");
    assert!(moved.error().ends_with(&format!(" 127.0.0.1:{}", ports[3])), "{moved:?}");

    change(&nodes, |handle, group| async move { handle.remove_replica(group, NodeId(1)).await });
    nodes.remove(0).shutdown();
    let mut second = client(2);
    wait_for("the others to go on", || second.say("SET key-1 newer").is_ok().then_some(()));
    assert_eq!(fourth.say("GET key-1").text(), "newer");
}
