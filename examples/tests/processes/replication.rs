//! Three servers and nothing going wrong.

use crate::cluster::{Cluster, texts};

#[test]
fn three_servers_keep_one_sum_and_any_of_them_leads_to_it() {
    let mut cluster = Cluster::started(3);
    let (leader, _) = cluster.leader();
    let leader_address = cluster.addresses[leader].to_string();

    let mut sum = 0;
    for follower in (0..3).filter(|&server| server != leader) {
        assert_eq!(cluster.wait_until_following(follower), leader_address);
        let peer = cluster.addresses[follower].to_string();
        let output = cluster.client_to(&peer, &["add", "5"]);
        sum += 5;
        assert_eq!(texts(&output), (format!("{sum}\n"), String::new()));
        assert!(output.status.success());
    }
    assert_eq!(texts(&cluster.client(&["add", "-3", "--count", "3"])).0, "7\n4\n1\n");
    // Each answers a get from its own state, those that follow too.
    for (server, address) in cluster.addresses.iter().enumerate() {
        assert_eq!(cluster.ask(server, "counter get").as_deref(), Some("ok 1"));
        let output = cluster.client_to(&address.to_string(), &["get"]);
        assert_eq!(texts(&output).0, "1\n");
    }

    let refused = cluster.client(&["add", &i64::MAX.to_string()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(texts(&refused).1.contains("range of 64 bits"), "{refused:?}");
    assert_eq!(cluster.value(&["get"]), 1);

    for server in 0..3 {
        assert_eq!(cluster.terminate(server).code(), Some(0), "server {server}");
    }
    (0..3).for_each(|server| cluster.start(server));
    cluster.leader();
    assert_eq!(cluster.value(&["add", "1"]), 2);
}

#[test]
fn one_server_alone_is_a_cluster_too() {
    let mut cluster = Cluster::started(1);
    assert_eq!(cluster.value(&["add", "2", "--count", "10"]), 20);
    cluster.kill(0);
    cluster.start(0);
    cluster.leader();
    assert_eq!(cluster.value(&["get"]), 20);
}
