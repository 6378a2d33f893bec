//! What other nodes ask of this one.

use std::io;
use std::pin::pin;

use futures_util::{StreamExt, stream};
use openraft::Raft;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};

use crate::client::APPENDS;
use crate::message::{self, Frames};
use crate::state_machine::StateMachine;
use crate::types::Types;

/// Answers that are ready at the same time go in one write, up to as many.
const ANSWERS: usize = 64;

pub(crate) async fn serve(listener: TcpListener, raft: Raft<Types, StateMachine>) {
    loop {
        let accepted = listener.accept().await;
        let raft = raft.clone();
        tokio::spawn(async move {
            let ended = async { answer(accepted?.0, raft).await };
            if let Err(error) = ended.await
                && error.kind() != io::ErrorKind::UnexpectedEof
            {
                eprintln!("connection from another node: {error}");
            }
        });
    }
}

async fn answer(mut socket: TcpStream, raft: Raft<Types, StateMachine>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let purpose = socket.read_u8().await?;
    let (requests, answers) = socket.into_split();
    let requests = Frames::new(requests);
    match purpose {
        APPENDS => appends(requests, answers, raft).await,
        _ => votes(requests, answers, raft).await,
    }
}

/// Hands on requests as they come, without waiting for the answers to those before.
async fn appends(
    requests: Frames,
    mut answers: OwnedWriteHalf,
    raft: Raft<Types, StateMachine>,
) -> io::Result<()> {
    let requests = stream::unfold(requests, |mut requests| async {
        let frame = requests.next().await.ok()?;
        Some((message::append(frame), requests))
    });
    let mut results = pin!(raft.stream_append(requests).ready_chunks(ANSWERS));
    let mut bytes = Vec::new();
    while let Some(chunk) = results.next().await {
        bytes.clear();
        for result in chunk {
            let result = result.map_err(io::Error::other)?;
            message::put_frame(&mut bytes, |to| message::put_appended(to, &result));
        }
        answers.write_all(&bytes).await?;
    }
    Ok(())
}

async fn votes(
    mut requests: Frames,
    mut answers: OwnedWriteHalf,
    raft: Raft<Types, StateMachine>,
) -> io::Result<()> {
    loop {
        let request = message::vote_request(requests.next().await?);
        let response = raft.vote(request).await.map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        message::put_frame(&mut bytes, |to| message::put_vote_response(to, &response));
        answers.write_all(&bytes).await?;
    }
}
