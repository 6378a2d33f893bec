//! Asking several groups at once, on behalf of one command.

use std::cell::Cell;
use std::future::poll_fn;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::client::{Client, Way};
use super::held::{Held, forwarded};
use super::outcome;
use super::shard::Shard;
use crate::kv::command::{Action, Command};
use crate::kv::execute::TOO_MANY;
use crate::kv::keyspace::PLACE_BITS;
use crate::kv::resp::reply::{self, Framing};

/// Between two attempts at what was not done.
const PAUSE: Duration = Duration::from_millis(10);

/// A part of a command: its group, and the arguments.
pub(crate) type Part<'a> = (usize, Vec<&'a [u8]>);

/// What each part is answered, in their order; an error alone if there was no room for all of it.
///
/// Groups are asked here or, if `forward`, wherever they are led. Then those of which it is certain that
/// they did nothing, as their leader has just changed, are asked again for as long as the server is
/// patient: half of a command would be worse than a late one.
pub(crate) async fn gather(
    shard: &Rc<Shard>,
    command: &Command,
    parts: &[Part<'_>],
    forward: bool,
) -> Vec<Vec<u8>> {
    let since = Instant::now();
    let (mut replies, mut missing) = (vec![Vec::new(); parts.len()], (0..parts.len()).collect());
    loop {
        let gathering = Gathering::new(shard);
        let asked: &Vec<usize> = &missing;
        asked.iter().for_each(|at| gathering.begin(parts[*at].0, command, &parts[*at].1, forward));
        let answers = gathering.replies().await;
        if answers.len() != asked.len() {
            return answers;
        }
        asked.iter().zip(answers).for_each(|(at, answer)| replies[*at] = answer);
        missing = (0..parts.len()).filter(|at| outcome::was_not_done(&replies[*at])).collect();
        let again = forward && since.elapsed() < shard.node.settings.patience;
        if missing.is_empty() || !again {
            return replies;
        }
        shard.local.sleep(PAUSE).await;
    }
}

/// A client of its own, which waits for all replies. It leaves when it is dropped.
struct Gathering<'a> {
    shard: &'a Rc<Shard>,
    client: Rc<Client>,
    id: usize,
    /// What was asked may change something.
    writes: Cell<bool>,
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.shard.dismiss(self.id);
    }
}

impl<'a> Gathering<'a> {
    fn new(shard: &'a Rc<Shard>) -> Self {
        let (client, id) = shard.admit();
        client.speak(true);
        Self { shard, client, id, writes: Cell::new(false) }
    }

    /// Asks a group, here or, if `forward`, wherever it is led.
    fn begin(&self, place: usize, command: &Command, args: &[&[u8]], forward: bool) {
        let shard = self.shard;
        self.writes.set(self.writes.get() || command.write);
        // Parts for one group go one way.
        let present = self.client.way_of(place);
        let elsewhere = matches!(present, Some(Way::Link(_) | Way::Held));
        if present.is_some() && !elsewhere || present.is_none() && shard.leads(place) {
            self.begin_here(place, command, args);
        } else if forward {
            self.begin_elsewhere(place, command, args);
        } else {
            self.client.answer(|out| reply::error(out, outcome::NO_LEADER));
        }
    }

    fn begin_elsewhere(&self, place: usize, command: &Command, args: &[&[u8]]) {
        let shard = self.shard;
        let way = self.client.way_of(place).unwrap_or_else(|| {
            let seat = shard.topology().seat_of(place).filter(|_| !shard.holds(place));
            seat.map_or(Way::Held, Way::Link)
        });
        let number = self.client.begin(place, way, 0);
        let forwarded = forwarded((self.id, number), place, command.write);
        let place = place.to_string();
        let group: [&[u8]; 2] = [b"KV.GROUP", place.as_bytes()];
        // Keys say themselves which group is meant.
        let everywhere = matches!(command.action, Action::Everywhere(_));
        let group = if everywhere { &group[..] } else { &[] };
        let args = [group, args].concat();
        match way {
            Way::Link(seat) => shard.link(seat).send(forwarded, &args),
            _ => shard.hold(Held::new(forwarded, &args)),
        }
    }

    fn begin_here(&self, place: usize, command: &Command, args: &[&[u8]]) {
        let shard = self.shard;
        let operation = match shard.admitted(args) {
            Ok(operation) => operation,
            Err(why) => return self.client.answer(|out| reply::error(out, &why)),
        };
        let now = shard.node.clock.now();
        // A read that comes after a write of the same group, or that finds keys whose time has come.
        let due = shard.group(place).is_some_and(|group| group.is_due(now));
        let way = match self.client.way_of(place) {
            Some(way) => way,
            None if command.write || due => Way::Log,
            None => Way::Read,
        };
        let number = self.client.begin(place, way, 0);
        if way == Way::Read {
            shard.pump.read(place, &operation, self.id, number);
            shard.stats().reads.add(1);
        } else if shard.pump.propose(shard, place, operation, (self.id, number), now).is_err() {
            self.client.take_back();
            self.client.answer(|out| reply::error(out, outcome::BUSY));
        }
    }

    /// What each of them said, in the order in which they were asked.
    async fn replies(self) -> Vec<Vec<u8>> {
        poll_fn(|cx| {
            self.client.listen(cx.waker());
            let over = self.client.is_idle() || self.client.killed.get();
            if over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let mut output = Vec::new();
        if self.client.killed.get() {
            let why = if self.writes.get() { outcome::NO_MEMORY } else { TOO_MANY };
            reply::error(&mut output, why);
            return vec![output];
        }
        self.client.take_output(&mut output);
        let (mut replies, mut rest) = (Vec::new(), &output[..]);
        while let Ok(Some(length)) = Framing::default().next(rest) {
            let (reply, behind) = rest.split_at(length);
            replies.push(reply.to_vec());
            rest = behind;
        }
        replies
    }
}

/// Any number.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

pub(crate) fn random_place() -> u64 {
    random() >> (u64::BITS - PLACE_BITS)
}
