//! A server: one node of the cluster, and the clients' connections to it.

use std::collections::HashSet;
use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use futures_lite::future::block_on;
use ringleader::report::Exporter;
use ringleader::{
    Consistency, Engine, EngineConfig, GroupConfig, GroupId, Handle, Member, NodeId, ProposeError,
    ProposeReply, ReadError,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{debug, info, warn};

use crate::machine::{CounterMachine, decode_reply, encode_add};
use crate::protocol::{Answer, Operation, Request, group_name, read_line};

/// What is added to a listed port for Raft between the servers.
const RAFT_PORT_OFFSET: u16 = 10_000;

/// Each connection costs a thread, so strangers must not be able to open any number.
const MAX_CONNECTIONS: usize = 512;

/// How long a connection may be silent, or leave an answer unread.
const IDLE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where this server keeps its log; created if missing
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Name of the counter
    #[arg(long, value_name = "NAME", value_parser = group_name)]
    group: String,
    /// Where this server listens for clients: one of --peers
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
    /// All servers, this one included; the same list in the same order everywhere
    #[arg(long, value_name = "IP:PORT,...", value_delimiter = ',', required = true)]
    peers: Vec<SocketAddr>,
    /// Serve metrics for Prometheus here, over HTTP under /metrics
    #[arg(long, value_name = "IP:PORT")]
    metrics: Option<SocketAddr>,
}

/// # Errors
/// Says what is wrong with the arguments.
pub(crate) fn config(args: &Args) -> Result<EngineConfig, String> {
    let Args { data_dir, group, listen, peers, .. } = args;
    let position = peers.iter().position(|peer| peer == listen);
    let position = position.ok_or_else(|| format!("--listen {listen} is not one of --peers"))?;
    let members: Vec<Member> = peers
        .iter()
        .zip(1..)
        .map(|(peer, number)| {
            Ok(Member { node: NodeId(number), address: raft_address(*peer)?, shards: 1 })
        })
        .collect::<Result<_, String>>()?;
    let raft = members.iter().map(|member| &member.address);
    if peers.iter().chain(raft).collect::<HashSet<_>>().len() < 2 * peers.len() {
        return Err(format!(
            "--peers: an address is given twice, or is another's Raft address (port + \
             {RAFT_PORT_OFFSET})"
        ));
    }

    // A node's number is its position in the list, so with another list the same number would mean
    // another server. Naming the cluster after the list makes servers that disagree about it
    // refuse each other, and refuse each other's data.
    let list: Vec<String> = peers.iter().map(ToString::to_string).collect();
    let cluster = GroupId::from_name(&list.join(",")).0;
    let voters = members.iter().map(|member| member.node).collect();
    let mut config = EngineConfig::new(cluster, members[position].node, members, data_dir.clone());
    config.groups = vec![GroupConfig { group: GroupId::from_name(group), voters }];
    // The log is prepared in segments of this size. The default suits more than one number.
    config.wal.segment_bytes = 8 << 20;
    // A snapshot of one number costs less than the log that it replaces, so there is one often, and a
    // start applies few operations again. The defaults suit a state that takes a while to write.
    config.snapshots.entries = Some(10_000);
    // Servers that were away for no longer than this are sent operations, others the snapshot.
    config.snapshots.keep_entries = 1_000;
    config.admin = true;
    Ok(config)
}

fn raft_address(peer: SocketAddr) -> Result<SocketAddr, String> {
    let port = peer.port().checked_add(RAFT_PORT_OFFSET).filter(|_| peer.port() > 0);
    let port = port.ok_or_else(|| {
        let highest = u16::MAX - RAFT_PORT_OFFSET;
        format!("--peers: the port of {peer} must be 1 to {highest}: {RAFT_PORT_OFFSET} above it is for Raft")
    })?;
    Ok(SocketAddr::new(peer.ip(), port))
}

/// Runs until SIGINT (Ctrl-C) or SIGTERM.
///
/// # Errors
/// Says why the node did not start.
pub(crate) fn run(args: &Args, config: EngineConfig) -> anyhow::Result<()> {
    let node = config.node;
    let engine = Engine::start(config, |_group| Box::new(CounterMachine::default()))?;
    // From here on there are clients who are owed an answer. Until here, a signal may just kill.
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("handling signals")?;
    let listener = TcpListener::bind(args.listen)
        .with_context(|| format!("listening for clients on {}", args.listen))?;
    let exporter = args.metrics.map(|address| {
        Exporter::start(address, engine.handle(), 100)
            .with_context(|| format!("serving metrics at {address}"))
    });
    let _exporter = exporter.transpose()?;
    let service =
        Service { handle: engine.handle(), group: args.group.clone(), peers: args.peers.clone() };
    thread::spawn(move || accept(&listener, &Arc::new(service)));
    info!(%node, "serving clients on {}", args.listen);

    signals.forever().next();
    info!("shutting down");
    engine.shutdown();
    Ok(())
}

fn accept(listener: &TcpListener, service: &Arc<Service>) {
    for stream in listener.incoming() {
        let spawned = stream.and_then(|stream| {
            // Every connection's thread holds the service.
            if Arc::strong_count(service) > MAX_CONNECTIONS {
                return answer(&stream, &Answer::Retry("too many connections".into()));
            }
            let service = Arc::clone(service);
            thread::Builder::new().spawn(move || serve(&stream, &service)).map(drop)
        });
        if let Err(error) = spawned {
            warn!(%error, "cannot take a connection");
            // Out of descriptors or memory, and that will not pass at once.
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn serve(stream: &TcpStream, service: &Service) {
    if let Err(error) = serve_requests(stream, service) {
        debug!(%error, "a connection ended");
    }
}

fn serve_requests(stream: &TcpStream, service: &Service) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let mut requests = BufReader::new(stream);
    loop {
        match read_line(&mut requests) {
            Ok(Some(line)) => answer(stream, &service.perform(&line))?,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // Where the next request would begin is anyone's guess.
                return answer(stream, &Answer::Error(error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
}

fn answer(mut stream: &TcpStream, answer: &Answer) -> io::Result<()> {
    stream.write_all(format!("{answer}\n").as_bytes())
}

struct Service {
    handle: Handle,
    group: String,
    peers: Vec<SocketAddr>,
}

impl Service {
    fn perform(&self, line: &str) -> Answer {
        let request: Request = match line.parse() {
            Ok(request) => request,
            Err(why) => return Answer::Error(why.into()),
        };
        if request.group != self.group {
            return Answer::Error(format!("this server keeps the group {:?}", self.group));
        }
        let group = GroupId::from_name(&self.group);
        let amount = match request.operation {
            Operation::Add(amount) => amount,
            Operation::Get => return self.get(group),
        };
        match block_on(self.handle.propose(group, &encode_add(amount))) {
            Ok(ProposeReply { reply, .. }) => match decode_reply(&reply) {
                Some(value) => Answer::Ok(value),
                None => Answer::Error("the sum would leave the range of 64 bits".into()),
            },
            Err(error) => self.explain(error),
        }
    }

    /// Linearizable, and without a trip through the log: this server asks its leader how far it
    /// must have come, or the others whether it still leads, and then reads its own state.
    fn get(&self, group: GroupId) -> Answer {
        let value = |machine: &CounterMachine| machine.value();
        match block_on(self.handle.read(group, Consistency::Linearizable, value)) {
            Ok(value) => Answer::Ok(value),
            Err(error @ (ReadError::UnknownGroup(_) | ReadError::WrongType(_))) => {
                Answer::Error(error.to_string())
            }
            // Nothing was done, here or elsewhere.
            Err(error) => Answer::Retry(error.to_string()),
        }
    }

    /// The client may send the operation again after `redirect` and `retry`, so they are for errors
    /// that exclude that it was applied. The engine tells which do.
    fn explain(&self, error: ProposeError) -> Answer {
        match error {
            ProposeError::NotLeader { leader: Some(NodeId(number)) } => {
                // The position in the list is the number less one.
                match usize::try_from(number - 1).ok().and_then(|at| self.peers.get(at)) {
                    Some(leader) => Answer::Redirect(*leader),
                    None => Answer::Retry(format!("node {number} leads, and is not listed")),
                }
            }
            ProposeError::NotLeader { leader: None } => {
                Answer::Retry("this server knows no leader".into())
            }
            ProposeError::Transferring { .. }
            | ProposeError::WrongTerm { .. }
            | ProposeError::Busy
            | ProposeError::NoSpace
            | ProposeError::StorageFailed(_)
            | ProposeError::Stopped => Answer::Retry(error.to_string()),
            ProposeError::Unknown(cause) => Answer::Unknown(cause.to_string()),
            ProposeError::TooLarge { .. } | ProposeError::UnknownGroup(_) => {
                Answer::Error(error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, peers: &[&str]) -> Result<EngineConfig, String> {
        config(&Args {
            data_dir: "data".into(),
            group: "counter".into(),
            listen: listen.parse().unwrap(),
            peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
            metrics: None,
        })
    }

    #[test]
    fn a_node_is_its_position_and_the_list_is_the_cluster() {
        let peers = ["127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083"];
        let second = check("127.0.0.1:8082", &peers).unwrap();
        assert_eq!(second.node, NodeId(2));
        assert_eq!(second.this_member().unwrap().address.port(), 18082);
        assert!(second.validate().is_ok());
        let swapped = check("127.0.0.1:8082", &[peers[1], peers[0], peers[2]]).unwrap();
        assert_ne!(second.cluster, swapped.cluster);
    }

    #[test]
    fn addresses_that_cannot_work_are_refused() {
        let refused = |listen, peers: &[&str], why: &str| {
            let error = check(listen, peers).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        refused("127.0.0.1:8084", &["127.0.0.1:8081"], "not one of --peers");
        refused("127.0.0.1:55536", &["127.0.0.1:55536"], "must be 1 to 55535");
        refused("127.0.0.1:0", &["127.0.0.1:0"], "must be 1 to 55535");
        refused("127.0.0.1:8081", &["127.0.0.1:8081", "127.0.0.1:8081"], "given twice");
        refused("127.0.0.1:8081", &["127.0.0.1:8081", "127.0.0.1:18081"], "Raft address");
    }
}
