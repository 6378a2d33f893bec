//! What a production Raft does beside surviving, on real processes: who leads and who is told,
//! learners and reads, proposals bound to a term, nodes that move or lose their data, groups that
//! begin with a state, limits, and rest. Deaths and changes of voters are in `acceptance.rs`; what
//! the operator's tool asks for is in `../cli/tests`.

mod nodes;
mod processes;

use std::collections::BTreeMap;
use std::time::Duration;

use nodes::{GROUP, eventually};
use processes::Cluster;
use processes::machine::View;
use processes::node::Settings;
use ringleader::{Configuration, NodeId, found_group};

/// Not a test by itself: what the child processes run.
#[test]
fn node_process() {
    processes::node::serve();
}

fn leads(cluster: &Cluster, node: u64) {
    eventually("the preferred node to lead", || (cluster.leader() == node).then_some(()));
}

/// Those of priority 0 wait for eight election timeouts more, so nobody is elected by chance.
#[test]
fn the_preferred_node_leads_and_again_after_it_was_away() {
    // The second has none of its own, which is more than zero.
    let priorities = [(1, 100), (3, 0), (4, 0), (5, 0)];
    let priorities = priorities.map(|(node, priority)| (NodeId(node), priority)).to_vec();
    let election_timeout = Duration::from_millis(500);
    let settings = Settings { election_timeout, priorities, ..Settings::default() };
    let mut cluster = Cluster::with(5, 5, settings);
    // Whichever of the first two is quicker: the second one's turn comes.
    cluster.kill(2);
    leads(&cluster, 1);
    cluster.restart(2);
    cluster.load();
    cluster.goes_on(500);
    cluster.catches_up(2);
    cluster.kill(1);
    leads(&cluster, 2);
    cluster.goes_on(500);
    cluster.kill(2);
    // One of the others stands in, and gives the office back to who is to have it.
    let stand_in = cluster.leader();
    assert!(stand_in > 2, "node {stand_in} is dead");
    cluster.goes_on(500);
    cluster.restart(1);
    leads(&cluster, 1);
    cluster.goes_on(500);
    // Where all are alike again, any leads.
    cluster.change(&[3, 4, 5]);
    cluster.goes_on(500);
    assert!(cluster.leader_among(&[3, 4, 5]) > 2);
    cluster.check(&[3, 4, 5]);
}

/// Reads what a machine was told: who led in which term. Each leader began once and ended before
/// the next, and no term had two.
fn reigns(told: &str, leaders: &mut BTreeMap<u64, u64>) -> usize {
    let mut present: Option<&str> = None;
    for line in told.split(',').filter(|line| !line.is_empty()) {
        let (began, reign) = (line.starts_with('+'), &line[1..]);
        assert_eq!(present, (!began).then_some(reign), "{line} in {told}");
        present = began.then_some(reign);
        let (leader, term) = reign.split_once('@').expect("a leader and a term");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let known = *leaders.entry(number(term)).or_insert(number(leader));
        assert_eq!(known, number(leader), "two lead in term {term}");
    }
    told.matches('+').count()
}

/// Has every node wait for longer than `goes_on` does before it campaigns: from then on leaders
/// come by hand-over alone. Says who leads.
fn without_elections(cluster: &mut Cluster) -> u64 {
    cluster.settings.election_timeout = processes::BOUND * 3;
    let first = cluster.leader();
    let others: Vec<u64> = (1..=3).filter(|node| *node != first).collect();
    for node in &others {
        cluster.kill(*node);
        cluster.restart(*node);
        cluster.catches_up(*node);
    }
    transfer(cluster, first, others[0]);
    cluster.stop(first);
    cluster.restart(first);
    cluster.catches_up(first);
    others[0]
}

/// Refused or not taken where this machine stood still: asked again.
fn transfer(cluster: &Cluster, from: u64, to: u64) {
    eventually("the leadership to move", || {
        cluster.node(from).ask("transfer", &to.to_string());
        (cluster.leader() == to).then_some(())
    });
}

#[test]
fn a_leader_that_stops_or_is_removed_hands_over_and_everybody_is_told_who_leads() {
    let mut cluster = Cluster::on_loopback(3, 3);
    cluster.load();
    cluster.goes_on(200);
    let mut leader = without_elections(&mut cluster);
    let mut leaders = BTreeMap::new();
    for _ in 0..2 {
        cluster.goes_on(500);
        cluster.longest_pause();
        let term = cluster.status(leader).term;
        let told = cluster.stop(leader);
        cluster.goes_on(500);
        cluster.report("the leader stopped in order");
        reigns(&told, &mut leaders);
        assert_eq!(leaders.get(&term), Some(&leader));
        assert!(told.contains(&format!("-{leader}@{term}")), "it was told that it is over: {told}");
        cluster.restart(leader);
        cluster.catches_up(leader);
        leader = cluster.leader();
        assert_eq!(cluster.status(leader).term, term + 1, "nobody campaigned in between");
    }
    // One that is removed hands over too.
    let left: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    cluster.change(&left);
    cluster.goes_on(200);
    leader = cluster.leader_among(&left);
    cluster.check(&left);
    for node in 1..=3 {
        assert!(reigns(&cluster.node(node).ask("told", ""), &mut leaders) > 0);
    }
    assert_eq!(leaders.last_key_value().map(|(_, last)| *last), Some(leader));
}

/// What is bound to the term of a leader that is gone is appended nowhere, under load as ever.
#[test]
fn a_proposal_bound_to_a_term_is_appended_in_that_term_or_not_at_all() {
    let mut cluster = Cluster::on_loopback(3, 3);
    cluster.load();
    cluster.goes_on(200);
    let bound = |cluster: &Cluster, node: u64, term: u64, number: u64| {
        cluster.node(node).ask("bound", &format!("{term} {number}"))
    };
    let (old, term) = eventually("proposals of the present term", || {
        let leader = cluster.leader();
        let term = cluster.status(leader).term;
        (bound(&cluster, leader, term, 1) == "done; done").then_some((leader, term))
    });
    let new = old % 3 + 1;
    transfer(&cluster, old, new);
    let term_now = eventually("a later term's leader to refuse both", || {
        let now = cluster.status(new).term;
        let refused = bound(&cluster, new, term, 3);
        let wrong = format!("this node leads in term {now}, not in the one");
        (refused.matches(&wrong).count() == 2).then_some(now)
    });
    assert!(term_now > term);
    let refused = bound(&cluster, old, term, 5);
    assert_eq!(refused.matches("does not lead the group").count(), 2, "{refused}");
    cluster.check(&[1, 2, 3]);
    for node in 1..=3 {
        let mut bound: Vec<u64> = cluster.node(node).dump();
        bound.retain(|number| *number < 1 << 32);
        assert!(bound.starts_with(&[1, 2]) && !bound.iter().any(|n| (3..=6).contains(n)));
    }
}

/// A read after so many acknowledgements, on any node and of either kind, sees as many.
fn reads_are_current(cluster: &Cluster, nodes: &[u64]) {
    for how in ["linearizable", "lease"].repeat(5) {
        for node in nodes {
            let before = cluster.acknowledged();
            let seen = eventually("a read", || cluster.node(*node).ask("read", how).parse().ok());
            assert!(before <= seen, "{how}, node {node}: {seen} after {before}");
        }
    }
}

#[test]
fn a_learner_follows_is_read_and_read_back_and_decides_nothing() {
    let settings = Settings { lease_reads: true, ..Settings::default() };
    let mut cluster = Cluster::with(4, 3, settings);
    cluster.load();
    cluster.goes_on(200);
    eventually("the learner to be added", || {
        (cluster.node(cluster.leader()).ask("learner", "4") == "done").then_some(())
    });
    cluster.catches_up(4);
    reads_are_current(&cluster, &[1, 2, 3, 4]);

    // One voter of three and a learner are no majority.
    let leader = cluster.leader();
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    others.iter().for_each(|node| cluster.kill(*node));
    eventually("the leader to give up", || (!cluster.status(leader).leads).then_some(()));
    let refused = cluster.node(4).ask("read", "linearizable");
    assert!(refused.parse::<usize>().is_err(), "it read {refused} without a leader");
    others.iter().for_each(|node| cluster.restart(*node));
    cluster.goes_on(200);
    reads_are_current(&cluster, &[1, 2, 3, 4]);

    cluster.check(&[1, 2, 3, 4]);
    for node in 1..=4 {
        let child = cluster.node(node);
        assert_eq!(child.log(), child.dump(), "node {node} reads back what it applied");
    }
}

#[test]
fn a_node_that_moved_is_found_and_one_without_its_data_is_refused() {
    let mut cluster = Cluster::on_loopback(3, 3);
    cluster.load();
    cluster.goes_on(200);
    cluster.kill(3);
    cluster.addresses[2] = nodes::addresses(1)[0];
    cluster.restart(3);
    for node in [1, 2] {
        let moved = format!("3 {}", cluster.addresses[2]);
        assert_eq!(cluster.node(node).ask("member", &moved), "done");
    }
    cluster.goes_on(200);
    cluster.catches_up(3);

    // It has met the others, and they remember that.
    let dir = cluster.place(3).dir;
    for node in [1, 2] {
        eventually("the two to have met", || {
            let met = std::fs::read_to_string(dir.join(format!("node-{node}/PEERS"))).ok()?;
            met.contains("node 3 data ").then_some(())
        });
    }
    cluster.kill(3);
    std::fs::remove_dir_all(dir.join("node-3")).expect("it was there");
    // A node that has the others' addresses alone: the wiped one can't vote, so these two decide.
    cluster.restart(3);
    eventually("the refusal", || {
        let refusals = (1..=3).map(|node| cluster.node(node).ask("refusals", ""));
        refusals.into_iter().any(|reasons| reasons.contains("data replaced")).then_some(())
    });
    cluster.goes_on(500);
    let wiped = cluster.status(3);
    assert_eq!((wiped.leader, wiped.last), (None, 0), "nobody tells it anything");
    assert!(cluster.node(3).dump().is_empty());
    cluster.check(&[1, 2]);
}

/// A single voter, and a learner that is sent the state in which the group began.
#[test]
fn a_group_begins_with_a_state_and_a_learner_is_sent_it() {
    let state = [7, 8, 9];
    let mut cluster = Cluster::new(2, 0, Settings::default());
    let members = Configuration::new(&[NodeId(1)], &[]);
    let config = cluster.place(1).config();
    found_group(&config, GROUP, &members, Box::new(View::of(&state))).expect("it is founded");
    cluster.start();
    eventually("the only voter to lead", || cluster.status(1).leads.then_some(()));
    assert_eq!(cluster.node(1).dump(), state);
    cluster.load();
    cluster.goes_on(200);
    eventually("the learner", || (cluster.node(1).ask("learner", "2") == "done").then_some(()));
    cluster.catches_up(2);
    cluster.kill(2);
    // Nobody waits for a learner.
    cluster.goes_on(200);
    cluster.kill_all();
    (1..=2).for_each(|node| cluster.restart(node));
    cluster.goes_on(200);
    cluster.check(&[1, 2]);
    for node in [1, 2] {
        assert!(cluster.node(node).dump().starts_with(&state), "node {node}");
    }
}

#[test]
fn a_group_at_its_limit_has_room_again_and_at_rest_it_is_served_at_once() {
    // Room for four operations.
    let settings = Settings { group_bytes: Some(4 * 40), ..Settings::default() };
    let mut cluster = Cluster::with(3, 3, settings);
    let busy = cluster.node(cluster.leader()).ask("burst", "301");
    let busy = busy.parse::<u64>().expect("who was refused was told that there is no room");
    assert!(busy > 0, "there was always room");
    for node in 1..=3 {
        let all = || {
            let mut applied = cluster.node(node).dump();
            applied.sort_unstable();
            applied.into_iter().eq(1..=300).then_some(())
        };
        eventually("a replica to have each number once", all);
    }

    let rest = |cluster: &Cluster| {
        eventually("all to rest", || {
            let all: Vec<_> = (1..=3).map(|node| cluster.status(node)).collect();
            all.iter().all(|status| status.rests).then(|| all[0])
        })
    };
    let before = rest(&cluster);
    let leader = before.leader.expect("it rests on somebody").0;
    let bound = format!("{} 301", before.term);
    assert_eq!(cluster.node(leader).ask("bound", &bound), "done; done", "without an election");
    assert_eq!(rest(&cluster).term, before.term);
    let count = cluster.node(leader).dump().len().to_string();
    let follower = leader % 3 + 1;
    assert_eq!(cluster.node(follower).ask("read", "linearizable"), count);
    assert_eq!(rest(&cluster).term, before.term);

    // Who rests on a leader notices that it is gone.
    cluster.kill(leader);
    cluster.load();
    cluster.goes_on(200);
    let left: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    cluster.check(&left);
}
