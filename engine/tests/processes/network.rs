//! A network of its own for a cluster: a network namespace for each node, joined by a bridge, and
//! nftables in each that drop what it must not hear. Needs root, `unshare` and `nsenter`
//! (util-linux), `ip` (iproute2) and `nft` (nftables). Nothing outlives the test.
//!
//! The key-value server's tests use it too, so it knows nothing of what runs in the network.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Stdio};

/// See the [module documentation](self).
pub struct Network {
    /// Keeps the namespace of the bridge.
    _hub: Namespace,
    nodes: Vec<Namespace>,
}

impl Network {
    /// Places for so many nodes.
    pub fn new(nodes: usize) -> Self {
        let hub = Namespace::new();
        hub.run("ip link add bridge type bridge");
        hub.run("ip link set bridge up");
        let place = |number: usize| {
            let node = Namespace::new();
            let pid = node.holder.id();
            hub.run(&format!("ip link add node{number} type veth peer name eth0 netns {pid}"));
            hub.run(&format!("ip link set node{number} master bridge up"));
            node.run("ip link set lo up");
            node.run(&format!("ip address add {}/24 dev eth0", host(number as u64)));
            node.run("ip link set eth0 up");
            node.rules("add table inet cut");
            node.rules("add chain inet cut input { type filter hook input priority 0; }");
            node
        };
        let nodes = (1..=nodes).map(place).collect();
        Self { _hub: hub, nodes }
    }

    /// Where the nodes listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |number| SocketAddr::new(host(number), 7000);
        (1..=self.nodes.len() as u64).map(address).collect()
    }

    /// For a process that is to live where this node is.
    pub fn namespace(&self, node: u64) -> File {
        let holder = self.of(node).holder.id();
        File::open(format!("/proc/{holder}/ns/net")).expect("the holder lives")
    }

    fn of(&self, node: u64) -> &Namespace {
        &self.nodes[node as usize - 1]
    }

    /// `to` hears nothing of `from` any more.
    pub fn silence(&self, from: u64, to: u64) {
        self.of(to).rules(&format!("add rule inet cut input ip saddr {} drop", host(from)));
    }

    /// The nodes of the one side and those of the other hear nothing of each other any more.
    pub fn part(&self, one: &[u64], other: &[u64]) {
        for (from, to) in one.iter().flat_map(|from| other.iter().map(move |to| (*from, *to))) {
            self.silence(from, to);
            self.silence(to, from);
        }
    }

    /// All hear all.
    pub fn mend(&self) {
        self.nodes.iter().for_each(|node| node.rules("flush chain inet cut input"));
    }
}

/// Where a place is.
pub fn host(place: u64) -> IpAddr {
    IpAddr::from([10, 77, 0, u8::try_from(place).expect("fewer places than addresses")])
}

/// Moves the calling thread, with all that it starts from now on, into the namespace that a file
/// stands for. Allowed between fork and exec.
///
/// # Errors
/// What the kernel says.
pub fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: touches no memory; the descriptor is open.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A network namespace, which lasts as long as a process that does nothing but wait in it.
struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        // Ends with the test, because then its input does.
        command.args(["--net", "sh", "-c", "echo here; exec cat"]);
        let mut holder =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare is there");
        let mut line = String::new();
        let output = BufReader::new(holder.stdout.as_mut().expect("piped"));
        { output }.read_line(&mut line).expect("readable");
        assert_eq!(line, "here\n", "no network namespace: root is needed");
        Self { holder }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg(program);
        command
    }

    fn run(&self, line: &str) {
        let (program, arguments) = line.split_once(' ').expect("a program and arguments");
        let status = self.command(program).args(arguments.split(' ')).status();
        assert!(status.expect("nsenter is there").success(), "{line}");
    }

    fn rules(&self, rules: &str) {
        let mut nft = self.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn();
        let nft = nft.as_mut().expect("nsenter is there");
        let mut input = nft.stdin.take().expect("piped");
        writeln!(input, "{rules}").expect("nft reads");
        drop(input);
        assert!(nft.wait().expect("it ends").success(), "{rules}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // It is gone already, or is not.
        drop(self.holder.wait());
    }
}
