//! One command for another node, on a connection of its own: for what may take long, and must not
//! keep the commands of clients waiting behind it.

use std::io;
use std::time::Duration;

use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _, future};

use super::link::{connect, greet};
use super::shard::Shard;
use super::topology::Seat;
use crate::kv::resp::reply::{self, Framing};

/// Bytes of the longest answer that anybody has use for.
const LONGEST: usize = 1 << 20;

/// The reply to a command, as RESP3.
///
/// # Errors
/// There is none within `patience`. Whether the command was done is unknown then.
pub(crate) async fn ask(
    shard: &Shard,
    seat: Seat,
    words: &[Vec<u8>],
    patience: Duration,
) -> io::Result<Vec<u8>> {
    let too_late = async {
        shard.local.sleep(patience).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    future::or(question(shard, seat, words), too_late).await
}

async fn question(shard: &Shard, seat: Seat, words: &[Vec<u8>]) -> io::Result<Vec<u8>> {
    let mut socket = connect(shard, seat).await?;
    let mut request = Vec::new();
    greet(shard.node.settings.password.as_deref(), &mut request);
    reply::array(&mut request, words.len());
    words.iter().for_each(|word| reply::bulk(&mut request, word));
    socket.write_all(&request).await?;
    let (mut bytes, mut greeted, mut framing) = (Vec::new(), false, Framing::default());
    let mut buffer = [0; 4096];
    loop {
        while let Some(length) = framing.next(&bytes).map_err(io::Error::other)? {
            let rest = bytes.split_off(length);
            // Who is not welcome is told so in answer to the greeting.
            if greeted || bytes.starts_with(b"-") {
                return Ok(bytes);
            }
            (greeted, bytes) = (true, rest);
        }
        let count = socket.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..count]);
        if bytes.len() > LONGEST {
            return Err(io::Error::other("an answer without end"));
        }
    }
}
