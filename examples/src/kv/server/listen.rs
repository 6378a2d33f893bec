//! Taking connections, on each shard.

use std::net::TcpListener;
use std::os::fd::{FromRawFd as _, IntoRawFd as _};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::AsyncWriteExt as _;
use glommio::net::TcpStream;

use super::connection;
use super::shard::Shard;

/// After a failure: descriptors and memory don't come back at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes the connections of a listening socket until the engine stops.
pub(crate) async fn accept(shard: Rc<Shard>, listener: TcpListener, plain: bool) {
    // SAFETY: `into_raw_fd` gives up the descriptor, so the listener is its only owner.
    let listener = unsafe { glommio::net::TcpListener::from_raw_fd(listener.into_raw_fd()) };
    loop {
        match listener.accept().await {
            Ok(socket) => take(&shard, socket, plain),
            Err(error) => {
                tracing::warn!(%error, "a client's connection can't be taken");
                shard.local.sleep(PAUSE).await;
            }
        }
    }
}

fn take(shard: &Rc<Shard>, socket: TcpStream, plain: bool) {
    let stats = shard.stats();
    let clients: u64 = shard.node.stats.iter().map(|stats| stats.clients.get()).sum();
    if clients >= shard.node.settings.max_clients as u64 {
        stats.connections_refused.add(1);
        shard.local.spawn(turn_away(socket));
        return;
    }
    stats.connections.add(1);
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    shard.local.spawn(connection::serve(Rc::clone(shard), socket, plain));
}

async fn turn_away(mut socket: TcpStream) {
    // It fits into the socket's buffer; who does not listen misses it.
    let _ = socket.write_all(b"-ERR max number of clients reached\r\n").await;
}
