//! Links are cut, both ways and one way, leaders are transferred, and members come and go, while
//! clients work. Needs what `network` needs:
//! `cargo test -p ringleader-examples --features namespaces --test kv partitions`.

use std::thread;
use std::time::Duration;

use crate::children::wait_for;
use crate::nodes::Nodes;
use crate::resp::{Client, Value};
use crate::workload::{Random, check_while};

const GROUPS: i64 = 2;

/// What one of these nodes says to an operator.
fn ask(nodes: &Nodes, node: usize, command: &str) -> Option<Value> {
    Client::connect(nodes.plain(node)).ok()?.try_say(&format!("KV.CLUSTER {command}")).ok()
}

/// Who leads a group, as one of these nodes knows.
fn leader(nodes: &Nodes, group: i64, asked: &[usize]) -> usize {
    let (leader, _) = wait_for("a leader", || {
        asked.iter().find_map(|node| {
            let Value::List(groups) = ask(nodes, *node, "LEADERS")? else { return None };
            match groups[group as usize - 1].list()[3] {
                Value::Int(leader) => Some(leader as usize - 1),
                _ => None,
            }
        })
    });
    leader
}

/// Waits until a key of each group can be written and read through this node.
fn served(nodes: &Nodes, node: usize) {
    // Both halves of the slots.
    for key in ["other-{foo}", "other-{b}"] {
        wait_for("the others to go on", || {
            let mut client = Client::connect(nodes.plain(node)).ok()?;
            client.try_say(&format!("SET {key} 1")).ok()?.is_ok().then_some(())
        });
    }
}

fn transfer(nodes: &Nodes, asked: usize, group: i64, to: usize) {
    wait_for("a leadership to move", || {
        ask(nodes, asked, &format!("TRANSFER {group} {}", to + 1))?.is_ok().then_some(())
    });
}

fn others(nodes: usize, than: usize) -> Vec<usize> {
    (0..nodes).filter(|node| *node != than).collect()
}

/// By the numbers that the network knows them by.
fn places(nodes: &[usize]) -> Vec<u64> {
    nodes.iter().map(|node| *node as u64 + 1).collect()
}

/// Cuts links of a node, of which no one-way one lets it lead on.
fn cut(nodes: &Nodes, node: usize, how: u64) {
    let (rest, node) = (places(&others(3, node)), node as u64 + 1);
    let network = nodes.network();
    match how {
        0 => network.part(&[node], &rest),
        1 => rest.iter().for_each(|from| network.silence(*from, node)),
        2 => rest.iter().for_each(|to| network.silence(node, *to)),
        // These two hear each other through nobody.
        _ => network.part(&[node], &rest[..1]),
    }
}

#[test]
fn nobody_sees_through_a_cut_network_what_one_copy_could_not_have_shown() {
    let nodes = Nodes::on_network(3, 0, "groups = 2\nrebalance_seconds = 0\n");
    check_while(nodes.all_plain(), nodes.all_cluster(), |random| {
        for how in [0, 1, 2, 3, 0, 2] {
            let group = 1 + random.below(GROUPS as u64) as i64;
            let old = leader(&nodes, group, &[0, 1, 2]);
            cut(&nodes, old, how);
            let rest = others(3, old);
            if how < 3 {
                wait_for("another leader", || (leader(&nodes, group, &rest) != old).then_some(()));
            }
            served(&nodes, rest[1]);
            nodes.network().mend();
            // Leaders move while the one that comes back catches up.
            for group in 1..=GROUPS {
                transfer(&nodes, rest[1], group, rest[random.below(2) as usize]);
            }
            served(&nodes, old);
        }
        nodes.wait_until_served();
    });
}

#[test]
fn nobody_sees_it_while_members_come_and_go_either() {
    let mut nodes =
        Nodes::on_network(3, 1, "groups = 2\nrebalance_seconds = 1\nlease_drift_ms = 50\n");
    let fourth = nodes.start_another();
    check_while(nodes.all_plain(), nodes.all_cluster(), |random| {
        member(&nodes, 0, "ADD", fourth);
        for round in 0..3 {
            for group in 1..=GROUPS {
                transfer(&nodes, 0, group, fourth);
            }
            disturb(&mut nodes, random, fourth, round);
            // Whoever goes is back before the next round.
            let goes = random.below(4) as usize;
            let asked = others(4, goes)[random.below(3) as usize];
            member(&nodes, asked, "REMOVE", goes);
            served(&nodes, asked);
            member(&nodes, asked, "ADD", goes);
        }
        nodes.wait_until_served();
    });
}

/// The leader of all is cut off or killed, and comes back when the others have gone on.
fn disturb(nodes: &mut Nodes, random: &mut Random, leader_of_all: usize, round: u64) {
    let rest = others(4, leader_of_all);
    let heard = rest[random.below(3) as usize];
    if round == 1 {
        nodes.kill(leader_of_all);
        served(nodes, heard);
        nodes.start(leader_of_all);
        return;
    }
    let (one, all) = (places(&[leader_of_all]), places(&rest));
    match round {
        0 => nodes.network().part(&one, &all),
        _ => all.iter().for_each(|to| nodes.network().silence(one[0], *to)),
    }
    served(nodes, heard);
    nodes.network().mend();
}

/// Adds a node or removes it.
fn member(nodes: &Nodes, asked: usize, what: &str, node: usize) {
    let address = if what == "ADD" { format!(" {}", nodes.cluster(node)) } else { String::new() };
    let command = format!("{what} {}{address}", node + 1);
    wait_for("the members to change", || {
        let reply = ask(nodes, asked, &command)?;
        let done = matches!(&reply, Value::Status(text) if text.starts_with("OK"));
        if !done {
            thread::sleep(Duration::from_millis(50));
        }
        done.then_some(())
    });
}
