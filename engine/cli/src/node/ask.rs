//! One request and its answer.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use ringleader::admin::{Effect, Outcome, Request, Response, SOCKET, VERSION};
use serde_json::Value;

use super::Node;
use crate::failure::Failure;

/// A node that answers later than it said that it would is as good as not there.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks for something that changes nothing.
pub(super) fn look(node: &Node, command: &str) -> Result<Value, Failure> {
    let request = Request {
        version: VERSION,
        command: command.to_owned(),
        args: Value::Null,
        wait_seconds: None,
    };
    let path = socket(node);
    let cause = match send(node, &request, PATIENCE) {
        Ok(line) => return answer(node, &line),
        Err(Lost::Before(cause) | Lost::After(cause)) => cause,
    };
    Err(Failure::NoNode { path, cause })
}

/// Asks for something that takes effect, and waits for the outcome for so many seconds.
pub(super) fn act(node: &Node, command: &str, args: Value, wait: u64) -> Result<Value, Failure> {
    let request =
        Request { version: VERSION, command: command.to_owned(), args, wait_seconds: Some(wait) };
    let path = socket(node);
    match send(node, &request, Duration::from_secs(wait) + PATIENCE) {
        Ok(line) => answer(node, &line),
        Err(Lost::Before(cause)) => Err(Failure::NoNode { path, cause }),
        Err(Lost::After(cause)) => Err(Failure::NoAnswer { path, cause }),
    }
}

fn socket(node: &Node) -> PathBuf {
    node.data_dir.join(SOCKET)
}

pub(super) fn nonsense(node: &Node, cause: &serde_json::Error) -> Failure {
    Failure::Nonsense { path: socket(node), cause: cause.to_string() }
}

fn answer(node: &Node, line: &str) -> Result<Value, Failure> {
    let response: Response = serde_json::from_str(line).map_err(|error| nonsense(node, &error))?;
    let refusal = match response.outcome {
        Outcome::Ok(value) => return Ok(value),
        Outcome::Error(refusal) => refusal,
    };
    let refusal = Box::new(refusal);
    Err(match (refusal.effect, refusal.code.as_str()) {
        (Effect::Unknown, _) => Failure::Unknown(refusal),
        (_, "not-leader") => Failure::NotLeader(refusal),
        (_, "malformed" | "version" | "unknown-command" | "arguments" | "busy" | "stopped") => {
            Failure::NotAsked(refusal)
        }
        _ => Failure::Refused(refusal),
    })
}

/// The connection ended before the node had the request, or after that.
enum Lost {
    Before(std::io::Error),
    After(std::io::Error),
}

fn send(node: &Node, request: &Request, patience: Duration) -> Result<String, Lost> {
    let mut stream = UnixStream::connect(socket(node)).map_err(Lost::Before)?;
    stream.set_read_timeout(Some(patience)).map_err(Lost::Before)?;
    let mut line = serde_json::to_string(request).expect("a request is JSON");
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(Lost::After)?;
    let mut answer = String::new();
    let read = BufReader::new(stream).read_line(&mut answer).map_err(Lost::After)?;
    if read == 0 {
        return Err(Lost::After(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(answer)
}
