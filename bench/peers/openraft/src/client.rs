//! The way from a leader or candidate to another node. Appends are pipelined: a task sends requests
//! as openraft makes them, while answers are read in the same order from the same connection.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, VoteRequest,
    VoteResponse,
};
use openraft::{EmptyNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use peer_common::Node;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::message::{self, Frames};
use crate::types::Types;

/// What a connection is for: its first byte.
pub(crate) const APPENDS: u8 = 1;
pub(crate) const VOTES: u8 = 2;

type Result<T> = std::result::Result<T, RPCError<Types>>;

/// Makes clients.
pub(crate) struct Network(pub(crate) Arc<Node>);

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Client {
        Client { address: self.0.args.address(target), appends: None }
    }
}

pub(crate) struct Client {
    address: SocketAddr,
    /// For appends, while none of them is on the way.
    appends: Option<Connection>,
}

struct Connection {
    answers: Frames,
    requests: OwnedWriteHalf,
}

impl Client {
    async fn connect(&self, purpose: u8) -> Result<Connection> {
        let connect = async {
            let mut socket = TcpStream::connect(self.address).await?;
            socket.set_nodelay(true)?;
            socket.write_all(&[purpose]).await?;
            Ok(socket)
        };
        let socket = connect.await.map_err(|error: io::Error| Unreachable::new(&error))?;
        let (answers, requests) = socket.into_split();
        Ok(Connection { answers: Frames::new(answers), requests })
    }
}

fn broken(error: &io::Error) -> RPCError<Types> {
    NetworkError::new(error).into()
}

/// Appends that are on the way.
struct Session<'a> {
    client: &'a mut Client,
    answers: Frames,
    /// One for each request that is on the way, until openraft has no more.
    sent: UnboundedReceiver<()>,
    sender: Sender,
}

/// A task that sends requests, and gives its part of the connection back. It ends with the session.
struct Sender(JoinHandle<io::Result<OwnedWriteHalf>>);

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send<S>(
    mut requests: S,
    mut socket: OwnedWriteHalf,
    sent: UnboundedSender<()>,
) -> io::Result<OwnedWriteHalf>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    let mut frame = Vec::new();
    while let Some(request) = requests.next().await {
        frame.clear();
        message::put_frame(&mut frame, |to| message::put_append(to, &request));
        // Fails when the session has ended, and this task with it.
        let _ = sent.send(());
        socket.write_all(&frame).await?;
    }
    Ok(socket)
}

impl Session<'_> {
    /// The next answer, and the session unless it ends with it.
    async fn next(mut self) -> Option<(Result<StreamAppendResult<Types>>, Option<Self>)> {
        if self.sent.recv().await.is_some() {
            return match self.answers.next().await {
                Ok(frame) => {
                    let result = message::appended(frame);
                    let rest = result.is_ok().then_some(self);
                    Some((Ok(result), rest))
                }
                Err(error) => Some((Err(broken(&error)), None)),
            };
        }
        match (&mut self.sender.0).await {
            Ok(Ok(requests)) => {
                self.client.appends = Some(Connection { answers: self.answers, requests });
                None
            }
            Ok(Err(error)) => Some((Err(broken(&error)), None)),
            Err(error) => Some((Err(broken(&error.into())), None)),
        }
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = ();

    /// openraft sends appends through [`stream_append`](RaftNetworkV2::stream_append) only.
    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>> {
        Err(Unreachable::from_string("appends are streamed").into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let connection = match self.appends.take() {
                Some(connection) => connection,
                None => self.connect(APPENDS).await?,
            };
            let Connection { answers, requests } = connection;
            let (sending, sent) = unbounded_channel();
            let sender = Sender(tokio::spawn(send(input, requests, sending)));
            let session = Session { client: self, answers, sent, sender };
            let results = stream::unfold(Some(session), |session| async { session?.next().await });
            Ok(Box::pin(results) as BoxStream<'s, _>)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>> {
        let mut connection = self.connect(VOTES).await?;
        let mut frame = Vec::new();
        message::put_frame(&mut frame, |to| message::put_vote_request(to, &request));
        let sent = connection.requests.write_all(&frame).await;
        sent.map_err(|error| broken(&error))?;
        let answer = connection.answers.next().await.map_err(|error| broken(&error))?;
        Ok(message::vote_response(answer))
    }

    async fn full_snapshot(
        &mut self,
        _: VoteOf<Types>,
        _: SnapshotOf<Types, ()>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> std::result::Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(Unreachable::from_string("snapshots are off").into())
    }
}
