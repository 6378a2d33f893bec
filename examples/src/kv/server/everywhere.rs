//! Commands that concern the keys of every group: `SCAN KEYS DBSIZE RANDOMKEY FLUSHALL`.
//!
//! For clients that know the cluster, these are the groups that the shard they are connected to leads:
//! they ask each node. For the others, all groups are asked, wherever they are led. Each group answers
//! for one moment of its own; `KEYS` goes through a group step by step, as `SCAN` does, so that others
//! have their turn, and finds every key that is there all the time.

use std::rc::Rc;

use super::gathering::{gather, random};
use super::outcome;
use super::shard::Shard;
use crate::kv::command::{self, Command};
use crate::kv::execute::REPLY_BYTES;
use crate::kv::keyspace::PLACE_BITS;
use crate::kv::operation::{Operation, ScanStep};
use crate::kv::resp::reply::{self, Framing};

/// Keys that one step of `KEYS` looks at: nothing else of the group's shard goes on meanwhile.
const KEYS_STEP: u32 = 1_000;

const TOO_MANY_KEYS: &str =
    "ERR the keys come to more bytes than a reply may have; use SCAN, or a narrower pattern";

/// What is to be made of the groups' answers.
enum Kind {
    /// A step of an iteration: one group is asked, the cursor says which.
    Scan { cursor: u64 },
    /// The first that has one.
    Random,
    /// The keys of all steps through all groups.
    Keys,
    /// The sum.
    Count,
    /// That all of them did it.
    Clear,
}

/// A command that concerns several groups.
pub(crate) struct Request {
    command: &'static Command,
    args: Vec<Vec<u8>>,
    kind: Kind,
    plain: bool,
}

impl Request {
    pub(crate) fn new(
        command: &Command,
        operation: &Operation<'_>,
        args: Vec<Vec<u8>>,
        plain: bool,
    ) -> Self {
        let kind = match operation {
            Operation::Scan(_) if command.name == "keys" => Kind::Keys,
            Operation::Scan(ScanStep { place, .. }) => Kind::Scan { cursor: *place },
            Operation::Random { .. } => Kind::Random,
            Operation::Count => Kind::Count,
            _ => Kind::Clear,
        };
        let command = command::find(command.name.as_bytes()).expect("it is in the table");
        Self { command, args, kind, plain }
    }

    fn places(&self, shard: &Shard) -> Vec<usize> {
        let all = 0..shard.topology().layout.groups();
        all.filter(|place| self.plain || shard.leads(*place)).collect()
    }
}

/// The reply to a request, as RESP3.
pub(crate) async fn run(shard: Rc<Shard>, request: Request) -> Vec<u8> {
    let places = request.places(&shard);
    let done = match request.kind {
        Kind::Scan { cursor } => scan(&shard, &request, &places, cursor).await,
        Kind::Random => any(&shard, &request, &places).await,
        Kind::Keys => keys(&shard, &request, &places).await,
        Kind::Count => count(&shard, &request, &places).await,
        Kind::Clear => clear(&shard, &request, &places).await,
    };
    done.unwrap_or_else(|error| error)
}

/// A reply; or the error that is one.
type Reply = Result<Vec<u8>, Vec<u8>>;

/// The group of a cursor, and the place in it.
fn split_cursor(cursor: u64) -> (usize, u64) {
    ((cursor >> PLACE_BITS) as usize, cursor & ((1 << PLACE_BITS) - 1))
}

async fn scan(shard: &Rc<Shard>, request: &Request, places: &[usize], cursor: u64) -> Reply {
    let (group, mut place) = split_cursor(cursor);
    let mut next = places.iter().copied().skip_while(|place| *place < group).peekable();
    let Some(current) = next.next() else { return Ok(step(0, b"*0\r\n")) };
    if current != group {
        // The group is led elsewhere by now.
        place = 0;
    }
    let mut args = request.args.clone();
    args[1] = place.to_string().into_bytes();
    let reply = ask(shard, request, &args, &[current]).await?.remove(0);
    let (next_place, found) = parse_step(&reply).ok_or_else(nonsense)?;
    let cursor = match next.peek() {
        _ if next_place > 0 => (current as u64) << PLACE_BITS | next_place,
        Some(next) => (*next as u64) << PLACE_BITS,
        None => 0,
    };
    Ok(step(cursor, found))
}

fn step(cursor: u64, found: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    reply::array(&mut out, 2);
    reply::bulk(&mut out, cursor.to_string().as_bytes());
    out.extend_from_slice(found);
    out
}

/// The cursor, and the list of keys as it is.
fn parse_step(reply: &[u8]) -> Option<(u64, &[u8])> {
    let rest = reply.strip_prefix(b"*2\r\n")?;
    let length = Framing::default().next(rest).ok()??;
    let (cursor, found) = rest.split_at(length);
    let text = std::str::from_utf8(cursor).ok()?;
    Some((text.split("\r\n").nth(1)?.parse().ok()?, found))
}

async fn any(shard: &Rc<Shard>, request: &Request, places: &[usize]) -> Reply {
    let seed = random() as usize;
    for at in 0..places.len() {
        let place = places[seed.wrapping_add(at) % places.len()];
        let reply = ask(shard, request, &request.args, &[place]).await?.remove(0);
        if reply != b"_\r\n" {
            return Ok(reply);
        }
    }
    Ok(b"_\r\n".to_vec())
}

async fn keys(shard: &Rc<Shard>, request: &Request, places: &[usize]) -> Reply {
    let (mut total, mut all) = (0, Vec::new());
    for place in places {
        let mut cursor = 0;
        loop {
            let reply =
                ask(shard, request, &keys_step(request, cursor), &[*place]).await?.remove(0);
            let (next, found) = parse_step(&reply).ok_or_else(nonsense)?;
            let (length, found) = headed(found, b'*').ok_or_else(nonsense)?;
            total += length;
            all.extend_from_slice(found);
            if all.len() > REPLY_BYTES {
                return Err(error(TOO_MANY_KEYS));
            }
            if next == 0 {
                break;
            }
            cursor = next;
        }
    }
    let mut out = Vec::new();
    reply::array(&mut out, total as usize);
    out.append(&mut all);
    Ok(out)
}

/// A step of `SCAN` for `KEYS pattern`.
fn keys_step(request: &Request, cursor: u64) -> Vec<Vec<u8>> {
    let pattern = request.args[1].clone();
    let words = [b"SCAN".to_vec(), cursor.to_string().into(), b"COUNT".to_vec()];
    let words = words.into_iter().chain([KEYS_STEP.to_string().into(), b"MATCH".to_vec(), pattern]);
    words.collect()
}

async fn count(shard: &Rc<Shard>, request: &Request, places: &[usize]) -> Reply {
    let mut total = 0;
    for reply in ask(shard, request, &request.args, places).await? {
        total += headed(&reply, b':').ok_or_else(nonsense)?.0;
    }
    let mut out = Vec::new();
    reply::integer(&mut out, total);
    Ok(out)
}

/// Some groups may be cleared and others not: that is no refusal.
async fn clear(shard: &Rc<Shard>, request: &Request, places: &[usize]) -> Reply {
    let replies = ask_each(shard, request, &request.args, places).await;
    let is_error = |reply: &&Vec<u8>| reply.starts_with(b"-");
    match replies.iter().find(is_error) {
        None => Ok(b"+OK\r\n".to_vec()),
        Some(error) if replies.iter().all(|reply| is_error(&reply)) => Err(error.clone()),
        Some(_) => Err(partly()),
    }
}

/// What a command is answered with of which some parts were done and others refused.
pub(crate) fn partly() -> Vec<u8> {
    error(outcome::PARTLY)
}

/// The number in the first line of a reply of this kind, and what follows the line.
fn headed(reply: &[u8], kind: u8) -> Option<(i64, &[u8])> {
    let rest = reply.strip_prefix(&[kind])?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((number, &rest[end + 2..]))
}

fn nonsense() -> Vec<u8> {
    error("ERR a group gave an answer that makes no sense")
}

fn error(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    reply::error(&mut out, text);
    out
}

/// What each of the groups says, in their order; the first error if one does.
async fn ask(
    shard: &Rc<Shard>,
    request: &Request,
    args: &[Vec<u8>],
    places: &[usize],
) -> Result<Vec<Vec<u8>>, Vec<u8>> {
    let replies = ask_each(shard, request, args, places).await;
    match replies.iter().find(|reply| reply.starts_with(b"-")) {
        Some(error) => Err(error.clone()),
        None if replies.len() == places.len() => Ok(replies),
        None => Err(nonsense()),
    }
}

async fn ask_each(
    shard: &Rc<Shard>,
    request: &Request,
    args: &[Vec<u8>],
    places: &[usize],
) -> Vec<Vec<u8>> {
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    let parts: Vec<_> = places.iter().map(|place| (*place, args.clone())).collect();
    gather(shard, request.command, &parts, request.plain).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_put_together_and_taken_apart() {
        let whole = step(3 << PLACE_BITS | 77, b"*1\r\n$1\r\na\r\n");
        assert_eq!(parse_step(&whole), Some((3 << PLACE_BITS | 77, &b"*1\r\n$1\r\na\r\n"[..])));
        assert_eq!(split_cursor(3 << PLACE_BITS | 77), (3, 77));
        assert_eq!(parse_step(b"*0\r\n"), None);
        assert_eq!(headed(b"*12\r\nrest", b'*'), Some((12, &b"rest"[..])));
        assert_eq!(headed(b":5\r\n", b'*'), None);
    }
}
