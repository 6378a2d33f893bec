//! Nodes that are killed: nothing that was answered is lost, and the others go on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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

/// What a plain port says to one command. On a machine that is busy an election may take longer than
/// the port is patient; so it may say so, but not before.
fn say_patiently(client: &mut Client, line: &str) -> Value {
    loop {
        let asked = Instant::now();
        let reply = client.say(line);
        let refused = matches!(&reply, Value::Error(text) if !text.starts_with("UNKNOWN"));
        if !refused {
            return reply;
        }
        let waited = asked.elapsed();
        assert!(waited > Duration::from_secs(4), "{line}: {reply:?} after {waited:?}");
    }
}

#[test]
fn who_knows_no_cluster_does_not_notice_that_a_leader_died_but_where_nobody_knows() {
    let mut nodes = Nodes::three();
    let (leader, _) = nodes.leader_of("key");
    let mut client = Client::to(nodes.plain((leader + 1) % 3));
    let mut unknown = 0;
    for round in 0..300 {
        if round == 100 {
            nodes.kill(leader);
        }
        let set = say_patiently(&mut client, &format!("SET key {round}"));
        if !set.is_ok() {
            // It had been sent when the leader died, and it was the only one under way.
            assert!(set.error().starts_with("UNKNOWN"), "{round}: {set:?}");
            unknown += 1;
        }
        let get = say_patiently(&mut client, "GET key");
        let honest = set.is_ok() && get.text() == round.to_string();
        assert!(honest || !set.is_ok() && matches!(get, Value::Bulk(_)), "{round}: {get:?}");
    }
    assert!(unknown <= 1, "{unknown}");
    // Commands for several groups neither.
    assert_eq!(say_patiently(&mut client, "DBSIZE").int(), 1);
    assert!(say_patiently(&mut client, "MSET a 1 b 2 c 3 d 4").is_ok());
}

#[test]
fn who_knows_no_cluster_does_not_notice_that_a_leadership_moves() {
    let nodes = Nodes::started(3, 1, "groups = 1\nrebalance_seconds = 0\n");
    nodes.transfer(1, 0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // The third node never leads.
        let one_by_one = || {
            let (mut client, mut last, mut unknown) = (Client::to(nodes.plain(2)), 0, 0);
            while !over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                match say_patiently(&mut client, "INCR one") {
                    Value::Int(count) => {
                        assert!((last + 1..=last + unknown + 1).contains(&count), "{count}");
                        (last, unknown) = (count, 0);
                        let get = say_patiently(&mut client, "GET one");
                        assert_eq!(get.text(), count.to_string());
                    }
                    // The former leader did not answer for long.
                    said => {
                        let waited = asked.elapsed();
                        assert!(waited > Duration::from_secs(2), "{said:?} after {waited:?}");
                        unknown += 1;
                    }
                }
            }
        };
        // Those who are refused are not done later than those behind them.
        let in_a_row = || {
            let mut client = Client::to(nodes.plain(2));
            let mut last = 0;
            while !over.load(Ordering::Relaxed) {
                for reply in client.pipeline(&["INCR other"; 30]) {
                    if let Value::Int(count) = reply {
                        assert!(count > last, "{count} after {last}");
                        last = count;
                    } else {
                        let said = reply.error();
                        let honest = ["TRYAGAIN", "CLUSTERDOWN", "UNKNOWN"];
                        assert!(honest.iter().any(|code| said.starts_with(code)), "{said}");
                    }
                }
            }
        };
        let workers = [scope.spawn(one_by_one), scope.spawn(in_a_row)];
        for round in 0..20 {
            nodes.transfer(1, (round + 1) % 2);
        }
        over.store(true, Ordering::Relaxed);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

/// Counts up, several at once, and keeps account: no answer may show that a count was done twice.
fn count_up(client: &mut Client, key: &str, account: &mut (i64, i64)) {
    let line = format!("INCR {key}");
    for reply in client.pipeline(&[line.as_str(); 20]) {
        let (last, unknown) = account;
        match reply {
            Value::Int(count) => {
                let most = *last + *unknown + 1;
                assert!((*last + 1..=most).contains(&count), "{key}: {count} after {account:?}");
                *account = (count, 0);
            }
            Value::Error(text) if text.starts_with("UNKNOWN") => *unknown += 1,
            reply => {
                let certain = ["TRYAGAIN", "CLUSTERDOWN"];
                assert!(certain.iter().any(|code| reply.error().starts_with(code)), "{reply:?}");
            }
        }
    }
}

#[test]
fn nothing_is_done_twice_when_a_leader_dies_in_the_midst_of_it() {
    let mut nodes = Nodes::started(3, 1, "groups = 1\nrebalance_seconds = 0\n");
    for round in 0..3 {
        let (leader, _) = nodes.leader_of("key");
        let served: Vec<_> =
            (0..3).filter(|node| *node != leader).map(|node| nodes.plain(node)).collect();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for number in 0..6 {
                let (mut client, over) = (Client::to(served[number % 2]), &over);
                scope.spawn(move || {
                    let (key, mut account) = (format!("{round}-{number}"), (0, 0));
                    while !over.load(Ordering::Relaxed) {
                        count_up(&mut client, &key, &mut account);
                    }
                    // What became of the unknown ones shows now.
                    count_up(&mut client, &key, &mut account);
                });
            }
            let mut client = Client::to(served[0]);
            (0..50).for_each(|_| assert!(say_patiently(&mut client, "SET key 1").is_ok()));
            nodes.kill(leader);
            wait_for("another leader", || client.say("SET key 1").is_ok().then_some(()));
            over.store(true, Ordering::Relaxed);
        });
        nodes.start(leader);
        nodes.wait_until_served();
    }
}
