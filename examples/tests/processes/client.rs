//! The client against servers that follow a script.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Output;
use std::thread::{self, JoinHandle};

use crate::cluster::{counter, free_port, texts};

/// A server that gives one of the answers to each request, the empty one by hanging up; hands
/// back the requests that it got. It ends with its script, so the client must use it up.
fn scripted(answers: &[&str]) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut answers: Vec<String> = answers.iter().rev().map(|&answer| answer.into()).collect();
    let server = thread::spawn(move || {
        let mut requests = Vec::new();
        while !answers.is_empty() {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while !answers.is_empty() && reader.read_line(&mut line).unwrap() > 0 {
                requests.push(std::mem::take(&mut line).trim_end().to_owned());
                let answer = answers.pop().unwrap();
                if answer.is_empty() {
                    break;
                }
                stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
            }
        }
        requests
    });
    (address, server)
}

fn client(peers: &[SocketAddr], args: &[&str]) -> Output {
    let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
    let mut command = counter();
    command.args(["client", "--group", "g", "--timeout", "2", "--peers", &peers.join(",")]);
    command.args(args).output().unwrap()
}

#[test]
fn a_lost_answer_is_unknown_and_not_asked_again() {
    for answer in ["", "unknown leadership was lost", "what", "ok seven"] {
        let (address, server) = scripted(&[answer]);
        let output = client(&[address], &["add", "5"]);
        assert_eq!(output.status.code(), Some(3), "{answer:?}: {output:?}");
        let (out, err) = texts(&output);
        assert_eq!(out, "");
        assert!(err.contains("unknown: it may or may not have been applied"), "{err}");
        assert_eq!(server.join().unwrap(), ["g add 5"]);
    }
}

#[test]
fn no_answer_in_time_is_unknown() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = client(&[silent.local_addr().unwrap()], &["add", "5"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(texts(&output).1.contains("no answer in"), "{output:?}");
}

#[test]
fn a_count_stops_at_the_first_that_is_not_certain() {
    let (address, server) = scripted(&["ok 5", "retry busy", "ok 10", ""]);
    let output = client(&[address], &["add", "5", "--count", "9"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let (out, err) = texts(&output);
    assert_eq!(out, "5\n10\n");
    assert!(err.contains("2 of 9 are certain"), "{err}");
    assert_eq!(server.join().unwrap(), ["g add 5"; 4]);
}

#[test]
fn what_was_certainly_not_applied_is_tried_elsewhere() {
    let refusing: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let (leader, leading) = scripted(&["ok 12"]);
    let (follower, following) = scripted(&["retry no leader", &format!("redirect {leader}")]);
    let output = client(&[refusing, follower], &["add", "12"]);
    assert_eq!(texts(&output), ("12\n".into(), String::new()));
    assert!(output.status.success());
    assert_eq!(following.join().unwrap(), ["g add 12"; 2]);
    assert_eq!(leading.join().unwrap(), ["g add 12"]);
}

#[test]
fn a_get_may_be_asked_again() {
    let (address, server) = scripted(&["", "unknown stopped", "ok 3"]);
    let output = client(&[address], &["get"]);
    assert_eq!(texts(&output), ("3\n".into(), String::new()));
    assert_eq!(server.join().unwrap(), ["g get"; 3]);
}

#[test]
fn an_error_or_nobody_there_is_an_error() {
    let (address, server) = scripted(&["error no such group"]);
    let output = client(&[address], &["add", "5"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(texts(&output).1, "error: no such group\n");
    assert_eq!(server.join().unwrap().len(), 1);

    let output = client(&[([127, 0, 0, 1], free_port()).into()], &["add", "5"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let (_, err) = texts(&output);
    assert!(err.contains("gave up after 2s") && err.contains("refused"), "{err}");
}
