//! Garbage, lengths that lie, clients that do not read, and many that do nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::nodes::Nodes;
use crate::resp::{Client, encode};

/// Resident memory of a process, in bytes.
fn memory(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn garbage_is_answered_and_its_connection_ends() {
    let mut nodes = Nodes::started(1, 1, "groups = 1\n");
    let bulk = format!("*2\r\n$3\r\nGET\r\n${}\r\n", 1_u64 << 40);
    let inputs: [(&[u8], &str); 6] = [
        (b"*3\r\nxyz\r\n", "expected '$', got 'x'"),
        (b"*99999999\r\n", "invalid multibulk length"),
        (b"*1\r\n$-5\r\n", "invalid bulk length"),
        (bulk.as_bytes(), "invalid bulk length"),
        (b"*1\r\n$4\r\nPINGPING", "longer than its length"),
        (b"SET key \"unbalanced\r\n", "unbalanced quotes"),
    ];
    for (input, says) in inputs {
        let mut client = Client::to(nodes.plain(0));
        // What was asked before is answered before.
        client.send(&[b"PING\r\n", input].concat());
        assert_eq!(client.reply().unwrap().text(), "PONG");
        let error = client.reply().unwrap();
        assert!(error.error().contains(says), "{error:?}");
        assert!(client.reply().is_err(), "the connection ends");
    }
    let mut client = Client::to(nodes.plain(0));
    assert!(client.say("NONSENSE").error().starts_with("ERR unknown command"));
    assert!(client.say("GET").error().contains("wrong number of arguments"));
    assert!(nodes.runs(0));
}

#[test]
fn bytes_of_any_kind_harm_nobody() {
    let mut nodes = Nodes::started(1, 1, "groups = 1\n");
    // A generator of its own, so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..200 {
        let mut stream = TcpStream::connect(nodes.plain(0)).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let alphabet = b"*$\r\n0123456789GETSPIN\"'\\ \x00\xff";
        let length = random() % 300;
        let bytes: Vec<u8> =
            (0..length).map(|_| alphabet[(random() % alphabet.len() as u64) as usize]).collect();
        // It may have hung up already.
        let _ = stream.write_all(&bytes);
        let _ = stream.read(&mut [0; 64]);
    }
    assert!(Client::to(nodes.plain(0)).say("SET key value").is_ok());
    assert!(nodes.runs(0));
}

#[test]
fn who_does_not_read_costs_no_memory_and_nobody_else_anything() {
    let nodes = Nodes::started(1, 1, "groups = 1\n");
    let mut client = Client::to(nodes.plain(0));
    let value = vec![b'x'; 500_000];
    client.send(&encode(&[b"SET", b"big", &value]));
    assert!(client.reply().unwrap().is_ok());
    let before = memory(nodes.pid(0));
    let mut deaf: Vec<TcpStream> = Vec::new();
    for mixed in [false, true] {
        let mut stream = TcpStream::connect(nodes.plain(0)).unwrap();
        stream.set_nonblocking(true).unwrap();
        // Five gigabytes of replies, in the one case through the log.
        let command = if mixed { "SET k v\r\nGET big\r\n" } else { "GET big\r\n" };
        let commands = command.repeat(10_000);
        let mut rest = commands.as_bytes();
        while let Ok(count) = stream.write(rest) {
            rest = &rest[count..];
            if rest.is_empty() {
                break;
            }
        }
        deaf.push(stream);
    }
    for number in 0..200 {
        assert!(client.say(&format!("SET key {number}")).is_ok());
        assert_eq!(client.say("GET key").text(), number.to_string());
    }
    let more = memory(nodes.pid(0)).saturating_sub(before);
    assert!(more < 100 << 20, "{more} bytes more");
}

#[test]
fn a_request_that_comes_byte_by_byte_is_a_request() {
    let nodes = Nodes::started(1, 1, "groups = 1\n");
    let mut client = Client::to(nodes.plain(0));
    for byte in encode(&[b"SET", b"key", b"value"]) {
        client.send(&[byte]);
    }
    assert!(client.reply().unwrap().is_ok());
    assert_eq!(client.say("GET key").text(), "value");
}

#[test]
fn memory_has_a_limit_that_is_an_error() {
    let nodes = Nodes::started(1, 1, "groups = 2\nmemory_limit = 4000000\n");
    let mut client = Client::to(nodes.plain(0));
    let value = "x".repeat(100_000);
    let full = (0..1000).find(|number| {
        let reply = client.say(&format!("SET key-{number} {value}"));
        if !reply.is_ok() {
            assert!(reply.error().starts_with("OOM"), "{reply:?}");
        }
        !reply.is_ok()
    });
    assert!((20..50).contains(&full.expect("it is full at some time")));
    // What takes nothing is done, and makes room.
    assert_eq!(client.say("GET none"), crate::resp::Value::Null);
    assert_eq!(client.say("DEL key-1").int(), 1);
    assert!(client.say("SET small 1").is_ok());
}

#[test]
fn many_idle_connections_cost_little_and_too_many_are_refused() {
    let nodes = Nodes::started(1, 1, "groups = 1\nmax_clients = 1000\n");
    let before = memory(nodes.pid(0));
    let mut idle: Vec<Client> = (0..999).map(|_| Client::to(nodes.plain(0))).collect();
    // All of them are served before they idle.
    assert!(idle.iter_mut().all(|client| client.say("PING").text() == "PONG"));
    let mut client = Client::to(nodes.plain(0));
    assert!(client.say("SET key value").is_ok());
    let mut refused = Client::to(nodes.plain(0));
    let said = refused.reply().unwrap();
    assert!(said.error().contains("max number of clients"), "{said:?}");
    let each = memory(nodes.pid(0)).saturating_sub(before) / 1000;
    assert!(each < 20_000, "{each} bytes for each connection");
    drop(idle);
    assert_eq!(client.say("GET key").text(), "value");
}
