//! Commands for another node that were certainly not done there, and wait for whoever leads their
//! group next: for clients that know no cluster, and would not know whom to ask instead.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Instant;

use super::client::Way;
use super::gathering::random_place;
use super::link::{Forwarded, Ticket, encode};
use super::outcome;
use super::shard::Shard;
use crate::kv::command::{self, Args};
use crate::kv::operation::Operation;
use crate::kv::resp::reply;
use crate::kv::resp::request::{Limits, Parser};
use ringleader::PushError;

/// A command and its request.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) command: Forwarded,
    pub(crate) request: Box<[u8]>,
}

impl Held {
    pub(crate) fn new(command: Forwarded, args: Args<'_, '_>) -> Self {
        let mut request = Vec::new();
        encode(args, &mut request);
        Self { command, request: request.into() }
    }
}

/// It was in somebody's limits before.
const ANY: Limits = Limits { args: usize::MAX, bulk: usize::MAX, request: usize::MAX };

impl Shard {
    /// Holds a command back until there is a leader, or for as long as the server is patient.
    pub(crate) fn hold(&self, held: Held) {
        self.held.borrow_mut().push(held);
    }

    /// Whether commands for a group are held back: others must not overtake them.
    pub(crate) fn holds(&self, place: usize) -> bool {
        self.held.borrow().iter().any(|held| held.command.place == place)
    }

    /// Whether a command that was refused elsewhere may be tried again without changing the order in
    /// which its client's commands are done: it is the only one of them.
    pub(crate) fn may_retry(&self, command: &Forwarded) -> bool {
        let client = self.client(command.ticket.0);
        self.is_in_time(command)
            && client.is_some_and(|client| client.under_way(command.place) == 1)
    }

    fn is_in_time(&self, command: &Forwarded) -> bool {
        command.since.elapsed() < self.node.settings.patience
    }

    /// Sends what is held back to those who lead now.
    pub(crate) fn send_held(self: &Rc<Self>) {
        if self.held.borrow().is_empty() {
            return;
        }
        let (mut kept, mut waiting) = (Vec::new(), HashSet::new());
        for held in self.held.take() {
            let place = held.command.place;
            // In their order.
            if waiting.contains(&place) || !self.try_again(&held) {
                waiting.insert(place);
                kept.push(held);
            }
        }
        // Nothing that was sent above comes back before its task has run.
        debug_assert!(self.held.borrow().is_empty());
        self.held.replace(kept);
    }

    /// True if the command is on its way, or answered.
    fn try_again(self: &Rc<Self>, held: &Held) -> bool {
        let Forwarded { ticket, place, .. } = held.command;
        let client = self.client(ticket.0).filter(|client| !client.is_gone());
        let Some(client) = client.filter(|_| self.is_in_time(&held.command)) else {
            self.complete(ticket, |out| reply::error(out, outcome::UNREACHABLE));
            return true;
        };
        if self.leads(place) {
            client.reroute(place, Way::Log);
            return self.do_here(held);
        }
        let Some(seat) = self.topology().seat_of(place) else { return false };
        client.reroute(place, Way::Link(seat));
        self.link(seat).send_held(held);
        true
    }

    /// This node leads the group by now. True if the command is on its way, or answered.
    fn do_here(&self, held: &Held) -> bool {
        let Forwarded { ticket, place, .. } = held.command;
        let mut parser = Parser::default();
        let parsed = parser.next(&held.request, &ANY);
        debug_assert!(matches!(parsed, Ok(Some(_))), "a request that was made here");
        let args: Vec<&[u8]> =
            (0..parser.args()).map(|number| parser.arg(&held.request, number)).collect();
        let args = match args[..] {
            [name, _, ref rest @ ..] if name.eq_ignore_ascii_case(b"kv.group") => rest,
            ref all => all,
        };
        // Through the log, reads too: it keeps them in their order.
        let pushed = self.admitted(args).and_then(|operation| {
            let now = self.node.clock.now();
            match self.pump.propose(self, place, operation, ticket, now) {
                Err(PushError::Full) => Ok(false),
                Err(error) => Err(format!("ERR {error}")),
                Ok(()) => Ok(true),
            }
        });
        pushed.unwrap_or_else(|why| {
            self.complete(ticket, |out| reply::error(out, &why));
            true
        })
    }

    /// What a command means, unless it is not to be done.
    pub(crate) fn admitted<'a>(&self, args: Args<'a, '_>) -> Result<Operation<'a>, String> {
        let command = args.first().and_then(|name| command::find(name));
        if command.is_some_and(|command| command.grows) && self.is_full() {
            self.stats().out_of_memory.add(1);
            return Err(outcome::OUT_OF_MEMORY.into());
        }
        match command::parse(args) {
            Ok(Operation::Random { .. }) => Ok(Operation::Random { place: random_place() }),
            Ok(operation) => Ok(operation),
            Err(refusal) => Err(refusal.to_string()),
        }
    }
}

/// A command that begins now.
pub(crate) fn forwarded(ticket: Ticket, place: usize, write: bool) -> Forwarded {
    Forwarded { ticket, place, write, since: Instant::now() }
}
