//! Metrics over HTTP, as Prometheus asks for them.
#![cfg(feature = "export")]

mod nodes;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use futures_lite::future::block_on;
use ringleader::report::{Exporter, Page};
use ringleader::{Engine, Entries, GroupId, Replies, StateMachine};

struct Null;

impl StateMachine for Null {
    fn apply(&mut self, _: &Entries<'_>, _: &mut Replies) {}
}

fn node(groups: u64, dir: &Path) -> Engine {
    let config = nodes::config(&nodes::addresses(1), 1, groups, dir);
    Engine::start(config, |_| Box::new(Null)).expect("the node starts")
}

fn exporter(engine: &Engine) -> Exporter {
    Exporter::start("127.0.0.1:0".parse().expect("an address"), engine.handle(), 100)
        .expect("it listens")
}

/// Everything that comes back for `request`.
fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut caller = TcpStream::connect(address).expect("it listens");
    // It may answer, and close, before it has read everything.
    let _ = caller.write_all(request);
    let mut answer = Vec::new();
    let _ = caller.read_to_end(&mut answer);
    String::from_utf8(answer).expect("text")
}

fn metrics(address: SocketAddr) -> String {
    let answer = ask(address, b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    body.to_owned()
}

/// Every line is a comment or `name{labels} number`, and the text has its end.
fn check(page: &str) {
    let mut lines = page.lines();
    assert_eq!(lines.next_back(), Some("# EOF"));
    for line in lines.filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(name.starts_with("ringleader_"), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

fn value(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{page}"));
    line.rsplit_once(' ').expect("a value").1.parse().expect("a number")
}

#[test]
fn metrics_are_served_and_count() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = node(1, dir.path());
    let exporter = exporter(&engine);
    let handle = engine.handle();
    while block_on(handle.propose(GroupId(1), b"x")).is_err() {}
    let before = metrics(exporter.address());
    check(&before);
    (0..9).for_each(|_| assert!(block_on(handle.propose(GroupId(1), b"x")).is_ok()));
    let page = metrics(exporter.address());
    let grown = |name| value(&page, name) - value(&before, name);
    assert_eq!(grown("ringleader_operations_applied_total{shard=\"0\"}"), 9.0);
    assert_eq!(grown("ringleader_commit_seconds_count{shard=\"0\"}"), 9.0);
    assert!(grown("ringleader_log_batches_total") >= 9.0);
    assert_eq!(value(&page, "ringleader_up{"), 1.0);
    assert_eq!(value(&page, "ringleader_group_leader{shard=\"0\",group=\"1\"}"), 1.0);
    let messages = "ringleader_link_messages_sent_total";
    assert!(page.contains("# HELP ringleader_link_messages_sent "), "{page}");
    assert!(!page.contains(&format!("{messages}{{")), "it is alone");
    let started = "ringleader_hook_seconds_count{shard=\"0\",hook=\"leader_start\"}";
    assert_eq!(value(&page, started), 1.0);
    assert_eq!(value(&page, "ringleader_group_first_index{shard=\"0\",group=\"1\"}"), 1.0);
    assert_eq!(value(&page, "ringleader_group_members_dead{shard=\"0\",group=\"1\"}"), 0.0);
    assert_eq!(value(&page, "ringleader_operations_busy_total{"), 0.0);
    let last =
        page.lines().find(|line| line.contains("commit_seconds_bucket") && line.contains("+Inf"));
    assert!(last.is_some_and(|line| line.ends_with(" 10")), "{last:?}");
}

/// Every family has its help, and is there once.
#[test]
fn connections_are_shown_by_the_kind_of_message() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = nodes::addresses(3);
    let start = |node| {
        let config = nodes::config(&addresses, node, 1, dir.path());
        Engine::start(config, |_| Box::new(Null)).expect("the node starts")
    };
    let engines: Vec<Engine> = (1..=3).map(start).collect();
    let handle = nodes::leader(&engines, GroupId(1));
    let address = "127.0.0.1:0".parse().expect("an address");
    let exporter = Exporter::start(address, handle.clone(), 100).expect("it listens");
    let counts = |line: &&str, name: &str| line.starts_with(name) && !line.ends_with(" 0");
    let page = nodes::eventually("both peers to acknowledge entries", || {
        (0..9).for_each(|_| assert!(block_on(handle.propose(GroupId(1), b"x")).is_ok()));
        let page = metrics(exporter.address());
        let count = |name| page.lines().filter(|line| counts(line, name)).count();
        let both = count("ringleader_link_acknowledged_seconds_count{") == 2
            && count("ringleader_link_alive{") == 2;
        both.then_some(page)
    });
    check(&page);
    let sum = |name: &str, kind: &str| -> f64 {
        let (name, kind) = (format!("{name}{{"), format!("kind=\"{kind}\""));
        let lines = page.lines().filter(|line| line.starts_with(&name) && line.contains(&kind));
        let values: Vec<&str> = lines.filter_map(|line| Some(line.rsplit_once(' ')?.1)).collect();
        assert_eq!(values.len(), 2, "one for each peer: {name} {kind}");
        values.iter().map(|value| value.parse::<f64>().expect("a number")).sum()
    };
    assert!(sum("ringleader_link_messages_sent_total", "append") >= 10.0);
    assert!(sum("ringleader_link_messages_received_total", "append_matched") >= 9.0);
    assert!(sum("ringleader_link_messages_sent_total", "vote_request") >= 1.0);
    let names: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for name in &names {
        assert!(page.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    let mut once = names.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), names.len(), "no family is there twice");
}

#[test]
fn many_groups_are_added_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = node(2000, dir.path());
    let exporter = exporter(&engine);
    let page = loop {
        let page = metrics(exporter.address());
        if value(&page, "ringleader_group_leads{shard=\"0\"}") == 2000.0 {
            break page;
        }
    };
    check(&page);
    assert!(!page.contains("group=\""));
    assert!(page.len() < 64 << 10, "{} bytes", page.len());
}

#[test]
fn what_is_no_request_for_metrics_does_no_harm() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = node(1, dir.path());
    let exporter = exporter(&engine);
    let refused = |request: &[u8], status: &str| {
        let answer = ask(exporter.address(), request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    };
    refused(b"GET / HTTP/1.1\r\n\r\n", "404");
    refused(b"POST /metrics HTTP/1.1\r\n\r\n", "405");
    refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400");
    // Its answer may be lost behind what was not read.
    ask(exporter.address(), &[b"GET /metrics HTTP/1.1\r\nX: ", &[b'y'; 100_000][..]].concat());
    drop(TcpStream::connect(exporter.address()).expect("it listens"));
    check(&metrics(exporter.address()));
    drop(engine);
    assert!(ask(exporter.address(), b"GET /metrics HTTP/1.1\r\n\r\n").contains(" 503 "));
}

#[test]
fn pages_of_the_caller_s_own_are_served_by_their_paths() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = node(1, dir.path());
    let handle = engine.handle();
    let pages = move |path: &str| match path {
        "/hello" => Some(Ok(Page { kind: "text/plain", body: "good day".into() })),
        "/metrics" => Some(block_on(handle.report()).map(|report| Page::metrics(report, 100))),
        _ => None,
    };
    let address = "127.0.0.1:0".parse().expect("an address");
    let exporter = Exporter::serve(address, pages).expect("it listens");
    let hello = ask(exporter.address(), b"GET /hello?who=me HTTP/1.1\r\n\r\n");
    assert!(hello.starts_with("HTTP/1.1 200") && hello.ends_with("\r\n\r\ngood day"), "{hello}");
    check(&metrics(exporter.address()));
    assert!(ask(exporter.address(), b"GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
}
