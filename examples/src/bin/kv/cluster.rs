//! Three nodes on loopback, to try things out.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use anyhow::{Context as _, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const NODES: u16 = 3;
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the nodes keep their data, to go on with it later; otherwise it is gone with the cluster
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The first node's port for clients that know Redis Cluster; 100 above it are the ports for
    /// plain clients, 200 above it the status pages, 10000 above it the nodes talk to each other
    #[arg(long, default_value_t = 7001, value_parser = clap::value_parser!(u16).range(1..=55000))]
    port: u16,
    /// Raft groups
    #[arg(long, default_value_t = 16)]
    groups: u16,
    /// Shards of each node
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    shards: u16,
    /// Read by leases: without a round trip, as long as clocks keep pace
    #[arg(long)]
    leases: bool,
}

/// Where a node listens.
struct Ports {
    cluster: u16,
    plain: u16,
    http: u16,
}

impl Args {
    fn ports(&self, node: u16) -> Ports {
        let cluster = self.port + node * self.shards;
        Ports { cluster, plain: self.port + 100 + node, http: self.port + 200 + node }
    }

    fn config(&self, node: u16, data_dir: &Path) -> String {
        let Ports { plain, http, .. } = self.ports(node);
        let mut text = format!(
            "cluster = \"kv\"\nnode = {}\ndata_dir = {:?}\ngroups = {}\n\
             plain_listen = \"127.0.0.1:{plain}\"\nhttp_listen = \"127.0.0.1:{http}\"\n",
            node + 1,
            data_dir.join(format!("node-{}", node + 1)),
            self.groups,
        );
        if self.leases {
            text += "lease_drift_ms = 50\n";
        }
        for other in 0..NODES {
            let Ports { cluster, .. } = self.ports(other);
            text += &format!(
                "[[nodes]]\nid = {}\naddress = \"127.0.0.1:{cluster}\"\nshards = {}\n",
                other + 1,
                self.shards
            );
        }
        text
    }
}

/// Nodes that end with this.
struct Nodes(Vec<Child>);

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in &self.0 {
            // SAFETY: the child was not waited for, so the number is still its own.
            unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
        }
        for child in &mut self.0 {
            // There is nobody left to tell.
            let _ = child.wait();
        }
    }
}

/// Runs until SIGINT (Ctrl-C) or SIGTERM, or until a node ends.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("handling signals")?;
    let temporary = args.data_dir.is_none().then(tempfile::tempdir).transpose()?;
    let chosen = args.data_dir.as_deref();
    let data_dir = chosen.or(temporary.as_ref().map(tempfile::TempDir::path));
    let data_dir = data_dir.context("no directory")?;
    fs::create_dir_all(data_dir).with_context(|| format!("{}", data_dir.display()))?;
    let mut nodes = Nodes(Vec::new());
    for node in 0..NODES {
        nodes.0.push(start(args, node, data_dir)?);
    }
    wait_until_all_listen(args, &mut nodes)?;
    describe(args, data_dir);
    loop {
        if signals.pending().next().is_some() {
            return Ok(());
        }
        check(&mut nodes)?;
        thread::sleep(Duration::from_millis(100));
    }
}

fn start(args: &Args, node: u16, data_dir: &Path) -> anyhow::Result<Child> {
    let path = data_dir.join(format!("node-{}.toml", node + 1));
    fs::write(&path, args.config(node, data_dir))?;
    let program = std::env::current_exe().context("this program")?;
    let mut command = Command::new(program);
    command.arg("server").arg("--config").arg(&path);
    // However this process ends, its nodes do too.
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    command.spawn().context("starting a node")
}

fn check(nodes: &mut Nodes) -> anyhow::Result<()> {
    for (child, node) in nodes.0.iter_mut().zip(1..) {
        if let Some(status) = child.try_wait()? {
            bail!("node {node} ended: {status}");
        }
    }
    Ok(())
}

fn wait_until_all_listen(args: &Args, nodes: &mut Nodes) -> anyhow::Result<()> {
    let since = Instant::now();
    let address = |node| SocketAddr::from((Ipv4Addr::LOCALHOST, args.ports(node).plain));
    while !(0..NODES).all(|node| TcpStream::connect(address(node)).is_ok()) {
        check(nodes)?;
        if since.elapsed() > PATIENCE {
            return Err(io::Error::from(io::ErrorKind::TimedOut)).context("starting the nodes");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn describe(args: &Args, data_dir: &Path) {
    let Ports { cluster, plain, http } = args.ports(0);
    println!("Three nodes, {} groups, in {}", args.groups, data_dir.display());
    println!();
    println!("  redis-cli -c -p {cluster}                   a client that knows Redis Cluster");
    println!("  redis-cli -p {plain}                      one that does not; any node will do");
    println!("  redis-benchmark --cluster -p {cluster} -t set,get -P 16 -r 100000");
    println!("  http://127.0.0.1:{http}/                  the status page; /metrics beside it");
    println!();
    println!("Ctrl-C ends it.");
}
