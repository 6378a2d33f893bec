//! The status page and the metrics.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::nodes::Nodes;
use crate::resp::Client;

/// Head and body of an answer.
fn ask(nodes: &Nodes, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(nodes.http(0)).unwrap();
    stream.write_all(format!("{request}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

#[test]
fn a_node_shows_its_state_to_people_and_to_prometheus() {
    let nodes = Nodes::three();
    let mut client = Client::to(nodes.plain(0));
    for number in 0..30 {
        assert!(client.say(&format!("SET key-{number} 1")).is_ok());
    }
    let (head, page) = ask(&nodes, "GET / HTTP/1.1");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/html"), "{head}");
    assert!(page.contains("status.json") && !page.contains("://"), "it asks nobody else");
    let (_, json) = ask(&nodes, "GET /status.json HTTP/1.1");
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["node"], 1);
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(status["groups"].as_array().unwrap().len(), 4);
    assert!(status["groups"].as_array().unwrap().iter().all(|group| group["leader"].is_u64()));
    assert!(status["shards"][0]["stats"]["commands"].as_u64().unwrap() >= 30);
    let (head, metrics) = ask(&nodes, "GET /metrics HTTP/1.1");
    assert!(head.contains("openmetrics"), "{head}");
    assert!(metrics.contains("kv_commands_total{shard=\"0\"} "), "{metrics}");
    assert!(metrics.contains("ringleader_uptime_seconds") && metrics.ends_with("# EOF\n"));
    assert!(ask(&nodes, "GET /nothing HTTP/1.1").0.contains("404"));
    assert!(ask(&nodes, "POST / HTTP/1.1").0.contains("405"));
    assert!(ask(&nodes, "nonsense").0.contains("400"));
}
