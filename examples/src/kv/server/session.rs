//! What a connection has said about itself, and what becomes of its commands.

use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use super::client::{Client, Way};
use super::held::forwarded;
use super::scattered::Scattered;
use super::shard::Shard;
use super::topology::Seat;
use super::{administration, everywhere, outcome, scattered};
use crate::kv::command::{self, Action, Args, Command, Refusal, Service};
use crate::kv::execute;
use crate::kv::operation::Operation;
use crate::kv::resp::reply;
use crate::kv::resp::request::Limits;
use ringleader::PushError;

/// A reply that takes several groups, or nodes.
pub(crate) type Later = Pin<Box<dyn Future<Output = Vec<u8>>>>;

/// What became of a command.
pub(crate) enum Handled {
    /// It is answered, or will be.
    Done,
    /// It can't be begun now. The connection's task is woken when it is worth another try.
    Blocked,
    /// It is answered when this is done; no other command is begun before.
    Later(Later),
    /// It is answered, and the connection ends.
    Close,
}

/// A request as it came.
#[derive(Clone, Copy)]
pub(crate) struct Incoming<'a, 'b> {
    pub(crate) args: Args<'a, 'b>,
    /// Bytes that it took.
    pub(crate) length: usize,
    /// Others are behind it already.
    pub(crate) more: bool,
    /// Of the connection's task.
    pub(crate) waker: &'b Waker,
}

/// After a write so many reads of a pipeline go through the log with the writes around them. A read
/// that does not would keep the next write waiting for a round trip.
const MIXED: u32 = 64;

/// See the [module](self).
pub(crate) struct Session {
    pub(crate) shard: Rc<Shard>,
    pub(crate) client: Rc<Client>,
    /// The client's number.
    pub(crate) id: usize,
    /// Commands for groups of elsewhere are forwarded.
    pub(crate) plain: bool,
    pub(crate) authenticated: bool,
    /// Reads may be served by a follower.
    pub(crate) read_only: bool,
    pub(crate) name: Vec<u8>,
    pub(crate) began: Instant,
    mixed: u32,
    /// Since when a command waits for a leader.
    leaderless: Option<Instant>,
}

impl Session {
    pub(crate) fn new(shard: Rc<Shard>, plain: bool) -> Self {
        let (client, id) = shard.admit();
        let authenticated = shard.node.settings.password.is_none();
        Self {
            shard,
            client,
            id,
            plain,
            authenticated,
            read_only: false,
            name: Vec::new(),
            began: Instant::now(),
            mixed: 0,
            leaderless: None,
        }
    }

    /// Handles one request.
    pub(crate) fn handle(&mut self, incoming: Incoming<'_, '_>) -> Handled {
        let args = incoming.args;
        let Some(name) = args.first() else { return Handled::Done };
        let Some(command) = command::find(name) else {
            return self.refuse(&Refusal::Unknown(shown(name)));
        };
        if !self.authenticated && !administration::is_for_strangers(command) {
            return self.say("NOAUTH Authentication required.");
        }
        if let Err(refusal) = command.check(args) {
            return self.refuse(&refusal);
        }
        let handled = match command.action {
            Action::Service(Service::Group) => self.in_group(incoming),
            Action::Service(service) => administration::serve(self, service, args),
            Action::Everywhere(parse) => match parse(args) {
                Ok(operation) => self.everywhere(command, &operation, args),
                Err(refusal) => self.refuse(&refusal),
            },
            Action::Operation(parse) => match (parse(args), command.slot(args)) {
                (Ok(operation), Ok(Some(slot))) => self.keyed(command, slot, operation, incoming),
                (Ok(_), Err(Refusal::CrossSlot)) if self.plain => self.scatter(args),
                (Err(refusal), _) | (_, Err(refusal)) => self.refuse(&refusal),
                (Ok(_), Ok(None)) => self.refuse(&Refusal::Syntax),
            },
        };
        if !matches!(handled, Handled::Blocked) {
            self.shard.stats().commands.add(1);
            self.leaderless = None;
        }
        handled
    }

    /// Answers with an error.
    pub(crate) fn say(&self, error: &str) -> Handled {
        self.client.answer(|out| reply::error(out, error));
        Handled::Done
    }

    pub(crate) fn refuse(&self, refusal: &Refusal) -> Handled {
        self.say(&refusal.to_string())
    }

    fn everywhere(
        &self,
        command: &Command,
        operation: &Operation<'_>,
        args: Args<'_, '_>,
    ) -> Handled {
        if !self.client.is_idle() {
            return Handled::Blocked;
        }
        let args = args.iter().map(|arg| arg.to_vec()).collect();
        let request = everywhere::Request::new(command, operation, args, self.plain);
        Handled::Later(Box::pin(everywhere::run(Rc::clone(&self.shard), request)))
    }

    /// A command with keys in several slots.
    fn scatter(&self, args: Args<'_, '_>) -> Handled {
        let Some(scattered) = Scattered::of(args) else {
            return self.refuse(&Refusal::CrossSlot);
        };
        if !self.client.is_idle() {
            return Handled::Blocked;
        }
        Handled::Later(Box::pin(scattered::run(Rc::clone(&self.shard), scattered)))
    }

    /// `KV.GROUP place command...`, which links say: the command for this group, and for no other.
    fn in_group(&mut self, incoming: Incoming<'_, '_>) -> Handled {
        let args = incoming.args;
        let topology = self.shard.topology();
        let place = std::str::from_utf8(args[1]).ok().and_then(|text| text.parse().ok());
        let place = place.filter(|place| *place < topology.layout.groups());
        let inner = command::find(args[2]).map(|command| (command, command.check(&args[2..])));
        let (Some(place), Some((command, Ok(())))) = (place, inner) else {
            return self.refuse(&Refusal::Syntax);
        };
        let Action::Everywhere(parse) = command.action else {
            return self.refuse(&Refusal::Syntax);
        };
        if !self.shard.leads(place) {
            return self.say(outcome::LEADER_CHANGED);
        }
        match parse(&args[2..]) {
            Ok(operation) => self.here(place, command, operation, incoming),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// What a request may be.
    pub(crate) fn limits(&self) -> Limits {
        if self.authenticated { self.shard.node.settings.limits } else { STRANGERS }
    }

    fn keyed(
        &mut self,
        command: &Command,
        slot: u16,
        operation: Operation<'_>,
        incoming: Incoming<'_, '_>,
    ) -> Handled {
        let topology = self.shard.topology();
        let place = topology.layout.group_of(slot);
        let here = self.shard.group(place).is_some();
        let follows = !self.plain && self.read_only && !command.write && here;
        if self.shard.leads(place) || follows {
            return self.here(place, command, operation, incoming);
        }
        match topology.seat_of(place) {
            _ if self.plain && self.shard.holds(place) => self.wait_for_leader(incoming.waker),
            Some(seat) if self.plain => self.forward((place, seat), command, &operation, incoming),
            Some(seat) => {
                self.shard.stats().moved.add(1);
                self.say(&outcome::moved(topology, slot, seat))
            }
            None if self.plain => self.wait_for_leader(incoming.waker),
            None => self.say(outcome::NO_LEADER),
        }
    }

    /// A command for a group of this shard.
    fn here(
        &mut self,
        place: usize,
        command: &Command,
        operation: Operation<'_>,
        Incoming { length, more, waker, .. }: Incoming<'_, '_>,
    ) -> Handled {
        let shard = &self.shard;
        let Some(group) = shard.group(place) else { return self.say(outcome::NO_LEADER) };
        if command.grows && shard.is_full() {
            shard.stats().out_of_memory.add(1);
            return self.say(outcome::OUT_OF_MEMORY);
        }
        let now = shard.node.clock.now();
        let way = match self.client.way_of(place) {
            _ if command.write => Way::Log,
            Some(Way::Read) => Way::Read,
            Some(Way::Log) => Way::Log,
            // A key whose time has come is gone for whoever asks from now on, and the log says so.
            _ if more && self.mixed > 0 || group.is_due(now) && shard.leads(place) => Way::Log,
            _ => Way::Read,
        };
        if !self.client.may_go(place, way) {
            return Handled::Blocked;
        }
        let expected = group.replica.with(|keys| execute::expected_bytes(keys, &operation));
        let number = self.client.begin(place, way, expected + length);
        if way == Way::Log {
            let pushed = shard.pump.propose(shard, place, operation, (self.id, number), now);
            if let Err(error) = pushed {
                self.client.take_back();
                return self.not_pushed(error, waker);
            }
            shard.stats().logged.add(1);
        } else {
            shard.pump.read(place, &operation, self.id, number);
            shard.stats().reads.add(1);
        }
        self.mixed = if command.write { MIXED } else { self.mixed.saturating_sub(1) };
        Handled::Done
    }

    fn not_pushed(&self, error: PushError, waker: &Waker) -> Handled {
        match error {
            PushError::Full => {
                self.shard.pump.wait_for_room(waker);
                Handled::Blocked
            }
            error => self.say(&format!("ERR {error}")),
        }
    }

    fn forward(
        &self,
        (place, seat): (usize, Seat),
        command: &Command,
        operation: &Operation<'_>,
        Incoming { args, length, waker, .. }: Incoming<'_, '_>,
    ) -> Handled {
        if !self.client.may_go(place, Way::Link(seat)) {
            return Handled::Blocked;
        }
        let link = self.shard.link(seat);
        if !link.has_room(waker) {
            return Handled::Blocked;
        }
        // What there is here tells how long the reply will be; where there is nothing, nobody knows.
        let group = self.shard.group(place);
        let expected = group.map_or(FORWARDED_BYTES, |group| {
            group.replica.with(|keys| execute::expected_bytes(keys, operation))
        });
        let number = self.client.begin(place, Way::Link(seat), length + expected);
        link.send(forwarded((self.id, number), place, command.write), args);
        self.shard.stats().forwarded.add(1);
        Handled::Done
    }

    /// Holds a command back until there is a leader, for a while.
    fn wait_for_leader(&mut self, waker: &Waker) -> Handled {
        let since = *self.leaderless.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.shard.node.settings.patience {
            return self.say(outcome::NO_LEADER);
        }
        self.shard.wait_for_leader(waker);
        Handled::Blocked
    }
}

/// What those may say who have not said who they are: enough for that.
const STRANGERS: Limits = Limits { args: 10, bulk: 16 << 10, request: 64 << 10 };

/// What the reply to a forwarded command counts for until it is there and counts as what it is, if its
/// group has no replica here.
const FORWARDED_BYTES: usize = 4 << 10;

/// The beginning of what a client sent, for an error.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned()
}
