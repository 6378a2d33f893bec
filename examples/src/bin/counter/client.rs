//! A client: finds the leader, and never applies an operation twice.

use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Subcommand;
use tracing::debug;

use crate::protocol::{Answer, Operation, Request, group_name, read_line};

/// A server that does not take a connection in this time is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a `get` waits for one server. It changes nothing and may be asked elsewhere.
const GET_TIMEOUT: Duration = Duration::from_secs(2);

/// Pauses between tries after the second one; each is twice the one before it.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// The exit code for "it may or may not have been applied".
const EXIT_UNKNOWN: u8 = 3;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of the counter
    #[arg(long, value_name = "NAME", value_parser = group_name)]
    group: String,
    /// Servers to try; the leader is found from any of them
    #[arg(long, value_name = "IP:PORT,...", value_delimiter = ',', required = true)]
    peers: Vec<SocketAddr>,
    /// How long one operation may take, with all tries
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Add to the counter and print the new value
    Add {
        #[arg(allow_negative_numbers = true)]
        amount: i64,
        /// Add so many times, one after the other, and print the value after each; stops at the
        /// first that is not certain
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u64,
    },
    /// Print the value
    Get,
}

/// Why an operation has no result.
enum Failure {
    /// It was certainly not applied.
    NotApplied(String),
    /// It may or may not have been applied, or may be yet.
    Unknown(String),
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let (operation, count) = match args.action {
        Action::Add { amount, count } => (Operation::Add(amount), count),
        Action::Get => (Operation::Get, 1),
    };
    let request = Request { group: args.group.clone(), operation };
    let mut client = Client::new(request, args.peers.clone());
    for done in 0..count {
        match client.perform(Duration::from_secs(args.timeout)) {
            Ok(value) => {
                if writeln!(io::stdout(), "{value}").is_err() {
                    return ExitCode::FAILURE;
                }
            }
            Err(failure) => return report(&failure, done, count),
        }
    }
    ExitCode::SUCCESS
}

fn report(failure: &Failure, done: u64, count: u64) -> ExitCode {
    let code = match failure {
        Failure::NotApplied(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
        Failure::Unknown(why) => {
            eprintln!("unknown: it may or may not have been applied: {why}");
            ExitCode::from(EXIT_UNKNOWN)
        }
    };
    if count > 1 {
        eprintln!("{done} of {count} are certain; stopped at the one after them");
    }
    code
}

struct Client {
    request: Request,
    peers: Vec<SocketAddr>,
    /// Which of the peers is tried next when the target is no good.
    next_peer: usize,
    /// The leader, as far as we know.
    target: SocketAddr,
    /// Open to the target.
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    fn new(request: Request, peers: Vec<SocketAddr>) -> Self {
        let target = peers[0];
        Self { request, peers, next_peer: 1, target, connection: None }
    }

    /// Performs the operation once, with as many tries as that takes and the time allows.
    fn perform(&mut self, timeout: Duration) -> Result<i64, Failure> {
        let deadline = Instant::now() + timeout;
        let mut pause = Duration::ZERO;
        loop {
            // Going on is safe: what failed was certainly not applied, or changes nothing (`get`).
            let why = match self.attempt(deadline) {
                Ok(Answer::Ok(value)) => return Ok(value),
                Ok(Answer::Error(text)) => return Err(Failure::NotApplied(text)),
                Ok(Answer::Redirect(leader)) => {
                    self.turn_to(leader);
                    format!("redirected to {leader}")
                }
                Ok(Answer::Retry(why)) | Err(Failure::NotApplied(why)) => self.pass_over(&why),
                Ok(Answer::Unknown(why)) | Err(Failure::Unknown(why)) => {
                    if self.request.operation != Operation::Get {
                        return Err(Failure::Unknown(format!("{}: {why}", self.target)));
                    }
                    // Asking twice is no harm.
                    self.pass_over(&why)
                }
            };
            debug!(why, "trying again");
            if Instant::now() + pause >= deadline {
                return Err(Failure::NotApplied(format!("gave up after {timeout:?}: {why}")));
            }
            thread::sleep(pause);
            // The first redirect is followed at once.
            pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        }
    }

    fn turn_to(&mut self, target: SocketAddr) {
        self.target = target;
        self.connection = None;
    }

    /// Turns to the next of the peers, and says why.
    fn pass_over(&mut self, why: &str) -> String {
        let why = format!("{}: {why}", self.target);
        self.turn_to(self.peers[self.next_peer % self.peers.len()]);
        self.next_peer += 1;
        why
    }

    /// Asks the target once.
    fn attempt(&mut self, deadline: Instant) -> Result<Answer, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(self.target, deadline)
                .map_err(|error| Failure::NotApplied(format!("connecting: {error}")))?,
        };
        // From the first byte on, whatever goes wrong, the request may have arrived.
        let answer = ask(&mut connection, &self.request, deadline)
            .map_err(|error| Failure::Unknown(error.to_string()))?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

fn connect(target: SocketAddr, deadline: Instant) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&target, time_left(deadline).min(CONNECT_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

fn ask(
    connection: &mut BufReader<TcpStream>,
    request: &Request,
    deadline: Instant,
) -> io::Result<Answer> {
    let patience = match request.operation {
        Operation::Add(_) => time_left(deadline),
        Operation::Get => time_left(deadline).min(GET_TIMEOUT),
    };
    let stream = connection.get_mut();
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let answer = read_line(connection).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::other(format!("no answer in {patience:?}")),
        _ => error,
    })?;
    let hung_up = || io::Error::other("the server hung up before it answered");
    answer.ok_or_else(hung_up)?.parse().map_err(io::Error::other)
}

/// Never zero, which would mean no limit to a socket.
fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}
