//! Mistakes in the arguments, directories and ports that cannot be used, and strangers on the
//! ports: a clear error, or no effect.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, counter, ends, raft};

#[test]
fn wrong_arguments_are_answered_with_the_usage() {
    let usage = |args: &[&str], says: &str| ends(counter().args(args), 2, &[says, "--help"]);
    let server = |peers: &str, says: &str| {
        let data = ["server", "--data-dir", "/nowhere/to/be/made", "--group", "counter"];
        let ports = ["--listen", "127.0.0.1:8081", "--peers", peers];
        usage(&[&data[..], &ports[..]].concat(), says);
    };
    let client = |args: &[&str], says: &str| {
        let cluster = ["client", "--group", "counter", "--peers", "127.0.0.1:1"];
        usage(&[&cluster[..], args].concat(), says);
    };
    usage(&[], "server");
    usage(&["--verbose"], "--verbose");
    usage(&["server", "--quick"], "--quick");
    server("127.0.0.1:8082,127.0.0.1:8083", "--listen 127.0.0.1:8081 is not one of --peers");
    server("127.0.0.1:8081,127.0.0.1:65535", "must be 1 to 55535");
    server("127.0.0.1:8081,127.0.0.1:8081", "given twice");
    server("127.0.0.1:8081,localhost", "localhost");
    client(&[], "add");
    client(&["add"], "AMOUNT");
    client(&["add", "five"], "five");
    client(&["add", "5", "--count", "-1"], "-1");
    client(&["--timeout", "0", "get"], "0");
    usage(&["client", "--group", "two words", "--peers", "127.0.0.1:1", "get"], "white space");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_refused() {
    let mut cluster = Cluster::new(2);
    let dir = cluster.data_dir(0);

    fs::write(&dir, "a file").unwrap();
    ends(&mut cluster.server(0), 1, &["data directory", "server-0"]);
    fs::remove_file(&dir).unwrap();

    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("holiday.jpg"), "a photograph").unwrap();
    ends(&mut cluster.server(0), 1, &["data directory", "holiday.jpg"]);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "something was written to it");
    fs::remove_file(dir.join("holiday.jpg")).unwrap();

    cluster.start_and_wait(0);
    assert!(cluster.terminate(0).success());
    fs::rename(&dir, cluster.data_dir(1)).unwrap();
    ends(&mut cluster.server(1), 1, &["data directory", "another node"]);
}

#[test]
fn a_damaged_log_is_refused_with_the_place_and_what_to_do() {
    let mut cluster = Cluster::started(1);
    cluster.value(&["add", "5", "--count", "20"]);
    assert!(cluster.terminate(0).success());
    let name = "shard-0/00000001.wal";
    let segment = fs::File::options().read(true).write(true).open(cluster.data_dir(0).join(name));
    let (segment, mut byte) = (segment.unwrap(), [0]);
    // The first page is the segment's header; batches begin in the second.
    segment.read_exact_at(&mut byte, 5 * 4096 + 100).unwrap();
    segment.write_all_at(&[byte[0] ^ 1], 5 * 4096 + 100).unwrap();
    let place = "00000001.wal at offset 20480";
    let advice = "remove the node from its groups and add it again as a new node";
    ends(&mut cluster.server(0), 1, &["shard 0", place, "it had been durable", advice]);
}

#[test]
fn a_second_server_on_a_directory_or_a_port_is_refused_and_the_first_serves_on() {
    let cluster = Cluster::started(1);
    assert_eq!(cluster.value(&["add", "5"]), 5);
    ends(&mut cluster.server(0), 1, &["data directory", "another process is using it"]);

    let elsewhere = tempfile::tempdir().unwrap();
    let on_its_port = |address: SocketAddr, says: &str| {
        let mut command = counter();
        command.args(["server", "--group", "counter", "--data-dir"]).arg(elsewhere.path());
        command.args(["--listen", &address.to_string(), "--peers", &address.to_string()]);
        ends(&mut command, 1, &["listening", says, "in use"]);
    };
    on_its_port(cluster.addresses[0], &raft(cluster.addresses[0]).to_string());
    assert_eq!(cluster.value(&["add", "5"]), 10);
}

#[test]
fn a_clients_port_that_is_taken_is_refused() {
    let cluster = Cluster::new(1);
    let _taken = TcpListener::bind(cluster.addresses[0]).unwrap();
    ends(&mut cluster.server(0), 1, &["listening for clients", "in use"]);
}

#[test]
fn too_little_memory_to_lock_is_an_error() {
    let cluster = Cluster::new(1);
    let mut command = cluster.server(0);
    // SAFETY: setrlimit is async-signal-safe and reads a value on the stack.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
            match libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    ends(&mut command, 1, &["64 KiB", "RLIMIT_MEMLOCK"]);
}

/// Bytes without any sense, the same in every run.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 56) as u8
    };
    (0..(seed % 3000)).map(byte).collect()
}

/// Throws bytes at a port and takes whatever comes. The server may cut us off at any moment.
fn throw(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    if stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write)).is_ok() {
        let _ = stream.read(&mut [0; 512]);
    }
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn garbage_on_its_ports_does_not_disturb_a_server() {
    let cluster = Cluster::started(1);
    assert_eq!(cluster.value(&["add", "5"]), 5);
    let answers = |request: &str, expected: &str| {
        assert_eq!(cluster.ask(0, request).as_deref(), Some(expected));
    };
    let form = "error a request is `GROUP add AMOUNT` or `GROUP get`";
    answers("", form);
    answers("GET / HTTP/1.1", form);
    answers("counter add five", "error AMOUNT must be a 64-bit integer");
    answers("other add 5", "error this server keeps the group \"counter\"");
    answers(&"x".repeat(5000), "error the line is too long");

    let clients = cluster.addresses[0];
    // Half a request is none.
    throw(clients, b"counter add 5");
    let before = resident_kib(cluster.pid(0));
    let start = Instant::now();
    let mut thrown = 0;
    // CI takes a minute; see `.ci/run`.
    let seconds = std::env::var("RINGLEADER_GARBAGE_SECONDS").map_or(2, |s| s.parse().unwrap());
    while start.elapsed() < Duration::from_secs(seconds) {
        thrown += 1;
        throw(clients, &noise(thrown));
        throw(raft(clients), &noise(thrown));
    }
    let after = resident_kib(cluster.pid(0));
    println!("{thrown} times garbage on both ports; resident {before} KiB, then {after} KiB");
    assert!(after < before + (32 << 10), "{before} KiB grew to {after} KiB");
    assert_eq!(cluster.value(&["add", "5"]), 10);
}
