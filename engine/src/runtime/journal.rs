//! What a shard tells its log readers, as `tracing` events with group, term and index. What can
//! come in storms (ten thousand groups that lose their leader together, a disk that is slow for
//! every write) is limited, and the number of events left out is told with the next one.

use std::time::{Duration, Instant};

use ringleader_net::throttle::LogThrottle;

use crate::shard::{GiveUp, GroupEvent, GroupNotice, Notice, StepDown};

/// Events about groups in a [`PERIOD`], at most.
const GROUP_EVENTS: u32 = 50;
/// Failed snapshots in a [`PERIOD`], at most.
const FAILURES: u32 = 10;
/// Events about slowness in a [`PERIOD`], at most.
const SLOW_EVENTS: u32 = 2;
const PERIOD: Duration = Duration::from_secs(1);

pub(super) struct Journal {
    shard: u32,
    groups: LogThrottle,
    failures: LogThrottle,
    slow: LogThrottle,
}

impl Journal {
    pub(super) fn new(shard: u32) -> Self {
        Self {
            shard,
            groups: LogThrottle::new(GROUP_EVENTS, PERIOD),
            failures: LogThrottle::new(FAILURES, PERIOD),
            slow: LogThrottle::new(SLOW_EVENTS, PERIOD),
        }
    }

    pub(super) fn note(&mut self, notice: &Notice) {
        let shard = self.shard;
        match notice {
            Notice::Recovered(summary) => {
                let (groups, entries) = (summary.groups, summary.entries);
                tracing::info!(shard, groups, entries, "recovered");
            }
            Notice::RecoveryFailed(cause) => tracing::error!(shard, %cause, "recovery failed"),
            Notice::StorageFailed(cause) => {
                tracing::error!(shard, %cause, "the log failed; the shard acknowledges nothing more");
            }
            Notice::SpaceExhausted => {
                tracing::warn!(
                    shard,
                    "the disk is full; proposals are refused until there is room"
                );
            }
            Notice::SpaceAvailable => tracing::info!(shard, "there is room on the disk again"),
            Notice::GroupCreated(group) => tracing::info!(shard, %group, "group created"),
            Notice::GroupDestroyed(group) => tracing::warn!(shard, %group, "group destroyed"),
            Notice::SnapshotTaken(group, at) => {
                tracing::debug!(shard, %group, index = at.index.0, term = at.term.0, "snapshot taken");
            }
            Notice::SnapshotInstalled(group, at) => {
                let (index, term) = (at.index.0, at.term.0);
                tracing::info!(shard, %group, index, term, "snapshot installed");
            }
            Notice::SnapshotFailed(group, at, cause) => {
                let Some(left_out) = self.failures.allow(Instant::now()) else { return };
                let (index, term) = (at.index.0, at.term.0);
                tracing::warn!(shard, %group, index, term, %cause, left_out, "a snapshot failed; it is tried again");
            }
            Notice::LogKept(group) => {
                tracing::warn!(
                    shard, %group,
                    "the log grows for ever: the state machine keeps its state and gives no snapshots"
                );
            }
            Notice::PeerStranded(group, peer) => {
                tracing::error!(
                    shard, %group, %peer,
                    "a peer lacks what the log no longer holds, and the state machine gives no snapshot"
                );
            }
            Notice::Group(notice) => self.group(notice),
        }
    }

    fn group(&mut self, notice: &GroupNotice) {
        let Some(left_out) = self.groups.allow(Instant::now()) else { return };
        let shard = self.shard;
        if left_out > 0 {
            tracing::warn!(shard, left_out, "events about groups were left out");
        }
        let GroupNotice { group, term, last, commit, what } = notice;
        match what {
            GroupEvent::Stands => {
                tracing::debug!(shard, %group, %term, index = %last.index, "stands in an election");
            }
            GroupEvent::Leads => {
                tracing::info!(shard, %group, %term, index = %last.index, %commit, "leads");
            }
            GroupEvent::SteppedDown { cause, leader } => {
                let leader = leader.map(|node| node.0);
                let index = last.index;
                match cause {
                    StepDown::HigherTerm => {
                        tracing::info!(shard, %group, %term, %index, %commit, leader, "stepped down: saw a higher term");
                    }
                    StepDown::Removed => {
                        tracing::info!(shard, %group, %term, %index, %commit, "stepped down: no voter any more");
                    }
                    StepDown::NoQuorum => {
                        tracing::warn!(shard, %group, %term, %index, %commit, "stepped down: no quorum was heard for an election timeout");
                    }
                }
            }
            GroupEvent::Follows { leader: Some(leader) } => {
                tracing::info!(shard, %group, %term, index = %last.index, %leader, "follows");
            }
            GroupEvent::Follows { leader: None } => {
                tracing::debug!(shard, %group, %term, index = %last.index, "knows of no leader");
            }
            GroupEvent::MembersChanged { at } => {
                tracing::info!(shard, %group, %term, index = %at, %commit, "the members changed");
            }
            GroupEvent::ChangeGivenUp { node } => {
                tracing::warn!(shard, %group, %term, index = %last.index, %node, "a change of the members was given up: the node did not catch up");
            }
            GroupEvent::MembersReset { at } => {
                tracing::warn!(shard, %group, %term, index = %at, %commit, "the members were set anew without a majority: what only others had is lost");
            }
            GroupEvent::EraBegan => {
                tracing::warn!(shard, %group, %term, index = %last.index, %commit, "the group was reset elsewhere; what this node has beyond that is void");
            }
            GroupEvent::Truncated { from } => {
                tracing::info!(shard, %group, %term, index = %last.index, %from, %commit, "dropped entries that an earlier leader left uncommitted");
            }
            _ => moves(shard, notice),
        }
    }

    /// Something took so long that leaders may lose their office for it.
    pub(super) fn slow(&mut self, what: &str, took: Duration) {
        if let Some(left_out) = self.slow.allow(Instant::now()) {
            tracing::warn!(shard = self.shard, what, ?took, left_out, "slow");
        }
    }
}

/// Leaderships and snapshots on their way to other nodes.
fn moves(shard: u32, notice: &GroupNotice) {
    let GroupNotice { group, term, last, what, .. } = notice;
    let index = last.index;
    match *what {
        GroupEvent::TransferBegun { to } => {
            tracing::info!(shard, %group, %term, %index, %to, "hands the leadership over");
        }
        GroupEvent::TransferDone { to } => {
            tracing::info!(shard, %group, %term, %index, %to, "the leadership was handed over");
        }
        GroupEvent::TransferGivenUp { to } => {
            tracing::warn!(shard, %group, %term, %index, %to, "a transfer of the leadership was given up: the node did not take over");
        }
        GroupEvent::SnapshotSent { peer, at } => {
            tracing::info!(shard, %group, %term, index = %at.index, %peer, "a snapshot was sent");
        }
        GroupEvent::SnapshotResumed { peer, at } => {
            tracing::info!(shard, %group, %term, index = %at.index, %peer, "a snapshot that was being sent goes on after a break");
        }
        GroupEvent::SnapshotGivenUp { peer, at, cause } => {
            let cause = match cause {
                GiveUp::PeerStuck => "the peer does not get on",
                GiveUp::NotLeading => "this node leads no more, or the peer is no member any more",
                GiveUp::LeaderStuck => "the leader that sends it does not get on",
                GiveUp::Newer => "another one came",
            };
            tracing::warn!(shard, %group, %term, index = %at.index, %peer, cause, "a snapshot on its way was given up");
        }
        _ => {}
    }
}
