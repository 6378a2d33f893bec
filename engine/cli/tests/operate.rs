//! The commands that change something, given to real nodes on loopback by the real binary: what
//! they do, what they refuse, and what they say of it.

mod cluster;

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;

use cluster::{
    Cluster, NAME, NOBODY, NODES, NOT_LEADER, REFUSED, UNKNOWN, USAGE, code, eventually, run, text,
};
use ringleader::{GroupId, NodeId};
use serde_json::Value;

/// Not a test by itself: what the child processes run.
#[test]
fn node_process() {
    cluster::serve();
}

#[test]
fn members_change_as_the_leader_is_told() {
    let group = GroupId::from_name(NAME);
    let cluster = Cluster::new(&[group]);
    let leader = cluster.leader(group);
    let follower = cluster.other_than(leader);
    let number = group.to_string();

    // A newcomer gets the log, then a vote, and loses both.
    let told = text(&cluster.run(leader, &["learner", NAME, "4"]));
    assert!(told.contains("changed") && told.contains("voters 1 2 3; learners 4"), "{told}");
    let again = cluster.json(leader, &["learner", &number, "4"]);
    assert_eq!((&again["changed"], &again["group"]), (&false.into(), &number.clone().into()));
    assert!(text(&cluster.run(leader, &["learner", NAME, "4"])).contains("is so already"));
    let promoted = cluster.json(leader, &["promote", NAME, "4"]);
    assert_eq!(promoted["members"]["voters"], serde_json::json!([1, 2, 3, 4]));
    let demoted = cluster.json(leader, &["demote", NAME, "4"]);
    assert_eq!(demoted["members"]["learners"], serde_json::json!([4]));
    let added = cluster.json(leader, &["add", NAME, "4"]);
    assert_eq!(added["members"]["voters"], serde_json::json!([1, 2, 3, 4]));
    let index = added["index"].as_u64().expect("an index");
    assert!(index > promoted["index"].as_u64().expect("an index"));

    // All at once, to others than the leader: who is gone by then says so.
    let voters = format!("{follower},4");
    let changed = cluster.json(leader, &["change", NAME, "--voters", &voters]);
    assert_eq!(changed["changed"], true);
    let led = eventually("one of the two to lead", || {
        let led = cluster.leader(group);
        (led == follower || led == 4).then_some(led)
    });
    let so = cluster.json(led, &["change", NAME, "--voters", &voters]);
    assert_eq!(so["changed"], false);
    let back = cluster.json(led, &["change", NAME, "--voters", "1,2,3", "--learners", "4"]);
    assert_eq!(back["members"]["learners"], serde_json::json!([4]));
    let led = cluster.leader(group);
    let removed = cluster.json(led, &["remove", NAME, "4"]);
    assert_eq!(removed["members"]["learners"], serde_json::json!([]));
    let removed = cluster.json(led, &["remove", NAME, "4"]);
    assert_eq!(removed["changed"], false);
}

#[test]
fn groups_are_created_moved_and_destroyed() {
    let mut cluster = Cluster::new(&[GroupId(7)]);
    let group = GroupId::from_name("payments");
    for node in 1..=3 {
        let created = cluster.json(node, &["create", "payments", "--voters", "1,2,3"]);
        assert_eq!(
            (&created["node"], &created["group"]),
            (&node.into(), &group.0.to_string().into())
        );
    }
    let told = text(&cluster.run(4, &["create", "payments"]));
    assert!(told.contains("created on node 4"), "{told}");
    cluster.fails(1, &["create", "payments", "--voters", "1,2,3"], REFUSED, "on this node already");
    cluster.fails(1, &["create", "8", "--voters", "2,3"], REFUSED, "node 1 is not a voter");
    cluster.fails(1, &["create", "8", "--voters", "1,9"], REFUSED, "node 9 is not known");
    cluster.fails(1, &["destroy", "8"], REFUSED, "no group 8");
    let leader = cluster.leader(group);
    let left = cluster.other_than(leader);
    cluster.fails(left, &["destroy", "payments"], REFUSED, "remove it from the group first");

    let voters: Vec<String> =
        (1..=4).filter(|node| *node != left).map(|node| node.to_string()).collect();
    let changed = cluster.json(leader, &["change", "payments", "--voters", &voters.join(",")]);
    assert_eq!(changed["changed"], true);
    let told = eventually("the removed node to hear of it", || {
        let output = cluster.run(left, &["destroy", "payments"]);
        (code(&output) != REFUSED).then(|| text(&output))
    });
    assert!(told.contains("destroyed on node"), "{told}");
    cluster.fails(left, &["create", "payments"], REFUSED, "use another number");
    // It stays so, and the node's log says why.
    cluster.stop(left);
    let dir = cluster.node_dir(left).display().to_string();
    let inspected = text(&cluster::tool(&["log", "inspect", "--batches", &dir]));
    for what in ["created", "destroyed"] {
        let line = format!("group {group}: {what}");
        assert!(inspected.contains(&line), "no {line:?} in\n{inspected}");
    }
    cluster.start(left);
    cluster.fails(left, &["destroy", "payments"], REFUSED, "no group");

    // A group that is to end is destroyed on each of its nodes.
    for node in (1..=4).filter(|node| *node != left) {
        cluster.json(node, &["destroy", "payments", "--accept-data-loss"]);
    }
    assert!(!text(&cluster.run(leader, &["groups"])).contains(&group.to_string()));
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason() {
    let group = GroupId::from_name(NAME);
    let mut cluster = Cluster::new(&[group, GroupId(7)]);
    let leader = cluster.leader(group);
    let follower = cluster.other_than(leader);
    let named =
        eventually("the follower to know its leader", || cluster.status(follower, group).leader);
    assert_eq!(named, NodeId(leader as u64));
    let address = format!("node {leader} at {}", cluster.addresses[leader - 1]);
    for command in [
        &["add", NAME, "4"][..],
        &["remove", NAME, "1"],
        &["change", NAME, "--voters", "1"],
        &["transfer", NAME],
    ] {
        cluster.fails(follower, command, NOT_LEADER, &address);
    }
    cluster.fails(4, &["add", NAME, "4"], NOT_LEADER, "knows of no leader");

    cluster.fails(leader, &["promote", NAME, "4"], REFUSED, "no member");
    cluster.fails(leader, &["demote", NAME, "4"], REFUSED, "no member");
    let other = follower.to_string();
    cluster.fails(leader, &["learner", NAME, &other], REFUSED, "is a voter");
    cluster.fails(leader, &["add", NAME, "9"], REFUSED, "not known here");
    cluster.fails(leader, &["remove", NAME, "1", "2", "3"], REFUSED, "impossible");
    cluster.fails(leader, &["add", NAME, "4", "4"], REFUSED, "named twice");
    cluster.fails(leader, &["add", "nobody", "4"], REFUSED, "no group");
    cluster.fails(leader, &["snapshot", "nobody"], REFUSED, "no group");
    cluster.fails(leader, &["transfer", NAME, "--to", "4"], REFUSED, "not a voter");
    let this = leader.to_string();
    cluster.fails(leader, &["transfer", NAME, "--to", &this], REFUSED, "leads the group already");
    cluster.fails(leader, &["forget-node", &this], REFUSED, "the node itself");
    cluster.fails(leader, &["set-node", "9", "0.0.0.0:1"], REFUSED, "nobody can connect");
    let seven = cluster.leader(GroupId(7));
    cluster.fails(seven, &["snapshot", "7"], REFUSED, "no snapshots");
    let nothing = text(&cluster.run(4, &["snapshot", "7"]));
    assert!(nothing.contains("nothing is applied"), "{nothing}");

    for usage in [
        &["add", NAME][..],
        &["add", NAME, "0"],
        &["add", NAME, "four"],
        &["change", NAME],
        &["set-node", "9", "nowhere"],
        &["snapshot", "18446744073709551616"],
        &["add"],
    ] {
        assert_eq!(code(&cluster.run(leader, usage)), USAGE, "{usage:?}");
    }

    // A voter that is not there does not catch up. Who is asked meanwhile says that, and who waits
    // too short a time learns that it does not know.
    cluster.stop(4);
    cluster.fails(leader, &["add", NAME, "4", "--wait", "0"], UNKNOWN, "OUTCOME UNKNOWN");
    cluster.fails(leader, &["add", NAME, "4"], REFUSED, "under way");
    cluster.fails(leader, &["transfer", NAME], REFUSED, "change of the members");
    eventually("the change to be given up", || {
        let output = cluster.run(leader, &["add", NAME, "4"]);
        String::from_utf8_lossy(&output.stderr).contains("does not catch up").then_some(())
    });
    let groups = cluster.json(leader, &["groups"]);
    let of_name = |value: &&Value| value["group"] == group.to_string().as_str();
    let mine = groups.as_array().and_then(|all| all.iter().find(of_name)).expect("the group");
    assert_eq!(mine["configuration"]["voters"], serde_json::json!([1, 2, 3]));
}

#[test]
fn leaderships_move_on_request_and_spread() {
    let groups: Vec<GroupId> = (1..=9).map(GroupId).collect();
    let mut cluster = Cluster::new(&groups);
    for group in &groups {
        let leader = cluster.leader(*group);
        if leader != 1 {
            let number = group.to_string();
            let moved = cluster.json(leader, &["transfer", &number, "--to", "1"]);
            assert_eq!(moved["leader"], 1, "{moved}");
        }
    }
    // Whoever follows learns of it with the next message.
    let known = |node: usize| {
        eventually("the node to know who leads", || {
            let groups = cluster.json(node, &["groups"]);
            let mut groups = groups.as_array().expect("a list").iter();
            groups.all(|group| group["leader"] == 1).then_some(())
        });
    };
    (1..NODES).for_each(known);
    let planned = cluster.json(2, &["rebalance"]);
    assert_eq!(planned["moves"], serde_json::json!([]), "node 2 leads nothing");
    assert_eq!(planned["elsewhere"].as_array().map(Vec::len), Some(6), "{planned}");
    let shown = text(&cluster.run(2, &["rebalance"]));
    assert!(shown.contains("6 more are for others to move: ask node 1 too"), "{shown}");
    let dry = cluster.json(1, &["rebalance", "--dry-run"]);
    let outcomes = |value: &Value| -> Vec<Value> {
        let moves = value["moves"].as_array().expect("moves").iter();
        moves.map(|step| step["outcome"].clone()).collect()
    };
    assert_eq!(outcomes(&dry), vec![Value::from("planned"); 6]);
    let done = cluster.json(1, &["rebalance"]);
    assert_eq!(outcomes(&done), vec![Value::from("done"); 6]);
    let mut leads = [0; NODES + 1];
    groups.iter().for_each(|group| leads[cluster.leader(*group)] += 1);
    assert_eq!(leads, [0, 3, 3, 3, 0]);
    let again = text(&cluster.run(1, &["rebalance"]));
    assert!(again.contains("nothing that this node leads is to move"), "{again}");

    // To the best, without naming it; and to one that is not there.
    let leader = cluster.leader(GroupId(1));
    let moved = cluster.run(leader, &["transfer", "1"]);
    assert!(text(&moved).contains("leads, in term"), "{moved:?}");
    let leader = cluster.leader(GroupId(1));
    let gone = cluster.other_than(leader);
    cluster.stop(gone);
    let transfer = ["transfer", "1", "--to", &gone.to_string()];
    let output = cluster.run(leader, &transfer);
    // Refused as soon as the leader has noticed, and not taken before that.
    assert!([REFUSED, UNKNOWN].contains(&code(&output)), "{output:?}");
    assert_eq!(cluster.leader(GroupId(1)), leader, "{output:?}");
}

#[test]
fn snapshots_and_nodes() {
    let group = GroupId::from_name(NAME);
    let cluster = Cluster::new(&[group]);
    let leader = cluster.leader(group);
    let taken = cluster.json(leader, &["snapshot", NAME]);
    assert!(taken["index"].as_u64() >= Some(2), "{taken}");
    assert!(text(&cluster.run(leader, &["snapshot", NAME])).contains("a snapshot covers entry"));

    let known = text(&cluster.run(1, &["nodes"]));
    assert!(known.contains("this node") && known.lines().count() == NODES + 1, "{known}");
    let set = cluster.json(1, &["set-node", "9", "127.0.0.1:9", "--shards", "2"]);
    let ninth = serde_json::json!(
        { "node": 9, "address": "127.0.0.1:9", "shards": 2, "this": false }
    );
    assert_eq!(set.as_array().and_then(|all| all.last()), Some(&ninth));
    let forgotten = cluster.json(1, &["forget-node", "9"]);
    assert_eq!(forgotten.as_array().map(Vec::len), Some(NODES));
}

/// Whoever listens there takes the request and says nothing.
#[test]
fn a_node_that_does_not_answer_leaves_the_outcome_unknown() {
    let dir = tempfile::tempdir().expect("a directory");
    let nobody = run(dir.path(), &["transfer", "1"]);
    assert_eq!(code(&nobody), NOBODY, "{nobody:?}");
    let listener = UnixListener::bind(dir.path().join("admin.sock")).expect("bound");
    let taker = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("somebody asks");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("a request");
        line
    });
    let output = run(dir.path(), &["transfer", "1", "--to", "2"]);
    assert_eq!(code(&output), UNKNOWN, "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown"), "{output:?}");
    let request: Value = serde_json::from_str(&taker.join().expect("no panic")).expect("JSON");
    assert_eq!(request["args"], serde_json::json!({ "group": "1", "to": 2 }));
}

#[test]
fn help_says_what_the_exit_codes_mean() {
    let help = Command::new(env!("CARGO_BIN_EXE_ringleader")).arg("--help").output();
    let help = String::from_utf8(help.expect("it runs").stdout).expect("text");
    for part in ["5  UNKNOWN", "6  this node does not lead", "rebalance", "transfer"] {
        assert!(help.contains(part), "no {part:?} in\n{help}");
    }
}
