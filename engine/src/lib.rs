//! Ringleader: an io_uring, thread-per-core, multi-group Raft replication engine.
//!
//! One core is one **shard** is one executor: it owns its Raft groups, their state machines, one
//! write-ahead log, its connections to peers and one inbox. Shards share nothing.
//!
//! ```no_run
//! use ringleader::*;
//!
//! #[derive(Default)]
//! struct Sum(i64);
//!
//! impl StateMachine for Sum {
//!     fn apply(&mut self, entries: &Entries<'_>, replies: &mut Replies) {
//!         entries.iter().for_each(|entry| {
//!             self.0 += i64::from_le_bytes(entry.payload.try_into().unwrap_or_default());
//!             replies.push(entry.index, &self.0.to_le_bytes());
//!         });
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let nodes = ["10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"];
//! let members = nodes.iter().zip(1..).map(|(address, node)| {
//!     Ok(Member { node: NodeId(node), address: address.parse()?, shards: 1 })
//! });
//! let members = members.collect::<Result<Vec<_>, std::net::AddrParseError>>()?;
//! let voters = vec![NodeId(1), NodeId(2), NodeId(3)];
//! let group = GroupId::from_name("sum");
//! let mut config = EngineConfig::new(1, NodeId(1), members, "/var/lib/sum".into());
//! config.groups.push(GroupConfig { group, voters });
//! let engine = Engine::start(config, |_| Box::new(Sum::default()))?;
//! # let future = async move {
//! let done = engine.handle().propose(group, &5i64.to_le_bytes()).await?;
//! println!("entry {} in term {}: {:?}", done.index, done.term, done.reply);
//! # Ok::<(), ProposeError>(()) };
//! # Ok(()) }
//! ```
//!
//! # The life of a proposal
//!
//! ```text
//! caller's thread        leader's shard                             followers' shards
//!
//! Handle::propose ─┐              or a task on the shard's own core: LocalQueue::submit
//! Queue::submit ───┴─► inbox ─► Shard::submit ─► Group::admit
//!                               Shard::turn:
//!                                 Group::next_block    one Block per group and turn
//!                                 Raft::propose
//!                                   ├─► Wal::append ─► disk, durable ─┐
//!                                   └─► codec, Outbox ─► TCP ─────────┼─► codec ─► Raft::step
//!                                                                     │     └─► Wal::append ─► disk
//!                               Raft::on_durable ◄── own vote ────────┘           │ durable
//!                               Raft::step ◄─────── TCP ◄── AppendResponse ◄── Raft::on_durable
//!                                 commit: durable on a majority
//!                               Group::apply ─► StateMachine::apply      (followers apply too,
//!                                 AnswerRun                               with the next message)
//! completion   ◄─────────────── Clients::deliver
//! ```
//!
//! A read takes no disk and no entry: [`Handle::read`] or [`Queue::push_read`] ─► inbox ─►
//! `Shard::submit_reads`; the turn asks for all of them at once (`Raft::read`: a round of heartbeats,
//! a lease, or the leader's word), and the turn in which the state machine has applied what they
//! need serves them.
//!
//! The leader's disk is just one more vote: its own write runs beside replication (Raft thesis,
//! section 10.2.1). A block is encoded once; the same bytes go to the log, over the wire, into the
//! followers' logs and to every state machine.
//!
//! # Where things are
//!
//! | place | what lives there |
//! |---|---|
//! | [`Engine`], [`Handle`], [`Queue`], [`Local`], [`StateMachine`] | the public face |
//! | [`raft`] | one group's protocol |
//! | [`shard`] | many groups on one core: turns, durability, applying, callers, snapshots |
//! | [`report`] | what a node tells about itself: state, counters, distributions |
//! | [`admin`] | the operator's way in |
//! | [`rebalance`] | spreading leaders over the nodes |
//! | `codec` | protocol messages as frames |
//! | `runtime` | glommio: the turn's driver, threads, the data directory |
//! | `ringleader-wal` | the log that all groups of a shard share |
//! | `ringleader-net` | frames, handshake, connections |
//!
//! # Invariants of the architecture
//!
//! - **The logic does no IO.** [`raft`], [`shard`] and the log's logic are synchronous state
//!   machines: events in, effects out, time as an argument. The runtime and the simulator
//!   (`engine/tests/sim.rs`) drive the very same code.
//! - **What an output waits for is part of its type.** Messages that may leave at once and
//!   messages that wait for the log are different methods ([`raft::Outlet`]).
//! - **Nothing waits to make a batch bigger.** A batch is what arrived while the last turn ran.
//! - **Everything that grows has a bound in bytes**, and what happens there is back-pressure.
//! - **A failed write or sync is final**: the shard acknowledges nothing more. So is a panic in its
//!   turn. Either ends one shard; the node's others go on. A panic over a connection ends that.
//! - **A member is a node and its data.** Configurations in the log name the data directory of each
//!   member, and no connection to a node that shows another one gets to any group (`shard/identity.rs`).
//! - **The log goes only when a snapshot of it is wholly on stable storage**, and taking one stops
//!   nothing.

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}

pub mod admin;
pub mod raft;
pub mod shard;
pub mod time;

mod codec;
mod config;
mod engine;
mod error;
mod existence;
mod handle;
mod inbox;
mod leadership;
mod local;
mod members;
mod membership;
mod queue;
mod read_log;
pub mod rebalance;
pub mod report;
mod runtime;
mod state_machine;

pub use config::{EngineConfig, GroupConfig, Limits, Member, SnapshotConfig, place};
pub use engine::Engine;
pub use error::{
    CreateGroupError, DestroyGroupError, FoundError, MemberError, MembershipError, ProposeError,
    QueryError, ReadError, ReadLogError, ResetError, SnapshotError, StartError, TransferError,
    UnknownCause,
};
pub use handle::{Handle, ProposeReply};
pub use local::{Local, LocalQueue, OnCore};
pub use queue::{Announce, FromThread, PushError, Queue, SubmitError};
pub use raft::reads::Consistency;
pub use raft::transfer::TransferRefused;
pub use raft::{
    Configuration, Membership, MembershipChange, Priorities, RaftConfig, Reset, ResetRefused,
    RoleName,
};
pub use read_log::LogPortion;
pub use report::Report;
pub use ringleader_net::{BulkConfig, DataId, NetConfig};
pub use ringleader_wal::{
    GroupId, LogIndex, LogPosition, NodeId, SyncMode, Term, WalConfig, prefetch,
};
pub use runtime::found_group;
pub use shard::{Applied, Completion, GroupStatus, MemberStatus, ReadCompletion, Transferred};
pub use state_machine::{Entries, Entry, MachineError, Replies, SnapshotSource, StateMachine};
