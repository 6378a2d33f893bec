//! Keys that go, locks whose lease ends, and sequences, through the whole server.

use std::time::{Duration, Instant};

use crate::children::wait_for;
use crate::nodes::Nodes;
use crate::resp::{Client, Value};

#[test]
fn a_key_is_gone_when_its_time_has_come_for_everybody() {
    let nodes = Nodes::three();
    let mut client = Client::to(nodes.plain(0));
    let set = Instant::now();
    assert!(client.say("SET key value PX 300").is_ok());
    assert_eq!(client.say("GET key").text(), "value");
    let mut others: Vec<Client> = (0..3).map(|node| Client::to(nodes.plain(node))).collect();
    let (_, _) = wait_for("the key to go", || (client.say("GET key") == Value::Null).then_some(()));
    assert!(set.elapsed() >= Duration::from_millis(300), "{:?}", set.elapsed());
    for other in &mut others {
        assert_eq!(other.say("EXISTS key").int(), 0);
    }
    // Nobody asks for it any more, and it takes no memory.
    assert!(client.say("SET other value PX 50").is_ok());
    wait_for("the key to be removed", || (client.say("DBSIZE").int() == 0).then_some(()));
}

#[test]
fn a_lock_has_one_holder_and_a_token_that_rises() {
    let nodes = Nodes::three();
    let (mut one, mut other) = (Client::to(nodes.plain(0)), Client::to(nodes.plain(1)));
    let token = one.say("KV.LOCK lock one 10000").int();
    assert_eq!(other.say("KV.LOCK lock other 10000"), Value::Null);
    assert_eq!(one.say(&format!("KV.UNLOCK lock {token}")).int(), 1);
    let next = other.say("KV.LOCK lock other 200").int();
    assert!(next > token);
    let (last, _) = wait_for("the lease to end", || match one.say("KV.LOCK lock one 10000") {
        Value::Int(token) => Some(token),
        _ => None,
    });
    assert!(last > next);
    assert_eq!(other.say(&format!("KV.RENEW lock {next} 1000")).int(), 0);
}
