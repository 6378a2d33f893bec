//! Getting and keeping a connection to a shard of a node with a higher number.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use glommio::net::TcpStream;

use super::contain::contained;
use super::introduce::IntroduceError;
use super::notify::Notify;
use super::shared::{Peer, Session, Shared};
use super::socket::{Stream, release, tune, within};
use crate::backoff::Backoff;
use crate::decoder::FrameDecoder;
use crate::frame::{Frame, FrameError, FrameKind};
use crate::handshake::wire::{MAX_HANDSHAKE_FRAME, WireError, decode_reply, encode_hello};
use crate::handshake::{Accepted, Hello, PROTOCOL_MAX, PROTOCOL_MIN, RefusalCode, Reply};
use crate::{Endpoint, PeerNode};

/// Why an attempt led to no connection.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the connection failed during the handshake: {0}")]
    Io(io::Error),
    #[error("closed by the peer during the handshake")]
    Closed,
    #[error("no answer to the hello within {0:?}")]
    Timeout(Duration),
    #[error("the answer to the hello is no frame: {0}")]
    Frame(#[from] FrameError),
    #[error("the answer to the hello makes no sense: {0}")]
    Wire(#[from] WireError),
    #[error("refused by the peer, {code}: {sentence}")]
    Refused { code: RefusalCode, sentence: String },
    #[error("the peer chose protocol {0}, which this node doesn't speak")]
    Protocol(u16),
    #[error(transparent)]
    Introduce(#[from] IntroduceError),
    #[error("the peer has {has} shards, this node expects {expected} of it")]
    ShardCount { has: u32, expected: u32 },
}

impl DialError {
    /// Whether only a change of settings, software or address can help.
    fn is_lasting(&self) -> bool {
        let passing = matches!(self, Self::Connect(_) | Self::Io(_) | Self::Closed)
            || matches!(self, Self::Timeout(_) | Self::Introduce(IntroduceError::NotRecorded(_)));
        !passing
    }
}

/// Makes one connection after the other to one lane of a peer.
pub(crate) struct Dialer {
    shared: Rc<Shared>,
    peer: Rc<Peer>,
    target: PeerNode,
    backoff: Backoff,
    /// The last failure that was logged.
    reported: String,
}

impl Dialer {
    pub(crate) fn new(shared: &Rc<Shared>, peer: &Rc<Peer>, target: PeerNode) -> Self {
        let config = &shared.config;
        let backoff = Backoff::new(config.backoff_min, config.backoff_max, seed(shared, peer));
        let (shared, peer) = (Rc::clone(shared), Rc::clone(peer));
        Self { shared, peer, target, backoff, reported: String::new() }
    }

    /// Dials for ever; ends by being cancelled, which it bears at any point.
    pub(crate) async fn run(mut self) {
        loop {
            self.contained_attempt().await;
        }
    }

    /// Dials whenever somebody wants it; likewise.
    pub(crate) async fn run_on_demand(mut self, wanted: Rc<Notify>) {
        loop {
            wanted.wait().await;
            self.contained_attempt().await;
        }
    }

    /// One that panics is one that failed.
    async fn contained_attempt(&mut self) {
        if let Err(message) = contained(self.attempt()).await {
            let (peer, lane) = (self.peer.endpoint, self.peer.lane);
            tracing::error!(%peer, %lane, %message, "an attempt to connect panicked");
            self.shared.panicked();
            self.peer.attempt_failed();
            glommio::timer::sleep(self.backoff.slowest_delay()).await;
        }
    }

    /// Makes a connection and stays until it ends, or fails; then waits for as long as the next
    /// attempt has to.
    async fn attempt(&mut self) {
        let Self { shared, peer, target, backoff, reported } = self;
        let delay = match dial(shared, peer, *target).await {
            Ok((stream, decoder, session)) => {
                reported.clear();
                let connection = shared.install(peer, stream, decoder, session, None);
                connection.ended.wait().await;
                backoff.connection_lived(connection.since.elapsed());
                backoff.next_delay()
            }
            Err(error) => {
                peer.attempt_failed();
                report(peer, target.address, &error, reported);
                if error.is_lasting() { backoff.slowest_delay() } else { backoff.next_delay() }
            }
        };
        glommio::timer::sleep(delay).await;
    }
}

/// Logs what differs from the last failure; the same one every second helps nobody.
fn report(peer: &Peer, address: SocketAddr, error: &DialError, reported: &mut String) {
    let text = format!("{address}: {error}");
    if *reported == text {
        tracing::debug!(peer = %peer.endpoint, lane = %peer.lane, %address, %error, "still cannot connect");
        return;
    }
    let (peer, lane) = (peer.endpoint, peer.lane);
    tracing::warn!(%peer, %lane, %address, %error, "cannot connect, will keep trying");
    *reported = text;
}

/// Different for each pair of shards, each lane and each life of the process.
fn seed(shared: &Shared, peer: &Peer) -> u64 {
    let Endpoint { node, shard } = peer.endpoint;
    let own = shared.identity.incarnation ^ shared.identity.node.rotate_left(17);
    own ^ node.rotate_left(34)
        ^ u64::from(shared.shard).rotate_left(51)
        ^ u64::from(shard)
        ^ (peer.lane as u64).rotate_left(8)
}

async fn dial(
    shared: &Shared,
    peer: &Peer,
    target: PeerNode,
) -> Result<(Stream, FrameDecoder, Session), DialError> {
    let config = &shared.config;
    let connected = TcpStream::connect_timeout(target.address, config.connect_timeout)
        .await
        .map_err(|error| DialError::Connect(error.into()))?;
    let socket = release(connected);
    tune(&socket, config).map_err(DialError::Connect)?;
    let stream = Stream::new(socket.into());
    let hello = hello(shared, peer);
    let mut decoder = FrameDecoder::new(MAX_HANDSHAKE_FRAME, config.read_chunk_bytes);
    let accepted = within(config.handshake_timeout, ask(&stream, &hello, &mut decoder))
        .await
        .unwrap_or(Err(DialError::Timeout(config.handshake_timeout)))?;
    if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&accepted.protocol) {
        return Err(DialError::Protocol(accepted.protocol));
    }
    if accepted.shards != target.shards {
        return Err(DialError::ShardCount { has: accepted.shards, expected: target.shards });
    }
    // Whoever is known with other data was told so by its own side already, which was told what to
    // expect. It is looked at again, for the first meeting may be another connection's.
    if shared.introducer.known(target.node) != Some(accepted.data) {
        shared.introducer.introduce(target.node, accepted.data).await?;
    }
    let limits = shared.limits(peer.lane);
    decoder.set_limits(limits.frame, limits.read_chunk);
    let Accepted { protocol, data, incarnation, .. } = accepted;
    Ok((stream, decoder, Session { protocol, data, incarnation, attempt: hello.attempt }))
}

fn hello(shared: &Shared, peer: &Peer) -> Hello {
    let own = &shared.identity;
    Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        cluster: own.cluster,
        from: Endpoint { node: own.node, shard: shared.shard },
        from_shards: own.shards,
        to: peer.endpoint,
        lane: Some(peer.lane),
        data: own.data,
        expects: shared.introducer.known(peer.endpoint.node),
        fingerprint: own.fingerprint,
        incarnation: own.incarnation,
        attempt: shared.next_attempt(),
    }
}

async fn ask(
    stream: &Stream,
    hello: &Hello,
    decoder: &mut FrameDecoder,
) -> Result<Accepted, DialError> {
    stream.write_all(encode_hello(hello)).await.map_err(DialError::Io)?;
    let Frame { kind, envelope, .. } = loop {
        if let Some(frame) = decoder.next_frame()? {
            break frame;
        }
        match stream.read(decoder.space()).await.map_err(DialError::Io)? {
            0 => return Err(DialError::Closed),
            count => decoder.advance(count),
        }
    };
    if kind != FrameKind::HelloReply {
        return Err(FrameError::UnexpectedKind { found: kind }.into());
    }
    match decode_reply(&envelope)? {
        Reply::Accepted(accepted) => Ok(accepted),
        Reply::Refused { code, sentence } => Err(DialError::Refused { code, sentence }),
    }
}
