//! The two tasks of an established connection.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use bytes::Bytes;

use super::shared::{Connection, Peer, Shared};
use crate::Lane;
use crate::decoder::FrameDecoder;
use crate::event::DownReason;
use crate::frame::{Frame, FrameError};
use crate::outbox::advance_chunks;

/// What both tasks need.
pub(crate) type Context = (Rc<Shared>, Rc<Peer>, Rc<Connection>);

/// Reads until the connection ends.
pub(crate) async fn read_loop((shared, peer, connection): Context, mut decoder: FrameDecoder) {
    let (lane, inbound) = (peer.lane, shared.limits(peer.lane).inbound);
    loop {
        // What came along with the handshake's last bytes is looked at before the first read.
        let (frames, error) = collect(lane, &mut decoder);
        shared.deliver(&peer, &connection, frames);
        if let Some(error) = error {
            shared.take_down(&peer, &connection, DownReason::Protocol(error));
        }
        while connection.backlog.get() >= inbound && !connection.closed.get() {
            connection.wake_reader.wait().await;
        }
        if connection.closed.get() {
            return;
        }
        let space = decoder.space();
        let room = space.len();
        match connection.stream.read(space).await {
            Ok(0) => shared.take_down(&peer, &connection, DownReason::Closed),
            Ok(count) => {
                decoder.advance(count);
                if count == room {
                    // The next read won't wait either: others first.
                    give_way().await;
                }
            }
            Err(error) => shared.take_down(&peer, &connection, DownReason::from(&error)),
        }
    }
}

/// Lets the shard and the other connections run before this one goes on, and the reactor if its
/// time has come.
async fn give_way() {
    futures_lite::future::yield_now().await;
    glommio::yield_if_needed().await;
}

/// All complete frames. An error comes after those that arrived before it.
fn collect(lane: Lane, decoder: &mut FrameDecoder) -> (Vec<Frame>, Option<FrameError>) {
    let mut frames = Vec::new();
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) if lane.admits(frame.kind) => frames.push(frame),
            Ok(Some(Frame { kind: found, .. })) => {
                return (frames, Some(FrameError::UnexpectedKind { found }));
            }
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

/// Writes until the connection ends: what the outbox holds whenever it is flushed, and on its own
/// account for as long as the outbox isn't empty.
pub(crate) async fn write_loop((shared, peer, connection): Context, first: Option<Bytes>) {
    if let Err(error) = write_outbox(&shared, &peer, &connection, first).await {
        shared.take_down(&peer, &connection, DownReason::from(&error));
    }
}

async fn write_outbox(
    shared: &Shared,
    peer: &Peer,
    connection: &Connection,
    first: Option<Bytes>,
) -> io::Result<()> {
    if let Some(first) = first {
        connection.stream.write_all(first).await?;
    }
    let mut chunks = VecDeque::new();
    while !connection.closed.get() {
        if !take(shared, peer, connection, &mut chunks) {
            connection.wake_writer.wait().await;
            continue;
        }
        while !chunks.is_empty() {
            let count = connection.stream.write_chunks(&chunks).await?;
            advance_chunks(&mut chunks, count);
            connection.wrote.set(true);
            let mut outbox = peer.outbox.borrow_mut();
            if outbox.epoch() == Some(connection.epoch) {
                outbox.written(count);
            }
        }
        give_way().await;
    }
    Ok(())
}

/// Takes one write's worth, or what a throttled lane may, if the outbox is this connection's.
fn take(
    shared: &Shared,
    peer: &Peer,
    connection: &Connection,
    chunks: &mut VecDeque<Bytes>,
) -> bool {
    let mut outbox = peer.outbox.borrow_mut();
    if outbox.epoch() != Some(connection.epoch) {
        return false;
    }
    let taken = outbox.take(shared.allowance(peer.lane), chunks);
    if peer.lane == Lane::BulkOut {
        shared.bulk.borrow_mut().spend(taken);
    }
    taken > 0
}
