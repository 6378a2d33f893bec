//! What the orchestrator and its processes say to each other: one JSON object per line, over the
//! child's standard input and output.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::floor::{NullRole, WriterRole};
use crate::histogram::Latencies;
use crate::ledger::{Ranges, Summary};
use crate::tuning::Tuning;

/// To a child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToChild {
    /// The first message to a node: start the engine.
    Start(Box<NodeSetup>),
    /// Where each group's leader is.
    Roles,
    /// Generate load and account for the resources; answered by [`FromChild::Progress`] while it
    /// goes, [`FromChild::Usage`] and [`FromChild::Loaded`].
    Load(LoadPlan),
    /// Account for the resources only; answered by [`FromChild::Usage`].
    Measure(Window),
    /// What the state machines applied.
    Summaries,
    /// Take a snapshot of the first group; answered by [`FromChild::Snapshot`] when it is durable.
    Snapshot,
    /// What the node has cost so far.
    Costs,
    /// The first message to a process of `null_raft`.
    Null(NullRole),
    /// The first message to a process that writes for the floor; answered by
    /// [`FromChild::Prepared`].
    Writer(WriterRole),
    /// Write now; answered by [`FromChild::Latencies`].
    Go,
    /// Stop and exit.
    Shutdown,
}

/// From a child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromChild {
    /// The child serves; where clients connect.
    Ready {
        clients: SocketAddr,
    },
    /// The child can't go on and exits.
    Failed {
        reason: Failure,
        message: String,
    },
    Roles(Vec<GroupRole>),
    Progress(Tally),
    Usage(Usage),
    Loaded(Box<LoadReport>),
    Summaries(Vec<Summary>),
    /// What became of a snapshot: the last entry that it covers.
    Snapshot(Result<u64, String>),
    Costs(Costs),
    /// A file to write to is there.
    Prepared,
    /// What a process of the floor measured.
    Latencies(Latencies),
    Stopped,
}

/// What went wrong in a child, as far as the orchestrator acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// Another process took the port; other ports may work.
    Listen,
    Other,
}

/// How a node makes its writes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SyncChoice {
    /// Overlapping `O_DIRECT|O_DSYNC` writes.
    DurableWrites,
    /// Plain direct writes, and one `fdatasync` for all that are complete.
    Coalesced,
}

/// A node's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeSetup {
    pub(crate) cluster: u64,
    pub(crate) node: u64,
    /// Node `i + 1` listens at `addresses[i]`.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) shards: u32,
    /// Groups `1..=groups`, every node a voter of each.
    pub(crate) groups: u64,
    pub(crate) data_dir: PathBuf,
    pub(crate) sync: Option<SyncChoice>,
    pub(crate) wal_depth: Option<usize>,
    pub(crate) inflight: u64,
    pub(crate) payload: usize,
    /// Default: the engine's. A tenth of it is the heartbeats' interval.
    pub(crate) election_timeout_ms: Option<u64>,
    /// Snapshots of some size, which are taken on request alone. Without it they are small, and are
    /// taken by the bytes of the log.
    pub(crate) snapshots: Option<SnapshotSetup>,
    /// What an experiment changes.
    pub(crate) tuning: Tuning,
    /// Whether it accounts for its processor time by stage.
    pub(crate) stages: bool,
    /// Whether its leaders keep leases.
    pub(crate) leases: bool,
    /// Where it serves its metrics.
    pub(crate) metrics: Option<SocketAddr>,
}

/// A node's snapshots.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotSetup {
    /// Bytes of each.
    pub(crate) bytes: u64,
    /// Bytes that are sent in a second; none is as fast as it goes.
    pub(crate) send_rate: Option<u64>,
}

/// One group as one node sees it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct GroupRole {
    pub(crate) group: u64,
    pub(crate) shard: u32,
    pub(crate) leads: bool,
    /// The leader, zero if unknown.
    pub(crate) leader: u64,
    pub(crate) commit: u64,
    pub(crate) applied: u64,
}

/// What a node has cost since its start, and how many of its groups rest.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Costs {
    pub(crate) resting: u64,
    /// When this was, on [`crate::clock`].
    pub(crate) at: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) bytes_sent: u64,
    /// Resident memory.
    pub(crate) rss: u64,
}

/// The measured part of a run, on [`crate::clock`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Window {
    pub(crate) fn contains(&self, at: u64) -> bool {
        (self.start..self.end).contains(&at)
    }
}

/// What a read rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReadBy {
    /// A round of heartbeats that began after it was asked for (thesis, section 6.4).
    #[default]
    Index,
    /// The leader's lease, as long as clocks keep to the stated bound.
    Lease,
}

/// What to load, how, and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LoadPlan {
    pub(crate) groups: u64,
    /// Operations in flight, of all groups together.
    pub(crate) inflight: u64,
    /// Bytes per operation.
    pub(crate) payload: usize,
    /// Operations per second of all groups together; none is a closed loop.
    pub(crate) rate: Option<u64>,
    /// Of a hundred operations, how many read.
    pub(crate) reads: u64,
    pub(crate) read_by: ReadBy,
    /// When the load begins, on [`crate::clock`].
    pub(crate) begin: u64,
    pub(crate) window: Window,
    /// For a load process of its own.
    pub(crate) remote: Option<RemotePlan>,
}

/// Where a remote load goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RemotePlan {
    /// Node `i + 1` serves clients at `nodes[i]`.
    pub(crate) nodes: Vec<SocketAddr>,
    pub(crate) shards: u32,
    /// Shard and leading node of group `i + 1`.
    pub(crate) groups: Vec<(u32, u64)>,
}

/// Operations since the load began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) acknowledged: u64,
    pub(crate) errors: u64,
    pub(crate) unknown: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.errors += other.errors;
        self.unknown += other.unknown;
    }
}

/// What a process used in the measured part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// User and system time of all its threads.
    pub(crate) cpu_ns: u64,
    /// Resident memory when the measured part began and when it ended.
    pub(crate) rss_start: u64,
    pub(crate) rss_end: u64,
    /// The most since the process started.
    pub(crate) rss_peak: u64,
    /// Nanoseconds of its shards' threads by stage; empty where that is not counted.
    pub(crate) stages: Vec<(String, u64)>,
}

/// One process's load, all its threads together.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct LoadReport {
    /// Operations acknowledged within the window.
    pub(crate) ops: u64,
    /// Of the whole load, warm-up included.
    pub(crate) tally: Tally,
    /// Operations that were put off because a limit was reached.
    pub(crate) busy: u64,
    /// Operations that were due and found no room until the end.
    pub(crate) unsent: u64,
    /// The first errors, in words.
    pub(crate) messages: Vec<String>,
    /// Reads among `ops`.
    pub(crate) reads: u64,
    /// Of writes that were due within the window.
    pub(crate) latencies: Latencies,
    /// Of reads likewise.
    pub(crate) read_latencies: Latencies,
    /// Operation numbers by group, `groups[i]` for group `i + 1`.
    pub(crate) groups: Vec<GroupOutcome>,
}

/// What became of the operations that were proposed to one group.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct GroupOutcome {
    pub(crate) acknowledged: Ranges,
    pub(crate) unknown: Ranges,
}

/// Most messages that a report carries.
const MESSAGES: usize = 8;

impl LoadReport {
    /// An empty report about so many groups.
    pub(crate) fn new(groups: u64) -> Self {
        Self { groups: vec![GroupOutcome::default(); groups as usize], ..Self::default() }
    }

    /// Remembers an error's words, unless there are enough.
    pub(crate) fn note(&mut self, message: impl FnOnce() -> String) {
        if self.messages.len() < MESSAGES {
            let message = message();
            if !self.messages.contains(&message) {
                self.messages.push(message);
            }
        }
    }

    /// Adds another's load of the same groups.
    pub(crate) fn merge(&mut self, other: Self) {
        self.ops += other.ops;
        self.tally += other.tally;
        self.busy += other.busy;
        self.unsent += other.unsent;
        self.reads += other.reads;
        self.latencies.merge(&other.latencies);
        self.read_latencies.merge(&other.read_latencies);
        other.messages.into_iter().for_each(|message| self.note(|| message));
        for (mine, theirs) in self.groups.iter_mut().zip(&other.groups) {
            mine.acknowledged.union(&theirs.acknowledged);
            mine.unknown.union(&theirs.unknown);
        }
    }
}

/// The child's end of the line; any thread may send.
#[derive(Clone)]
pub(crate) struct Outlet(Arc<Mutex<std::io::Stdout>>);

impl Outlet {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(std::io::stdout())))
    }

    /// Sends a message. A parent that is gone hears nothing, and ends this process by itself.
    pub(crate) fn send(&self, message: &FromChild) {
        let mut line = serde_json::to_vec(message).expect("messages have string keys only");
        line.push(b'\n');
        let mut out = self.0.lock().expect("no panic while sending");
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}
