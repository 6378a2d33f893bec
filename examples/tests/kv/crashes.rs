//! Nodes that are killed: nothing that was answered is lost, and the others go on.

use std::collections::HashMap;

use crate::children::wait_for;
use crate::nodes::Nodes;
use crate::resp::{Client, Value};

#[test]
fn what_was_answered_survives_the_death_of_its_leader_and_of_all() {
    let mut nodes = Nodes::three();
    let mut written = HashMap::new();
    let mut write = |client: &mut Client, keys: std::ops::Range<u32>| {
        for number in keys {
            let key = format!("key-{number}");
            if client.try_say(&format!("SET {key} {number}")).is_ok_and(|reply| reply.is_ok()) {
                written.insert(key, number.to_string());
            }
        }
        written.clone()
    };
    write(&mut Client::to(nodes.plain(0)), 0..100);
    let (leader, _) = nodes.leader_of("key-1");
    nodes.kill(leader);
    let survivor = (leader + 1) % 3;
    let mut client = Client::to(nodes.plain(survivor));
    wait_for("another leader", || client.say("SET key-1 1").is_ok().then_some(()));
    nodes.wait_until_served();
    write(&mut client, 100..150);
    nodes.start(leader);
    (0..3).filter(|node| *node != leader).for_each(|node| nodes.kill(node));
    (0..3).filter(|node| *node != leader).for_each(|node| nodes.start(node));
    nodes.wait_until_served();
    let written = write(&mut Client::to(nodes.plain(0)), 150..160);
    assert!(written.len() >= 150, "{}", written.len());
    for node in 0..3 {
        let mut client = Client::to(nodes.plain(node));
        for (key, value) in &written {
            assert_eq!(client.say(&format!("GET {key}")).text(), value);
        }
    }
}

#[test]
fn without_a_majority_nothing_is_claimed() {
    let mut nodes = Nodes::three();
    let mut client = Client::to(nodes.plain(0));
    assert!(client.say("SET key 1").is_ok());
    nodes.kill(1);
    nodes.kill(2);
    // Written by nobody, or perhaps later: never "OK".
    let reply = client.say("SET key 2");
    let said = reply.error();
    let honest = ["UNKNOWN", "CLUSTERDOWN", "TRYAGAIN"];
    assert!(honest.iter().any(|code| said.starts_with(code)), "{said}");
    let read = client.say("GET key");
    assert!(matches!(read, Value::Error(_)), "a read that nobody confirmed: {read:?}");
    nodes.start(1);
    nodes.start(2);
    nodes.wait_until_served();
    let value = client.say("GET key");
    assert!(["1", "2"].contains(&value.text()), "{value:?}");
}
