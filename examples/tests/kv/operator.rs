//! What operators do: nodes come and go, and leaderships move, by commands to any node.

use crate::children::wait_for;
use crate::nodes::Nodes;
use crate::resp::{Client, Value};

/// `KV.CLUSTER NODES` as numbers: each node with how many groups it leads and has a vote in.
fn offices(client: &mut Client) -> Vec<(i64, i64, i64)> {
    let reply = client.say("KV.CLUSTER NODES");
    let node = |node: &Value| {
        let fields = node.list();
        assert!(fields[1].text().contains(':') && fields[2].int() == 1, "{fields:?}");
        (fields[0].int(), fields[3].int(), fields[4].int())
    };
    reply.list().iter().map(node).collect()
}

#[test]
fn a_node_comes_and_another_goes_by_one_command_each() {
    let mut nodes = Nodes::three();
    let mut client = Client::to(nodes.plain(0));
    for key in 0..20 {
        assert!(client.say(&format!("SET key-{key} {key}")).is_ok());
    }
    let fourth = nodes.start_another();
    let add = format!("KV.CLUSTER ADD 4 {}", nodes.cluster(fourth));
    assert!(client.say(&add).is_ok());
    assert_eq!(offices(&mut client)[3], (4, 0, 4));
    // What is done already is done.
    assert!(client.say(&add).is_ok());
    // The second goes; whichever groups it leads are led by others then. Any node may be asked.
    let mut newest = Client::to(nodes.plain(fourth));
    assert!(newest.say("KV.CLUSTER REMOVE 2").is_ok());
    let left: Vec<(i64, i64)> =
        offices(&mut newest).into_iter().map(|(node, _, votes)| (node, votes)).collect();
    assert_eq!(left, [(1, 4), (3, 4), (4, 4)]);
    nodes.kill(1);
    for key in 0..20 {
        assert_eq!(newest.say(&format!("GET key-{key}")).text(), key.to_string());
        assert!(client.say(&format!("SET key-{key} newer")).is_ok());
    }
}

#[test]
fn who_was_not_there_is_named_and_who_never_comes_is_not_waited_for() {
    let mut nodes = Nodes::started(3, 1, "groups = 1\n");
    let (leader, _) = nodes.leader_of("key");
    let away = (leader + 1) % 3;
    nodes.kill(away);
    let mut client = Client::to(nodes.plain(leader));
    let fourth = nodes.start_another();
    let added = client.say(&format!("KV.CLUSTER ADD 4 {}", nodes.cluster(fourth)));
    let told = format!("in their configuration before they start: {}", away + 1);
    assert!(added.text().starts_with("OK, but") && added.text().ends_with(&told), "{added:?}");
    // It has by now.
    nodes.start(away);
    nodes.wait_until_served();
    let never = client.say("KV.CLUSTER ADD 5 127.0.0.1:9");
    assert!(never.error().starts_with("ERR group 1: ERR node 5 does not catch up"), "{never:?}");
    assert!(client.say("SET key value").is_ok());
}

#[test]
fn leaderships_move_and_are_spread() {
    let nodes = Nodes::started(3, 1, "groups = 6\nrebalance_seconds = 0\n");
    let mut client = Client::to(nodes.plain(0));
    for group in 1..=6 {
        nodes.transfer(group, 2);
        // It leads already.
        nodes.transfer(group, 2);
    }
    let leaders = |client: &mut Client| -> Vec<Value> {
        let reply = client.say("KV.CLUSTER LEADERS");
        reply.list().iter().map(|group| group.list()[3].clone()).collect()
    };
    wait_for("this node to know", || {
        (leaders(&mut client) == vec![Value::Int(3); 6]).then_some(())
    });
    // Asked until nobody has anything to hand on, for nodes hear of it one after the other.
    wait_for("an even spread", || {
        assert!(client.say("KV.CLUSTER BALANCE").int() <= 4);
        let led: Vec<i64> = offices(&mut client).iter().map(|(_, leads, _)| *leads).collect();
        (led == [2, 2, 2]).then_some(())
    });
    let groups = client.say("KV.CLUSTER LEADERS");
    let last = groups.list()[5].list();
    assert_eq!((last[0].int(), last[2].int(), last[4].list().len()), (6, 16_383, 3));
}

#[test]
fn what_can_not_be_is_refused_and_changes_nothing() {
    let nodes = Nodes::three();
    let mut client = Client::to(nodes.plain(0));
    let mut refused = |command: &str, says: &str| {
        let reply = client.say(&format!("KV.CLUSTER {command}"));
        assert!(reply.error().contains(says), "{command}: {reply:?}");
    };
    refused("NONSENSE", "unknown subcommand");
    refused("ADD 4", "wrong number of arguments");
    refused("ADD 4 nowhere", "an address is IP:PORT");
    refused("ADD x 127.0.0.1:7000", "not an integer");
    refused("ADD 4 127.0.0.1:60000", "below 55536");
    refused("TRANSFER 5 1", "no such group");
    refused("TRANSFER 1 9", "not a voter");
    refused("HERE NONSENSE", "syntax");
    refused("HERE ADD 1 9", "");
    assert_eq!(offices(&mut client).len(), 3);
}
