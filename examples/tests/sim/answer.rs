//! What a caller is told: the store's reply, in a form that is small, and equal where replies say the
//! same.

use crate::rng::{chain, chain_bytes};

/// An answer. Byte strings stand as hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// There is none.
    None,
    Ok,
    Number(i64),
    Bytes(u64),
    /// A word that is no value, such as the name of a type.
    Word(u64),
    List {
        count: usize,
        items: u64,
    },
    Failed(Failure),
}

/// Why an operation was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    WrongType,
    NotANumber,
    Overflow,
    /// Nothing that callers here should ever see.
    Strange,
}

impl Output {
    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self::Bytes(chain_bytes(0, bytes))
    }

    pub(crate) fn optional(bytes: Option<&[u8]>) -> Self {
        bytes.map_or(Self::None, Self::bytes)
    }

    pub(crate) fn word(word: &str) -> Self {
        Self::Word(chain_bytes(0, word.as_bytes()))
    }

    pub(crate) fn flag(flag: bool) -> Self {
        Self::Number(flag.into())
    }

    pub(crate) fn list(items: &[Self]) -> Self {
        let items_hash = items.iter().map(|item| item.hash()).fold(0, chain);
        Self::List { count: items.len(), items: items_hash }
    }

    /// A list whose order means nothing.
    pub(crate) fn set(items: &[Self]) -> Self {
        let mut hashes: Vec<u64> = items.iter().map(|item| item.hash()).collect();
        hashes.sort_unstable();
        Self::List { count: items.len(), items: hashes.into_iter().fold(0, chain) }
    }

    fn hash(&self) -> u64 {
        match *self {
            Self::None => 1,
            Self::Ok => 2,
            Self::Number(number) => chain(3, number as u64),
            Self::Bytes(hash) => chain(4, hash),
            Self::Word(hash) => chain(5, hash),
            Self::List { count, items } => chain(chain(6, count as u64), items),
            Self::Failed(why) => chain(7, why as u64),
        }
    }

    /// What a reply of the store says: RESP3, whole, and nothing else.
    pub(crate) fn read(reply: &[u8], unordered: bool) -> Self {
        let mut rest = reply;
        let output = Self::take(&mut rest, unordered);
        assert!(rest.is_empty(), "answer: more than one reply: {:?}", reply.escape_ascii());
        output
    }

    fn take(rest: &mut &[u8], unordered: bool) -> Self {
        let (kind, line) = take_line(rest);
        let number = || line.parse::<i64>().expect("answer: a number");
        match kind {
            b'_' => Self::None,
            b'+' if line == "OK" => Self::Ok,
            b'+' => Self::word(line),
            b':' => Self::Number(number()),
            b'-' => Self::Failed(Failure::read(line)),
            b'$' => {
                let (bytes, after) = rest.split_at(number() as usize);
                *rest = after.strip_prefix(b"\r\n").expect("answer: the end of a string");
                Self::bytes(bytes)
            }
            b'*' => {
                let items: Vec<Self> = (0..number()).map(|_| Self::take(rest, unordered)).collect();
                if unordered { Self::set(&items) } else { Self::list(&items) }
            }
            other => panic!("answer: a reply of kind {}", char::from(other)),
        }
    }
}

fn take_line<'a>(rest: &mut &'a [u8]) -> (u8, &'a str) {
    let end = rest.windows(2).position(|two| two == b"\r\n").expect("answer: the end of a line");
    let (line, after) = rest.split_at(end);
    *rest = &after[2..];
    let (kind, text) = line.split_first().expect("answer: a reply has a kind");
    (*kind, std::str::from_utf8(text).expect("answer: a line of text"))
}

impl Failure {
    fn read(line: &str) -> Self {
        match line {
            _ if line.starts_with("WRONGTYPE ") => Self::WrongType,
            "ERR value is not an integer or out of range" => Self::NotANumber,
            "ERR increment or decrement would overflow" => Self::Overflow,
            _ => Self::Strange,
        }
    }
}
