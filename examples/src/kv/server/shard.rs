//! What the connections of one shard share.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use ringleader::{Consistency, GroupId, Local, StateMachine};
use slab::Slab;

use super::client::Client;
use super::clock::SteadyClock;
use super::config::Settings;
use super::group::Group;
use super::held::Held;
use super::link::{Link, Ticket};
use super::pump::Pump;
use super::stats::Stats;
use super::topology::{Seat, Topology};
use crate::kv::account::Account;
use crate::kv::machine::{KvMachine, Replica};

/// What all shards of a node share.
pub(crate) struct Node {
    pub(crate) settings: Settings,
    pub(crate) topology: Topology,
    pub(crate) clock: SteadyClock,
    /// Of each shard.
    pub(crate) stats: Vec<Stats>,
}

/// The replicas on a shard's thread: made by the engine's factory, there, before anything else runs
/// there.
#[derive(Default)]
struct Replicas {
    account: Account,
    groups: HashMap<GroupId, Rc<Replica>>,
}

thread_local! {
    static REPLICAS: RefCell<Replicas> = RefCell::default();
}

/// The replica of a group on this thread. Its machines and its connections ask for the same one.
fn replica(group: GroupId) -> Rc<Replica> {
    REPLICAS.with_borrow_mut(|replicas| {
        let Replicas { account, groups } = replicas;
        Rc::clone(groups.entry(group).or_insert_with(|| Replica::new(account.clone())))
    })
}

/// The engine's factory of state machines; called on the group's shard.
pub(crate) fn machine(node: &Arc<Node>, id: GroupId) -> Box<dyn StateMachine> {
    let place = node.topology.layout.place_of(id);
    let node = Arc::clone(node);
    let on_office = move |office| {
        if let Some(group) = place {
            node.topology.note(group, office);
        }
    };
    Box::new(KvMachine::new(replica(id), Box::new(on_office)))
}

/// One shard's connections, and their way to its groups.
pub(crate) struct Shard {
    pub(crate) local: Local,
    pub(crate) node: Arc<Node>,
    /// The groups of this shard, by their place in the layout.
    groups: Vec<Option<Group>>,
    pub(crate) account: Account,
    pub(crate) clients: RefCell<Slab<Rc<Client>>>,
    /// What the clients' requests and replies take.
    buffers: Account,
    pub(crate) pump: Pump,
    pub(crate) links: RefCell<HashMap<Seat, Rc<Link>>>,
    /// Forwarded commands that wait for another leader.
    pub(crate) held: RefCell<Vec<Held>>,
    /// Where sockets are read into.
    pub(crate) scratch: RefCell<Vec<u8>>,
    /// Commands that wait for a leader.
    leaderless: RefCell<Vec<Waker>>,
}

/// Bytes that are read from a socket at once.
const SCRATCH: usize = 64 << 10;

impl Shard {
    /// On the shard's own thread.
    pub(crate) fn new(local: Local, node: Arc<Node>) -> Rc<Self> {
        let handle = local.handle();
        let layout = node.topology.layout;
        let here = |place: usize| {
            let id = layout.id(place);
            (handle.shard_of(id) == Some(local.shard())).then(|| Group::new(id, replica(id)))
        };
        let groups: Vec<_> = (0..layout.groups()).map(here).collect();
        let consistency =
            if node.settings.lease_reads { Consistency::Lease } else { Consistency::Linearizable };
        let pump = Pump::new(&local, groups.len(), consistency);
        Rc::new(Self {
            local,
            node,
            groups,
            account: REPLICAS.with_borrow(|replicas| replicas.account.clone()),
            clients: RefCell::default(),
            buffers: Account::default(),
            pump,
            links: RefCell::default(),
            held: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH]),
            leaderless: RefCell::default(),
        })
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.node.stats[self.local.shard() as usize]
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.node.topology
    }

    pub(crate) fn seat(&self) -> Seat {
        Seat { node: self.topology().node, shard: self.local.shard() }
    }

    /// A group of this shard.
    pub(crate) fn group(&self, place: usize) -> Option<&Group> {
        self.groups.get(place)?.as_ref()
    }

    /// The groups of this shard, with their places.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (usize, &Group)> {
        let groups = self.groups.iter().enumerate();
        groups.filter_map(|(place, group)| Some((place, group.as_ref()?)))
    }

    /// Whether this very shard serves the group's writes.
    pub(crate) fn leads(&self, place: usize) -> bool {
        self.topology().leads(place) && self.group(place).is_some()
    }

    /// Whether nothing that takes more memory is done.
    pub(crate) fn is_full(&self) -> bool {
        let shards = self.node.stats.len();
        self.account.used() >= self.node.settings.memory_limit / shards
    }

    /// `waker` is woken in a moment, when there may be a leader.
    pub(crate) fn wait_for_leader(&self, waker: &Waker) {
        self.leaderless.borrow_mut().push(waker.clone());
    }

    pub(crate) fn retry_leaderless(&self) {
        self.leaderless.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// Takes a new client in, and the number that it is known by.
    pub(crate) fn admit(&self) -> (Rc<Client>, usize) {
        let client = Rc::new(Client::new(self.buffers.clone()));
        let id = self.clients.borrow_mut().insert(Rc::clone(&client));
        (client, id)
    }

    pub(crate) fn client(&self, id: usize) -> Option<Rc<Client>> {
        self.clients.borrow().get(id).cloned()
    }

    /// Ends those clients that take the most memory, as long as all of them take too much.
    pub(crate) fn check_buffers(&self) {
        while self.buffers.used() > self.node.settings.client_memory_limit {
            let clients = self.clients.borrow();
            let largest = clients.iter().map(|(_, client)| client).max_by_key(|one| one.bytes());
            let Some(largest) = largest.filter(|client| client.bytes() > 0) else { return };
            tracing::warn!(bytes = largest.bytes(), "a client took too much memory, and is ended");
            self.stats().clients_evicted.add(1);
            largest.evict();
        }
    }

    /// A client leaves. Its number is free when the last reply to it has come.
    pub(crate) fn dismiss(&self, id: usize) {
        let mut clients = self.clients.borrow_mut();
        if clients.get(id).is_some_and(|client| client.leave()) {
            clients.remove(id);
        }
    }

    /// Completes a command of a client.
    pub(crate) fn complete(&self, (id, number): Ticket, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(client) = self.client(id) else {
            debug_assert!(false, "a reply to nobody");
            return;
        };
        client.complete(number, write);
        if client.is_over() {
            self.clients.borrow_mut().remove(id);
        }
        self.check_buffers();
    }
}
