//! What a leader knows about one peer's log (etcd's design), and what is on its way there.

use ringleader_wal::{LogIndex, NodeId};
use serde::{Deserialize, Serialize};

use super::config::RaftConfig;
use super::fifo::Fifo;
use crate::time::Time;

/// How entries are sent to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It is not known where the two logs agree: one request at a time looks for the place. A lost
    /// one is repeated when the peer answers a heartbeat.
    Probe,
    /// The logs agree up to `next_index`: requests are pipelined and `next_index` moves on as they
    /// are sent, not as they are answered.
    Replicate,
    /// The peer lacks what the log no longer holds: it is sent a snapshot, and nothing else until it
    /// has it.
    Snapshot,
}

#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Progress {
    pub(super) id: NodeId,
    pub(super) mode: Mode,
    /// Probing, and the request was sent.
    pub(super) paused: bool,
    /// A load from here is on its way.
    pub(super) loading: Option<LogIndex>,
    /// The peer's log is durable and like the leader's up to here.
    pub(super) match_index: LogIndex,
    /// The first entry of the next request; above `match_index`.
    pub(super) next_index: LogIndex,
    pub(super) sent_at: Time,
    pub(super) heard_at: Time,
    window: Window,
}

/// Requests on their way: the last index and the bytes of each.
#[derive(Clone, Debug, Default)]
struct Window {
    requests: Fifo<(LogIndex, usize)>,
    bytes: usize,
}

impl Progress {
    pub(super) fn new(id: NodeId, next_index: LogIndex, now: Time) -> Self {
        Self {
            id,
            mode: Mode::Probe,
            paused: false,
            loading: None,
            match_index: LogIndex(0),
            next_index,
            sent_at: now,
            heard_at: now,
            window: Window::default(),
        }
    }

    /// Looks for agreement before `next_index`, which stays above `match_index`.
    pub(super) fn probe(&mut self, next_index: LogIndex, paused: bool) {
        self.mode = Mode::Probe;
        self.paused = paused;
        self.loading = None;
        self.next_index = next_index.max(self.match_index.next());
        self.window.requests.clear();
        self.window.bytes = 0;
    }

    /// What the peer lacks before `next_index` is not there any more.
    pub(super) fn wait_for_snapshot(&mut self, next_index: LogIndex) {
        self.probe(next_index, false);
        self.mode = Mode::Snapshot;
    }

    fn replicate(&mut self) {
        self.mode = Mode::Replicate;
        self.paused = false;
        self.next_index = self.match_index.next();
    }

    /// The peer's log is durable and alike up to `match_index`; true if that is news or ends the
    /// probing.
    pub(super) fn matched(&mut self, match_index: LogIndex) -> bool {
        let news = match_index > self.match_index;
        if news {
            self.match_index = match_index;
            self.window.free_through(match_index);
        }
        if self.mode == Mode::Replicate || match_index.next() < self.next_index {
            // An answer to a request sent before probing began says that the peer takes messages.
            self.paused &= !news;
            self.next_index = self.next_index.max(self.match_index.next());
            return news;
        }
        self.replicate();
        true
    }

    /// Whether the refusal of a request whose entries followed `prev_index` is an answer to what is
    /// asked now, and not one that was overtaken.
    pub(super) fn is_current_conflict(&self, prev_index: LogIndex) -> bool {
        match self.mode {
            Mode::Probe => prev_index > self.match_index && prev_index == self.next_index.prev(),
            Mode::Snapshot => false,
            Mode::Replicate => prev_index > self.match_index && prev_index < self.next_index,
        }
    }

    /// Whether it is asked now whether its log agrees at `index`.
    pub(super) fn is_probed_at(&self, index: LogIndex) -> bool {
        self.mode == Mode::Probe && index == self.next_index.prev()
    }

    #[inline]
    pub(super) fn sent(&mut self, last: LogIndex, bytes: usize) {
        self.next_index = last.next();
        self.window.requests.push((last, bytes));
        self.window.bytes += bytes;
    }

    #[inline]
    pub(super) fn window_is_full(&self, config: &RaftConfig) -> bool {
        self.window.requests.len() >= config.max_inflight_messages
            || self.window.bytes >= config.max_inflight_bytes
    }

    pub(super) fn inflight(&self) -> (usize, usize) {
        (self.window.requests.len(), self.window.bytes)
    }

    /// Checks `match_index < next_index` and the window's account.
    pub(super) fn check(&self, last: LogIndex) {
        assert!(self.match_index < self.next_index, "{self:?}");
        assert!(self.match_index <= last && self.next_index <= last.next(), "{self:?}");
        assert!(self.mode == Mode::Replicate || self.window.requests.is_empty(), "{self:?}");
        assert!(self.mode == Mode::Probe || !self.paused, "{self:?}");
        assert_eq!(self.window.bytes, self.window.requests.iter().map(|r| r.1).sum::<usize>());
        assert!(self.window.requests.iter().all(|r| r.0 > self.match_index), "{self:?}");
    }
}

impl Window {
    fn free_through(&mut self, index: LogIndex) {
        while let Some((_, bytes)) = self.requests.first().filter(|(last, _)| *last <= index) {
            self.bytes -= bytes;
            self.requests.pop();
        }
    }
}
