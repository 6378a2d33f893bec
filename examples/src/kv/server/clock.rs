//! What time it is, as far as this node can tell.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::link::{encode, greet};
use crate::kv::resp::reply::Framing;

/// How long another node is waited for that may be down.
const PATIENCE: Duration = Duration::from_millis(300);

/// A difference between clocks that somebody should look after, in milliseconds.
const NOTABLE: i64 = 1_000;

/// The wall clock as it was when the process began, and what has passed since: a step of the clock
/// while the process runs does no harm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SteadyClock {
    began: Instant,
    epoch: Duration,
}

impl SteadyClock {
    pub(crate) fn start() -> Self {
        // A clock before 1970 is taken for 1970.
        let epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self { began: Instant::now(), epoch }
    }

    /// A clock that goes by the middle of what this node's and the others' say, of those that answer:
    /// one that is wrong counts for nothing as long as most are right. Of two in the middle it is the
    /// one behind: what ends late does less harm than what ends early.
    pub(crate) fn among(peers: &[SocketAddr], password: Option<&str>) -> Self {
        let own = Self::start();
        let mut ahead: Vec<i64> = thread::scope(|scope| {
            let ask = |peer| scope.spawn(move || own.difference(peer, password).ok());
            let asked: Vec<_> = peers.iter().copied().map(ask).collect();
            asked.into_iter().filter_map(|peer| peer.join().ok().flatten()).collect()
        });
        ahead.push(0);
        ahead.sort_unstable();
        let middle = ahead[(ahead.len() - 1) / 2];
        if middle.abs() > NOTABLE {
            tracing::warn!(
                milliseconds = middle,
                "the other nodes' clocks are so far ahead of this one's, which goes by theirs"
            );
        }
        own.moved(middle)
    }

    fn moved(self, millis: i64) -> Self {
        let by = Duration::from_millis(millis.unsigned_abs());
        let epoch =
            if millis < 0 { self.epoch.saturating_sub(by) } else { self.epoch.saturating_add(by) };
        Self { epoch, ..self }
    }

    /// By how many milliseconds a node's clock is ahead of this one.
    fn difference(&self, peer: SocketAddr, password: Option<&str>) -> io::Result<i64> {
        let mut stream = TcpStream::connect_timeout(&peer, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut request = Vec::new();
        greet(password, &mut request);
        encode(&[b"TIME"], &mut request);
        let sent = self.now();
        stream.write_all(&request)?;
        let theirs = time_in(&mut stream)?;
        Ok(theirs as i64 - sent.midpoint(self.now()) as i64)
    }

    /// Since it was started.
    pub(crate) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        (self.epoch + self.began.elapsed()).as_millis() as u64
    }
}

/// The milliseconds in the second reply; the first is that to the greeting.
fn time_in(stream: &mut TcpStream) -> io::Result<u64> {
    let (mut bytes, mut framing, mut greeted) = (Vec::new(), Framing::default(), false);
    let mut buffer = [0; 1024];
    loop {
        while let Some(length) = framing.next(&bytes).map_err(io::Error::other)? {
            let rest = bytes.split_off(length);
            if greeted {
                return time_of(&bytes).ok_or_else(|| io::Error::other("no time"));
            }
            (greeted, bytes) = (true, rest);
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Seconds and microseconds, as `TIME` has them.
fn time_of(reply: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(reply).ok()?;
    let mut lines = text.strip_prefix("*2\r\n")?.split("\r\n");
    let mut number = || -> Option<u64> { lines.nth(1)?.parse().ok() };
    let (seconds, micros) = (number()?, number()?);
    seconds.checked_mul(1000)?.checked_add(micros / 1000)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const HOUR: u64 = 3_600_000;

    /// Somebody who says that it is so late, once.
    fn peer(says: u64) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            let (seconds, micros) = (says / 1000, says % 1000 * 1000);
            let micros = micros.to_string();
            let time = format!("*2\r\n${}\r\n{seconds}\r\n${}\r\n{micros}\r\n", 10, micros.len());
            stream.write_all(format!("%1\r\n+a\r\n+b\r\n{time}").as_bytes()).unwrap();
        });
        address
    }

    fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn a_clock_that_is_wrong_gives_way_to_those_that_agree() {
        let right = SteadyClock::start();
        // Whatever the tests' machine is busy with, it is not for half an hour.
        let near = |clock: SteadyClock, time: u64| clock.now().abs_diff(time) < HOUR / 2;
        let now = right.now();
        // Ours is an hour ahead of both others, or behind; or one of them is.
        assert!(near(SteadyClock::among(&[peer(now - HOUR), peer(now - HOUR)], None), now - HOUR));
        assert!(near(SteadyClock::among(&[peer(now + HOUR), peer(now + HOUR)], None), now + HOUR));
        assert!(near(SteadyClock::among(&[peer(now + HOUR), peer(now)], None), now));
        // Of two, the one behind; and nobody is asked in vain.
        assert!(near(SteadyClock::among(&[peer(now - HOUR), nobody()], None), now - HOUR));
        assert!(near(SteadyClock::among(&[peer(now + HOUR), nobody()], Some("secret")), now));
        assert!(near(SteadyClock::among(&[], None), now));
    }
}
