//! redis-rs, with its cluster client.

use redis::cluster::ClusterClient;
use redis::{Commands as _, RedisResult};

use crate::nodes::Nodes;

#[test]
fn redis_rs_works_with_the_cluster_and_plainly() {
    let nodes = Nodes::three();
    let seeds: Vec<String> =
        (0..3).map(|node| format!("redis://{}", nodes.cluster(node))).collect();
    let mut cluster = ClusterClient::new(seeds).unwrap().get_connection().unwrap();
    for number in 0..50_i64 {
        let key = format!("key-{number}");
        let done: RedisResult<()> = cluster.set(&key, number);
        done.unwrap();
        assert_eq!(cluster.incr::<_, _, i64>(&key, 1).unwrap(), number + 1);
    }
    let mut pipe = redis::cluster::cluster_pipe();
    (0..50).for_each(|number| drop(pipe.get(format!("key-{number}")).clone()));
    let values: Vec<i64> = pipe.query(&mut cluster).unwrap();
    assert_eq!(values, (1..=50).collect::<Vec<i64>>());

    for options in ["", "?protocol=resp3"] {
        let plain = redis::Client::open(format!("redis://{}/{options}", nodes.plain(1))).unwrap();
        let mut plain = plain.get_connection().unwrap();
        assert_eq!(plain.get::<_, i64>("key-7").unwrap(), 8);
        assert_eq!(plain.get::<_, Option<i64>>("none").unwrap(), None);
        let keys: Vec<String> = plain.scan_match("key-*").unwrap().map(Result::unwrap).collect();
        assert_eq!(keys.len(), 50);
        let locked: i64 =
            redis::cmd("KV.LOCK").arg("lock").arg("me").arg(10).query(&mut plain).unwrap();
        assert!(locked > 0);
    }
}
