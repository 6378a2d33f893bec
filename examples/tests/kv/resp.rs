//! A client in few lines, which shows all that a server says.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::children::LONG;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Status(String),
    Error(String),
    Int(i64),
    Bulk(String),
    Null,
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

impl Value {
    pub(crate) fn error(&self) -> &str {
        match self {
            Self::Error(text) => text,
            other => panic!("no error: {other:?}"),
        }
    }

    pub(crate) fn int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            other => panic!("no integer: {other:?}"),
        }
    }

    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            other => panic!("no list: {other:?}"),
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Bulk(text) | Self::Status(text) => text,
            other => panic!("no text: {other:?}"),
        }
    }

    pub(crate) fn is_ok(&self) -> bool {
        *self == Self::Status("OK".into())
    }
}

/// `GET key`, say, as an array of byte strings.
pub(crate) fn encode(command: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for arg in command {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn words(line: &str) -> Vec<u8> {
    encode(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    replies: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_within(address, LONG)
    }

    /// Likewise, and nothing takes longer.
    pub(crate) fn connect_within(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let replies = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, replies })
    }

    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::connect(address).expect("the server takes connections")
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// One command, its words separated by spaces, and its reply.
    pub(crate) fn say(&mut self, line: &str) -> Value {
        self.try_say(line).expect("a reply")
    }

    pub(crate) fn try_say(&mut self, line: &str) -> io::Result<Value> {
        self.stream.write_all(&words(line))?;
        self.reply()
    }

    /// Sends several commands at once.
    pub(crate) fn try_send(&mut self, lines: &[String]) -> io::Result<()> {
        let all: Vec<u8> = lines.iter().flat_map(|line| words(line)).collect();
        self.stream.write_all(&all)
    }

    /// Several commands at once, and their replies.
    pub(crate) fn pipeline(&mut self, lines: &[&str]) -> Vec<Value> {
        let all: Vec<u8> = lines.iter().flat_map(|line| words(line)).collect();
        self.send(&all);
        lines.iter().map(|_| self.reply().expect("a reply")).collect()
    }

    pub(crate) fn reply(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::InvalidData)?;
        let (kind, rest) = line.split_at(1);
        let length = || rest.parse::<i64>().map_err(io::Error::other);
        Ok(match kind {
            "+" => Value::Status(rest.into()),
            "-" => Value::Error(rest.into()),
            ":" => Value::Int(length()?),
            "_" => Value::Null,
            "$" | "*" if rest == "-1" => Value::Null,
            "$" | "=" => Value::Bulk(self.bulk(length()? as usize)?),
            "*" | "~" => {
                Value::List((0..length()?).map(|_| self.reply()).collect::<Result<_, _>>()?)
            }
            "%" => {
                let pairs = (0..length()?).map(|_| Ok((self.reply()?, self.reply()?)));
                Value::Map(pairs.collect::<io::Result<_>>()?)
            }
            _ => return Err(io::Error::other(format!("no reply: {line}"))),
        })
    }

    fn bulk(&mut self, length: usize) -> io::Result<String> {
        let mut bytes = vec![0; length + 2];
        self.replies.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
