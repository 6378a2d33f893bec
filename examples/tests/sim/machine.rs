//! The subject of this simulator: the key-value store's machine, with what the simulator wants beside:
//! each operation has a name in front of the store's own entry, ballast behind it, and the state after
//! it in front of the answer.
//!
//! The state is a hash over everything that was applied and over all keys after each operation. So it is
//! the same at the same index only where all keys, deadlines, locks and sequences always were.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use ringleader::shard::Submission;
use ringleader::{
    Configuration, Entries, GroupId, LogIndex, LogPosition, MachineError, NodeId, Replies,
    SnapshotSource, StateMachine, Term,
};
use ringleader_examples::kv::account::Account;
use ringleader_examples::kv::clock::GroupClock;
use ringleader_examples::kv::execute;
use ringleader_examples::kv::keyspace::Keyspace;
use ringleader_examples::kv::machine::{KvMachine, Replica};
use ringleader_examples::kv::operation::{LogEntry, Operation};

pub(crate) use crate::answer::Output;
use crate::applied::{AppliedOp, OpName};
pub(crate) use crate::command::Command;
use crate::command::{encode as encode_input, with_operation};
pub(crate) use crate::fences::check_history;
use crate::image::{BEGINNING, HEADER, Image, Pieces, digest, read_header};
pub(crate) use crate::model::Store as Subject;
use crate::offices::Offices;
use crate::panics::Fuse;
use crate::plan::MS;
use crate::rng::{chain, chain_bytes, mix};
use crate::stores::{Kind, Stores};
use crate::world::World;

/// Bytes of an operation beside what it is for; few are shorter.
pub(crate) const OPERATION_BYTES: usize = 32;

/// Steps that the search for an order may take for one group.
pub(crate) const BUDGET: u64 = 200_000;

/// The answer of an operation that was none.
pub(crate) const NOTHING: Output = Output::Ok;

/// Where an operation's parts are: its name, the length of the store's entry, the entry, and ballast.
const LENGTH_AT: usize = 8;
const ENTRY_AT: usize = 10;

/// Bytes of the clock that an entry begins with.
const CLOCK_BYTES: usize = 6;

/// See the [module documentation](self).
pub(crate) struct Machine {
    store: KvMachine,
    here: Here,
    image: Image,
    /// What came of a snapshot's header.
    header: Vec<u8>,
    fuse: Fuse,
    offices: Offices,
    pub(crate) story: Option<&'static str>,
    /// What it was restored to, until the simulator looks.
    pub(crate) restored: Option<Image>,
    /// What was applied since the simulator looked last.
    pub(crate) applied: Vec<AppliedOp>,
    /// What it was told of the members since then.
    pub(crate) members: Vec<(LogIndex, Configuration)>,
}

/// A group in a process, as its connections would see it. It outlives the machines.
#[derive(Clone)]
struct Here {
    replica: Rc<Replica>,
    clock: Rc<GroupClock>,
    /// What the process' clock showed at its start.
    epoch: Rc<Cell<Option<u64>>>,
}

/// Makes the machines of a process.
#[derive(Default)]
pub(crate) struct Maker {
    account: Account,
    groups: RefCell<BTreeMap<GroupId, Here>>,
    epoch: Rc<Cell<Option<u64>>>,
}

impl Maker {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn make(
        &self,
        group: GroupId,
        _node: usize,
        _kind: Kind,
        stores: &Stores,
    ) -> Machine {
        let mut groups = self.groups.borrow_mut();
        let here = groups.entry(group).or_insert_with(|| Here {
            replica: Replica::new(self.account.clone()),
            clock: Rc::default(),
            epoch: Rc::clone(&self.epoch),
        });
        Machine {
            store: KvMachine::new(Rc::clone(&here.replica), Box::new(|_| {})),
            here: here.clone(),
            image: Image::default(),
            header: Vec::new(),
            fuse: stores.fuse.clone(),
            offices: Offices::default(),
            story: None,
            restored: None,
            applied: Vec::new(),
            members: Vec::new(),
        }
    }
}

impl StateMachine for Machine {
    fn apply(&mut self, entries: &Entries<'_>, replies: &mut Replies) {
        self.fuse.burn();
        for entry in entries.iter() {
            let (index, term) = (entry.index.0, entry.term.0);
            let before = self.image.last.index;
            assert!(before < entry.index, "entry {index} is applied to the state after {before}");
            let (op, of_store) = decode(entry.payload);
            let mut reply = Vec::new();
            self.store.apply_one(of_store, replies.wanted(), &mut reply);
            let operation = LogEntry::decode(of_store).expect("what was asked for").operation;
            if reply.is_empty() {
                // Nobody waits for it: what it would have answered is the same everywhere.
                let read = |keys: &Keyspace| execute::read(keys, &operation, &mut reply);
                assert!(self.here.replica.with(read), "a write has an answer: {operation:?}");
            }
            let unordered = matches!(operation, Operation::Scan(_));
            let output = Output::read(&reply, unordered);
            let payload = chain_bytes(0, entry.payload);
            let image = &mut self.image;
            image.last = LogPosition { index: entry.index, term: entry.term };
            image.keys = digest(&self.here.replica);
            image.state = chain(chain(chain(image.state, index), term), payload);
            image.state = chain(image.state, image.keys);
            let state = image.state;
            self.applied.push(AppliedOp { index, term, op, payload, state, output });
            replies.push(entry.index, &answer(state, unordered, &reply));
        }
    }

    fn configuration_committed(&mut self, index: LogIndex, configuration: &Configuration) {
        self.fuse.burn();
        self.members.push((index, configuration.clone()));
    }

    fn leader_start(&mut self, term: Term) {
        self.fuse.burn();
        self.offices.begin(None, term);
        self.store.leader_start(term);
    }

    fn leader_stop(&mut self, term: Term) {
        self.fuse.burn();
        self.offices.end(None, term);
        self.store.leader_stop(term);
    }

    fn follow_start(&mut self, leader: NodeId, term: Term) {
        self.fuse.burn();
        self.offices.begin(Some(leader), term);
        self.store.follow_start(leader, term);
    }

    fn follow_stop(&mut self, leader: NodeId, term: Term) {
        self.fuse.burn();
        self.offices.end(Some(leader), term);
        self.store.follow_stop(leader, term);
    }

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        self.fuse.burn();
        let keys = self.store.snapshot()?;
        // Nothing may have been applied yet.
        self.image.keys = digest(&self.here.replica);
        Some(Box::new(Pieces::with(&self.image, keys, self.fuse.clone())))
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        self.fuse.burn();
        let is_new = self.image == Image::default() && self.applied.is_empty();
        assert!(is_new, "only a new machine is restored");
        let (of_header, rest) = chunk.split_at(chunk.len().min(HEADER - self.header.len()));
        self.header.extend_from_slice(of_header);
        if rest.is_empty() { Ok(()) } else { self.store.restore(rest) }
    }

    fn restored(&mut self) -> Result<(), MachineError> {
        self.fuse.burn();
        let header = self.header.first_chunk();
        let header = header.ok_or_else(|| MachineError("no header".into()))?;
        self.store.restored()?;
        self.image = read_header(header);
        let found = digest(&self.here.replica);
        assert_eq!(found, self.image.keys, "snapshot: the keys are what they were");
        self.restored = Some(self.image.clone());
        Ok(())
    }
}

impl Machine {
    /// What there is to read.
    pub(crate) fn view(&self) -> View {
        View { last: self.image.last, replica: Rc::clone(&self.here.replica) }
    }
}

/// What a group shows to whoever reads it, without a trip through the log.
pub(crate) struct View {
    /// The last operation that was applied.
    pub(crate) last: LogPosition,
    replica: Rc<Replica>,
}

impl View {
    pub(crate) fn read(&self, command: &Command) -> Output {
        let wish = &command.input.wish;
        let mut reply = Vec::new();
        let read = |operation: Operation<'_>| {
            self.replica.with(|keys| execute::read(keys, &operation, &mut reply))
        };
        assert!(with_operation(wish, read), "only reads go past the log: {wish:?}");
        Output::read(&reply, wish.is_unordered())
    }
}

/// A submission reaches a shard, which says what time it is, by its node's clock and the group's.
pub(crate) fn arrive(world: &mut World, seat: usize, submission: &mut Submission) {
    let node = world.plan.seats.node(seat);
    let (now, local) = (world.now() / MS, world.local_time(node).0 / MS);
    let skew = skew(world.plan.trouble, node as u64, world.life(seat));
    let Some(process) = &mut world.seats[seat].process else { return };
    let Submission { user_data, ends, payload, groups, .. } = submission;
    let (mut start, mut ops) = (0, user_data.iter().zip(ends));
    for (group, count) in groups {
        let machine = process.shard.state_machine(*group);
        let machine = machine.map(|machine| -> &Machine {
            let machine: &dyn std::any::Any = machine;
            machine.downcast_ref().expect("the simulator's own")
        });
        for (name, end) in ops.by_ref().take(*count as usize) {
            if let Some(Machine { here, .. }) = machine {
                let epoch = here.epoch.get().unwrap_or(BEGINNING + now - local + skew);
                here.epoch.set(Some(epoch));
                let time = here.time(epoch + local);
                payload[start + ENTRY_AT..][..CLOCK_BYTES]
                    .copy_from_slice(&time.to_le_bytes()[..CLOCK_BYTES]);
                world.clients.asked[*name as usize].command.input.now = time;
            }
            start = *end as usize;
        }
    }
}

impl Here {
    fn time(&self, own: u64) -> u64 {
        let group = self.replica.with(Keyspace::clock);
        let time = self.clock.time(&self.replica, own);
        assert!(time >= group, "clock: {time} is behind {group}");
        time
    }
}

/// By how many milliseconds a clock is ahead when a process starts: in some runs by none, in others by
/// more than any key lives.
fn skew(run: u64, node: u64, life: u32) -> u64 {
    let longest = [0, 20, 2_000, 20_000][(mix(run) % 4) as usize];
    let drawn = mix(chain(chain(run, node), u64::from(life)));
    if longest == 0 { 0 } else { drawn % longest }
}

/// The operation as its payload starts. The time is filled in where it arrives.
pub(crate) fn encode(name: OpName, command: &Command) -> Vec<u8> {
    let mut bytes = name.0.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[0, 0]);
    encode_input(&command.input, &mut bytes);
    let length = u16::try_from(bytes.len() - ENTRY_AT).expect("no operation is that long");
    bytes[LENGTH_AT..ENTRY_AT].copy_from_slice(&length.to_le_bytes());
    bytes
}

fn decode(payload: &[u8]) -> (OpName, &[u8]) {
    let whole = "a payload holds a whole operation";
    let name = u64::from_le_bytes(*payload.first_chunk().expect(whole));
    let length = u16::from_le_bytes(*payload[LENGTH_AT..].first_chunk().expect(whole));
    (OpName(name), &payload[ENTRY_AT..ENTRY_AT + usize::from(length)])
}

/// The answer: the state, whether its order means nothing, and what the store said.
fn answer(state: u64, unordered: bool, reply: &[u8]) -> Vec<u8> {
    let mut bytes = state.to_le_bytes().to_vec();
    bytes.push(unordered.into());
    bytes.extend_from_slice(reply);
    bytes
}

/// Whether an answer is that of an operation that was applied.
pub(crate) fn is_reply(bytes: &[u8], of: &AppliedOp) -> bool {
    let (state, rest) = bytes.split_at(8);
    state == of.state.to_le_bytes() && Output::read(&rest[1..], rest[0] == 1) == of.output
}

/// What a caller reads in an answer.
pub(crate) fn told(command: &Command, reply: &[u8]) -> Output {
    Output::read(&reply[9..], command.input.wish.is_unordered())
}
