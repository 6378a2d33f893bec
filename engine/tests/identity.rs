//! Who is a member is in the log, with its data: real engines, real connections.

mod nodes;

use futures_lite::future::block_on;
use nodes::{
    GROUP, addresses, config, count, eventually, know_each_other, propose, start_counting,
};
use ringleader::{Engine, Member, NodeId, Priorities};

/// How often this node refused somebody because one of the two lost its data.
fn refusals(engine: &Engine) -> u64 {
    let report = block_on(engine.handle().report()).expect("it runs");
    let all = report.shards.iter().flat_map(|shard| &shard.refusals);
    all.filter(|refusal| refusal.reason == "data replaced").map(|refusal| refusal.count).sum()
}

#[test]
fn a_node_without_its_data_is_refused_by_one_that_never_met_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = addresses(4);
    let config = |node: u64| {
        let mut config = config(&addresses[..3], node, 1, dir.path());
        // The second looks for the third where nobody is, and the third does not dial it.
        if node == 2 {
            config.members[2].address = addresses[3];
        }
        // The first is connected to both.
        let priorities = [(1, 100), (2, 1), (3, 1)].map(|(node, of)| (NodeId(node), of));
        config.priorities.insert(GROUP, Priorities::new(&priorities));
        config
    };
    let [first, second, third] = [1, 2, 3].map(|node| start_counting(config(node)));
    propose(&[&first]);
    eventually("the log to tell them of each other", || know_each_other(dir.path(), &[1, 2, 3]));
    let status = block_on(second.handle().status(GROUP)).expect("the group is here");
    let named = status.configuration;
    assert!(named.is_identified(), "{named:?}");
    let report = block_on(second.handle().report()).expect("it runs");
    let links = &report.shards[0].links;
    let met = links.iter().filter(|link| link.node == NodeId(3)).map(|link| link.connections);
    assert_eq!(met.sum::<u64>(), 0, "they never met");
    eventually("the third to have everything", || (count(&third.handle()) == 1).then_some(()));

    // It loses everything, the first is away, and the second learns where it is: two of three.
    third.shutdown();
    first.shutdown();
    std::fs::remove_dir_all(dir.path().join("node-3")).expect("it was there");
    let third = start_counting(config(3));
    let known = Member { node: NodeId(3), address: addresses[2], shards: 1 };
    second.handle().set_member(known).expect("another address");
    let leads = |engine: &Engine| block_on(engine.handle().status(GROUP)).expect("here").leader;
    // The first may have handed its office over.
    eventually("nobody to lead", || (leads(&second).is_none()).then_some(()));
    let before = refusals(&third);
    eventually("refusals", || (refusals(&third) >= before + 20).then_some(()));
    assert_eq!((leads(&second), leads(&third)), (None, None));

    let first = start_counting(config(1));
    propose(&[&first, &second]);
    assert_eq!(count(&third.handle()), 0);
    let status = block_on(first.handle().status(GROUP)).expect("the group is here");
    assert_eq!(status.configuration, named, "what is known stays");
}
