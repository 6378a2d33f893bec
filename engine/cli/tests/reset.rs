//! A group that goes on without its majority, with the tool alone: what each node has, what would
//! be lost, the decision, and what becomes of the nodes that were thought to be lost.

mod cluster;

use cluster::{Cluster, DONE, NAME, REFUSED, code, eventually, text};
use ringleader::{GroupId, RoleName};
use serde_json::{Value, json};

/// Not a test by itself: what the child processes run.
#[test]
fn node_process() {
    cluster::serve();
}

/// The group as the survey shows it.
fn survey(cluster: &Cluster, group: GroupId) -> Vec<Value> {
    let dirs: Vec<String> =
        (1..=4).map(|node| cluster.node_dir(node).display().to_string()).collect();
    let mut args = vec!["survey", "--json"];
    args.extend(dirs.iter().map(String::as_str));
    let output = cluster::tool(&args);
    assert_eq!(code(&output), DONE, "{output:?}");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let groups = found["groups"].as_array().expect("groups");
    let mine = groups.iter().find(|found| found["group"] == group.to_string().as_str());
    mine.expect("the group")["replicas"].as_array().expect("replicas").clone()
}

/// Applied everywhere as far as `node` has it.
fn settled(cluster: &Cluster, node: usize, on: &[usize]) -> u64 {
    eventually("all to have applied the same", || {
        let applied = cluster.count(node);
        on.iter().all(|other| cluster.count(*other) == applied).then_some(applied)
    })
}

#[test]
fn one_node_that_is_left_goes_on_and_the_others_come_back() {
    let group = GroupId::from_name(NAME);
    let mut cluster = Cluster::new(&[group]);
    let leader = cluster.leader(group);
    for _ in 0..20 {
        cluster.leader(group);
    }
    let acknowledged = settled(&cluster, leader, &[1, 2, 3]);
    let refused = ["reset-peers", NAME, "--voters", "1", "--accept-data-loss"];
    cluster.fails(1, &refused, REFUSED, "has a leader");

    // Two of three are lost. What is left, and what the two had, is side by side.
    let left = 1;
    cluster.stop(2);
    cluster.stop(3);
    let replicas = survey(&cluster, group);
    let of = |node: usize| replicas.iter().find(|replica| replica["node"] == node).expect("it");
    assert_eq!((&of(1)["running"], &of(2)["running"]), (&json!(true), &json!(false)));
    assert!(of(1)["commit"].as_u64() >= Some(acknowledged) && of(3)["commit"].is_null());
    assert_eq!(replicas[0]["best"], true, "the one with the most comes first");
    assert_eq!(of(4)["best"], false, "it has nothing");
    let dir = cluster.node_dir(1).display().to_string();
    let shown = text(&cluster::tool(&["survey", &dir]));
    assert!(shown.contains("running") && shown.contains("voters 1 2 3"), "{shown}");

    // It says what it would come to, and does nothing.
    eventually("the node to know that it has no leader", || {
        cluster.status(left, group).leader.is_none().then_some(())
    });
    let before = cluster.status(left, group);
    let plan = cluster.run(left, &["reset-peers", NAME, "--voters", "1"]);
    assert_eq!(code(&plan), REFUSED, "{plan:?}");
    let shown = String::from_utf8_lossy(&plan.stdout).into_owned();
    for part in ["LOST            what node 2 3 had", "ACKNOWLEDGED", "voters 1 2 3", "to entry"] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
    assert!(String::from_utf8_lossy(&plan.stderr).contains("--accept-data-loss"));
    let after = cluster.status(left, group);
    assert_eq!(after.configuration, before.configuration);
    assert!(!after.is_superseded());
    cluster.fails(left, &["reset-peers", NAME, "--voters", "4"], REFUSED, "has to be a voter");
    cluster.fails(left, &["reset-peers", NAME, "--voters", "1,9"], REFUSED, "not known here");
    let both = ["reset-peers", NAME, "--voters", "1", "--learners", "1"];
    cluster.fails(left, &both, REFUSED, "both voter and learner");

    let done = cluster.json(left, &["reset-peers", NAME, "--voters", "1", "--accept-data-loss"]);
    assert_eq!((&done["done"], &done["without"]), (&json!(true), &json!([2, 3])));
    assert_eq!(cluster.leader(group), left);
    assert!(cluster.count(left) >= acknowledged, "what it had is there");

    // The two come back, one after the other as the manual says: each hears of it before it could
    // find another of its kind, and elects nobody.
    for node in [2, 3] {
        cluster.start(node);
        eventually("it to hear of the reset", || {
            let status = cluster.status(node, group);
            assert_ne!(status.role, RoleName::Leader, "a rival");
            status.is_superseded().then_some(())
        });
        assert!(text(&cluster.run(node, &["groups"])).contains("superseded"));
    }
    assert_eq!(cluster.leader(group), left);

    // As they had nothing committed that the new history contradicts, they are members again on
    // request; so is one that never had anything.
    let added = cluster.json(left, &["change", NAME, "--voters", "1,2,3,4"]);
    assert_eq!(added["members"]["voters"], json!([1, 2, 3, 4]));
    settled(&cluster, left, &[2, 3, 4]);
    let status = cluster.status(3, group);
    assert!(!status.is_superseded() && status.leader.is_some());
    assert_eq!(status.configuration.voters().len(), 4);

    // The log says for ever what was done.
    cluster.stop(left);
    let inspected = text(&cluster::tool(&["log", "inspect", &dir]));
    let marked: Vec<&str> =
        inspected.lines().filter(|line| line.contains("SET WITHOUT A MAJORITY")).collect();
    assert!(marked.len() == 1 && marked[0].contains("voters 1;"), "{inspected}");
}

#[test]
fn who_knows_more_than_the_new_history_is_no_part_of_it() {
    let group = GroupId::from_name(NAME);
    let mut cluster = Cluster::new(&[group]);
    cluster.leader(group);
    cluster.stop(1);
    // Node 1 has nothing of this.
    for _ in 0..20 {
        cluster.leader(group);
    }
    let known = settled(&cluster, 2, &[3]);
    // After a restart a node knows committed what its snapshot covers.
    cluster.json(2, &["snapshot", NAME]);
    cluster.stop(2);
    cluster.stop(3);
    cluster.start(1);
    cluster.json(1, &["reset-peers", NAME, "--voters", "1", "--accept-data-loss"]);
    assert_eq!(cluster.leader(group), 1);
    assert!(cluster.count(1) < known, "what only the others had is lost");
    assert_eq!(cluster.read(1), Ok(cluster.count(1)));

    cluster.start(2);
    cluster.json(1, &["learner", NAME, "2"]);
    eventually("it to follow the new leader", || {
        let status = cluster.status(2, group);
        status.leader.filter(|leader| leader.0 == 1 && status.is_superseded())
    });
    // It keeps what it had, and says it to nobody who asks for what is current.
    assert_eq!(cluster.count(2), known);
    let read = cluster.read(2);
    assert!(read.is_err(), "a state that no longer counts was read: {read:?}");
    assert!(cluster.status(2, group).is_superseded());
}
