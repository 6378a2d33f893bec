//! What an operator relies on, on real processes under continuous load: whatever happens, nothing
//! that was acknowledged is lost or done twice, and the group serves again soon. Partitions are in
//! `partitions.rs`.

mod nodes;
mod processes;

use processes::Cluster;

/// Not a test by itself: what the child processes run.
#[test]
fn node_process() {
    processes::node::serve();
}

#[test]
fn all_killed_at_once_lose_nothing() {
    let mut cluster = Cluster::on_loopback(3, 3);
    cluster.load();
    for round in 0..5 {
        // Each round dies at another moment of its load.
        cluster.goes_on(50 + 777 * round);
        cluster.kill_all();
        (1..=3).for_each(|node| cluster.restart(node));
    }
    cluster.goes_on(50);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn one_of_three_is_killed() {
    let mut cluster = Cluster::on_loopback(3, 3);
    cluster.load();
    for _ in 0..3 {
        cluster.goes_on(1000);
        let leader = cluster.leader();
        cluster.longest_pause();
        cluster.kill(leader);
        cluster.goes_on(1000);
        cluster.report("the leader of three was killed");
        cluster.restart(leader);
        cluster.goes_on(1000);
        let follower = cluster.leader() % 3 + 1;
        cluster.kill(follower);
        cluster.goes_on(1000);
        cluster.report("a follower of three was killed");
        cluster.restart(follower);
    }
    cluster.check(&[1, 2, 3]);
}

#[test]
fn two_of_five_are_killed() {
    let mut cluster = Cluster::on_loopback(5, 5);
    cluster.load();
    for _ in 0..3 {
        cluster.goes_on(1000);
        let leader = cluster.leader();
        let other = leader % 5 + 1;
        cluster.longest_pause();
        cluster.kill(leader);
        cluster.kill(other);
        cluster.goes_on(1000);
        cluster.report("two of five were killed");
        cluster.restart(leader);
        cluster.restart(other);
    }
    cluster.goes_on(1000);
    cluster.check(&[1, 2, 3, 4, 5]);
}

#[test]
fn one_and_then_two_nodes_are_added_to_three() {
    for steps in [&[&[1, 2, 3, 4][..], &[1, 2, 3, 4, 5]][..], &[&[1, 2, 3, 4, 5]]] {
        let mut cluster = Cluster::on_loopback(5, 3);
        cluster.load();
        cluster.goes_on(1000);
        cluster.longest_pause();
        for voters in steps {
            cluster.change(voters);
            cluster.goes_on(1000);
            cluster.report(&format!("the voters are {voters:?}"));
        }
        // The new ones decide: any two may go.
        cluster.kill(1);
        cluster.kill(2);
        cluster.goes_on(1000);
        cluster.check(&[3, 4, 5]);
    }
}

#[test]
fn one_and_then_two_nodes_are_removed_from_five() {
    for how_many in [1, 2] {
        let mut cluster = Cluster::on_loopback(5, 5);
        cluster.load();
        cluster.goes_on(1000);
        // The leader is among those who go.
        let leader = cluster.leader();
        let gone: Vec<u64> = (0..how_many).map(|more| (leader + more - 1) % 5 + 1).collect();
        let left: Vec<u64> = (1..=5).filter(|node| !gone.contains(node)).collect();
        cluster.longest_pause();
        cluster.change(&left);
        cluster.goes_on(1000);
        cluster.report(&format!("{gone:?} were removed"));
        // What is left decides alone.
        gone.iter().for_each(|node| cluster.kill(*node));
        cluster.goes_on(1000);
        cluster.check(&left);
    }
}
