//! The status page and the metrics, over HTTP, from a thread of its own: `/`, `/status.json` (what the
//! page shows) and `/metrics`.

mod metrics;
mod status;

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use ringleader::{Handle, QueryError};

use super::shard::Node;

/// A request's head is at most so long.
const HEAD_BYTES: usize = 8 << 10;
const HEADERS: usize = 64;
/// A caller has so long to say what it wants, and as long to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Serves them until it is dropped. Callers are served one after the other.
pub(crate) struct Http {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Http {
    pub(crate) fn start(address: SocketAddr, handle: Handle, node: Arc<Node>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let serve = move || {
            for caller in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                // A caller that goes away is no concern of the node's.
                if let Err(error) = caller.and_then(|caller| answer(caller, &handle, &node)) {
                    tracing::debug!(%error, "an HTTP request was not answered");
                }
            }
        };
        let thread = std::thread::Builder::new().name("kv-http".into()).spawn(serve)?;
        Ok(Self { address, stop, thread: Some(thread) })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let woken = TcpStream::connect_timeout(&self.address, PATIENCE).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            // It has nothing to say, and a panic in it has been printed.
            let _ = thread.join();
        }
    }
}

type Page = Result<(&'static str, String), QueryError>;

fn answer(mut caller: TcpStream, handle: &Handle, node: &Node) -> io::Result<()> {
    caller.set_write_timeout(Some(PATIENCE))?;
    let page: Page = match read_request(&mut caller)? {
        Wish::Page(path) => match &path[..] {
            "/" => Ok((HTML, include_str!("http/status.html").into())),
            "/status.json" => {
                block_on(handle.report()).map(|report| (JSON, status::json(&report, node)))
            }
            "/metrics" => {
                block_on(handle.report()).map(|report| (METRICS, metrics::text(report, node)))
            }
            _ => return reply(&mut caller, "404 Not Found", TEXT, "there are / and /metrics\n"),
        },
        Wish::OtherMethod => {
            return reply(&mut caller, "405 Method Not Allowed", TEXT, "GET is all there is\n");
        }
        Wish::Nonsense => {
            return reply(&mut caller, "400 Bad Request", TEXT, "not an HTTP request\n");
        }
    };
    match page {
        Ok((kind, body)) => reply(&mut caller, "200 OK", kind, &body),
        Err(error) => reply(&mut caller, "503 Service Unavailable", TEXT, &format!("{error}\n")),
    }
}

fn reply(caller: &mut TcpStream, status: &str, kind: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    );
    caller.write_all(head.as_bytes())?;
    caller.write_all(body.as_bytes())
}

enum Wish {
    Page(String),
    OtherMethod,
    Nonsense,
}

fn read_request(caller: &mut TcpStream) -> io::Result<Wish> {
    let deadline = Instant::now() + PATIENCE;
    let (mut head, mut length) = ([0; HEAD_BYTES], 0);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        caller.set_read_timeout(Some(left))?;
        let count = caller.read(&mut head[length..])?;
        if count == 0 {
            // The end, or a head that is too long.
            return Ok(Wish::Nonsense);
        }
        length += count;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head[..length]) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(_)) => {
                let path = request.path.unwrap_or("/").split('?').next().unwrap_or("/");
                let get = request.method == Some("GET");
                return Ok(if get { Wish::Page(path.into()) } else { Wish::OtherMethod });
            }
            Err(_) => return Ok(Wish::Nonsense),
        }
    }
}
