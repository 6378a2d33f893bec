//! A node's metrics over HTTP, for Prometheus: `GET /metrics`, from a thread of its own. Pages of the
//! caller's own may be beside them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;

use super::Report;
use crate::error::QueryError;
use crate::handle::Handle;

/// A request's head is at most so long.
const HEAD_BYTES: usize = 8 << 10;
const HEADERS: usize = 64;
/// A caller has so long to say what it wants, and as long to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves one node's metrics, and perhaps other pages, until it is dropped. Callers are served one
/// after the other.
pub struct Exporter {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What is at a path.
pub struct Page {
    /// The `Content-Type`.
    pub kind: &'static str,
    /// The body.
    pub body: String,
}

impl Page {
    /// A node's metrics. More than `group_limit` groups (100 is a good limit) are added up instead of
    /// listed; see [`Report::into_openmetrics`](super::Report::into_openmetrics).
    #[must_use]
    pub fn metrics(report: Report, group_limit: usize) -> Self {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        Self { kind, body: report.into_openmetrics(group_limit) }
    }
}

impl Exporter {
    /// Listens on `address`; its port may be 0. There is `/metrics`: see [`Page::metrics`].
    ///
    /// # Errors
    /// When the address can't be had, or the thread.
    pub fn start(address: SocketAddr, handle: Handle, group_limit: usize) -> io::Result<Self> {
        Self::serve(address, move |path| {
            let report = || block_on(handle.report());
            (path == "/metrics").then(|| Ok(Page::metrics(report()?, group_limit)))
        })
    }

    /// As [`start`](Self::start), with pages of your own: `page` is given a path without its query,
    /// and says what is there, if anything is. It is called on the exporter's thread, one request
    /// after the other.
    ///
    /// # Errors
    /// When the address can't be had, or the thread.
    pub fn serve(
        address: SocketAddr,
        page: impl Fn(&str) -> Option<Result<Page, QueryError>> + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let serve = move || {
            for caller in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                let Ok(caller) = caller else {
                    // No descriptors, as a rule: they don't come back at once.
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                };
                // A caller that goes away is no concern of the node's.
                if let Err(error) = answer(caller, &page) {
                    tracing::debug!(%error, "a request for metrics was not answered");
                }
            }
        };
        let thread = std::thread::Builder::new().name("ringleader-metrics".into()).spawn(serve)?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let woken = TcpStream::connect_timeout(&self.address, PATIENCE).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            // It has nothing to say, and a panic in it has been printed.
            let _ = thread.join();
        }
    }
}

fn answer(
    mut caller: TcpStream,
    page: &impl Fn(&str) -> Option<Result<Page, QueryError>>,
) -> io::Result<()> {
    caller.set_write_timeout(Some(PATIENCE))?;
    let (status, kind, body) = match read_request(&mut caller)? {
        Wish::Page(path) => match page(&path) {
            Some(Ok(Page { kind, body })) => ("200 OK", kind, body),
            Some(Err(error)) => ("503 Service Unavailable", "text/plain", format!("{error}\n")),
            None => ("404 Not Found", "text/plain", "there is /metrics\n".into()),
        },
        Wish::OtherMethod => ("405 Method Not Allowed", "text/plain", "only GET\n".into()),
        Wish::Nonsense => ("400 Bad Request", "text/plain", "not an HTTP request\n".into()),
    };
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
