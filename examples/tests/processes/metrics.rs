//! Every server tells about itself.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::cluster::{Cluster, free_port, wait_for};

pub(crate) fn page(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: server\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    page.starts_with("HTTP/1.1 200").then_some(page)
}

/// The sum of a metric over all that it is listed for.
pub(crate) fn sum(page: &str, name: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[test]
fn metrics_tell_who_leads_and_what_was_done() {
    let mut cluster = Cluster::new(3);
    let metrics: Vec<SocketAddr> = (0..3).map(|_| ([127, 0, 0, 1], free_port()).into()).collect();
    for (server, address) in metrics.iter().enumerate() {
        let mut command = cluster.server(server);
        command.args(["--metrics", &address.to_string()]);
        cluster.start_with(server, command);
    }
    (0..5).for_each(|_| assert!(cluster.client(&["add", "1"]).status.success()));
    let pages: Vec<String> =
        metrics.iter().map(|address| wait_for("the metrics", || page(*address)).0).collect();
    let of_all = |name| pages.iter().map(|page| sum(page, name)).sum::<f64>();
    assert_eq!(of_all("ringleader_group_leads{"), 1.0);
    assert!(of_all("ringleader_operations_applied_total{") >= 5.0);
    assert!(of_all("ringleader_link_bytes_sent_total{") > 0.0);
    assert!(pages.iter().all(|page| sum(page, "ringleader_log_write_seconds_count{") > 0.0));
}
