//! `kill -9`, of the leader and of everyone, under load.

use std::hash::{BuildHasher as _, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, wait_for};
use crate::load::Load;

#[test]
fn a_dead_leader_is_replaced_and_comes_back_as_a_follower() {
    let mut cluster = Cluster::started(3);
    let (leader, _) = cluster.leader();
    let load = Load::start(&cluster, 2);
    load.wait_for_progress(100);

    cluster.kill(leader);
    let (second, outage) = cluster.leader();
    // Two election timeouts are 2 s to 4 s; the rest is for a busy machine.
    assert!(outage < Duration::from_secs(10), "{outage:?} without a leader");
    println!("a new leader served {} ms after the old one was killed", outage.as_millis());
    load.wait_for_progress(100);
    let tally = load.stop();
    let value = cluster.value(&["get"]);
    let possible = tally.acknowledged..=tally.acknowledged + tally.unknown;
    assert!(possible.contains(&value), "{value} after {tally:?}");

    // With the second leader gone, nothing works without the one that was dead.
    cluster.start(leader);
    assert_eq!(cluster.wait_until_following(leader), cluster.addresses[second].to_string());
    cluster.kill(second);
    let (_, outage) = cluster.leader();
    assert!(outage < Duration::from_secs(10), "{outage:?} without a leader");
    println!("a new leader served {} ms after the second one was killed", outage.as_millis());
    // What the clients had in flight when they ended may have been applied after it was asked.
    let later = cluster.value(&["get"]);
    assert!(later >= value && possible.contains(&later), "{later} after {value} and {tally:?}");
    assert_eq!(cluster.value(&["add", "1"]), later + 1);
}

#[test]
fn nothing_acknowledged_is_lost_when_all_servers_are_killed_at_once() {
    let mut cluster = Cluster::started(3);
    cluster.leader();
    let (mut acknowledged, mut unknown, mut value) = (0, 0, 0);
    for round in 0..5 {
        let load = Load::start(&cluster, 3);
        load.wait_for_progress(1);
        let random = RandomState::new().hash_one(round);
        // Not to wait for anything: this is the moment.
        let moment = Duration::from_micros(random % 500_000);
        thread::sleep(moment);
        load.run_out();
        let first = (random >> 32) as usize;
        (0..3).for_each(|nth| cluster.kill((first + nth) % 3));
        let tally = load.stop();
        acknowledged += tally.acknowledged;
        unknown += tally.unknown;

        let restart = Instant::now();
        (0..3).for_each(|server| cluster.start(server));
        cluster.leader();
        let before = value;
        value = cluster.value(&["get"]);
        println!(
            "round {round}: killed after {moment:?}, serving {:?} after the restart; \
             {acknowledged} acknowledged, {unknown} unknown, value {value}",
            restart.elapsed()
        );
        assert!((acknowledged..=acknowledged + unknown).contains(&value), "{value}");
        assert!(value >= before.max(tally.highest), "{value} after {before} and {tally:?}");
    }
}

#[test]
fn a_minority_answers_nothing_and_goes_on_with_the_majority() {
    let mut cluster = Cluster::started(3);
    let (leader, _) = cluster.leader();
    assert_eq!(cluster.value(&["add", "7"]), 7);
    let followers: Vec<usize> = (0..3).filter(|&server| server != leader).collect();
    followers.iter().for_each(|&server| cluster.kill(server));

    // The leader finds out, and says that what it took in has no certain outcome.
    let output = cluster.client(&["add", "1", "--timeout", "15"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    wait_for("the leader to step down", || {
        cluster.ask(leader, "counter get").filter(|answer| answer.starts_with("retry "))
    });
    let output = cluster.client(&["add", "1", "--timeout", "1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    followers.iter().for_each(|&server| cluster.start(server));
    cluster.leader();
    let value = cluster.value(&["get"]);
    assert!((7..=8).contains(&value), "{value}");
}
