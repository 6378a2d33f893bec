//! Garbage, lengths that lie, clients that do not read, and many that do nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::children::wait_for;
use crate::nodes::Nodes;
use crate::resp::{Client, Value, encode};

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
    assert_eq!(client.say("GET none"), Value::Null);
    assert_eq!(client.say("DEL key-1").int(), 1);
    assert!(client.say("SET small 1").is_ok());
}

/// Lets this process have as many descriptors as the system allows; how many these are.
fn raise_descriptor_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read and write the one structure that they are given.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    limit.rlim_cur as usize
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_too_many_are_refused() {
    // Other tests of this process, and the node itself, need some descriptors too.
    let count = 10_000.min(raise_descriptor_limit().saturating_sub(1_000));
    assert!(count >= 1_000, "this system allows too few descriptors: see ulimit -Hn");
    let nodes = Nodes::started(1, 1, &format!("groups = 1\nmax_clients = {}\n", count + 1));
    let before = memory(nodes.pid(0));
    let mut idle: Vec<TcpStream> =
        (0..count).map(|_| TcpStream::connect(nodes.plain(0)).unwrap()).collect();
    // All of them are served before they idle.
    idle.iter_mut().for_each(|stream| stream.write_all(b"PING\r\n").unwrap());
    for stream in &mut idle {
        let mut pong = [0; 7];
        stream.read_exact(&mut pong).unwrap();
        assert_eq!(&pong, b"+PONG\r\n");
    }
    let mut client = Client::to(nodes.plain(0));
    let mut refused = Client::to(nodes.plain(0));
    let said = refused.reply().unwrap();
    assert!(said.error().contains("max number of clients"), "{said:?}");
    let each = memory(nodes.pid(0)).saturating_sub(before) / count;
    assert!(each < 20_000, "{each} bytes for each connection");
    for number in 0..100 {
        assert!(client.say(&format!("SET key {number}")).is_ok());
        assert_eq!(client.say("GET key").text(), number.to_string());
    }
    // Their places are free again.
    drop(idle);
    wait_for("connections to be taken", || {
        Client::connect(nodes.plain(0))
            .ok()?
            .try_say("GET key")
            .is_ok_and(|got| matches!(got, Value::Bulk(_)))
            .then_some(())
    });
}

/// What a node may take more in these tests, besides what its clients may.
const SLACK: usize = 64 << 20;

/// The least that the clients of a shard may have in memory.
const LEAST: usize = 64 << 20;

fn least_memory(nodes: usize, shards: u32) -> Nodes {
    let settings = format!("groups = 2\nclient_memory_limit = {LEAST}\nrebalance_seconds = 0\n");
    Nodes::started(nodes, shards, &settings)
}

/// Sends as much as somebody takes who does not block.
fn send_what_goes(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut rest = bytes;
    while let Ok(count @ 1..) = stream.write(rest) {
        rest = &rest[count..];
    }
    stream
}

/// A client whose every command is answered.
fn is_served(client: &mut Client, commands: usize) {
    for number in 0..commands {
        assert!(client.say(&format!("SET key {number}")).is_ok());
        assert_eq!(client.say("GET key").text(), number.to_string());
    }
}

#[test]
fn many_who_do_not_read_have_no_more_memory_together_than_they_may() {
    let nodes = least_memory(1, 1);
    let mut client = Client::to(nodes.plain(0));
    client.send(&encode(&[b"SET", b"big", &vec![b'x'; 500_000]]));
    assert!(client.reply().unwrap().is_ok());
    let before = memory(nodes.pid(0));
    // Each of them alone may have a megabyte and more waiting for it.
    let deaf: Vec<TcpStream> = (0..300)
        .map(|_| send_what_goes(nodes.plain(0), "GET big\r\n".repeat(100).as_bytes()))
        .collect();
    is_served(&mut client, 200);
    let info = wait_for("somebody to be ended", || {
        let info = client.say("INFO clients").text().to_owned();
        (!info.contains("evicted_clients:0\r\n")).then_some(info)
    });
    assert!(info.0.contains("evicted_clients:"), "{}", info.0);
    let more = memory(nodes.pid(0)).saturating_sub(before);
    assert!(more < LEAST + SLACK, "{more} bytes more");
    drop(deaf);
    is_served(&mut client, 10);
}

#[test]
fn who_reads_slowly_gets_everything() {
    let nodes = least_memory(1, 1);
    let mut client = Client::to(nodes.plain(0));
    client.send(&encode(&[b"SET", b"big", &vec![b'x'; 500_000]]));
    assert!(client.reply().unwrap().is_ok());
    let before = memory(nodes.pid(0));
    let count = 20;
    let mut slow: Vec<Client> = (0..20)
        .map(|_| {
            let mut slow = Client::to(nodes.plain(0));
            slow.send("GET big\r\n".repeat(count).as_bytes());
            slow
        })
        .collect();
    // A reply of each, one after the other: nobody is ever quick.
    for _ in 0..count {
        for slow in &mut slow {
            assert_eq!(slow.reply().unwrap().text().len(), 500_000);
        }
        is_served(&mut client, 5);
    }
    let more = memory(nodes.pid(0)).saturating_sub(before);
    assert!(more < LEAST + SLACK, "{more} bytes more");
}

#[test]
fn one_who_asks_for_far_too_much_is_refused() {
    let nodes = least_memory(1, 1);
    let mut client = Client::to(nodes.plain(0));
    for tag in ["a", "b", "c"] {
        let value = vec![b'x'; 500_000];
        client.send(&encode(&[b"SET", format!("{{{tag}}}big").as_bytes(), &value]));
        assert!(client.reply().unwrap().is_ok());
    }
    let before = memory(nodes.pid(0));
    let many = |tag: &str, count: usize| format!(" {{{tag}}}big").repeat(count);
    // Thirty gigabytes by one line.
    let too_many = client.say(&format!("MGET{}", many("a", 60_000)));
    assert!(too_many.error().contains("more bytes than a reply may have"), "{too_many:?}");
    // Likewise in several slots, of which each has fewer.
    let several = format!("MGET{}{}{}", many("a", 60), many("b", 60), many("c", 60));
    let too_many = client.say(&several);
    assert!(too_many.error().contains("more bytes than a reply may have"), "{too_many:?}");
    let right = client.say(&format!("MGET{}{}", many("a", 10), many("c", 10)));
    assert_eq!(right.list().len(), 20);
    let more = memory(nodes.pid(0)).saturating_sub(before);
    assert!(more < LEAST + SLACK, "{more} bytes more");
}

#[test]
fn half_requests_take_no_more_memory_together_than_they_may() {
    let nodes = least_memory(1, 1);
    let before = memory(nodes.pid(0));
    let mut request = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$1000000\r\n".to_vec();
    request.resize(1_000_000, b'x');
    let mut client = Client::to(nodes.plain(0));
    let mut half = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(nodes.plain(0)).unwrap();
        // It may be ended already.
        let _ = stream.write_all(&request);
        half.push(stream);
    }
    is_served(&mut client, 50);
    let more = memory(nodes.pid(0)).saturating_sub(before);
    assert!(more < LEAST + SLACK, "{more} bytes more");
    // Lengths that only promise take nothing at all.
    let before = memory(nodes.pid(0));
    let promise = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$1000000\r\n";
    let promises: Vec<TcpStream> =
        (0..200).map(|_| send_what_goes(nodes.plain(0), promise)).collect();
    is_served(&mut client, 50);
    let each = memory(nodes.pid(0)).saturating_sub(before) / promises.len();
    assert!(each < 50_000, "{each} bytes for each");
}

#[test]
fn long_requests_leave_nothing_behind() {
    let nodes = least_memory(1, 1);
    let before = memory(nodes.pid(0));
    let many = encode(&[&[&b"EXISTS"[..]], &[&b"a"[..]; 60_000][..]].concat());
    let idle: Vec<Client> = (0..30)
        .map(|_| {
            let mut client = Client::to(nodes.plain(0));
            client.send(&many);
            assert_eq!(client.reply().unwrap().int(), 0);
            client
        })
        .collect();
    let more = memory(nodes.pid(0)).saturating_sub(before);
    let each = more / idle.len();
    assert!(each < 300_000, "{each} bytes for each");
}

#[test]
fn long_replies_and_pipelines_leave_nothing_behind() {
    let nodes = least_memory(1, 1);
    let mut client = Client::to(nodes.plain(0));
    client.send(&encode(&[b"SET", b"big", &vec![b'x'; 1_000_000]]));
    assert!(client.reply().unwrap().is_ok());
    let before = memory(nodes.pid(0));
    let idle: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = Client::to(nodes.plain(0));
            assert!(client.pipeline(&["GET none"; 1000]).iter().all(|got| *got == Value::Null));
            assert_eq!(client.say("GET big").text().len(), 1_000_000);
            client
        })
        .collect();
    let each = memory(nodes.pid(0)).saturating_sub(before) / idle.len();
    assert!(each < 30_000, "{each} bytes for each");
}

#[test]
fn who_does_not_read_what_was_forwarded_costs_the_forwarding_node_no_more_either() {
    // With two shards half of the groups are another shard's, and nobody knows how long replies are.
    for shards in [1, 2] {
        let nodes = least_memory(3, shards);
        let mut client = Client::to(nodes.plain(0));
        for number in 0..20 {
            let key = format!("big-{number}");
            client.send(&encode(&[b"SET", key.as_bytes(), &vec![b'x'; 1_000_000]]));
            assert!(client.reply().unwrap().is_ok());
        }
        let before: Vec<usize> = (0..3).map(|node| memory(nodes.pid(node))).collect();
        let commands: String =
            (0..400).map(|number| format!("GET big-{}\r\n", number % 20)).collect();
        let deaf: Vec<TcpStream> =
            (0..8).map(|_| send_what_goes(nodes.plain(0), commands.as_bytes())).collect();
        is_served(&mut client, 50);
        for (node, before) in before.into_iter().enumerate() {
            let more = memory(nodes.pid(node)).saturating_sub(before);
            let most = LEAST * shards as usize + SLACK;
            assert!(more < most, "node {node} of {shards} shards: {more} bytes more");
        }
        drop(deaf);
    }
}
