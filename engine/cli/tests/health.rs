//! What goes wrong with the disk of a node, on real processes, and what an operator sees and does.

mod children;
mod cluster;

use children::disk::{Disk, pull_out, remove_log};
use children::{Cluster, LAST_STRAW, Node, Place, addresses, command, damage_log, refused};
use cluster::{DONE, code, eventually, text, tool};
use ringleader::{GroupId, StartError, place};
use serde_json::json;

/// Not a test by itself: what the child processes run.
#[test]
fn node_process() {
    children::serve();
}

/// Nodes 1 to 3, which vote in these groups.
fn places(dir: &std::path::Path, shards: u32, groups: &[u64]) -> [Place; 3] {
    let members = (1..).zip(addresses(3)).collect();
    let first = Place {
        node: 1,
        dir: dir.join("node-1"),
        shards,
        members,
        groups: groups.to_vec(),
        voters: vec![1, 2, 3],
    };
    let of = |node: u64| Place { node, dir: dir.join(format!("node-{node}")), ..first.clone() };
    [of(1), of(2), of(3)]
}

/// Has node 1 lead the group.
fn lead(cluster: &mut Cluster, group: u64) {
    cluster.propose(group, 1);
    let name = group.to_string();
    eventually("node 1 to lead", || {
        let groups = cluster.node(1).json(&["groups"]);
        let groups = groups.as_array().expect("groups").clone();
        let leads = |found: &&serde_json::Value| found["group"] == name.as_str();
        if groups.iter().find(leads).is_some_and(|found| found["leader"] == 1) {
            return Some(());
        }
        for node in [2, 3] {
            // Whoever does not lead says so.
            cluster.node(node).tool(&["transfer", &name, "--to", "1"]);
        }
        None
    });
}

/// Node 1's first shard, which listens for the node, has a disk of its own.
fn start_on(disk: &Disk, place: &Place) -> Node {
    let shard = place.dir.join("shard-0");
    std::fs::create_dir_all(&shard).expect("a directory");
    let mut command = command(place);
    let device = disk.mount(&mut command, &shard).expect("as before");
    let node = Node::start_with(place, command);
    drop(device);
    node
}

/// What the tool and the metrics say of a node whose first shard is in `state`, and whose second is
/// well; and whose metric `metric` says so.
fn check_health(node: &Node, state: &str, cause: &str, metric: &str) {
    let status = node.json(&["status"]);
    let (failed, well) = (&status["shards"][0], &status["shards"][1]);
    assert_eq!(failed["health"]["state"], state, "{status}");
    assert!(
        failed["health"]["cause"].as_str().is_some_and(|said| said.contains(cause)),
        "{status}"
    );
    assert_eq!(well["health"], json!({ "state": "running" }));
    let shown = text(&node.tool(&["status"]));
    assert!(shown.contains(state) && shown.contains(cause), "{shown}");
    let metrics = node.metrics();
    for (metric, values) in [(metric, [1, 0]), ("up", [0, 1])] {
        for (shard, value) in values.iter().enumerate() {
            let line = format!("ringleader_{metric}{{shard=\"{shard}\"}} {value}\n");
            assert!(metrics.contains(&line), "no {line:?} in\n{metrics}");
        }
    }
}

/// A group on each of two shards.
fn group_of_each() -> [u64; 2] {
    [0, 1].map(|shard| (1..).find(|group| place(GroupId(*group), 2) == shard).expect("one"))
}

#[test]
fn a_shard_whose_disk_fails_is_reported_and_the_others_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(dir.path());
    let [failing, other] = group_of_each();
    let places = places(dir.path(), 2, &[failing, other]);
    let shard = places[0].dir.join("shard-0");
    let mut cluster = Cluster::default();
    cluster.nodes.insert(
        1,
        match &disk {
            Ok(disk) => start_on(disk, &places[0]),
            Err(_) => Node::start(&places[0]),
        },
    );
    for place in &places[1..] {
        cluster.nodes.insert(place.node, Node::start(place));
    }
    for group in [failing, other] {
        lead(&mut cluster, group);
        cluster.propose(group, 20);
    }

    match &disk {
        Ok(_) => pull_out(cluster.node(1).pid(), &shard),
        Err(cause) => {
            println!("there is no disk of one's own here ({cause}): files are removed instead");
            remove_log(&shard);
        }
    }
    // What was in the log when it failed may be done yet; what comes later is not begun.
    let answer = eventually("the failure to be noticed", || {
        let answer = cluster.propose_at(1, failing);
        answer.starts_with("StorageFailed").then_some(answer)
    });
    assert!(answer.contains("the log failed at") && answer.contains(".wal"), "{answer}");
    check_health(cluster.node(1), "storage-failed", "the log failed at", "storage_failed");

    // The node's other shard leads on, and its groups' other members take over what failed.
    for _ in 0..20 {
        assert_eq!(cluster.propose_at(1, other), "done");
    }
    cluster.propose(failing, 20);
    let groups = cluster.node(2).json(&["groups"]);
    let found = groups.as_array().expect("groups").iter();
    let leaders: Vec<_> = found.map(|group| (&group["group"], &group["leader"])).collect();
    assert!(leaders.contains(&(&json!(other.to_string()), &json!(1))), "{leaders:?}");
    assert!(!leaders.contains(&(&json!(failing.to_string()), &json!(1))), "{leaders:?}");

    // On a disk that works, the node has what it had, and catches up.
    cluster.nodes.remove(&1).expect("it ran").stop();
    let Ok(disk) = disk else { return };
    cluster.nodes.insert(1, start_on(&disk, &places[0]));
    cluster.propose(failing, 5);
    [failing, other].into_iter().for_each(|group| cluster.check(group));
    let status = cluster.node(1).json(&["status"]);
    assert_eq!(status["shards"][0]["health"], json!({ "state": "running" }));
}

#[test]
fn a_shard_that_panicked_is_reported_and_the_other_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let [failing, other] = group_of_each();
    let [mut alone, ..] = places(dir.path(), 2, &[failing, other]);
    alone.members.retain(|node, _| *node == 1);
    alone.voters = vec![1];
    let mut cluster = Cluster::default();
    cluster.nodes.insert(1, Node::start(&alone));
    [failing, other].into_iter().for_each(|group| cluster.propose(group, 5));

    let node = cluster.node(1);
    assert_eq!(node.propose(failing, LAST_STRAW), "Unknown(Stopped)");
    assert_eq!(node.propose(failing, 1), "Stopped");
    check_health(node, "panicked", "this is too much", "panicked");
    cluster.propose(other, 5);
    cluster.check(other);
    cluster.nodes.remove(&1).expect("it ran").stop();
}

/// As the README says it, under "A node whose data is damaged or lost".
#[test]
fn a_node_with_a_damaged_log_is_refused_and_brought_back_from_its_peers() {
    let dir = tempfile::tempdir().expect("a directory");
    let [one, two, three] = places(dir.path(), 1, &[1, 2]);
    let mut cluster = Cluster::default();
    for place in [&one, &two, &three] {
        cluster.nodes.insert(place.node, Node::start(place));
    }
    [1, 2].into_iter().for_each(|group| cluster.propose(group, 30));
    [1, 2].into_iter().for_each(|group| cluster.check(group));

    cluster.nodes.remove(&3).expect("it ran").stop();
    let (file, offset) = damage_log(&three.dir.join("shard-0"));
    let place = format!("{file} at offset {offset}");
    refused(&three, &["shard 0", &place, StartError::HEAL]);
    let verdict = tool(&["log", "verify", &three.dir.display().to_string()]);
    assert_eq!(code(&verdict), 1);
    let said = String::from_utf8_lossy(&verdict.stdout).into_owned();
    assert!(said.contains(&place) && said.contains(StartError::HEAL), "{said}");
    // The group goes on meanwhile.
    cluster.propose(1, 10);

    let [new] = addresses(1)[..] else { panic!("no address") };
    for group in ["1", "2"] {
        cluster.at_leader(&["remove", group, "3"]);
    }
    for node in [1, 2] {
        let at = new.to_string();
        let node = cluster.node(node);
        for args in [&["forget-node", "3"][..], &["set-node", "4", &at]] {
            assert_eq!(code(&node.tool(args)), DONE, "{args:?}");
        }
    }
    let mut members = one.members.clone();
    members.remove(&3);
    members.insert(4, new);
    let four = Place {
        node: 4,
        dir: dir.path().join("node-4"),
        members,
        voters: Vec::new(),
        ..three.clone()
    };
    cluster.nodes.insert(4, Node::start(&four));
    for group in ["1", "2"] {
        cluster.at_leader(&["add", group, "4"]);
    }

    // It has everything, and its vote counts: another may go.
    [1, 2].into_iter().for_each(|group| cluster.check(group));
    cluster.nodes.remove(&1).expect("it ran").stop();
    [1, 2].into_iter().for_each(|group| cluster.propose(group, 10));
    [1, 2].into_iter().for_each(|group| cluster.check(group));
}
