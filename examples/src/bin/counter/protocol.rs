//! What client and server say to each other: a line each way, one request at a time.
//!
//! ```text
//! request  GROUP add AMOUNT
//!          GROUP get
//! answer   ok VALUE           applied, durable on a majority; or read, and current
//!          redirect ADDRESS   not applied: the leader is there
//!          retry REASON       not applied: nobody leads just now, or there is no room
//!          unknown REASON     it may or may not have been applied, now or later
//!          error TEXT         not applied, and asking again will not help
//! ```

use std::fmt;
use std::io::{self, BufRead, Read as _};
use std::net::SocketAddr;
use std::str::FromStr;

/// Longest line in bytes, its end included: a peer can make us hold no more.
const MAX_LINE: usize = 1024;

/// A group's name is a word of a request.
///
/// # Errors
/// Says what a name must be.
pub(crate) fn group_name(name: &str) -> Result<String, &'static str> {
    let fits = !name.is_empty() && name.len() <= 256 && !name.contains(char::is_whitespace);
    if fits { Ok(name.to_owned()) } else { Err("must be 1 to 256 bytes without white space") }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Only the leader takes it.
    Add(i64),
    /// Any server answers it.
    Get,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) group: String,
    pub(crate) operation: Operation,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.operation {
            Operation::Add(amount) => write!(f, "{} add {amount}", self.group),
            Operation::Get => write!(f, "{} get", self.group),
        }
    }
}

impl FromStr for Request {
    type Err = &'static str;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = line.split(' ').collect();
        let (group, operation) = match words[..] {
            [group, "get"] => (group, Operation::Get),
            [group, "add", amount] => {
                let amount = amount.parse().map_err(|_| "AMOUNT must be a 64-bit integer")?;
                (group, Operation::Add(amount))
            }
            _ => return Err("a request is `GROUP add AMOUNT` or `GROUP get`"),
        };
        Ok(Self { group: group.to_owned(), operation })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok(i64),
    Redirect(SocketAddr),
    Retry(String),
    Unknown(String),
    Error(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok(value) => write!(f, "ok {value}"),
            Self::Redirect(leader) => write!(f, "redirect {leader}"),
            Self::Retry(reason) => write!(f, "retry {}", one_line(reason)),
            Self::Unknown(reason) => write!(f, "unknown {}", one_line(reason)),
            Self::Error(text) => write!(f, "error {}", one_line(text)),
        }
    }
}

impl FromStr for Answer {
    type Err = &'static str;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = line.split_once(' ').ok_or("not an answer")?;
        match kind {
            "ok" => rest.parse().map(Self::Ok).map_err(|_| "a value that is no number"),
            "redirect" => rest.parse().map(Self::Redirect).map_err(|_| "a leader without address"),
            "retry" => Ok(Self::Retry(rest.to_owned())),
            "unknown" => Ok(Self::Unknown(rest.to_owned())),
            "error" => Ok(Self::Error(rest.to_owned())),
            _ => Err("not an answer"),
        }
    }
}

/// Texts come from errors and may be of any length.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ").chars().take(MAX_LINE / 8).collect()
}

/// The next line without its end, or `None` when the other side has hung up. What came of a line
/// before that is dropped: half a request (`add 1` of `add 100`) must not be taken for one.
///
/// # Errors
/// `InvalidData` when the line is too long or no UTF-8.
pub(crate) fn read_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
    if line.pop_if(|last| *last == b'\n').is_none() {
        let cut = line.len() == MAX_LINE;
        let too_long = io::Error::new(io::ErrorKind::InvalidData, "the line is too long");
        return if cut { Err(too_long) } else { Ok(None) };
    }
    line.pop_if(|last| *last == b'\r');
    let line = String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_the_wire() {
        for operation in [Operation::Add(-5), Operation::Add(i64::MAX), Operation::Get] {
            let request = Request { group: "counter".into(), operation };
            assert_eq!(request.to_string().parse(), Ok(request));
        }
        let answers = [
            Answer::Ok(-7),
            Answer::Redirect("[::1]:8081".parse().unwrap()),
            Answer::Retry("no leader".into()),
            Answer::Unknown("leadership was lost".into()),
            Answer::Error("no such group".into()),
        ];
        for answer in answers {
            assert_eq!(answer.to_string().parse(), Ok(answer));
        }
        assert_eq!(Answer::Error("two\nlines".into()).to_string(), "error two lines");
    }

    #[test]
    fn bad_requests_are_refused() {
        let bad = ["", "get", "g  get", "g get 1", "g add", "g add x", "g add 9223372036854775808"];
        for line in bad {
            assert!(line.parse::<Request>().is_err(), "{line:?}");
        }
    }

    #[test]
    fn lines_are_whole_bounded_and_text() {
        let mut input = &b"one\ntwo\r\nthr"[..];
        assert_eq!(read_line(&mut input).unwrap().as_deref(), Some("one"));
        assert_eq!(read_line(&mut input).unwrap().as_deref(), Some("two"));
        assert_eq!(read_line(&mut input).unwrap(), None);
        let longest = [vec![b'x'; MAX_LINE - 1], vec![b'\n']].concat();
        assert!(read_line(&mut &longest[..]).unwrap().is_some());
        for bad in [&vec![b'x'; MAX_LINE][..], b"\xff\n"] {
            let error = read_line(&mut { bad }).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
