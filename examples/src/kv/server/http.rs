//! The status page and the metrics, over HTTP, from a thread of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ringleader::Handle;
use ringleader::report::Exporter;

use super::shard::Node;

/// Serves them until it is dropped.
pub(crate) struct Http {
    _exporter: Exporter,
}

impl Http {
    pub(crate) fn start(address: SocketAddr, handle: Handle, _node: Arc<Node>) -> io::Result<Self> {
        Ok(Self { _exporter: Exporter::start(address, handle, 100)? })
    }
}
