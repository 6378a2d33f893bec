//! The subject of the engine's simulator: registers, few enough that callers meet at them, and a hash
//! chained over everything that the machine was given. Equal hashes at an index are equal histories
//! up to there.

use std::collections::BTreeMap;

use ringleader::shard::Submission;
use ringleader::{
    Configuration, Entries, GroupId, LogIndex, LogPosition, MachineError, NodeId, Replies,
    SnapshotSource, StateMachine, Term,
};

use crate::applied::{AppliedOp, OpName};
use crate::clients::Asked;
use crate::faults::Counts;
use crate::image::{Image, Pieces};
use crate::linearizability::Model as _;
use crate::linearizability::register::Value;
pub(crate) use crate::linearizability::register::{Input, Output, Register as Subject};
use crate::offices::Offices;
use crate::panics::Fuse;
use crate::rng::{chain, chain_bytes};
use crate::stores::{Kind, Opened, Stores};
use crate::world::World;

/// What an operation does, and to which register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) key: u8,
    pub(crate) input: Input,
}

impl Command {
    /// What tells whether a group serves reads.
    pub(crate) const PROBE: Self = Self { key: 0, input: Input::Get };

    /// What reads the effect of this one.
    pub(crate) fn read_back(&self) -> Self {
        Self { key: self.key, input: Input::Get }
    }

    /// Of what it is: histories are checked for each of these alone.
    pub(crate) fn object(&self) -> u8 {
        self.key
    }
}

/// The answer of an operation that was none.
pub(crate) const NOTHING: Output = Output::Done;

/// Steps that the search for an order may take for one register. Most need as many as they have
/// operations.
pub(crate) const BUDGET: u64 = 3_000_000;

/// Bytes of an operation: its name, its kind, its key, two values. What follows is ballast.
pub(crate) const OPERATION_BYTES: usize = 8 + 1 + 1 + 8 + 8;

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Machine {
    image: Image,
    /// Where it keeps its state itself, if it does.
    store: Option<Opened>,
    gives_snapshots: bool,
    /// Its group may be reset.
    resets: bool,
    fuse: Fuse,
    /// Makes nodes sync at different times.
    salt: u64,
    /// What became of the store, until the simulator looks.
    pub(crate) story: Option<&'static str>,
    /// Chunks of a snapshot that is not whole yet.
    chunks: Vec<u8>,
    /// What it was restored to, until the simulator looks.
    pub(crate) restored: Option<Image>,
    /// What was applied since the simulator looked last.
    pub(crate) applied: Vec<AppliedOp>,
    /// What it was told of the members since then.
    pub(crate) members: Vec<(LogIndex, Configuration)>,
    offices: Offices,
}

/// Makes the machines of a process.
#[derive(Debug)]
pub(crate) struct Maker;

impl StateMachine for Machine {
    fn apply(&mut self, entries: &Entries<'_>, replies: &mut Replies) {
        self.fuse.burn();
        for entry in entries.iter() {
            let (index, term) = (entry.index.0, entry.term.0);
            let before = self.image.last.index;
            assert!(before < entry.index, "entry {index} is applied to the state after {before}");
            let payload = chain_bytes(0, entry.payload);
            let image = &mut self.image;
            image.state = chain(chain(chain(image.state, index), term), payload);
            image.last = LogPosition { index: entry.index, term: entry.term };
            let (op, command) = decode(entry.payload);
            let register = image.registers.entry(command.key).or_default();
            let (after, output) = Subject::apply(register, &command.input);
            *register = after;
            let state = image.state;
            self.applied.push(AppliedOp { index, term, op, payload, state, output });
            replies.push(entry.index, &reply(state, output));
        }
        if let Some(store) = &self.store {
            store.write(&self.image, self.salt);
        }
    }

    fn configuration_committed(&mut self, index: LogIndex, configuration: &Configuration) {
        self.fuse.burn();
        self.members.push((index, configuration.clone()));
    }

    fn leader_start(&mut self, term: Term) {
        self.fuse.burn();
        self.offices.begin(None, term);
    }

    fn leader_stop(&mut self, term: Term) {
        self.fuse.burn();
        self.offices.end(None, term);
    }

    fn follow_start(&mut self, leader: NodeId, term: Term) {
        self.fuse.burn();
        self.offices.begin(Some(leader), term);
    }

    fn follow_stop(&mut self, leader: NodeId, term: Term) {
        self.fuse.burn();
        self.offices.end(Some(leader), term);
    }

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        self.fuse.burn();
        self.gives_snapshots
            .then(|| Box::new(Pieces::with(&self.image, self.fuse.clone())) as Box<_>)
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), MachineError> {
        self.fuse.burn();
        let is_new = self.image == Image::default() || self.store.is_some();
        assert!(is_new && self.applied.is_empty(), "only a new machine is restored");
        self.chunks.extend_from_slice(chunk);
        Ok(())
    }

    fn restored(&mut self) -> Result<(), MachineError> {
        self.fuse.burn();
        self.image = Image::decode(&std::mem::take(&mut self.chunks))?;
        self.restored = Some(self.image.clone());
        if let Some(store) = &self.store {
            let replaced = store.replace(&self.image, self.salt, self.resets);
            self.story = replaced.then_some("stores replaced by snapshots");
        }
        Ok(())
    }

    fn durable_position(&self) -> Option<LogPosition> {
        self.store.as_ref().map(Opened::durable)
    }
}

impl Maker {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn make(&self, group: GroupId, node: usize, kind: Kind, stores: &Stores) -> Machine {
        let (store, image) = match kind.keeps.then(|| stores.open(group)) {
            Some((store, image)) => (Some(store), image),
            None => (None, Image::default()),
        };
        let is_new = image == Image::default();
        Machine {
            restored: (!is_new).then(|| image.clone()),
            story: (!is_new).then_some("starts from a store"),
            image,
            store,
            gives_snapshots: kind.gives,
            resets: kind.resets,
            fuse: stores.fuse.clone(),
            salt: node as u64,
            chunks: Vec::new(),
            applied: Vec::new(),
            members: Vec::new(),
            offices: Offices::default(),
        }
    }
}

impl Machine {
    /// What there is to read.
    pub(crate) fn view(&self) -> View {
        View { last: self.image.last, registers: self.image.registers.clone() }
    }
}

/// What a machine shows to whoever reads it, without a trip through the log.
pub(crate) struct View {
    /// The last operation that it took.
    pub(crate) last: LogPosition,
    registers: BTreeMap<u8, Value>,
}

impl View {
    pub(crate) fn read(&self, command: &Command) -> Output {
        let register = self.registers.get(&command.key).unwrap_or(&0);
        Subject::apply(register, &command.input).1
    }
}

/// A submission reaches a shard: registers have nothing to add to it.
pub(crate) fn arrive(_world: &mut World, _seat: usize, _submission: &mut Submission) {}

/// What must hold of what callers were told, beside that it has an order: nothing of registers.
pub(crate) fn check_history(_history: &[(usize, &Asked)], _counts: &mut Counts) {}

/// The operation as its payload starts.
pub(crate) fn encode(name: OpName, command: &Command) -> Vec<u8> {
    let (kind, a, b) = match command.input {
        Input::Get => (0, 0, 0),
        Input::Put(value) => (1, value, 0),
        Input::Swap { from, to } => (2, from, to),
        Input::Append(value) => (3, value, 0),
    };
    let mut bytes = Vec::with_capacity(OPERATION_BYTES);
    bytes.extend_from_slice(&name.0.to_le_bytes());
    bytes.extend_from_slice(&[kind, command.key]);
    bytes.extend_from_slice(&a.to_le_bytes());
    bytes.extend_from_slice(&b.to_le_bytes());
    bytes
}

fn decode(payload: &[u8]) -> (OpName, Command) {
    let (name, kind, key) = (number(payload, 0), payload[8], payload[9]);
    let (a, b) = (number(payload, 10), number(payload, 18));
    let input = match kind {
        0 => Input::Get,
        1 => Input::Put(a),
        2 => Input::Swap { from: a, to: b },
        3 => Input::Append(a),
        other => panic!("an operation of kind {other} was never asked for"),
    };
    (OpName(name), Command { key, input })
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let number = bytes[at..].first_chunk().expect("a payload holds a whole operation");
    u64::from_le_bytes(*number)
}

/// Whether an answer is that of an operation that was applied.
pub(crate) fn is_reply(bytes: &[u8], of: &AppliedOp) -> bool {
    bytes == reply(of.state, of.output)
}

/// The answer: the state, then what the operation gave.
fn reply(state: u64, output: Output) -> Vec<u8> {
    let (kind, value) = match output {
        Output::Value(value) => (0, value),
        Output::Done => (1, 0),
        Output::Swapped(done) => (2, u64::from(done)),
    };
    let mut bytes = state.to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes
}

/// What a caller reads in an answer.
pub(crate) fn told(_command: &Command, reply: &[u8]) -> Output {
    match (reply[8], number(reply, 9)) {
        (0, value) => Output::Value(value),
        (1, _) => Output::Done,
        (_, done) => Output::Swapped(done == 1),
    }
}
