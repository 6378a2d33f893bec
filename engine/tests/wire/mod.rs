//! Wires between nodes that a test can cut: TCP proxies on loopback, one per pair and direction.
//! What is under way on a wire that is cut stays where it is, and goes on when it is mended. On wires
//! that fray, a connection breaks when it has carried so much, with what is under way.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

struct Cuts {
    /// Which nodes hear of nobody and are heard by nobody.
    nodes: Mutex<Vec<u64>>,
    changed: Condvar,
    /// Bytes that a connection carries from the node that made it.
    most: usize,
    broken: AtomicU64,
}

/// All wires of a cluster.
pub(crate) struct Wires {
    cuts: Arc<Cuts>,
    /// Where `from` reaches `to`.
    ends: Vec<((u64, u64), SocketAddr)>,
}

impl Wires {
    /// Wires between the nodes that listen on these addresses, numbered from 1.
    pub(crate) fn between(nodes: &[SocketAddr]) -> Self {
        Self::fraying(nodes, usize::MAX)
    }

    /// The same, of which each connection carries so many bytes from the node that made it.
    pub(crate) fn fraying(nodes: &[SocketAddr], most: usize) -> Self {
        let (broken, changed) = (AtomicU64::new(0), Condvar::new());
        let cuts = Arc::new(Cuts { nodes: Mutex::default(), changed, most, broken });
        let mut ends = Vec::new();
        for (to, &target) in (1..).zip(nodes) {
            for from in (1..=nodes.len() as u64).filter(|from| *from != to) {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
                ends.push(((from, to), listener.local_addr().expect("bound")));
                let cuts = Arc::clone(&cuts);
                thread::spawn(move || accept(&listener, target, [from, to], &cuts));
            }
        }
        Self { cuts, ends }
    }

    /// The address at which `from` reaches `to`.
    pub(crate) fn end(&self, from: u64, to: u64) -> SocketAddr {
        self.ends.iter().find(|end| end.0 == (from, to)).expect("there is a wire").1
    }

    /// How many connections broke.
    pub(crate) fn broken(&self) -> u64 {
        self.cuts.broken.load(Ordering::SeqCst)
    }

    /// Cuts a node off.
    pub(crate) fn cut_off(&self, node: u64) {
        self.cuts.nodes.lock().expect("nobody panics with it").push(node);
    }

    /// Mends all wires.
    pub(crate) fn mend(&self) {
        self.cuts.nodes.lock().expect("nobody panics with it").clear();
        self.cuts.changed.notify_all();
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, nodes: [u64; 2], cuts: &Arc<Cuts>) {
    for stream in listener.incoming().flatten() {
        // A node that is down is found by its peer when that dials again.
        let Ok(onward) = TcpStream::connect(target) else { continue };
        let pair = stream.try_clone().and_then(|back| Ok((back, onward.try_clone()?)));
        let (back, source) = pair.expect("descriptors");
        for (from, to, most) in [(stream, onward, cuts.most), (source, back, usize::MAX)] {
            let cuts = Arc::clone(cuts);
            thread::spawn(move || carry(from, to, nodes, &cuts, most));
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, nodes: [u64; 2], cuts: &Cuts, mut most: usize) {
    let _ = to.set_nodelay(true);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let room = most.min(buffer.len());
        let read = from.read(&mut buffer[..room]).unwrap_or(0);
        let cut = cuts.nodes.lock().expect("nobody panics with it");
        let is_cut = |cut: &mut Vec<u64>| nodes.iter().any(|node| cut.contains(node));
        drop(cuts.changed.wait_while(cut, is_cut).expect("nobody panics with it"));
        most -= read;
        cuts.broken.fetch_add(u64::from(most == 0), Ordering::SeqCst);
        if read == 0 || to.write_all(&buffer[..read]).is_err() || most == 0 {
            // The other direction notices at its next byte.
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            return;
        }
    }
}
