//! The client, against a server that keeps to a script.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::load::{Load, Measured, Target, run};
use super::meter::Meter;
use super::tally::Tally;
use crate::kv::resp::reply::Framing;

/// Answers every request, in pieces that end anywhere: `GET` with what it is told, all else with a status.
fn serve(mut stream: TcpStream, get: &'static [u8]) {
    let (mut input, mut framing, mut chunk) = (Vec::new(), Framing::default(), [0; 1000]);
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        input.extend_from_slice(&chunk[..count]);
        let mut output = Vec::new();
        while let Some(length) = framing.next(&input).expect("requests are arrays of strings") {
            let request: Vec<u8> = input.drain(..length).collect();
            let is_get = request.windows(3).any(|word| word == b"GET");
            output.extend_from_slice(if is_get { get } else { b"+OK\r\n" });
        }
        for piece in output.chunks(7) {
            if stream.write_all(piece).is_err() {
                return;
            }
        }
    }
}

/// A server that answers until the test's process ends.
fn scripted(get: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream, get));
        }
    });
    address
}

fn load() -> Load {
    Load {
        connections: 5,
        pipeline: 16,
        payload: 8,
        writes: 50,
        threads: 2,
        keys: 100,
        warmup: Duration::from_millis(10),
        measured: Duration::from_millis(200),
    }
}

fn target(address: SocketAddr) -> Target {
    Target { address, keys: (0..100).collect() }
}

fn meter() -> Meter {
    Meter { servers: vec![std::process::id()], disk: None }
}

/// Runs the load until it did something: on a busy machine nothing may come about in a short time.
fn run_until(targets: &[Target], load: &Load, enough: impl Fn(&Tally) -> bool) -> Measured {
    loop {
        let measured = run(targets, load, &meter()).unwrap();
        if enough(&measured.tally) {
            return measured;
        }
    }
}

#[test]
fn pipelines_go_on_as_long_as_replies_come() {
    let targets = [target(scripted(b"$8\r\nxxxxxxxx\r\n")), target(scripted(b"$2\r\n\r\n\r\n"))];
    // More than is in flight at once.
    let measured = run_until(&targets, &load(), |tally| tally.latencies.len() > 5 * 16);
    assert_eq!((measured.tally.errors, measured.tally.first_error), (0, None));
    assert!(measured.cost.seconds >= 0.2 && measured.cost.flushes.is_none());
}

#[test]
fn errors_are_told_and_are_no_operations() {
    let targets = [target(scripted(b"-MOVED 1 127.0.0.1:1\r\n"))];
    // The keys get their values, and then nothing can be read.
    let load = Load { writes: 0, ..load() };
    let measured = run_until(&targets, &load, |tally| tally.errors > 0);
    assert!(measured.tally.latencies.is_empty());
    assert_eq!(measured.tally.first_error.as_deref(), Some("-MOVED 1 127.0.0.1:1"));
}

#[test]
fn a_lost_value_is_an_error() {
    let measured = run_until(&[target(scripted(b"_\r\n"))], &load(), |tally| tally.errors > 0);
    assert!(measured.tally.first_error.unwrap().contains("not there"));
}

#[test]
fn a_server_that_goes_ends_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // Greets, and hears one pipeline.
            let mut chunk = [0; 1000];
            let _ = stream.read(&mut chunk);
            let _ = stream.write_all(b"+OK\r\n");
            let _ = stream.read(&mut chunk);
        }
    });
    let load = Load {
        connections: 1,
        threads: 1,
        writes: 100,
        measured: Duration::from_secs(60),
        ..load()
    };
    let error = run(&[target(address)], &load, &meter()).err().expect("nobody answers");
    let error = format!("{error:#}");
    assert!(error.contains("closed") || error.contains("receiving"), "{error}");
}

#[test]
fn what_is_no_reply_is_refused() {
    let error = run(&[target(scripted(b"HTTP/1.1 400\r\n"))], &load(), &meter()).err().unwrap();
    assert!(format!("{error:#}").contains("RESP3"), "{error:#}");
}
