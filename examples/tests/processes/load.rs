//! Clients that add 1 over and over, and the account of what they were told.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::cluster::{Cluster, counter, wait_for};

#[derive(Default)]
struct Account {
    acknowledged: AtomicI64,
    unknown: AtomicI64,
    /// The highest value that any client was told.
    highest: AtomicI64,
}

/// What the clients of a load were told, in the end.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) acknowledged: i64,
    pub(crate) unknown: i64,
    pub(crate) highest: i64,
}

struct Worker {
    child: Arc<Mutex<Option<Child>>>,
    thread: JoinHandle<()>,
}

pub(crate) struct Load {
    account: Arc<Account>,
    stop: Arc<AtomicBool>,
    workers: Vec<Worker>,
}

impl Load {
    pub(crate) fn start(cluster: &Cluster, clients: usize) -> Self {
        let account = Arc::<Account>::default();
        let stop = Arc::<AtomicBool>::default();
        let worker = |_| {
            let (account, stop, peers) = (Arc::clone(&account), Arc::clone(&stop), cluster.peers());
            let slot = Arc::<Mutex<Option<Child>>>::default();
            let child = Arc::clone(&slot);
            let thread = thread::spawn(move || while run_client(&peers, &slot, &stop, &account) {});
            Worker { child, thread }
        };
        let workers = (0..clients).map(worker).collect();
        Self { account, stop, workers }
    }

    /// Waits until so many more adds were acknowledged.
    pub(crate) fn wait_for_progress(&self, adds: i64) {
        let acknowledged = || self.account.acknowledged.load(Ordering::Relaxed);
        let goal = acknowledged() + adds;
        wait_for("the load to go on", || (acknowledged() >= goal).then_some(()));
    }

    /// Starts no client in the place of one that ends: from now on as many outcomes become
    /// unknown, at most, as there are clients.
    pub(crate) fn run_out(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Kills the clients and adds up.
    pub(crate) fn stop(self) -> Tally {
        self.run_out();
        for worker in self.workers {
            if let Some(child) = worker.child.lock().unwrap().as_mut() {
                child.kill().unwrap();
            }
            worker.thread.join().expect("a client did what it must not");
        }
        Tally {
            acknowledged: self.account.acknowledged.load(Ordering::Relaxed),
            unknown: self.account.unknown.load(Ordering::Relaxed),
            highest: self.account.highest.load(Ordering::Relaxed),
        }
    }
}

/// Runs a client until it ends or is killed; false when the load is to stop.
fn run_client(
    peers: &str,
    slot: &Mutex<Option<Child>>,
    stop: &AtomicBool,
    account: &Account,
) -> bool {
    let mut command = counter();
    command.args(["client", "--group", "counter", "--peers", peers, "--timeout", "30"]);
    command.args(["add", "1", "--count", "1000000"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (stdout, mut stderr) = {
        let mut slot = slot.lock().unwrap();
        // Under the lock: either we see the order to stop, or the one who gave it sees the child.
        if stop.load(Ordering::SeqCst) {
            return false;
        }
        let mut child = command.spawn().unwrap();
        let pipes = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        *slot = Some(child);
        pipes
    };
    let mut told = Vec::new();
    for line in BufReader::new(stdout).lines() {
        told.push(line.unwrap().parse::<i64>().unwrap());
        account.acknowledged.fetch_add(1, Ordering::Relaxed);
        account.highest.fetch_max(told[told.len() - 1], Ordering::Relaxed);
    }
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    let status = slot.lock().unwrap().take().unwrap().wait().unwrap();

    assert!(told.is_sorted_by(|one, next| one < next), "values went back: {told:?}");
    // Killed by us or giving up, it had one add in flight.
    account.unknown.fetch_add(1, Ordering::Relaxed);
    if status.code().is_some() {
        assert_eq!(status.code(), Some(3), "{said}");
        assert!(said.contains("unknown: it may or may not have been applied"), "{said}");
        assert!(said.contains(&format!("{} of 1000000 are certain", told.len())), "{said}");
    }
    !stop.load(Ordering::SeqCst)
}
