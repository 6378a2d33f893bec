//! What people type: mistakes get a clear error, and `kv cluster` is a cluster to try things out on.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::children::{child, free_port, wait_for};
use crate::resp::Client;

fn kv() -> Command {
    child(env!("CARGO_BIN_EXE_kv"))
}

/// Runs a command that must end by itself with this code, and say this on stderr.
fn fails(command: &mut Command, code: i32, says: &str) {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {errors}");
    assert!(errors.contains(says) && !errors.contains("panicked"), "{command:?}: {errors}");
}

#[test]
fn mistakes_are_answered_with_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kv.toml");
    let serve = |text: &str, says: &str| {
        fs::write(&file, text).unwrap();
        fails(kv().args(["server", "--config"]).arg(&file), 1, says);
    };
    let port = free_port();
    let node = format!("[[nodes]]\nid = 1\naddress = \"127.0.0.1:{port}\"\n");
    let data = dir.path().join("data");
    let complete =
        |more: &str| format!("cluster = \"kv\"\nnode = 1\ndata_dir = {data:?}\n{more}{node}");
    fails(&mut kv(), 2, "Usage");
    fails(kv().args(["server", "--config", "/nowhere"]), 1, "/nowhere");
    serve("cluster = 5", "expected a string");
    serve("cluster = \"kv\"", "missing field `node`");
    serve(&complete("colour = 1\n"), "unknown field `colour`");
    serve(&complete("groups = 0\n"), "groups must be 1 to 1024");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    serve(&complete(&format!("plain_listen = \"{taken}\"\n")), &taken.to_string());
    assert!(!data.exists(), "nothing was begun");
}

#[test]
fn a_cluster_to_try_says_how_to_connect_and_ends_when_it_is_told() {
    // Ports of three nodes, one behind the other, and those 100 and 200 above them.
    let port = free_port();
    let mut cluster = kv();
    cluster.args(["cluster", "--groups", "3", "--port", &port.to_string()]);
    let mut cluster = cluster.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(cluster.stdout.take().unwrap()).lines();
    let lines: Vec<String> =
        lines.map_while(Result::ok).take_while(|line| !line.contains("Ctrl-C")).collect();
    assert!(
        lines.iter().any(|line| line.contains(&format!("redis-cli -c -p {port}"))),
        "{lines:?}"
    );
    let plain = SocketAddr::from(([127, 0, 0, 1], port + 100));
    wait_for("a leader", || {
        let mut client = Client::connect(plain).ok()?;
        client.try_say("SET key value").is_ok_and(|reply| reply.is_ok()).then_some(())
    });
    // SAFETY: the child was not waited for, so the number is still its own.
    assert_eq!(unsafe { libc::kill(cluster.id() as libc::pid_t, libc::SIGTERM) }, 0);
    let (status, _) = wait_for("the cluster to end", || cluster.try_wait().unwrap());
    assert!(status.success());
    assert!(Client::connect(plain).is_err(), "its nodes have ended with it");
}

#[test]
fn a_comparison_that_can_not_be_made_says_why() {
    let compare = |line: &str| {
        let mut command = kv();
        command.arg("compare").args(line.split_whitespace());
        command
    };
    fails(&mut compare("--payloads 7"), 2, "--payloads");
    fails(&mut compare("--connections 2"), 1, "each of the 3 shards");
    fails(&mut compare("--json /nowhere/x.json --systems kv"), 1, "/nowhere/x.json");
    fails(&mut compare("--data-dir /nowhere"), 1, "making a directory in /nowhere");
    fails(&mut compare("--data-dir /dev/shm"), 1, "kept in memory");
    let here = ["--data-dir", env!("CARGO_TARGET_TMPDIR")];
    let mut lonely = compare("--systems redis");
    fails(lonely.args(here).env("PATH", ""), 1, "redis-server can't be run");
}
