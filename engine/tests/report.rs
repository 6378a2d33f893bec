//! What nodes tell about themselves agrees with what was done with them.

mod nodes;

use std::path::Path;

use bytes::Bytes;
use futures_lite::future::block_on;
use nodes::{addresses, config, eventually, leader};
use ringleader::report::{LinkReport, Report};
use ringleader::shard::{Hook, MessageKind, ShardHealth};
use ringleader::{
    Consistency, Engine, Entries, GroupId, Handle, LogIndex, LogPosition, MachineError,
    MembershipChange, NodeId, Replies, RoleName, SnapshotSource, StateMachine,
};

const OPERATIONS: u64 = 100;

struct Null;

impl StateMachine for Null {
    fn apply(&mut self, _: &Entries<'_>, _: &mut Replies) {}
}

/// All nodes of a cluster, each of two shards.
fn cluster(nodes: usize, groups: u64, dir: &Path) -> Vec<Engine> {
    let addresses = addresses(nodes);
    let start = |node| {
        let mut config = config(&addresses, node, groups, dir);
        config.members.iter_mut().for_each(|member| member.shards = 2);
        Engine::start(config, |_| Box::new(Null)).expect("the node starts")
    };
    (1..=nodes as u64).map(start).collect()
}

fn report(handle: &Handle) -> Report {
    block_on(handle.report()).expect("the node runs")
}

#[test]
fn a_report_agrees_with_what_was_done() {
    let dir = tempfile::tempdir().expect("a directory");
    let engines = cluster(3, 1, dir.path());
    let group = GroupId(1);
    let handle = leader(&engines, group);
    for _ in 0..OPERATIONS {
        block_on(handle.propose(group, b"operation")).expect("applied");
    }
    let found = report(&handle);
    let home = handle.shard_of(group).expect("it is here") as usize;
    let (shard, idle) = (&found.shards[home], &found.shards[1 - home]);
    assert_eq!((shard.groups, idle.groups), (1, 0));
    assert_eq!(shard.health, ShardHealth::Running);
    assert_eq!(shard.callers.applied, OPERATIONS);
    assert_eq!((shard.callers.refused, shard.callers.unknown), (0, 0));
    assert_eq!(shard.callers.in_flight_bytes, 0);
    let counters = &shard.counters;
    assert_eq!(counters.operations_proposed, OPERATIONS);
    assert!(counters.blocks_proposed <= OPERATIONS && counters.blocks_proposed > 0);
    assert!(counters.entries_applied > OPERATIONS, "the empty entry of the term counts");
    assert!(counters.groups.elected >= 1 && counters.groups.elections >= 1);
    assert!(counters.messages_received > 0);
    // One proposal at a time: each is followed.
    assert_eq!(shard.timings.commit.count(), OPERATIONS);
    assert!(shard.timings.write.count() >= OPERATIONS);
    assert!(shard.timings.commit.quantile(0.5) >= shard.timings.apply.quantile(0.0));
    assert!(shard.log_counters.batches >= OPERATIONS && shard.log.has_space);
    assert!(!shard.log.segments.is_empty() && shard.log.file_bytes >= 4 << 20);

    // All groups of a shard share a frame, and yet messages are counted by their kind.
    let sum = |of: fn(&LinkReport, MessageKind) -> u64, kind| -> u64 {
        shard.links.iter().map(|link| of(link, kind)).sum()
    };
    let sent = |kind| sum(|link, kind| link.messages_sent.of(kind), kind);
    let received = |kind| sum(|link, kind| link.messages_received.of(kind), kind);
    assert!(sent(MessageKind::Append) >= OPERATIONS);
    assert!(received(MessageKind::AppendMatched) >= OPERATIONS);
    assert!(sent(MessageKind::PreVoteRequest) > 0 && received(MessageKind::PreVoteGranted) > 0);
    assert!(sent(MessageKind::VoteRequest) > 0 && received(MessageKind::VoteGranted) > 0);
    let acknowledged = shard.links.iter().map(|link| link.acknowledged.count()).max();
    assert!(
        acknowledged >= Some(OPERATIONS / 2),
        "one at a time, they are followed: {acknowledged:?}"
    );
    assert!(shard.hooks.of(Hook::LeaderStart).count() >= 1);
    let kinds = serde_json::to_value(shard.links[0].messages_sent).expect("JSON");
    assert_eq!(kinds.as_object().map(|kinds| kinds.len()), Some(MessageKind::ALL.len()));

    let status = &found.groups[0].status;
    assert_eq!((status.base, status.snapshot), (LogPosition::default(), None));
    assert_eq!((status.members.len(), status.voted_for), (3, status.leader));
    assert_eq!((found.groups.len(), status.group, status.role), (1, group, RoleName::Leader));
    assert_eq!(status.peers.len(), 2);
    assert_eq!(found.groups[0].apply_lag(), 0);
    eventually("all connections", || {
        let links = &report(&handle).shards[home].links;
        (links.iter().filter(|link| link.connected && link.bytes_sent > 0).count() == 2)
            .then_some(())
    });
    eventually("the followers to apply", || {
        let followers = engines.iter().map(|engine| report(&engine.handle()));
        let applied = followers.map(|report| report.groups[0].status.applied.0);
        applied.min().filter(|applied| *applied > OPERATIONS)
    });
}

#[test]
fn a_report_covers_every_group_and_reads_as_text_and_json() {
    let dir = tempfile::tempdir().expect("a directory");
    let engines = cluster(1, 1000, dir.path());
    let handle = engines[0].handle();
    (1..=1000).for_each(|group| drop(leader(&engines, GroupId(group))));
    let found = report(&handle);
    let mut groups: Vec<u64> = found.groups.iter().map(|group| group.status.group.0).collect();
    groups.sort_unstable();
    assert_eq!(groups, (1..=1000).collect::<Vec<_>>());
    let text = found.to_string();
    assert!(text.starts_with("node 1 of cluster 7"), "{text}");
    assert!(text.lines().filter(|line| line.contains("leader")).count() >= 1000);
    let json = serde_json::to_value(&found).expect("a report is JSON");
    assert_eq!(json["groups"].as_array().map(Vec::len), Some(1000));
    assert_eq!(json["shards"][0]["health"]["state"], "running");
    assert!(json["groups"][0]["group"].is_string(), "64 bits are too many for a number");
}

/// Its snapshots hold nothing.
struct Empty;

impl StateMachine for Empty {
    fn apply(&mut self, _: &Entries<'_>, _: &mut Replies) {}

    fn snapshot(&mut self) -> Option<Box<dyn SnapshotSource>> {
        Some(Box::new(Self))
    }
}

impl SnapshotSource for Empty {
    fn next_chunk(&mut self, _: usize) -> Result<Option<Bytes>, MachineError> {
        Ok(None)
    }
}

#[test]
fn what_is_asked_for_seldom_is_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let all = addresses(3);
    let start = |node| {
        Engine::start(config(&all, node, 1, dir.path()), |_| Box::new(Empty)).expect("it starts")
    };
    let engines: Vec<Engine> = (1..=3).map(start).collect();
    let (group, other) = (GroupId(1), GroupId(2));
    let handle = leader(&engines, group);
    let shard = |handle: &Handle| report(handle).shards.remove(0);
    let this = report(&handle).node;

    for _ in 0..10 {
        block_on(handle.read_index(group, Consistency::Linearizable)).expect("it leads");
    }
    assert!(block_on(handle.read_index(other, Consistency::Linearizable)).is_err());
    let taken = block_on(handle.snapshot(group)).expect("it takes snapshots");
    let unchanged = MembershipChange::default().voter(this);
    block_on(handle.change_members(group, unchanged.clone())).expect("it is so already");
    let nobody = MembershipChange::default().remove(NodeId(0));
    assert!(block_on(handle.change_members(group, nobody)).is_err());
    assert!(block_on(handle.transfer_leadership(group, Some(NodeId(9)))).is_err());
    block_on(handle.read_log(group, LogIndex(1), 1)).expect("it is there");
    let found = shard(&handle);
    assert_eq!((found.callers.reads_served, found.timings.linearizable.count()), (10, 10));
    assert_eq!(found.counters.read_requests, 10, "one after the other, no two share one");
    let snapshots = &found.counters.snapshots;
    assert_eq!((snapshots.taken, snapshots.failed), (1, 0), "{taken:?}");
    assert!(snapshots.taken_bytes > 0);
    assert_eq!(found.timings.snapshot_taken.count(), 1);
    assert_eq!(found.hooks.of(Hook::Snapshot).count(), 1);
    let of_group = block_on(handle.status(group)).expect("it is here");
    assert_eq!(of_group.snapshot, Some(taken));
    let operations = found.operations;
    assert_eq!((operations.changes_done, operations.changes_refused), (1, 1));
    assert_eq!((operations.transfers_done, operations.transfers_refused), (0, 1));
    assert_eq!((operations.log_reads, operations.resets), (1, 0));

    block_on(handle.transfer_leadership(group, None)).expect("the others are well");
    assert!(block_on(handle.change_members(group, unchanged)).is_err(), "it does not lead");
    let operations = shard(&handle).operations;
    assert_eq!((operations.transfers_done, operations.changes_refused), (1, 2));

    // Who is forgotten is refused when it dials; of each two nodes one does.
    engines[2].handle().remove_member(NodeId(1)).expect("it runs");
    engines[0].handle().remove_member(NodeId(2)).expect("it runs");
    eventually("somebody to be refused", || {
        let refusals = engines.iter().flat_map(|engine| shard(&engine.handle()).refusals);
        refusals.into_iter().find(|refusal| refusal.reason == "unknown node" && refusal.count > 0)
    });
    let text = report(&engines[0].handle()).to_string();
    assert!(text.contains("transfers") && text.contains("snapshots"), "{text}");
    for part in ["not alive", "hands over to", "log from", "append_matched"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let text = report(&handle).to_string();
    assert!(text.contains("hook snapshot"), "no hook of the one that took a snapshot in\n{text}");
}

#[test]
fn a_stopped_node_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let engines = cluster(1, 1, dir.path());
    let handle = engines[0].handle();
    drop(engines);
    assert!(block_on(handle.report()).is_err());
}
