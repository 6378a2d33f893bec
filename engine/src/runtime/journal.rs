//! What a shard tells its log readers, as `tracing` events with group, term and index. What can
//! come in storms (ten thousand groups that lose their leader together, a disk that is slow for
//! every write) is limited, and the number of events left out is told with the next one.

use std::time::{Duration, Instant};

use ringleader_net::throttle::LogThrottle;

use crate::shard::{GroupEvent, GroupNotice, Notice, StepDown};

/// Events about groups in a [`PERIOD`], at most.
const GROUP_EVENTS: u32 = 50;
/// Events about slowness in a [`PERIOD`], at most.
const SLOW_EVENTS: u32 = 2;
const PERIOD: Duration = Duration::from_secs(1);

pub(super) struct Journal {
    shard: u32,
    groups: LogThrottle,
    slow: LogThrottle,
}

impl Journal {
    pub(super) fn new(shard: u32) -> Self {
        Self {
            shard,
            groups: LogThrottle::new(GROUP_EVENTS, PERIOD),
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
            Notice::SnapshotFailed(group, cause) => {
                tracing::warn!(shard, %group, %cause, "a snapshot failed; it is tried again");
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
                tracing::warn!(shard, %group, %term, %node, "a change of the members was given up: the node did not catch up");
            }
            GroupEvent::MembersReset { at } => {
                tracing::warn!(shard, %group, %term, index = %at, %commit, "the members were set anew without a majority: what only others had is lost");
            }
            GroupEvent::EraBegan => {
                tracing::warn!(shard, %group, %term, index = %last.index, %commit, "the group was reset elsewhere; what this node has beyond that is void");
            }
            GroupEvent::Truncated { from } => {
                tracing::info!(shard, %group, %term, %from, %commit, "dropped entries that an earlier leader left uncommitted");
            }
        }
    }

    /// Something took so long that leaders may lose their office for it.
    pub(super) fn slow(&mut self, what: &str, took: Duration) {
        if let Some(left_out) = self.slow.allow(Instant::now()) {
            tracing::warn!(shard = self.shard, what, ?took, left_out, "slow");
        }
    }
}
