//! What state machines keep on stable storage themselves: the state after some operation, replaced as
//! a whole by each that follows, as a database commits. A crash leaves the last state that was synced
//! or any that was written after it.
//!
//! In half of the runs some groups have such machines, on all nodes or on some, and some groups' give
//! no snapshots.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use ringleader::{GroupId, LogPosition};

use crate::image::Image;
use crate::panics::Fuse;
use crate::rng::{Rng, SURE, mix};

/// What the machine of a group on a node is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) keeps: bool,
    pub(crate) gives: bool,
    /// Its group may be reset.
    pub(crate) resets: bool,
}

/// Of each node and group.
pub(crate) fn kinds(rng: &mut Rng, nodes: usize, groups: usize, resets: bool) -> Vec<Vec<Kind>> {
    let plain = Kind { keeps: false, gives: true, resets };
    let mut kinds = vec![vec![plain; groups]; nodes];
    if rng.coin() {
        return kinds;
    }
    for at in 0..groups {
        let (keeps, gives) = (rng.below(4), !rng.chance(SURE / 6));
        for of_node in &mut kinds {
            let keeps = match keeps {
                0 => false,
                1 => rng.coin(),
                _ => true,
            };
            of_node[at] = Kind { keeps, gives, resets };
        }
    }
    kinds
}

/// One group's store on one node.
#[derive(Clone, Debug, Default)]
struct Store {
    synced: Image,
    /// What was written since, in order.
    written: Vec<Image>,
    /// Machines that have opened it.
    opened: u64,
    /// The one that it belongs to.
    owner: u64,
}

/// All stores of a shard, and what ends its machines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stores {
    stores: Rc<RefCell<BTreeMap<GroupId, Store>>>,
    pub(crate) fuse: Fuse,
}

impl Stores {
    /// Opens a group's store, for a machine whose file handle it becomes.
    pub(crate) fn open(&self, group: GroupId) -> (Opened, Image) {
        let mut stores = self.stores.borrow_mut();
        let store = stores.entry(group).or_default();
        store.opened += 1;
        (Opened { stores: self.clone(), group, number: store.opened }, store.latest().clone())
    }

    /// The node's process ends, or its power fails.
    pub(crate) fn crash(&self, rng: &mut Rng) {
        self.fuse.put_out();
        for store in self.stores.borrow_mut().values_mut() {
            let survives = rng.below(store.written.len() as u64 + 1) as usize;
            if let Some(last) = store.written.drain(..survives).next_back() {
                store.synced = last;
            }
            (store.written, store.owner) = (Vec::new(), 0);
        }
    }

    /// What is left when the power fails and nothing survives that need not.
    pub(crate) fn settled(&self) -> Self {
        let stores = self.stores.borrow();
        let settled = |(group, store): (&GroupId, &Store)| {
            (*group, Store { synced: store.synced.clone(), ..Store::default() })
        };
        let stores = Rc::new(RefCell::new(stores.iter().map(settled).collect()));
        Self { stores, fuse: Fuse::default() }
    }

    /// The group is gone from this node.
    pub(crate) fn remove(&self, group: GroupId) {
        self.stores.borrow_mut().remove(&group);
    }
}

impl Store {
    fn latest(&self) -> &Image {
        self.written.last().unwrap_or(&self.synced)
    }

    fn write(&mut self, image: &Image, goes_back: bool) {
        let before = self.latest().last.index;
        let follows = before <= image.last.index || goes_back;
        assert!(follows, "store: from entry {before} back to {:?}", image.last);
        self.written.push(image.clone());
    }

    fn sync(&mut self, count: usize) {
        if let Some(last) = self.written.drain(..count).next_back() {
            self.synced = last;
        }
    }
}

/// A machine's own view of its group's store.
#[derive(Debug)]
pub(crate) struct Opened {
    stores: Stores,
    group: GroupId,
    number: u64,
}

impl Opened {
    fn with<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        act(self.stores.stores.borrow_mut().entry(self.group).or_default())
    }

    /// The machine applied something. What of it is synced, and when, is up to chance, which is
    /// different on each node and the same in each run.
    pub(crate) fn write(&self, image: &Image, salt: u64) {
        let chance = mix(image.state ^ salt);
        self.with(|store| {
            assert!(store.owner <= self.number, "store: a machine writes that was replaced");
            store.write(image, false);
            let (syncs, lag) = (chance.is_multiple_of(3), (chance >> 8) % 4);
            if syncs || store.written.len() > 16 {
                store.sync(store.written.len().saturating_sub(lag as usize));
            }
        });
    }

    /// Another state takes the place of what is there; true if there was something. Where groups are
    /// reset, what was applied may have been lost with the others who had it.
    pub(crate) fn replace(&self, image: &Image, salt: u64, resets: bool) -> bool {
        self.with(|store| {
            let before = store.latest().last;
            store.owner = self.number;
            store.write(image, resets);
            if mix(image.state ^ salt).is_multiple_of(2) {
                store.sync(store.written.len());
            }
            before != LogPosition::default()
        })
    }

    pub(crate) fn durable(&self) -> LogPosition {
        self.with(|store| store.synced.last)
    }
}
