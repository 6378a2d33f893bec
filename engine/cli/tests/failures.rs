//! What the tool says when something is not done, to people and to programs.

mod cluster;

use std::process::Output;

use cluster::{Cluster, NAME, NOBODY, NOT_LEADER, REFUSED, UNKNOWN, code, eventually, run};
use ringleader::{GroupId, NodeId};
use serde_json::{Value, json};

/// What stands on standard error: one line, one object.
fn refusal(output: &Output) -> Value {
    let error = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!(error.lines().count(), 1, "{error}");
    serde_json::from_str(&error).unwrap_or_else(|cause| panic!("{cause}: {error}"))
}

/// Not a test by itself: what the child processes run.
#[test]
fn node_process() {
    cluster::serve();
}

#[test]
fn refusals_are_objects_for_those_who_asked_for_json() {
    let group = GroupId::from_name(NAME);
    let mut cluster = Cluster::new(&[group]);
    let leader = cluster.leader(group);
    let follower = cluster.other_than(leader);
    eventually("the follower to know its leader", || {
        let known = cluster.status(follower, group).leader;
        known.filter(|known| *known == NodeId(leader as u64))
    });
    let ask = |node: usize, args: &[&str], exit: i32| -> Value {
        let output = cluster.run(node, &[args, &["--json"]].concat());
        assert_eq!(code(&output), exit, "{args:?}: {output:?}");
        let said = refusal(&output);
        assert_eq!(said["exit_code"], exit);
        assert!(said["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{said}");
        said["error"].clone()
    };

    let elsewhere = ask(follower, &["transfer", NAME], NOT_LEADER);
    let address = cluster.addresses[leader - 1];
    assert_eq!((&elsewhere["code"], &elsewhere["effect"]), (&json!("not-leader"), &json!("none")));
    assert_eq!(elsewhere["leader"], json!({ "node": leader, "address": address }));
    let unknown = ask(leader, &["snapshot", "nobody"], REFUSED);
    assert_eq!(
        (&unknown["code"], &unknown["effect"], &unknown["leader"]),
        (&json!("unknown-group"), &json!("none"), &Value::Null)
    );
    // What would be done stands on standard output, and only that.
    let output = cluster.run(follower, &["reset-peers", NAME, "--voters", "1,2", "--json"]);
    assert_eq!(code(&output), REFUSED, "{output:?}");
    assert_eq!(refusal(&output)["error"]["code"], "has-leader");
    assert_eq!(refusal(&output)["error"]["leader"]["node"], leader);
    assert!(output.stdout.is_empty(), "{output:?}");

    cluster.stop(4);
    let args = ["add", NAME, "4", "--wait", "0", "--json"];
    let output = cluster.run(leader, &args);
    assert_eq!(code(&output), UNKNOWN, "{output:?}");
    let error = &refusal(&output)["error"];
    assert_eq!((&error["code"], &error["effect"]), (&json!("unknown"), &json!("unknown")));
    // People get a sentence.
    let output = cluster.run(leader, &["snapshot", "nobody"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.starts_with("error: refused (unknown-group): "), "{error}");
}

#[test]
fn what_could_not_be_asked_is_an_object_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = run(dir.path(), &["status", "--json"]);
    assert_eq!(code(&output), NOBODY, "{output:?}");
    let said = refusal(&output);
    assert_eq!(
        (&said["error"]["code"], &said["error"]["effect"]),
        (&json!("no-node"), &json!("none"))
    );
    let path = dir.path().display().to_string();
    let output = cluster::tool(&["log", "verify", &path, "--json"]);
    assert_eq!(code(&output), NOBODY, "{output:?}");
    assert_eq!(refusal(&output)["error"]["code"], "no-log");
}

#[test]
fn peers_and_dump_say_who_is_alive_and_who_votes() {
    let group = GroupId::from_name(NAME);
    let mut cluster = Cluster::new(&[group]);
    let leader = cluster.leader(group);
    cluster.json(leader, &["learner", NAME, "4"]);
    let follower = cluster.other_than(leader);
    let gone = (1..=3).find(|node| ![leader, follower].contains(node)).expect("a third");
    let alive_at = |cluster: &Cluster, node: usize, list: &str, of: &str| -> Vec<bool> {
        let peers = cluster.json(node, &["peers"]);
        let members = peers[list][0][of].as_array().cloned().unwrap_or_default();
        members.iter().map(|member| member["alive"] == true).collect()
    };
    eventually("all to be seen", || {
        let peers = alive_at(&cluster, leader, "groups", "peers");
        let members = alive_at(&cluster, follower, "followed", "members");
        (peers == [true; 3] && members == [true; 4]).then_some(())
    });
    cluster.stop(gone);
    eventually("one to be missed", || {
        let count = |alive: Vec<bool>| alive.iter().filter(|alive| !**alive).count();
        let peers = count(alive_at(&cluster, leader, "groups", "peers"));
        let members = count(alive_at(&cluster, follower, "followed", "members"));
        (peers == 1 && members == 1).then_some(())
    });
    let shown = cluster::text(&cluster.run(leader, &["peers"]));
    for part in ["learner", "voter", "NO", "DOWN"] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
    let shown = cluster::text(&cluster.run(follower, &["peers"]));
    let line = shown.lines().find(|line| line.contains(&group.to_string()));
    let cells: Vec<&str> = line.expect("the group").split("  ").map(str::trim).collect();
    assert!(cells.contains(&"1 2 3") && cells.contains(&gone.to_string().as_str()), "{shown}");

    let dump = cluster.json(leader, &["dump"]);
    let dumped = &dump["report"]["groups"][0];
    assert_eq!(dumped["voted_for"], leader);
    assert_eq!(dumped["base"]["index"], 0);
    assert_eq!(dumped["members"].as_array().map(Vec::len), Some(4));
    let text = dump["text"].as_str().expect("text");
    for part in ["hands over to", "log from", "created", "in memory B", "append_matched"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}
