//! Commands of plain clients whose keys are in several slots: `MGET MSET DEL UNLINK EXISTS TOUCH`.
//!
//! Who knows no cluster knows no slots. Such a command is done slot by slot, each part atomic and all
//! parts at once, but not as a whole: others may see some of its parts and not yet the others.

use std::rc::Rc;

use super::everywhere::partly;
use super::gathering::gather;
use super::shard::Shard;
use crate::kv::command::{self, Args, Command};
use crate::kv::execute::{REPLY_BYTES, TOO_MANY};
use crate::kv::resp::reply::{self, Framing};
use crate::kv::slot::slot_of;

/// How the answers to the parts make the answer to the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merge {
    /// Values, in the order of the keys.
    Values,
    /// The sum.
    Count,
    /// That all were done.
    Done,
}

/// A part: the command with the keys of one slot.
struct Part {
    slot: u16,
    args: Vec<Vec<u8>>,
    /// Which of the whole's keys these are.
    keys: Vec<usize>,
}

/// A command that is done in parts.
pub(crate) struct Scattered {
    command: &'static Command,
    merge: Merge,
    parts: Vec<Part>,
    keys: usize,
}

impl Scattered {
    /// The parts of a command; none if it has to be done as a whole.
    pub(crate) fn of(args: Args<'_, '_>) -> Option<Self> {
        let command = command::find(args.first()?)?;
        let merge = match command.name {
            "mget" => Merge::Values,
            "mset" => Merge::Done,
            "del" | "unlink" | "exists" | "touch" => Merge::Count,
            _ => return None,
        };
        let (positions, step) = command.key_positions(args.len())?;
        let mut parts: Vec<Part> = Vec::new();
        let keyed = args.get(positions)?.chunks(step);
        let keys = keyed.len();
        for (at, words) in keyed.enumerate() {
            let slot = slot_of(words[0]);
            let part = match parts.iter_mut().position(|part| part.slot == slot) {
                Some(part) => &mut parts[part],
                None => {
                    let args = vec![command.name.as_bytes().to_vec()];
                    parts.push(Part { slot, args, keys: Vec::new() });
                    parts.last_mut()?
                }
            };
            part.args.extend(words.iter().map(|word| word.to_vec()));
            part.keys.push(at);
        }
        Some(Self { command, merge, parts, keys })
    }
}

/// The reply to the whole, as RESP3.
pub(crate) async fn run(shard: Rc<Shard>, scattered: Scattered) -> Vec<u8> {
    let Scattered { command, merge, parts, keys } = scattered;
    let layout = shard.topology().layout;
    let asked: Vec<_> = parts
        .iter()
        .map(|part| {
            let args: Vec<&[u8]> = part.args.iter().map(Vec::as_slice).collect();
            (layout.group_of(part.slot), args)
        })
        .collect();
    let replies = gather(&shard, command, &asked, true).await;
    if let Some(error) = replies.iter().find(|reply| reply.starts_with(b"-")) {
        let others = replies.iter().any(|reply| !reply.starts_with(b"-"));
        return if command.write && others { partly() } else { error.clone() };
    }
    if replies.iter().map(Vec::len).sum::<usize>() > REPLY_BYTES {
        let mut out = Vec::new();
        reply::error(&mut out, TOO_MANY);
        return out;
    }
    merged(merge, &parts, keys, &replies).unwrap_or_else(nonsense)
}

fn nonsense() -> Vec<u8> {
    b"-ERR a part of the command was answered with what makes no sense\r\n".to_vec()
}

fn merged(merge: Merge, parts: &[Part], keys: usize, replies: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match merge {
        Merge::Done => reply::ok(&mut out),
        Merge::Count => {
            let number = |reply: &Vec<u8>| -> Option<i64> {
                std::str::from_utf8(reply).ok()?.strip_prefix(':')?.trim_end().parse().ok()
            };
            let sum = replies.iter().map(number).sum::<Option<i64>>()?;
            reply::integer(&mut out, sum);
        }
        Merge::Values => {
            let mut values: Vec<&[u8]> = vec![b"_\r\n"; keys];
            for (part, reply) in parts.iter().zip(replies) {
                let mut rest = &reply[reply.iter().position(|byte| *byte == b'\n')? + 1..];
                for key in &part.keys {
                    let length = Framing::default().next(rest).ok()??;
                    (values[*key], rest) = rest.split_at(length);
                }
            }
            reply::array(&mut out, keys);
            values.iter().for_each(|value| out.extend_from_slice(value));
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scattered(line: &str) -> Scattered {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        Scattered::of(&args).expect("it can be done in parts")
    }

    #[test]
    fn keys_of_one_slot_stay_together_and_keep_their_values() {
        let whole = scattered("MSET {a}1 v1 b v2 {a}2 v3");
        let args: Vec<_> = whole.parts.iter().map(|part| part.args.join(&b" "[..])).collect();
        assert_eq!(args, [b"mset {a}1 v1 {a}2 v3".to_vec(), b"mset b v2".to_vec()]);
        assert_eq!(whole.keys, 3);
        assert!(Scattered::of(&[b"MSETNX", b"a", b"1"]).is_none());
    }

    #[test]
    fn answers_are_put_together_in_the_order_of_the_keys() {
        let whole = scattered("MGET {a}1 b {a}2");
        let replies = [b"*2\r\n$2\r\nv1\r\n_\r\n".to_vec(), b"*1\r\n$2\r\nv2\r\n".to_vec()];
        let merged = merged(Merge::Values, &whole.parts, 3, &replies).unwrap();
        assert_eq!(merged, b"*3\r\n$2\r\nv1\r\n$2\r\nv2\r\n_\r\n");
        let whole = scattered("DEL a b");
        let counts = [b":1\r\n".to_vec(), b":1\r\n".to_vec()];
        assert_eq!(super::merged(Merge::Count, &whole.parts, 2, &counts).unwrap(), b":2\r\n");
    }
}
