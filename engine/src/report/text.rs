//! A report as text for people.

use std::fmt;
use std::time::Duration;

use ringleader_net::DataId;
use ringleader_wal::NodeId;

use super::{GroupReport, Report, ShardReport, Table};
use crate::raft::{Configuration, Membership, Mode, RoleName};
use crate::shard::{GroupStatus, MemberStatus, ShardHealth};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, cluster, version, uptime, shards, groups } = self;
        let up = Duration::from_secs(uptime.as_secs());
        writeln!(f, "node {node} of cluster {cluster}, ringleader {version}, up {up:?}")?;
        for shard in shards {
            write!(f, "\n{shard}")?;
        }
        if groups.is_empty() {
            return Ok(());
        }
        write!(f, "\ngroups\n{}", group_table(groups))?;
        write!(f, "\nmembers, votes, logs and what waits\n{}", member_table(groups))?;
        let peers = peer_table(groups);
        if peers.is_empty() { Ok(()) } else { write!(f, "\npeers of led groups\n{peers}") }
    }
}

impl fmt::Display for ShardHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recovering => f.write_str("reads its log"),
            Self::Running => f.write_str("running"),
            Self::StorageFailed(cause) => write!(f, "STORAGE FAILED: {cause}"),
            Self::Panicked(cause) => write!(f, "PANICKED: {cause}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl fmt::Display for ShardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, health, groups, resting, counters, callers, log, .. } = self;
        writeln!(f, "shard {shard}: {health}; {groups} groups, {resting} of them at rest")?;
        writeln!(
            f,
            "  callers   inbox {}, in flight {} B; applied {}, refused {} ({} as too many), unknown {}; \
             reads {}, failed {} ({} as too many), in {} requests; turned away {} times",
            callers.inbox,
            callers.in_flight_bytes,
            callers.applied,
            callers.refused,
            callers.refused_busy,
            callers.unknown,
            callers.reads_served,
            callers.reads_failed,
            callers.reads_busy,
            counters.read_requests,
            callers.turned_away
        )?;
        writeln!(
            f,
            "  turns     {}; proposed {} operations in {} blocks; applied {} entries in {} calls",
            counters.turns,
            counters.operations_proposed,
            counters.blocks_proposed,
            counters.entries_applied,
            counters.apply_calls
        )?;
        let history = &counters.groups;
        writeln!(
            f,
            "  groups    {} elections, {} won; {} step-downs, {} leader changes, {} truncations; {} \
             silences of peers",
            history.elections,
            history.elected,
            history.stepped_down,
            history.leader_changes,
            history.truncations,
            counters.silences
        )?;
        self.write_rare(f)?;
        writeln!(
            f,
            "  log       durable through batch {}; staged {} B, in memory {} B; under way: {} writes, \
             {} others; {} spare segments, {} B of files{}",
            log.durable,
            log.staged_bytes,
            self.memory_bytes,
            log.writes_in_flight,
            log.others_in_flight,
            log.spare_segments,
            log.file_bytes,
            if log.has_space { "" } else { "; NO SPACE" }
        )?;
        let tables = [
            self.timing_table(),
            self.segment_table(),
            self.snapshot_table(),
            self.link_table(),
            self.message_table(),
        ];
        for table in tables {
            if !table.is_empty() {
                table.to_string().lines().try_for_each(|line| writeln!(f, "  {line}"))?;
            }
        }
        Ok(())
    }
}

impl ShardReport {
    fn write_rare(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (snapshots, operations) = (&self.counters.snapshots, &self.operations);
        writeln!(
            f,
            "  snapshots {} taken of {} B in {:?}; {} sent, {} B; {} installed, {} B; {} failures; \
             {} peers stranded",
            snapshots.taken,
            snapshots.taken_bytes,
            Duration::from_nanos(snapshots.taken_nanos),
            snapshots.sent,
            snapshots.sent_bytes,
            snapshots.installed,
            snapshots.installed_bytes,
            snapshots.failed,
            snapshots.stranded
        )?;
        writeln!(
            f,
            "  asked     transfers {} done, {} refused, {} failed; changes {} done, {} refused, {} \
             unknown; {} resets, {} log reads; groups {} created, {} destroyed",
            operations.transfers_done,
            operations.transfers_refused,
            operations.transfers_failed,
            operations.changes_done,
            operations.changes_refused,
            operations.changes_unknown,
            operations.resets,
            operations.log_reads,
            operations.groups_created,
            operations.groups_destroyed
        )?;
        writeln!(
            f,
            "  on a link snapshots: {} broken, {} resumed, {} not sent to the end, {} not received",
            snapshots.broken,
            snapshots.resumed,
            snapshots.sends_given_up,
            snapshots.receives_given_up
        )?;
        if self.connection_panics > 0 {
            writeln!(
                f,
                "  PANICS    {} connections ended by them, see the log",
                self.connection_panics
            )?;
        }
        let refusals = self.refusals.iter();
        let refusals = refusals.map(|refusal| format!("{} x {}", refusal.count, refusal.reason));
        match refusals.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => Ok(()),
            some => writeln!(f, "  refused   {some}"),
        }
    }
}

/// Groups, a line each.
#[must_use]
pub fn group_table(groups: &[GroupReport]) -> Table {
    let mut table = Table::new(&[
        "group",
        "shard",
        "role",
        "rests",
        "term",
        "leader",
        "commit",
        "applied",
        "last",
        "durable",
        "waiting",
        "peer lag",
        "elections",
        "changes",
    ]);
    for group in groups {
        let status = &group.status;
        let or_none = |number: Option<u64>| number.map_or("-".to_owned(), |n| n.to_string());
        table.row([
            status.group.to_string(),
            group.shard.to_string(),
            if status.is_superseded() { "superseded" } else { role(status.role) }.to_owned(),
            if status.rests { "yes" } else { "-" }.to_owned(),
            status.term.to_string(),
            or_none(status.leader.map(|leader| leader.0)),
            status.commit.to_string(),
            status.applied.to_string(),
            status.last.index.to_string(),
            status.durable.to_string(),
            group.queues.waiting.to_string(),
            or_none(group.peer_lag()),
            group.history.elections.to_string(),
            group.history.leader_changes.to_string(),
        ]);
    }
    table
}

/// Who the members of groups are and who of them is not there, this node's vote, its log and what
/// waits: a line for each group.
#[must_use]
pub fn member_table(groups: &[GroupReport]) -> Table {
    let mut table = Table::new(&[
        "group",
        "voters",
        "learners",
        "not alive",
        "data unknown",
        "priorities",
        "vote",
        "hands over to",
        "log from",
        "snapshot",
        "in memory B",
        "in flight B",
        "reads",
    ]);
    for GroupReport { status, queues, .. } in groups {
        let or_none = |number: Option<u64>| number.map_or("-".to_owned(), |n| n.to_string());
        let dead = status.members.iter().filter(|member| !member.alive);
        let unmet = status.members.iter().filter(|member| member.data.is_none());
        table.row([
            status.group.to_string(),
            voters(&status.configuration),
            list(status.configuration.learners().iter().copied()),
            list(dead.map(|member| member.id)),
            list(unmet.map(|member| member.id)),
            priorities(status),
            or_none(status.voted_for.map(|node| node.0)),
            or_none(status.transfers_to.map(|node| node.0)),
            status.base.index.next().to_string(),
            or_none(status.snapshot.map(|at| at.index.0)),
            queues.memory_bytes.to_string(),
            queues.in_flight_bytes.to_string(),
            queues.reads.to_string(),
        ]);
    }
    table
}

fn list(nodes: impl Iterator<Item = NodeId>) -> String {
    let numbers: Vec<String> = nodes.map(|node| node.to_string()).collect();
    if numbers.is_empty() { "-".into() } else { numbers.join(" ") }
}

fn voters(configuration: &Configuration) -> String {
    let mut text = list(configuration.voters().iter().copied());
    if configuration.is_joint() {
        text += &format!(" and {}", list(configuration.outgoing().iter().copied()));
    }
    text
}

/// Those of all members, if they differ.
fn priorities(status: &GroupStatus) -> String {
    let of = |member: &MemberStatus| member.priority;
    let alike = status.members.windows(2).all(|pair| of(&pair[0]) == of(&pair[1]));
    if alike {
        return "-".into();
    }
    let members = status.members.iter();
    let priorities = members.map(|member| format!("{}:{}", member.id, member.priority));
    priorities.collect::<Vec<_>>().join(" ")
}

/// What leaders know about their peers, a line each.
#[must_use]
pub fn peer_table(groups: &[GroupReport]) -> Table {
    let mut table = Table::new(&[
        "group",
        "peer",
        "is",
        "data",
        "alive",
        "mode",
        "heard ms ago",
        "match",
        "next",
        "lag",
        "in flight",
        "bytes",
    ]);
    for group in groups {
        let last = group.status.last.index.0;
        for peer in &group.status.peers {
            let stranded = group.status.stranded.contains(&peer.id);
            table.row([
                group.status.group.to_string(),
                peer.id.to_string(),
                membership(peer.membership).to_owned(),
                group.status.configuration.data(peer.id).map_or("-".to_owned(), beginning),
                if peer.alive { "yes" } else { "NO" }.to_owned(),
                if stranded { "stranded" } else { mode(peer.mode) }.to_owned(),
                peer.heard_ms_ago.to_string(),
                peer.match_index.to_string(),
                peer.next_index.to_string(),
                last.saturating_sub(peer.match_index.0).to_string(),
                peer.inflight_messages.to_string(),
                peer.inflight_bytes.to_string(),
            ]);
        }
    }
    table
}

/// As much of a data directory's number as tells it from others.
fn beginning(data: DataId) -> String {
    data.to_string()[..8].to_owned()
}

fn role(role: RoleName) -> &'static str {
    match role {
        RoleName::Follower => "follower",
        RoleName::PreCandidate => "pre-candidate",
        RoleName::Candidate => "candidate",
        RoleName::Leader => "leader",
    }
}

fn membership(membership: Membership) -> &'static str {
    match membership {
        Membership::Voter => "voter",
        Membership::Learner => "learner",
        Membership::None => "no member",
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Probe => "probe",
        Mode::Replicate => "replicate",
        Mode::Snapshot => "snapshot",
    }
}
