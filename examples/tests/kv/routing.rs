//! Who serves which key: redirections, forwarding, several shards, and commands for all groups.

use std::collections::BTreeSet;

use crate::nodes::Nodes;
use crate::resp::{Client, Value};

#[test]
fn clients_are_told_where_a_slot_is_served_or_forwarded_there() {
    let nodes = Nodes::three();
    let (leader, address) = nodes.leader_of("key");
    let mut at_leader = Client::to(address);
    assert!(at_leader.say("SET key value").is_ok());
    let slot = at_leader.say("CLUSTER KEYSLOT key").int();
    let other = (leader + 1) % 3;
    let mut redirected = Client::to(nodes.cluster(other));
    assert_eq!(redirected.say("GET key").error(), format!("MOVED {slot} {address}"));
    assert_eq!(redirected.say("SET key x").error(), format!("MOVED {slot} {address}"));
    // A follower reads what was answered anywhere before, once it is asked to.
    assert!(redirected.say("READONLY").is_ok());
    assert!(at_leader.say("SET key newer").is_ok());
    assert_eq!(redirected.say("GET key").text(), "newer");
    assert_eq!(redirected.say("SET key x").error(), format!("MOVED {slot} {address}"));
    assert!(redirected.say("READWRITE").is_ok());
    assert!(redirected.say("GET key").error().starts_with("MOVED"));
    for node in 0..3 {
        let mut plain = Client::to(nodes.plain(node));
        assert_eq!(plain.say("GET key").text(), "newer");
        assert!(plain.say(&format!("SET from-{node} 1")).is_ok());
    }
    let error = at_leader.say("MSET key 1 other 2");
    assert!(error.error().starts_with("CROSSSLOT"), "{error:?}");
    assert!(at_leader.say("MSETNX key 1 other 2").error().starts_with("CROSSSLOT"));
    let mut plain = Client::to(nodes.plain(0));
    assert!(plain.say("MSET {tag}a 1 {tag}b 2 c 3").is_ok());
    let text = |text: &str| Value::Bulk(text.into());
    let values = [text("3"), text("1"), Value::Null, text("2")];
    assert_eq!(plain.say("MGET c {tag}a none {tag}b").list(), values);
    assert_eq!(plain.say("DEL c {tag}a none {tag}b").int(), 3);
    assert!(plain.say("MSETNX a 1 b 2").error().starts_with("CROSSSLOT"));
}

#[test]
fn a_pipeline_does_its_commands_in_their_order() {
    let nodes = Nodes::three();
    for plain in 0..3 {
        let mut client = Client::to(nodes.plain(plain));
        let lines: Vec<String> = (0..200)
            .flat_map(|round| {
                let key = format!("key-{}", round % 7);
                [
                    format!("SET {key} {round}"),
                    format!("GET {key}"),
                    format!("GETDEL {key}"),
                    format!("GET {key}"),
                ]
            })
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let replies = client.pipeline(&lines);
        for (round, replies) in replies.chunks_exact(4).enumerate() {
            assert!(replies[0].is_ok(), "{round}: {replies:?}");
            let value = Value::Bulk(round.to_string());
            assert_eq!(replies[1..], [value.clone(), value, Value::Null], "{round}");
        }
    }
}

#[test]
fn every_shard_serves_its_groups_and_forwards_to_the_others() {
    let nodes = Nodes::started(3, 2, "groups = 8\n");
    (1..=8).for_each(|group| nodes.transfer(group, group as usize % 3));
    let mut client = Client::to(nodes.plain(0));
    let keys: Vec<String> = (0..100).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        assert!(client.say(&format!("SET {key} of-{key}")).is_ok());
    }
    for node in 0..3 {
        let mut client = Client::to(nodes.plain(node));
        for key in &keys {
            assert_eq!(client.say(&format!("GET {key}")).text(), format!("of-{key}"));
        }
    }
    let slots = client.say("CLUSTER SLOTS");
    let masters: BTreeSet<i64> =
        slots.list().iter().map(|range| range.list()[2].list()[1].int()).collect();
    assert!(masters.len() > 3, "more than one shard of a node serves: {masters:?}");
    let served: i64 =
        slots.list().iter().map(|range| range.list()[1].int() - range.list()[0].int() + 1).sum();
    assert_eq!(served, 16_384);
}

/// All keys of an iteration, and how many steps it took.
fn scan(client: &mut Client, options: &str) -> (BTreeSet<String>, usize) {
    let (mut found, mut cursor, mut steps) = (BTreeSet::new(), "0".to_owned(), 0);
    loop {
        let reply = client.say(&format!("SCAN {cursor}{options}"));
        steps += 1;
        for key in reply.list()[1].list() {
            assert!(found.insert(key.text().to_owned()), "{key:?} came twice");
        }
        reply.list()[0].text().clone_into(&mut cursor);
        if cursor == "0" {
            return (found, steps);
        }
    }
}

#[test]
fn commands_for_all_groups_find_every_key_once() {
    let nodes = Nodes::three();
    let mut client = Client::to(nodes.plain(0));
    assert_eq!(client.say("RANDOMKEY"), Value::Null);
    let keys: BTreeSet<String> = (0..300).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        assert!(client.say(&format!("SET {key} 1")).is_ok());
    }
    assert_eq!(client.say("DBSIZE").int(), 300);
    assert!(keys.contains(client.say("RANDOMKEY").text()));
    let (found, steps) = scan(&mut client, "");
    assert_eq!(found, keys);
    assert!(steps >= 30, "{steps}");
    let (found, steps) = scan(&mut client, " COUNT 1000 MATCH *-1?");
    assert_eq!((found.len(), steps), (10, 4));
    assert!(scan(&mut client, " TYPE lock").0.is_empty());
    assert_eq!(client.say("KEYS key-29?").list().len(), 10);
    assert!(client.say("KEYS nothing").list().is_empty());
    assert!(client.say("SCAN 0 MATCH nothing").list()[1].list().is_empty());
    // Those who know the cluster ask each node, and find every key once too.
    let mut found = BTreeSet::new();
    for node in 0..3 {
        let here = scan(&mut Client::to(nodes.cluster(node)), " COUNT 50").0;
        here.into_iter().for_each(|key| assert!(found.insert(key)));
    }
    assert_eq!(found, keys);
    assert!(client.say("FLUSHALL").is_ok());
    assert_eq!(client.say("DBSIZE").int(), 0);
}

#[test]
fn all_keys_are_walked_in_steps_between_which_others_are_served() {
    let nodes = Nodes::started(1, 1, "groups = 1\n");
    let mut client = Client::to(nodes.plain(0));
    let keys: BTreeSet<String> = (0..5_000).map(|number| format!("key-{number}")).collect();
    let lines: Vec<String> = keys.iter().map(|key| format!("SET {key} 1")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for lines in lines.chunks(500) {
        assert!(client.pipeline(lines).iter().all(Value::is_ok));
    }
    let reads = |client: &mut Client| -> u64 {
        let info = client.say("INFO stats");
        let line = info.text().lines().find_map(|line| line.strip_prefix("ringleader_reads:"));
        line.unwrap().parse().unwrap()
    };
    let before = reads(&mut client);
    let found = client.say("KEYS *");
    let found: BTreeSet<String> = found.list().iter().map(|key| key.text().to_owned()).collect();
    assert!(found == keys, "{}", found.len());
    let steps = reads(&mut client) - before;
    assert!((5..10).contains(&steps), "{steps}");
}

#[test]
fn reads_by_leases_are_current_too() {
    let nodes = Nodes::started(3, 1, "groups = 3\nlease_drift_ms = 50\n");
    let mut clients: Vec<Client> = (0..3).map(|node| Client::to(nodes.plain(node))).collect();
    for round in 0..60 {
        let key = format!("key-{}", round % 5);
        assert!(clients[round % 3].say(&format!("SET {key} {round}")).is_ok());
        for client in &mut clients {
            assert_eq!(client.say(&format!("GET {key}")).text(), round.to_string());
        }
    }
}

#[test]
fn a_password_is_asked_for_and_forwarded_with() {
    let nodes = Nodes::started(3, 1, "groups = 3\npassword = \"secret\"\n");
    let mut client = Client::to(nodes.plain(0));
    assert!(client.say("GET key").error().starts_with("NOAUTH"));
    assert!(client.say("AUTH wrong").error().starts_with("WRONGPASS"));
    assert!(client.say("HELLO 3 AUTH default wrong").error().starts_with("WRONGPASS"));
    assert!(client.say("KV.CLUSTER BALANCE").error().starts_with("NOAUTH"));
    assert!(client.say("AUTH secret").is_ok());
    assert!(matches!(client.say("KV.CLUSTER BALANCE"), Value::Int(_)));
    for number in 0..10 {
        assert!(client.say(&format!("SET key-{number} 1")).is_ok());
    }
    let mut other = Client::to(nodes.plain(1));
    assert!(matches!(other.say("HELLO 3 AUTH default secret"), Value::Map(_)));
    assert_eq!(other.say("GET none"), Value::Null);
}
