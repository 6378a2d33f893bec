//! What a driver measures of its shard.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::Distribution;
use crate::shard::Hook;

/// Distributions since the start. All times are in nanoseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timings {
    /// From taking a proposal out of the inbox until it is applied here. A sample: at any moment
    /// one proposal of the shard is followed, the last of a turn.
    pub commit: Distribution,
    /// From taking reads out of the inbox until they are served. A sample: at any moment the reads
    /// of one submission are followed.
    pub linearizable: Distribution,
    /// A turn's length, without the wait before it.
    pub turn: Distribution,
    /// The part of a turn in which state machines apply; turns that applied nothing don't count.
    pub apply: Distribution,
    /// From handing a log write to the kernel until the shard saw its completion. A durable write,
    /// or with coalesced syncs one that a sync follows.
    pub write: Distribution,
    /// Likewise for syncs of the log.
    pub sync: Distribution,
    /// Likewise for reads of the log.
    pub read: Distribution,
    /// Bytes of a log write, padding included.
    pub write_bytes: Distribution,
    /// Events that a turn took in: completions, frames' arrivals, requests.
    pub events: Distribution,
    /// Entries that a turn gave to state machines; turns that applied nothing don't count.
    pub applied: Distribution,
    /// Taking a snapshot: from the view of the state machine until the file is durable. The shard
    /// notices the beginning with a tick, so that a short one may seem longer by some milliseconds.
    pub snapshot_taken: Distribution,
    /// Installing a leader's snapshot: from the first piece's arrival until the state machine and the
    /// log are replaced.
    pub snapshot_installed: Distribution,
    /// Restoring a state machine from a snapshot's file, at a start or as the end of an installation.
    pub snapshot_loaded: Distribution,
}

/// Processor time of a shard's thread, in user space and in the kernel, by the stage of its turns
/// that it went into; all zero without
/// [`EngineConfig::stage_times`](crate::EngineConfig::stage_times).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stages {
    /// Between two turns: the kernel's part of the disk and of the network, the executor, and what
    /// callers run on the shard's core.
    pub outside: Duration,
    /// What the disk completed: the log's bookkeeping, acknowledgements, commitment.
    pub completions: Duration,
    /// What peers sent: checked, decoded, stepped through the protocol, appended to the log.
    pub receive: Duration,
    /// What callers asked for, taken from the inbox.
    pub requests: Duration,
    /// Proposals made into blocks, appended to the log, and addressed to the followers; timers.
    pub replicate: Duration,
    /// Committed entries applied by state machines.
    pub apply: Duration,
    /// Disk operations handed over.
    pub submit: Duration,
    /// Frames handed to the connections.
    pub send: Duration,
    /// Callers answered, and the turn accounted for.
    pub answer: Duration,
}

impl Stages {
    /// Each with its name, in the order of a turn.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Duration); 9] {
        [
            ("outside", self.outside),
            ("completions", self.completions),
            ("receive", self.receive),
            ("requests", self.requests),
            ("replicate", self.replicate),
            ("apply", self.apply),
            ("submit", self.submit),
            ("send", self.send),
            ("answer", self.answer),
        ]
    }
}

/// How long each call of a state machine's hooks took, in nanoseconds. What is not here is a part of
/// [`Timings::apply`] (`apply`, `configuration_committed`) or of [`Timings::snapshot_loaded`]
/// (`restore`, `restored`).
#[derive(Clone, Debug, Default)]
pub struct HookTimings([Distribution; HOOKS]);

const HOOKS: usize = Hook::ALL.len();

impl HookTimings {
    /// The calls of one hook.
    #[must_use]
    pub fn of(&self, hook: Hook) -> &Distribution {
        &self.0[hook as usize]
    }

    pub(crate) fn record(&mut self, hook: Hook, nanos: u64) {
        self.0[hook as usize].record(nanos);
    }
}

impl Serialize for HookTimings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Hook::ALL.map(|hook| (hook.name(), self.of(hook))))
    }
}
