//! The status page and the metrics, over HTTP: `/`, `/status.json` (what the page shows) and
//! `/metrics`.

mod metrics;
mod status;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_lite::future::block_on;
use ringleader::Handle;
use ringleader::report::{Exporter, Page};

use super::shard::Node;

/// Serves them until what it returns is dropped.
pub(crate) fn serve(address: SocketAddr, handle: Handle, node: Arc<Node>) -> io::Result<Exporter> {
    Exporter::serve(address, move |path| {
        let report = || block_on(handle.report());
        match path {
            "/" => {
                let body = include_str!("http/status.html").into();
                Some(Ok(Page { kind: "text/html; charset=utf-8", body }))
            }
            "/status.json" => Some(report().map(|report| Page {
                kind: "application/json",
                body: status::json(&report, &node),
            })),
            "/metrics" => Some(report().map(|report| metrics::page(report, &node))),
            _ => None,
        }
    })
}
