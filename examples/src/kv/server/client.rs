//! Replies in the order of the commands, however they are completed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use smallvec::SmallVec;

use super::topology::Seat;
use crate::kv::account::{Account, Charge};
use crate::kv::resp::reply;

/// Commands of one client that wait for their replies, at most.
const WINDOW: usize = 1024;

/// Places for these that a client keeps that has none.
const WAITING_KEPT: usize = 64;

/// A reply that came before its turn; most are short.
type Early = SmallVec<[u8; 24]>;

/// Bytes of replies that wait for a client to take them, or for earlier ones, beyond which no more of
/// its commands are looked at.
const BACKLOG: usize = 1 << 20;

/// How a command is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through the log of a group of this shard.
    Log,
    /// By a read of a group of this shard.
    Read,
    /// By another shard or node.
    Link(Seat),
    /// By whoever leads the group next.
    Held,
}

/// A group's commands of one client that are under way, and how they are.
#[derive(Clone, Copy, Debug)]
struct Use {
    group: usize,
    way: Way,
    count: usize,
}

#[derive(Debug)]
enum State {
    /// Nothing yet; about so many bytes are expected.
    Waiting {
        group: usize,
        expected: usize,
    },
    Done(Early),
}

#[derive(Debug, Default)]
struct Replies {
    /// Those that are not in `out` yet, in the order of the commands.
    waiting: VecDeque<State>,
    /// The number of the first of these.
    first: u32,
    /// Bytes in those that are done.
    stashed: usize,
    /// Bytes that are expected of the others.
    expected: usize,
    /// What the client may be sent.
    out: Vec<u8>,
    /// Where the next reply is written that comes before its turn.
    scratch: Vec<u8>,
    resp3: bool,
    uses: SmallVec<[Use; 2]>,
}

/// Who waits for replies: a connection, or a task that gathers what several groups say.
#[derive(Debug, Default)]
pub(crate) struct Client {
    replies: RefCell<Replies>,
    waker: RefCell<Option<Waker>>,
    /// Since when it takes no replies.
    pub(crate) stalled: Cell<Option<Instant>>,
    /// Its connection is to end.
    pub(crate) killed: Cell<bool>,
    /// Nobody wants its replies any more.
    gone: Cell<bool>,
    /// Bytes that its connection has of requests, and of replies that are being sent.
    in_connection: Cell<usize>,
    charge: RefCell<Charge>,
}

impl Client {
    /// One that speaks RESP2. What it takes is counted in `account`.
    pub(crate) fn new(account: Account) -> Self {
        Self { charge: RefCell::new(Charge::to(account)), ..Self::default() }
    }

    /// Bytes of requests and replies.
    pub(crate) fn bytes(&self) -> usize {
        self.charge.borrow().bytes()
    }

    /// Its connection has so many bytes.
    pub(crate) fn set_in_connection(&self, bytes: usize) {
        self.in_connection.set(bytes);
        self.settle(&self.replies.borrow());
    }

    fn settle(&self, replies: &Replies) {
        let held = replies.out.len() + replies.stashed + self.in_connection.get();
        self.charge.borrow_mut().set(if self.is_wanted() { held } else { 0 });
    }

    /// Ends it, and frees what waits for it: for others there is no room otherwise.
    pub(crate) fn evict(&self) {
        self.killed.set(true);
        self.discard();
        self.wake();
    }

    /// Frees what nobody will take.
    fn discard(&self) {
        let mut replies = self.replies.borrow_mut();
        replies.out = Vec::new();
        for state in &mut replies.waiting {
            if let State::Done(reply) = state {
                *reply = Early::new();
            }
        }
        replies.stashed = 0;
        self.settle(&replies);
    }

    /// Whether anybody will take its replies.
    fn is_wanted(&self) -> bool {
        !self.gone.get() && !self.killed.get()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Speaks RESP3 from here on, or RESP2. Nothing must be under way.
    pub(crate) fn speak(&self, resp3: bool) {
        self.replies.borrow_mut().resp3 = resp3;
    }

    pub(crate) fn speaks_resp3(&self) -> bool {
        self.replies.borrow().resp3
    }

    /// Whether another command may be looked at.
    pub(crate) fn has_room(&self) -> bool {
        let replies = self.replies.borrow();
        replies.waiting.len() < WINDOW && replies.bytes() < BACKLOG
    }

    /// Whether no command is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.replies.borrow().waiting.is_empty()
    }

    /// Whether a command for a group may go this way now without overtaking one that goes another,
    /// or being overtaken.
    pub(crate) fn may_go(&self, group: usize, way: Way) -> bool {
        self.way_of(group).is_none_or(|present| present == way)
    }

    /// How the group's commands that are under way are being done.
    pub(crate) fn way_of(&self, group: usize) -> Option<Way> {
        let replies = self.replies.borrow();
        replies.uses.iter().find(|used| used.group == group).map(|used| used.way)
    }

    /// How many of a group's commands are under way.
    pub(crate) fn under_way(&self, group: usize) -> usize {
        let replies = self.replies.borrow();
        replies.uses.iter().find(|used| used.group == group).map_or(0, |used| used.count)
    }

    /// All of a group's commands that are under way go another way.
    pub(crate) fn reroute(&self, group: usize, way: Way) {
        let mut replies = self.replies.borrow_mut();
        if let Some(used) = replies.uses.iter_mut().find(|used| used.group == group) {
            used.way = way;
        }
    }

    /// A command goes this way, and its reply will have about so many bytes; the number by which the
    /// reply is known.
    pub(crate) fn begin(&self, group: usize, way: Way, expected: usize) -> u32 {
        let mut replies = self.replies.borrow_mut();
        match replies.uses.iter_mut().find(|used| used.group == group) {
            Some(used) => {
                debug_assert_eq!(used.way, way);
                used.count += 1;
            }
            None => replies.uses.push(Use { group, way, count: 1 }),
        }
        let number = replies.first.wrapping_add(replies.waiting.len() as u32);
        replies.waiting.push_back(State::Waiting { group, expected });
        replies.expected += expected;
        number
    }

    /// The last command that was begun did not go anywhere.
    pub(crate) fn take_back(&self) {
        let mut replies = self.replies.borrow_mut();
        if let Some(State::Waiting { group, expected }) = replies.waiting.pop_back() {
            replies.forget(group, expected);
        }
    }

    /// Answers a command that needs nobody else; `write` appends the reply, as RESP3.
    pub(crate) fn answer(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut replies = self.replies.borrow_mut();
        if replies.waiting.is_empty() {
            replies.append(write);
        } else {
            let reply = replies.write_early(write);
            replies.waiting.push_back(reply);
        }
        self.settle(&replies);
    }

    /// Completes a command; `write` appends the reply, as RESP3. It is not called if nobody wants it.
    pub(crate) fn complete(&self, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let mut replies = self.replies.borrow_mut();
        let at = number.wrapping_sub(replies.first) as usize;
        let Some(&State::Waiting { group, expected }) = replies.waiting.get(at) else {
            debug_assert!(false, "a reply to nothing");
            return;
        };
        replies.forget(group, expected);
        let wanted = self.is_wanted();
        if at == 0 {
            replies.waiting.pop_front();
            replies.first = replies.first.wrapping_add(1);
            if wanted {
                replies.append(write);
            }
            replies.release(wanted);
        } else {
            replies.waiting[at] = match wanted {
                true => replies.write_early(write),
                false => State::Done(Early::new()),
            };
        }
        self.settle(&replies);
        drop(replies);
        self.wake();
    }

    /// What the client may be sent now, in exchange for an empty buffer.
    pub(crate) fn take_output(&self, empty: &mut Vec<u8>) {
        std::mem::swap(&mut self.replies.borrow_mut().out, empty);
    }

    /// Gives back what a long pipeline took, if it is over.
    pub(crate) fn rest(&self) {
        let waiting = &mut self.replies.borrow_mut().waiting;
        if waiting.is_empty() && waiting.capacity() > WAITING_KEPT {
            *waiting = VecDeque::new();
        }
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.replies.borrow().out.is_empty()
    }

    /// Nobody wants the replies to what is under way; true if nothing is.
    pub(crate) fn leave(&self) -> bool {
        self.gone.set(true);
        self.discard();
        self.is_idle()
    }

    /// Whether its last reply has come and nobody wanted it.
    pub(crate) fn is_over(&self) -> bool {
        self.gone.get() && self.is_idle()
    }

    /// `waker` is woken when something was completed.
    pub(crate) fn listen(&self, waker: &Waker) {
        let mut held = self.waker.borrow_mut();
        if !held.as_ref().is_some_and(|held| held.will_wake(waker)) {
            *held = Some(waker.clone());
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Replies {
    /// Bytes that wait, or will, for the client to take them.
    fn bytes(&self) -> usize {
        self.out.len() + self.stashed + self.expected
    }

    fn forget(&mut self, group: usize, expected: usize) {
        self.expected -= expected;
        if let Some(at) = self.uses.iter().position(|used| used.group == group) {
            self.uses[at].count -= 1;
            if self.uses[at].count == 0 {
                self.uses.swap_remove(at);
            }
        }
    }

    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        write(&mut self.out);
        if !self.resp3 && !reply::is_plain(&self.out[start..]) {
            let resp3 = self.out.split_off(start);
            reply::to_resp2(&resp3, &mut self.out);
        }
    }

    fn write_early(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> State {
        self.scratch.clear();
        write(&mut self.scratch);
        self.stashed += self.scratch.len();
        State::Done(if self.scratch.len() <= Early::new().inline_size() {
            Early::from_slice(&self.scratch)
        } else {
            Early::from_vec(std::mem::take(&mut self.scratch))
        })
    }

    /// Replies that no earlier one is missing for any more.
    fn release(&mut self, wanted: bool) {
        while let Some(State::Done(_)) = self.waiting.front() {
            let Some(State::Done(reply)) = self.waiting.pop_front() else { return };
            self.first = self.first.wrapping_add(1);
            self.stashed -= reply.len();
            if wanted {
                self.append(|out| out.extend_from_slice(&reply));
            }
        }
    }
}
