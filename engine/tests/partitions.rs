//! Real processes whose network is cut, under continuous load: namespaces and nftables. Run it as
//! root with `cargo test -p ringleader --features namespaces --test partitions`; what it needs is
//! said in `processes/network.rs`.

mod nodes;
mod processes;

use nodes::eventually;
use processes::Cluster;

/// Not a test by itself: what the child processes run.
#[test]
fn node_process() {
    processes::node::serve();
}

fn others(count: u64, than: u64) -> Vec<u64> {
    (1..=count).filter(|node| *node != than).collect()
}

/// Nobody leads who can't reach a majority.
fn gives_up(cluster: &Cluster, node: u64) {
    eventually("the old leader to give up", || (!cluster.status(node).leads).then_some(()));
}

#[test]
fn a_leader_that_is_cut_off_gives_up_and_the_others_go_on() {
    let mut cluster = Cluster::on_network(3);
    cluster.load();
    for _ in 0..3 {
        cluster.goes_on(1000);
        let old = cluster.leader();
        let rest = others(3, old);
        cluster.longest_pause();
        cluster.network().part(&[old], &rest);
        let new = cluster.leader_among(&rest);
        cluster.goes_on(1000);
        cluster.report("the leader of three was cut off");
        gives_up(&cluster, old);
        assert_eq!(cluster.leader_among(&rest), new);
        cluster.network().mend();
        // It comes back as a follower and disturbs nobody.
        let applied = cluster.status(new).applied;
        eventually("it to catch up", || (cluster.status(old).applied >= applied).then_some(()));
        assert_eq!(cluster.leader(), new);
    }
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_leader_in_the_minority_of_five_gives_up_and_the_majority_goes_on() {
    let mut cluster = Cluster::on_network(5);
    cluster.load();
    cluster.goes_on(1000);
    let old = cluster.leader();
    let minority = [old, old % 5 + 1];
    let majority: Vec<u64> = (1..=5).filter(|node| !minority.contains(node)).collect();
    cluster.longest_pause();
    cluster.network().part(&minority, &majority);
    cluster.goes_on(1000);
    cluster.report("the leader and one more of five were cut off");
    assert!(majority.contains(&cluster.leader_among(&majority)));
    minority.iter().for_each(|node| gives_up(&cluster, *node));
    cluster.network().mend();
    cluster.goes_on(1000);
    cluster.check(&[1, 2, 3, 4, 5]);
}

#[test]
fn a_minority_that_is_cut_off_is_not_missed_and_does_not_disturb() {
    let mut cluster = Cluster::on_network(3);
    cluster.load();
    cluster.goes_on(1000);
    let leader = cluster.leader();
    let term = cluster.status(leader).term;
    let cut = leader % 3 + 1;
    cluster.network().part(&[cut], &others(3, cut));
    let lonely = cluster.status(cut);
    cluster.goes_on(20_000);
    cluster.network().mend();
    cluster.goes_on(1000);
    eventually("it to catch up", || {
        (cluster.status(cut).applied > lonely.applied + 20_000).then_some(())
    });
    assert_eq!((cluster.leader(), cluster.status(leader).term), (leader, term));
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_leader_that_hears_nobody_gives_up() {
    let mut cluster = Cluster::on_network(3);
    cluster.load();
    cluster.goes_on(1000);
    let old = cluster.leader();
    cluster.longest_pause();
    others(3, old).iter().for_each(|from| cluster.network().silence(*from, old));
    gives_up(&cluster, old);
    cluster.leader_among(&others(3, old));
    cluster.goes_on(1000);
    cluster.report("the leader heard nobody");
    cluster.network().mend();
    cluster.goes_on(1000);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn a_leader_that_nobody_hears_is_replaced() {
    let mut cluster = Cluster::on_network(3);
    cluster.load();
    cluster.goes_on(1000);
    let old = cluster.leader();
    cluster.longest_pause();
    others(3, old).iter().for_each(|to| cluster.network().silence(old, *to));
    cluster.leader_among(&others(3, old));
    cluster.goes_on(1000);
    cluster.report("nobody heard the leader");
    gives_up(&cluster, old);
    cluster.network().mend();
    cluster.goes_on(1000);
    cluster.check(&[1, 2, 3]);
}

#[test]
fn two_that_do_not_hear_each_other_both_reach_the_third() {
    let mut cluster = Cluster::on_network(3);
    cluster.load();
    cluster.goes_on(1000);
    let leader = cluster.leader();
    let [cut, _] = others(3, leader)[..] else { unreachable!("two others") };
    cluster.longest_pause();
    cluster.network().part(&[leader], &[cut]);
    // Who hears the leader refuses the one that does not, so nothing changes hands to and fro.
    cluster.goes_on(20_000);
    cluster.report("a link of three was cut");
    assert_eq!(cluster.leader(), leader);
    cluster.network().mend();
    cluster.goes_on(1000);
    cluster.check(&[1, 2, 3]);
}
