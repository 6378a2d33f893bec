//! A history that is longer than what is kept of it.

use std::net::SocketAddr;

use crate::cluster::{Cluster, free_port, wait_for};
use crate::load::Load;
use crate::metrics::{page, sum};

/// Operations from one snapshot to the next, as the server has it.
const BETWEEN: i64 = 10_000;

struct Servers {
    cluster: Cluster,
    metrics: Vec<SocketAddr>,
}

impl Servers {
    fn start(&mut self, server: usize) {
        let mut command = self.cluster.server(server);
        command.args(["--metrics", &self.metrics[server].to_string()]);
        self.cluster.start_with(server, command);
    }

    /// What a server has counted since its start.
    fn counted(&self, server: usize, what: &str) -> f64 {
        let page = wait_for("the metrics", || page(self.metrics[server])).0;
        sum(&page, &format!("ringleader_{what}_total{{"))
    }

    fn wait_until_counted(&self, server: usize, what: &str) {
        wait_for(what, || (self.counted(server, what) >= 1.0).then_some(()));
    }

    /// Operations of clients that were killed may come later than what is waited for.
    fn wait_for_value(&self, server: usize, least: i64) {
        wait_for("the value", || {
            let answer = self.cluster.ask(server, "counter get")?;
            let value: i64 = answer.strip_prefix("ok ")?.parse().ok()?;
            (value >= least).then_some(())
        });
    }
}

#[test]
fn a_long_history_is_a_snapshot_and_a_short_log() {
    let metrics = (0..3).map(|_| ([127, 0, 0, 1], free_port()).into()).collect();
    let mut servers = Servers { cluster: Cluster::new(3), metrics };
    (0..3).for_each(|server| servers.start(server));
    let (leader, _) = servers.cluster.leader();
    let [away, other] = [1, 2].map(|next| (leader + next) % 3);
    servers.cluster.kill(away);
    let load = Load::start(&servers.cluster, 16);
    (0..BETWEEN / 500 + 2).for_each(|_| load.wait_for_progress(500));
    [leader, other]
        .iter()
        .for_each(|server| servers.wait_until_counted(*server, "snapshots_taken"));
    load.stop();
    let value = servers.cluster.value(&["get"]);
    assert!(value > BETWEEN, "{value}");

    // A start begins with the snapshot, and applies what followed.
    servers.cluster.kill(other);
    servers.start(other);
    servers.wait_for_value(other, value);
    let applied = servers.counted(other, "entries_applied");
    assert!(applied < BETWEEN as f64, "{applied} of {value} were applied again");

    // Nobody has the whole log any more: who lacks its beginning is sent the snapshot.
    servers.start(away);
    servers.wait_until_counted(away, "snapshots_installed");
    servers.wait_for_value(away, value);
    let value = servers.cluster.value(&["add", "1"]);
    let told = (0..3).map(|server| servers.cluster.ask(server, "counter get"));
    assert!(told.flatten().eq(vec![format!("ok {value}"); 3]), "all have the same state");
}
