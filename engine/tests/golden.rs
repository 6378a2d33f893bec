//! Runs the scripts in `scripts/` and compares what happens with what they say. Blank lines part a
//! script into sections: comments and commands, `---`, and the trace that the commands must leave.
//! `UPDATE_GOLDEN=1 cargo test --test golden` writes the traces anew.
//!
//! | command | effect |
//! |---|---|
//! | `cluster 3 [setting=value] [n2=1,1,2]` | starts a group; `n2`'s log has entries of these terms |
//! | `timeout n1` | the clock moves to n1's deadline; only n1 notices |
//! | `advance 100` | so many milliseconds pass for everybody |
//! | `deliver n1 n2 [at 2\|all]`, `deliver all` | one message, another, all there are |
//! | `repeat n1 n2` | delivers the first message and keeps it |
//! | `drop n1 n2 [at 2\|all]`, `drop all` | loses them |
//! | `durable n1 [count]` | completes the oldest WAL batches, or all |
//! | `settle` | completes and delivers until nothing happens any more |
//! | `pass 1000`, `near n1` | time passes and everything works; until n1 is about to tick |
//! | `propose n1 [count [bytes]]` | appends blocks of one entry each |
//! | `transfer n1 [n2]` | n1 is to hand its leadership over, to n2 or to whom it thinks best |
//! | `load n1` | answers a load; `fail-load n1` does not |
//! | `full n1 n2` | n1's outbox for n2 had no room for the last message |
//! | `read n1 7 [lease]`, `gather`, `serve n1` | asks for read 7; lets more share its round; begins it |
//! | `crash n1 [kept]`, `restart n1` | the first `kept` pending batches are on disk |
//! | `cut n1 n2`, `isolate n1`, `heal` | messages vanish silently, one way or both |
//! | `beat`, `silence n1 n2` | all hear that the others are there; n1 has not heard n2 for too long |
//! | `disconnect n1 n2`, `connect n1 n2` | the connection breaks, or is made |
//! | `status`, `logs` | shows them |
//! | `quiet COMMAND` | leaves no trace |

mod harness;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use harness::disk::Disk;
use harness::{STEP, World, show};
use ringleader::raft::reads::Consistency;
use ringleader::raft::{RaftConfig, RoleName};
use ringleader_wal::{NodeId, Term};

fn number(word: &str) -> u64 {
    word.trim_start_matches('n').parse().unwrap_or_else(|_| panic!("{word} is no number"))
}

fn start(words: &[&str]) -> World {
    let mut config = RaftConfig { rest_after: 0, ..RaftConfig::default() };
    let mut disks = vec![Disk::default(); number(words[0]) as usize];
    for word in &words[1..] {
        let (name, value) = word.split_once('=').expect("name=value");
        match name {
            "pre_vote" => config.pre_vote = value == "on",
            "lease_reads" => config.lease_reads = Some(Duration::from_millis(number(value))),
            "rest_after" => config.rest_after = number(value) as u32,
            "check_quorum" => config.check_quorum = value == "on",
            "max_inflight_messages" => config.max_inflight_messages = number(value) as usize,
            "max_inflight_bytes" => config.max_inflight_bytes = number(value) as usize,
            "max_append_bytes" => config.max_append_bytes = number(value) as usize,
            "cache_bytes" => config.cache_bytes = number(value) as usize,
            "term" => disks.iter_mut().for_each(|disk| disk.hard_state.term = Term(number(value))),
            node => {
                let terms: Vec<_> = value.split(',').map(number).collect();
                disks[number(node) as usize - 1] = Disk::with_log(&terms);
            }
        }
    }
    let mut world = World::new(config, disks, 1);
    world.trace = Some(String::new());
    world
}

fn status(world: &World) -> String {
    let mut text = String::new();
    for id in world.ids() {
        if !world.is_up(id) {
            let _ = writeln!(text, "n{id} is down");
            continue;
        }
        let s = world.raft(id).status();
        let role = match s.role {
            RoleName::Follower => "follower",
            RoleName::PreCandidate => "pre-candidate",
            RoleName::Candidate => "candidate",
            RoleName::Leader => "leader",
        };
        let (last, leader) = (show::position(s.last), show::node(s.leader));
        let _ = writeln!(
            text,
            "n{id} {role} t{} vote {} leader {leader} last {last} durable {} commit {}{}{}",
            s.term,
            show::node(s.voted_for),
            s.durable,
            s.commit,
            s.transfers_to.map(|to| format!(" hands over to n{to}")).unwrap_or_default(),
            if s.rests { " rests" } else { "" }
        );
        for peer in world.raft(id).peers() {
            let _ = writeln!(
                text,
                "  n{} {:?} match {} next {} in flight {} ({} B)",
                peer.id,
                peer.mode,
                peer.match_index,
                peer.next_index,
                peer.inflight_messages,
                peer.inflight_bytes
            );
        }
    }
    text
}

fn logs(world: &World) -> String {
    let mut text = String::new();
    for (id, node) in &world.nodes {
        let terms: Vec<_> = node.staged.entries().map(|(_, e)| e.term.to_string()).collect();
        let _ = writeln!(text, "n{id} terms {}", terms.join(" "));
    }
    text
}

/// The messages that a `deliver` or `drop` takes, one after the other.
fn each(world: &mut World, words: &[&str], mut action: impl FnMut(&mut World, u64, u64, usize)) {
    if words == ["all"] {
        for (from, to) in world.in_flight() {
            (0..world.links[&(from, to)].len()).for_each(|_| action(world, from, to, 0));
        }
        return;
    }
    let (from, to) = (number(words[0]), number(words[1]));
    match words[2..] {
        [] => action(world, from, to, 0),
        ["at", at] => action(world, from, to, number(at) as usize - 1),
        ["all"] => {
            (0..world.links[&(from, to)].len()).for_each(|_| action(world, from, to, 0));
        }
        _ => panic!("{words:?}"),
    }
}

fn deliver(world: &mut World, from: u64, to: u64, at: usize) {
    let message = world.take(from, to, at).expect("there is such a message");
    world.arrive(from, to, message);
}

fn propose(world: &mut World, words: &[&str]) {
    for at in 0..words.get(1).map_or(1, |count| number(count)) {
        let bytes = words.get(2).map_or(1, |bytes| number(bytes) as usize);
        assert!(world.propose(number(words[0]), &vec![b'a' + at as u8; bytes]), "it leads");
    }
}

/// Time passes while everything works, until a member is about to tick.
fn near(world: &mut World, id: u64) {
    while world.raft(id).deadline().since(world.now) > STEP {
        world.pass(STEP);
    }
}

fn run(world: &mut World, line: &str) -> String {
    println!("> {line}");
    let words: Vec<_> = line.split_whitespace().collect();
    let node = |at: usize| number(words[at]);
    match words[0] {
        "quiet" => {
            run(world, line.trim_start_matches("quiet "));
        }
        "cluster" => *world = start(&words[1..]),
        "status" => return status(world),
        "logs" => return logs(world),
        "timeout" => world.timeout(node(1)),
        "advance" => world.advance(Duration::from_millis(node(1))),
        "deliver" => each(world, &words[1..], deliver),
        "drop" => each(world, &words[1..], |world, from, to, at| {
            world.take(from, to, at).expect("there is such a message");
        }),
        "repeat" => {
            let message = world.links[&(node(1), node(2))].front().expect("a message").clone();
            world.arrive(node(1), node(2), message);
        }
        "durable" => {
            let count = words.get(2).map_or(usize::MAX, |count| number(count) as usize);
            assert!(world.durable(node(1), count), "there is something to complete");
        }
        "settle" => world.settle(),
        "pass" => world.pass(Duration::from_millis(node(1))),
        "near" => near(world, node(1)),
        "propose" => propose(world, &words[1..]),
        "transfer" => world.transfer(node(1), words.get(2).map(|to| number(to))),
        "read" => {
            let lease = words.get(3) == Some(&"lease");
            let how = if lease { Consistency::Lease } else { Consistency::Linearizable };
            world.read(node(1), node(2), how);
        }
        "gather" => world.gather_reads(),
        "serve" => world.serve_reads(node(1)),
        "load" => assert!(world.load(node(1)), "there is a load"),
        "fail-load" => world.fail_load(node(1)),
        "full" => {
            let lost = world.links.get_mut(&(node(1), node(2))).and_then(|link| link.pop_back());
            assert!(lost.is_some(), "there is a message");
            world.call(node(1), |raft, _, _| raft.on_send_dropped(NodeId(node(2))));
        }
        "crash" => world.crash(node(1), words.get(2).map_or(0, |kept| number(kept) as usize)),
        "restart" => world.restart(node(1)),
        "cut" => world.cut(node(1), node(2)),
        "isolate" => world.isolate(node(1)),
        "heal" => world.heal(),
        "beat" => world.beat(),
        "silence" => world.silence(node(1), node(2)),
        "connect" => world.connect(node(1), node(2)),
        "disconnect" => world.disconnect(node(1), node(2)),
        _ => panic!("unknown command: {line}"),
    }
    world.checker.check_all(&world.nodes);
    world.trace.as_mut().map(std::mem::take).unwrap_or_default()
}

fn replay(script: &str) -> String {
    let mut world = start(&["1"]);
    let mut text = String::new();
    for section in script.split("\n\n").map(str::trim).filter(|section| !section.is_empty()) {
        let input = section.split("\n---").next().unwrap_or(section);
        let commands: Vec<_> =
            input.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        let trace: String = commands.iter().map(|line| run(&mut world, line)).collect();
        text.push_str(if text.is_empty() { "" } else { "\n" });
        text.push_str(input);
        text.push('\n');
        if !commands.is_empty() {
            text.push_str("---\n");
            text.push_str(if trace.is_empty() { "nothing\n" } else { &trace });
        }
    }
    text
}

fn first_difference(expected: &str, found: &str) -> String {
    let mut lines = expected.lines().zip(found.lines()).enumerate();
    match lines.find(|(_, (expected, found))| expected != found) {
        Some((at, (expected, found))) => {
            format!("line {}\n  expected: {expected}\n  found:    {found}", at + 1)
        }
        None => "one goes on where the other ends".to_owned(),
    }
}

#[test]
fn scripts_leave_their_traces() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let entries = std::fs::read_dir(&folder).expect("the scripts are there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    let mut failures = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let expected = std::fs::read_to_string(&path).expect("a script");
        println!("{name}");
        let found = replay(&expected);
        if update {
            std::fs::write(&path, &found).expect("the script can be written");
        } else if expected != found {
            failures.push(format!("{name}: {}", first_difference(&expected, &found)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
