//! redis-py, with its cluster client. A machine without it fails this test, and says what to install.

use std::process::Stdio;

use crate::children::child;
use crate::nodes::Nodes;

const SCRIPT: &str = r"
import sys
import redis
from redis.cluster import RedisCluster

cluster_port, plain_port = int(sys.argv[1]), int(sys.argv[2])
for protocol in (2, 3):
    r = RedisCluster(host='127.0.0.1', port=cluster_port, protocol=protocol)
    r.flushall(target_nodes=RedisCluster.ALL_NODES)
    assert r.set('a', '1', nx=True) and not r.set('a', '2', nx=True)
    assert r.get('a') == b'1' and r.incr('a') == 2 and r.ttl('a') == -1
    assert r.set('t', 'x', ex=100) and 0 < r.ttl('t') <= 100
    assert r.mset_nonatomic({f'k{i}': i for i in range(100)})
    assert r.mget_nonatomic([f'k{i}' for i in range(100)]) == [b'%d' % i for i in range(100)]
    assert sorted(r.scan_iter(match='k*', count=7)) == sorted(b'k%d' % i for i in range(100))
    pipe = r.pipeline()
    for i in range(200):
        pipe.set(f'p{i}', i)
        pipe.get(f'p{i}')
        pipe.delete(f'p{i}')
    out = pipe.execute()
    assert [int(out[3 * i + 1]) for i in range(200)] == list(range(200))
    assert r.dbsize(target_nodes=RedisCluster.ALL_NODES) == 102
    assert r.execute_command('KV.SEQ', 's') == 1
    assert r.cluster_info()['cluster_state'] == 'ok'
    try:
        r.execute_command('GET', 's')
        assert False
    except redis.ResponseError as error:
        assert 'WRONGTYPE' in str(error) or 'Operation against a key' in str(error), error

    p = redis.Redis(port=plain_port, protocol=protocol)
    assert p.get('a') == b'2' and p.type('s') == b'sequence'
    pipe = p.pipeline(transaction=False)
    pipe.append('log', 'a').append('log', 'b').get('log').delete('log', ).exists('log')
    assert pipe.execute() == [1, 2, b'ab', 1, 0]
    assert p.client_setname('me') and p.client_getname() in ('me', b'me')
    assert p.config_get('maxclients')['maxclients'] == '10000'
    assert p.info('server')['redis_mode'] == 'standalone'
    assert p.mset({f'k{i}': -i for i in range(50)}) and p.mget([f'k{i}' for i in range(51)])[49:] == [b'-49', b'50']
    assert p.delete(*[f'k{i}' for i in range(100)]) == 100
";

#[test]
fn redis_py_works_with_the_cluster_and_plainly() {
    let nodes = Nodes::three();
    let ports = [nodes.cluster(0), nodes.plain(1)].map(|address| address.port().to_string());
    let output = child("python3").args(["-c", SCRIPT]).args(ports).stderr(Stdio::piped()).output();
    let output = output.expect("python3 can be run: apt-get install python3");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("No module named 'redis'"), "pip install redis");
    assert!(output.status.success(), "{errors}");
}
